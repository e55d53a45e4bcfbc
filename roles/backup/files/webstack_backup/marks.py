"""Named moments of the log: a command asks the streamer for one through a folder, and has its line of the ledger."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_atomically
from .basics import Refused, read_text
from .ledger import FOLDER, Entry, entry
from .moments import means_another
from .sink import MARK

MARKS = FOLDER / "marks"
SECONDS = 10  # after which a request counts no more


@dataclass(frozen=True)
class Request:
    path: Path
    name: str


def requests(folder: Path = MARKS) -> Iterator[Request]:
    """Those that wait, without those that nobody waits for any more."""
    for path in sorted(folder.glob("*.wanted")):
        try:
            fresh = time.time() - path.stat().st_mtime < SECONDS
            name = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        if fresh and MARK.fullmatch(name):
            yield Request(path, name)
        else:
            path.unlink(missing_ok=True)


def answer(request: Request, line: Entry) -> None:
    write_atomically(request.path.with_suffix(".taken"), str(line))
    request.path.unlink(missing_ok=True)


def checked(name: str) -> str:
    if not MARK.fullmatch(name):
        raise Refused(f"{name!r}: a mark is named with letters, digits and . _ : - (200 at most)")
    if means_another(name):
        raise Refused(f"{name!r} is no name for a mark: --to {name} is a time, a position, or a word of its own")
    return name


def take(name: str, folder: Path = MARKS) -> Entry:
    """Has the streamer write a mark at the end of the log as it is now."""
    checked(name)
    wanted = folder / f"{secrets.token_hex(8)}.wanted"
    taken = wanted.with_suffix(".taken")
    deadline = time.monotonic() + SECONDS
    try:
        write_atomically(wanted, name)
        while time.monotonic() < deadline:
            if taken.exists():
                return entry(read_text(taken))
            time.sleep(0.02)
    finally:
        wanted.unlink(missing_ok=True)
        taken.unlink(missing_ok=True)
    raise Refused(f"no mark within {SECONDS} s: webstack-binlog.service does not run, or the database does not answer")
