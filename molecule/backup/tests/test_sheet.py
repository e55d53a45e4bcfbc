"""The emergency sheet: its own commands restore what was written, without webstack-backup."""

import re
import shlex

from copies import PASSPHRASE, client, on_one, ran, sql

PLACE = "/var/lib/restored"


def by_its_commands(host, *before, name=""):
    """One shell takes them in their order, as who reads the sheet would; the passphrase is where the sheet asks for it."""
    sheet = ran(host, "webstack-backup sheet")
    secret = ran(host, f"cat {PASSPHRASE}")
    assert secret not in sheet and "backup_passphrase in the inventory's vault" in sheet
    sheet = re.sub("^.*what the repository has: ", "$ ", sheet.replace("HOST", name), flags=re.MULTILINE)
    commands = [line.removeprefix("$ ") for line in sheet.splitlines() if line.startswith("$ ")]
    look = f"{client(host)} --user=root --socket={PLACE}/socket -N -B -e 'SELECT id FROM proof.t; SELECT * FROM proof.late'"
    ends = """trap 'test -z "$!" || { kill $!; wait; }' EXIT"""
    script = "\n".join(["set -e", ends, *before, *commands, look])
    ran(host, f"cp {PASSPHRASE} /root/passphrase")
    try:
        done = host.run(f"bash -mc {shlex.quote(script)}")
    finally:
        ran(host, f"rm -rf {PLACE} /root/passphrase")
    left = host.run("cat /proc/[0-9]*/cmdline 2> /dev/null | grep --count --text -e '--datadir=[/]var/lib/restored'")
    assert left.stdout.strip() == "0"  # no server is left behind
    return done


def test_its_commands_restore_all_rows(host, uploads, backed_up):
    sql(host, "INSERT INTO proof.t VALUES (4, 'after, too')")
    # A row that is longer than the vendor's own limit for one.
    sql(host, "CREATE TABLE proof.big (b LONGBLOB); INSERT INTO proof.big VALUES (REPEAT(RANDOM_BYTES(1024), 20480))")
    said = by_its_commands(host)
    assert said.rc == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[-5:] == ["1", "2", "3", "4", "1"] and "proof" in said.stdout.split()


@on_one
def test_a_log_that_does_not_belong_to_the_backup(host, backed_up):
    """It ends before anything is restored."""
    sql(host, "FLUSH BINARY LOGS")
    log = ran(host, "cat /var/lib/mysql-binlog/line")
    for files, words in (
        ("", "is of the line copy, the full backup is of " + log),
        ("echo 20200101T000000Z-aaaaaa > /root/copy/line", "is of the line 20200101T000000Z-aaaaaa"),
        ("cp /var/lib/mysql-binlog/line /root/copy", "/root/copy does not have binlog."),
        (
            "cp /var/lib/mysql-binlog/* /root/copy; rm $(ls /root/copy/binlog.*[0-9] | tail -n 2 | head -n 1)",
            "a number is missing",
        ),
    ):
        ran(host, f"rm -rf /root/copy; mkdir /root/copy; {files}")
        said = by_its_commands(host, "export LOG=/root/copy")
        assert said.rc == 1 and words in said.stdout and "restoring" not in said.stdout, said.stdout + said.stderr
    ran(host, "rm -rf /root/copy")
