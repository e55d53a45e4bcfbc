"""Wheels that are kept from one build to the next: of each, root has seen that it is what a commit has pinned.

A commit's build may run anything, and so may leave anything in a cache of pip's that it can write. Here it leaves a
wheel at most, which a later build gets only if its own requirements pin the very same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

from .layout import Layout

PIN = re.compile(r"--hash=sha256:([0-9a-f]{64})")
PIECE = 2**20


def pins(requirements: str) -> set[str]:
    """The digests that a text of requirements allows."""
    return set(PIN.findall(requirements))


class Wheels:
    """Files of `Layout.wheels`, root's, each named after its digest and then as pip wants it."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths

    def lay_out(self, wanted: set[str], user: str) -> Path:
        """A fresh folder of the user's with those that are wanted, to which pip may add."""
        fresh = self.paths.wheels / ".fresh"
        shutil.rmtree(fresh, ignore_errors=True)  # of a build that was cut off
        fresh.mkdir(mode=0o755)
        for path in self.paths.wheels.glob("*.whl"):
            digest, _dash, name = path.name.partition("-")
            if digest in wanted and not (fresh / name).exists():  # one name may have two digests, of two indexes
                os.link(path, fresh / name)  # whose bytes the user cannot change
        shutil.chown(fresh, user, user)
        return fresh

    def keep(self, fresh: Path, wanted: set[str]) -> None:
        """Takes what pip has added, if it is wanted."""
        for name in os.listdir(fresh):
            if re.fullmatch(r"[A-Za-z0-9_.+!-]+\.whl", name):
                self._take(fresh / name, wanted)

    def _take(self, source: Path, wanted: set[str]) -> None:
        copy, digest = self.paths.wheels / ".copy", hashlib.sha256()
        copy.unlink(missing_ok=True)
        try:
            with contextlib.suppress(OSError), open(source, "rb", opener=_as_it_is) as handle, open(copy, "xb") as out:
                if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
                    return
                os.fchmod(out.fileno(), 0o644)
                while piece := handle.read(PIECE):
                    digest.update(piece)
                    out.write(piece)
                if digest.hexdigest() in wanted:
                    os.replace(copy, self.paths.wheels / f"{digest.hexdigest()}-{source.name}")
        finally:
            copy.unlink(missing_ok=True)

    def forget(self, wanted: set[str]) -> None:
        """Removes what no release pins any more."""
        for path in self.paths.wheels.glob("*.whl"):
            if path.name.partition("-")[0] not in wanted:
                path.unlink()


def _as_it_is(name: str, flags: int) -> int:
    """Opens a file of another user's: not what a link leads to, and without waiting for a FIFO."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
