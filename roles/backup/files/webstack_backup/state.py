"""What holds now: written each second by the streamer, read by `webstack-backup status`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import read_object

FOLDER = Path("/run/webstack-binlog")
STATE = FOLDER / "state.json"
STALE = 15  # seconds


def write(state: dict[str, Any], path: Path = STATE) -> None:
    write_atomically(path, json.dumps(state, indent=1) + "\n")


def read(path: Path = STATE) -> dict[str, Any]:
    return read_object(path)


def age(moment: str) -> float:
    """Seconds since a moment in UTC."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def clock(moment: str) -> str:
    """2026-11-23T10:15:00.000000Z as 2026-11-23 10:15:00 UTC."""
    return moment[:19].replace("T", " ") + " UTC"


def overview(state: dict[str, Any]) -> tuple[list[str], bool]:
    """The state in words, a line each, and whether every promise holds."""
    if not state or age(state["time"]) > STALE:
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
