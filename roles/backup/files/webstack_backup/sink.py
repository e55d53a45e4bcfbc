"""The end of the line, on the target: takes a host's binary log, and gives it back.

sshd starts it for the host's key, and for nothing else (a forced command): backup-sink HOST. What is wanted stands in
SSH_ORIGINAL_COMMAND:
  log LINE                 append to the log of that line
  list                     what is there, as JSON
  read LINE FILE OFFSET    a file of the log, or the ledger, from that byte on
  rclone ...               restic's repository, append-only
There is no word that deletes or changes what has been acknowledged. Standard library only.

`log` first says what it has (one line of JSON). Then each message from the host is a letter, a length and that many bytes:
  F name                   a new file of the log begins
  D offset, events         whole events for the end of the file
  L line                   a line for the ledger
  P                        a question: are you there
Answers are lines: `ack FILE SIZE LINES ANSWERS` once all until there is on the disk, `refused WORDS` at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import mmap
import os
import re
import select
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

from . import events
from .basics import Refused, in_words, now

ROOT = Path("/srv/webstack-backup")
HOST = re.compile(r"[a-z0-9][a-z0-9.-]{0,251}", re.ASCII)
LINE = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}", re.ASCII)
MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
MARK = re.compile(r"[A-Za-z0-9._:-]{1,200}", re.ASCII)
LEDGER = re.compile(
    rf"(?P<before>{MOMENT}) (?P<file>{events.NAME.pattern}) (?P<position>[0-9]{{1,20}}) (?P<after>{MOMENT})"
    rf"(?: mark (?P<mark>{MARK.pattern}))?",
    re.ASCII,
)
FRAME = struct.Struct(">cI")
OFFSET = struct.Struct(">Q")
LARGEST = (1 << 30) + (1 << 20)  # bytes of one message: an event has 1 GB at most
AHEAD = 60  # seconds by which a line of the ledger may be ahead of this clock
SHARE = 20  # a host's log leaves a part of its own size free
BATCH = 8 << 20  # bytes at most between two acknowledgements


class Archive:
    """The log of one line of one host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.take_lock()
        names = sorted((path.name for path in folder.iterdir() if events.NAME.fullmatch(path.name)), key=events.number)
        for one, other in itertools.pairwise(names):
            if events.number(other) != events.number(one) + 1:
                raise Refused(f"{folder}: the files between {one} and {other} are missing")
        self.name = names[-1] if names else ""
        self.file = -1
        self.folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.mark = os.open(folder / "acknowledged", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = self.open() if names else 0
        self.ledger = os.open(folder / "ledger", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.ledger_size = self.cut_ledger()
        last = self.last_line()
        self.newest, self.told = last[:27], self.place(last) if last else (0, 0)
        self.used = sum(path.stat().st_size for path in folder.parent.glob("*/*"))
        self.walk = events.Walk(self.name, self.size)
        if self.size:
            self.walk.learn(self.head)
        # What must be on the disk before it is acknowledged; and what is said to be here counts as that: a session that
        # was killed may have written what it has not synced.
        self.dirty = {self.folder_descriptor, self.ledger, *([self.file] if self.file >= 0 else [])}
        self.sync()

    def take_lock(self) -> None:
        """One session writes. A new one ends that before it, which may be left of a connection that is gone."""
        for _try in range(100):
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(OSError, ValueError):  # it has just ended, or not yet said who it is
                    holder = int(os.pread(self.lock, 20, 0))
                    if b"backup-sink" in Path(f"/proc/{holder}/cmdline").read_bytes():
                        os.kill(holder, signal.SIGKILL)
                time.sleep(0.1)
            else:
                os.pwrite(self.lock, f"{os.getpid():<20}".encode(), 0)
                return
        raise Refused(f"{self.folder}: another session writes there, and does not end")

    def open(self) -> int:
        """Opens the last file; cuts what stands behind its last whole event, which nobody was told is here."""
        self.file = os.open(self.folder / self.name, os.O_RDWR | os.O_CLOEXEC)
        told = os.pread(self.mark, 100, 0).decode().split()
        told_size = int(told[1]) if told and told[0] == self.name else 0
        size = os.fstat(self.file).st_size
        good = 0
        if size:
            with mmap.mmap(self.file, size, access=mmap.ACCESS_READ) as content, memoryview(content) as data:
                good = events.whole(data, self.name, told_size)
        if good < told_size:
            raise Refused(
                f"{self.name} is damaged at the target: {told_size} bytes were acknowledged, {good} are whole"
            )
        if good < size:
            os.ftruncate(self.file, good)
            os.fsync(self.file)
        return good

    @property
    def head(self) -> bytes:
        """The first event of the open file; empty if it has none."""
        return events.first_event(os.pread(self.file, 4096, 0)) if self.size else b""

    def cut_ledger(self) -> int:
        """Cuts a line that was not written to its end."""
        size = os.fstat(self.ledger).st_size
        tail = os.pread(self.ledger, 4096, max(0, size - 4096))
        end = size - len(tail) + tail.rfind(b"\n") + 1
        os.ftruncate(self.ledger, end)
        return end

    def last_line(self) -> str:
        lines = os.pread(self.ledger, 4096, max(0, self.ledger_size - 4096)).decode().splitlines()
        return lines[-1] if lines else ""

    def begin(self, name: str) -> None:
        """The next file of the log."""
        if self.name and events.number(name) != events.number(self.name) + 1:
            raise Refused(f"a hole: {name} does not come after {self.name}")
        events.number(name)
        if self.name and not self.size:
            raise Refused(f"{self.name} has nothing in it, and {name} begins")
        if self.file >= 0:
            os.fsync(self.file)
            self.dirty.discard(self.file)
            os.close(self.file)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.file = os.open(self.folder / name, flags, 0o600)
        self.name, self.size = name, 0
        self.dirty.add(self.folder_descriptor)

    def append(self, offset: int, data: memoryview) -> None:
        """Writes whole events to the end of the file, or nothing."""
        if self.file < 0 or offset != self.size:
            raise Refused(
                f"a hole: {self.name or 'no file'} has {self.size} bytes here; what comes belongs at {offset}"
            )
        position = 0
        if offset == 0:
            if data[: len(events.MAGIC)] != events.MAGIC:
                raise Refused(f"{self.name}: what comes is no binary log")
            position = len(events.MAGIC)
            self.walk = events.Walk(self.name, position)
        while position < len(data):
            event = events.event_at(data, position)
            self.walk.step(event)
            position += len(event)
        self.leave_room(len(data))
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self.file, data[written:], self.size + written)
        except OSError as error:
            os.ftruncate(self.file, self.size)
            raise Refused(f"{self.folder / self.name}: {error.strerror}") from error
        self.size += len(data)
        self.dirty.add(self.file)

    def leave_room(self, more: int) -> None:
        """Refuses what would take the room that the other hosts need. Each leaves a part of what it has here itself: so the
        first that is refused is the one that has filled the disk, and the others go on."""
        found = os.fstatvfs(self.folder_descriptor)
        free = found.f_bavail * found.f_frsize
        self.used += more
        if free - more < self.used // SHARE:
            raise Refused(
                f"{self.folder.parent}: no room: {free} bytes are free there, and one {SHARE}th of this log's {self.used} stays free"
            )

    @staticmethod
    def place(line: str) -> tuple[int, int]:
        """The position that a line of the ledger tells; it sorts as the log goes on."""
        _before, file, position = line.split(" ")[:3]
        return events.number(file), int(position)

    def note(self, line: str) -> None:
        """A line with a time to come would have real ones left out until then; one that tells of more than the log has would
        have a restore to the latest moment refused."""
        if not LEDGER.fullmatch(line):
            raise Refused("what comes is no line of a ledger")
        before, file, position, after = line.split(" ")[:4]
        if not self.newest <= before <= after:
            raise Refused(f"a line of the ledger of {before} does not come after that of {self.newest}")
        if after > now(AHEAD):
            raise Refused(f"a line of the ledger is of {after}, and here it is {now()}: which clock is wrong?")
        place = self.place(line)
        if not self.told <= place <= (events.number(self.name) if self.name else 0, self.size):
            raise Refused(
                f"a line of the ledger tells of {file}:{position}, which the log here has not, or had long before"
            )
        data = line.encode() + b"\n"
        self.leave_room(len(data))
        if os.write(self.ledger, data) != len(data):
            raise Refused(f"{self.folder}/ledger: No space left on device")
        self.ledger_size += len(data)
        self.newest, self.told = before, place
        self.dirty.add(self.ledger)

    def sync(self) -> None:
        """All that came is on the disk after this, and never cut again."""
        for descriptor in self.dirty:
            os.fsync(descriptor)
        self.dirty.clear()
        if self.name:
            os.pwrite(self.mark, f"{self.name} {self.size:<20}\n".encode(), 0)


def receive(archive: Archive, source: int, target: int) -> None:
    """Appends what comes from `source` until that ends; acknowledges on `target`."""
    greeting = {
        "file": archive.name, "size": archive.size, "head": archive.head.hex(), "ledger": archive.last_line(),
        "time": now(),
    }  # fmt: skip
    os.write(target, json.dumps(greeting).encode() + b"\n")
    buffer = bytearray()
    lines = asked = unsynced = 0
    ended = False
    while not ended:
        if not unsynced or (unsynced < BATCH and select.select([source], [], [], 0)[0]):
            part = os.read(source, 1 << 20)
            ended = not part
        else:
            part = b""
        if unsynced and not part:
            archive.sync()
            os.write(target, f"ack {archive.name or '-'} {archive.size} {lines} {asked}\n".encode())
            unsynced = 0
        buffer += part
        begin = 0
        with memoryview(buffer) as data:
            while len(data) >= begin + FRAME.size:
                kind, length = FRAME.unpack_from(data, begin)
                if length > LARGEST:
                    raise Refused("what comes is no message")
                if len(data) < begin + FRAME.size + length:
                    break
                with data[begin + FRAME.size : begin + FRAME.size + length] as payload:
                    if kind == b"F":
                        archive.begin(bytes(payload).decode())
                    elif kind == b"D":
                        archive.append(OFFSET.unpack_from(payload)[0], payload[OFFSET.size :])
                    elif kind == b"L":
                        archive.note(bytes(payload).decode())
                        lines += 1
                    elif kind == b"P":
                        asked += 1
                    else:
                        raise Refused("what comes is no message")
                begin += FRAME.size + length
                unsynced += FRAME.size + length
        del buffer[:begin]


def listing(folder: Path) -> dict[str, dict[str, int]]:
    """By line, the files with their sizes in bytes."""
    log = folder / "log"
    lines = sorted(path.name for path in log.iterdir() if LINE.fullmatch(path.name)) if log.is_dir() else []
    return {
        line: {
            path.name: path.stat().st_size
            for path in sorted((log / line).iterdir())
            if path.name == "ledger" or events.NAME.fullmatch(path.name)
        }
        for line in lines
    }


def serve(host: str, command: str) -> None:
    if not HOST.fullmatch(host) or ".." in host:
        raise Refused("backup-sink HOST: called with something else")
    folder = ROOT / host
    match command.split(" "):
        case ["log", line] if LINE.fullmatch(line):
            receive(Archive(folder / "log" / line), 0, 1)
        case ["list"]:
            print(json.dumps(listing(folder)))
        case ["read", line, name, offset] if (
            LINE.fullmatch(line)
            and (name == "ledger" or events.NAME.fullmatch(name))
            and re.fullmatch("[0-9]{1,18}", offset, re.ASCII)
        ):
            with (folder / "log" / line / name).open("rb") as file:
                file.seek(int(offset))
                shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
        case ["rclone", *_said]:
            # What the host says after the word does not count: it could be another folder, or leave append-only out.
            (folder / "restic").mkdir(parents=True, exist_ok=True)
            argv = ["rclone", "--config=", "serve", "restic", "--stdio", "--append-only", str(folder / "restic")]
            os.execvp(argv[0], argv)
        case _:
            raise Refused("this key can append to its own log, read it, and add to its own backups; nothing else")


def main() -> int:
    os.umask(0o077)
    try:
        serve(sys.argv[1] if len(sys.argv) == 2 else "", os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains once more as it ends
        return 1
    except (Refused, OSError, ValueError) as error:
        words = " ".join(in_words(error).split())
        if os.environ.get("SSH_ORIGINAL_COMMAND", "").startswith("log "):
            os.write(1, f"refused {words}\n".encode())
        print(f"backup-sink: {words}", file=sys.stderr)
        return 1
    return 0
