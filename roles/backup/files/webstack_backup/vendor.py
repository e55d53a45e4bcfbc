"""What differs between MariaDB and MySQL."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .basics import Refused, run

SERVER_CONFIG = "/etc/mysql/webstack.cnf"
COPY_SECONDS = 6 * 3600
CLONE = Path("/var/lib/mysql-files/webstack-clone")  # the only place that the server's sandbox lets it write a copy to
SYSTEM = ("information_schema", "mysql", "performance_schema", "sys")


@dataclass(frozen=True)
class Position:
    """A place in the binary log."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"

    @property
    def key(self) -> tuple[int, int]:
        """In the order of the log."""
        return number(self.file), self.offset

    @classmethod
    def read(cls, text: str) -> Position:
        file, _colon, offset = text.rpartition(":")
        if not re.fullmatch(r"[\w-]+\.\d+", file) or not offset.isdecimal():
            raise Refused(f"{text!r} is no position: binlog.000012:4711 is one")
        return cls(file, int(offset))


def number(file: str) -> int:
    """Of a file of the log: 12 of binlog.000012."""
    return int(file.rpartition(".")[2])


@dataclass(frozen=True)
class Vendor:
    name: str
    title: str
    server: str
    client: str
    binlog: str
    scratch: tuple[str, ...]  # options of a scratch instance

    def version(self) -> str:
        """Of the server that is installed."""
        found = re.search(r"Ver (\d+\.\d+\.\d+)", run([self.server, "--no-defaults", "--version"], seconds=60))
        if not found:
            raise Refused(f"{self.server} does not say its version")
        return found[1]

    def copy(self, socket: Path, folder: Path) -> None:
        """Copies the data of the running server to `folder`, which must not exist, without a pause for writers."""
        if self.name == "mysql":
            self._clone(socket, folder)
            return
        # With its default, a second, all commits wait up to a second at the copy's end: 1,007 ms measured, 36 ms with 50.
        copy = [
            "mariadb-backup",
            f"--defaults-file={SERVER_CONFIG}",
            "--backup",
            "--log-copy-interval=50",
            "--user=root",
        ]
        run([*copy, f"--socket={socket}", f"--target-dir={folder}"], seconds=COPY_SECONDS)
        run(
            ["mariadb-backup", "--prepare", "--use-memory=128M", f"--target-dir={folder}"],
            seconds=COPY_SECONDS,
        )

    @property
    def writes_to(self) -> Path | None:
        """Where it writes the copy first, if not where it is wanted."""
        return CLONE.parent if self.name == "mysql" else None

    def clear(self) -> None:
        """Removes what a run that was killed has left there."""
        shutil.rmtree(CLONE, ignore_errors=True)

    def _clone(self, socket: Path, folder: Path) -> None:
        with connect(socket) as cursor:
            marks = ", ".join(["%s"] * len(SYSTEM))
            found = ask(
                cursor,
                "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
                f" AND engine <> 'InnoDB' AND table_schema NOT IN ({marks}) ORDER BY 1",
                *SYSTEM,
            )
            if found:
                names = ", ".join(str(name) for (name,) in found[:10])
                raise Refused(f"MySQL copies tables of the engine InnoDB only, and would leave these out: {names}")
            plugins = "SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'clone'"
            if ask(cursor, plugins) != ((("ACTIVE"),),):
                cursor.execute("INSTALL PLUGIN clone SONAME 'mysql_clone.so'")
            try:
                cursor.execute("CLONE LOCAL DATA DIRECTORY = %s", (str(CLONE),))
                shutil.move(CLONE, folder)
            except BaseException:  # the server would go on writing
                with contextlib.suppress(Refused), connect(socket) as other:
                    thread = cursor.connection.thread_id()
                    other.execute("KILL %s", (thread,))
                    deadline = time.monotonic() + 30
                    while ask(other, "SELECT 1 FROM performance_schema.processlist WHERE id = %s", thread):
                        if time.monotonic() > deadline:
                            break
                        time.sleep(0.1)
                raise
            finally:
                self.clear()

    def position(self, folder: Path, cursor: Any) -> tuple[Position, str]:
        """Position and GTIDs of a fresh copy in `folder`, which a scratch instance has been started on."""
        if self.name == "mysql":
            # The server that was copied from does not know it: only one that runs on the copy does.
            clone = "SELECT binlog_file, binlog_position, gtid_executed FROM performance_schema.clone_status"
            rows = ask(cursor, clone)
            if len(rows) != 1 or not rows[0][0]:
                raise Refused("the copy does not say which position in the binary log it belongs to")
            file, offset, gtid = rows[0]
            return Position(Path(file).name, int(offset)), re.sub(r"\s", "", gtid or "")
        for path in folder.glob("*_binlog_info"):  # the name's first half is another one in each series
            words = path.read_text(encoding="utf-8").split()
            return Position(Path(words[0]).name, int(words[1])), words[2] if len(words) > 2 else ""
        raise Refused("the copy does not say which position in the binary log it belongs to: is log_bin off?")


MARIADB = Vendor("mariadb", "MariaDB", "/usr/sbin/mariadbd", "mariadb", "mariadb-binlog", ("--skip-slave-start",))
MYSQL = Vendor(
    "mysql", "MySQL", "/usr/sbin/mysqld", "mysql", "mysqlbinlog",
    ("--skip-replica-start", "--mysqlx=OFF", "--persisted-globals-load=OFF"),
)  # fmt: skip


def installed() -> Vendor:
    """The vendor whose server this host has."""
    for vendor in (MARIADB, MYSQL):  # Debian's MariaDB has a link of the name mysqld, too
        if Path(vendor.server).exists():
            return vendor
    raise Refused("this host has neither MariaDB nor MySQL: role mysql installs it")


@contextlib.contextmanager
def connect(socket: Path) -> Iterator[Any]:
    """A cursor of root at the server behind `socket`."""
    import pymysql  # Debian's python3-pymysql; not needed to judge a chain of log files

    try:
        connection = pymysql.connect(
            unix_socket=str(socket), user="root", charset="utf8mb4", autocommit=True, connect_timeout=60
        )
    except pymysql.MySQLError as error:
        raise Refused(f"the server behind {socket} does not answer: {error.args[-1]}") from error
    with connection, connection.cursor() as cursor:
        try:
            yield cursor
        except pymysql.MySQLError as error:
            raise Refused(f"the server behind {socket} says: {error.args[-1]}") from error


def ask(cursor: Any, query: str, *values: Any) -> tuple[tuple[Any, ...], ...]:
    cursor.execute(query, values or None)
    return tuple(cursor.fetchall())


def log_position(cursor: Any) -> Position:
    """Where the running server writes now."""
    import pymysql

    try:
        cursor.execute("SHOW BINARY LOG STATUS")  # MySQL 8.2, MariaDB has it as SHOW BINLOG STATUS
    except pymysql.MySQLError:
        cursor.execute("SHOW MASTER STATUS")
    found = cursor.fetchone()
    if not found:
        raise Refused("the server has no binary log: role mysql turns it on")
    return Position(found[0], int(found[1]))
