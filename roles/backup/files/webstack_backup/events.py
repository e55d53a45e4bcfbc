"""The format of the binary log: what a file of it, and the replication protocol, hold.

After the vendors' descriptions of the binary log's event header and of the format description event.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from .basics import Refused

MAGIC = b"\xfebin"  # begins each file
HEADER = struct.Struct("<IBIIIH")  # timestamp, type, server id, length, position of the next event, flags
ROTATE, FORMAT, HEARTBEAT, HEARTBEAT_64 = 4, 15, 27, 41
IN_USE, ARTIFICIAL = 0x01, 0x20
CHECKSUM = 4  # bytes at the end of an event
NAME = re.compile(r"binlog\.([0-9]{6,10})", re.ASCII)


@dataclass(frozen=True)
class Header:
    kind: int
    length: int
    next_position: int  # modulo 2^32; since MariaDB 11.8, 0 within a transaction
    flags: int

    @property
    def in_file(self) -> bool:
        """Whether the event stands in a file, and was not made up for who reads the log."""
        if self.kind == FORMAT:  # a reader that begins in the middle of a file gets it once more
            return self.next_position != 0
        return not (self.flags & ARTIFICIAL or self.kind in (HEARTBEAT, HEARTBEAT_64))


def header(data: bytes | memoryview, offset: int = 0) -> Header:
    _time, kind, _server, length, next_position, flags = HEADER.unpack_from(data, offset)
    return Header(kind, length, next_position, flags)


def has_checksum(event: bytes | memoryview) -> bool:
    """Right for a last four bytes that are the CRC-32 of all others; the in-use flag does not count."""
    body = bytearray(event[:-CHECKSUM])
    if body[4] == FORMAT:
        body[17] &= ~IN_USE
    return zlib.crc32(body) == int.from_bytes(event[-CHECKSUM:], "little")


class Walk:
    """Goes through one file of the log, event by event, and sees that nothing is missing between them."""

    def __init__(self, name: str, position: int, checksums: bool | None = None) -> None:
        self.name, self.position = name, position
        self.checksums = checksums  # of all events after the format description; None: not known yet

    def learn(self, event: bytes | memoryview) -> None:
        """A format description says whether the events after it have checksums."""
        self.checksums = event[-CHECKSUM - 1] == 1

    def step(self, event: bytes | memoryview) -> None:
        """Takes the next event, or refuses it in words."""
        where = f"{self.name}, position {self.position}"
        if len(event) < HEADER.size + CHECKSUM or header(event).length != len(event):
            raise Refused(f"{where}: what comes there is no whole event")
        found = header(event)
        if found.next_position not in (0, (self.position + found.length) % 2**32):
            raise Refused(
                f"{where}: a hole; the event that comes there ends at {found.next_position} "
                f"instead of {(self.position + found.length) % 2**32}"
            )
        if found.kind == FORMAT:
            self.learn(event)
        if self.checksums is None:
            raise Refused(f"{where}: the file does not begin with a format description")
        if (self.checksums or found.kind == FORMAT) and not has_checksum(event):
            raise Refused(f"{where}: the checksum of the event is wrong")
        self.position += found.length


def whole(data: memoryview, name: str, start: int = 0) -> int:
    """How many bytes of a file, from its beginning, are whole events; events below `start` are taken as whole."""
    if len(data) < len(MAGIC) + HEADER.size or data[: len(MAGIC)] != MAGIC:
        return 0
    walk = Walk(name, len(MAGIC))
    try:
        walk.step(event_at(data, walk.position))
        walk.position = max(walk.position, min(start, len(data)))
        while walk.position < len(data):
            walk.step(event_at(data, walk.position))
    except Refused:
        return 0 if walk.position == len(MAGIC) else walk.position
    return walk.position


def event_at(data: memoryview, position: int) -> memoryview:
    """The event that begins at a position of a file; less than that if the file ends before."""
    if len(data) < position + HEADER.size:
        return data[position:]
    return data[position : position + max(header(data, position).length, HEADER.size)]


def first_event(data: bytes | memoryview) -> bytes:
    """The format description of a file: it has the moment of the file's beginning, so it tells files of one name apart."""
    return bytes(event_at(memoryview(data), len(MAGIC)))


def same_file(one: bytes, other: bytes) -> bool:
    """Whether two format descriptions are of one file. The in-use flag, and the checksum with it, do not count."""
    return len(one) == len(other) and one[:17] + one[19:-CHECKSUM] == other[:17] + other[19:-CHECKSUM]


def number(name: str) -> int:
    """That of a file of the log."""
    found = NAME.fullmatch(name)
    if not found:
        raise Refused(f"{name!r} is not the name of a file of the binary log (binlog.000001)")
    return int(found[1])
