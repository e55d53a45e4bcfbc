"""Removes files of the log from this host that the target has, and that are older than declared.

Root does it, after each full backup. The server would remove by age alone, and the streamer must not be able to: what
lets an account remove files of the log lets it switch the log off for a session of its own (BINLOG ADMIN of MariaDB), or
apply events to any table (BINLOG_ADMIN of MySQL).
"""

from __future__ import annotations

import time
from pathlib import Path

from . import state
from .basics import SOCKET, config
from .full import line
from .vendor import ask, connect, number


def purge() -> list[str]:
    """Returns what an operator reads of it."""
    declared, found = config(), state.read()
    if not declared["target"]:
        return []  # the server removes by age
    if not found or not found["shipped"] or state.age(found["time"]) > state.STALE:
        return ["nothing of the log is removed: what the target has is not known now"]
    shipped, oldest = number(found["shipped"]["file"]), time.time() - declared["log_days"] * 86400
    with connect(SOCKET) as cursor:
        ((base,),) = ask(cursor, "SELECT @@log_bin_basename")
        log = Path(base).parent
        if line(log) != found["line"]:
            return [f"nothing of the log is removed: what the target has is of the line {found['line']}"]
        names = [row[0] for row in ask(cursor, "SHOW BINARY LOGS")]
        kept = next(
            (name for name in names if number(name) >= shipped or (log / name).stat().st_mtime > oldest), names[-1]
        )
        if kept == names[0]:
            return []
        cursor.execute(f"PURGE BINARY LOGS TO '{kept}'")
        left = [row[0] for row in ask(cursor, "SHOW BINARY LOGS")]
    return [f"removed {len(names) - len(left)} files of the log that the target has; {left[0]} is the oldest now"]
