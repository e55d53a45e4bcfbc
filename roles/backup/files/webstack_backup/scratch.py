"""A server of its own on a copy of the data: no network, no log, no events, nothing of the live server's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .basics import Refused, now, run
from .repository import in_bytes
from .state import low
from .vendor import SYSTEM, Vendor, ask

# Of all users who may look in, only the server's needs to pass: /var/lib/webstack-backup is closed to it.
PLACE = Path("/var/lib/webstack-scratch")
START_SECONDS = 3600  # it may have to go through a large redo log
STOP_SECONDS = 900
SPACE_SECONDS = 6 * 3600  # for which what takes room waits for another that does
# What the data files themselves depend on: with other values the server does not start on them, or does not find tables.
OPTIONS = ("innodb_page_size", "innodb_data_file_path", "lower_case_table_names")
# What a statement of the log depends on that does not say it. A newer server may not know them any more.
STATEMENTS = (
    "default_storage_engine",
    "innodb_default_row_format",
    "innodb_strict_mode",
    "sql_generate_invisible_primary_key",
)


@dataclass(frozen=True)
class Scratch:
    name: str  # names unit and socket
    vendor: Vendor
    folder: Path
    options: dict[str, Any]

    @property
    def unit(self) -> str:
        return f"webstack-{self.name}.service"

    @property
    def socket(self) -> Path:
        return Path(f"/run/webstack-{self.name}/mysqld.sock")

    def runs(self) -> bool:
        return is_running(self.unit)

    def start(self) -> None:
        run(["chown", "--recursive", "mysql:mysql", str(self.folder)], seconds=START_SECONDS)
        properties = (
            "User=mysql", f"RuntimeDirectory=webstack-{self.name}", f"ReadWritePaths={self.folder}",
            f"TimeoutStartSec={START_SECONDS}", f"TimeoutStopSec={STOP_SECONDS}", "MemoryHigh=1G", "Nice=10",
            "PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "ProtectSystem=strict", "ProtectHome=yes",
            "PrivateTmp=yes", "PrivateDevices=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "UMask=0077",
            "AppArmorProfile=-unconfined",  # the vendor's own profile knows the live server's folders only
        )  # fmt: skip
        server = [*program(self.vendor, self.options), f"--datadir={self.folder}", f"--socket={self.socket}"]
        try:
            run(
                ["systemd-run", "--quiet", "--collect", "--service-type=notify", f"--unit={self.unit}",
                 *(f"--property={setting}" for setting in properties), *server],
                seconds=START_SECONDS + 60,
            )  # fmt: skip
        except BaseException as error:
            self.stop()
            if not isinstance(error, Refused):
                raise
            said = run(["journalctl", "--no-pager", "--output=cat", "--lines=15", f"--unit={self.unit}"], seconds=60)
            raise Refused(f"no server starts on the copy in {self.folder}:\n{said.strip()}") from error

    def stop(self) -> None:
        if self.runs():
            run(["systemctl", "stop", self.unit], seconds=STOP_SECONDS + 60)

    def __enter__(self) -> Scratch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def program(vendor: Vendor, options: dict[str, Any]) -> list[str]:
    """A server on a copy, without its folder and socket. The live one takes rows of up to 1 GB, so this one has to."""
    return [
        vendor.server, "--no-defaults", "--skip-networking", "--skip-log-bin", "--event-scheduler=OFF",
        "--innodb-buffer-pool-size=128M", "--innodb-flush-log-at-trx-commit=2", "--max-allowed-packet=1G", *vendor.scratch,
        *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()),
    ]  # fmt: skip


def is_running(unit: str) -> bool:
    """Whether a unit has started and not ended."""
    state = run(["systemctl", "show", "--property=ActiveState", "--value", unit], seconds=60).strip()
    return state in ("active", "activating", "deactivating")


def fresh(name: str) -> Path:
    """An empty folder below PLACE, for a server to run on; what an earlier run has left there goes."""
    PLACE.mkdir(mode=0o711, exist_ok=True)
    folder = PLACE / name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o711)
    return folder


def data_options(cursor: Any) -> dict[str, Any]:
    """The live server's values of what a server on its data needs, and the plugins that an option has loaded there."""
    names = ", ".join(["%s"] * len(OPTIONS + STATEMENTS))
    found = ask(cursor, f"SHOW GLOBAL VARIABLES WHERE variable_name IN ({names})", *OPTIONS, *STATEMENTS)
    options = {("loose_" if name in STATEMENTS else "") + name: value for name, value in found}
    # Those that a statement has installed are known from mysql.plugin.
    libraries = ask(
        cursor,
        "SELECT DISTINCT plugin_library FROM information_schema.plugins WHERE plugin_status = 'ACTIVE' AND plugin_library <> ''"
        " AND plugin_type <> 'REPLICATION' AND plugin_library NOT IN (SELECT dl FROM mysql.plugin) ORDER BY 1",
    )
    return options | ({"plugin_load_add": ";".join(library for (library,) in libraries)} if libraries else {})


def counted(cursor: Any) -> dict[str, dict[str, list[int]]]:
    """Rows and checksum of each table, by database and table. Views and the server's own tables are left out."""
    marks = ", ".join(["%s"] * len(SYSTEM))
    tables = ask(
        cursor,
        "SELECT table_schema, table_name FROM information_schema.tables"
        f" WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE') AND table_schema NOT IN ({marks}) ORDER BY 1, 2",
        *SYSTEM,
    )
    found: dict[str, dict[str, list[int]]] = {}
    for database, table in tables:
        named = ".".join(f"`{word.replace('`', '``')}`" for word in (database, table))
        ((count,),) = ask(cursor, f"SELECT COUNT(*) FROM {named}")
        ((_table, checksum),) = ask(cursor, f"CHECKSUM TABLE {named}")
        if checksum is None:
            raise Refused(f"the table {database}.{table} cannot be read")
        found.setdefault(database, {})[table] = [int(count), int(checksum)]
    return found


def total(tables: dict[str, dict[str, list[int]]]) -> str:
    """In words: 2 databases, 17 tables, 123,456 rows."""
    number = sum(len(found) for found in tables.values())
    rows = sum(count for found in tables.values() for count, _checksum in found.values())
    return f"{len(tables)} databases, {number} tables, {rows:,} rows"


def alone(what: str) -> contextlib.AbstractContextManager[None]:
    """Refuses to begin while another process is at it."""
    return _locked(what, what, f"another {what} runs", 0)


def with_space(what: str, seconds: float = SPACE_SECONDS) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process writes a large copy: each judges what is free as if it was the only one."""
    return _locked("space", what, "another copy of the data is being written, and takes room", seconds)


@contextlib.contextmanager
def _locked(name: str, what: str, words: str, seconds: float) -> Iterator[None]:
    """The lock ends with its process, however that ends."""
    PLACE.mkdir(mode=0o711, exist_ok=True)
    deadline, told = time.monotonic() + seconds, False
    # Whoever can read it can hold it.
    with open(PLACE / f"{name}.lock", "a+", encoding="utf-8", opener=private) as handle:
        os.fchmod(handle.fileno(), 0o600)
        while not _flocked(handle.fileno()):
            handle.seek(0)
            held = f"{words}: {handle.read()}"
            if time.monotonic() >= deadline:
                raise Refused(held)
            if not told:
                print(f"waits: {held}", file=sys.stderr, flush=True)
            told = True
            time.sleep(1)
        handle.truncate(0)
        handle.write(f"pid {os.getpid()}, since {now()} ({what})")
        handle.flush()
        yield


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def private(path: str, flags: int) -> int:
    """An opener of files that root alone reads."""
    return os.open(path, flags, 0o600)


def room(folder: Path, needed: int, what: str) -> None:
    """Refuses to begin what `folder` has no room for, or what would leave too little for the log of the live server."""
    found = shutil.disk_usage(folder)
    if found.free < needed + low(found.total):
        raise Refused(
            f"{what} needs {in_bytes(needed)} in {folder}, {in_bytes(found.free)} are free,"
            f" and {in_bytes(low(found.total))} of that have to stay free: when the disk is full, every commit waits"
        )
