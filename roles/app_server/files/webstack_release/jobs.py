"""Background jobs: units of their own, which run the verified release and no other."""

from __future__ import annotations

from pathlib import Path

from .atomic import link_atomically, write_atomically
from .basics import read, run
from .layout import Layout

LEAVE_SECONDS = 3600  # systemd kills a job that takes longer to stop than it may, so this is for none


class Jobs:
    """The units in /etc/APP/jobs are those that are declared; systemd knows them once a release is verified."""

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
        """Whether systemd has what is declared and keeps it going, and jobs run what this slot is bound to."""
        return self.installed() == self.declared() and (
            not self.declared()
            or (self.paths.live_bound.resolve() == self.paths.bound(slot).resolve() and not self.off())
        )

    def started(self) -> list[str]:
        """The units that systemd starts by itself: of a job with a schedule, the timer."""
        names = self.declared()
        return [name for name in names if name.endswith(".timer") or f"{Path(name).stem}.timer" not in names]

    def off(self) -> list[str]:
        """Those of them that are not enabled, or neither run, nor are between two starts, nor have one before them (Job)."""
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
        """From now on what starts runs what the slot is bound to."""
        link_atomically(self.paths.live_bound, str(self.paths.bound(slot)))

    def follow(self) -> None:
        """Systemd gets the jobs that are declared. One that works all the time starts anew, in its own time."""
        wanted, found = self.declared(), self.installed()
        for name in found.keys() - wanted.keys():
            run(["systemctl", "disable", "--quiet", "--now", "--no-block", name])
            (self.paths.unit_folder / name).unlink()
        for name, text in wanted.items():
            if found.get(name) != text:
                write_atomically(self.paths.unit_folder / name, text)
        if wanted or found:  # a run that was cut off here may have written them
            run(["systemctl", "daemon-reload"])
        for name in self.started():
            run(["systemctl", "enable", "--quiet", name])
            run(["systemctl", "restart", "--no-block", name])

    def leave(self) -> None:
        """Takes all of them away, and waits for the end of what they do."""
        for name in self.installed():
            run(["systemctl", "disable", "--quiet", "--now", name], seconds=LEAVE_SECONDS)
            (self.paths.unit_folder / name).unlink()
