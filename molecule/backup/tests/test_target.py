"""What a host that has lost its own log restores from: the log that the target has."""

import contextlib
import json
import re
import shlex
import subprocess

import pytest
import testinfra
from conftest import begin, go_on, make_full_if_none
from copies import (
    FULL,
    OF_EACH_RESTIC,
    PASSPHRASE,
    SOCKET,
    by_restic,
    make_repository,
    on_one,
    position,
    ran,
    refused,
    sql,
)
from scenario import at_once, names, until
from test_sheet import by_its_commands

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
    file, _colon, size = position(host).partition(":")
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


@pytest.mark.thorough
@on_one
def test_a_target_that_does_not_answer(host, written):
    with Frozen():
        refused(host, f"{LATEST} --log target", f"{NAME}: ssh failed:.*\n?.*(Timeout|timed out)")
    assert not host.file("/var/lib/webstack-scratch/restore").exists


@pytest.mark.thorough
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


# The repository at the target


SETTINGS, KNOWN = "/etc/webstack-backup/full.json", "/var/lib/webstack-backup/repository.json"
PROGRAM = """python3 -c 'import shlex, sys; sys.path.insert(0, "/usr/local/lib/webstack")
from webstack_backup import target; print(shlex.join([*target.way(target.config()["target"]), "rclone"]))'"""
RESTIC = f'restic -o rclone.program="$({PROGRAM})" --password-file {PASSPHRASE} --no-cache'
OWN = f"{RESTIC} --repo rclone:{NAME}"


@contextlib.contextmanager
def at_target(host):
    """Full backups go to the target; the folder in which they lie there."""
    ran(host, f"cp -a {SETTINGS} /root/settings; cp -a {KNOWN} /root/known")
    settings = {**json.loads(ran(host, f"cat {SETTINGS}")), "repository": "target"}
    ran(host, f"echo {shlex.quote(json.dumps(settings))} > {SETTINGS}")
    try:
        yield f"/srv/webstack-backup/{host.backend.name.split('-')[1]}/restic"
    finally:
        ran(host, f"mv /root/settings {SETTINGS}; mv /root/known {KNOWN}; webstack-backup end-scratch")


@pytest.fixture
def none_there(host, has_full, target):
    """The folder in which the first of them will lie."""
    with at_target(host) as folder:
        ran(target, f"rm -rf {folder}")
        yield folder
    ran(target, f"rm -rf {folder}")


@pytest.fixture
def there(host, has_full, target):
    with at_target(host) as folder:
        made_there(host, folder, target)
        yield folder


def made_there(host, folder, target):
    if not target.file(f"{folder}/config").exists:
        passphrase = f"/etc/webstack-archive/passphrases/{host.backend.name.split('-')[1]}"
        make_repository(target, folder, passphrase, "webstack-archive")


def snapshots(host):
    return sorted(one["id"] for one in json.loads(ran(host, f"{OWN} snapshots --json --no-lock")))


def kept(target, folder):
    """What is there, with its content. Locks go."""
    find = "find . -path ./locks -prune -o -type f -exec sha256sum {} +"
    return set(ran(target, f"cd {folder} && {find}").splitlines())


@by_restic
@pytest.mark.usefixtures("none_there")
def test_a_full_backup_at_the_target(host):
    begin(host)
    ran(host, "systemctl start webstack-backup.service")  # in its sandbox
    go_on(host)
    shipped(host)
    said = ran(host, f"{LATEST} --log target")
    assert "rows and checksums of all tables are the ones that were saved" in said
    assert sql(host, "SELECT a FROM proof.late; SELECT id FROM proof.t", SOCKET).split() == ["1", "1", "2", "3"]


@pytest.mark.thorough
@on_one
def test_the_commands_of_the_sheet(host, there, target):
    """On what the target has, which somebody has brought."""
    begin(host)
    ran(host, FULL)
    go_on(host)
    shipped(host)
    own = there.rpartition("/")[0]
    ran(host, f"mkdir -p {own}")
    copy = f"docker exec {TARGET} tar -C {own} -c . | docker exec --interactive {host.backend.name} tar -C {own} -x"
    subprocess.run(["bash", "-c", f"set -o pipefail; {copy}"], check=True)
    try:
        said = by_its_commands(host, f"export LOG={folder(host)}", name=own.rpartition("/")[2])
    finally:
        ran(host, f"rm -rf {own}")
    assert said.rc == 0 and said.stdout.splitlines()[-4:] == ["1", "2", "3", "1"], said.stdout + said.stderr


@pytest.mark.thorough
@by_restic
def test_a_stolen_key(host, there, target):
    """Neither removes nor changes what is there, whatever it asks for; and it has no way into another folder."""
    ran(host, FULL)
    before, one = kept(target, there), snapshots(host)[0]
    for attack in (f"forget {one}", f"tag --set mine {one}", "init", "key passwd --new-password-file /etc/hostname"):
        done = host.run(f"timeout 5 {OWN} {attack}")
        assert done.rc, done.stdout
    ran(host, f"{OWN} unlock --remove-all")
    assert len(before) > 5 and before <= kept(target, there)
    own = ran(host, f"{OWN} cat config --no-lock")
    assert ran(host, f"{RESTIC} --repo rclone:/srv/webstack-backup/another/restic cat config --no-lock") == own
    ran(host, "webstack-backup restore --to full")


@pytest.mark.thorough
def test_a_target_without_room(target):
    """The backup does not count and leaves nothing broken behind: the next one that has room is whole. On both at once, since
    restic tries for most of a minute."""
    hosts = [testinfra.get_host(f"docker://{name}") for name in OF_EACH_RESTIC]
    at_once(lambda host: counts_when_there_is_room(host, target), hosts)


def counts_when_there_is_room(host, target):
    make_full_if_none(host)
    with at_target(host) as there:
        ran(target, f"rm -rf {there} && install -d -m 0700 -o webstack-archive {there}")
        ran(target, f"mount -t tmpfs -o size=1m,mode=0700,uid=$(id -u webstack-archive) none {there}")
        try:
            made_there(host, there, target)
            refused(host, f"timeout 300 {FULL}", f"no space left at rclone:{NAME}")
            assert snapshots(host) == []
            ran(target, f"mount -o remount,size=200m {there}")
            ran(host, FULL)
            assert len(snapshots(host)) == 2
            ran(host, f"{OWN} check --read-data")
        finally:
            ran(target, f"umount {there}")


@pytest.mark.thorough
@by_restic
def test_a_target_that_freezes(host, there):
    """Before a full backup, and in the middle of one: each call ends, and what had not come whole does not count."""
    ran(host, FULL)
    before = snapshots(host)
    with Frozen():
        refused(host, f"timeout 300 {FULL}", f"restic cat failed at rclone:{NAME}")
    numbers = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
    sql(host, "CREATE DATABASE IF NOT EXISTS proof; CREATE TABLE IF NOT EXISTS proof.big (b BLOB)")
    sql(host, f"INSERT INTO proof.big {numbers} SELECT RANDOM_BYTES(1024) FROM n AS a JOIN n AS b LIMIT 60000")
    full = subprocess.Popen(
        ["docker", "exec", host.backend.name, "timeout", "300", *FULL.split()], stderr=subprocess.PIPE, text=True
    )
    until(lambda: "backup --json" in host.run("pgrep -a restic").stdout)
    with Frozen():
        said = full.communicate()[1]
    assert full.returncode == 1 and f"restic backup failed at rclone:{NAME}" in said, said
    until(lambda: "rclone" not in host.run("pgrep -a ssh").stdout)
    assert snapshots(host) == before
    ran(host, FULL)
    assert len(snapshots(host)) == len(before) + 2


def thinned_out(target, host):
    """What the target says of this host."""
    ran(target, "systemctl start webstack-archive-thin-out.service")
    said = ran(target, "journalctl --no-pager -o cat -u webstack-archive-thin-out.service -n 9")
    return [line for line in said.splitlines() if line.startswith(f"{host.backend.name.split('-')[1]}: ")][-1]


@pytest.mark.thorough
@by_restic
def test_a_backup_at_work_on_a_machine_of_the_same_hostname(host, there, target):
    """Keeps its lock, though no process here has its number: neither this host nor the target takes it for dead until it is old."""
    ran(host, FULL)
    before, name = snapshots(host), ran(target, "hostname")
    ran(host, f"{OWN} backup --tag full --time '2020-01-02 00:00:00' /etc/hostname")
    holder = f"unshare --pid --fork sh -c {shlex.quote(f'sleep 600 | {OWN} backup --stdin')}"
    ran(host, f"systemd-run --unit=holder --collect sh -c {shlex.quote(holder)}")
    ran(target, f"hostname {ran(host, 'hostname')}")
    try:
        until(lambda: ran(target, f"ls {there}/locks") != "")
        lock = ran(target, f"ls {there}/locks")
        ran(host, FULL)
        assert "a backup is at work" in thinned_out(target, host)
        assert ran(target, f"ls {there}/locks") == lock
        ran(host, "systemctl kill --signal=KILL holder")
        ran(target, f"touch --date='31 minutes ago' {there}/locks/*")
        assert "1 full backups removed" in thinned_out(target, host)
    finally:
        ran(target, f"hostname {name}")
        host.run("systemctl kill --signal=KILL holder")
    assert ran(target, f"ls {there}/locks") == "" and len(snapshots(host)) == len(before) + 2


@pytest.mark.thorough
@by_restic
def test_what_the_target_removes(host, there, target):
    """By a rule of its own, as who owns the backups there; the host goes on with what is left."""
    ran(host, FULL)
    before = snapshots(host)
    ran(host, f"{OWN} backup --tag data --time '2020-01-01 00:00:00' /etc/hostname")
    ran(host, f"{OWN} backup --tag full --time '2020-01-02 00:00:00' /etc/hostname")
    ran(host, f"{OWN} backup --tag full --time '2099-01-01 00:00:00' /etc/hostname")
    # The clock was wrong while these data were saved.
    summary = ran(host, f"{OWN} backup --json --tag data --time '2020-01-01 00:00:00' /etc/os-release").splitlines()[-1]
    manifest = shlex.quote(json.dumps({"data": json.loads(summary)["snapshot_id"]}))
    ran(host, f"echo {manifest} > /root/manifest.json && {OWN} backup --tag full /root/manifest.json")
    assert len(snapshots(host)) == len(before) + 5
    assert "1 full backups removed" in thinned_out(target, host)
    left = snapshots(host)
    # The one of a time to come is not counted, and stays.
    assert set(before) < set(left) and len(left) == len(before) + 3
    assert json.loads(summary)["snapshot_id"] in " ".join(left)
    ran(host, FULL)
    assert ran(target, f"find {there} ! -user webstack-archive") == ""
    passphrase = target.file(f"/etc/webstack-archive/passphrases/{host.backend.name.split('-')[1]}")
    assert (passphrase.mode, passphrase.user) == (0o400, "webstack-archive")
    assert target.run("systemctl is-active webstack-archive-thin-out.timer").stdout.strip() == "active"
