"""Is a stretch of the binary log whole? The vendors' tools do not ask: they replay around a hole and report success.

Judged before anything is replayed: the files' numbers, each event's length, place and checksum, how each file ends,
and whether the next one begins with the GTIDs that the ones before it end with.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .basics import Refused
from .events import first_event, same_file
from .vendor import Position, number

MAGIC, ENCRYPTED = b"\xfebin", b"\xfdbin"
HEADER = 19
QUERY, STOP, ROTATE, FORMAT = 2, 3, 4, 15
GTID, TAGGED_GTID, PREVIOUS_GTIDS = 33, 42, 35  # MySQL's
MARIADB_GTID, MARIADB_GTID_LIST, MARIADB_ENCRYPTION = 162, 163, 164
IN_USE = 1
CRC32 = 1
Gtids = dict[tuple[int, int] | bytes, object]


@dataclass
class File:
    """What one file of the log holds."""

    path: Path
    end: int = 4  # of its last whole event
    size: int = 0
    last: datetime | None = None  # when its last event was written; whole seconds
    closed: bool = False  # by the server, with an event that says so
    in_use: bool = False  # the server has it open, or was killed while it had
    before: Gtids = field(default_factory=dict)
    after: Gtids = field(default_factory=dict)
    comparable: bool = False  # the GTIDs have been read; those with tags are not understood here
    bounds: frozenset[int] = frozenset()  # of those asked for, the ones where an event begins or the last one ends

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Chain:
    """A stretch that is whole."""

    files: list[tuple[Path, int]]  # and where each ends: what is behind that is no whole event, or not wanted
    start: Position
    stop: Position
    torn: int = 0  # bytes behind `stop` that are no whole event

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(end for _file, end in self.files) - self.start.offset


def read(path: Path, *asked: int, limit: int | None = None) -> File:
    """Reads the events of a file, or those before `limit`; refuses what is damaged before its last whole event."""
    found = File(path, size=path.stat().st_size)
    if found.size < 4:
        raise Refused(f"{path.name} is no file of a binary log: it has {found.size} bytes")
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] == ENCRYPTED:
            raise Refused(
                f"{path.name} is encrypted by the server (binlog_encryption): it cannot be replayed from here"
            )
        if data[:4] != MAGIC:
            raise Refused(f"{path.name} is no file of a binary log")
        _events(found, data, set(asked), limit or found.size)
    return found


def _events(found: File, data: mmap.mmap, asked: set[int], limit: int) -> None:
    place, size, checksums, seconds, kind = 4, found.size, False, 0, 0
    bounds = {4} & asked
    numbers: dict[bytes, list[int]] = {}
    while place < limit and place + HEADER <= size:
        when, kind, server, length, following, flags = struct.unpack_from("<IBIIIH", data, place)
        if length < HEADER:
            raise Refused(f"{found.name} is damaged at byte {place}")
        if place + length > size:
            break
        if kind == FORMAT:
            checksums = _has_checksums(data, place, length)
            found.in_use = bool(flags & IN_USE)
        if checksums:
            _check(found, data, place, length, flags if kind == FORMAT else 0)
        if following and following != (place + length) & 0xFFFFFFFF:
            raise Refused(f"{found.name} is damaged at byte {place}: an event does not end where it says")
        body, end = place + HEADER, place + length - 4 * checksums
        if kind == MARIADB_GTID_LIST:
            found.comparable, found.before = True, _gtid_list(data, body)
            found.after = dict(found.before)
        elif kind == MARIADB_GTID:
            sequence, domain = struct.unpack_from("<QI", data, body)
            found.after[domain, server] = sequence
        elif kind == PREVIOUS_GTIDS:
            found.comparable = data[body + 7] == 0
            found.before = _previous_gtids(data, body, end) if found.comparable else {}
        elif kind == GTID:
            source, gno = struct.unpack_from("<16sQ", data, body + 1)
            numbers.setdefault(source, []).append(gno)
        elif kind == TAGGED_GTID:
            found.comparable = False
        elif kind == MARIADB_ENCRYPTION:
            raise Refused(f"{found.name} is encrypted by the server (encrypt_binlog): it cannot be replayed from here")
        seconds = when or seconds
        place += length
        if place in asked:
            bounds.add(place)
    if numbers or (found.before and not found.after):
        found.after = _joined(found.before, numbers)
    found.end, found.closed = place, kind in (ROTATE, STOP) and place == size
    found.last = datetime.fromtimestamp(seconds, UTC) if seconds else None
    found.bounds = frozenset(bounds)


def _has_checksums(data: mmap.mmap, place: int, length: int) -> bool:
    """The format event itself ends with its algorithm and a checksum; servers before 5.6 are not met here."""
    return data[place + length - 5] == CRC32


def _check(found: File, data: mmap.mmap, place: int, length: int, flags: int) -> None:
    event = data[place : place + length - 4]
    if flags & IN_USE:  # set and cleared in the file without a new checksum
        event = event[:17] + struct.pack("<H", flags & ~IN_USE) + event[19:]
    if zlib.crc32(event) != struct.unpack_from("<I", data, place + length - 4)[0]:
        raise Refused(f"{found.name} is damaged at byte {place}: the checksum of an event is wrong")


def _gtid_list(data: mmap.mmap, body: int) -> Gtids:
    """MariaDB: the last number of each server in each domain."""
    count = struct.unpack_from("<I", data, body)[0] & 0x0FFFFFFF
    found = struct.iter_unpack("<IIQ", data[body + 4 : body + 4 + 16 * count])
    return {(domain, server): sequence for domain, server, sequence in found}


def _previous_gtids(data: mmap.mmap, body: int, end: int) -> Gtids:
    """MySQL: the ranges of numbers of each source, first and one after the last."""
    (count,) = struct.unpack_from("<Q", data, body)
    place, found = body + 8, {}
    for _source in range(count):
        source, ranges = struct.unpack_from("<16sQ", data, place)
        place += 24
        found[source] = [struct.unpack_from("<QQ", data, place + 16 * n) for n in range(ranges)]
        place += 16 * ranges
    if place != end:
        raise Refused("the GTIDs at the beginning of a file of the log cannot be read")
    return dict(found)


def _joined(before: Gtids, numbers: dict[bytes, list[int]]) -> Gtids:
    joined: Gtids = dict(before)
    for source, more in numbers.items():
        ranges = [*before.get(source, ()), *((gno, gno + 1) for gno in more)]  # type: ignore[misc]
        merged: list[tuple[int, int]] = []
        for first, after in sorted(ranges):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(after, merged[-1][1]))
            else:
                merged.append((first, after))
        joined[source] = merged
    return joined


def head(path: Path) -> str:
    """What tells a file of the log from another one of the same name: its first event has the moment at which it was begun."""
    with open(path, "rb") as file:
        return first_event(file.read(1 << 16)).hex()


def judge(
    folder: Path, start: Position, stop: Position | None, reach: Position | None = None, begins: str = ""
) -> Chain:
    """The stretch of the log in `folder` from `start` to `stop`, or to its end; refuses one that is not whole.

    `reach` is a position that the log is known to have reached: an end before it is a loss. `begins` is the head of the file
    in which `start` is, where it is known.
    """
    if stop and stop.key < start.key:
        raise Refused(f"{stop} is before {start}, where the full backup begins")
    base = start.file.rpartition(".")[0]
    there = sorted(
        (path for path in folder.glob(f"{base}.*") if path.suffix[1:].isdecimal()), key=lambda p: number(p.name)
    )
    paths = {number(path.name): path for path in there}
    first = number(start.file)
    if first not in paths:
        oldest = f"; the oldest file there is {there[0].name}" if there else ""
        raise Refused(
            f"{start.file}, in which the full backup begins, is missing in {folder}{oldest}: nothing after the full can be restored"
        )
    if begins and not same_file(bytes.fromhex(begins), bytes.fromhex(head(paths[first]))):
        raise Refused(
            f"{start.file} in {folder} is another one than that in which the full backup begins: the log has begun anew since, as"
            " by RESET MASTER, and nothing after the full can be restored from it. webstack-backup full takes a new one"
        )
    named = [stop, reach] if stop else [reach, *_indexed(folder, base)]
    last = max([number(one.file) for one in named if one], default=first)
    if not stop:
        last = max(last, *paths)
    files: list[File] = []
    for count in range(first, last + 1):
        if count not in paths:
            name = f"{base}.{count:0{len(start.file) - len(base) - 1}d}"
            after = next((f" and {path.name}" for path in there if number(path.name) > count), "")
            between = f"between {files[-1].name}{after}" if after else f"after {files[-1].name}"
            raise Refused(f"{name} is missing {between}: {_until(files[-1])}")
        asked = [one.offset for one in (start, stop) if one and number(one.file) == count]
        limit = stop.offset if stop and number(stop.file) == count else None
        files.append(read(paths[count], *asked, limit=limit))
        if len(files) > 1:
            _follows(files[-2], files[-1])
    end = files[-1]
    if start.offset not in files[0].bounds:
        raise Refused(
            f"no event begins at {start}, where the full backup does: this is the log of another time or server"
        )
    if stop:
        if stop.offset > end.end:
            raise Refused(f"{stop} is not reached: {_until(end)}")
        if stop.offset not in end.bounds:
            raise Refused(f"no event ends at {stop}")
        return Chain([(file.path, file.end) for file in files], start, stop)
    if reach and (number(end.name), end.end) < reach.key:
        raise Refused(f"the log had reached {reach}, but {reach.offset - end.end} bytes are missing: {_until(end)}")
    if end.size > end.end and not end.in_use and not reach:
        raise Refused(f"{end.name} is cut off in the middle of an event: {_until(end)}")
    return Chain([(file.path, file.end) for file in files], start, Position(end.name, end.end), end.size - end.end)


def _indexed(folder: Path, base: str) -> list[Position]:
    """What the server's own list of files names last."""
    index = folder / f"{base}.index"
    names = index.read_text(encoding="utf-8").split() if index.exists() else []
    return [Position(Path(name).name, 4) for name in names[-1:]]


def _follows(one: File, other: File) -> None:
    """A file that the server was killed in may have no end of its own; that its GTIDs go on proves it whole."""
    if one.end < one.size and not one.in_use:
        raise Refused(f"{one.name} is cut off in the middle of an event: {_until(one)}")
    if one.comparable and other.comparable and one.after != other.before:
        raise Refused(
            f"{other.name} does not go on where {one.name} ends: transactions between them are missing. {_until(one)}"
        )


def _until(file: File) -> str:
    when = f", {file.last:%Y-%m-%d %H:%M:%S}Z" if file.last else ""
    return f"the log can be replayed until {file.name}:{file.end}{when}, and not further"
