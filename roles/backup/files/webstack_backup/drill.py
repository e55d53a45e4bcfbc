"""A restore as a proof: the newest full and all of the log, into a server of its own that goes again; and a part of the repository read.

What it found is kept for `status`: a backup that nobody has restored is a hope.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import files
from .basics import STATE, Refused, read_object
from .full import CONFIG, LAST, paths, repository
from .noted import noted
from .restore import fits, plan, restored_into
from .scratch import PLACE, Scratch, alone, counted, fresh, room, total, with_space
from .state import clock
from .vendor import ask, connect, installed

NAME = "drill-server"  # webstack-drill is the service that this runs in
PROVEN = STATE / "drill.json"
CHECKED = STATE / "check.json"
DRILL_DAYS, CHECK_DAYS = 8, 2
PARTS = 7


def drill() -> list[str]:
    if not LAST.exists():  # no alarm: a new host has none until its first night
        return ["there is no full backup yet that could be tried"]
    with alone("drill"), noted(PROVEN) as proof, with_space("drill"):
        return _drill(proof)


def _drill(proof: dict[str, Any]) -> list[str]:
    begun, vendor, store = time.monotonic(), installed(), repository()
    store.identity()
    instance = Scratch(NAME, vendor, PLACE / NAME / "data", {})
    instance.stop()  # of a run that was killed
    work = fresh(NAME)
    try:
        planned = plan(store, "latest", None, work)
        fits(planned.full, vendor)
        instance = Scratch(NAME, vendor, instance.folder, planned.full.manifest["options"])
        room(PLACE, planned.needed, "the copy that is tried")
        words = restored_into(store, planned, instance, work)
        saved, missing = files.chosen(store, files.LATEST, planned.full.manifest, paths())
        number = files.sample(store, saved, work / "files") if saved else 0
        words += missing + (
            [f"{number} of {saved.manifest['files']:,} files, {saved}, are as they were saved"] if saved else []
        )
        with connect(instance.socket) as cursor:
            tables = counted(cursor)
            faults = damaged(cursor, [(database, table) for database in tables for table in tables[database]])
    finally:
        instance.stop()
        shutil.rmtree(work)
    if faults:
        raise Refused("the restored tables are damaged:\n" + "\n".join(faults))
    seconds = time.monotonic() - begun
    proof |= {"holds": total(tables), "seconds": round(seconds, 1), "position": str(planned.end), "files": number}
    return [*words, f"the server finds no fault in any table; proven in {seconds:.1f} s"]


def damaged(cursor: Any, tables: list[tuple[str, str]]) -> list[str]:
    """What the server says of tables that it finds a fault in."""
    found = []
    for names in tables:
        quoted = ".".join(f"`{name.replace('`', '``')}`" for name in names)
        for table, _verb, kind, said in ask(cursor, f"CHECK TABLE {quoted}"):
            if kind.lower() == "error" or (kind.lower() == "status" and said != "OK"):
                found.append(f"{table}: {said}")
    return found


def check() -> list[str]:
    """Reads a seventh of the repository, another one each day of the week: only that finds flipped bits."""
    if not LAST.exists():
        return ["there is no full backup yet that could be read"]
    with alone("check"), noted(CHECKED) as found:
        store, number = repository(), part()
        store.identity()
        store.release_stale_locks()
        store.check(number, PARTS)
        found["part"] = number
        return [f"part {number} of {PARTS} of {store.name} is whole"]


def part() -> int:
    """Which of the seven is read today."""
    return datetime.now(UTC).isoweekday()


def overview() -> tuple[list[str], bool]:
    """The last proven restore, and the last part of the repository that was read; none yet counts from the declaration on."""
    if not CONFIG.exists():
        return [], True
    said = [
        _said(
            PROVEN,
            DRILL_DAYS,
            "Last proven restore",
            "webstack-drill",
            lambda last: (
                f"{last['holds']}"
                + (f", {last['files']} files" if last.get("files") else "")
                + f" in {last['seconds']} s"
            ),
        ),
        _said(
            CHECKED,
            CHECK_DAYS,
            "Repository",
            "webstack-backup-check",
            lambda last: f"part {last['part']} of {PARTS} is whole",
        ),
    ]
    return [words for words, _good in said], all(good for _words, good in said)


def _said(path: Path, days: int, what: str, unit: str, figures: Callable[[dict[str, Any]], str]) -> tuple[str, bool]:
    last = read_object(path)
    since = (
        datetime.fromisoformat(last["time"]) if "time" in last else datetime.fromtimestamp(CONFIG.stat().st_mtime, UTC)
    )
    words = f"{what}: " + (f"{clock(last['time'])}, {figures(last)}" if "time" in last else "none yet")
    if "fault" in last:
        return f"{words}; FAILED at {clock(last['tried'])}: {last['fault']}", False
    if not 0 <= (datetime.now(UTC) - since).days < days:
        return f"{words}; journalctl -u {unit}.service says why there is no newer one", False
    return words, True
