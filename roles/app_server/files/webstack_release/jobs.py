"""Background jobs: units that run the verified release only."""

from __future__ import annotations

from pathlib import Path

from .atomic import link_atomically, write_atomically
from .basics import read, run
from .layout import Layout

LEAVE_SECONDS = 3600  # no real limit: systemd kills a job after its own TimeoutStopSec


class Jobs:
    """The units in /etc/APP/jobs are declared. They are installed for systemd when a release is verified."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths

    def declared(self) -> dict[str, str]:
        """Text of each unit, by its name."""
        return {path.name: read(path) for path in sorted(self.paths.jobs.glob("*.*"))}

    def installed(self) -> dict[str, str]:
        return {
            path.name: read(path)
            for path in sorted(self.paths.unit_folder.glob(f"{self.paths.app}-job-*.*"))
            if "@" not in path.name
        }

    def is_committed(self, slot: str) -> bool:
        """Whether the declared units are installed and running, with the release and settings of this slot."""
        return self.installed() == self.declared() and (
            not self.declared()
            or (self.paths.live_bound.resolve() == self.paths.bound(slot).resolve() and not self.off())
        )

    def started(self) -> list[str]:
        """The units that start at boot: the timer of a job with a schedule, else its service."""
        names = self.declared()
        return [name for name in names if name.endswith(".timer") or f"{Path(name).stem}.timer" not in names]

    def off(self) -> list[str]:
        """Those that are not enabled, or that are stopped: neither running, nor between two starts, nor queued (Job)."""
        names = self.started()
        if not names:
            return []
        said = run(["systemctl", "show", "--property=UnitFileState,ActiveState,Job", *names])
        units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in said.strip().split("\n\n")]
        return [
            name
            for name, unit in zip(names, units, strict=True)
            if unit["UnitFileState"] != "enabled"
            or (unit["ActiveState"] in ("inactive", "failed") and not unit.get("Job"))
        ]

    def look_at(self, slot: str) -> None:
        """Jobs that start from now on run the release of this slot, with its settings."""
        link_atomically(self.paths.live_bound, str(self.paths.bound(slot)))

    def follow(self) -> None:
        """Installs the declared units and removes others. Continuous jobs are restarted, without waiting for them."""
        wanted, found = self.declared(), self.installed()
        for name in found.keys() - wanted.keys():
            run(["systemctl", "disable", "--quiet", "--now", "--no-block", name])
            (self.paths.unit_folder / name).unlink()
        for name, text in wanted.items():
            if found.get(name) != text:
                write_atomically(self.paths.unit_folder / name, text)
        if wanted or found:  # also without a change: an earlier run may have been cut off after writing them
            run(["systemctl", "daemon-reload"])
        for name in self.started():
            run(["systemctl", "enable", "--quiet", name])
            run(["systemctl", "restart", "--no-block", name])

    def leave(self) -> None:
        """Stops and removes all of them, and waits until they have ended."""
        for name in self.installed():
            run(["systemctl", "disable", "--quiet", "--now", name], seconds=LEAVE_SECONDS)
            (self.paths.unit_folder / name).unlink()
