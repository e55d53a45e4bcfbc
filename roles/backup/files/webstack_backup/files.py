"""Folders of this host beside its database, such as what visitors have uploaded: saved, and fetched as they were at a moment.

As a full backup, each save is two snapshots: the folders, and after them a manifest, whose tag names theirs. Only with
the manifest does it count.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import random
import shutil
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import STATE, Refused, now, read_object, told_by_restic
from .noted import is_late, noted
from .repository import DATA_OF, FILES, FOLDERS, Incomplete, Repository, in_bytes, summary
from .scratch import alone, fresh, room
from .state import clock

LAST = STATE / "files.json"
SAMPLE = 20  # files that a drill fetches
UNFINISHED_HOURS = 24  # as long as the mark of folders may still come
AT_FULL, LATEST = "full", "latest"


def between(store: Repository, paths: list[str]) -> list[str]:
    """A save between two full backups."""
    if not paths:
        return ["no folders are declared (backup_paths)"]
    with alone("files"), noted(LAST) as good:
        opened = store.open()
        store.release_stale_locks()
        work = fresh("files")
        try:
            saved = _save(store, paths, work, good)
        finally:
            shutil.rmtree(work)
        return [*([opened] if opened else []), *told(saved)]


def save(store: Repository, paths: list[str], work: Path) -> dict[str, Any]:
    """Returns the manifest, with the id of its snapshot; `work` takes it."""
    with noted(LAST) as good:
        return _save(store, paths, work, good)


def _save(store: Repository, paths: list[str], work: Path, good: dict[str, Any]) -> dict[str, Any]:
    manifest: dict[str, Any] = {"begun": now(), "folders": there(paths), "files": 0, "bytes": 0}
    manifest["users"] = {str(user.pw_uid): user.pw_name for user in pwd.getpwall()}
    manifest["groups"] = {str(group.gr_gid): group.gr_name for group in grp.getgrall()}
    if manifest["folders"]:
        done = _saved(store, [Path(path) for path in manifest["folders"]])
        manifest |= {"files": done["total_files_processed"], "bytes": done["total_bytes_processed"]}
        manifest |= {"data": done["snapshot_id"], "stored": done["data_added"]}
        path = work / "files.json"
        write_atomically(path, json.dumps(manifest, indent=1), 0o600)
        manifest["snapshot"] = store.backup(path, FILES, DATA_OF + manifest["data"])["snapshot_id"]
    good |= {name: manifest[name] for name in ("begun", "folders", "files", "bytes")}
    return manifest


def told(saved: dict[str, Any]) -> list[str]:
    if not saved["folders"]:
        return ["none of the folders is there yet"]
    return [
        f"saved {saved['files']:,} files, {in_bytes(saved['bytes'])}, of {', '.join(saved['folders'])}: {in_bytes(saved['stored'])} of them new"
    ]


def there(paths: list[str]) -> dict[str, int]:
    """Those that exist, with their file system. Refuses one that has been saved before and is no more: its disk is not mounted.

    What is not there yet, such as before the first deploy of an application, is no fault.
    """
    before, found = read_object(LAST).get("folders", {}), {}
    for path in map(os.path.realpath, paths):
        device = os.stat(path).st_dev if os.path.exists(path) else None
        empty = os.path.isdir(path) and not os.listdir(path)
        if path in before and (device is None or (empty and device != before[path])):
            raise Refused(
                f"{path} has been saved before, and is {'gone' if device is None else 'empty'} now: is its disk mounted? "
                f"If nothing is missing there, remove {LAST}"
            )
        if device is not None:
            found[path] = device
    return found


def _saved(store: Repository, paths: list[Path]) -> dict[str, Any]:
    """What was removed while restic read the folder around it is not missing."""
    try:
        return store.backup(paths, FOLDERS)
    except Incomplete as error:
        unread = []
        for line in error.said.splitlines():
            with contextlib.suppress(ValueError):
                if (told_error := json.loads(line)).get("message_type") == "error":
                    unread.append(told_error["item"])
        if not unread or any(map(os.path.lexists, unread)):
            raise
        return summary(error.said)


@dataclass(frozen=True)
class Saved:
    data: str  # the snapshot
    manifest: dict[str, Any]
    moment: str  # which was asked for; empty: the latest

    @property
    def bytes(self) -> int:
        return int(self.manifest["bytes"])

    def __str__(self) -> str:
        asked = datetime.fromisoformat(self.moment) if self.moment else datetime.now(UTC)
        seconds = (asked - datetime.fromisoformat(self.manifest["begun"])).total_seconds()
        when = "ago" if not self.moment else "before that moment" if seconds >= 0 else "after that moment"
        return f"saved at {clock(self.manifest['begun'])}, {abs(seconds):,.0f} s {when}"


def moment(at: str, full: dict[str, Any]) -> str:
    """The time in UTC that `at` means; empty for the latest."""
    return {AT_FULL: str(full["copied"]), LATEST: ""}.get(at, at)


def chosen(store: Repository, at: str, full: dict[str, Any], paths: list[str]) -> tuple[Saved | None, list[str]]:
    """The newest that ended by then; what there is to say where there is none. `full`: the manifest of the full that is restored."""
    if not paths and not full.get("files"):
        return None, []
    marks = store.snapshots(FILES)
    asked = moment(at, full)
    if at == AT_FULL:
        found = [one for one in marks if full.get("files") and one.id.startswith(full["files"])]
    else:
        found = [one for one in marks if not asked or told_by_restic(one.time) <= datetime.fromisoformat(asked)]
    if not found:
        since = f"; the oldest are of {clock(marks[0].time)}" if marks else ""
        return None, [f"no files had been saved by then{since}"]
    mark = found[-1]
    data = next(tag.removeprefix(DATA_OF) for tag in mark.tags if tag.startswith(DATA_OF))
    return Saved(data, json.loads(store.read(mark.id, Path(mark.path))), asked), []


def fetch(store: Repository, saved: Saved, folder: Path, only: str | None = None) -> list[str]:
    """Writes the files below `folder`, all of them or those below `only`; returns what an operator reads of it."""
    folder.mkdir(mode=0o700)  # each has the owner and the mode that it had, and nobody but root may come that far
    store.restore(saved.data, folder, *([os.path.realpath(only)] if only else []))
    number, unknown = _owned(folder, saved.manifest)
    words = [f"{number:,} files, {saved}, lie in {folder}"]
    if unknown:
        words.append(f"their owners {', '.join(unknown)} are unknown to this host, so they have their numbers only")
    return words


def sample(store: Repository, saved: Saved, folder: Path) -> int:
    """Fetches some files, and compares them with what was noted of them; returns how many. Their content restic compares."""
    listed = store.files(saved.data)
    some = random.sample(listed, min(SAMPLE, len(listed)))
    if some:
        room(folder.parent, sum(one["size"] for one in some), "the sample of the files")
        store.restore(saved.data, folder, *(one["path"] for one in some))
    wrong = []
    for one in some:
        path = folder / one["path"].lstrip("/")
        found = path.stat() if path.is_file() else None
        if not found or (found.st_size, int(found.st_mtime)) != (
            one["size"],
            int(told_by_restic(one["mtime"]).timestamp()),
        ):
            wrong.append(one["path"])
    if wrong:
        raise Refused("files are not as they were saved:\n" + "\n".join(wrong))
    return len(some)


def _owned(folder: Path, manifest: dict[str, Any]) -> tuple[int, list[str]]:
    """Gives each file to who has its owner's name here: on another host the numbers are others'. Returns how many files there are."""
    number, unknown, linked = 0, set(), set()
    users = _numbers(manifest["users"], lambda name: pwd.getpwnam(name).pw_uid)
    groups = _numbers(manifest["groups"], lambda name: grp.getgrnam(name).gr_gid)
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(place, name)
            found = os.lstat(path)
            number += stat.S_ISREG(found.st_mode)
            if found.st_ino in linked:  # by another name, and given already
                continue
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                linked.add(found.st_ino)
            user, group = users.get(found.st_uid, found.st_uid), groups.get(found.st_gid, found.st_gid)
            unknown |= {word for word in (user, group) if isinstance(word, str)}
            owner = [is_now if isinstance(is_now, int) else -1 for is_now in (user, group)]
            if owner != [found.st_uid, found.st_gid]:
                os.chown(path, *owner, follow_symlinks=False)
                if not os.path.islink(path):
                    os.chmod(path, found.st_mode & 0o7777)  # chown takes the bits away that give its owner's rights
    return number, sorted(unknown)


def unneeded(store: Repository, rule: dict[str, Any], of_fulls: list[str]) -> tuple[list[str], list[str]]:
    """Marks that neither the rule nor a full keeps, and folders that no mark names which stays, nor one to come."""
    marks = store.snapshots(FILES)
    if not marks and not of_fulls:
        return [], []
    _kept, leaving = store.keep(rule, FILES)
    leaving = [one for one in leaving if not one.startswith(tuple(of_fulls))]
    needed = [tag.removeprefix(DATA_OF) for one in marks if one.id not in leaving for tag in one.tags]
    return leaving, [
        one.id
        for one in store.snapshots(FOLDERS)
        if not one.id.startswith(tuple(needed)) and one.hours > UNFINISHED_HOURS
    ]


def _numbers(names: dict[str, str], number_of: Any) -> dict[int, int | str]:
    """Of each number of then the number of now, or the name that nobody has now."""
    found: dict[int, int | str] = {}
    for number, name in names.items():
        found[int(number)] = name
        with contextlib.suppress(KeyError):
            found[int(number)] = number_of(name)
    return found


def overview(paths: list[str], schedule: str = "hourly") -> tuple[list[str], bool]:
    """The newest save in words, and whether it is new enough."""
    last = read_object(LAST)
    if not paths:
        return [], True
    words = "Files: " + (
        f"{last['files']:,} of {len(last['folders'])} folders, saved at {clock(last['begun'])}"
        if "time" in last
        else "none are saved yet"
    )
    if "fault" in last:
        return [f"{words}; FAILED at {clock(last['tried'])}: {last['fault']}"], False
    saved = datetime.fromisoformat(last["time"]) if "time" in last else None
    if saved and (saved > datetime.now(UTC) or is_late(saved, schedule)):
        return [f"{words}; journalctl -u webstack-backup-files.service says why there are no newer ones"], False
    return [words], True
