"""Helpers for commands, files and words; the places that all parts share."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/webstack-backup/config.json")
STATE = Path("/var/lib/webstack-backup")
SOCKET = Path("/run/mysqld/mysqld.sock")
LARGEST = 64 << 20  # bytes of a file that holds an object


class Refused(Exception):
    """What cannot or must not be done, with a message for the operator."""


def run(
    argv: list[str], *, seconds: float, stdin: Any = None, stdout: Any = None, env: dict[str, str] | None = None
) -> str:
    """Runs a command for `seconds` at most; returns its output, raises Refused with its words."""
    try:
        done = subprocess.run(
            argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", timeout=seconds, check=False, env=env and {**os.environ, **env},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{shlex.join(argv)}: no end after {seconds:.0f} s") from error
    if done.returncode != 0:
        words = (done.stderr.strip() + "\n" + (done.stdout or "").strip()).strip()
        raise Refused(f"{Path(argv[0]).name} failed" + (f":\n{words[-4000:]}" if words else ""))
    return done.stdout or ""


def read_text(path: Path, largest: int = LARGEST) -> str:
    """A file that may lie in a folder of the streamer's user: not what a link there leads to, nor a pipe, which has no end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused(f"{path} is no file")
        content = file.read(largest + 1)
    if len(content) > largest:
        raise Refused(f"{path} has more than {largest} bytes")
    return content.decode(errors="replace")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no file, or no valid object in it."""
    with contextlib.suppress(Refused, OSError, ValueError, RecursionError):
        found = json.loads(read_text(path))
        if isinstance(found, dict):
            return found
    return {}


def config() -> dict[str, Any]:
    """What the role has declared."""
    found = read_object(CONFIG)
    if not found:
        raise Refused(f"{CONFIG} is missing or damaged: a run of the playbook writes it again")
    return found


def in_words(error: BaseException) -> str:
    """The message of an exception, for the operator."""
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return f"{said}; root may" if isinstance(error, PermissionError) and os.geteuid() else said
    return str(error) or repr(error)


def now(ahead: float = 0.0) -> str:
    """UTC to the microsecond, that many seconds from now; it sorts as text: 2026-11-23T10:15:00.000000Z."""
    return (datetime.now(UTC) + timedelta(seconds=ahead)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def told_by_restic(time: str) -> datetime:
    """restic tells nanoseconds, which Python does not read."""
    return datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", time))
