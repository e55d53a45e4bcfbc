"""What is known of a change while it goes on and afterwards, on the disk: it survives whatever ends the change."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from dataclasses import dataclass, field
from typing import Any

from .atomic import write_atomically
from .basics import is_damaged, read, read_object
from .layout import Layout


@dataclass
class Record:
    """One change of what is live."""

    id: str = ""
    kind: str = ""  # deploy, rollback or renew
    by: str = ""  # who, and from which machine
    version: str = ""  # what the operator called the commit
    since: float = 0  # seconds of the epoch
    commit: str = ""
    release: str = ""
    slot: str = ""  # the one that is tried
    warm: bool = True  # whether the slot before is to be gone back to
    before_release: str = ""
    before_slot: str = ""
    before_requests: int = 0  # that the slot before had had when the change began
    phase: str = ""
    phases: dict[str, float] = field(default_factory=dict)  # seconds that each took
    exposed: bool = False  # visitors may have met the release
    verified: bool = False  # and it is what is live from now on
    verdict: str = ""  # live, unchanged, failed, reverted or cut off; empty while it goes on
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it has begun and not come to a verdict."""
        return bool(self.id) and not self.verdict


# What the history may grow to; then its older half goes. A change takes 500 bytes, and 6 KB if it fails.
HISTORY_BYTES = 2**20


def to_record(found: dict[str, Any]) -> Record:
    """Of what was written, by another version of the tool perhaps; a value of the wrong kind is left out."""
    usual = dataclasses.asdict(Record())
    return Record(**{name: value for name, value in found.items() if name in usual and is_like(value, usual[name])})


def is_like(value: Any, usual: Any) -> bool:
    """Whether a value that was read can be used as the usual one is."""
    if isinstance(usual, dict):
        return isinstance(value, dict) and all(is_like(each, 0) for each in value.values())
    if isinstance(usual, (bool, str)):
        return type(value) is type(usual)
    # A number that is no moment would have no date.
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1e11


class Journal:
    """Keeps the record of the last change, what it says, and a line for each that came to its end."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths
        self.record = to_record(read_object(paths.change))
        self._entered = time.monotonic()

    @property
    def damage(self) -> str:
        """What is not known any more because its file cannot be read."""
        if is_damaged(self.paths.change):
            return f"{self.paths.change} cannot be read, so what became of the last change is not known"
        return ""

    def begin(self, record: Record) -> None:
        self.paths.state.mkdir(parents=True, exist_ok=True)
        write_atomically(self.paths.progress, "", 0o600)
        self.record = record
        self._save()

    def enter(self, phase: str, line: str, **known: Any) -> None:
        """A step begins; what is known by now is on the disk before it does."""
        self._leave()
        self.note(phase=phase, **known)
        self.say(line)

    def note(self, **known: Any) -> None:
        self.record = dataclasses.replace(self.record, **known)
        self._save()

    def say(self, line: str) -> None:
        """To whoever follows the change, and to the journal of the host."""
        print(line, flush=True)
        # A full disk must not keep a change from being undone.
        with (
            contextlib.suppress(OSError),
            open(self.paths.progress, "a", encoding="utf-8", errors="surrogateescape") as handle,
        ):
            handle.write(line + "\n")

    def write_verdict(self, verdict: str, reason: str = "") -> None:
        self._leave()
        phases = self.record.phases
        if phases:
            self.say(
                f"took {sum(phases.values()):.1f} s: "
                + ", ".join(f"{name} {seconds:.1f}" for name, seconds in phases.items())
            )
        mine = (self.record.id, self.record.since)
        known = [entry for entry in self.entries(1) if (entry.get("id"), entry.get("since")) == mine]
        if known:  # it was cut off between this line and the verdict
            verdict, reason = known[0]["verdict"], known[0]["reason"]
        else:
            self._add(dataclasses.replace(self.record, phase="", verdict=verdict, reason=reason))
        # Last: who follows the change stops listening at the verdict.
        self.note(phase="", verdict=verdict, reason=reason)

    def _add(self, record: Record) -> None:
        """Writes the line of a change that comes to its end."""
        entry = {**dataclasses.asdict(record), "ended": time.time()}
        with open(
            self.paths.history, "a", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)
        ) as handle:
            os.fchmod(handle.fileno(), 0o600)  # a reason may hold what an application logged
            handle.write("\n" + json.dumps(entry) + "\n")  # whatever was torn off before stands in a line of its own
            handle.flush()
            os.fsync(handle.fileno())
            size = handle.tell()
        if size > HISTORY_BYTES:
            lines = read(self.paths.history).splitlines(keepends=True)
            while size > HISTORY_BYTES // 2 and len(lines) > 1:
                size -= len(lines.pop(0).encode(errors="surrogateescape"))
            write_atomically(self.paths.history, "".join(lines), 0o600)

    def of(self, identity: str) -> Record:
        """The record of a change, which others may have followed; an empty one for what is not known yet."""
        if self.record.id == identity:
            return self.record
        return next((to_record(entry) for entry in self.entries() if entry["id"] == identity), Record())

    def lines(self) -> list[str]:
        return [line for line in read(self.paths.history).splitlines() if line]

    def said(self) -> list[str]:
        """The lines of the change. Bytes that are no text, of a migration say, are shown as such."""
        return read(self.paths.progress).encode(errors="surrogateescape").decode(errors="replace").splitlines()

    def entries(self, last: int = 0) -> list[dict[str, Any]]:
        """The changes that came to an end, the oldest first, all or the last; a line that a power cut tore is left out."""
        entries: list[dict[str, Any]] = []
        for line in reversed(self.lines()):
            if last and len(entries) == last:
                break
            with contextlib.suppress(ValueError, RecursionError):
                found = json.loads(line)
                if isinstance(found, dict):
                    entries.append({**found, **dataclasses.asdict(to_record(found))})
        return entries[::-1]

    def _leave(self) -> None:
        now = time.monotonic()
        if self.record.phase:
            self.record.phases[self.record.phase] = round(now - self._entered, 2)
        self._entered = now

    def _save(self) -> None:
        write_atomically(self.paths.change, json.dumps(dataclasses.asdict(self.record)), 0o600)
