"""What holds now: written each second by the streamer, read by `webstack-backup status`."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import SOCKET, read_object

FOLDER = Path("/run/webstack-binlog")
STATE = FOLDER / "state.json"
START = FOLDER / "server"  # the start of the server that the line was read for
LOW = 10 << 30  # bytes free, or a tenth of the file system if that is less
STALE = 15  # seconds


def write(state: dict[str, Any], path: Path = STATE) -> None:
    write_atomically(path, json.dumps(state, indent=1) + "\n")


def read(path: Path = STATE) -> dict[str, Any]:
    return read_object(path)


def server_start() -> str:
    """Which start of the database server this is: each makes its socket anew. Empty as long as there is none."""
    try:
        found = SOCKET.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_ino}-{found.st_mtime_ns}"


def age(moment: str) -> float:
    """Seconds since a moment in UTC."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def clock(moment: str) -> str:
    """2026-11-23T10:15:00.000000Z as 2026-11-23 10:15:00 UTC."""
    return moment[:19].replace("T", " ") + " UTC"


def low(total: int) -> int:
    """Bytes that should stay free on a file system of `total`."""
    return min(LOW, total // 10)


def room(folder: Path) -> tuple[list[str], bool]:
    """What the log has room for, in words, and whether that is enough for some time."""
    found = shutil.disk_usage(folder)
    words = f"Room for the log: {found.free / 1e9:.1f} GB of {found.total / 1e9:.1f} GB are free in {folder}"
    if found.free >= low(found.total):
        return [words], True
    return [
        f"{words}. When it is full, every commit waits. What the target does not have is not removed from here"
    ], False


def overview(state: dict[str, Any]) -> tuple[list[str], bool]:
    """The state in words, a line each, and whether every promise holds."""
    if not state or abs(age(state["time"])) > STALE:
        since = f" since {clock(state['time'])}" if state else ""
        return [f"Shipping: no sign of webstack-binlog.service{since}; its journal says why"], False
    shipped, lines = state["shipped"], []
    if shipped:
        behind = (
            f"{state['behind_seconds']:.0f} s and {state['behind_bytes']} bytes behind"
            if state["behind_bytes"]
            else "complete"
        )
        lines.append(
            f"Shipping: {state['target']} has the log up to {shipped['file']}:{shipped['position']}, {behind} (line {state['line']})"
        )
    else:
        lines.append(f"Shipping: what {state['target']} has is not known")
    if state["fault"]:
        lines.append(f"Fault: {state['fault']}")
    if state.get("expires"):
        lines.append(
            f"The server removes its log after {state['expires'] // 86400} days, whether the target has it or not: "
            "with mysql_binlog_expires: false, only what the target has is removed"
        )
    if not state["declared"]:
        lines.append("Commits are not acknowledged by the target: what is behind is lost with this host")
        return lines, not state["fault"]
    if state["acknowledged"]:
        lines.append(
            f"Commits are acknowledged by the target since {clock(state['since'])}; each waits for it, {state['timeout_ms']} ms at most"
        )
    else:
        lines.append(
            f"NOT acknowledged since {clock(state['since'])}: {state['unprotected']} commits are only on this host; "
            f"is {state['target']} reachable?"
        )
    return lines, state["acknowledged"] and not state["fault"]
