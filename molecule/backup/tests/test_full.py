"""Full backups, and restores into a server of its own: what counts, what is refused, and in which words."""

import json
import re
import shlex
import time

import pytest
from copies import (
    FULL,
    LOCKS,
    PASSPHRASE,
    REPOSITORY,
    RESTIC,
    SOCKET,
    by_restic,
    client,
    fulls,
    log_folder,
    on_one,
    position,
    ran,
    refused,
    sql,
)
from scenario import until, watched


def test_everything_until_now(host, backed_up):
    """The log of after the full is replayed into a server that nobody reaches but root, and the live one stays as it is."""
    sql(host, "FLUSH BINARY LOGS; DELETE FROM proof.t WHERE id = 1; UPDATE proof.late SET a = 2")
    said = ran(host, "webstack-backup restore --to latest")
    assert "rows and checksums of all tables are the ones that were saved" in said
    assert re.search(r"replayed the log from binlog\.\d+:\d+ to " + position(host) + ": 3 files", said)
    assert re.search(r"proof\.late: 1 rows \(new\)\n.*proof\.t: 2 rows \(\+0\)", said)
    for table in ("t", "late"):
        query = f"CHECKSUM TABLE proof.{table}"
        assert sql(host, query, SOCKET) == sql(host, query)
    assert sql(host, "SELECT body FROM proof.t WHERE id = 2", SOCKET) == "🙂"
    assert sql(host, "SELECT @@log_bin, @@skip_networking", SOCKET).split() == ["0", "1"]
    pid = ran(host, "systemctl show --property=MainPID --value webstack-restore")
    assert (
        ran(
            host, f"nsenter --net --target {pid} ls /sys/class/net; nsenter --net --target {pid} cat /proc/net/dev"
        ).count(":")
        == 1
    )
    refused(host, "webstack-backup restore --to latest", "the scratch instance of the last restore runs")


def test_until_a_position(host, backed_up):
    here = position(host)
    sql(host, "INSERT INTO proof.late VALUES (2); DROP TABLE proof.t")
    said = ran(host, f"webstack-backup restore --to {here}")
    assert f"to {here}: 2 files" in said
    assert sql(host, "SELECT * FROM proof.late; SELECT id FROM proof.t", SOCKET).split() == ["1", "1", "2", "3"]
    ran(host, "webstack-backup end-scratch")
    said = ran(host, "webstack-backup restore --to full")
    assert "no log was replayed" in said
    assert sql(host, "SELECT id FROM proof.t", SOCKET).split() == ["1", "2"]


@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped"])
def test_a_log_that_is_not_whole(host, written, harm):
    """Is refused before anything is fetched, with the last position that can be reached; that one can."""
    sql(host, "FLUSH BINARY LOGS; INSERT INTO proof.late VALUES (2)")
    folder = log_folder(host)
    middle = sql(host, "SHOW BINARY LOGS").splitlines()[-2].split()[0]
    path = f"{folder}/{middle}"
    ran(host, f"cp -a {path} /root/kept")
    harms = {
        "missing": f"rm {path}",
        "truncated": f"truncate --size=-7 {path}",
        "flipped": f"python3 -c \"f = open('{path}', 'r+b'); f.seek(-60, 2); b = f.read(1); f.seek(-60, 2); f.write(bytes([b[0] ^ 1]))\"",
    }
    words = {
        "missing": rf"{middle} is missing between binlog\.\d+ and binlog\.\d+: the log can be replayed until binlog",
        "truncated": f"{middle} is cut off in the middle of an event: the log can be replayed until {middle}:",
        "flipped": rf"{middle} is damaged at byte \d+",
    }
    try:
        ran(host, harms[harm])
        said = refused(host, "webstack-backup restore --to latest", words[harm])
        assert not host.file("/var/lib/webstack-scratch/restore").exists
        if harm != "flipped":
            until_there = re.search(r"until (binlog\.\d+:\d+)", said)[1]
            ran(host, f"webstack-backup restore --to {until_there}")
            assert sql(host, "SELECT COUNT(*) FROM proof.t", SOCKET) == "3"
    finally:
        ran(host, f"cp -a /root/kept {path}")


def test_positions_that_cannot_be_reached(host, has_full):
    file, _colon, offset = position(host).rpartition(":")
    for to, words in (
        (f"{file}:{int(offset) + 1}", "is not reached: the log can be replayed until"),
        (f"{file}:{int(offset) - 1}", "no event ends at"),
        ("binlog.999999:4", r"binlog.\d+ is missing after"),
        ("binlog.000001:4", "before the oldest full backup"),
        ("yesterday", "is none of"),
    ):
        refused(host, f"webstack-backup restore --to {to}", words)
    assert not host.file("/var/lib/webstack-scratch/restore").exists


def killed_during(host, state):
    """Kills a full as soon as the shell command `state` succeeds; returns the fulls that there were before it.

    Some states are short: the host itself looks, and another full is begun where one ended unseen.
    """
    kill = f"until {{ {state}; }}; do systemctl is-active --quiet doomed || exit; done; systemctl kill --signal=KILL doomed"
    for _turn in range(3):
        before = fulls(host)
        ran(host, f"systemd-run --unit=doomed --collect {FULL}")
        met = host.run(f"timeout 60 sh -c {shlex.quote(kill)}").rc == 0
        until(lambda: host.run("systemctl is-active doomed").stdout.strip() not in ("active", "deactivating"))
        if met:
            return before
    pytest.fail(f"never seen: {state}\n" + host.run("journalctl --no-pager -n 30 -u doomed").stdout)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "state",
    [
        "pgrep mariadb-backup || test -d /var/lib/mysql-files/webstack-clone",
        "test -S /run/webstack-full/mysqld.sock",
        f"{LOCKS} | grep -q .",
    ],
)
def test_a_killed_one_does_not_count(host, written, state):
    numbers = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900)"
    sql(host, "CREATE TABLE proof.big (b BLOB)")
    sql(host, f"INSERT INTO proof.big {numbers} SELECT RANDOM_BYTES(1024) FROM n AS a JOIN n AS b LIMIT 20000")
    before = killed_during(host, state)
    assert fulls(host) == before
    ran(host, FULL)  # it removes the lock, whose process is dead, and what is left of the copy
    assert len(fulls(host)) == len(before) + 1
    assert ran(host, LOCKS) == ""
    assert not host.file("/var/lib/webstack-scratch/full").exists
    assert host.run("systemctl is-active webstack-full").stdout.strip() == "inactive"


@on_one
def test_two_at_once(host, has_full):
    ran(host, f"systemd-run --unit=first --collect {FULL}")
    until(lambda: host.file("/var/lib/webstack-scratch/full").exists)
    refused(host, FULL, r"another full runs: pid \d+, since 20")
    until(lambda: host.run("systemctl is-active first").stdout.strip() != "active")


@on_one
def test_data_without_their_manifest_do_not_count(host, has_full):
    """Such as those of a full that was killed between its two snapshots."""
    before = fulls(host)
    ran(host, f"RESTIC_PASSWORD_FILE={PASSPHRASE} restic --repo {REPOSITORY} backup --tag data /etc/hostname")
    said = ran(host, "webstack-backup restore --to full")
    ran(host, "webstack-backup end-scratch")
    assert "rows and checksums of all tables" in said
    assert fulls(host) == before


@by_restic
def test_a_wrong_passphrase(host, has_full):
    ran(host, f"cp -a {PASSPHRASE} /root/kept; echo another-passphrase-1234 > {PASSPHRASE}")
    try:
        for command in (FULL, "webstack-backup restore --to latest"):
            refused(host, command, f"wrong passphrase for {REPOSITORY}")
    finally:
        ran(host, f"cp -a /root/kept {PASSPHRASE}")


@by_restic
def test_a_live_lock_of_another_host(host, has_full):
    check = f"hostname elsewhere; exec restic --repo {REPOSITORY} --password-file {PASSPHRASE} check --read-data"
    assert ran(host, LOCKS) == ""
    ran(host, f"systemd-run --unit=holder --collect unshare --uts sh -c {shlex.quote(check)}")
    until(lambda: ran(host, LOCKS) != "")
    ran(host, "systemctl kill --signal=KILL holder")
    try:
        refused(host, FULL, rf"the repository {REPOSITORY} is locked by elsewhere:\d+ since 20")
    finally:
        ran(host, f"RESTIC_PASSWORD_FILE={PASSPHRASE} restic --repo {REPOSITORY} unlock --remove-all")


@by_restic
def test_a_repository_that_is_gone(host, has_full):
    """Such as one on a disk that is not mounted: no new one is made in its place."""
    ran(host, f"mv {REPOSITORY} /root/repository")
    try:
        refused(host, FULL, f"the repository {REPOSITORY} is gone.*Is its disk mounted")
        refused(host, "webstack-backup restore --to latest", f"there is no repository at {REPOSITORY}")
        assert not host.file(REPOSITORY).exists
    finally:
        ran(host, f"mv /root/repository {REPOSITORY}")


@on_one
def test_no_room(host, has_full):
    before = fulls(host)
    ran(host, "mount -t tmpfs -o size=20m,mode=0711 none /var/lib/webstack-scratch")
    try:
        refused(host, FULL, r"the copy of the data needs [\d.]+ MB in /var/lib/webstack-scratch, [\d.]+ MB are free")
        refused(
            host,
            "webstack-backup restore --to latest",
            r"the restored copy needs [\d.]+ MB in .*, [\d.]+ MB are free",
        )
    finally:
        ran(host, "umount /var/lib/webstack-scratch")
    assert fulls(host) == before


@by_restic
def test_a_flipped_byte_in_the_repository(host, has_full):
    """Is found as the data are fetched, and leaves nothing behind that could be taken for the data."""
    ran(host, f"cp -a {REPOSITORY} /root/repository")
    flip = (
        f"find {REPOSITORY}/data -type f -size +8k -exec python3 -c "
        + shlex.quote(
            "import sys\nfor p in sys.argv[1:]:\n f = open(p, 'r+b'); f.seek(2000); b = f.read(1); f.seek(2000); f.write(bytes([b[0] ^ 1]))"
        )
        + " {} +"
    )
    try:
        ran(host, f"chmod -R u+w {REPOSITORY}/data; {flip}")
        refused(host, "webstack-backup restore --to full", "restic (restore|dump) failed")
        assert not host.file("/var/lib/webstack-scratch/restore").exists
    finally:
        ran(host, f"rm -rf {REPOSITORY} && mv /root/repository {REPOSITORY}")


def test_an_older_server(host, has_full):
    """The server's program says another version: data of a newer series must not be opened."""
    program = "/usr/sbin/mariadbd" if client(host) == "mariadb" else "/usr/sbin/mysqld"
    fake = f"#!/bin/sh\\ncase $* in *--version*) echo 'x Ver 5.5.68 x';; *) exec {program}.kept \"$@\";; esac\\n"
    ran(host, f"mv {program} {program}.kept && printf {shlex.quote(fake)} > {program} && chmod 0755 {program}")
    try:
        refused(host, "webstack-backup restore --to latest", r"this host has 5.5.68, it needs \d+\.\d+ or newer")
    finally:
        ran(host, f"mv {program}.kept {program}")


@by_restic
def test_what_the_rule_does_not_keep(host, has_full):
    """Goes, with data that never became a full; those of the last day may become one. The one that stays can be restored."""
    settings = "/etc/webstack-backup/full.json"
    unfinished = f"RESTIC_PASSWORD_FILE={PASSPHRASE} restic --repo {REPOSITORY} backup --tag data --tag"
    ran(host, f"{unfinished} left --time '2020-01-01 00:00:00' /etc/hostname; {unfinished} begun /etc/hostname")
    ran(host, f"cp -a {settings} /root/kept")
    try:
        found = {**json.loads(ran(host, f"cat {settings}")), "keep": {"last": 1}}
        ran(host, f"echo {shlex.quote(json.dumps(found))} > {settings}")
        said = ran(host, FULL)
    finally:
        ran(host, f"cp -a /root/kept {settings}")
    assert re.search(r"removed \d+ full backups that the rule does not keep; 1 are there", said)
    assert len(fulls(host)) == 1
    tags = [tag for one in json.loads(ran(host, f"{RESTIC} snapshots --json --tag data")) for tag in one["tags"]]
    assert "left" not in tags and "begun" in tags
    ran(host, "webstack-backup restore --to full")
    ran(host, "webstack-backup end-scratch")


def test_a_timer_takes_them(host):
    assert host.run("systemctl is-active webstack-backup.timer").stdout.strip() == "active"
    assert host.file("/etc/webstack-backup/full.json").mode == 0o600
    assert host.file(PASSPHRASE).mode == 0o600
    before = len(fulls(host))
    ran(host, "systemctl start webstack-backup.service")  # in its sandbox
    assert len(fulls(host)) == before + 1


@by_restic
def test_nobody_sees_the_passphrase(host, written):
    secret = ran(host, f"cat {PASSPHRASE}")
    with watched([host], secret, "cmdline", "environ") as met:
        ran(host, FULL)
        ran(host, "webstack-backup restore --to latest")
    assert met == []
    assert secret not in ran(host, "journalctl --no-pager --since=-5min")


def test_writers_go_on(host, written):
    """While a full runs, no commit fails."""
    sql(host, "CREATE TABLE proof.w (id BIGINT AUTO_INCREMENT PRIMARY KEY, b TEXT)")
    loop = f"{client(host)} --user=root -e " + shlex.quote(
        "SET @n = 0; INSERT INTO proof.w (b) VALUES (REPEAT('x', 300))"
    )
    ran(host, f"systemd-run --unit=writer --collect sh -ec {shlex.quote(f'while :; do {loop}; done')}")
    try:
        time.sleep(1)
        ran(host, FULL)
        assert host.run("systemctl is-active writer").stdout.strip() == "active"
    finally:
        ran(host, "systemctl stop writer")
    said = ran(host, "webstack-backup restore --to latest")
    assert re.search(r"proof\.w: [\d,]+ rows \(\+\d+\)", said)
    assert sql(host, "CHECKSUM TABLE proof.w", SOCKET) == sql(host, "CHECKSUM TABLE proof.w")
