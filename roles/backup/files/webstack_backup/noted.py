"""The outcome of what is done again and again, for `status`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import Refused, in_words, now, read_object


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
