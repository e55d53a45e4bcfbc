# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The folders of a service's configuration: files in them that nobody declared, and who may write and enter."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.host_files import (
    File,
    group_id,
    group_name,
    user_id,
    user_name,
)


def undeclared(managed_folders: list[str], unmanaged_globs: list[str], declared: Iterable[str]) -> list[str]:
    """Paths below the managed folders that are to be removed; files come before the folders that they are in."""
    declared = set(declared)
    holding = _parents(declared)
    found = []
    for folder in managed_folders:
        for base, folders, names in os.walk(folder, topdown=False):
            links = [name for name in folders if os.path.islink(os.path.join(base, name))]
            found += [os.path.join(base, name) for name in names + links]
            if base != folder and base not in holding:
                found.append(base)
    unmanaged = {path for path in found if any(fnmatch.fnmatch(path, pattern) for pattern in unmanaged_globs)}
    unmanaged |= _parents(unmanaged)
    return [path for path in found if path not in declared and path not in unmanaged]


def _parents(paths: Iterable[str]) -> set[str]:
    return {str(parent) for path in paths for parent in Path(path).parents}


def wholly_managed(managed_folders: list[str], unmanaged_globs: list[str]) -> list[str]:
    """The managed folders and those below them, without the ones that may hold unmanaged files."""
    found = [base for folder in managed_folders for base, _folders, _names in os.walk(folder)]
    return [base for base in found if not any(fnmatch.fnmatch(f"{base}/x", pattern) for pattern in unmanaged_globs)]


@dataclass(frozen=True)
class Permissions:
    """Owner, group and mode of a folder."""

    user: int
    group: int
    mode: int

    def __str__(self) -> str:
        return f"{user_name(self.user)}:{group_name(self.group)} {self.mode:04o}"


def permissions(path: str) -> Permissions | None:
    """None where there is no folder, or a symbolic link to one."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(status.st_mode):
        return None
    return Permissions(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def wrong_folders(
    declared: list[dict[str, Any]], managed: list[str], files: dict[str, File]
) -> dict[str, tuple[Permissions, Permissions]]:
    """Folders with wrong permissions: as they are, and as they must be.

    Whoever may write into a folder can replace root's files in it. Where a file is for everybody,
    everybody must be able to enter its folder.
    """
    found = {}
    for path in sorted(_parents(files) | set(managed)):
        if now := permissions(path):
            found[path] = (now, _secured(path, now, files))
    for item in declared:
        if now := permissions(item["path"]):
            with contextlib.suppress(KeyError):  # in check mode, the package that makes the user may not be there yet
                right = Permissions(user_id(item["owner"]), group_id(item["group"]), int(item["mode"], 8))
                found[item["path"]] = (now, right)
    return {path: (now, right) for path, (now, right) in found.items() if now != right}


def _secured(path: str, now: Permissions, files: dict[str, File]) -> Permissions:
    """The permissions that a folder with declared files must have, as close to its present ones as possible."""
    below = [file for name, file in files.items() if name.startswith(path.rstrip("/") + "/")]
    # A service that writes its own files may own the folder, or write through the folder's group.
    keeps_user = user_name(now.user) in {user_name(0), user_name(os.geteuid()), *(file.owner for file in below)}
    group_writes = group_name(now.group) in {file.group for file in below} - {group_name(0)}
    if now.mode & stat.S_ISVTX:  # such as /tmp: the sticky bit protects files from other users
        forbidden = 0
    elif now.mode & stat.S_ISGID or group_writes:  # set-group is deliberate: Debian has it on /usr/local
        forbidden = 0o002
    else:
        forbidden = 0o022
    for_all = any(str(Path(name).parent) == path and file.mode & 0o004 for name, file in files.items())
    # A package may have closed its folder to all but one group.
    opened = 0o755 if for_all and now.group in (0, os.getegid()) else 0
    return Permissions(now.user if keeps_user else 0, now.group, now.mode & ~forbidden | opened)
