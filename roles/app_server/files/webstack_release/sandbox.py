"""Runs commands as the application's users, each in a systemd unit. No code of a commit runs as root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .basics import ReleaseError, read, run
from .layout import TOOL, Layout

BUILD_SECONDS = 900
# Restrictions of every unit that this tool starts.
CLOSED = (
    "NoNewPrivileges=yes", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectHome=yes", "ProtectSystem=strict",
    "ProtectClock=yes", "ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "RestrictNamespaces=yes", "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes", "LockPersonality=yes", "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
)  # fmt: skip


# Settings of a slot's unit that other commands must not have.
OF_A_SLOT = ("Type=", "Exec", "EnvironmentFile=", "KillMode=", "LimitDATA=", "Restart", "Timeout")
# Arguments: a folder, and the group that may read everything in it.
PUBLISH = """
import contextlib, grp, os, stat, sys
top, group = sys.argv[1:]
number = grp.getgrnam(group).gr_gid
for base, _folders, files in os.walk(top, topdown=False):
    for path, more in (*((os.path.join(base, name), 0o040) for name in files), (base, 0o2050)):
        with contextlib.suppress(FileNotFoundError):  # the application may remove files meanwhile
            found = os.lstat(path)
            if found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode):
                os.chown(path, -1, number, follow_symlinks=False)
                os.chmod(path, 0o2750 if path == top else stat.S_IMODE(found.st_mode) | more)
"""


def run_as_unit(paths: Layout, options: list[str], command: list[str], *settings: str) -> None:
    """Runs this tool as a unit of its own, which survives the end of the caller. Other units do its work, so it needs few rights."""
    argv = ["systemd-run", "--quiet", "--collect", *options]
    for setting in (*CLOSED, "SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes", *settings):
        argv.append(f"--property={setting}")
    run([*argv, "--", TOOL, paths.app, *command])


def literally(argv: list[str]) -> list[str]:
    """Escapes words for systemd, which would replace $NAME by a variable, even by a secret."""
    return [word.replace("$", "$$") for word in argv]


class Sandbox:
    """Three users: one fetches and has the deploy key, one builds, one runs the application."""

    def __init__(self, paths: Layout, config: dict[str, Any]) -> None:
        self.paths, self.config = paths, config

    def run_as(
        self, user: str, argv: list[str], *, writes: list[Path], seconds: float = BUILD_SECONDS,
        place: Path = Path("/"), settings: tuple[str, ...] = (), unit: str = "", stdin: Any = None, stdout: Any = None,
    ) -> str:  # fmt: skip
        """Runs a command as a system user. When it ends, systemd kills everything that it started."""
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
        """Settings that hide the folders of other applications in /srv."""
        inside = [path for path in writes if path.is_relative_to("/srv") and not path.is_relative_to(self.paths.home)]
        readable = [f"BindReadOnlyPaths=-{path}" for path in self.config["readable_paths"]]
        return [
            "TemporaryFileSystem=/srv:ro",
            f"BindReadOnlyPaths={self.paths.home}",
            *readable,
            *(f"BindPaths=-{path}" for path in inside),
        ]

    def network_settings(self, home: Path) -> tuple[str, ...]:
        """Environment of fetching and building: a proxy or a package index may be set. The unit ends with its change."""
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        return (
            f"Environment=HOME={home} PATH=/usr/bin:/bin LANG=C.UTF-8 PIP_CERT={certificates}",
            f"EnvironmentFile=-{self.paths.config}/build_environment",
            f"BindsTo={self.paths.deploy_unit}", f"After={self.paths.deploy_unit}",
            "CPUWeight=20", "Nice=10",  # visitors come first
        )  # fmt: skip

    def fetching(self, argv: list[str], **options: Any) -> str:
        """As the fetching user, which has the deploy key."""
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
        """As the building user, in the folder of a release. It may write there and to the paths in `more`."""
        return self.run_as(
            self.config["build_user"], argv, place=place, writes=[place, *more],
            # Its home is the unit's private /tmp, so nothing stays for the next commit.
            settings=settings or self.network_settings(Path("/tmp")), **options,
        )  # fmt: skip

    def making(self, release: str, argv: list[str]) -> str:
        """A command that makes a part of a release, such as static files. It has the application's environment without secrets."""
        settings = (
            f"EnvironmentFile=-{self.paths.config}/environment",
            *self.network_settings(Path("/tmp")),  # later, so that the build environment overrides the application's
            self.release_settings(release),
        )
        return self.building(argv, self.paths.releases / release, settings=settings)

    def release_settings(self, release: str) -> str:
        """Environment of every command that runs in the folder of a release."""
        programs = f"{self.paths.releases / release}/.venv/bin:/usr/bin:/bin"
        return f"Environment=APP_RELEASE={release} PATH={programs} LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1"

    def serving(self, release: str, argv: list[str], *, settings: tuple[str, ...] = (), **options: Any) -> str:
        """As the application's user, with its environment and secrets."""
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
        """Gives a shared folder and everything in it to the web server's group. Runs as the application's user.

        Needed once: files that are made later get the group of the folder. The folder is changed last, so if this is cut
        off, the next run starts over.
        """
        group = self.config["socket_group"]
        # Only members of a group can give files to it. RestrictSUIDSGID would forbid the set-group bit.
        settings = (f"SupplementaryGroups={group}", "RestrictSUIDSGID=no")
        argv = ["/usr/bin/python3", "-c", PUBLISH, str(folder), group]
        self.run_as(self.config["user"], argv, writes=[folder], settings=settings)

    def closed_as_slots_are(self) -> list[str]:
        """The restrictions of the slots, read from their unit file."""
        text = read(self.paths.unit_file)
        lines = text.partition("[Service]\n")[2].partition("\n[")[0].splitlines()
        settings = [line for line in lines if re.match(r"[A-Z][A-Za-z]+=", line) and not line.startswith(OF_A_SLOT)]
        if not any(setting.startswith("User=") for setting in settings):
            raise ReleaseError(
                f"{self.paths.unit_file} does not say how the application is closed in; a converge writes it anew"
            )
        return settings

    def by_hand(self, unit: str, slot: str, release: str, argv: list[str], *, terminal: bool, who: str) -> list[str]:
        """The command line for a command of the application, with user, environment and restrictions of the live slot.

        systemd reads the secrets from files, so that no command line shows them.
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
        """A notify_command, as the application's user, with the facts in its environment."""
        environment = [f"{name}={value}" for name, value in known.items()]
        writes = [Path(path) for path in self.config["writable_paths"]]
        return self.run_as(self.config["user"], [*environment, *argv], writes=writes, seconds=30)
