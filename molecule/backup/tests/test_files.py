"""Folders beside the database: saved with it and between fulls, and fetched as they were at a moment."""

import json
import shlex

import pytest
from copies import FOLDER, FULL, LOCKS, PASSPHRASE, RESTIC, by_restic, fulls, on_one, ran, refused

FETCHED = f"/var/lib/webstack-scratch/restore/files{FOLDER}"
SAVE = "webstack-backup files"


def moment(host, name):
    """A mark, so that the ledger knows its time."""
    ran(host, f"webstack-backup mark {name}")
    return name


@by_restic
def test_files_of_a_moment(host, has_full, uploads):
    """What was saved last before it is fetched, with owners and modes; one path alone if that is asked for."""
    assert f"of {FOLDER}: " in ran(host, SAVE)
    first = moment(host, "one-file")
    ran(host, f"echo changed > {FOLDER}/media/one; echo two > {FOLDER}/media/two")
    ran(host, "systemctl start webstack-backup-files.service")  # in its sandbox
    said = ran(host, f"webstack-backup restore --to {first}")
    assert (
        "2 files, saved at " in said and " s before that moment, lie in /var/lib/webstack-scratch/restore/files" in said
    )
    assert sorted(ran(host, f"cd {FETCHED}/media && stat --format '%n %U %G %a' *").splitlines()) == [
        "link shop shop 777", "odd [o]*?.txt shop shop 644", "one shop shop 640"
    ]  # fmt: skip
    assert ran(host, f"cat {FETCHED}/media/one; readlink {FETCHED}/media/link").split() == ["one", "one"]
    assert host.file("/var/lib/webstack-scratch/restore/files").mode == 0o700
    ran(host, "webstack-backup end-scratch")
    ran(host, f"webstack-backup restore --to latest --files '{FOLDER}/media/odd [o]*?.txt'")
    assert ran(host, f"ls {FETCHED}/media; cat {FETCHED}/media/odd*").splitlines() == ["odd [o]*?.txt", "odd"]


@by_restic
def test_with_a_full_backup(host, uploads):
    """Its own files belong to it, whatever is saved later; where they cannot be saved, it does not count, and says so at once."""
    assert "saved 2 files" in ran(host, FULL)
    ran(host, f"echo two > {FOLDER}/media/two")
    ran(host, SAVE)
    assert "2 files, saved at " in ran(host, "webstack-backup restore --to full")
    assert not host.file(f"{FETCHED}/media/two").exists
    ran(host, f"mount -t tmpfs none {FOLDER}")  # empty, as the folder below a disk is
    before = fulls(host)
    try:
        refused(host, FULL, f"{FOLDER} has been saved before, and is empty now: is its disk mounted")
        assert "FAILED at" in host.run("webstack-backup status").stdout
        assert host.run("webstack-backup status").rc == 1
    finally:
        ran(host, f"umount {FOLDER}")
    assert fulls(host) == before
    ran(host, SAVE)
    assert "FAILED" not in host.run("webstack-backup status").stdout


@by_restic
def test_files_that_come_and_go(host, has_full, uploads):
    """What is removed while restic reads is not missing. It looks at the last one only when it has read some of the large ones."""
    ran(host, f"cd {FOLDER}/media; truncate --size=200M large-1 large-2 large-3 large-4 large-5 large-6; echo z > z")
    gone = f"until {LOCKS} | grep -q .; do :; done; sleep 0.3; rm {FOLDER}/media/z"
    ran(host, f"systemd-run --unit=going --collect timeout 60 sh -c {shlex.quote(gone)}")
    assert "saved 8 files" in ran(host, SAVE)
    assert not host.file(f"{FOLDER}/media/z").exists


@pytest.mark.thorough
@on_one
def test_saves_that_the_rule_does_not_keep(host, uploads):
    """Go with their folders; that of a full that stays is kept."""
    ran(host, FULL)
    for _turn in range(2):
        ran(host, SAVE)
    settings = "/etc/webstack-backup/full.json"
    ran(host, f"cp -a {settings} /root/kept")
    try:
        found = {**json.loads(ran(host, f"cat {settings}")), "keep": {"last": 2}}
        ran(host, f"echo {shlex.quote(json.dumps(found))} > {settings}")
        ran(host, FULL)
    finally:
        ran(host, f"cp -a /root/kept {settings}")
    marks = json.loads(ran(host, f"{RESTIC} snapshots --json --tag files"))
    assert len(marks) == 3  # of the two fulls, and the newest but one
    said = ran(host, "webstack-backup restore --to full")
    assert "2 files, saved at " in said


@by_restic
def test_the_emergency_sheet(host, has_full, uploads):
    """Its own commands fetch what was saved last."""
    for text in ("first", "second"):
        ran(host, f"echo {text} > {FOLDER}/media/one && {SAVE}")
    sheet = ran(host, "webstack-backup sheet")
    steps = [sheet.partition("\n1. ")[2].partition("\n2. ")[0], sheet.partition("THE FILES BESIDE")[2]]
    commands = [line.removeprefix("$ ") for line in "\n".join(steps).splitlines() if line.startswith("$ ")]
    ran(host, f"cp {PASSPHRASE} /root/passphrase")
    try:
        ran(host, f"bash -c {shlex.quote(chr(10).join(['set -e', *commands]))}")
        assert ran(host, f"cat /var/lib/restored/files{FOLDER}/media/one") == "second"
    finally:
        ran(host, "rm -rf /var/lib/restored /root/passphrase")
