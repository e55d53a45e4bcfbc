# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who a folder of the host belongs to: a role, a Debian package, or somebody else, whose files must not be lost."""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import os
import shutil
from pathlib import Path

STATUS = Path("/var/lib/dpkg/status")
TAKEN = Path("/var/lib/webstack/taken")  # a file for each folder that a role manages
COPIES = Path("/var/lib/webstack/copies")
UNIT_FOLDER = Path("/etc/systemd/system")


def sign(folder: str) -> Path:
    """The file that marks a folder as managed by a role. It is written before the first change in the folder."""
    return TAKEN / folder.strip("/").replace("/", "-")


def is_ours(folder: str, unit: str = "") -> bool:
    """Whether a role manages a folder. Older versions made no such file; then the role's drop-in of the unit counts."""
    return sign(folder).exists() or (bool(unit) and (UNIT_FOLDER / f"{unit}.d/webstack.conf").exists())


def strangers(folder: str, unmanaged_globs: list[str]) -> list[str]:
    """Files below `folder` that no Debian package installed, or that were changed since; each with the reason.

    Paths that match `unmanaged_globs` do not count: they stay whoever takes the folder.
    """
    shipped = conffiles(folder)
    found = []
    for base, folders, names in os.walk(folder):
        for name in sorted([*names, *(name for name in folders if os.path.islink(os.path.join(base, name)))]):
            path = os.path.join(base, name)
            if any(fnmatch.fnmatch(path, pattern) for pattern in unmanaged_globs) or ".dpkg-" in name:
                continue
            if os.path.islink(path):
                # Debian's packages enable sites and modules by links to their own files.
                if os.path.realpath(path) not in shipped or _changed(os.path.realpath(path), shipped):
                    found.append(f"{path} (leads to {os.readlink(path)})")
            elif path not in shipped:
                found.append(path)
            elif _changed(path, shipped):
                found.append(f"{path} (changed by hand)")
    return sorted(found)


def conffiles(folder: str) -> dict[str, str]:
    """MD5 of each configuration file below `folder` as its package installed it (dpkg's status file)."""
    shipped = {}
    try:
        text = STATUS.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    for line in text.splitlines():
        if line.startswith(f" {folder}/"):
            path, digest, *_obsolete = line.split()  # an obsolete file came from a package too
            shipped[path] = digest
    return shipped


def _changed(path: str, shipped: dict[str, str]) -> bool:
    with open(path, "rb") as handle:
        return hashlib.md5(handle.read(), usedforsecurity=False).hexdigest() != shipped[path]


def take(folder: str, keep_copy: bool) -> str:
    """Marks a folder as managed; returns the path of a copy of its content, empty without a copy."""
    copy = ""
    if keep_copy:
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%SZ")
        place = COPIES / f"{moment}{folder.replace('/', '-')}"
        COPIES.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(folder, fresh, symlinks=True)
        fresh.rename(place)
        os.sync()
        copy = str(place)
    TAKEN.mkdir(mode=0o755, parents=True, exist_ok=True)
    sign(folder).write_text(
        f"{folder} is kept by Ansible. {f'What it held before: {copy}' if copy else ''}\n", encoding="utf-8"
    )
    return copy
