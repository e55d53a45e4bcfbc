"""Restores into a scratch instance: what can be restored is known before anything is fetched, and said in words."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, ledger, minute, restored
from .basics import SOCKET, Refused, config
from .chain import Chain, judge
from .full import COPY, MANIFEST, line, paths, repository
from .moments import Wanted, entries, wanted
from .replay import replay
from .repository import AT, FULL, LINE_OF, Repository, Snapshot, in_bytes
from .scratch import PLACE, Scratch, alone, counted, fresh, room, total, with_space
from .target import Target
from .vendor import Position, Vendor, ask, connect, installed, log_position, number

NAME = "restore"
Tables = dict[str, dict[str, list[int]]]


@dataclass(frozen=True)
class Full:
    snapshot: str
    manifest: dict[str, Any]

    @property
    def position(self) -> Position:
        return Position.read(self.manifest["position"])

    @property
    def head(self) -> str:
        return self.manifest.get("head", "")  # earlier versions did not note it

    @property
    def data(self) -> Path:
        return COPY / "data"

    def __str__(self) -> str:
        title = {"mariadb": "MariaDB", "mysql": "MySQL"}[self.manifest["vendor"]]
        taken = self.manifest["copied"][:19].replace("T", " ")
        return f"full backup of {taken}Z: {title} {self.manifest['version']}, {self.manifest['position']}"


@dataclass(frozen=True)
class Plan:
    full: Full
    chain: Chain | None
    words: tuple[str, ...] = ()  # which moment that is, and where the log comes from
    at: str = files.AT_FULL  # the time of that moment, where it is known; or "latest"

    @property
    def end(self) -> Position:
        return self.chain.stop if self.chain else self.full.position

    @property
    def needed(self) -> int:
        """Bytes that a restore takes, at most."""
        return int(self.full.manifest["bytes"] * 1.1) + (2 * self.chain.size if self.chain else 0)


def scratch(vendor: Vendor, options: dict[str, Any] | None = None) -> Scratch:
    return Scratch(NAME, vendor, PLACE / NAME / "data", options or {})


def restore(to: str, log: str | None = None, *, reuse: bool = False, only: str | None = None) -> list[str]:
    """Into scratch, which goes on running for the operator to look at; returns what it found.

    `reuse`: one that was restored to the same moment, and that somebody has looked at, will do; or one that has gone live, if
    what comes after that failed. `only`: of the folders beside the database, what is below this path; "" for none of them.
    """
    with alone(NAME), contextlib.ExitStack() as held:
        restored.refuse_half_done()
        vendor = installed()
        if scratch(vendor).runs():
            if reuse and (found := restored.read()) and found.to == to:
                return [f"the restored server that runs will do: as of {found.position}"]
            raise Refused("the scratch instance of the last restore runs: webstack-backup end-scratch removes it")
        if reuse and (gone := restored.live_since_full()) and gone["to"] == to:
            return [
                f"the restored data are live already, as of {gone['position']}; the accounts and a full backup are left to do"
            ]
        held.enter_context(with_space(NAME, 0))  # who restores should not wait for hours without a word
        store = repository()
        store.identity()
        work, instance = fresh(NAME), scratch(vendor)
        try:
            planned = plan(store, to, log, work)
            fits(planned.full, vendor)
            beside, missing = (
                (None, []) if only == "" else files.chosen(store, planned.at, planned.full.manifest, paths())
            )
            room(PLACE, planned.needed + (beside.bytes if beside else 0), "the restored copy")
            instance = scratch(vendor, planned.full.manifest["options"])
            words = restored_into(store, planned, instance, work) + missing
            if beside:
                words += files.fetch(store, beside, restored.FILES, only)
            note(planned, to, vendor).write()
        except BaseException:
            instance.stop()
            shutil.rmtree(work)
            raise
        client = [vendor.client, "--user=root", f"--socket={instance.socket}"]
        return [
            *words,
            f"It runs, without network: {shlex.join(client)}",
            "webstack-backup go-live makes it the live one, and keeps what is there; end-scratch stops and removes it",
        ]


def restored_into(store: Repository, planned: Plan, instance: Scratch, work: Path) -> list[str]:
    """Starts the instance on the copy, compares it, and replays the log; what it found, in words."""
    full, chain = planned.full, planned.chain
    words, begun = [*planned.words, str(full)], time.monotonic()
    store.restore(full.manifest["data"], work / "fetched")
    (work / "fetched" / full.data.relative_to("/")).rename(instance.folder)
    shutil.rmtree(work / "fetched")
    fetched = time.monotonic()
    instance.start()
    with connect(instance.socket) as cursor:
        tables = counted(cursor)
    words.append(compared(full, tables, instance.vendor.version()))
    words.append(f"fetched in {fetched - begun:.1f} s, started and compared in {time.monotonic() - fetched:.1f} s")
    if chain:
        begun = time.monotonic()
        replay(chain, instance, work)
        words.append(
            f"replayed the log from {chain.start} to {chain.stop}: {len(chain.files)} files, {in_bytes(chain.size)},"
            f" {time.monotonic() - begun:.1f} s"
        )
        if chain.torn:
            words.append(
                f"left out {chain.torn} bytes at the log's end, which are no whole event: the server was writing them"
            )
        with connect(instance.socket) as cursor:
            after = counted(cursor)
        words += differences(tables, after)
    else:
        words.append("no log was replayed: this is the state of the full backup")
    return words


def note(planned: Plan, to: str, vendor: Vendor) -> restored.Restored:
    """What go-live has to know of this restore."""
    manifest, chain = planned.full.manifest, planned.chain
    return restored.Restored(
        moment=files.moment(planned.at, manifest),
        vendor=vendor.name, version=vendor.version(), to=to, line=manifest["line"],
        position=str(planned.end),
        log=str(chain.files[0][0].parent) if chain else manifest["log_folder"],
    )  # fmt: skip


def end_scratch() -> list[str]:
    """Stops the instance of the last restore, and removes its data."""
    with alone(NAME):
        restored.refuse_half_done()
        instance = scratch(installed())
        there = (PLACE / NAME).exists()
        instance.stop()
        if there:
            shutil.rmtree(PLACE / NAME)
        return ["the scratch instance is gone" if there else "there is no scratch instance"]


def plan(store: Repository, to: str, log: str | None, work: Path) -> Plan:
    """The newest full at or before the wanted moment, and the log from there on; refuses what cannot be restored.

    `log`: "here", "target", "repository", or nothing: this host's own, if it is that of the newest full. `work` takes the others'.
    """
    folder, end = live_log() or (Path(next_full(store, None).manifest["log_folder"]), None)
    found = line(folder)
    newest = next_full(store, None, found)
    if to == "full":
        return Plan(newest, None)
    wants = newest.manifest["line"]
    where = log or ("here" if found == wants else elsewhere())
    if where != "here":
        source = Target() if where == "target" else minute.Saved(store)
        words = f"the log is the {where}'s, of the line {wants}"
        if found != wants:
            words += (
                f"; that of this host, in {folder}, is of the line {found or '(none)'}, and nothing of it is restored"
            )
        return from_elsewhere(store, source, to, wants, work, words)
    known = entries(found)
    stop = wanted(to, known, end)
    full = next_full(store, stop.position, found)
    if found != full.manifest["line"]:
        raise Refused(
            f"the log in {folder} is of the line {found or '(none)'}, the newest full backup of {full.manifest['line'] or '(none)'}: "
            "the server has begun anew since, and nothing after the full can be restored from this log. "
            "--to full restores the full alone"
        )
    # Where a server writes it, the log's last whole event may be in the middle of a transaction; its own word is at an end.
    until = stop.position or end
    reach = None if until else reached(known)
    return Plan(
        full, judge(folder, full.position, until, reach, full.head), (stop.words,) if stop.words else (), when(stop)
    )


def elsewhere() -> str:
    """Where another machine has the log of this host, if one has."""
    return "target" if config()["target"] else "repository" if minute.is_elsewhere() else "here"


def from_elsewhere(store: Repository, source: Target | minute.Saved, to: str, of: str, work: Path, words: str) -> Plan:
    """The log as the target or the repository has it: no more of it is fetched than is wanted."""
    folder = work / "log"
    folder.mkdir(mode=0o700)
    known = source.known(of, folder)
    stop = wanted(to, known, None)
    full = next_full(store, stop.position, of)
    lacking = source.files(of, number(full.position.file), number(stop.position.file) if stop.position else None)
    room(PLACE, sum(lacking.values()), f"the log that {source.name} has")
    source.fetch(of, lacking, folder)
    chain = judge(folder, full.position, stop.position, None if stop.position else reached(known), full.head)
    return Plan(full, chain, (*((stop.words,) if stop.words else ()), words), when(stop))


def when(stop: Wanted) -> str:
    """Which files belong to it."""
    return stop.at or (files.AT_FULL if stop.position else files.LATEST)


def reached(known: list[ledger.Entry]) -> Position | None:
    """What the log had reached by the ledger's last line."""
    return Position(known[-1].file, known[-1].position) if known else None


def live_log() -> tuple[Path, Position] | None:
    """The live server's log, and where it ends now; nothing if there is no server."""
    try:
        with connect(SOCKET) as cursor:
            end = log_position(cursor)
            ((base,),) = ask(cursor, "SELECT @@log_bin_basename")
            return Path(base).parent, end
    except Refused:
        return None


def next_full(store: Repository, stop: Position | None, of: str = "") -> Full:
    """The newest that is not after `stop`; of the line `of`, if there are any of it.

    In a line their positions say which is the newest: a time is only what the clock of the host said. One of a time to come
    is the last that is taken.
    """
    snapshots = sorted(store.snapshots(FULL), key=lambda one: one.hours >= 0)
    if not snapshots:
        raise Refused(f"{store.name} has no full backup of {store.host}")
    if of:
        found = of_line(store, [one for one in snapshots if any(tag.startswith(AT) for tag in one.tags)], of)
        if not any(not stop or key <= stop.key for key, _snapshot in found):
            found = of_line(store, snapshots, of)
        snapshots = [snapshot for _key, snapshot in found] or snapshots
    for snapshot in reversed(snapshots):
        full = Full(snapshot.id, json.loads(store.read(snapshot.id, MANIFEST)))
        if not stop or full.position.key <= stop.key:
            return full
    raise Refused(f"{stop} is before the oldest full backup, {full}: nothing before that can be restored")


def of_line(store: Repository, snapshots: list[Snapshot], of: str) -> list[tuple[tuple[int, int], Snapshot]]:
    """The fulls of a line with their places in it, in order."""
    told = [(*line_and_position(store, one), one) for one in snapshots]
    return sorted(
        ((position.key, one) for its_line, position, one in told if its_line == of), key=lambda found: found[0]
    )


def line_and_position(store: Repository, snapshot: Snapshot) -> tuple[str, Position]:
    """Of a full; one that an earlier version has taken says it in its manifest alone."""
    lines = [tag.removeprefix(LINE_OF) for tag in snapshot.tags if tag.startswith(LINE_OF)]
    places = [tag.removeprefix(AT) for tag in snapshot.tags if tag.startswith(AT)]
    if lines and places:
        return lines[0], Position.read(places[0])
    manifest = json.loads(store.read(snapshot.id, MANIFEST))
    return manifest["line"], Position.read(manifest["position"])


def fits(full: Full, vendor: Vendor) -> None:
    """Refuses data that this server would misread: 10.11 starts on data of 11.8, and answers, with a line in its log."""
    refuse_other_server(str(full), full.manifest["vendor"], full.manifest["version"], vendor)


def refuse_other_server(what: str, made_by: str, version: str, vendor: Vendor) -> None:
    if made_by != vendor.name:
        raise Refused(f"{what}: this host has {vendor.title}")
    has, needs = (tuple(int(part) for part in text.split(".")[:2]) for text in (vendor.version(), version))
    if has < needs:
        raise Refused(f"{what}: this host has {vendor.version()}, it needs {needs[0]}.{needs[1]} or newer")


def compared(full: Full, tables: Tables, version: str) -> str:
    """Refuses a copy that does not hold what was saved."""
    same = version.split(".")[:2] == full.manifest["version"].split(".")[:2]  # other series compute other checksums
    declared: Tables = full.manifest["tables"]
    wrong = [
        f"{database}.{table}: {told(found)} instead of {told(saved)}"
        for database, table in sorted({(d, t) for side in (declared, tables) for d in side for t in side[d]})
        if (found := tables.get(database, {}).get(table)) != (saved := declared.get(database, {}).get(table))
        and (same or not found or not saved or found[0] != saved[0])
    ]
    if wrong:
        raise Refused("what was restored is not what was saved:\n" + "\n".join(wrong[:20]))
    how = "rows and checksums" if same else f"rows (checksums of {full.manifest['version']} mean nothing to {version})"
    return f"{total(tables)}: {how} of all tables are the ones that were saved"


def told(found: list[int] | None) -> str:
    return f"{found[0]:,} rows, checksum {found[1]}" if found else "no table"


def differences(before: Tables, after: Tables) -> list[str]:
    """What the replay has changed, in rows."""
    words = [f"now {total(after)}"]
    for database, table in sorted({(d, t) for side in (before, after) for d in side for t in side[d]}):
        old, new = (side.get(database, {}).get(table) for side in (before, after))
        if old == new:
            continue
        rows = f"{new[0]:,} rows" if new else "dropped"
        change = "" if not new else f" ({new[0] - old[0]:+,})" if old else " (new)"
        words.append(f"  {database}.{table}: {rows}{change}")
    return words
