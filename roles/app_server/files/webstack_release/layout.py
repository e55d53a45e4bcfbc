"""Where things of one application are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOOL = "/usr/local/sbin/webstack-release"
SLOTS = ("blue", "green")
# What a slot reads when it starts, copied from /etc/APP: settings that are declared later, and may be
# wrong, are not what a slot that is live comes back with. The application's user reads the first two.
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
        """Static files of the live release, and of those before it: a page outlives its release in a browser."""
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
        """The fetching user's: mirror of the repository, deploy key. No code of the repository runs as this user."""
        return self.state / "fetch"

    @property
    def build(self) -> Path:
        """The building user's home, in which nothing stays: what one commit leaves is not what the next one finds."""
        return self.state / "build"

    @property
    def wheels(self) -> Path:
        """Root's: wheels that requirements have pinned by their digests."""
        return self.state / "wheels"

    @property
    def public_link(self) -> Path:
        """Where nginx connects. It leads to `live_link`."""
        return self.root.joinpath("run", self.app, "live.sock")

    @property
    def live_link(self) -> Path:
        """Leads to the live slot's socket. It is on the disk, so it outlives a reboot."""
        return self.state / "live.sock"

    def socket(self, slot: str) -> Path:
        return self.root.joinpath("run", self.app, "slots", f"{slot}.sock")

    def fifo(self, slot: str) -> Path:
        """On which uWSGI takes orders."""
        return self.root.joinpath("run", self.app, "slots", f"{slot}.fifo")

    def counters(self, slot: str) -> Path:
        """Socket on which uWSGI tells how many requests it had."""
        return self.root.joinpath("run", self.app, "slots", f"{slot}.stats")

    def bound(self, slot: str) -> Path:
        """Folder of what a slot was started with: its release, its settings, its process."""
        return self.state / "bound" / slot

    @property
    def marks(self) -> Path:
        """What is known of releases, out of reach of what a commit brings."""
        return self.state / "releases"

    def mark(self, release: str, kind: str) -> Path:
        """json: what a release was made of; verified, rejected: what became of it."""
        return self.marks / f"{release}.{kind}"

    @property
    def archives(self) -> Path:
        """Commits that a controller has sent, as a pattern."""
        return self.root.joinpath("var/cache", f"{self.app}-*.tar")

    @property
    def requests(self) -> Path:
        """What is asked of changes that have not begun, as a pattern."""
        return self.state / "request-*.json"

    @property
    def change(self) -> Path:
        """The change under way, or the last one, as JSON."""
        return self.state / "change.json"

    @property
    def progress(self) -> Path:
        """What that change has said so far, a line a step."""
        return self.state / "change.log"

    @property
    def history(self) -> Path:
        """A line for each change that came to a verdict, as JSON."""
        return self.state / "history"

    @property
    def migration_log(self) -> Path:
        return self.state / "migration.log"

    @property
    def live_bound(self) -> Path:
        """Link to what the verified slot is bound to: background jobs read it."""
        return self.state / "live"

    @property
    def jobs(self) -> Path:
        """The units of background jobs, as they are declared."""
        return self.config / "jobs"

    @property
    def unit_folder(self) -> Path:
        return self.root / "etc/systemd/system"

    def tmpfiles(self) -> Path:
        """What makes the folders in /run. An older version of the role, which may have written it, had another name for it."""
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
        """The unit as which a change runs: there is one, so there is one change at a time."""
        return f"{self.app}-deploy.service"

    @property
    def migration_unit(self) -> str:
        """It has a name because it may outlive the change that began it."""
        return f"{self.app}-migrate.service"

    @property
    def notice_unit(self) -> str:
        """Tells of a change that a reboot has cut off."""
        return f"{self.app}-notify.service"

    def command_unit(self, token: str) -> str:
        """One of the application's own commands, run by hand."""
        return f"{self.app}-run-{token}.service"

    @property
    def cooling_unit(self) -> str:
        """The timer that stops the slot before when nobody is expected to go back to it."""
        return f"{self.app}-cool.timer"


def other(slot: str | None) -> str:
    """The other slot."""
    return SLOTS[1] if slot == SLOTS[0] else SLOTS[0]
