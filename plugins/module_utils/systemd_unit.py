# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One systemd unit: its state, what it was last given, and commands to it."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils.atomic import write_atomically

STAMPS = Path("/run/webstack")  # empty after a reboot, as are the processes that the stamps describe
STARTING_SECONDS = 15
PROPERTIES = (
    "LoadState,ActiveState,InvocationID,ExecMainStartTimestamp,InactiveExitTimestamp,"
    "StateChangeTimestamp,ReloadResult,NeedDaemonReload,UnitFileState,CanReload"
)


class Unit:
    """A unit that does not exist (check mode on a new host) is not running."""

    def __init__(self, module: AnsibleModule, name: str) -> None:
        self.module, self.name = module, name
        self.enabled_here = False  # by this run
        self.stamp_file = STAMPS / f"{name}.json"
        self.read_state()
        # Just after a boot systemd may be starting it already; this module need not.
        deadline = time.monotonic() + STARTING_SECONDS
        while self.starting and time.monotonic() < deadline:
            time.sleep(0.2)
            self.read_state()

    def read_state(self) -> None:
        argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={PROPERTIES}", self.name]
        _rc, out, _err = self.module.run_command(argv, environ_update={"LC_ALL": "C"})
        state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        self.exists = state.get("LoadState") == "loaded"
        self.running = state.get("ActiveState") in ("active", "reloading")
        self.starting = state.get("ActiveState") == "activating"
        self.invocation = state.get("InvocationID", "")
        self.needs_daemon_reload = state.get("NeedDaemonReload") == "yes"
        self.can_reload = state.get("CanReload") == "yes"
        self.disabled = state.get("UnitFileState") == "disabled"
        # A timer has no main process: the time of its activation counts.
        started = state.get("ExecMainStartTimestamp") or state.get("InactiveExitTimestamp", "")
        self.started_at = seconds(started)
        # Every reload changes the state, whoever asked for it, and also one that failed.
        reloaded = state.get("ReloadResult", "success") == "success"
        self.state_changed_at = seconds(state.get("StateChangeTimestamp", "")) if reloaded else 0.0

    def systemctl(self, *argv: str) -> str:
        """Runs systemctl; returns its complaint, empty on success."""
        rc, out, err = self.module.run_command(["systemctl", *argv])
        return "" if rc == 0 else (err or out).strip() or f"systemctl {' '.join(argv)}: exit code {rc}"

    def last_words(self) -> str:
        _rc, out, _err = self.module.run_command(
            ["journalctl", "--unit", self.name, "--lines", "15", "--no-pager", "--output", "cat"]
        )
        return out.strip()

    def stamp(self) -> dict[str, Any]:
        """Digests of the files that this module started or reloaded this process with; empty for any other process."""
        try:
            stamp = json.loads(self.stamp_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return stamp if stamp.get("invocation") == self.invocation else {}

    def write_stamp(self, digests: dict[str, str]) -> None:
        STAMPS.mkdir(mode=0o700, exist_ok=True)
        stamp = {"invocation": self.invocation, "time": time.time(), **digests}
        write_atomically(self.stamp_file, json.dumps(stamp), 0o600)


def seconds(timestamp: str) -> float:
    """Seconds since the epoch of systemd's `Mon 2026-01-05 10:11:12.123456 UTC`; 0 where there is none."""
    _weekday, _blank, moment_of_day = timestamp.partition(" ")  # strptime knows weekdays in its own locale only
    try:
        moment = datetime.datetime.strptime(moment_of_day, "%Y-%m-%d %H:%M:%S.%f UTC")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=datetime.UTC).timestamp()
