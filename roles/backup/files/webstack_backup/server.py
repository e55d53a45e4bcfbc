"""What the streamer asks the database server, and the server's replication protocol; MariaDB and MySQL."""

from __future__ import annotations

import re
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pymysql

from . import events
from .basics import SOCKET, Refused

USER = "webstack-binlog"
# As a replica, the streamer needs a number that no server has: role mysql gives none that high.
SERVER_ID = 4294967231
REGISTERED_FOR_ACKNOWLEDGEMENT = 0xEF
DUMP = 0x12
ANNOTATIONS = 2  # MariaDB leaves these events out, unless told otherwise: the copy would have holes
HEARTBEAT = 10**9  # nanoseconds


def connect() -> Any:
    try:
        return pymysql.connect(
            unix_socket=str(SOCKET), user=USER, autocommit=True, charset="utf8mb4", connect_timeout=10, read_timeout=60
        )
    except pymysql.MySQLError as error:
        raise Refused(f"the database server does not let {USER} in: {said(error)}") from error


def said(error: Exception) -> str:
    return ": ".join(str(part) for part in error.args) or repr(error)


class Server:
    """Questions to the server, in a session of their own."""

    def __init__(self) -> None:
        self.connection = connect()
        self.is_mariadb = "MariaDB" in self.connection.get_server_info()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_what: object) -> None:
        self.connection.close()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise Refused(f"the database server: {said(error)}") from error

    def end_of_log(self) -> tuple[str, int]:
        """File and position, after the last transaction that is written."""
        found = self.rows("SHOW MASTER STATUS" if self.is_mariadb else "SHOW BINARY LOG STATUS")
        if not found:
            raise Refused("the database server writes no binary log")
        return found[0][0], int(found[0][1])

    def files(self) -> dict[str, int]:
        """The files of the log, the oldest first, with their sizes in bytes."""
        return {row[0]: int(row[1]) for row in self.rows("SHOW BINARY LOGS")}

    def has_events_from(self, file: str, position: int) -> bool:
        """Whether an event begins there, or the file ends."""
        try:
            found = self.rows(f"SHOW BINLOG EVENTS IN '{file}' FROM {position} LIMIT 1")
        except Refused as error:
            if "Error when executing command SHOW BINLOG EVENTS" in str(error):
                return False
            raise
        return not found or found[0][1] == position

    def expires(self) -> int:
        """Seconds after which the server itself removes a file of its log, whoever may need it; 0: it does not."""
        return int(self.rows("SHOW GLOBAL VARIABLES LIKE 'binlog_expire_logs_seconds'")[0][1])

    def acknowledgement(self) -> Acknowledgement:
        """How the server waits for what the target acknowledges."""
        status = dict(self.rows("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%'"))
        settings = dict(self.rows("SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%'"))
        who = "master" if self.is_mariadb else "source"
        return Acknowledgement(
            enabled=settings.get(f"rpl_semi_sync_{who}_enabled") == "ON",
            timeout_ms=int(settings.get(f"rpl_semi_sync_{who}_timeout", 0)),
            waits=status.get(f"Rpl_semi_sync_{who}_status") == "ON",
            readers=int(status.get(f"Rpl_semi_sync_{who}_clients", 0)),
            unprotected=int(status.get(f"Rpl_semi_sync_{who}_no_tx", 0)),
        )


@dataclass(frozen=True)
class Acknowledgement:
    enabled: bool
    timeout_ms: int  # after which a commit goes on without
    waits: bool  # for each commit now
    readers: int  # that could acknowledge
    unprotected: int  # commits since the server's start that were not acknowledged in time


class Dump:
    """The server's log from a position on, as a replica gets it. `acknowledges`: as a semi-synchronous one."""

    def __init__(self, file: str, position: int, *, acknowledges: bool) -> None:
        self.acknowledges = acknowledges
        self.connection = connect()
        is_mariadb = "MariaDB" in self.connection.get_server_info()
        begin = struct.pack("<IHI", position, ANNOTATIONS if is_mariadb else 0, SERVER_ID) + file.encode()
        try:
            with self.connection.cursor() as cursor:
                for name, value in (
                    # The events as they are in the file, with their checksums.
                    ("master_binlog_checksum", "@@GLOBAL.binlog_checksum"),
                    ("source_binlog_checksum", "@@GLOBAL.binlog_checksum"),
                    ("master_heartbeat_period", HEARTBEAT),
                    ("source_heartbeat_period", HEARTBEAT),
                    ("mariadb_slave_capability", 4),
                    ("rpl_semi_sync_slave", int(acknowledges)),
                    ("rpl_semi_sync_replica", int(acknowledges)),
                ):
                    cursor.execute(f"SET @{name} = {value}")
            # PyMySQL ends here: it does not know answers that go on without end.
            self.connection._execute_command(DUMP, begin)
        except pymysql.MySQLError as error:
            self.connection.close()
            raise Refused(f"the database server: {said(error)}") from error
        self.socket: socket.socket = self.connection._sock
        self.socket.setblocking(False)
        self.buffer = bytearray()
        self.long = b""  # a packet of 16 MB or more, so far

    def close(self) -> None:
        self.connection._force_close()

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> None:
        """Takes what the socket has."""
        try:
            part = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        if not part:
            raise Refused("the database server has ended the connection")
        self.buffer += part

    def packets(self) -> Iterator[tuple[bytes, bool]]:
        """The events that have come whole, and whether the server waits for the acknowledgement of each."""
        begin = 0
        while len(self.buffer) >= begin + 4:
            length = int.from_bytes(self.buffer[begin : begin + 3], "little")
            if len(self.buffer) < begin + 4 + length:
                break
            packet = self.long + bytes(self.buffer[begin + 4 : begin + 4 + length])
            begin += 4 + length
            if length == 0xFFFFFF:
                self.long = packet
                continue
            self.long = b""
            if packet[:1] == b"\xff":
                raise Refused(f"the database server: {packet[9:].decode(errors='replace')}")
            if packet[:1] == b"\xfe" and len(packet) < 9:
                raise Refused("the database server has ended the log")
            if self.acknowledges and packet[1] == REGISTERED_FOR_ACKNOWLEDGEMENT:
                yield packet[3:], packet[2] == 1
            else:
                yield packet[1:], False
        del self.buffer[:begin]

    def acknowledge(self, file: str, position: int) -> None:
        payload = struct.pack("<BQ", REGISTERED_FOR_ACKNOWLEDGEMENT, position) + file.encode()
        self.socket.sendall(len(payload).to_bytes(3, "little") + b"\0" + payload)


def format_of(file: str) -> bytes:
    """The first event of a file of the server's log."""
    dump = Dump(file, len(events.MAGIC), acknowledges=False)
    try:
        while select.select([dump], [], [], 10)[0]:
            dump.receive()
            for event, _waits in dump.packets():
                if events.header(event).kind == events.FORMAT:
                    return event
        raise Refused("the database server does not answer")
    finally:
        dump.close()


def named_by_rotation(event: bytes) -> str:
    """The file that comes now, by the event with which the server announces it."""
    body = event[events.HEADER.size + 8 :]
    if events.has_checksum(event):
        body = body[: -events.CHECKSUM]
    name = body.decode(errors="replace")
    if not re.fullmatch(events.NAME, name):
        raise Refused(f"the database server's log has a file {name!r}; binlog.000001 is expected")
    return name
