"""The repository of full backups: restic, 0.14 of Debian 12 and 0.18 of Debian 13. Every call ends within its time.

A full is two snapshots: the data, and after it the manifest, which names the data's. Only with the manifest
does it count. A tag would do for this as well, but restic replaces a snapshot to tag it, and what may
only be added to cannot be tagged.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import STATE, Refused, read_object, told_by_restic

FOLDER = Path("/etc/webstack-backup")
PASSPHRASE = FOLDER / "passphrase"
OWN = STATE / "passphrase"  # made by this host where none is declared
CACHE = Path("/var/cache/webstack-backup")
ASK_SECONDS = 60  # restic 0.18 tries for many minutes if nobody answers
DATA_SECONDS = 6 * 3600
DEAD_HOURS = 0.5  # who holds a lock writes it anew every 5 minutes
DATA, FULL = "data", "full"
LINE_OF, AT = "line-", "at-"  # tags of a full: the line of the log that goes on from it, and where
FOLDERS, FILES, DATA_OF = "files-data", "files", "data-"  # the mark of files has the id of their data in a tag


class NoRepository(Refused):
    """There is none at this address."""


class Incomplete(Refused):
    """restic has left something out. `said` is all that it has printed."""

    said = ""


@dataclass(frozen=True)
class Snapshot:
    id: str
    time: str
    tags: tuple[str, ...]
    path: str = ""

    @property
    def hours(self) -> float:
        """Its age."""
        return hours_since(self.time)


def hours_since(time: str) -> float:
    """Less than 0: it is to come."""
    return (datetime.now(UTC) - told_by_restic(time)).total_seconds() / 3600


class Repository:
    """`address` is a folder or what restic takes; `options` are of restic, `environment` has a store's keys.

    All backups in it are this host's if it is its `own`; if not, those with its name are: that of the inventory, which a
    machine in its place has, too.
    """

    def __init__(
        self, address: str, known: Path, host: str, *, options: tuple[str, ...] = (), environment: dict[str, str] | None = None,
        own: bool = False,
    ) -> None:  # fmt: skip
        self.address = address
        self.known = known  # remembers which repository this host has used at which address
        self.options = options
        self.environment = environment or {}
        self.host = host
        # An earlier version called them by the hostname.
        self.mine = () if own else ("--host", host, "--host", socket.gethostname())
        self.name = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", address)  # a password may have an @

    @property
    def local(self) -> Path | None:
        return Path(self.address) if self.address.startswith("/") else None

    def open(self) -> str:
        """Checks that it answers and that the passphrase is right. Makes a new one only where this host has used none at this address.

        Returns what an operator should know of it, if anything.
        """
        known = read_object(self.known)
        before = known.pop("id", None)  # an earlier version noted it without its address
        used = known.get(self.name, before)
        words = []
        if self.local and not used and not passphrase().exists():
            OWN.parent.mkdir(exist_ok=True)
            write_atomically(OWN, secrets.token_urlsafe(32) + "\n", 0o600)
        try:
            identity = self.identity()
        except NoRepository:
            if used:
                raise Refused(
                    f"the repository {self.name} is gone: backups of this host were there. Is its disk mounted? If it is lost, "
                    f"remove {self.known}, and the next backup makes a new one"
                ) from None
            if self.local:
                self.local.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.call("init", seconds=ASK_SECONDS)
            identity = self.identity()
            words.append(f"made the repository {self.name}")
        if used and used != identity:
            raise Refused(
                f"{self.name} is another repository than the one that has the backups of this host until now. "
                f"If that is right, remove {self.known}"
            )
        if self.name not in known:
            if known:
                words.append(f"backups go to {self.name} from now on; those until now stay in {', '.join(known)}")
            self.known.parent.mkdir(exist_ok=True)
            write_atomically(self.known, json.dumps({**known, self.name: identity}))
        return "\n".join(words)

    def identity(self) -> str:
        return str(json.loads(self.call("cat", "config", "--no-lock", seconds=ASK_SECONDS))["id"])

    def release_stale_locks(self) -> None:
        """Removes locks whose process is dead: in a folder of this host by its pid, elsewhere after 30 minutes without a sign.

        `restic unlock` takes a lock of this hostname for dead if no process here has its number, and elsewhere another
        machine with this hostname may be at work.
        """
        if self.local:
            self.call("unlock", seconds=ASK_SECONDS)
            return
        ids = self.call("list", "locks", "--no-lock", seconds=ASK_SECONDS).split()
        try:
            locks = [json.loads(self.call("cat", "lock", one, "--no-lock", seconds=ASK_SECONDS)) for one in ids]
        except Refused:  # its holder has just removed it, or writes it
            return
        if locks and all(hours_since(lock["time"]) > DEAD_HOURS for lock in locks):
            self.call("unlock", "--remove-all", seconds=ASK_SECONDS)

    def backup(
        self, path: Path | list[Path], *names: str, options: Sequence[str] = (), seconds: float = DATA_SECONDS
    ) -> dict[str, Any]:
        """A new snapshot of `path`, with these tags; returns restic's figures of it."""
        words = [*(f"--tag={name}" for name in names), *options]
        paths = map(str, path if isinstance(path, list) else [path])
        return summary(self.call("backup", "--json", "--host", self.host, *words, "--", *paths, seconds=seconds))

    def snapshots(self, tag: str, seconds: float = ASK_SECONDS) -> list[Snapshot]:
        """Of this host, the oldest first."""
        words = ("snapshots", "--json", "--no-lock", *self.mine, "--tag", tag)
        found = json.loads(self.call(*words, seconds=seconds)) or []
        return sorted(
            (Snapshot(one["id"], one["time"], tuple(one.get("tags") or ()), one["paths"][0]) for one in found),
            key=lambda one: told_by_restic(one.time),  # as text they do not sort: each has the zone of its host
        )

    def read(self, snapshot: str, path: Path) -> str:
        return self.call("dump", "--no-lock", snapshot, str(path), seconds=ASK_SECONDS)

    def files(self, snapshot: str) -> list[dict[str, Any]]:
        """What is told of each file in it: path, size, mtime, mode."""
        said = self.call("ls", "--json", "--no-lock", snapshot, seconds=ASK_SECONDS * 10)
        return [one for one in map(json.loads, said.splitlines()) if one.get("type") == "file"]

    def restore(self, snapshot: str, folder: Path, *only: str) -> None:
        """Writes the files below `folder`, with the path that they were saved from; all, or those at the paths `only`."""
        # To restic they are patterns.
        some = [word for path in only for word in ("--include", re.sub(r"([\\*?\[])", r"\\\1", path))]
        self.call("restore", "--no-lock", snapshot, "--target", str(folder), *some, seconds=DATA_SECONDS)

    def forget(self, snapshots: list[str]) -> None:
        self.call("forget", *snapshots, seconds=ASK_SECONDS * 10)

    def keep(self, rule: dict[str, Any], tag: str) -> tuple[list[str], list[str]]:
        """The snapshots with this tag that `rule` keeps, and those that it does not."""
        words = [word for name, value in rule.items() for word in (f"--keep-{name.replace('_', '-')}", str(value))]
        found = json.loads(
            self.call(
                "forget", "--dry-run", "--json", "--group-by", "", *self.mine, "--tag", tag, *words,
                seconds=ASK_SECONDS,
            )
        )  # fmt: skip
        kept = [one["id"] for group in found for one in group["keep"] or []]
        return kept, [one["id"] for group in found for one in group["remove"] or []]

    def check(self, part: int, parts: int) -> None:
        """Whether all that is named is there, and one part of the data is what was written."""
        # Its lock would let no other backup begin, for hours; restic looks for the snapshots first, so new ones do not disturb it.
        words = [] if self.local else ["--no-lock"]
        self.call("check", f"--read-data-subset={part}/{parts}", *words, seconds=DATA_SECONDS)

    def prune(self) -> None:
        self.call("prune", seconds=DATA_SECONDS)

    def call(self, *words: str, seconds: float) -> str:
        """Runs restic. Neither passphrase nor address are words of the command: everybody sees those."""
        if not shutil.which("restic"):
            raise Refused("restic is not installed: role backup does that")
        if not passphrase().exists():
            raise Refused(
                f"{PASSPHRASE} is missing, and nothing opens {self.name} without it: a run of the playbook writes it again"
            )
        CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
        read, write = os.pipe()
        os.write(write, self.address.encode())
        os.close(write)
        argv = ["restic", "--repository-file", f"/dev/fd/{read}", "--password-file", str(passphrase())]
        argv += ["--cache-dir", str(CACHE), *self.options, *words]
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                pass_fds=(read,), start_new_session=True, env={**os.environ, "RESTIC_PROGRESS_FPS": "0.01", "TZ": "UTC", **self.environment},
            )  # fmt: skip
        finally:
            os.close(read)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            end(process)
            raise Refused(f"{self.name} has not answered within {seconds:.0f} s ({shlex.join(words[:1])})") from None
        except BaseException:
            end(process)
            raise
        if process.returncode:
            raise self.fault(words[0], process.returncode, err + "\n" + "\n".join(out.splitlines()[-5:]))
        return out

    def fault(self, verb: str, code: int, said: str) -> Refused:
        """What restic's end means. 0.14 ends with 1 for all, so its words are looked at as well."""
        if code == 12 or "wrong password or no key found" in said:
            own = (
                f". {OWN} has the one that this host has made; say that one as backup_passphrase"
                if OWN.exists()
                else ""
            )
            return Refused(
                f"wrong passphrase for {self.name}: {passphrase()} has not the one that it was made with{own}"
            )
        # 0.14 asks whether there is a repository, also if nobody answers.
        asks = "Is there a repository at the following location?" in said
        if code == 10 or (asks and re.search("does not exist|no such file or directory", said)):
            return NoRepository(f"there is no repository at {self.name}")
        if code == 11 or "already locked" in said:
            held = re.search(r"locked .*?by PID (\d+) on (\S+) by", said)
            since = re.search(r"lock was created at (\d+-\d+-\d+ \d+:\d+:\d+)", said)
            by = f" by {held[2]}:{held[1]}" if held else ""
            return Refused(f"the repository {self.name} is locked{by}" + (f" since {since[1]}" if since else ""))
        if re.search(
            "no space left on device|too big for remaining disk space", said
        ):  # restic, and the target's rclone
            free = f": {in_bytes(shutil.disk_usage(self.local).free)} free" if self.local else ""
            return Refused(f"no space left at {self.name}{free}")
        words = said.strip().replace(self.address, self.name)[-2000:]
        if verb == "backup" and code == 3:
            fault = Incomplete(f"restic could not read all of it, so this backup does not count:\n{words}")
            fault.said = said
            return fault
        return Refused(f"restic {verb} failed at {self.name}:\n{words}")


def summary(said: str) -> dict[str, Any]:
    """restic's figures of a backup, among all that it has printed."""
    for line in reversed(said.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if found.get("message_type") == "summary":
                return dict(found)
    raise Refused("restic does not say which snapshot it has made")


def passphrase() -> Path:
    """The file with what is declared, else with what this host has made."""
    return PASSPHRASE if PASSPHRASE.exists() else OWN


def end(process: subprocess.Popen[str]) -> None:
    """First as by Ctrl-C, so that restic takes its lock away."""
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            return


def in_bytes(number: float) -> str:
    """For people: 3.1 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
