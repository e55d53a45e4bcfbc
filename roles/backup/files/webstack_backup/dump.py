"""One database, or one of its tables, out of the restored server into a file, to look at or to load."""

from __future__ import annotations

import os

from . import restored
from .basics import STATE, Refused, run
from .restore import NAME, scratch
from .scratch import alone, counted, private
from .vendor import Vendor, connect, installed

DUMPS = STATE / "dumps"
SECONDS = 6 * 3600


def dump(only: str) -> list[str]:
    """`only` is DATABASE or DATABASE.TABLE; returns what an operator reads of it."""
    with alone(NAME):
        vendor, found = installed(), restored.read()
        instance = scratch(vendor)
        if not found or not instance.runs():
            raise Refused("there is no restored server to take it from: webstack-backup restore makes one")
        with connect(instance.socket) as cursor:
            tables = counted(cursor)
        database, _dot, table = only.partition(".")
        there = tables.get(database, {})
        if not there or (table and table not in there):
            known = ", ".join(f"{database}.{name}" for name in there) or ", ".join(tables) or "none"
            raise Refused(f"{only!r} is not in the restored server, as of {found.position}. There are: {known}")
        names = [database, table] if table else [database]
        DUMPS.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = DUMPS / f"{only.replace('/', '_')}-{found.position.replace(':', '-')}.sql"
        part = path.with_suffix(".part")
        try:
            with open(part, "w", encoding="utf-8", opener=private) as file:
                run(
                    [*program(vendor, whole=not table), f"--socket={instance.socket}", "--", *names],
                    seconds=SECONDS,
                    stdout=file,
                )
                os.fsync(file.fileno())
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        rows = there[table][0] if table else sum(count for count, _checksum in there.values())
        return [
            f"{rows:,} rows of {only} as of {found.position} are in {path}, which root alone reads",
            f"to load it: {vendor.client} --max-allowed-packet=1G DATABASE < {path}, which replaces the tables that it holds",
        ]


def program(vendor: Vendor, *, whole: bool) -> list[str]:
    """The vendor's, without the socket and what is dumped. `whole`: a database has routines and events, too."""
    name, more = ("mysqldump", ["--set-gtid-purged=OFF"]) if vendor.name == "mysql" else ("mariadb-dump", [])
    return [
        name, "--no-defaults", "--user=root", "--single-transaction", "--hex-blob", "--triggers", "--max-allowed-packet=1G",
        "--default-character-set=utf8mb4", *more, *(["--routines", "--events"] if whole else []),
    ]  # fmt: skip
