"""Role archive: a host's key opens the program that takes its log, and nothing else."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from scenario import PROJECT, whereabouts

sys.path.insert(0, str(PROJECT / "tests/unit"))

from logs import event, log_file

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "keys"
LINE = "20261128T190000Z-4f3a9c"
FOLDER = f"/srv/webstack-backup/www.example.com/log/{LINE}"
REFUSAL = "this key can append to its own log, read it, and add to its own backups; nothing else"


def ssh(server, *command, key="www", options=(), program="ssh", **more):
    """Runs ssh (or one of its kind) on this machine with the key of a host."""
    address = whereabouts(server.backend.name)[server.backend.name].address
    words = [
        "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
        "-o", "UserKnownHostsFile=/dev/null", "-F", "/dev/null", "-i", str(KEYS / key), *options,
    ]  # fmt: skip
    where = f"webstack-archive@{address}"
    argv = (
        [program, *words, where, *command]
        if program == "ssh"
        else [program, *words, *(word.replace("@@", where) for word in command)]
    )
    return subprocess.run(argv, capture_output=True, timeout=60, check=False, **more)


def message(kind, payload):
    return kind + struct.pack(">I", len(payload)) + payload


def messages(content, name=b"binlog.000001"):
    return message(b"F", name) + message(b"D", struct.pack(">Q", 0) + content)


@pytest.fixture
def filled(server):
    """The log that the archive has of the host."""
    server.check_output("rm -rf /srv/webstack-backup/*")
    content = log_file(b"one", b"two")
    done = ssh(server, f"log {LINE}", input=messages(content))
    assert done.returncode == 0, done.stderr
    return content


def state(server):
    return server.check_output("cd /srv/webstack-backup && find . -type f ! -name lock -exec sha256sum {} + | sort")


def test_a_dry_run_of_a_converged_host_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


def test_the_log_that_comes_is_acknowledged_and_can_be_read_back(server, filled):
    done = ssh(
        server, f"log {LINE}", input=message(b"D", struct.pack(">Q", len(filled)) + event(len(filled), b"three"))
    )
    greeting, acknowledged = done.stdout.decode().splitlines()
    assert json.loads(greeting)["size"] == len(filled)
    more = filled + event(len(filled), b"three")
    assert acknowledged == f"ack binlog.000001 {len(more)} 0 0"
    assert ssh(server, f"read {LINE} binlog.000001 0").stdout == more
    assert json.loads(ssh(server, "list").stdout) == {LINE: {"binlog.000001": len(more), "ledger": 0}}
    assert server.file(f"{FOLDER}/binlog.000001").mode == 0o600


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /srv/webstack-backup", "sh", "bash -i", "", "cat /etc/passwd", "internal-sftp", "rsync --server . /", "scp -f /etc/passwd",
        f"log {LINE}; rm -rf /srv/webstack-backup", f"log {LINE}\nrm -rf /srv/webstack-backup", f"log {LINE} && id", "log $(id)",
        "log ../../other.example.com/log/20261128T190000Z-4f3a9c", f"read {LINE} ../../../../../etc/passwd 0", f"read {LINE} /etc/passwd 0",
        f"read ../../other.example.com/log/{LINE} binlog.000001 0", f"read {LINE} lock 0", f"read {LINE} binlog.000001 0 x",
    ],
)  # fmt: skip
def test_the_key_opens_nothing_else(server, filled, command):
    before = state(server)
    done = ssh(server, command, input=b"id\n")
    assert done.returncode == 1, done.stdout
    assert REFUSAL in done.stderr.decode()
    assert done.stdout == b"" or done.stdout.decode() == f"refused {REFUSAL}\n"
    assert state(server) == before


@pytest.mark.parametrize("messages_", [
    message(b"F", b"../../x"),
    message(b"F", b"binlog.000009"),
    message(b"F", b"/srv/webstack-backup/x"),
    message(b"F", b"binlog.000001"),
    message(b"D", struct.pack(">Q", 0) + log_file(b"another")),
    message(b"D", struct.pack(">Q", 4) + b"x"),
    message(b"L", b"../ledger"),
    b"\xff" * 100,
])  # fmt: skip
def test_what_was_acknowledged_cannot_be_changed_through_the_door(server, filled, messages_):
    before = state(server)
    done = ssh(server, f"log {LINE}", input=messages_)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[-1].startswith("refused ")
    assert state(server) == before


def test_neither_sftp_nor_scp_nor_a_terminal_comes_through(server, filled, tmp_path):
    before = state(server)
    (tmp_path / "x").write_text("x")
    assert ssh(server, "@@:/", program="sftp", input=b"ls /\n").returncode != 0
    assert ssh(server, str(tmp_path / "x"), "@@:/srv/webstack-backup/x", program="scp").returncode != 0
    assert ssh(server, "@@:/etc/passwd", str(tmp_path / "got"), program="scp").returncode != 0
    assert not (tmp_path / "got").exists()
    done = ssh(server, "list", options=["-tt"], input=b"")
    assert b"PTY allocation request failed" in done.stderr
    assert state(server) == before


def test_no_port_is_forwarded(server, filled):
    """Neither from here to there, nor from there to here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = whereabouts(server.backend.name)[server.backend.name].address
    words = ["-o", "ExitOnForwardFailure=yes"]
    done = ssh(server, f"log {LINE}", options=[*words, "-R", f"{port}:127.0.0.1:22"], input=b"")
    assert done.returncode == 255 and b"remote port forwarding failed" in done.stderr
    done = ssh(server, options=["-W", f"{address}:22"], input=b"")
    assert done.returncode == 255 and b"stdio forwarding failed" in done.stderr and done.stdout == b""


def restic(server, *words):
    """As a host calls it, here from the archive to itself."""
    through = (
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
        "-i /root/www webstack-archive@127.0.0.1 rclone"
    )
    argv = [
        "env",
        "RESTIC_PASSWORD=a passphrase of a test",
        "HOME=/root",
        "timeout",
        "30",
        "restic",
        "-o",
        f"rclone.program={through}",
    ]
    return server.run(" ".join(["%s"] * (len(argv) + 2 + len(words))), *argv, "-r", "rclone:/etc", *words)


def test_backups_by_restic_come_in_and_none_can_be_taken_away(server, filled):
    """The folder is the host's own, whatever it asks for."""
    for words in (["init"], ["backup", "/etc/hosts"], ["backup", "/etc/hosts"]):
        done = restic(server, *words)
        assert done.rc == 0, done.stderr
    assert restic(server, "restore", "latest", "--target", "/tmp/restored").rc == 0
    assert server.file("/tmp/restored/etc/hosts").content == server.file("/etc/hosts").content
    kept = "find /srv/webstack-backup/www.example.com/restic -type f ! -path %s -exec sha256sum {} + | sort"
    before = server.check_output(kept, "*/locks/*")
    assert before.count("/snapshots/") == 2
    # Of what comes of it, restic's versions have different opinions.
    assert re.search("403|forbidden", restic(server, "forget", "--keep-last", "1", "--prune").stderr, re.IGNORECASE)
    assert server.check_output(kept, "*/locks/*") == before


def test_one_host_does_not_see_the_other(server, filled):
    assert json.loads(ssh(server, "list", key="other").stdout) == {}
    done = ssh(server, f"read {LINE} binlog.000001 0", key="other")
    assert done.returncode == 1 and b"No such file" in done.stderr


def test_the_user_has_no_other_way_in(server):
    assert server.check_output("getent shadow webstack-archive").split(":")[1] == "*"
    keys = server.file("/var/lib/webstack-archive/.ssh/authorized_keys")
    assert keys.user == "root"
    for line in keys.content_string.splitlines():
        assert line.startswith(("#", 'restrict,command="/usr/local/lib/webstack/backup-sink ')), line
    assert (
        server.run("runuser -u webstack-archive -- touch /var/lib/webstack-archive/.ssh/x /usr/local/lib/webstack/x").rc
        != 0
    )


def test_a_host_that_is_declared_no_more_comes_in_no_more_and_its_log_stays(server, filled, converge, restored):
    key = (KEYS / "other.pub").read_text().strip()
    converge(archive_hosts=[{"name": "other.example.com", "key": key}]).must_succeed()
    done = ssh(server, "list")
    assert done.returncode == 255 and b"Permission denied" in done.stderr
    assert server.file(f"{FOLDER}/binlog.000001").content == filled


def test_what_cannot_work_is_refused_before_anything_changes(converge):
    key = (KEYS / "www.pub").read_text().strip()
    converge(archive_hosts=[{"name": "../x", "key": key}]).must_be_refused("archive_hosts[0].name: '../x'")
    twice = [{"name": "a", "key": key}, {"name": "b", "key": key}]
    converge(archive_hosts=twice).must_be_refused("archive_hosts[1].key: stands in archive_hosts[0] already")
    converge(archive_host=[]).must_be_refused("archive_host: unknown variable")
    private = (KEYS / "www").read_text()
    converge(archive_hosts=[{"name": "a", "key": private}]).must_be_refused("archive_hosts[0].key: is a private key")
