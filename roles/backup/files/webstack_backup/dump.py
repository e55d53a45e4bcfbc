"""One database, or one of its tables, out of the restored server into a file, to look at or to load."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from . import restored
from .basics import STATE, Refused, run
from .restore import NAME, scratch
from .scratch import alone, counted, private
from .vendor import SYSTEM, Vendor, ask, connect, installed

DUMPS = STATE / "dumps"
SECONDS = 6 * 3600


def dump(only: str, *, files: bool) -> list[str]:
    """`only` is DATABASE or DATABASE.TABLE, `files` those beside it that were restored; returns what an operator reads of it."""
    with alone(NAME):
        vendor, found = installed(), restored.read()
        instance = scratch(vendor)
        if not found or not instance.runs():
            raise Refused("there is no restored server to take it from: webstack-backup restore makes one")
        with connect(instance.socket) as cursor:
            tables, there = counted(cursor), known(cursor)
        names = named(only, there, found.position)
        DUMPS.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = DUMPS / f"{only.replace('/', '_')}-{found.position.replace(':', '-')}.sql"
        part = path.with_suffix(".part")
        try:
            with open(part, "w", encoding="utf-8", opener=private) as file:
                run(
                    [*program(vendor, whole=len(names) == 1), f"--socket={instance.socket}", "--", *names],
                    seconds=SECONDS,
                    stdout=file,
                )
                os.fsync(file.fileno())
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        rows = sum(
            count
            for table, (count, _checksum) in tables.get(names[0], {}).items()
            if table in names[1:] or len(names) == 1
        )
        return [
            f"{rows:,} rows of {only} as of {found.position} are in {path}, which root alone reads",
            f"to load it: {vendor.client} --max-allowed-packet=1G DATABASE < {shlex.quote(str(path))}, which replaces the tables that it holds",
            *(_files_beside(path) if files and restored.FILES.exists() else []),
        ]


def _files_beside(path: Path) -> list[str]:
    """Out of the folder that goes with the restored server."""
    kept = path.with_suffix(".files")
    if kept.exists():  # of the same moment
        shutil.rmtree(kept)
    run(["mv", str(restored.FILES), str(kept)], seconds=SECONDS)  # also into another file system, with owners and modes
    return [f"the files are in {kept}, with their owners and modes"]


def known(cursor: Any) -> dict[str, list[str]]:
    """Tables and views of each database; one may have neither, and routines or events alone."""
    found: dict[str, list[str]] = {name: [] for (name,) in ask(cursor, "SHOW DATABASES") if name not in SYSTEM}
    for database, table in ask(cursor, "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1, 2"):
        if database in found:
            found[database].append(table)
    return found


def named(only: str, there: dict[str, list[str]], position: str) -> list[str]:
    """The database, or database and table, that is meant. Both may have dots in their names."""
    found = [[database] for database in there if database == only]
    found += [[database, table] for database in there for table in there[database] if f"{database}.{table}" == only]
    if not found:
        inside = [
            f"{one}.{table}" for one in there if only == one or only.startswith(f"{one}.") for table in there[one]
        ]
        raise Refused(
            f"{only!r} is not in the restored server, as of {position}. There are: {', '.join(inside or there) or 'none'}"
        )
    if len(found) > 1:
        words = " and ".join(
            f"the table {one[1]} of {one[0]}" if one[1:] else f"the database {one[0]}" for one in found
        )
        raise Refused(f"{only!r} is {words}: take out the whole database that holds the one that is meant")
    return found[0]


def program(vendor: Vendor, *, whole: bool) -> list[str]:
    """The vendor's, without the socket and what is dumped. `whole`: a database has routines and events, too."""
    name, more = ("mysqldump", ["--set-gtid-purged=OFF"]) if vendor.name == "mysql" else ("mariadb-dump", [])
    return [
        name, "--no-defaults", "--user=root", "--single-transaction", "--hex-blob", "--triggers", "--max-allowed-packet=1G",
        "--default-character-set=utf8mb4", *more, *(["--routines", "--events"] if whole else []),
    ]  # fmt: skip
