"""Which moment is which position of the log: a line of text for each second in which something was written.

  time_before file position time_after [mark NAME]

The server was asked for the end of its log between the two times (UTC, this host's clock). So a row that was acknowledged
before time_before lies below the position, and one that was begun after time_after lies above it. While nothing is
written, the first and the last such line are kept, and one a minute. Times never go back: where the clock is set back, the
lines have the time of the one before it until the clock has passed that.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from . import events
from .atomic import write_atomically
from .basics import Refused, now, read_text
from .sink import LEDGER, LINE

FOLDER = Path("/var/lib/webstack-binlog")
IDLE = 60  # seconds between two lines while nothing is written
KEEP = 32 << 20  # bytes of the local copy: three days at least
LARGEST = 1 << 30  # bytes that are read of one: a quarter of a year without the target


@dataclass(frozen=True)
class Entry:
    before: str
    file: str
    position: int
    after: str
    mark: str = ""

    @property
    def place(self) -> tuple[int, int]:
        """Sorts as the log goes on."""
        return events.number(self.file), self.position

    def __str__(self) -> str:
        return f"{self.before} {self.file} {self.position} {self.after}" + (f" mark {self.mark}" if self.mark else "")


def entry(line: str) -> Entry:
    found = LEDGER.fullmatch(line)
    if not found:
        raise Refused(f"the ledger holds {line[:300]!r}, which is no line of it")
    return Entry(found["before"], found["file"], int(found["position"]), found["after"], found["mark"] or "")


def ask(end_of_log: Callable[[], tuple[str, int]], mark: str = "") -> Entry:
    """The line of this moment. `end_of_log` asks the server for file and position."""
    before = now()
    file, position = end_of_log()
    return Entry(before, file, position, now(), mark)


def line_in(path: Path) -> str:
    """The id in a file."""
    found = read_text(path, 100).strip()
    if not LINE.fullmatch(found):
        raise Refused(f"{path} does not hold the id of a line of the log")
    return found


def local(line: str, folder: Path = FOLDER) -> Path:
    """The copy of this host for one line of the log: positions of another line mean nothing in this one."""
    return folder / "ledgers" / line


def take_over(line: str, folder: Path = FOLDER) -> None:
    """Earlier versions had one file for all lines. What was written since this line began, which its id says, goes on."""
    old, path = folder / "ledger", local(line, folder)
    if not old.exists():
        return
    begun = f"{datetime.strptime(line[:16], '%Y%m%dT%H%M%SZ'):%Y-%m-%dT%H:%M:%S}"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, "".join(f"{one}\n" for one in entries(old) if one.before >= begun), 0o640)
    old.unlink()


def entries(path: Path) -> list[Entry]:
    """The lines, the oldest first. One that a full disk or a power cut has torn is left out: those beside it say the same."""
    try:
        text = read_text(path, LARGEST)
    except FileNotFoundError:
        return []
    return [entry(line) for line in text.splitlines() if LEDGER.fullmatch(line)]


class Ledger:
    """The local copy, from which the target is sent what it does not have yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(exist_ok=True)
        self.lock = threading.Lock()
        self.last: Entry | None = None  # of those that were written
        self.held: Entry | None = None  # the newest with the same position, if it was not written
        self.written = 0.0
        if path.exists():  # a line that a power cut has torn
            with path.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
        known = entries(path)
        self.newest = known[-1].after if known else ""

    def add(self, line: Entry) -> Entry:
        """Writes the line, unless it says what the one before it says; returns it as it is in the ledger."""
        line = replace(line, before=max(line.before, self.newest), after=max(line.after, self.newest))
        self.newest = line.after
        still = self.last is not None and self.last.place == line.place
        if still and not line.mark and time.monotonic() - self.written < IDLE:
            self.held = line
            return line
        lines = [self.held, line] if self.held and not still else [line]
        text = "".join(f"{one}\n" for one in lines)
        with self.lock:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, text.encode()) < len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # a part of a line would be taken for the beginning of the next
                raise
            finally:
                os.close(descriptor)
        self.last, self.held, self.written = line, None, time.monotonic()
        return line

    def after(self, line: str) -> int:
        """Where the lines begin that come after this one, in bytes; it is the last that the target has."""
        if not line or not self.path.exists():
            return 0
        content = self.path.read_bytes()
        at = content.rfind(line.encode() + b"\n")
        if at >= 0:
            return at + len(line) + 1
        # The copy begins later, or has lost its end: by the time, then.
        position = 0
        for own in content.splitlines(keepends=True):
            if own.decode() > line:
                break
            position += len(own)
        return position

    def read(self, offset: int) -> list[str]:
        """The lines from that byte on."""
        with self.lock:
            try:
                with self.path.open("rb") as file:
                    file.seek(offset)
                    return file.read(1 << 20).decode().split("\n")[:-1]
            except FileNotFoundError:
                return []

    def trim(self, offset: int) -> int:
        """Drops the older half of a long copy of which the target has all below `offset`; returns the new offset."""
        if offset < KEEP:
            return offset
        with self.lock:
            content = self.path.read_bytes()
            begin = content.index(b"\n", offset // 2) + 1
            write_atomically(self.path, content[begin:], 0o640)
        return offset - begin
