"""Paths and unit names of one application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOOL = "/usr/local/sbin/webstack-release"
SLOTS = ("blue", "green")
# Files that a slot reads when it starts, with their modes. They are copied from /etc/APP, so that a live slot restarts with
# the settings it was verified with, not with newer ones. The application's user reads the first two.
SETTINGS = {"uwsgi.ini": 0o644, "worker_memory.py": 0o644, "environment": 0o600, "secrets": 0o600}


@dataclass(frozen=True)
class Layout:
    """Paths and names of units, all derived from the application's name."""

    app: str
    root: Path = Path("/")

    @property
    def config(self) -> Path:
        return self.root.joinpath("etc", self.app)

    @property
    def home(self) -> Path:
        return self.root.joinpath("srv", self.app)

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def current(self) -> Path:
        """Link to the live release."""
        return self.home / "current"

    @property
    def static(self) -> Path:
        """Static files of the live release and of older ones, which pages that are open in browsers still request."""
        return self.home / "static"

    @property
    def shared(self) -> Path:
        """Folders and files that all releases share, such as uploads."""
        return self.home / "shared"

    @property
    def state(self) -> Path:
        return self.root.joinpath("var/lib", self.app)

    @property
    def fetch(self) -> Path:
        """Home of the fetching user: mirrors of repositories. No code of a repository runs as this user."""
        return self.state / "fetch"

    @property
    def build(self) -> Path:
        """Home of the building user. It is emptied: no commit finds files of another one."""
        return self.state / "build"

    @property
    def wheels(self) -> Path:
        """Wheels whose digest a requirements file pins; owned by root."""
        return self.state / "wheels"

    @property
    def public_link(self) -> Path:
        """The link that nginx connects to. It leads to `live_link`."""
        return self.root.joinpath("run", self.app, "live.sock")

    @property
    def live_link(self) -> Path:
        """Leads to the live slot's socket. On the disk, because /run is empty after a boot."""
        return self.state / "live.sock"

    def socket(self, slot: str) -> Path:
        return self.root.joinpath("run", self.app, "slots", f"{slot}.sock")

    def fifo(self, slot: str) -> Path:
        """uWSGI reads commands from it."""
        return self.root.joinpath("run", self.app, "slots", f"{slot}.fifo")

    def counters(self, slot: str) -> Path:
        """Socket of uWSGI's statistics, with the number of requests."""
        return self.root.joinpath("run", self.app, "slots", f"{slot}.stats")

    def bound(self, slot: str) -> Path:
        """Folder of what a slot was started with: name of the release, settings, process."""
        return self.state / "bound" / slot

    @property
    def marks(self) -> Path:
        """What the tool notes about releases, outside of their folders."""
        return self.state / "releases"

    def mark(self, release: str, kind: str) -> Path:
        """`kind` is json, what a release was made of, or verified or rejected, its verdict."""
        return self.marks / f"{release}.{kind}"

    @property
    def archives(self) -> Path:
        """Pattern of archives of commits that a controller has sent."""
        return self.root.joinpath("var/cache", f"{self.app}-*.tar")

    @property
    def requests(self) -> Path:
        """Pattern of requests for changes that have not begun."""
        return self.state / "request-*.json"

    @property
    def change(self) -> Path:
        """The change under way, or the last one, as JSON."""
        return self.state / "change.json"

    @property
    def drained(self) -> Path:
        """Exists while no balancer should send visitors to this host."""
        return self.state / "drained"

    @property
    def progress(self) -> Path:
        """The output of that change, one line for each step."""
        return self.state / "change.log"

    @property
    def history(self) -> Path:
        """One line of JSON for each change that has a verdict."""
        return self.state / "history"

    @property
    def before_migrations(self) -> Path:
        """Folder of the host's programs that are run before each migration, such as one that notes the moment for a restore."""
        return self.root.joinpath("etc", "webstack", "before-migration.d")

    @property
    def migration_log(self) -> Path:
        return self.state / "migration.log"

    @property
    def live_bound(self) -> Path:
        """Link to the `bound` folder of the verified slot. Background jobs read it."""
        return self.state / "live"

    @property
    def jobs(self) -> Path:
        """The units of background jobs, as they are declared."""
        return self.config / "jobs"

    @property
    def unit_folder(self) -> Path:
        return self.root / "etc/systemd/system"

    def tmpfiles(self) -> Path:
        """The tmpfiles.d file that makes the folders in /run. Older versions of the role used another name."""
        place = self.root / "etc/tmpfiles.d"
        old, fresh = place / f"{self.app}.conf", place / f"webstack-{self.app}.conf"
        return fresh if fresh.exists() or not old.exists() else old

    @property
    def unit_file(self) -> Path:
        """The template of which both slots are instances."""
        return self.unit_folder / f"{self.app}@.service"

    def slot_unit(self, slot: str) -> str:
        return f"{self.app}@{slot}.service"

    @property
    def deploy_unit(self) -> str:
        """The unit of a running change. It has one name, so there is one change at a time."""
        return f"{self.app}-deploy.service"

    @property
    def migration_unit(self) -> str:
        """Has a fixed name, because a migration may run longer than the change that started it."""
        return f"{self.app}-migrate.service"

    @property
    def notice_unit(self) -> str:
        """Runs notify_command for a change that a reboot has cut off."""
        return f"{self.app}-notify.service"

    def command_unit(self, token: str) -> str:
        """A command of the application that an operator runs."""
        return f"{self.app}-run-{token}.service"

    @property
    def cooling_unit(self) -> str:
        """The timer that stops the previous slot when a rollback is no longer expected."""
        return f"{self.app}-cool.timer"


def other(slot: str | None) -> str:
    """The other slot."""
    return SLOTS[1] if slot == SLOTS[0] else SLOTS[0]
