"""The releases on the disk: what each was made of, what became of it, which are kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .basics import ReleaseError, read, target, write_atomically
from .layout import Layout


class Releases:
    """Folders of `Layout.releases`. Their names begin with the moment of the build, so they sort by age."""

    def __init__(self, at: Layout) -> None:
        self.at = at

    def place(self, release: str) -> Path:
        return self.at.releases / release

    def record(self, release: str) -> dict[str, Any]:
        """Commit, repository and version that it was made of; empty for what is no finished release."""
        return json.loads(read(self.place(release) / ".release.json") or "{}") if release else {}

    def names(self) -> list[str]:
        """All finished ones, the oldest first."""
        return sorted(path.parent.name for path in self.at.releases.glob("*/.release.json"))

    def verified(self, release: str) -> bool:
        return (self.place(release) / ".verified").exists()

    def rejected(self, release: str) -> str:
        """Why it is not to be chosen again, empty for others."""
        return read(self.place(release) / ".rejected")

    def accept(self, release: str) -> None:
        (self.place(release) / ".verified").touch()
        (self.place(release) / ".rejected").unlink(missing_ok=True)

    def reject(self, release: str, why: str) -> None:
        write_atomically(self.place(release) / ".rejected", why)

    def before(self, live: str) -> str:
        """The last verified one before the live one."""
        older = [name for name in self.names() if name < live and self.verified(name) and not self.rejected(name)]
        if not older:
            raise ReleaseError("there is no verified release before the live one on this host")
        return older[-1]

    def sweep(self, needed: Iterable[str], keep: int) -> None:
        """Removes what was half built or never verified, and all but the last `keep` verified ones."""
        kept = {*needed, Path(target(self.at.current)).name}
        kept |= set([name for name in self.names() if self.verified(name)][-keep:])
        for place in self.at.releases.iterdir():
            if place.name in kept:
                continue
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()

    # Static files

    def publish(self, release: str, static: str) -> None:
        """Puts the static files of a release where nginx finds them, beside those of the releases before."""
        source = self.place(release) / static
        for path in files_below(source):
            public = self.at.static / path.relative_to(source)
            make_room(self.at.static, public)
            fresh = public.with_name(f".{public.name}.new")
            fresh.unlink(missing_ok=True)
            try:
                os.link(path, fresh)
            except OSError:  # another disk
                shutil.copy2(path, fresh)
            os.replace(fresh, public)

    def withdraw(self, static: str) -> None:
        """Removes the static files that no release has any more."""
        wanted = {
            path.relative_to(self.place(name) / static)
            for name in self.names()
            for path in files_below(self.place(name) / static)
        }
        for path in list(files_below(self.at.static)):
            if path.relative_to(self.at.static) not in wanted:
                path.unlink()


def files_below(folder: Path) -> Iterable[Path]:
    """All regular files; what is a link may lead anywhere."""
    for base, _folders, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                yield path


def make_room(folder: Path, path: Path) -> None:
    """Makes the folders of `path` below `folder`; a file may have been where there is a folder now, and vice versa."""
    for part in reversed(path.relative_to(folder).parents):
        if (folder / part).is_file():
            (folder / part).unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
