"""The releases on the disk: what each was made of, its verdict, and which are kept."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import ReleaseError, read, read_object, run, target
from .layout import Layout


class Releases:
    """Folders in `Layout.releases`. They are sorted by the number in their record.

    Not by name: it begins with the build time, and the host's clock may have been wrong.
    """

    def __init__(self, paths: Layout) -> None:
        self.paths = paths

    def place(self, release: str) -> Path:
        return self.paths.releases / release

    def record(self, release: str) -> dict[str, Any]:
        """Commit, repository, version and static folder of a release; empty for an unfinished or unknown one."""
        found = read_object(self.paths.mark(release, "json")) if release else {}
        return found if isinstance(found.get("commit"), str) else {}

    def damaged(self) -> list[str]:
        """Releases whose record cannot be read."""
        return [name for name in self.names() if not self.record(name)]

    def age(self, release: str) -> tuple[int, str]:
        """Sort key of a release: its number, then its name. Records of older versions of this tool have no number."""
        number = self.record(release).get("number")
        return number if isinstance(number, int) else 0, release

    def next_number(self) -> int:
        return 1 + max((self.age(path.stem)[0] for path in self.paths.marks.glob("*.json")), default=0)

    def names(self) -> list[str]:
        """All finished releases, the oldest first."""
        known = [path.stem for path in self.paths.marks.glob("*.json")]
        return sorted((name for name in known if self.place(name).is_dir()), key=self.age)

    def verified(self, release: str) -> bool:
        return bool(release) and self.paths.mark(release, "verified").exists() and self.place(release).is_dir()

    def matches_host_python(self, release: str) -> bool:
        """Whether its virtualenv is for the host's Python, which also runs this tool. A Debian upgrade changes it."""
        libraries = self.place(release) / ".venv/lib"
        return not libraries.is_dir() or (libraries / f"python3.{sys.version_info.minor}").is_dir()

    def tampered(self, release: str) -> str:
        """The first file of a release that a user other than root can write. Takes 0.5 s for 100,000 files."""
        place = str(self.place(release))
        others = ["(", "!", "-uid", "0", "-o", "!", "-type", "l", "-perm", "/022", ")"]
        first = run(["find", place, "-xdev", *others, "-print", "-quit"]).strip()
        return f"{first} can be changed by others than root" if first else ""

    def rejected(self, release: str) -> str:
        """Why a converge must not choose it again; empty if it may."""
        return read(self.paths.mark(release, "rejected"))

    def accept(self, release: str) -> None:
        self.paths.mark(release, "verified").touch()
        self.paths.mark(release, "rejected").unlink(missing_ok=True)

    def reject(self, release: str, why: str) -> None:
        write_atomically(self.paths.mark(release, "rejected"), why)

    def before(self, live: str) -> str:
        """The last verified one before the live one."""
        usable = [
            name
            for name in self.names()
            if self.record(name) and self.verified(name) and self.matches_host_python(name)
        ]
        others = [name for name in usable if name != live]
        # If the live release has no record, all others count as older.
        until = self.age(live) if self.record(live) else (sys.maxsize, "")
        older = [name for name in others if self.age(name) < until and not self.rejected(name)]
        if not older:
            named = f"; one that is named can be live: {', '.join(others)}" if others else ""
            raise ReleaseError(f"there is no verified release before the live one on this host{named}")
        return older[-1]

    def sweep(self, needed: Iterable[str], keep: int) -> None:
        """Removes releases that are unfinished or not verified, and all but the last `keep` verified ones.

        The last `keep` that were rolled back stay too, so that a converge knows that it must not ship them again.
        """
        verified = [name for name in self.names() if self.verified(name)]
        rejected = [name for name in verified if self.rejected(name)]
        good = [name for name in verified if name not in rejected]
        kept = {*needed, Path(target(self.paths.current)).name, *good[-keep:], *rejected[-keep:]}
        for place in self.paths.releases.iterdir():
            if place.name in kept:
                continue
            for kind in ("verified", "json"):  # before the folder: if this is cut off, the rest counts as unfinished
                self.paths.mark(place.name, kind).unlink(missing_ok=True)
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        for mark in self.paths.marks.iterdir():
            if not self.place(mark.stem).is_dir():
                mark.unlink()

    # Static files

    def static_files(self, release: str) -> Iterable[tuple[Path, Path]]:
        """Each static file of a release, and its path below the static folder."""
        static = self.record(release).get("static")
        if static and isinstance(static, str):
            for path in files_below(self.place(release) / static):
                yield path, path.relative_to(self.place(release) / static)

    def publish(self, release: str) -> None:
        """Links the static files of a release into the folder that nginx serves, beside those of older releases."""
        for path, name in self.static_files(release):
            public = self.paths.static / name
            make_room(self.paths.static, public)
            fresh = public.with_name(f".{public.name}.new")
            fresh.unlink(missing_ok=True)
            try:
                os.link(path, fresh)
            except OSError:  # another file system
                shutil.copy2(path, fresh)
            os.replace(fresh, public)

    def withdraw(self) -> None:
        """Removes static files that no release has any more."""
        wanted = {name for release in self.names() for _path, name in self.static_files(release)}
        for path in list(files_below(self.paths.static)):
            if path.relative_to(self.paths.static) not in wanted:
                path.unlink()


def files_below(folder: Path) -> Iterable[Path]:
    """All regular files. Symbolic links are skipped: they may lead anywhere."""
    for base, _folders, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if path.is_file() and not path.is_symlink():
                yield path


def make_room(folder: Path, path: Path) -> None:
    """Makes the folders of `path` below `folder`. A file that is in the way of a folder is removed, and the other way round."""
    for part in reversed(path.relative_to(folder).parents):
        if (folder / part).is_file():
            (folder / part).unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
