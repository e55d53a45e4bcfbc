"""The way to the target: one key, which opens one program there (sink.py). Each call of it ends within its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .basics import Refused, config, run

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

    def listing(self) -> dict[str, dict[str, int]]:
        """By line, the files with their sizes in bytes."""
        return dict(json.loads(self.ask("list", seconds=ASK_SECONDS)))

    def fetch(self, line: str, name: str, size: int, folder: Path) -> Path:
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
