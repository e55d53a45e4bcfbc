"""Commands, files and links: what every part of the tool uses."""

from __future__ import annotations

import contextlib
import grp
import itertools
import json
import os
import pwd
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ReleaseError(Exception):
    """What went wrong, in words for the operator."""


@contextlib.contextmanager
def explained_as(words: str) -> Iterator[None]:
    """Says first what it means that something in the block fails, and then how it did."""
    try:
        yield
    except ReleaseError as error:
        raise ReleaseError(f"{words}\n{error}") from error


def run(
    argv: list[str], *, seconds: float = 60, stdin: Any = None, stdout: Any = None, inner: list[str] | None = None
) -> str:
    """Runs a command; returns its output, raises ReleaseError with its words.

    Where `argv` only runs another command, `inner` is the one to speak of.
    """
    named = list(itertools.dropwhile(lambda word: "=" in word, inner or argv))  # without what `env` is told
    try:
        done = subprocess.run(
            argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", timeout=seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ReleaseError(f"{shlex.join(named)}: no end after {seconds:.0f} s") from error
    if done.returncode != 0:
        words = (done.stderr.strip() + "\n" + (done.stdout or "").strip()).strip()
        raise ReleaseError(f"{Path(named[0]).name} failed" + (f":\n{words[-4000:]}" if words else ""))
    return done.stdout or ""


def succeeds(argv: list[str]) -> bool:
    """Whether a command that only asks something says yes."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def is_running(unit: str) -> bool:
    """Whether a unit has begun and not ended."""
    state = run(["systemctl", "show", "--property=ActiveState", "--value", unit]).strip()
    return state in ("active", "activating", "deactivating")


def read(path: Path) -> str:
    """The text of a file, whatever bytes it has; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def read_object(path: Path) -> dict[str, Any]:
    """The object of JSON in a file; empty where there is none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read(path))
        if isinstance(found, dict):
            return found
    return {}


def is_damaged(path: Path) -> bool:
    """Whether a file should hold an object of JSON and does not, as after a power cut on a bad disk."""
    return os.path.lexists(path) and not read_object(path)


def in_words(error: BaseException) -> str:
    """What an exception says, for people."""
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return f"{said}; root may" if isinstance(error, PermissionError) and os.geteuid() else said
    return str(error) or repr(error)


def numbers(owner: str, group: str) -> tuple[int, int]:
    """Of a user and a group; -1, which is nobody's, for one that the host does not have."""
    found = []
    for ask, name in ((pwd.getpwnam, owner), (grp.getgrnam, group)):
        try:
            found.append(ask(name)[2])
        except KeyError:
            found.append(-1)
    return found[0], found[1]


def misplaced(folder: Path, owner: str, group: str, mode: int, *, least: bool = False) -> str:
    """In which way a folder is not as it should be; empty if it is.

    With `least` its owner and its group may do more than `mode` says, others may not.
    """
    try:
        found = folder.stat()
    except FileNotFoundError:
        return f"{folder} is missing"
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is no folder"
    if (found.st_uid, found.st_gid) != numbers(owner, group):
        return f"{folder} does not belong to {owner}:{group}"
    now = stat.S_IMODE(found.st_mode)
    right = now & mode == mode and not now & ~mode & 0o007 if least else now == mode
    return "" if right else f"{folder} has the mode {now:04o} instead of {mode:04o}"


def target(link: Path) -> str:
    """Where a link leads; empty for anything else."""
    return os.readlink(link) if link.is_symlink() else ""
