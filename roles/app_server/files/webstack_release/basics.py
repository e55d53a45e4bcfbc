"""Helpers for commands, files and links."""

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
    """An error with a message for the operator."""


@contextlib.contextmanager
def explained_as(words: str) -> Iterator[None]:
    """If the block fails, puts `words` before the error: what the failure means."""
    try:
        yield
    except ReleaseError as error:
        raise ReleaseError(f"{words}\n{error}") from error


def run(
    argv: list[str], *, seconds: float = 60, stdin: Any = None, stdout: Any = None, inner: list[str] | None = None
) -> str:
    """Runs a command; returns its output, raises ReleaseError with its words.

    If `argv` only wraps another command, errors name that one: `inner`.
    """
    named = list(itertools.dropwhile(lambda word: "=" in word, inner or argv))  # without the variables that `env` sets
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
    """Whether a command exits with 0; its output is ignored."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def is_running(unit: str) -> bool:
    """Whether a unit has started and not ended."""
    state = run(["systemctl", "show", "--property=ActiveState", "--value", unit]).strip()
    return state in ("active", "activating", "deactivating")


def read(path: Path) -> str:
    """The text of a file, also if it is not valid UTF-8; empty if there is no file."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no file, or no valid object in it."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read(path))
        if isinstance(found, dict):
            return found
    return {}


def is_damaged(path: Path) -> bool:
    """Whether a file exists without a valid JSON object, such as after a power cut."""
    return os.path.lexists(path) and not read_object(path)


def in_words(error: BaseException) -> str:
    """The message of an exception, for the operator."""
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return f"{said}; root may" if isinstance(error, PermissionError) and os.geteuid() else said
    return str(error) or repr(error)


def numbers(owner: str, group: str) -> tuple[int, int]:
    """User id and group id; -1 for a name that the host does not have."""
    found = []
    for ask, name in ((pwd.getpwnam, owner), (grp.getgrnam, group)):
        try:
            found.append(ask(name)[2])
        except KeyError:
            found.append(-1)
    return found[0], found[1]


def misplaced(folder: Path, owner: str, group: str, mode: int, *, least: bool = False) -> str:
    """What is wrong with owner, group or mode of a folder; empty if nothing is.

    With `least`, more permissions for owner and group are allowed, but not for others.
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
    """The target of a symbolic link; empty for anything else."""
    return os.readlink(link) if link.is_symlink() else ""
