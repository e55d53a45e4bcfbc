"""The emergency sheet: what is where, and how to restore it with restic and the vendor's programs alone. It holds no secret."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

from . import dump, minute
from .basics import SOCKET, config
from .full import AT_TARGET, MANIFEST, declared, repository
from .ledger import FOLDER
from .lines import LOG
from .repository import OWN, PASSPHRASE, passphrase
from .restore import COPY, live_log
from .scratch import data_options, program
from .target import name_of
from .vendor import connect, installed

TEXT = """\
EMERGENCY SHEET of {host}, printed {today}
Keep it where neither a fire nor a thief of this host reaches it. It holds no secret.

WHAT IS WHERE
  server          {server}
  full backups    {repository}, a repository of restic
  passphrase      {passphrase}
  keys of a store {environment}
  binary log      {log} on this host{shipped}

HOW TO RESTORE WITHOUT THIS PROJECT
As root of any Debian with restic and the same or a newer {title}; the programs of another vendor do not read it.
The lines that begin with $ are commands of bash, in their order. Nothing of a server that runs there is touched.

1. Where the backups are, and a place with room for the data:
$ export RESTIC_REPOSITORY={address}
$ export RESTIC_PASSWORD_FILE=/root/passphrase   # a file with the passphrase
$ PLACE=/var/lib/restored; mkdir --mode=0711 "$PLACE"

2. The newest full backup that is whole: its manifest is saved last, and names its data, its line and its position.
$ restic dump --tag full --host {host} latest {manifest} > "$PLACE/manifest.json"
$ told() {{ python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$PLACE/manifest.json" "$1"; }}

3. The log since then, from the manifest's file on. It must be of the manifest's line, and no number may be missing.
   Where there is none, steps 4 and 6 bring the full backup back alone.
   {copied}
$ LOG=${{LOG:-{log}}}; POSITION=$(told position)
$ set -- $(ls "$LOG" | grep -E '^binlog\\.[0-9]+$' | sort | sed -n "/^${{POSITION%:*}}$/,\\$p"); echo "$@"
$ whole() {{
$   local of last=${{@: -1}}; of=$({line} 2> /dev/null || basename "$LOG")
$   test "$of" = "$(told line)" || {{ echo "the log in $LOG is of the line $of, the full backup is of $(told line)"; return 1; }}
$   test $# -gt 0 || {{ echo "$LOG does not have ${{POSITION%:*}}, in which the full backup begins"; return 1; }}
$   test $((10#${{last##*.}} - 10#${{1##*.}})) -eq $(($# - 1)) || {{ echo "a number is missing; what follows it must not be replayed"; return 1; }}
$ }}
$ whole "$@"

4. A server of its own on the full backup, without network:
$ restic restore "$(told data)" --target "$PLACE"
$ DATA=$PLACE{copy}/data; chown -R mysql: "$PLACE"
$ setpriv --reuid=mysql --regid=mysql --init-groups {start} --datadir="$DATA" --socket="$PLACE/socket" > "$PLACE/errors" 2>&1 &
$ until {client} --socket="$PLACE/socket" -e 'SELECT 1' > /dev/null 2>&1 || ! kill -0 $!; do sleep 1; done

5. The log into it. A last file that ends in the middle of an event ends this with an error, after all that was whole.
$ into() {{ {client} --socket="$PLACE/socket" --binary-mode --max-allowed-packet=1G; }}
$ replay() {{ whole "$@" && (set -o pipefail; cd "$LOG" && {binlog} --disable-log-bin --start-position="${{POSITION##*:}}" "$@" | into); }}
$ replay "$@"

6. Look at it, and take out what is needed, all of it or one database:
$ {client} --socket="$PLACE/socket" -e 'SHOW DATABASES'
   {dump} --socket="$PLACE/socket" NAME > NAME.sql

THE FILES BESIDE THE DATABASE
As they were saved last, with the numbers of their owners, after step 1:
$ newest() {{ python3 -c 'import json, sys; all = json.load(sys.stdin); print(max(all, key=lambda one: one["time"])["tags"] if all else "none")'; }}
$ FILES=$(set -o pipefail; restic snapshots --json --tag files --host {host} | newest | grep --only-matching -E 'data-[0-9a-f]+|^none$')
$ case "$FILES" in
$   none) echo "of {host} no files were ever saved here";;
$   data-*) restic restore "${{FILES#data-}}" --target "$PLACE/files";;
$ esac
"""


def sheet() -> list[str]:
    """The sheet of this host, as it is set up now."""
    store, vendor, target = repository(), installed(), config()["target"]
    found = live_log()
    log = str(found[0]) if found else "/var/lib/mysql-binlog"
    # Where the log lies with the data, its line is told beside it.
    lines = [('"$LOG/line"', Path(log) / "line"), (str(FOLDER / "line"), FOLDER / "line")]
    with connect(SOCKET) as cursor:
        options = data_options(cursor)
    words = TEXT.format(
        host=store.host,
        today=f"{datetime.now(UTC):%Y-%m-%d}",
        server=f"{vendor.title} {vendor.version()}",
        title=vendor.title,
        repository=store.name,
        # The target is where this host's own key cannot be used: its disk, or a copy of it.
        address="/srv/webstack-backup/HOST/restic   # at the target, or a copy; HOST is this host's name in archive_hosts there"
        if declared()["repository"] == AT_TARGET
        else shlex.quote(store.name),
        passphrase=f"backup_passphrase in the inventory's vault, and {PASSPHRASE} on this host"
        if passphrase() == PASSPHRASE
        else f"{OWN} on this host alone: write it down, and keep it apart from this sheet",
        environment=", ".join(declared().get("environment") or {}) or "none",
        log=log,
        line=next((f"cat {path}" for path, file in lines if file.exists()), "true"),
        shipped=f", and at {name_of(target)} in /srv/webstack-backup/*/log/<line>/"
        if target
        else ", and each minute in that repository"
        if minute.is_elsewhere()
        else " alone",
        copied="Of this host, or what the target has: copy its folder, with its name, and say LOG=the folder."
        if target
        # The file that names the line is in that snapshot, too.
        else "Of this host, or what the repository has: "
        f'restic restore --tag "{minute.TAG},$(told line)" --host {store.host} latest --target "$PLACE"; LOG=$PLACE{LOG}'
        if minute.is_elsewhere()
        else "Of this host, or LOG=the folder, if it is not its own.",
        manifest=MANIFEST,
        copy=COPY,
        start=shlex.join(program(vendor, options)),
        client=f"{vendor.client} --user=root",
        binlog=vendor.binlog,
        dump=shlex.join(dump.program(vendor, whole=True)),
    )
    return words.splitlines()
