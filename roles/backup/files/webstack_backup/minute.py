"""The log without a target: a line of the ledger each minute, and, where the repository is on another machine, the log in it.

Such a repository may be of a store without a shell (S3, sftp, REST), so that nothing there could take the log as it is written.
A snapshot holds all files of the log that this host has, and the ledger. Its tags are the line of the log and the first of
these files: so the newest of each pair of tags, and these alone, are needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import events, full, ledger
from .atomic import write_atomically
from .basics import SOCKET, STATE, Refused, config, read_object
from .lines import LOG, new_id
from .noted import noted
from .repository import Repository, Snapshot
from .scratch import alone, private
from .state import age, clock
from .vendor import Position, ask, connect, log_position

TAG, FIRST = "log", "first="
LAST = STATE / "log.json"
SEEN = STATE / "ledger.json"  # the newest line of the ledger, if it says no more than the one before it
NEVER = "2000-01-01 00:00:00+00:00"
PROMISE = 62  # seconds: a minute, and what a run takes
LATE = 180  # seconds, after which it is an alarm


def is_elsewhere() -> bool:
    """Whether the log goes into the repository: there is no target, and what this host keeps is lost with it."""
    return full.CONFIG.exists() and not config()["target"] and not full.repository().local


def note(mark: str = "") -> tuple[str, ledger.Entry, ledger.Entry]:
    """What the streamer does each second: the line of the log, the ledger's line of now, and the last that was written."""
    ledger.FOLDER.mkdir(exist_ok=True)
    with one_writer(), connect(SOCKET) as cursor:
        ((base,),) = ask(cursor, "SELECT @@log_bin_basename")
        if not base:
            raise Refused("the server has no binary log: role mysql turns it on")
        if not (of := full.line(Path(base).parent)):  # it lies with the data
            write_atomically(ledger.FOLDER / "line", f"{(of := new_id())}\n")
        book = ledger.Ledger(ledger.local(of))
        book.last = next(reversed(ledger.entries(book.path)), None)
        seen = read_object(SEEN).get(of)
        if seen and book.last and (held := ledger.entry(seen)).place == book.last.place and held.after > book.newest:
            book.held, book.newest = held, held.after
        book.written = time.monotonic()

        def end_of_log() -> tuple[str, int]:
            end = log_position(cursor)
            return end.file, end.offset

        found = book.add(ledger.ask(end_of_log, mark))
        assert book.last
        if book.held:
            write_atomically(SEEN, json.dumps({of: str(found)}))
        whose = ledger.FOLDER.stat()  # a streamer that is declared later goes on with it
        os.chown(book.path, whose.st_uid, whose.st_gid)
        return of, found, book.last


@contextlib.contextmanager
def one_writer() -> Iterator[None]:
    """A mark and the line of a minute are written one after the other."""
    STATE.mkdir(exist_ok=True)
    with open(STATE / "ledger.lock", "a", encoding="utf-8", opener=private) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def save() -> list[str]:
    """Each minute. Where nothing was written since the last time, nothing has to be saved."""
    with alone(TAG), noted(LAST) as found:
        of, entry, written = note()
        if not is_elsewhere() or not full.LAST.exists():  # which it could be replayed on
            return []
        last = read_object(LAST)
        found |= {
            "asked": entry.before,
            "line": of,
            "position": f"{entry.file}:{entry.position}",
            "ledger": str(written),
            "stamp": last.get("stamp"),
        }
        if all(last.get(name) == found[name] for name in ("line", "position", "ledger")):
            return []
        there = {number: path.stat().st_size for number, path in files(of).items()}
        known = Position.read(last["position"]).key[0] if last.get("line") == of else 0
        new = sum(size for number, size in there.items() if number >= known)
        # Each is later than the one before it, also where the clock was wrong: the newest is the one that is restored.
        stamp = max(datetime.now(UTC), datetime.fromisoformat(last.get("stamp") or NEVER) + timedelta(seconds=1))
        found["stamp"] = f"{stamp:%Y-%m-%d %H:%M:%S}+00:00"
        saved = full.repository().backup(
            [LOG, ledger.local(of)], TAG, of, f"{FIRST}{min(there)}",
            options=[f"--time={stamp:%Y-%m-%d %H:%M:%S}", f"--exclude={LOG}/before-restore-*"], seconds=600 + new / 100_000,
        )  # fmt: skip
        if full.line(LOG) != of:
            raise Refused("the server's log was exchanged for another one while it was saved")
        return [f"the log until {found['position']} is saved: {saved['data_added']} bytes"]


def files(of: str) -> dict[int, Path]:
    """The server's log by the numbers of its files."""
    if full.line(LOG) != of:
        raise Refused(
            f"the log does not lie in {LOG}: a run of the playbook with -e mysql_move_log=true moves it there"
        )
    return {events.number(path.name): path for path in LOG.iterdir() if events.NAME.fullmatch(path.name)}


def overview() -> tuple[list[str], bool]:
    """Up to where the log is in the repository, and whether that is new enough."""
    store, last = full.repository(), read_object(LAST)
    if not full.LAST.exists():
        return [f"Shipping: the log goes to {store.name} each minute, as soon as there is a full backup"], True
    seconds = age(last.get("asked") or read_object(full.LAST)["copied"])
    words = (
        f"Shipping: the log is in {store.name} until {last['position']}, {seconds:.0f} s ago (line {last['line']}); what was "
        f"committed since is lost with this host (promise: {PROMISE} s)"
        if "asked" in last
        else f"Shipping: nothing of the log is in {store.name} yet"
    )
    if seconds < LATE:
        return [words], True
    if "fault" in last:
        return [f"{words}; FAILED at {clock(last['tried'])}: {last['fault']}"], False
    return [f"{words}; journalctl -u webstack-backup-log.service says why"], False


class Saved:
    """What the repository has of this host's log; asked as a target is."""

    def __init__(self, store: Repository) -> None:
        self.store, self.name = store, store.name

    def snapshots(self, of: str) -> list[Snapshot]:
        """The newest first; those that another one stands for come last."""
        found = [one for one in reversed(self.store.snapshots(TAG)) if of in one.tags]
        if not found:
            raise Refused(f"{self.name} has no log of the line {of}, to which the newest full backup belongs")
        firsts: dict[int, Snapshot] = {}
        for one in found:
            firsts.setdefault(first_of(one), one)
        needed = list(firsts.values())
        return needed + [one for one in found if one not in needed]

    def known(self, of: str, folder: Path) -> list[ledger.Entry]:
        path = folder / "ledger"
        path.write_text(self.store.read(self.snapshots(of)[0].id, ledger.local(of)), encoding="utf-8")
        return ledger.entries(path)

    def newest(self, of: str) -> dict[str, int]:
        """The files that the newest snapshot has, with their sizes in bytes."""
        return self.sizes(self.snapshots(of)[0])

    def sizes(self, snapshot: Snapshot) -> dict[str, int]:
        found = {Path(one["path"]).name: int(one.get("size", 0)) for one in self.store.files(snapshot.id)}
        return {name: size for name, size in found.items() if events.NAME.fullmatch(name)}

    def files(self, of: str, first: int, last: int | None) -> dict[str, int]:
        """The sizes of the files of these numbers, in bytes."""
        self.where: dict[str, str] = {}
        found: dict[str, int] = {}
        missing: set[int] | None = None
        for snapshot in self.snapshots(of):
            if missing is not None and first_of(snapshot) > max(missing):
                continue
            for name, size in self.sizes(snapshot).items():
                if name not in found:
                    self.where[name], found[name] = snapshot.id, size
            numbers = {events.number(name) for name in found}
            missing = {n for n in range(first, (last or max(numbers)) + 1) if n not in numbers}
            if not missing:
                break
        return {name: size for name, size in found.items() if first <= events.number(name) <= (last or 2**63)}

    def fetch(self, _of: str, names: dict[str, int], folder: Path) -> None:
        for snapshot in {self.where[name] for name in names}:
            wanted = [name for name in names if self.where[name] == snapshot]
            self.store.restore(snapshot, folder / "fetched", *(str(LOG / name) for name in wanted))
            for name in wanted:
                (folder / "fetched" / LOG.relative_to("/") / name).rename(folder / name)


def first_of(snapshot: Snapshot) -> int:
    """The number of the first file of the log in it."""
    return next(int(tag.removeprefix(FIRST)) for tag in snapshot.tags if tag.startswith(FIRST))
