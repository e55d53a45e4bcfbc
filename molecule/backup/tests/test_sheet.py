"""The emergency sheet: its own commands restore what was written, without webstack-backup."""

import shlex

from copies import PASSPHRASE, client, ran, sql

PLACE = "/var/lib/restored"


def test_its_commands_restore_all_rows(host, uploads, backed_up):
    """One shell takes them in their order, as who reads the sheet would; the passphrase is where the sheet asks for it."""
    sheet = ran(host, "webstack-backup sheet")
    secret = ran(host, f"cat {PASSPHRASE}")
    assert secret not in sheet and "backup_passphrase in the inventory's vault" in sheet
    sql(host, "INSERT INTO proof.t VALUES (4, 'after, too')")
    # A row that is longer than the vendor's own limit for one.
    sql(host, "CREATE TABLE proof.big (b LONGBLOB); INSERT INTO proof.big VALUES (REPEAT(RANDOM_BYTES(1024), 20480))")
    commands = [line.removeprefix("$ ") for line in sheet.splitlines() if line.startswith("$ ")]
    look = f"{client(host)} --user=root --socket={PLACE}/socket -N -B -e 'SELECT id FROM proof.t; SELECT * FROM proof.late'"
    script = "\n".join(["set -e", *commands, look, "kill %1; wait"])
    ran(host, f"cp {PASSPHRASE} /root/passphrase")
    try:
        said = ran(host, f"bash -mc {shlex.quote(script)}")
        assert said.splitlines()[-5:] == ["1", "2", "3", "4", "1"], said
        assert "proof" in said.split()
    finally:
        ran(host, f"rm -rf {PLACE} /root/passphrase")
