"""Makes the restored copy the live one. What was there is kept under a name of its own, data and log.

Until the first folder is renamed all is as before; from then on the next call goes on to the end. A journal says which of
the two it is: a call that was killed leaves it. The server begins a new log, in a line of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import placing, restored
from .atomic import write_atomically
from .basics import STATE, Refused, config, in_words, run
from .chain import judge
from .full import line
from .ledger import FOLDER
from .lines import DATA, LOG, new_id
from .replay import replay
from .restore import NAME, live_log, refuse_other_server, scratch
from .restored import JOURNAL, LIVE, NOTE, Restored
from .scratch import PLACE, START_SECONDS, STOP_SECONDS, Scratch, alone
from .vendor import Position, installed

KEPT = STATE / "files"  # and when: of the files that were changed after the moment
SHIPPING = Path("/etc/systemd/system/webstack-binlog.service")


def go_live(confirm: str) -> list[str]:
    """Returns what an operator reads of it."""
    name = config()["name"]
    if confirm != name:
        raise Refused(
            f"this replaces the data that {name} serves by the restored ones: --confirm {name}. Nothing was done"
        )
    with alone("full"), alone(NAME):
        begun = restored.journal()
        if not begun:
            if JOURNAL.exists():  # killed before anything was moved
                _server("start")
                JOURNAL.unlink()
            if (found := restored.live_since_full()) and not scratch(installed()).runs():
                return [f"The restored copy is live already, as of {found['position']}"]
            begun = _prepared()
        return _swapped(begun)


def _prepared() -> dict[str, Any]:
    """Judges all that can be judged, stops both servers, and writes down what is to be moved where."""
    vendor, found = installed(), restored.read()
    instance = scratch(vendor)
    if not found or not instance.runs():
        raise Refused("there is no restored server that could become the live one: webstack-backup restore makes one")
    refuse_other_server(f"restored to {found.position}", found.vendor, found.version, vendor)
    if DATA.is_symlink() or is_mounted(DATA):
        raise Refused(f"{DATA} is a link or a file system of its own, and cannot be renamed")
    if instance.folder.stat().st_dev != DATA.parent.stat().st_dev:
        raise Refused(f"{PLACE} and {DATA.parent} are two file systems, so the restored copy cannot be renamed")
    placing.judge(restored.FILES, found.moment, KEPT)
    log, end = live_log() or (LOG if LOG.exists() else DATA, None)
    words: list[str] = []
    grows = found.to == "latest" and Path(found.log) == log
    if grows and line(log) != found.line:
        raise Refused(f"the server has begun another log in {log} since this restore: restore again")
    if grows:  # most of it while the live server serves
        found = _caught_up(found, instance, end, words)
    JOURNAL.parent.mkdir(exist_ok=True)
    LIVE.unlink(missing_ok=True)  # of an earlier one
    write_atomically(JOURNAL, "{}")
    try:
        _server("stop")
        if grows:  # nothing comes after this
            found = _caught_up(found, instance, None, words)
        instance.stop()
        os.sync()
        begun = _moves(instance, log) | {
            "words": words, "position": found.position, "to": found.to, "moment": found.moment,
        }  # fmt: skip
        write_atomically(JOURNAL, json.dumps(begun, indent=1))
    except BaseException:
        _server("start")
        JOURNAL.unlink()
        raise
    return begun


def _caught_up(found: Restored, instance: Scratch, end: Position | None, words: list[str]) -> Restored:
    """Until `end`, where a server still writes: its last whole event may be in the middle of a transaction."""
    chain = judge(Path(found.log), Position.read(found.position), end)
    if chain.stop == chain.start:
        return found
    NOTE.unlink()  # what a replay that breaks off leaves is no moment of the log
    begun = time.monotonic()
    replay(chain, instance, PLACE / NAME)
    found = replace(found, position=str(chain.stop))
    found.write()
    words.append(f"replayed the rest of the log to {chain.stop} in {time.monotonic() - begun:.1f} s")
    return found


def _moves(instance: Scratch, log: Path) -> dict[str, Any]:
    """The log's files one by one: its folder may be a file system of its own."""
    named = f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    moves, kept = [], []
    if log != DATA and log.exists():
        files = sorted(path for path in log.iterdir() if path.is_file())
        moves += [(path, log / named / path.name) for path in files]
        kept.append(log / named)
    if DATA.exists():
        instance.folder.chmod(DATA.stat().st_mode & 0o7777)
        moves.append((DATA, DATA.with_name(f"{DATA.name}.{named}")))
        kept.append(moves[-1][1])
    moves.append((instance.folder, DATA))
    return {
        "moves": [[str(source), str(target)] for source, target in moves],
        "kept": [str(path) for path in kept], "log": str(log), "line": new_id(),
        "files": str(KEPT.with_name(f"{KEPT.name}.{named}")),
    }  # fmt: skip


def _swapped(begun: dict[str, Any]) -> list[str]:
    moves = [(Path(source), Path(target)) for source, target in begun["moves"]]
    log = Path(begun["log"])
    _server("stop")  # after a call that was killed it may be trying to start
    _shipping("stop")  # or it would go on with the old line at the target
    try:
        _moved(moves)
        _server("start")
    except (Refused, OSError) as error:
        _server("stop")
        _undone(moves)
        JOURNAL.unlink()
        _server("start")
        _shipping("start")
        raise Refused(
            f"no server starts on the restored copy, so the data of before are back:\n{in_words(error)}"
        ) from error
    if not (log / "line").exists():  # the log lies with the data
        FOLDER.mkdir(exist_ok=True)
        write_atomically(FOLDER / "line", begun["line"] + "\n")
    words = placing.place(restored.FILES, begun["moment"], Path(begun["files"])) if "files" in begun else []
    _shipping("start")
    if (PLACE / NAME).exists():
        shutil.rmtree(PLACE / NAME)
    write_atomically(LIVE, json.dumps({"to": begun.get("to", ""), "position": begun["position"]}))
    JOURNAL.unlink()
    return [
        *begun["words"],
        f"The restored copy is live, as of {begun['position']}, and has begun a new log: line {line(log)}",
        *words,
        *(f"What was there is kept in {path}; remove it when nobody misses anything" for path in begun["kept"]),
        "Nothing after this moment can be restored until the next full backup: webstack-backup full",
    ]


def _moved(moves: list[tuple[Path, Path]]) -> None:
    """Those that are left to do: a target that exists has been moved, and what is at its source now is new."""
    for source, target in moves:
        if source.exists() and not target.exists():
            if not target.parent.exists():
                target.parent.mkdir(mode=0o700)
            _rename(source, target)


def _undone(moves: list[tuple[Path, Path]]) -> None:
    for source, target in moves:
        if target.parent != DATA.parent and source.exists() and target.exists():
            # What the server has written that did not start.
            source.rename(source.with_name(f"start-that-failed-{time.time_ns()}-{source.name}"))
    _moved([(target, source) for source, target in reversed(moves)])


def is_mounted(folder: Path) -> bool:
    """Also of a part of the same file system, which os.path.ismount does not see."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return str(folder) in (mount.split()[4] for mount in mounts)


def _rename(source: Path, target: Path) -> None:
    """The log's folder is the database user's, who could put a link in the place of a folder in it."""
    folders = [os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) for path in (source, target)]
    try:
        os.rename(source.name, target.name, src_dir_fd=folders[0], dst_dir_fd=folders[1])
    finally:
        for folder in folders:
            os.close(folder)


def _server(verb: str) -> None:
    run(["systemctl", verb, f"{installed().name}.service"], seconds=max(START_SECONDS, STOP_SECONDS) + 60)


def _shipping(verb: str) -> None:
    if SHIPPING.exists():
        run(["systemctl", verb, SHIPPING.name], seconds=120)
