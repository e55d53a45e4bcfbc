"""Removes files of the log from this host that another machine has, and that are older than declared.

Root does it, after each full backup. The server would remove by age alone, and the streamer must not be able to: what
lets an account remove files of the log lets it switch the log off for a session of its own (BINLOG ADMIN of MariaDB), or
apply events to any table (BINLOG_ADMIN of MySQL).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from . import minute
from .basics import SOCKET, Refused, config, in_words
from .full import line, repository
from .scratch import alone
from .target import Target
from .vendor import ask, connect, number


def purge() -> list[str]:
    """Returns what an operator reads of it."""
    if not config()["target"] and not minute.is_elsewhere():
        return []  # the server removes by age
    try:
        with alone(minute.TAG):  # which files a snapshot begins with, it says itself
            return _purge()
    except Refused as error:
        return [f"nothing of the log is removed: {in_words(error)}"]


def _purge() -> list[str]:
    declared = config()
    oldest = time.time() - declared["log_days"] * 86400
    with connect(SOCKET) as cursor:
        ((base,),) = ask(cursor, "SELECT @@log_bin_basename")
        log = Path(base).parent
        is_there = (
            _at_target(Target().listing(line(log)), log) if declared["target"] else _in_repository(line(log), log)
        )
        names = [row[0] for row in ask(cursor, "SHOW BINARY LOGS")]
        kept = next((name for name in names if not is_there(name) or (log / name).stat().st_mtime > oldest), names[-1])
        if kept == names[0]:
            return []
        cursor.execute(f"PURGE BINARY LOGS TO '{kept}'")
        left = [row[0] for row in ask(cursor, "SHOW BINARY LOGS")]
    where = "the target" if declared["target"] else "the repository"
    return [f"removed {len(names) - len(left)} files of the log that {where} has; {left[0]} is the oldest now"]


def _at_target(there: dict[str, int], log: Path) -> Callable[[str], bool]:
    """What the target itself lists: the state is the streamer's to write. With the last file there the streamer goes on."""
    last = max((number(name) for name in there if name != "ledger"), default=0)
    return lambda name: number(name) < last and there.get(name, -1) >= (log / name).stat().st_size


def _in_repository(of: str, log: Path) -> Callable[[str], bool]:
    """Asked anew: a snapshot may have been removed there."""
    has = minute.Saved(repository()).newest(of)
    return lambda name: has.get(name) == (log / name).stat().st_size
