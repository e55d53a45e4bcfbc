"""The two slots: what each runs, which is live, and starting, checking and stopping them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from pathlib import Path
from typing import Any

from .asking import ask, requests_so_far
from .atomic import link_atomically, write_atomically
from .basics import ReleaseError, in_words, misplaced, numbers, read, run, succeeds, target
from .layout import SETTINGS, SLOTS, Layout, other
from .sandbox import run_as_unit

PAUSE = 0.1  # seconds between two requests of the gate
UWSGI = Path("/usr/bin/uwsgi-core")
NAME = re.compile(r"[A-Za-z0-9-]+")  # of a release
PLUGINS = Path("/usr/lib/uwsgi/plugins")
# uWSGI's log lines of a failed request, and of a worker that died with one. Signal 14 (SIGALRM) is worker_memory.py's:
# its request was answered. Anchored, because an application may log text of a visitor.
FAILURE = re.compile(
    r"^\[pid: .*\(HTTP/[0-9.]+ 5[0-9][0-9]\) \d+ headers|\*\*\* HARAKIRI ON WORKER|DAMN ! worker(?!.* by signal 14 )"
)


class Slots:
    """Two instances of one systemd template unit."""

    def __init__(self, paths: Layout, config: dict[str, Any]) -> None:
        self.paths, self.config = paths, config

    # State

    def live(self) -> str | None:
        """The slot that nginx connects to, also while the link in /run is missing; None before the first release."""
        slots = [Path(target(link)).stem for link in (self.paths.live_link, self.paths.live_bound)]
        return next((slot for slot in slots if slot in SLOTS), None)

    def bound(self, slot: str | None) -> dict[str, str]:
        """What a slot was started with: RELEASE, the digest SETTINGS of the declaration, the digest FILES of its copies."""
        text = read(self.paths.bound(slot) / "slot") if slot else ""
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def bound_at(self, slot: str) -> float:
        """When a slot was started with its release, in seconds since the epoch; 0 if unknown."""
        path = self.paths.bound(slot) / "slot"
        return path.stat().st_mtime if path.exists() else 0.0

    def damage(self, slot: str | None) -> str:
        """An error if the file that names a slot's release cannot be read."""
        bound = self.bound(slot)
        if slot and (bound.get("SLOT") != slot or not NAME.fullmatch(bound.get("RELEASE", ""))):
            return f"{self.paths.bound(slot) / 'slot'} cannot be read, so {self.paths.slot_unit(slot)} could not start again"
        return ""

    def release(self, slot: str | None) -> str:
        """The release of a slot. If its file is damaged, the link `current` names that of the live slot."""
        release = self.bound(slot).get("RELEASE", "")
        if NAME.fullmatch(release):
            return release
        return Path(target(self.paths.current)).name if slot and slot == self.live() else ""

    def active(self, slot: str | None) -> bool:
        return bool(slot) and succeeds(["systemctl", "is-active", "--quiet", self.paths.slot_unit(slot)])

    def enabled(self, slot: str) -> bool:
        return succeeds(["systemctl", "is-enabled", "--quiet", self.paths.slot_unit(slot)])

    def warm(self) -> bool:
        """Whether the previous slot is kept running for a rollback."""
        return succeeds(["systemctl", "is-active", "--quiet", self.paths.cooling_unit])

    def current(self, slot: str | None, settings: str = "") -> bool:
        """Whether a slot's process has the wanted settings, by default those on the host, and the installed uWSGI.

        The process that `start` started has the settings in the slot's folder. Any other process has them
        if it started after the last change of these files.
        """
        bound = self.bound(slot)
        if not slot or self.damage(slot) or bound.get("SETTINGS") != (settings or self.config["settings"]):
            return False
        if bound.get("FILES") != digest(self.paths.bound(slot)):
            return False
        argv = ["systemctl", "show", "--timestamp=unix", "--property=InvocationID,ExecMainStartTimestamp"]
        state = dict(line.split("=", 1) for line in run([*argv, self.paths.slot_unit(slot)]).splitlines())
        files = self.programs()
        if read(self.paths.bound(slot) / "started") != state["InvocationID"]:
            files += [*(self.paths.bound(slot) / name for name in SETTINGS), self.paths.unit_file]
        changes = [path.stat().st_ctime for path in files if path.exists()]
        changed_at = max(
            (moment for moment in changes if moment < time.time()), default=0
        )  # ignore times in the future: clocks may be set back
        return float(state["ExecMainStartTimestamp"].lstrip("@") or 0) > changed_at

    def programs(self) -> list[Path]:
        """The files of uWSGI, its language plugin and their libraries.

        A process keeps using those that it started with, after the host's are upgraded.
        """
        plugin = PLUGINS / f"{self.config['plugin']}_plugin.so"
        try:
            words = run(["ldd", str(UWSGI), str(plugin)]).split()
        except ReleaseError:  # during an upgrade the plugin may be missing
            words = []
        return [UWSGI, plugin, *(Path(word) for word in words if word.startswith("/") and not word.endswith(":"))]

    def is_committed(self, slot: str | None) -> bool:
        """Whether all links lead to this slot, it alone starts at boot, and the other one runs only while it is warm."""
        return (
            slot is not None
            and target(self.paths.current) == f"releases/{self.release(slot)}"
            and target(self.paths.public_link) == str(self.paths.live_link)
            and target(self.paths.live_link) == str(self.paths.socket(slot))
            and all(self.enabled(name) == (name == slot) for name in SLOTS)
            and (self.warm() or not self.active(other(slot)))
        )

    def trouble(self, slot: str | None) -> list[str]:
        """Faults of a running slot that keep it from answering nginx, or that expose its secrets."""
        if not slot or not self.active(slot):
            return []
        user, group = self.config["user"], self.config["socket_group"] or self.config["user"]
        runtime = self.paths.public_link.parent
        said = [
            *self.readable_secrets(slot),
            misplaced(runtime, "root", "root", 0o755),
            misplaced(self.paths.socket(slot).parent, user, group, 0o750) if self.config["socket_group"] else "",
            self.closed(slot, group),
        ]
        # app_server_uwsgi_options may set another FIFO.
        usual = f"master-fifo = {runtime}/slots/$(SLOT).fifo\n" in read(self.paths.bound(slot) / "uwsgi.ini")
        if usual and not self.paths.fifo(slot).is_fifo():
            said.append(f"{self.paths.fifo(slot)} is missing, on which uWSGI takes orders")
        return [words for words in said if words] or self.silence(slot)

    def readable_secrets(self, slot: str) -> list[str]:
        """Settings of a slot with wrong owner or too many permissions."""
        found = []
        for name, mode in SETTINGS.items():
            path = self.paths.bound(slot) / name
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_uid != numbers("root", "root")[0] or stat.S_IMODE(status.st_mode) & ~mode:
                    found.append(f"{path} can be read or changed by others than it should")
        return found

    def closed(self, slot: str, group: str) -> str:
        """Why the web server may not connect to a slot's socket; empty if it may."""
        path = self.paths.socket(slot)
        try:
            found = path.lstat()
        except FileNotFoundError:
            return f"{path} is missing"
        if not stat.S_ISSOCK(found.st_mode):
            return f"{path} is no socket"
        groups = found.st_mode & stat.S_IWGRP and found.st_gid == numbers("", group)[1]
        if found.st_mode & stat.S_IWOTH or groups:
            return ""
        return f"{path} has the mode {stat.S_IMODE(found.st_mode):04o}, with which nginx may not connect"

    def silence(self, slot: str) -> list[str]:
        """A fault if the health path gets no answer twice in a row. The status code is not judged here."""
        seconds = self.config["health_answer_seconds"]
        said = ""
        for _time in range(2):
            try:
                path, url = self.config["health_path"], self.config["public_url"]
                if ask(self.paths.socket(slot), path, self.config["modifier"], seconds=seconds, url=url)[0]:
                    return []
                said = "ends connections without an answer"
            except TimeoutError:
                said = f"does not answer within {seconds} s"
            except OSError as error:
                said = f"does not answer: {in_words(error)}"
        return [f"{self.paths.slot_unit(slot)} {said}"]

    # Starting and stopping

    def start(self, slot: str, release: str) -> None:
        """Starts a slot with a release and with copies of the settings that are declared now."""
        run(["systemctl", "daemon-reload"])  # the unit file may have changed since systemd read it
        self.stop(slot)
        folder = self.paths.bound(slot)
        folder.mkdir(parents=True, exist_ok=True)
        for name, mode in SETTINGS.items():
            write_atomically(folder / name, read(self.paths.config / name), mode)
        bound = {
            "RELEASE": release, "SLOT": slot, "APP_RELEASE": release, "SETTINGS": self.config["settings"],
            "FILES": digest(folder),
        }  # fmt: skip
        write_atomically(folder / "slot", "".join(f"{key}={value}\n" for key, value in bound.items()))
        self.resume(slot)

    def resume(self, slot: str) -> None:
        """Starts a slot with the release and settings in its folder."""
        run(["systemctl", "start", self.paths.slot_unit(slot)], seconds=120)
        invocation = run(["systemctl", "show", "--property=InvocationID", "--value", self.paths.slot_unit(slot)])
        write_atomically(self.paths.bound(slot) / "started", invocation.strip())

    def stop(self, slot: str) -> None:
        """Stops a slot. Requests that it has may finish, within their limit."""
        run(["systemctl", "stop", self.paths.slot_unit(slot)], seconds=self.config["stop_seconds"] + 30)

    def drain(self, slot: str) -> None:
        """Stops a slot that is no longer live. Its accept queue may still hold requests, so it runs on for drain_seconds."""
        if self.active(slot):
            time.sleep(self.config["drain_seconds"])
        self.stop(slot)

    def point(self, slot: str | None, release: str) -> None:
        """Makes a slot the live one, in one step; None makes nothing live."""
        if slot is None:
            self.paths.live_link.unlink(missing_ok=True)
            self.paths.current.unlink(missing_ok=True)
            return
        if release:
            link_atomically(self.paths.current, f"releases/{release}")
        link_atomically(self.paths.live_link, str(self.paths.socket(slot)))
        # The link in /run may be missing or changed.
        run(["systemd-tmpfiles", "--create", str(self.paths.tmpfiles())])

    def boot(self, slot: str) -> None:
        """Has this slot start at boot, and the other one not."""
        run(["systemctl", "enable", "--quiet", self.paths.slot_unit(slot)])
        run(["systemctl", "disable", "--quiet", self.paths.slot_unit(other(slot))])

    def cool_later(self, seconds: int) -> None:
        """Keeps the previous slot running for some time, so that a rollback needs no start."""
        self.cool_never()
        timer = [f"--unit={self.paths.cooling_unit}", f"--on-active={seconds}"]
        run_as_unit(self.paths, timer, ["cool"], "CapabilityBoundingSet=")

    def cool_never(self) -> None:
        for unit in (self.paths.cooling_unit, self.paths.cooling_unit.replace(".timer", ".service")):
            if succeeds(["systemctl", "is-active", "--quiet", unit]):
                run(["systemctl", "stop", unit])

    def leave(self) -> None:
        """Stops both slots for good, and removes their unit file and links."""
        self.cool_never()
        for slot in SLOTS:
            run(["systemctl", "disable", "--quiet", self.paths.slot_unit(slot)])
            self.drain(slot)
        for path in (self.paths.unit_file, self.paths.tmpfiles(), self.paths.public_link):
            path.unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"])

    # Checks

    def healthy(self, slot: str, release: str) -> tuple[bool, str]:
        """Whether the health path answers in time, with 200 and the release; else the reason why not."""
        path, seconds = self.config["health_path"], self.config["health_answer_seconds"]
        try:
            modifier, url = self.config["modifier"], self.config["public_url"]
            status, body = ask(self.paths.socket(slot), path, modifier, seconds=seconds, url=url)
        except TimeoutError:
            return False, f"{path} did not answer within {seconds} s"
        except OSError as error:
            return False, f"{path}: {in_words(error)}"
        return self.judge(path, status, body, release)

    def judge(self, path: str, status: int, body: str, release: str) -> tuple[bool, str]:
        if status == 200 and (release in body or not self.config["health_reports_release"]):
            return True, ""
        missing = " without the id of the release" if status == 200 else ""
        return False, f"{path} answered {status}{missing}: {body.strip()[:300]}"

    def gate(self, slot: str, release: str) -> int:
        """Asks a slot on its own socket until several answers in a row are right; raises ReleaseError when time is up.

        Returns the milliseconds of the slowest of these answers.
        """
        wanted, times = self.config["health_answers"], []
        deadline = time.monotonic() + self.config["health_seconds"]
        said = "it did not answer"
        while time.monotonic() < deadline:
            asked = time.monotonic()
            right, words = self.healthy(slot, release)
            times = [*times, time.monotonic() - asked] if right else []
            if len(times) >= wanted:
                return round(1000 * max(times))
            if not right:
                said = words
                if not self.active(slot):
                    raise ReleaseError(f"Release {release} does not start.")
            time.sleep(PAUSE)
        raise ReleaseError(f"Release {release} was not right within {self.config['health_seconds']} s: {said}")

    def requests(self, slot: str, before: int = 0) -> int:
        """Number of requests of a slot since its start; minus `before`, a number that was read earlier."""
        count = requests_so_far(self.paths.counters(slot)) if slot else 0
        return count - before if count >= before else count  # if fewer, it was restarted in between

    def failures(self, slot: str, since: float) -> int:
        """Number of failed requests of a slot since a time, in seconds since the epoch."""
        argv = ["journalctl", f"--unit={self.paths.slot_unit(slot)}", f"--since=@{since:.3f}", "--quiet", "--no-pager"]
        return sum(bool(FAILURE.search(line)) for line in run([*argv, "--output=cat"]).splitlines())

    def last_words(self, slot: str) -> str:
        argv = ["journalctl", f"--unit={self.paths.slot_unit(slot)}", "--lines=25", "--no-pager", "--output=cat"]
        with contextlib.suppress(ReleaseError):  # the log explains another failure, and must not replace it
            return run(argv).strip()
        return ""


def digest(folder: Path) -> str:
    """Digest of a slot's settings files. The constant keeps digests written by older versions valid."""
    texts = "".join(f"{name} True {read(folder / name)}\n" for name in SETTINGS if os.path.exists(folder / name))
    return hashlib.sha256(texts.encode(errors="surrogateescape")).hexdigest()
