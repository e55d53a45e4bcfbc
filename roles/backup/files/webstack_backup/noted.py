"""The outcome of what is done again and again, for `status`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import Refused, in_words, now, read_object, run

DAILY = "*-*-* 03:00"
# One that was begun by hand shortly before its turn counts as that. A turn begins up to half an hour later, and takes its time.
BEFORE, AFTER = timedelta(hours=1), timedelta(hours=2)


def is_late(since: datetime, schedule: str) -> bool:
    """Whether a turn of the timer has come and gone since then. systemd alone knows what its schedules mean."""
    base = f"--base-time={(since + BEFORE).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    said = run(["systemd-analyze", "calendar", base, schedule], seconds=60, env={"LC_ALL": "C"})
    turn = re.search(r"(?:Next elapse|\(in UTC\)): \w+ (\S+ \S+) UTC", said)
    return not turn or datetime.now(UTC) > datetime.fromisoformat(f"{turn[1]}+00:00") + AFTER


@contextmanager
def noted(path: Path) -> Iterator[dict[str, Any]]:
    """The outcome, good or bad, goes into the file; after a bad one the last good one still stands there."""
    good: dict[str, Any] = {}
    try:
        yield good
    except Exception as error:  # also what nobody has thought of: the last good one would stand there alone
        said = in_words(error).splitlines()[0] if isinstance(error, Refused | OSError) else repr(error)
        _write(path, {**read_object(path), "fault": said, "tried": now()})
        raise
    _write(path, {**good, "time": now()})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(content))
