"""Commands as the application's own users, each in a unit of its own. Nothing of a commit runs as root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .basics import ReleaseError, read, run
from .layout import TOOL, Layout

BUILD_SECONDS = 900
# What neither a change nor a step of it needs.
CLOSED = (
    "NoNewPrivileges=yes", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectHome=yes", "ProtectSystem=strict",
    "ProtectClock=yes", "ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "RestrictNamespaces=yes", "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes", "LockPersonality=yes", "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
)  # fmt: skip


# What a slot's unit has for the slot alone.
OF_A_SLOT = ("Type=", "Exec", "EnvironmentFile=", "KillMode=", "LimitDATA=", "Restart", "Timeout")
# With its arguments: a folder, and a group that is to read all in it.
PUBLISH = """
import contextlib, grp, os, stat, sys
top, group = sys.argv[1:]
number = grp.getgrnam(group).gr_gid
for base, _folders, files in os.walk(top, topdown=False):
    for path, more in (*((os.path.join(base, name), 0o040) for name in files), (base, 0o2050)):
        with contextlib.suppress(FileNotFoundError):  # the application works on meanwhile
            found = os.lstat(path)
            if found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode):
                os.chown(path, -1, number, follow_symlinks=False)
                os.chmod(path, 0o2750 if path == top else stat.S_IMODE(found.st_mode) | more)
"""


def run_as_unit(paths: Layout, options: list[str], command: list[str], *settings: str) -> None:
    """Has this tool run as a unit that outlives who asked for it. Others work for it, by systemd, so it needs little."""
    argv = ["systemd-run", "--quiet", "--collect", *options]
    for setting in (*CLOSED, "SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes", *settings):
        argv.append(f"--property={setting}")
    run([*argv, "--", TOOL, paths.app, *command])


def literally(argv: list[str]) -> list[str]:
    """Words for systemd, which would put in for $NAME what the environment has of that name, a secret even."""
    return [word.replace("$", "$$") for word in argv]


class Sandbox:
    """Three users: one fetches and has the deploy key, one builds, one serves."""

    def __init__(self, paths: Layout, config: dict[str, Any]) -> None:
        self.paths, self.config = paths, config

    def run_as(
        self, user: str, argv: list[str], *, writes: list[Path], seconds: float = BUILD_SECONDS,
        place: Path = Path("/"), settings: tuple[str, ...] = (), unit: str = "", stdin: Any = None, stdout: Any = None,
    ) -> str:  # fmt: skip
        """Runs a command as a system user; when it ends, nothing that it started goes on."""
        command = ["systemd-run", "--quiet", "--wait", "--collect", "--service-type=exec"]
        if unit:
            command.append(f"--unit={unit}")
        # With output to a file instead of a pipe, the command survives the death of its caller.
        if not any(setting.startswith("StandardOutput=") for setting in settings):
            command.append("--pipe")
        for setting in (
            f"User={user}", f"Group={user}", f"WorkingDirectory={place}", "UMask=0022",
            *self.sight(writes), *(f"ReadWritePaths=-{path}" for path in writes),
            # Stops the unit if its caller was killed; normally `run`'s own timeout comes first.
            f"RuntimeMaxSec={seconds + 5:.0f}", "TimeoutStopSec=5",
            *CLOSED, "CapabilityBoundingSet=", *settings,
        ):  # fmt: skip
            command += ["--property", setting]
        return run(
            [*command, "--", "/usr/bin/env", *literally(argv)], seconds=seconds, inner=argv, stdin=stdin, stdout=stdout
        )

    def sight(self, writes: list[Path]) -> list[str]:
        """What a command sees of /srv: its application's own, and not what others of the host have there."""
        inside = [path for path in writes if path.is_relative_to("/srv") and not path.is_relative_to(self.paths.home)]
        readable = [f"BindReadOnlyPaths=-{path}" for path in self.config["readable_paths"]]
        return [
            "TemporaryFileSystem=/srv:ro",
            f"BindReadOnlyPaths={self.paths.home}",
            *readable,
            *(f"BindPaths=-{path}" for path in inside),
        ]

    def network_settings(self, home: Path) -> tuple[str, ...]:
        """The environment of what fetches and builds, which may need a proxy or a package index.

        Such a step ends with the change that it is a part of.
        """
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        return (
            f"Environment=HOME={home} PATH=/usr/bin:/bin LANG=C.UTF-8 PIP_CERT={certificates}",
            f"EnvironmentFile=-{self.paths.config}/build_environment",
            f"BindsTo={self.paths.deploy_unit}", f"After={self.paths.deploy_unit}",
        )  # fmt: skip

    def fetching(self, argv: list[str], **options: Any) -> str:
        """As who has the key, and runs nothing that the repository brings."""
        return self.run_as(
            self.config["fetch_user"], argv, writes=[self.paths.fetch], settings=self.network_settings(self.paths.fetch),
            **options,
        )  # fmt: skip

    def building(
        self,
        argv: list[str],
        place: Path,
        *,
        settings: tuple[str, ...] = (),
        more: tuple[Path, ...] = (),
        **options: Any,
    ) -> str:
        """As who runs what a commit brings, or reads it, in its release; it may write there, and to what `more` names."""
        return self.run_as(
            self.config["build_user"], argv, place=place, writes=[place, *more],
            # Its home ends with the step: what one commit leaves there is not what the next one finds.
            settings=settings or self.network_settings(Path("/tmp")), **options,
        )  # fmt: skip

    def making(self, release: str, argv: list[str]) -> str:
        """A command of the operator's that makes a part of a release: with all of its environment that is not secret."""
        settings = (
            f"EnvironmentFile=-{self.paths.config}/environment",
            *self.network_settings(Path("/tmp")),  # its file comes later, so what a build is told otherwise counts
            self.release_settings(release),
        )
        return self.building(argv, self.paths.releases / release, settings=settings)

    def release_settings(self, release: str) -> str:
        """What every command in a release's folder finds in its environment."""
        programs = f"{self.paths.releases / release}/.venv/bin:/usr/bin:/bin"
        return f"Environment=APP_RELEASE={release} PATH={programs} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1"

    def serving(self, release: str, argv: list[str], *, settings: tuple[str, ...] = (), **options: Any) -> str:
        """As who serves, with the environment that it will serve with."""
        place = self.paths.releases / release
        environment = (
            f"EnvironmentFile=-{self.paths.config}/environment",
            f"EnvironmentFile=-{self.paths.config}/secrets",
            self.release_settings(release),
        )
        writes = [Path(path) for path in self.config["writable_paths"]]
        return self.run_as(
            self.config["user"], argv, place=place, writes=writes, settings=(*environment, *settings), **options
        )

    def publishing(self, folder: Path) -> None:
        """Lets the web server read all of a folder of the application's, as the application, which owns what is in it.

        Once: what is made there later has the folder's group. The folder itself comes last, so one that was cut off is
        gone over again.
        """
        group = self.config["socket_group"]
        # Which keeps who is not of a group from giving files to it, and all from setting the bit that hands it on.
        settings = (f"SupplementaryGroups={group}", "RestrictSUIDSGID=no")
        argv = ["/usr/bin/python3", "-c", PUBLISH, str(folder), group]
        self.run_as(self.config["user"], argv, writes=[folder], settings=settings)

    def closed_as_slots_are(self) -> list[str]:
        """The sandbox of the slots, as their unit has it, which the role has written."""
        text = read(self.paths.unit_file)
        lines = text.partition("[Service]\n")[2].partition("\n[")[0].splitlines()
        settings = [line for line in lines if re.match(r"[A-Z][A-Za-z]+=", line) and not line.startswith(OF_A_SLOT)]
        if not any(setting.startswith("User=") for setting in settings):
            raise ReleaseError(
                f"{self.paths.unit_file} does not say how the application is closed in; a converge writes it anew"
            )
        return settings

    def by_hand(self, unit: str, slot: str, release: str, argv: list[str], *, terminal: bool, who: str) -> list[str]:
        """The command line that runs one of the application's own commands as the live slot runs the application.

        Its secrets are read by systemd, so they are on no command line.
        """
        command = ["systemd-run", "--quiet", "--wait", "--collect", "--service-type=exec", f"--unit={unit}"]
        command += [f"--description={self.paths.app}: a command of {who}", "--pty" if terminal else "--pipe"]
        for setting in (
            *self.closed_as_slots_are(), f"WorkingDirectory={self.paths.releases / release}",
            *(f"EnvironmentFile={self.paths.bound(slot) / name}" for name in ("environment", "secrets", "slot")),
            self.release_settings(release),
        ):  # fmt: skip
            command += ["--property", setting]
        return [*command, "--", "/usr/bin/env", "--", *literally(argv)]

    def telling(self, argv: list[str], known: dict[str, str]) -> str:
        """A command of the operator's, as who serves, with what it is to tell in its environment."""
        environment = [f"{name}={value}" for name, value in known.items()]
        writes = [Path(path) for path in self.config["writable_paths"]]
        return self.run_as(self.config["user"], [*environment, *argv], writes=writes, seconds=30)
