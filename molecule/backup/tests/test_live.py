"""A restored copy becomes the live one: what was acknowledged is there, and what was there before is kept."""

import json
import re
import shlex
import subprocess

import pytest
from copies import FOLDER, FULL, client, log_folder, on_one, ran, refused, sql

LIVE = "webstack-backup go-live"
DATA = "/var/lib/mysql"
SCRATCH = "/var/lib/webstack-scratch/restore"

# webstack-backup, killed just before the n-th time that it renames or removes anything, or calls anybody; it is not changed otherwise.
KILLED = """
import os, signal, sys
sys.path.insert(0, "/usr/local/lib/webstack")
from webstack_backup import cli
left = int(sys.argv.pop(1))
def hook(event, _args):
    global left
    if event in ("os.rename", "os.remove", "os.mkdir", "subprocess.Popen"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.exit(cli.main())
"""

# Writes until its input ends; prints each row that was acknowledged.
WRITER = """
import pymysql, select, sys, time
number, connection = 0, None
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    try:
        connection = connection or pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="root", autocommit=True)
        connection.cursor().execute("INSERT INTO proof.w VALUES (%s)", (number,))
        print(number, flush=True)
    except pymysql.MySQLError:
        connection = None
        time.sleep(0.05)
"""


def name(host):
    return json.loads(ran(host, "cat /etc/webstack-backup/config.json"))["name"]


def confirmed(host):
    return f"{LIVE} --confirm {name(host)}"


def line(host):
    return ran(host, f"cat {log_folder(host)}/line")


def kept(said):
    return re.findall(r"What was there is kept in (\S+);", said)


@pytest.fixture(autouse=True)
def tidy(host):
    """Room for the next test, and a full that belongs to the new line."""
    yield
    for path in (f"{DATA}.before-restore-*", f"{log_folder(host)}/before-restore-*"):
        ran(host, f"rm -rf {path}")


def test_to_a_moment(host, uploads, backed_up):
    """What came after it is not there any more, but kept; the log goes on in a new line, and so do fulls and restores."""
    before = line(host)
    ran(host, "webstack-backup mark here")
    ran(host, f"cd {FOLDER}/media && rm one && echo changed > 'odd [o]*?.txt' && echo new > new")
    sql(host, "DROP TABLE proof.t")
    ran(host, "webstack-backup restore --to here")
    refused(host, LIVE, f"replaces the data that {name(host)} serves .*--confirm {name(host)}. Nothing was done")
    refused(host, f"{LIVE} --confirm elsewhere", "Nothing was done")
    said = ran(host, confirmed(host))
    assert sql(host, "SELECT id FROM proof.t; SELECT a FROM proof.late").split() == ["1", "2", "3", "1"]
    assert "1 files that were missing are back, and 1 that were changed after 20" in said
    assert ran(host, f"cd {FOLDER}/media; cat one odd* new; stat --format '%U %a' one").split() == [
        "one",
        "odd",
        "new",
        "shop",
        "640",
    ]
    aside = re.search(r"The changed files are kept in (\S+);", said)[1]
    assert host.file(aside).mode == 0o700 and ran(host, f"cat {aside}{FOLDER}/media/odd*; rm -r {aside}") == "changed"
    log, data = kept(said)
    assert line(host) != before and ran(host, f"cat {log}/line") == before
    assert host.file(f"{data}/proof/late.ibd").exists and not host.file(f"{data}/proof/t.ibd").exists
    assert host.file(data).user == "mysql" and host.file(DATA).mode == host.file(data).mode
    assert not host.file(SCRATCH).exists
    refused(host, "webstack-backup restore --to latest --log here", "the server has begun anew since")
    ran(host, FULL)
    sql(host, "INSERT INTO proof.t VALUES (4, 'in the new line')")
    assert "proof.t: 4 rows (+1)" in ran(host, "webstack-backup restore --to latest")


def test_to_the_end_under_a_writer(host, backed_up):
    """Everything that was acknowledged until the server stops is there."""
    sql(host, "CREATE TABLE proof.w (id INT PRIMARY KEY)")
    ran(host, "webstack-backup restore --to latest")
    argv = ["docker", "exec", "--interactive", host.backend.name, "python3", "-c", WRITER]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        said = ran(host, confirmed(host))
        written = writer.communicate(timeout=60)[0]
    acknowledged = {int(number) for number in written.split()}
    there = {int(number) for number in sql(host, "SELECT id FROM proof.w").split()}
    assert "replayed the rest of the log" in said
    assert acknowledged
    assert acknowledged - there == set()


@on_one
def test_refusals_that_change_nothing(host, written):
    refused(host, confirmed(host), "there is no restored server that could become the live one")
    ran(host, "webstack-backup restore --to latest")
    note = f"{SCRATCH}/restored.json"
    found = json.loads(ran(host, f"cat {note}"))
    other = "mysql" if found["vendor"] == "mariadb" else "mariadb"
    for change, words in (
        ({"version": "99.1.0"}, "this host has .*, it needs 99.1 or newer"),
        ({"vendor": other}, "this host has M"),
        ({"line": "20200101T000000Z-aaaaaa"}, "the server has begun another log"),
    ):
        ran(host, f"echo {shlex.quote(json.dumps({**found, **change}))} > {note}")
        refused(host, confirmed(host), words)
    ran(host, f"echo {shlex.quote(json.dumps(found))} > {note}")
    ran(host, f"mount --bind {DATA} {DATA}")
    try:
        refused(host, confirmed(host), "is a link or a file system of its own")
    finally:
        ran(host, f"umount --lazy {DATA}")
    assert sql(host, "SELECT COUNT(*) FROM proof.t") == "3"
    assert not host.file("/var/lib/webstack-backup/go-live.json").exists


@pytest.mark.thorough
def test_a_copy_that_no_server_starts_on(host, written):
    """The data of before are back, with their log, which goes on."""
    before = line(host)
    ran(host, "webstack-backup restore --to full")
    ran(host, f"echo x > {SCRATCH}/data/ibdata1.new")
    drop_in = f"/run/systemd/system/{client(host)}.service.d/zz-refuse.conf"  # after the role's, which empties the list
    ran(host, f"mkdir -p {drop_in.rpartition('/')[0]}")
    ran(
        host,
        f"printf '[Service]\\nExecStartPre=/bin/sh -c \"! test -e {DATA}/ibdata1.new\"\\n' > {drop_in}; systemctl daemon-reload",
    )
    try:
        refused(host, confirmed(host), "no server starts on the restored copy, so the data of before are back")
    finally:
        ran(host, f"rm {drop_in}; systemctl daemon-reload")
    assert line(host) == before
    assert sql(host, "SELECT COUNT(*) FROM proof.t; INSERT INTO proof.t VALUES (9, 'goes on')") == "3"
    assert "proof.t: 4 rows" in ran(host, "webstack-backup end-scratch && webstack-backup restore --to latest")


@pytest.mark.thorough
@on_one
def test_killed_at_each_step(host, uploads, backed_up):
    """Each call is killed one step later than the one before; the data are there in the end, all of them, in both places."""
    sql(host, "INSERT INTO proof.t VALUES (4, 'last')")
    ran(host, "webstack-backup restore --to latest")
    sql(host, "INSERT INTO proof.t VALUES (5, 'after the restore')")
    ran(host, f"rm {FOLDER}/media/one")
    met, said = 0, ""
    for step in range(1, 100):
        done = host.run(f"python3 -I -c {shlex.quote(KILLED)} {step} go-live --confirm {name(host)}")
        if done.rc == 0:
            said = done.stdout
            break
        if done.rc == 1:  # killed while the rest of the log was replayed
            assert "webstack-backup restore makes one" in done.stderr
            assert sql(host, "SELECT COUNT(*) FROM proof.t") == "5"
            ran(host, "webstack-backup end-scratch && webstack-backup restore --to latest")
            continue
        assert done.rc in (-9, 137), f"{step}: {done.stdout}{done.stderr}"
        met += 1
        if not host.file(DATA).exists:
            assert "go-live was cut off" in host.run("webstack-backup status").stdout
            refused(host, "webstack-backup end-scratch", "a go-live was cut off in the middle")
    assert met > 10
    assert sql(host, "SELECT id FROM proof.t").split() == ["1", "2", "3", "4", "5"]
    assert ran(host, f"cat {FOLDER}/media/one") == "one"
    log, data = kept(said)
    assert host.file(f"{data}/proof/t.ibd").exists and host.file(f"{log}/line").exists
