"""What `--to` means: the position of the log at a moment, at a mark, or as it was given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import ledger
from .basics import Refused
from .state import clock
from .vendor import Position


@dataclass(frozen=True)
class Wanted:
    """None as position: all that there is."""

    position: Position | None
    words: str = ""
    at: str = ""  # its time, where that is known


POSITION, TIME = re.compile(r"[\w-]+\.\d+:\d+"), re.compile(r"\d{4}-")
WORDS = ("latest", "full")


def means_another(name: str) -> bool:
    """Whether `--to` would take this name of a mark for something else."""
    return name in WORDS or bool(POSITION.fullmatch(name) or TIME.match(name))


def entries(line: str, folder: Path = ledger.FOLDER) -> list[ledger.Entry]:
    """What this host knows of a line of its log, the oldest first."""
    return ledger.entries(ledger.local(line, folder)) if line else []


def wanted(to: str, known: list[ledger.Entry], now_at: Position | None) -> Wanted:
    """`now_at`: where the log ends, if that is known."""
    if to == "latest":
        return Wanted(None)
    if POSITION.fullmatch(to):
        stop = Position.read(to)
        by_then = [entry.after for entry in known if Position(entry.file, entry.position).key <= stop.key]
        return Wanted(stop, at=by_then[-1] if by_then else "")
    if TIME.match(to):
        return _at(moment(to), known, now_at)
    marked = [entry for entry in known if entry.mark]
    found = [entry for entry in marked if entry.mark == to]
    if found:
        entry = found[-1]
        return Wanted(Position(entry.file, entry.position), f"the mark {to} of {clock(entry.after)}", entry.after)
    names = ", ".join(entry.mark for entry in marked[-5:]) or "none"
    raise Refused(
        f"{to!r} is none of: latest, full, a time such as 2026-11-23 10:15:00Z, a position such as binlog.000012:4711, "
        f"a mark (the newest are: {names})"
    )


def _at(when: datetime, known: list[ledger.Entry], now_at: Position | None) -> Wanted:
    """The last line that was written by then: nothing begun after `when` is below its position."""
    text = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    asked = f"you asked for {clock(text)}"
    if not known:
        raise Refused(
            "there is no ledger, which would say which position belongs to a time: is webstack-binlog.service there?"
        )
    before = [entry for entry in known if entry.after <= text]
    if not before:
        raise Refused(f"the ledger begins at {clock(known[0].after)}; {asked}")
    last = before[-1]
    position = Position(last.file, last.position)
    # Nothing has been written since the ledger's last line if the log still ends there.
    if last is known[-1] and position != now_at:
        raise Refused(f"the ledger can tell positions until {clock(last.after)}; {asked}")
    return Wanted(
        position, f"{clock(text)}: the log's position at {clock(last.after)}, the ledger's last line until then", text
    )


def moment(text: str) -> datetime:
    """A time with its zone; also as messages tell it."""
    try:
        found = datetime.fromisoformat(text.strip().replace(" UTC", "+00:00"))
    except ValueError:
        raise Refused(f"{text!r} is no time: 2026-11-23 10:15:00Z is one") from None
    if not found.tzinfo:
        raise Refused(f"{text!r} does not say its zone: {text}Z, or {text}+01:00")
    return found.astimezone(UTC)
