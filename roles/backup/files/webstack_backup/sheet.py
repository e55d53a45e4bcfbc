"""The emergency sheet: what is where, and how to restore it with restic and the vendor's programs alone. It holds no secret."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from . import dump, minute
from .basics import SOCKET, config
from .full import AT_TARGET, MANIFEST, declared, repository
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
The lines that begin with $ are commands of a shell, in their order. Nothing of a server that runs there is touched.

1. Where the backups are, and a place with room for the data:
$ export RESTIC_REPOSITORY={address}
$ export RESTIC_PASSWORD_FILE=/root/passphrase   # a file with the passphrase
$ PLACE=/var/lib/restored; mkdir --mode=0711 "$PLACE"

2. The newest full backup that is whole: its manifest is saved last, and names its data, its line and its position.
$ restic dump --tag full --host {host} latest {manifest} > "$PLACE/manifest.json"
$ told() {{ python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$PLACE/manifest.json" "$1"; }}
$ restic restore "$(told data)" --target "$PLACE"
$ DATA=$PLACE{copy}/data; chown -R mysql: "$PLACE"

3. A server of its own on it, without network:
$ setpriv --reuid=mysql --regid=mysql --init-groups {start} --datadir="$DATA" --socket="$PLACE/socket" > "$PLACE/errors" 2>&1 &
$ until {client} --socket="$PLACE/socket" -e 'SELECT 1' > /dev/null 2>&1; do sleep 1; done

4. The log since then, from the manifest's file on: of this host, or what the target has, copied into one folder ({copied}).
$ LOG=${{LOG:-{log}}}; POSITION=$(told position)
$ set -- $(ls "$LOG" | grep -E '^binlog\\.[0-9]+$' | sort | sed -n "/^${{POSITION%:*}}$/,\\$p"); echo "$@"
$ replay() {{ (set -o pipefail; cd "$LOG" && {binlog} --disable-log-bin --start-position="${{POSITION##*:}}" "$@" | into); }}
$ into() {{ {client} --socket="$PLACE/socket" --binary-mode --max-allowed-packet=1G; }}; replay "$@"
   Check the numbers that were printed: where one is missing, what comes after it does not belong to what was before. A last file
   that ends in the middle of an event ends this with an error, after all that was whole.

5. Look at it, and take out what is needed, all of it or one database:
$ {client} --socket="$PLACE/socket" -e 'SHOW DATABASES'
   {dump} --socket="$PLACE/socket" NAME > NAME.sql

THE FILES BESIDE THE DATABASE
As they were saved last, with the numbers of their owners, after step 1:
$ newest() {{ python3 -c 'import json, sys; print(max(json.load(sys.stdin), key=lambda one: one["time"])["tags"])'; }}
$ FILES=$(restic snapshots --json --tag files --host {host} | newest | grep --only-matching 'data-[0-9a-f]*')
$ restic restore "${{FILES#data-}}" --target "$PLACE/files"
"""


def sheet() -> list[str]:
    """The sheet of this host, as it is set up now."""
    store, vendor, target = repository(), installed(), config()["target"]
    found = live_log()
    log = str(found[0]) if found else "/var/lib/mysql-binlog"
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
        shipped=f", and at {name_of(target)} in /srv/webstack-backup/*/log/<line>/"
        if target
        else ", and each minute in that repository"
        if minute.is_elsewhere()
        else " alone",
        copied="LOG=the folder"
        if target
        else f'restic restore --tag "{minute.TAG},$(told line)" --host {store.host} latest --target "$PLACE"; LOG=$PLACE{LOG}'
        if minute.is_elsewhere()
        else "LOG=the folder, if it is not its own",
        manifest=MANIFEST,
        copy=COPY,
        start=shlex.join(program(vendor, options)),
        client=f"{vendor.client} --user=root",
        binlog=vendor.binlog,
        dump=shlex.join(dump.program(vendor, whole=True)),
    )
    return words.splitlines()
