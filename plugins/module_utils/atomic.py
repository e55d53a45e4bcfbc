# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files and links that are replaced in one rename: readers, and a power cut, meet the old one or the new one, never a part.

Modules and actions use it, and on hosts it is a part of webstack-release, which has no Ansible. Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Replaces the file at `path`. The content is on the disk before the rename. `owner`: user and group, as numbers."""
    fresh = _beside(path)
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    # O_EXCL: an untrusted repository may hold a link of this name. 0600 until the content has its owner.
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            if owner:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            handle.flush()
            os.fsync(descriptor)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)  # on a full disk, whoever restores the old files needs the room
        raise


def link_atomically(link: Path, target: str | Path) -> None:
    """Makes `link` a symbolic link to `target`, whatever file or link was there."""
    fresh = _beside(link)
    fresh.symlink_to(target)
    os.replace(fresh, link)


def _beside(path: Path) -> Path:
    """A free name in the same folder: a rename works only within one file system."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # left by a run that was killed
    return fresh
