# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The declared configuration files of one service beside the files on the disk."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.host_files import (
    Before,
    File,
    link_target,
    read,
    write,
)
from ansible_collections.foobar.webstack.plugins.module_utils.service_folders import (
    undeclared,
    wholly_managed,
    wrong_folders,
)


class Configuration:
    """What service_config was given, and how the host differs from it."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.declared = declared_files(params["files"])
        self.live = {path: read(path) for path in self.declared}
        self.changed = [
            path for path, file in self.declared.items() if (now := self.live[path]) is None or now.key() != file.key()
        ]
        self.to_remove = undeclared(params["managed_folders"], params["unmanaged_globs"], self.declared)
        # Followed to the file: certbot, for one, replaces the link at each renewal.
        self.watched = {item["path"]: read(os.path.realpath(item["path"])) for item in params["watch"]}
        self.apply = {item["path"]: item["apply"] for item in params["files"]}
        self.apply.update({item["path"]: item["apply"] for item in params["watch"] if item["apply"] == "restart"})
        self.reload_watched = [item["path"] for item in params["watch"] if item["apply"] == "reload"]
        self.folders = wholly_managed(params["managed_folders"], params["unmanaged_globs"])
        self.wrong_folders = wrong_folders(params["folders"], self.folders, self.declared)

    def _paths(self, level: str) -> list[str]:
        return sorted(path for path, apply in self.apply.items() if apply == level)

    def digests(self) -> dict[str, str]:
        """One digest of the files that a restart loads, one of those that a reload loads."""
        result = {}
        for level in ("restart", "reload"):
            digest = hashlib.sha256()
            for path in self._paths(level):
                file = self.declared.get(path) or self.watched.get(path)
                digest.update(repr((path, file.key() if file else None)).encode())
            result[level] = digest.hexdigest()
        return result

    def changed_at(self, level: str) -> float:
        """When the newest file of this level changed; infinite if this run changes one."""
        if any(self.apply[path] == level for path in self.changed) or (level == "reload" and self.to_remove):
            return float("inf")
        times = [
            file.changed_at for path in self._paths(level) if (file := self.live.get(path) or self.watched.get(path))
        ]
        # The removal of a file shows only in the time of its folder.
        times += [os.stat(folder).st_ctime for folder in self.folders if level == "reload"]
        return max(times, default=0.0)

    def watched_changed_at(self) -> float:
        """When the newest of the watched files that a reload loads changed, or the link to it."""
        times = [file.changed_at for path in self.reload_watched if (file := self.watched[path])]
        times += [os.lstat(path).st_ctime for path in self.reload_watched if os.path.lexists(path)]
        return max(times, default=0.0)

    def swap(self, before: Before) -> None:
        """Puts the declared files in place; notes in `before` what was there, for `restore`.

        The permissions of folders come first and are not restored: no service needs a folder open to others.
        """
        for path, (_now, right) in self.wrong_folders.items():
            os.chown(path, right.user, right.group, follow_symlinks=False)
            os.chmod(path, right.mode)
        for path in self.changed:
            found = link_target(path) or self.live[path]
            write(path, self.declared[path])
            before[path] = found
        for path in self.to_remove:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                before[path] = link_target(path) or read(path)
                os.unlink(path)

    def diffs(self) -> list[dict[str, str]]:
        folders = [(path, f"# {now}\n", f"# {right}\n") for path, (now, right) in self.wrong_folders.items()]
        files = [(path, shown(read(path)), shown(self.declared.get(path))) for path in self.changed + self.to_remove]
        return [
            {"before_header": path, "after_header": path, "before": before, "after": after}
            for path, before, after in folders + files
        ]


def declared_files(files: list[dict[str, Any]]) -> dict[str, File]:
    """The declared files by their paths; the text of each ends in one newline."""
    return {
        item["path"]: File(
            (item["content"].rstrip("\n") + "\n").encode(), int(item["mode"], 8), item["owner"], item["group"]
        )
        for item in files
    }


def shown(file: File | None) -> str:
    """A file in a diff; its content only if every user of the host may read it."""
    if file is None:
        return ""
    head = f"# {file.owner}:{file.group} {file.mode:04o}\n"
    if not file.mode & 0o004:
        return head + "# not shown: not everybody on the host may read it\n"
    return head + file.content.decode(errors="replace")
