"""Restores that are tried before they are needed, and the repository read bit by bit; status says what they found."""

import json

import pytest
from copies import REPOSITORY, by_restic, log_folder, on_one, position, ran, refused, sql

DRILL = "webstack-backup drill"
# All of the repository at once: a small one has nothing in most of the seven parts.
CHECK_ALL = """python3 -I -c 'import sys; sys.path.insert(0, "/usr/local/lib/webstack")
from webstack_backup import cli, drill
drill.PARTS, drill.part = 1, lambda: 1
sys.exit(cli.main(["check"]))'"""
PROVEN = "/var/lib/webstack-backup/drill.json"
CHECKED = "/var/lib/webstack-backup/check.json"


def status(host):
    """What of it is about copies; shipping has its own tests."""
    return host.run("webstack-backup status").stdout


def fault(host, name):
    said = [line for line in status(host).splitlines() if line.startswith(name)]
    assert len(said) == 1, said
    return said[0]


def test_a_drill(host, uploads, written):
    """By its unit, in its sandbox; the live server and a restored one beside it stay as they are, and nothing of it is left."""
    here = position(host)
    ran(host, "webstack-backup files")
    ran(host, "systemctl start webstack-drill.service")
    proven = json.loads(ran(host, f"cat {PROVEN}"))
    assert proven["position"] == here
    assert proven["files"] == 2
    assert proven["holds"] in fault(host, "Last proven restore") and "FAILED" not in fault(host, "Last proven restore")
    assert not host.file("/var/lib/webstack-scratch/drill-server").exists
    assert host.run(
        "systemctl is-active webstack-drill webstack-drill.timer webstack-backup-check.timer"
    ).stdout.split() == [
        "inactive",
        "active",
        "active",
    ]


@pytest.mark.thorough
@on_one
def test_a_drill_that_fails(host, written):
    """Is an alarm at once; what was proven before still stands there."""
    ran(host, DRILL)
    proven = json.loads(ran(host, f"cat {PROVEN}"))
    sql(host, "FLUSH BINARY LOGS")
    middle = sql(host, "SHOW BINARY LOGS").splitlines()[-2].split()[0]
    ran(host, f"mv {log_folder(host)}/{middle} /root/kept")
    try:
        refused(host, DRILL, f"{middle} is missing between")
    finally:
        ran(host, f"mv /root/kept {log_folder(host)}/{middle}")
    said = fault(host, "Last proven restore")
    assert proven["holds"] in said and "FAILED at " in said and f"{middle} is missing" in said
    assert host.run("webstack-backup status").rc == 1
    ran(host, DRILL)
    assert "FAILED" not in fault(host, "Last proven restore")


@by_restic
def test_a_flipped_byte_is_found_within_a_week(host, has_full):
    ran(host, "systemctl start webstack-backup-check.service")
    assert "is whole" in fault(host, "Repository") and "FAILED" not in fault(host, "Repository")
    ran(host, f"cp -a {REPOSITORY} /root/repository; chmod -R u+w {REPOSITORY}/data")
    flip = "import sys\nfor p in sys.argv[1:]:\n f = open(p, 'r+b'); f.seek(2000); b = f.read(1); f.seek(2000); f.write(bytes([b[0] ^ 1]))"
    try:
        assert host.run(f"find {REPOSITORY}/data -type f -size +8k -exec python3 -c %s {{}} +", flip).rc == 0
        refused(host, CHECK_ALL, "restic check failed")
        assert "FAILED at" in fault(host, "Repository")
    finally:
        ran(host, f"rm -rf {REPOSITORY} && mv /root/repository {REPOSITORY}")
    ran(host, "webstack-backup check")


@on_one
def test_a_full_counts_only_where_the_repository_has_it(host, has_full):
    said = fault(host, "Full backups")
    assert "the newest is 0 h old" in said and ";" not in said
    ran(host, f"mv {REPOSITORY} /root/repository")
    try:
        assert f"there is no repository at {REPOSITORY}" in fault(host, "Full backups")
        assert host.run("webstack-backup status").rc == 1
    finally:
        ran(host, f"mv /root/repository {REPOSITORY}")
    path = f"{log_folder(host)}/line"
    ran(host, f"cp -a {path} /root/line; echo 20200101T000000Z-aaaaaa > {path}")
    try:
        assert "the server has begun another log since" in fault(host, "Full backups")
    finally:
        ran(host, f"mv /root/line {path}")
