"""A full backup: copy, prepare, start once, count, save, and the mark that makes it count last of all."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import files
from .atomic import write_atomically
from .basics import SOCKET, STATE, Refused, config, in_words, now, read_object
from .chain import head
from .ledger import FOLDER, line_in
from .noted import DAILY, is_late
from .repository import AT, DATA, FILES, FULL, LINE_OF, Repository, Snapshot, in_bytes
from .restored import LIVE
from .scratch import PLACE, Scratch, alone, counted, data_options, fresh, room, total, with_space
from .target import name_of, way
from .vendor import Vendor, ask, connect, installed

CONFIG = Path("/etc/webstack-backup/full.json")
KNOWN = STATE / "repository.json"
LAST = STATE / "full.json"
AT_TARGET = "target"
ANSWER_SECONDS = 30  # until the target's restic repository is open
COPY = PLACE / "full"
MANIFEST = COPY / "manifest.json"
STATUS_SECONDS = 20  # for which `status` waits for the repository
UNFINISHED_HOURS = 24  # as long as another host of the same name may still be at work on a full
SPARE = 64 * 2**20  # what a copy takes more than the data: the log of what is written meanwhile


def declared() -> dict[str, Any]:
    """What the role has declared of full backups, with the keys of the repository."""
    found = read_object(CONFIG)
    if not found:
        raise Refused(f"{CONFIG} is missing or damaged: a run of the playbook writes it again")
    return found


def repository() -> Repository:
    found, host = declared(), config()
    if found["repository"] != AT_TARGET:
        return Repository(found["repository"], KNOWN, host["name"], environment=found.get("environment"))
    # restic starts this in rclone's place, and talks to the rclone that the sink starts. What is there is this key's
    # alone, whatever the host was called.
    program = shlex.join([*way(host["target"]), "rclone"])
    options = ("-o", f"rclone.program={program}", "-o", f"rclone.timeout={ANSWER_SECONDS}s")
    return Repository(f"rclone:{name_of(host['target'])}", KNOWN, host["name"], options=options, own=True)


def paths() -> list[str]:
    """The folders that are saved beside the database."""
    return list(read_object(CONFIG).get("paths", []))


def full() -> list[str]:
    """Makes one; returns what an operator reads of it."""
    with alone("full"), with_space("full"):
        try:
            return _full(repository(), installed())
        finally:
            if COPY.exists():
                shutil.rmtree(COPY)


def _full(store: Repository, vendor: Vendor) -> list[str]:
    begun = time.monotonic()
    opened = store.open()  # before anything is copied: it may not answer
    store.release_stale_locks()
    with connect(SOCKET) as cursor:
        ((base, datadir),) = ask(cursor, "SELECT @@log_bin_basename, @@datadir")
        if not base:
            raise Refused("the server has no binary log: role mysql turns it on")
        options = data_options(cursor)
    log, data = Path(base).parent, COPY / "data"
    scratch = Scratch("full", vendor, data, options)
    scratch.stop()  # of a run that was killed
    fresh(COPY.name)
    vendor.clear()
    for folder in (vendor.writes_to or PLACE, PLACE):  # it is moved from there
        room(folder, size(Path(datadir), Path(base).name) + SPARE, "the copy of the data")
    manifest: dict[str, Any] = {
        "host": store.host, "vendor": vendor.name, "version": vendor.version(),
        "log_folder": str(log), "line": line(log), "options": options, "begun": now(),
    }  # fmt: skip
    vendor.copy(SOCKET, data)
    manifest |= {"copied": now(), "line_after": line(log)}
    if manifest["line"] != manifest.pop("line_after"):
        raise Refused("the server's log was exchanged for another one while its data were copied: try again")
    with scratch, connect(scratch.socket) as cursor:
        position, gtid = vendor.position(data, cursor)
        tables = counted(cursor)
        ((accounts,),) = ask(cursor, "SELECT COUNT(*) FROM mysql.user")
    manifest |= {
        "position": str(position),
        "head": head(log / position.file),
        "gtid": gtid,
        "tables": tables,
        "accounts": accounts,
        "bytes": size(data),
    }
    # After the position: what a row tells of is there. Where they cannot be saved, this is not a whole backup.
    beside = files.save(store, paths(), COPY) if paths() else {}
    manifest["files"] = beside.get("snapshot", "")
    saved = store.backup(data, DATA)
    manifest |= {"data": saved["snapshot_id"], "stored": saved["data_added"]}
    write_atomically(MANIFEST, json.dumps(manifest, indent=1), 0o600)
    mark = store.backup(MANIFEST, FULL, LINE_OF + manifest["line"], AT + manifest["position"])
    seconds = time.monotonic() - begun
    last = {name: manifest[name] for name in ("copied", "position", "line", "log_folder")}
    write_atomically(LAST, json.dumps({**last, "snapshot": mark["snapshot_id"], "holds": total(tables)}))
    LIVE.unlink(missing_ok=True)
    words = [opened] if opened else []
    words.append(
        f"full backup of {vendor.title} {manifest['version']} at {position}: {total(tables)}, {accounts} accounts"
    )
    words.append(
        f"{in_bytes(manifest['bytes'])} of data, {in_bytes(manifest['stored'])} of them new in {store.name}; {seconds:.1f} s"
    )
    return [*words, *(files.told(beside) if beside else []), *thin_out(store)]


def overview() -> tuple[list[str], bool]:
    """The newest full backup in words, and whether it is new enough. One that has never been taken counts from the declaration on."""
    last = read_object(LAST)
    if not last and not CONFIG.exists():
        return [], True
    since = datetime.fromisoformat(last["copied"]) if last else datetime.fromtimestamp(CONFIG.stat().st_mtime, UTC)
    hours = (datetime.now(UTC) - since).total_seconds() / 3600
    late = is_late(since, read_object(CONFIG).get("schedule", DAILY))
    fault = "journalctl -u webstack-backup.service says why there is no newer one" if late else ""
    if hours < 0:
        fault = (
            f"its time, {last['copied'][:16]}Z, is to come: is the clock right? webstack-backup full takes one of now"
        )
    fault = (missing(last) if last else "") or fault
    what = f"the newest is {max(hours, 0):.0f} h old ({last['position']}: {last['holds']})" if last else "none yet"
    return [f"Full backups: {what}" + (f"; {fault}" if fault else "")], not fault


def place() -> tuple[list[str], bool]:
    """That they lie on this host alone, if so: no alarm, since somebody may want just that."""
    if not CONFIG.exists() or not (store := repository()).local:
        return [], True
    return [f"They go to {store.name} of this host, and are lost with it: backup_repository says another place"], True


def missing(last: dict[str, Any]) -> str:
    """Why the newest full that this host remembers cannot be counted on, if so."""
    try:
        store = repository()
        snapshots = store.snapshots(FULL, seconds=STATUS_SECONDS)
    except Refused as error:
        return in_words(error)
    there = [one.id for one in snapshots]
    # 0.14 tells the beginning of an id; an earlier version has noted neither it nor the line.
    if not any(one.startswith(last.get("snapshot", "")) for one in there):
        return f"{store.name} does not have it: is that another repository than before?"
    if "line" in last and line(Path(last["log_folder"])) != last["line"]:
        return "the server has begun another log since, of which nothing can be restored: webstack-backup full"
    return to_come(store, snapshots)


def to_come(store: Repository, snapshots: list[Snapshot]) -> str:
    """Beside one of a time to come, all others are old by restic's rules."""
    found = [one for one in snapshots if one.hours < 0]
    if not found:
        return ""
    ids = " ".join(one.id[:8] for one in found)
    return (
        f"backups of a time to come are in {store.name}, the first of {found[0].time[:16]}: a clock was wrong. No old ones are removed "
        f"until these are: restic forget {ids}"
    )


def thin_out(store: Repository) -> list[str]:
    """Removes fulls that the rule does not keep, and data whose full has never become whole.

    Only where this host may: at a target that it can only add to, the target does that.
    """
    rule = declared().get("keep")
    if not rule or not store.local:
        return []
    if fault := to_come(store, [*store.snapshots(FULL), *store.snapshots(FILES)]):
        return [fault]
    kept, leaving = store.keep(rule, FULL)
    manifests = [json.loads(store.read(snapshot, MANIFEST)) for snapshot in kept]
    needed = [manifest["data"] for manifest in manifests]
    unneeded = [
        one.id for one in store.snapshots(DATA) if not one.id.startswith(tuple(needed)) and one.hours > UNFINISHED_HOURS
    ]
    marks, folders = files.unneeded(store, rule, [one["files"] for one in manifests if one.get("files")])
    unneeded += folders
    if not leaving and not marks and not unneeded:
        return []
    # Manifests first: one whose data are gone would count, and could not be restored.
    for snapshots in (leaving + marks, unneeded):
        if snapshots:
            store.forget(snapshots)
    store.prune()
    return [f"removed {len(leaving)} full backups that the rule does not keep; {len(kept)} are there"]


def line(log: Path) -> str:
    """The line of this log: a server that begins anew, or was restored, begins another one.

    A log that lies with the data has none; webstack-binlog gives it one then.
    """
    for folder in (log, FOLDER):
        with contextlib.suppress(FileNotFoundError):
            return line_in(folder / "line")
    return ""


def size(folder: Path, without: str | None = None) -> int:
    """Bytes that the files in `folder` take, but for those of a log `without`."""
    found = 0
    for place, _folders, names in os.walk(folder):
        for name in names:
            if without and name.startswith(without + "."):
                continue
            try:
                found += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:  # a server at work removes files
                continue
    return found
