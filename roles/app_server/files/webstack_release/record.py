"""The record of a change on the disk, during the change and afterwards. It survives a crash or reboot."""

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
    kind: str = ""  # deploy, rollback or renew; with several hosts also stage, migrate, switch or undo
    by: str = ""  # user@machine
    version: str = ""  # what the operator called the commit
    since: float = 0  # seconds of the epoch
    commit: str = ""
    release: str = ""
    slot: str = ""  # in which the release is started
    warm: bool = True  # whether the previous slot is kept running for a rollback
    before_release: str = ""
    before_slot: str = ""
    before_requests: int = 0  # of the previous slot, when the change began
    phase: str = ""
    phases: dict[str, float] = field(default_factory=dict)  # seconds of each
    exposed: bool = False  # visitors may have reached the release
    verified: bool = False  # the release stays live
    verdict: str = ""  # live, unchanged, staged, migrated, failed, reverted or cut off; empty while it runs
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it has begun and has no verdict."""
        return bool(self.id) and not self.verdict


# Limit of the history; its older half is removed then. A change takes 500 bytes, or 6 KB if it fails.
HISTORY_BYTES = 2**20


def to_record(found: dict[str, Any]) -> Record:
    """A record from JSON, which another version of the tool may have written. Unknown keys and values of a wrong type are ignored."""
    usual = dataclasses.asdict(Record())
    return Record(**{name: value for name, value in found.items() if name in usual and is_like(value, usual[name])})


def is_like(value: Any, usual: Any) -> bool:
    """Whether a value has the type of the default, `usual`."""
    if isinstance(usual, dict):
        return isinstance(value, dict) and all(is_like(each, 0) for each in value.values())
    if isinstance(usual, (bool, str)):
        return type(value) is type(usual)
    # Times outside of this range have no date.
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value < 1e11


class Journal:
    """The record of the last change, its output, and the history of all changes."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths
        self.record = to_record(read_object(paths.change))
        self._entered = time.monotonic()

    @property
    def damage(self) -> str:
        """An error if the record of the last change cannot be read."""
        if is_damaged(self.paths.change):
            return f"{self.paths.change} cannot be read, so what became of the last change is not known"
        return ""

    def begin(self, record: Record) -> None:
        self.paths.state.mkdir(parents=True, exist_ok=True)
        write_atomically(self.paths.progress, "", 0o600)
        self.record = record
        self._save()

    def enter(self, phase: str, line: str, **known: Any) -> None:
        """Begins a step. What is known is written to the disk before."""
        self._leave()
        self.note(phase=phase, **known)
        self.say(line)

    def note(self, **known: Any) -> None:
        self.record = dataclasses.replace(self.record, **known)
        self._save()

    def say(self, line: str) -> None:
        """Writes a line to the output of the change, which operators follow, and to the journal."""
        print(line, flush=True)
        # A change must be undone even if the disk is full.
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
        if known:  # an earlier attempt was cut off between the line below and the verdict
            verdict, reason = known[0]["verdict"], known[0]["reason"]
        else:
            self._add(dataclasses.replace(self.record, phase="", verdict=verdict, reason=reason))
        # Last, because followers of the change stop at the verdict.
        self.note(phase="", verdict=verdict, reason=reason)

    def _add(self, record: Record) -> None:
        """Adds a change to the history."""
        entry = {**dataclasses.asdict(record), "ended": time.time()}
        with open(
            self.paths.history, "a", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)
        ) as handle:
            os.fchmod(handle.fileno(), 0o600)  # a reason may hold log lines of the application
            handle.write("\n" + json.dumps(entry) + "\n")  # a line that a crash cut off stays separate
            handle.flush()
            os.fsync(handle.fileno())
            size = handle.tell()
        if size > HISTORY_BYTES:
            lines = read(self.paths.history).splitlines(keepends=True)
            while size > HISTORY_BYTES // 2 and len(lines) > 1:
                size -= len(lines.pop(0).encode(errors="surrogateescape"))
            write_atomically(self.paths.history, "".join(lines), 0o600)

    def of(self, identity: str) -> Record:
        """The record of a change, also if other changes came after it; an empty one for an unknown change."""
        if self.record.id == identity:
            return self.record
        return next((to_record(entry) for entry in self.entries() if entry["id"] == identity), Record())

    def lines(self) -> list[str]:
        return [line for line in read(self.paths.history).splitlines() if line]

    def said(self) -> list[str]:
        """The output of the change. Bytes that are not valid UTF-8 are replaced."""
        return read(self.paths.progress).encode(errors="surrogateescape").decode(errors="replace").splitlines()

    def entries(self, last: int = 0) -> list[dict[str, Any]]:
        """Finished changes, the oldest first; `last` limits their number. Damaged lines are skipped."""
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
