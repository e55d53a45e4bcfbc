"""Files of a binary log, as a server would write them; and webstack-backup's modules."""

from __future__ import annotations

import struct
import sys
import zlib

from loading import ROOT

sys.path.insert(0, str(ROOT / "roles/backup/files"))
sys.dont_write_bytecode = True

from webstack_backup import events  # noqa: E402

QUERY, FORMAT = 2, events.FORMAT


def event(
    position: int, body: bytes, *, kind: int = QUERY, moment: int = 1700000000, flags: int = 0, end: int | None = None
) -> bytes:
    """One that begins at `position`."""
    length = events.HEADER.size + len(body) + events.CHECKSUM
    end = position + length if end is None else end
    data = events.HEADER.pack(moment, kind, 1, length, end, flags) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def format_description(moment: int = 1700000000) -> bytes:
    body = struct.pack("<H50sIB", 4, b"11.8.9-MariaDB", moment, 19) + bytes(40) + b"\1"
    return event(len(events.MAGIC), body, kind=FORMAT, moment=moment)


def log_file(*bodies: bytes, moment: int = 1700000000) -> bytes:
    """A whole one, with an event for each body."""
    data = events.MAGIC + format_description(moment)
    for body in bodies:
        data += event(len(data), body)
    return data
