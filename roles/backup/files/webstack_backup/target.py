"""The way to the target: one key, which opens one program there (sink.py). Each call of it ends within its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import ledger
from .basics import Refused, config, run
from .vendor import number

KEY = Path("/etc/webstack-backup/key")
KNOWN_HOSTS = "/etc/webstack-backup/known_hosts"
ASK_SECONDS = 60
FILE_SECONDS = 6 * 3600  # of the log; a target that answers no more is noticed after 15


def way(target: dict[str, Any], key: Path = KEY) -> list[str]:
    """The ssh command, without what is wanted there."""
    options = {
        "BatchMode": "yes", "IdentitiesOnly": "yes", "StrictHostKeyChecking": "yes", "UserKnownHostsFile": KNOWN_HOSTS,
        "ConnectTimeout": "10", "ServerAliveInterval": "5", "ServerAliveCountMax": "3", "ControlPath": "none",
        "LogLevel": "ERROR",
    }  # fmt: skip
    return [
        "ssh", "-F", "/dev/null", "-T", "-i", str(key), "-p", str(target["port"]),
        *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
        name_of(target),
    ]  # fmt: skip


def name_of(target: dict[str, Any]) -> str:
    return f"{target['user']}@{target['host']}"


class Target:
    """What the target has of this host's log."""

    def __init__(self) -> None:
        self.declared = config()["target"]
        if not self.declared:
            raise Refused("no target is declared (backup_target) that could have the log")
        self.name = name_of(self.declared)

    def listing(self, line: str) -> dict[str, int]:
        """The files of a line, and its ledger, with their sizes in bytes."""
        there = json.loads(self.ask("list", seconds=ASK_SECONDS)).get(line)
        if not there:
            raise Refused(f"{self.name} has no log of the line {line}, to which the newest full backup belongs")
        return dict(there)

    def known(self, line: str, folder: Path) -> list[ledger.Entry]:
        """Its ledger, the oldest line first."""
        return ledger.entries(self.copy(line, "ledger", self.listing(line)["ledger"], folder))

    def files(self, line: str, first: int, last: int | None) -> dict[str, int]:
        """The sizes of the files of these numbers, in bytes."""
        there = {name: size for name, size in self.listing(line).items() if name != "ledger"}
        return {
            name: size for name, size in there.items() if first <= number(name) and (not last or number(name) <= last)
        }

    def fetch(self, line: str, files: dict[str, int], folder: Path) -> None:
        for name, size in files.items():
            self.copy(line, name, size, folder)

    def copy(self, line: str, name: str, size: int, folder: Path) -> Path:
        """Copies a file of the log, or the ledger, into `folder`; it may have grown since it was listed."""
        path = folder / name
        with path.open("wb") as file:
            self.ask(f"read {line} {name} 0", seconds=FILE_SECONDS, stdout=file)
        if path.stat().st_size < size:
            raise Refused(f"{self.name} gave {path.stat().st_size} bytes of {name}, which has {size}")
        return path

    def ask(self, words: str, *, seconds: float, stdout: Any = None) -> str:
        try:
            return run([*way(self.declared), words], seconds=seconds, stdout=stdout)
        except Refused as error:
            raise Refused(f"{self.name}: {error}") from error
