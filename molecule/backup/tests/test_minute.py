"""The log in a repository on another machine, for a target without a shell: each minute, so that what is lost is what came after."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import testinfra
from conftest import begin, go_on
from copies import FULL, SOCKET, by_restic, log_folder, make_repository, on_one, position, ran, refused, sql
from scenario import names, until
from test_sheet import by_its_commands
from test_shipping import Writing, restart

TARGET = next(name for name in names() if "-target-" in name)
CONFIG, SETTINGS = "/etc/webstack-backup/config.json", "/etc/webstack-backup/full.json"
OWN = "/var/lib/webstack-backup"
SAVE = "systemctl start webstack-backup-log.service"
LATEST = "webstack-backup restore --to latest --log repository"
# sftp, and nothing else.
KEEPER = """
id keeper 2> /dev/null || useradd --create-home keeper
printf 'Match User keeper\n ForceCommand internal-sftp\n' > /etc/ssh/sshd_config.d/keeper.conf
install -d -o keeper -m 0700 ~keeper/.ssh ~keeper/{0} && rm -rf ~keeper/{0}/*
echo {1} >> ~keeper/.ssh/authorized_keys && chown keeper ~keeper/.ssh/authorized_keys
systemctl reload ssh
"""
KEY = """
test -e ~/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -C '' -f ~/.ssh/id_ed25519
sed 's/^/target.example.com /' /etc/webstack-backup/known_hosts | grep -o 'target.example.com ssh.*' > ~/.ssh/known_hosts
cat ~/.ssh/id_ed25519.pub
"""


@pytest.fixture
def target():
    return testinfra.get_host(f"docker://{TARGET}")


def repository(host):
    return f"sftp:keeper@target.example.com:/home/keeper/{host.backend.name.split('-')[1]}"


def write(host, path, **changes):
    ran(host, f"echo {shlex.quote(json.dumps({**json.loads(ran(host, f'cat {path}')), **changes}))} > {path}")


def last(host):
    return json.loads(ran(host, f"cat {OWN}/log.json"))


def restic(host, words):
    return ran(
        host, f"restic --repo {repository(host)} --password-file /etc/webstack-backup/passphrase --no-cache {words}"
    )


def logs(host):
    return json.loads(restic(host, "snapshots --json --no-lock --tag log"))


@pytest.fixture
def minutes(host, target):
    """Without a target, and with a repository there; the test itself says when a minute is over."""
    key = ran(host, KEY)
    ran(target, KEEPER.format(host.backend.name.split("-")[1], shlex.quote(key)))
    ran(host, f"mkdir -p {OWN}; cp -a /etc/webstack-backup /root/settings; cp -a {OWN} /root/own; rm -f {OWN}/*.json")
    ran(host, "systemctl stop webstack-binlog webstack-backup-log.timer")
    write(host, CONFIG, target={})
    write(host, SETTINGS, repository=repository(host))
    yield
    ran(host, "webstack-backup end-scratch; systemctl stop webstack-backup-log.timer")
    ran(host, f"rm -rf /etc/webstack-backup {OWN}; mv /root/settings /etc/webstack-backup; mv /root/own {OWN}")
    ran(host, "systemctl start webstack-binlog; webstack-backup new-line")  # the target does not have what was purged


@pytest.mark.thorough
@on_one
def test_what_came_after_the_last_minute_is_lost(host, minutes):
    """The host is killed under load. All that was acknowledged before the last time is there, and the rest is counted."""
    ready_without_target(host)
    ran(host, FULL)
    writing = Writing(host, 0.01).wait_for(20)
    ran(host, SAVE)
    before = last(host)["asked"]
    ran(host, "systemctl start webstack-backup-log.timer")
    until(lambda: last(host)["asked"] > before, 90)
    saved = last(host)
    writing.wait_for(20)
    name = host.backend.name
    subprocess.run(["docker", "kill", "--signal=KILL", name], check=True, capture_output=True)
    writing.end()
    restart(name)
    until(lambda: sql(host, "SELECT 1"))
    ran(host, "systemctl stop webstack-binlog webstack-backup-log.timer")
    said = ran(host, LATEST)
    assert "the log is the repository's, of the line" in said
    there = {
        int(text.split("-")[2].rstrip("|"))
        for text in sql(host, f"SELECT text FROM app.written WHERE text LIKE 'row-{writing.run}-%'", SOCKET).split()
    }
    acknowledged = writing.acknowledged()
    lost = acknowledged.keys() - there
    print(f"{name}: {len(acknowledged)} rows acknowledged, {len(lost)} lost, begun after {saved['asked']}")
    assert lost and all(acknowledged[row][1] > saved["asked"] for row in lost)


def ready_without_target(host):
    sql(
        host, "CREATE TABLE IF NOT EXISTS app.written (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(99), KEY (text))"
    )


@pytest.mark.thorough
def test_a_chain_of_several_minutes(host, minutes, target):
    """Files that the host has no more are in an older snapshot; what is in between is refused where it is gone there."""
    folder = repository(host).rpartition(":")[2]
    make_repository(target, folder, f"/etc/webstack-archive/passphrases/{Path(folder).name}", "keeper")
    begin(host)
    ran(host, "systemctl start webstack-backup.service")
    ran(host, SAVE)
    go_on(host)
    write(host, f"{OWN}/log.json", stamp="2099-01-01 00:00:00+00:00")  # as the clock was then
    ran(host, f"webstack-backup mark here; {SAVE}")
    count = len(logs(host))
    ran(host, SAVE)  # nothing was written
    assert len(logs(host)) == count
    sql(host, "FLUSH BINARY LOGS; INSERT INTO proof.late VALUES (2)")
    ran(host, SAVE)
    # A week later
    ran(host, f"find {log_folder(host)} -name 'binlog.*' -exec touch -d '8 days ago' {{}} +")
    said = ran(host, "webstack-backup purge")
    assert re.search(r"removed [0-9]+ files of the log that the repository has; (binlog\.\d+) is the oldest now", said)
    sql(host, "INSERT INTO proof.late VALUES (3)")
    ran(host, SAVE)
    end = position(host)
    said = ran(host, "webstack-backup status")
    assert f"Shipping: the log is in {repository(host)} until {end}, " in said
    assert "what was committed since is lost with this host (promise: 62 s)" in said
    sql(host, "INSERT INTO proof.late VALUES (4)")
    # What those who own the repository do there
    restic(host, "forget --tag log --group-by host,tags --keep-last 1")
    assert len(logs(host)) == 2
    refused(host, "webstack-backup restore --to latest --log here", "in which the full backup begins, is missing")
    said = ran(host, LATEST)
    assert f"to {end}: 3 files" in said
    assert sql(host, "SELECT a FROM proof.late", SOCKET).split() == ["1", "2", "3"]
    ran(host, "webstack-backup end-scratch")
    ran(host, "webstack-backup restore --to here --log repository")
    assert sql(host, "SELECT a FROM proof.late", SOCKET) == "1"


@on_one
def test_the_commands_of_the_sheet(host, minutes):
    """On what the repository has, the line of the log included."""
    begin(host)
    ran(host, FULL)
    go_on(host)
    ran(host, SAVE)
    sql(host, "INSERT INTO proof.late VALUES (2)")  # which the host has alone
    said = by_its_commands(host)
    assert said.rc == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[-4:] == ["1", "2", "3", "1"] and "no files were ever saved" in said.stdout


@pytest.mark.thorough
@by_restic
def test_a_repository_that_is_gone(host, minutes, target):
    """The site goes on, the log stays on the host, and after three minutes it is an alarm that says why."""
    ran(host, FULL)
    ran(host, SAVE)
    folder = repository(host).rpartition(":")[2]
    ran(target, f"mv {folder} {folder}-away")
    sql(host, "CREATE DATABASE IF NOT EXISTS proof; DROP TABLE IF EXISTS proof.gone; CREATE TABLE proof.gone (a INT)")
    refused(host, "webstack-backup log", "there is no repository at sftp:keeper")
    said = host.run("webstack-backup status").stdout
    assert re.search(
        r"Shipping: the log is in sftp:.* \(promise: 62 s\)\n", said
    )  # one that failed is made up for by the next
    write(host, f"{OWN}/log.json", asked="2026-11-23T10:15:00.000000Z")
    done = host.run("webstack-backup status")
    assert done.rc == 1
    assert re.search(
        r"Shipping: the log is in sftp:.* s ago .*; FAILED at 20.*: there is no repository at sftp:", done.stdout
    )
    assert ran(host, "webstack-backup purge").startswith("nothing of the log is removed: there is no repository at")
    ran(target, f"mv {folder}-away {folder}")
    ran(host, SAVE)
    assert "FAILED" not in ran(host, "webstack-backup status")
