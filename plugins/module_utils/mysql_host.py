# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host has of database servers, without a login: processes, data and configuration."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = "/var/lib/mysql"
LOG, INDEX = "/var/lib/mysql-binlog", "binlog.index"
CONFIGURATION = "/etc/mysql/webstack.cnf"
PROGRAMS = ("mariadbd", "mysqld")
UNITS = ("mariadb.service", "mysql.service", "mysqld.service")
SYSTEM_FOLDERS = {"mysql", "performance_schema", "sys", "lost+found"}
# A file in the data folder that only this vendor's server makes.
MARKS = {"mariadb": "aria_log_control", "mysql": "mysql.ibd"}
# Option files that the packages write when they are installed, or this role.
MADE_BY_PACKAGES = {"/etc/mysql/debian.cnf", "/etc/mysql/FROZEN", "/etc/mysql/mysql.conf.d/webstack-log.cnf"}
# Groups of an option file that a server reads. Groups for clients are not judged: they keep their effect.
OF_SERVERS = re.compile(rb"^\s*(\[(mysqld|mariadbd?|server|galera|embedded)[-_.0-9]*\]|!include)", re.MULTILINE)
APT_FILES = ("/etc/apt/sources.list.d/webstack-mysql.sources", "/etc/apt/preferences.d/webstack-mysql")

LISTED = 20  # files that one message names
SCARCE = 2 * 2**30  # bytes

# Runs a command; returns exit code, output and error output.
Runner = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Process:
    """A running database server."""

    pid: int
    unit: str  # empty if no service started it
    data: str  # data folder; empty if unknown
    in_container: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} ({self.unit or 'started by hand'})"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _link(proc: Path, pid: int, name: str) -> str:
    """The target of a link in /proc; empty if it cannot be read."""
    path = proc / str(pid) / name
    try:
        return os.readlink(path)
    except PermissionError:
        pass
    except OSError:
        return ""
    # Root without CAP_SYS_PTRACE, such as in a container, cannot read it, but the user of the process can.
    ids = dict(re.findall(r"^(Uid|Gid):\t(\d+)", _read(proc / str(pid) / "status"), re.MULTILINE))
    if "Uid" not in ids or os.geteuid() != 0:
        return ""
    done = subprocess.run(  # pylint: disable=ansible-bad-function  # run_command runs as no other user
        ["readlink", str(path)],
        user=int(ids["Uid"]),
        group=int(ids["Gid"]),
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def processes(proc: Path = Path("/proc")) -> list[Process]:
    """The running database servers. The working directory of both vendors' servers is the data folder."""
    found = []
    own = _link(proc, os.getpid(), "ns/pid")
    for entry in proc.glob("[0-9]*"):
        if _read(entry / "comm").strip() not in PROGRAMS:
            continue
        pid = int(entry.name)
        units = re.findall(r"/([^/\n]+\.service)$", _read(entry / "cgroup"), re.MULTILINE)
        namespace = _link(proc, pid, "ns/pid")
        found.append(
            Process(
                pid,
                units[-1] if units else "",
                _link(proc, pid, "cwd"),
                in_container=bool(own and namespace and own != namespace),
            )
        )
    return found


def same_folder(one: str, other: str) -> bool:
    """Whether two paths are the same folder, through links or mounts."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.normpath(one) == os.path.normpath(other)


def space(folder: str) -> tuple[int, int]:
    """The bytes of the file system that holds a folder, and how many are left; nothing of a folder that is not there."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return (0, 0)
    return (status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def on_one_disk(*folders: str) -> bool:
    return len({os.stat(folder).st_dev for folder in folders}) == 1


def holds_data(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in ("ibdata1", "mysql", *MARKS.values()))


def databases_in(folder: str) -> list[str]:
    """Names of the databases in a data folder, without the server's own."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
    listed = [name for name in names if name not in SYSTEM_FOLDERS and not name.startswith(("#", "."))]
    # In folder names, characters other than letters and digits are @ and four hexadecimal digits.
    return sorted(re.sub("@([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), name) for name in listed)


def version_of(text: str) -> tuple[int, ...]:
    """The first two numbers of a version; empty without one."""
    found = re.search(r"(\d+)\.(\d+)\.\d+", text)
    return (int(found[1]), int(found[2])) if found else ()


def outside(names: list[str], folder: str) -> list[str]:
    """Settings of files, and links in the data folder, that lead out of the data folder."""
    root = os.path.realpath(folder)
    linked = [path for path in Path(folder).glob("*") if path.is_symlink() and path.is_dir()]
    linked += [path for path in Path(folder).glob("*/*") if path.is_symlink()]
    paths = [os.path.normpath(os.path.join(folder, name)) for name in [*names, *map(str, linked)]]
    return sorted({path for path in paths if not f"{os.path.realpath(path)}/".startswith(f"{root}/")})


def data_version(folder: str) -> tuple[int, ...]:
    """The version of the server that wrote the data; empty if unknown."""
    for name in ("mariadb_upgrade_info", "mysql_upgrade_info"):
        text = _read(os.path.join(folder, name))
        if text:
            return version_of(text)
    try:
        history = json.loads(_read(os.path.join(folder, "mysql_upgrade_history")) or "{}")
        return version_of(history["upgrade_history"][-1]["version"])
    except (KeyError, IndexError, TypeError, ValueError):
        return ()


def unmounted(folder: str, root: Path = Path("/")) -> str:
    """A mount point of /etc/fstab on the way to `folder` that is not mounted; empty if all are."""
    ways = {os.path.normpath(folder), os.path.realpath(folder)}
    declared = [line.split()[1] for line in _read(root / "etc/fstab").splitlines() if re.match(r"[^#\s]\S*\s+/", line)]
    for unit in sorted((root / "etc/systemd/system").glob("*.mount")):
        declared += re.findall(r"^Where=(/.*)$", _read(unit), re.MULTILINE)
    mounted = {line.split()[1] for line in _read(root / "proc/self/mounts").splitlines() if line.strip()}
    for point in declared:
        plain = os.path.normpath(point.replace("\\040", " "))
        if plain != "/" and plain not in mounted and any(f"{way}/".startswith(f"{plain}/") for way in ways):
            return plain
    return ""


def foreign_configuration(run: Runner, root: Path = Path("/")) -> list[str]:
    """Files with server options that no package installed, or that were changed since."""
    _rc, out, _err = run(
        ["dpkg-query", "--show", "--showformat", "${Conffiles}\n", "mariadb*", "mysql*", "percona*", "galera*"]
    )
    shipped = dict(re.findall(r"^ (/\S+) ([0-9a-f]{32})", out, re.MULTILINE))
    found = []
    for path in [root / "etc/my.cnf", *sorted((root / "etc/mysql").rglob("*"))]:
        name = f"/{path.relative_to(root)}"
        # Debian's my.cnf is a link to a file of a package.
        if not path.is_file() or name in {CONFIGURATION, *MADE_BY_PACKAGES} or _alternative(path):
            continue
        content = path.read_bytes()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if shipped.get(name) != digest and OF_SERVERS.search(content):
            found.append(name)
    return found


def persisted_settings(folder: str) -> list[str]:
    """MySQL's file of SET PERSIST, if it holds a setting. With this role the server does not load it."""
    path = os.path.join(folder, "mysqld-auto.cnf")
    try:
        content = json.loads(_read(path) or "{}")
    except ValueError:
        return [path]
    return [path] if any(content[name] for name in content if name != "Version") else []


def _alternative(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path).startswith("/etc/alternatives/")


class Host:
    """The database servers and data of a host, and the reasons to refuse it."""

    def __init__(self, run: Runner, vendor: str, take_over: bool, move_log: bool = False) -> None:
        self.run, self.vendor, self.take_over = run, vendor, take_over
        self.is_taken_over = False  # set when the databases are known
        self.unit, self.package = f"{vendor}.service", f"{vendor}-server"
        self.drop_in = f"/etc/systemd/system/{self.unit}.d/webstack.conf"
        self.is_ours = os.path.exists(CONFIGURATION) or os.path.exists(self.drop_in)
        self.processes = processes()
        self.server = next((item for item in self.processes if not item.in_container), None)
        self.has_data = holds_data(DATA)
        # Where it is to lie at the end of the run.
        self.log_beside = move_log or self._has_log_beside()
        self.configuration = [] if self.is_ours else foreign_configuration(run) + persisted_settings(DATA)

    def _has_log_beside(self) -> bool:
        """Whether the binary log lies beside the data, as that of every new server will."""
        if not self.is_ours or f"--log-bin={LOG}/" in _read(self.drop_in):
            return True
        # The drop-in was changed by hand.
        return os.path.exists(f"{LOG}/{INDEX}") and not os.path.exists(f"{DATA}/{INDEX}")

    def warnings(self) -> Iterator[str]:
        """What goes well still."""
        if self.has_data and not self.log_beside:
            yield (
                f"The binary log lies with the data, in {DATA}: whatever destroys that folder takes both. To have it moved to "
                f"{LOG}, with one restart of the server, repeat the run with -e mysql_move_log=true."
            )
        folder = LOG if self.log_beside and os.path.isdir(LOG) else DATA
        total, left = space(folder)
        if left < min(total // 10, SCARCE):
            yield (
                f"The file system that holds the binary log, in {folder}, has {left // 2**20} MB left of {total // 2**20} MB. "
                "When it is full, every commit hangs until there is room."
            )

    def _log(self) -> Iterator[str]:
        point = unmounted(LOG)
        if point:
            yield f"{point} is a mount point on the way to {LOG}, and nothing is mounted there. Mount it first."
        elif os.path.exists(f"{LOG}/{INDEX}") and not (
            self.is_ours and (self.has_data or os.path.exists(CONFIGURATION))
        ):
            yield (
                f"{LOG} holds the binary log of a server that was here before. A new one would go on with it, under the numbers of "
                f"changes that are not its own, and it may be the only copy of what was changed last. Move it away: mv {LOG} {LOG}.before"
            )
        size = sum(path.stat().st_size for path in Path(DATA).glob("binlog.[0-9]*"))
        folder = LOG if os.path.isdir(LOG) else os.path.dirname(LOG)
        left = space(folder)[1]
        if size > left and not on_one_disk(folder, DATA):
            yield f"The binary log is to be moved to {LOG} and has {size // 2**20} MB; there are {left // 2**20} MB left there."

    def faults(self) -> Iterator[str]:
        """Reasons to refuse: data that would be lost, or a server that would not start."""
        point = unmounted(DATA)
        if point:
            yield f"{point} is a mount point on the way to {DATA}, and nothing is mounted there. Mount it first."
        elif os.path.islink(DATA) and not os.path.isdir(DATA):
            yield f"{DATA} is a link to {os.readlink(DATA)}, which is not a folder. Make that folder available first."
        elif self.is_ours and not self.has_data and os.path.exists(CONFIGURATION):
            yield (
                f"{CONFIGURATION} says that this role has configured a server here, but {DATA} holds no data. Mount the disk "
                f"that holds them, or restore them; to begin with an empty server, remove {CONFIGURATION}."
            )
        other = {"mariadb": "mysql", "mysql": "mariadb"}[self.vendor]
        if os.path.exists(os.path.join(DATA, MARKS[other])):
            yield (
                f"mysql_vendor: is {self.vendor}, but {DATA}/{MARKS[other]} shows that a server of the other vendor has its "
                "data here, which would be out of reach. To change vendors, build a new host and bring the data there as a dump."
            )
        if self.log_beside:
            yield from self._log()
        yield from self._running() if self.server else self._stopped()
        for item in self.processes:
            if item.in_container and item.data and same_folder(f"/proc/{item.pid}/cwd", DATA):
                yield f"{item} is a server in a container that has its data in {DATA}. Stop it, and remove it, first."

    def _running(self) -> Iterator[str]:
        for item in (item for item in self.processes if not item.in_container):
            ours = self.is_ours and item.unit == self.unit
            if self.is_ours and item.unit != self.unit and item.data and not same_folder(item.data, DATA):
                continue  # another server, which this role does not touch
            if not holds_data(item.data):
                if not ours:  # our server will be started
                    yield f"It cannot be told where the database server that runs here, {item}, has its data."
            elif not same_folder(item.data, DATA):
                yield elsewhere(f"the database server that runs here, {item},", item.data)
            elif item.unit != self.unit:
                yield (
                    f"The server that has its data in {DATA}, {item}, was not started by {self.unit}, which this role "
                    f"configures. Stop it, see that it is not started again, and start {self.unit} instead."
                )
        if not self.is_ours and not self._installed():
            yield (
                f"A database server runs here, {self.server}, but package {self.package} is not installed. It would replace "
                "the programs of that server. Install the package first, or build a new host and bring the data there as a dump."
            )

    def _installed(self) -> bool:
        return "installed" in self.run(["dpkg-query", "--show", "--showformat", "${db:Status-Status}", self.package])[1]

    def _stopped(self) -> Iterator[str]:
        program, options = ("", []) if self.is_ours else self._program()
        if program:
            rc, out, err = self.run([program, *options, "--user=mysql", "--verbose", "--help"])
            found = re.search(r"^datadir +(/.*?)/?$", out, re.MULTILINE)
            if rc != 0 or not found:
                yield f"{program} is installed and stopped, and does not say where its data are: {err.strip()[-500:] or out[-500:]}"
                return
            if not same_folder(found[1], DATA):
                yield elsewhere(f"the database server that is installed here and stopped ({program})", found[1])
                return
        if not self.has_data:
            return
        written, reader = data_version(DATA), self._reader(program)
        if written and reader and written > reader:
            yield (
                f"The data in {DATA} were written by version {_dotted(written)}, and version {_dotted(reader)} of "
                f"{self.package}, which is older, could not read them. Install that version first."
            )
        databases = databases_in(DATA)
        if databases and not self.is_ours and program:
            yield (
                f"The server in {DATA} does not run, so it cannot be asked who may log in. It has the databases "
                f"{', '.join(databases)}. Start it (systemctl start {self.unit}), and repeat the run."
            )
        elif databases and not self.is_ours and not self.take_over:
            yield (
                f"{DATA} holds the databases {', '.join(databases)} of a server that is not installed here. If they are to be "
                "this server's, repeat the run with -e mysql_take_over=true; if not, move them elsewhere."
            )

    def _program(self) -> tuple[str, list[str]]:
        """The server's program, with the options of its unit; empty without one."""
        _rc, out, _err = self.run(["systemctl", "show", "--property=ExecStart", *UNITS])
        started = re.search(rf"(/[^\s;]*/(?:{'|'.join(PROGRAMS)}))\b", out)
        candidates = [started[1]] if started else []
        candidates += [f"/usr/sbin/{name}" for name in PROGRAMS]
        program = next((path for path in candidates if os.path.exists(path)), "")
        options = re.findall(r"--(?:defaults-[a-z-]+|datadir)=[^\s;]+", out)
        return program, sorted(options, key=lambda option: not option.startswith("--defaults"))

    def _reader(self, program: str) -> tuple[int, ...]:
        """The version of the server that will read the data: installed, or to be installed by apt."""
        path = program or next((f"/usr/sbin/{name}" for name in PROGRAMS if os.path.exists(f"/usr/sbin/{name}")), "")
        if path:
            return version_of(self.run([path, "--version"])[1])
        found = re.search(r"Candidate: (\S+)", self.run(["apt-cache", "policy", self.package])[1])
        return version_of(found[1]) if found else ()

    def why_out_of_reach(self, names: list[str]) -> str:
        """Why a server with this role's configuration would miss files of the present one; empty if it would not."""
        away = [] if self.is_ours else outside(names, DATA)
        if not away:
            return ""
        more = f" and {len(away) - LISTED} more" if len(away) > LISTED else ""
        return (
            f"The database server that runs here has files outside of {DATA}: {', '.join(away[:LISTED])}{more}. The sandbox "
            f"of this role lets it write into {DATA} only, so it could not use them. Move them there first: a table by a dump, "
            "a linked folder into the place of its link with the server stopped, then repeat the run."
        )

    def why_not_ours(self, databases: list[str]) -> str:
        """Why a server that somebody else has set up is not taken over; empty if it may be."""
        in_use = not self.is_ours and bool(databases or self.configuration)
        self.is_taken_over = in_use and self.take_over
        if not in_use or self.take_over:
            return ""
        return (
            f"A database server that this role did not set up is in use here. Its databases: {', '.join(databases) or 'none'}. "
            f"These files would lose their effect: {', '.join(self.configuration) or 'none'}. To have it configured by this "
            "role, repeat the run with -e mysql_take_over=true. A copy of /etc/mysql is kept then, and the data stay in place."
        )


def elsewhere(who: str, data: str) -> str:
    return (
        f"{who[0].upper()}{who[1:]} has its data in {data}. This role keeps them in {DATA}, and would start it there, "
        f"without them. Stop the server, move the data to {DATA} (which must be empty before), and start it with that "
        "datadir; then repeat the run."
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
