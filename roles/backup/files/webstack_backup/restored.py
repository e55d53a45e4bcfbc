"""What `restore` has left for `go-live`: a file beside the restored data, the journal of a go-live that is not over, and a
note of one that is, until a full backup is taken: what comes after it can go on when it failed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from .atomic import write_atomically
from .basics import STATE, Refused, read_object
from .scratch import PLACE

FOLDER = PLACE / "restore"
FILES = FOLDER / "files"
NOTE = FOLDER / "restored.json"
JOURNAL = STATE / "go-live.json"
LIVE = STATE / "went-live.json"


@dataclass(frozen=True)
class Restored:
    vendor: str
    version: str  # of the server that runs on the copy
    to: str
    position: str
    log: str  # the folder that the log was read from
    line: str
    moment: str = ""  # a time in UTC, if it was not the latest

    def write(self) -> None:
        write_atomically(NOTE, json.dumps(asdict(self)), 0o600)


def read() -> Restored | None:
    """Nothing where no restore has come to its end."""
    found = read_object(NOTE)
    return Restored(**found) if found else None


def journal() -> dict[str, Any]:
    """Of a go-live that has begun to move folders, and not ended."""
    found = read_object(JOURNAL)
    return found if found.get("moves") else {}


def live_since_full() -> dict[str, str]:
    """What a go-live that is over has brought, `to` and `position`, as long as no full backup has been taken of it."""
    return read_object(LIVE)


def refuse_half_done() -> None:
    if journal():
        raise Refused(
            "a go-live was cut off in the middle: webstack-backup go-live goes on with it. Until then this would remove its copy"
        )


def overview() -> tuple[list[str], bool]:
    if not journal():
        return [], True
    return ["Restore: a go-live was cut off in the middle; webstack-backup go-live goes on with it"], False
