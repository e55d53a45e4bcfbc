# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One file of a host with its owner and permissions: reading it, writing it, putting back what was there."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.foobar.webstack.plugins.module_utils.atomic import write_atomically


@dataclass(frozen=True)
class File:
    """A file as it is, or as it is declared. Owners are names; numbers, as text, where the host has no such user."""

    content: bytes
    mode: int
    owner: str
    group: str
    changed_at: float = 0.0  # seconds since the epoch; not compared

    def key(self) -> tuple[bytes, int, str, str]:
        return (self.content, self.mode, self.owner, self.group)


# What was at each path before a change: a file, the target of a symbolic link, or nothing.
Before = dict[str, "File | str | None"]


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user_id(name: str) -> int:
    return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def read(path: str) -> File | None:
    """The regular file at `path`; None for anything else, such as a link or a folder."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    mode = stat.S_IMODE(status.st_mode)
    return File(content, mode, user_name(status.st_uid), group_name(status.st_gid), status.st_ctime)


def link_target(path: str) -> str | None:
    """Where a symbolic link leads; None for anything else."""
    return os.readlink(path) if os.path.islink(path) else None


def write(path: str, file: File) -> None:
    """Puts `file` at `path`. Missing folders are made; a folder at `path` is not removed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(f"{path} is a folder, a file is wanted there")
    write_atomically(target, file.content, file.mode, (user_id(file.owner), group_id(file.group)))


def restore(before: Before) -> None:
    """Puts back what was there before a change."""
    for path, found in before.items():
        if isinstance(found, File):
            write(path, found)
            continue
        Path(path).unlink(missing_ok=True)
        if found is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(found, path)
