"""Removes the full backups that are older than is declared, and what belongs to none: hosts cannot do that themselves.

webstack-archive-thin-out.timer starts it. Of a host whose passphrase is not declared here, all stays.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .basics import Refused, read_object, run, told_by_restic
from .sink import ROOT

FOLDER = Path("/etc/webstack-archive")
ASK_SECONDS, PRUNE_SECONDS = 600, 6 * 3600
LONGEST = timedelta(days=1)  # from when a full has its data's time to the mark that makes it count
DATA_OF = "data-"  # the tag of a mark of files begins so
NONE = "none"  # no id begins with it
DEAD = timedelta(minutes=30)  # who holds a lock writes it anew every 5 minutes


def is_locked(locks: Path, now: datetime) -> bool:
    """Whether a backup is at work, or was until a short while ago. Removes the locks of those that are dead.

    `restic unlock` would also remove the lock of a host that has the hostname of this one, as soon as no process here has its
    number. Here the time of the file counts, which is of this host's clock.
    """
    found = False
    for lock in locks.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # its holder has removed it
            if lock.stat().st_mtime < (now - DEAD).timestamp():
                lock.unlink()
            else:
                found = True
    return found


def thin_out(call: Callable[..., str], keep: timedelta, now: datetime) -> str:
    """`call` runs restic. Returns what was done, in words.

    The age counts from the newest full, so that those of a host that takes none any more stay. A time that the host has
    made up removes nothing that would have stayed: one in the future does not count, one in the past keeps more.
    """
    found = json.loads(call("snapshots", "--json", "--no-lock", seconds=ASK_SECONDS)) or []
    times = {one["id"]: told_by_restic(one["time"]) for one in found}
    fulls = {one["id"] for one in found if "full" in (one.get("tags") or ())}
    newest = max((times[one] for one in fulls if times[one] <= now), default=None)
    if not newest:
        return "no full backup yet"
    kept = {one for one in fulls if times[one] >= newest - keep}
    begin = min(times[one] for one in kept) - LONGEST
    leaving = sorted(fulls - kept)
    old = sorted(one for one in times.keys() - fulls if times[one] < begin)
    if old:
        needed = named_by([one for one in found if one["id"] in kept], call)
        old = [one for one in old if not one.startswith(needed)]
        # So does each mark of files that stays, in a tag.
        tags = [tag for one in found if one["id"] not in old for tag in one.get("tags") or ()]
        named = tuple(tag.removeprefix(DATA_OF) for tag in tags if tag.startswith(DATA_OF))
        old = [one for one in old if not one.startswith(named)]
    # The marks first: one whose data are gone would count, and could not be restored.
    for snapshots in (leaving, old):
        if snapshots:
            call("forget", *snapshots, seconds=ASK_SECONDS)
    if leaving or old:
        call("prune", seconds=PRUNE_SECONDS)
    return f"{len(leaving)} full backups removed, {len(kept)} kept"


def named_by(fulls: list[dict[str, Any]], call: Callable[..., str]) -> tuple[str, ...]:
    """The snapshots that these need, as their manifests say: the clock may have stepped since the data were saved."""
    named = []
    for full in fulls:
        said = call("dump", "--no-lock", full["id"], full["paths"][0], seconds=ASK_SECONDS)
        with contextlib.suppress(ValueError, AttributeError):  # this is no full, whatever its tag says
            manifest = json.loads(said)
            named += [str(manifest.get(name) or NONE) for name in ("data", "files")]
    return tuple(named)


def main() -> int:
    keep = timedelta(days=read_object(FOLDER / "keep.json")["days"])
    code = 0
    for passphrase in sorted((FOLDER / "passphrases").glob("*")):
        host = passphrase.name
        repository = ["restic", "--repo", str(ROOT / host / "restic"), "--password-file", str(passphrase), "--no-cache"]

        def call(*words: str, seconds: float, argv: tuple[str, ...] = tuple(repository)) -> str:
            return run([*argv, *words], seconds=seconds)

        try:
            now = datetime.now(UTC)
            if not (ROOT / host / "restic" / "config").exists():
                said = "no backup yet"
            elif is_locked(ROOT / host / "restic" / "locks", now):
                said = "a backup is at work: old ones are removed at the next turn"
            else:
                said = thin_out(call, keep, now)
            print(f"{host}: {said}")
        except Refused as error:
            print(f"{host}: {error}", file=sys.stderr)
            code = 1
    return code
