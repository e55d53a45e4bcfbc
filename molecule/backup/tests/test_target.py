"""What a host that has lost its own log restores from: the log that the target has."""

import json
import re
import subprocess

import pytest
import testinfra
from copies import FULL, SOCKET, on_one, position, ran, refused, sql
from scenario import names, until

TARGET = next(name for name in names() if "-target-" in name)
NAME = "webstack-archive@target.example.com"
LATEST = "webstack-backup restore --to latest"


@pytest.fixture
def target():
    return testinfra.get_host(f"docker://{TARGET}")


def folder(host):
    """Of its log at the target."""
    return f"/srv/webstack-backup/{host.backend.name.split('-')[1]}/log/{state(host)['line']}"


def state(host):
    return json.loads(ran(host, "cat /run/webstack-binlog/state.json"))


def shipped(host):
    """Waits until the target has the log, and the line of the ledger that says so."""
    end = position(host)

    def is_there():
        found = state(host)
        assert found["shipped"] and "{file}:{position}".format(**found["shipped"]) == end, found
        assert " ".join(end.split(":")) in found["ledger"], found
        return True

    until(is_there)


class Frozen:
    """While the target does not answer, and does not refuse either."""

    def __enter__(self):
        subprocess.run(["docker", "pause", TARGET], check=True, capture_output=True)

    def __exit__(self, *_):
        subprocess.run(["docker", "unpause", TARGET], check=True, capture_output=True)


def test_the_log_that_the_target_has(host, backed_up):
    ran(host, "webstack-backup mark here")
    sql(host, "INSERT INTO proof.late VALUES (2)")
    shipped(host)
    said = ran(host, f"{LATEST} --log target")
    assert re.search(r"the log is the target's, of the line \S+\n", said)
    assert f"to {position(host)}: 2 files" in said
    assert sql(host, "SELECT a FROM proof.late; SELECT id FROM proof.t", SOCKET).split() == ["1", "2", "1", "2", "3"]
    ran(host, "webstack-backup end-scratch")
    said = ran(host, "webstack-backup restore --to here --log target")
    assert "the mark here of 20" in said
    assert sql(host, "SELECT a FROM proof.late", SOCKET) == "1"


def test_a_log_that_ends_before_the_ledger_does(host, written, target):
    """Bytes that the target had acknowledged, and has no more: of the events that are whole, none is taken for the last."""
    shipped(host)
    file, _, size = position(host).partition(":")
    path = f"{folder(host)}/{file}"
    ran(host, "systemctl stop webstack-binlog")
    ran(target, f"cp -a {path} /root/kept && truncate --size=-7 {path}")
    try:
        said = refused(
            host, f"{LATEST} --log target", f"the log had reached {file}:{size}, but [0-9]+ bytes are missing"
        )
        assert not host.file("/var/lib/webstack-scratch/restore").exists
        until_there = re.search(r"until (binlog\.\d+:\d+)", said)[1]
        ran(host, f"webstack-backup restore --log target --to {until_there}")
    finally:
        ran(target, f"cp -a /root/kept {path}")
        ran(host, "systemctl start webstack-binlog")


@on_one
def test_a_target_that_does_not_answer(host, written):
    with Frozen():
        refused(host, f"{LATEST} --log target", f"{NAME}: ssh failed:.*\n?.*(Timeout|timed out)")
    assert not host.file("/var/lib/webstack-scratch/restore").exists


@on_one
def test_a_host_whose_own_log_is_another_one(host, backed_up):
    """Such as one that was set up anew: the log of the full is where that host's was sent."""
    shipped(host)
    ran(host, "webstack-backup new-line")
    try:
        sql(host, "INSERT INTO proof.late VALUES (2)")
        said = ran(host, LATEST)
        assert re.search(
            r"the log is the target's, of the line (\S+); that of this host, .*, is of the line (?!\1)", said
        )
        assert sql(host, "SELECT a FROM proof.late", SOCKET) == "1"
        ran(host, "webstack-backup end-scratch")
        refused(host, f"{LATEST} --log here", "the server has begun anew since")
    finally:
        ran(host, FULL)
