"""Puts fetched files into their places: what is missing there, and what was changed after the moment, which is kept. Nothing is removed.

The folders belong to applications that may be at work. No link in them is followed, so that none leads root elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from .basics import Refused
from .repository import in_bytes
from .state import clock

PART = ".webstack-restore-part"
ROOT = Path("/")
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")


@dataclass
class Placing:
    fetched: Path
    moment: str  # UTC; empty: what is live is right, whenever it was changed
    kept: Path
    really: bool
    back: int = 0
    replaced: int = 0
    others: list[str] = field(default_factory=list)
    needed: dict[int, int] = field(default_factory=dict)  # bytes, by file system
    free: dict[int, int] = field(default_factory=dict)

    def all(self) -> Placing:
        with opened(self.fetched) as fetched, opened(ROOT) as live:
            self._folder(fetched, live, Path(), missing=False)
        return self

    def _folder(self, fetched: int, live: int, path: Path, *, missing: bool) -> None:
        """`missing`: `live` is a folder above it, since it is not there yet."""
        for name in sorted(os.listdir(fetched)):
            saved = os.stat(name, dir_fd=fetched, follow_symlinks=False)
            found = None
            with contextlib.suppress(FileNotFoundError):
                found = None if missing else os.stat(name, dir_fd=live, follow_symlinks=False)
            if found and stat.S_IFMT(found.st_mode) != stat.S_IFMT(saved.st_mode):
                self.others.append(str(ROOT / path / name))
            elif stat.S_ISDIR(saved.st_mode):
                if not found and self.really:
                    make_folder(name, saved, live)
                gone = not found and not self.really
                with opened(name, fetched) as inner, opened("." if gone else name, live) as place:
                    self._folder(inner, place, path / name, missing=gone)
            elif not found:
                self.back += self._put(name, fetched, live, saved)
            elif self._changed_after(found) and differ(name, fetched, live):
                if self.really:
                    self.kept.mkdir(mode=0o700, exist_ok=True)
                    (self.kept / path).mkdir(parents=True, exist_ok=True)
                    with opened(self.kept / path) as beside:
                        copy(name, live, beside)
                else:
                    with opened(self.kept.parent) as beside:
                        self._needs(beside, found.st_size)
                self.replaced += self._put(name, fetched, live, saved)

    def _changed_after(self, found: os.stat_result) -> bool:
        """By the time that no program can set."""
        return bool(self.moment) and found.st_ctime > datetime.fromisoformat(self.moment).timestamp()

    def _put(self, name: str, fetched: int, live: int, saved: os.stat_result) -> int:
        if not (stat.S_ISREG(saved.st_mode) or stat.S_ISLNK(saved.st_mode)):
            return 0  # a socket or a pipe: who uses it makes it
        if self.really:
            copy(name, fetched, live)
        self._needs(live, saved.st_size)
        return 1

    def _needs(self, place: int, size: int) -> None:
        device, room = os.fstat(place).st_dev, os.fstatvfs(place)
        self.needed[device] = self.needed.get(device, 0) + size
        self.free[device] = room.f_bavail * room.f_frsize


def judge(fetched: Path, moment: str, kept: Path) -> None:
    """Refuses what there is no room for."""
    if fetched.exists():
        found = Placing(fetched, moment, kept, really=False).all()
        for device, needed in found.needed.items():
            if needed > found.free[device]:
                raise Refused(
                    f"the files that come back need {in_bytes(needed)} where they belong, {in_bytes(found.free[device])} are free"
                )


def place(fetched: Path, moment: str, kept: Path) -> list[str]:
    """Returns what was done. After a call that was killed, the next one does what is left."""
    if not fetched.exists():
        return []
    done = Placing(fetched, moment, kept, really=True).all()
    words = [f"{done.back:,} files that were missing are back; all others are as they were"]
    if done.replaced:
        words = [
            f"{done.back:,} files that were missing are back, and {done.replaced:,} that were changed after {clock(moment)} are as they "
            f"were saved before that; all others are as they were",
        ]
    if kept.exists():
        words.append(f"The changed files are kept in {kept}; remove it when nobody misses anything")
    if done.others:
        words.append(f"These were saved as something else than they are now, and stay: {', '.join(done.others[:20])}")
    return words


@contextlib.contextmanager
def opened(path: Path | str, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(name: str, saved: os.stat_result, place: int) -> None:
    """With its owner and mode, or not at all."""
    cleared(place)
    os.mkdir(PART, 0o700, dir_fd=place)
    with opened(PART, place) as made:
        os.fchown(made, saved.st_uid, saved.st_gid)
        os.fchmod(made, stat.S_IMODE(saved.st_mode))
    os.rename(PART, name, src_dir_fd=place, dst_dir_fd=place)


def copy(name: str, source: int, place: int) -> None:
    """A file or a link into a folder, whole or not at all, in the place of what has its name there."""
    cleared(place)
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), PART, dir_fd=place)
        os.chown(PART, found.st_uid, found.st_gid, dir_fd=place, follow_symlinks=False)
    else:
        with (
            reading(name, source) as old,
            open(
                PART, "xb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600, dir_fd=place)
            ) as new,
        ):
            shutil.copyfileobj(old, new, 2**20)
            new.flush()
            os.fchown(new.fileno(), found.st_uid, found.st_gid)
            os.fchmod(new.fileno(), stat.S_IMODE(found.st_mode))
            for attribute in os.listxattr(old.fileno()):
                if attribute.startswith(KEPT_ATTRIBUTES):
                    os.setxattr(new.fileno(), attribute, os.getxattr(old.fileno(), attribute))
            os.utime(new.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(new.fileno())
    os.rename(PART, name, src_dir_fd=place, dst_dir_fd=place)


def cleared(place: int) -> None:
    """Removes what a call that was killed has left."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(PART, dir_fd=place, follow_symlinks=False).st_mode):
            os.rmdir(PART, dir_fd=place)
        else:
            os.remove(PART, dir_fd=place)


def reading(name: str, folder: int) -> BinaryIO:
    return open(
        name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    )


def differ(name: str, one: int, other: int) -> bool:
    """In what they hold; both are files, or both links."""
    found = [os.stat(name, dir_fd=folder, follow_symlinks=False) for folder in (one, other)]
    if stat.S_ISLNK(found[0].st_mode):
        return os.readlink(name, dir_fd=one) != os.readlink(name, dir_fd=other)
    if found[0].st_size != found[1].st_size:
        return True
    with reading(name, one) as first, reading(name, other) as second:
        while (part := first.read(2**20)) == second.read(2**20):
            if not part:
                return False
    return True
