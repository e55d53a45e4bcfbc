"""Wheels that are kept from one build to the next. Root has compared each with a digest that a commit pins.

A build runs code of the commit, which could put anything into a cache that pip can write. Here a build can only leave a
wheel, and a later build gets it only if its own requirements pin the same digest.
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
    """The digests that the text of a requirements file allows."""
    return set(PIN.findall(requirements))


class Wheels:
    """Files in `Layout.wheels`, owned by root. A name is the digest, a dash, and the wheel's name for pip."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths

    def lay_out(self, wanted: set[str], user: str) -> Path:
        """Makes a new folder of the user with the wanted wheels. pip may add others."""
        fresh = self.paths.wheels / ".fresh"
        shutil.rmtree(fresh, ignore_errors=True)  # left by a build that was cut off
        fresh.mkdir(mode=0o755)
        for path in self.paths.wheels.glob("*.whl"):
            digest, _dash, name = path.name.partition("-")
            if (
                digest in wanted and not (fresh / name).exists()
            ):  # two package indexes may have different files of one name
                os.link(path, fresh / name)  # it stays root's, so the user cannot change it
        shutil.chown(fresh, user, user)
        return fresh

    def keep(self, fresh: Path, wanted: set[str]) -> None:
        """Keeps the wheels that pip has added, if their digests are wanted."""
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
        """Removes wheels that no release pins any more."""
        for path in self.paths.wheels.glob("*.whl"):
            if path.name.partition("-")[0] not in wanted:
                path.unlink()


def _as_it_is(name: str, flags: int) -> int:
    """Opens a file of an untrusted user: no symbolic link is followed, and a FIFO does not block."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
