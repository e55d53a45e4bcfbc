#!/usr/bin/env python3
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs with every start of the database server whose binary log lies beside the data. Standard library only.

    mysql-log before    ExecStartPre: brings a log that lies with the data here, and gives a log without a line one
    mysql-log after     ExecStartPost: the server has started with the log here, so what lies with the data is removed

Until `after`, the log with the data is complete, and is the one that counts: its files are linked here, or copied where
this is another file system. So a start that fails is undone by the unit's former drop-in alone.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

DATA, LOG = Path("/var/lib/mysql"), Path("/var/lib/mysql-binlog")
INDEX = "binlog.index"
# Holds the name of the last file brought here, as long as no server has started with the log here.
MOVING = "moving"
# Renaming the index with the data to this name is the moment from which the log here counts.
MOVED = "binlog.index.moved"
# The id of an unbroken sequence of log files: it goes where the log goes. A log that begins anew has a new one.
LINE = "line"
# The profile that MySQL's package brings, and what role mysql adds to it, where AppArmor has the host's additions.
APPARMOR = Path("/etc/apparmor.d/usr.sbin.mysqld")
LOADED = Path("/sys/kernel/security/apparmor/profiles")
RULES = """\
# Folders of role mysql (foobar.webstack)
/var/lib/mysql-binlog/ r,
/var/lib/mysql-binlog/** rwk,
/run/mysql-tls/* r,
"""


def listed(index: Path) -> list[str]:
    """The names of the log files in an index, the oldest first."""
    return [line.rpartition("/")[2] for line in index.read_text(encoding="utf-8").splitlines() if line.strip()]


def number(name: str) -> int:
    return int(name.rpartition(".")[2])


def write(name: str, text: str) -> None:
    """Writes a file of the log's folder, which the server owns, in one step."""
    target, owner = LOG / name, LOG.stat()
    staged = LOG / f"{name}.new"
    with staged.open("w", encoding="utf-8") as handle:
        handle.write(text)
        os.fchown(handle.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(handle.fileno(), 0o640)
        os.fsync(handle.fileno())
    staged.rename(target)
    sync(LOG)


def sync(folder: Path) -> None:
    """Renamed, linked and removed names are on the disk afterwards."""
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def bring(name: str, *, link: bool = True) -> None:
    """Has a file that lies with the data here, too, if it exists."""
    source, target = DATA / name, LOG / name
    target.unlink(missing_ok=True)
    if not source.exists():
        return
    if link:
        try:
            os.link(source, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    staged, status = LOG / f"{name}.new", source.stat()
    shutil.copyfile(source, staged)
    os.chown(staged, status.st_uid, status.st_gid)
    staged.chmod(status.st_mode & 0o777)
    with staged.open("rb") as handle:
        os.fsync(handle.fileno())
    staged.rename(target)


def here() -> list[Path]:
    return sorted(LOG.glob("binlog.[0-9]*[0-9]"))


def set_aside(last: str) -> None:
    """Log files that a server wrote here which did not start: the one with the data has gone on since, under the same names."""
    for path in here():
        if number(path.name) > number(last):
            path.rename(LOG / f"start-that-failed-{time.time_ns()}-{path.name}")


def allow() -> None:
    """Has AppArmor let MySQL into the folders; other lines of the host's additions are somebody else's and stay."""
    additions = APPARMOR.parent / "local" / APPARMOR.name
    if not APPARMOR.exists():
        return
    known = additions.read_text(encoding="utf-8") if additions.exists() else ""
    if RULES not in known:
        additions.parent.mkdir(exist_ok=True)
        additions.write_text(f"{known.rstrip()}\n{RULES}".lstrip(), encoding="utf-8")
    # Not one that somebody has disabled.
    if LOADED.exists() and f"/usr/sbin/{APPARMOR.name.rpartition('.')[2]} " in LOADED.read_text(encoding="utf-8"):
        subprocess.run(["apparmor_parser", "--replace", "--write-cache", APPARMOR], check=False)


def before() -> None:
    allow()
    names = listed(DATA / INDEX) if (DATA / INDEX).exists() else []
    if names:
        brought = (LOG / MOVING).read_text(encoding="utf-8") if (LOG / MOVING).exists() else None
        if brought is None and (LOG / INDEX).exists():
            sys.exit(
                f"{DATA / INDEX} and {LOG / INDEX}: two binary logs of one server. Data that were put back from elsewhere may "
                f"have brought the first: the log in {LOG} is ahead of them then, and must be replayed before the server "
                "starts. Move the one that is not to be continued to another folder."
            )
        if not (LOG / INDEX).exists() or brought != names[-1]:
            move(names, brought or "")
    if not (LOG / LINE).exists():
        write(LINE, f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}\n")


def move(names: list[str], brought: str) -> None:
    if brought:
        set_aside(brought)
    for path in here():
        if number(path.name) < number(names[0]):
            path.unlink()  # of a try before; the server has removed it by age since
    write(MOVING, "")
    (LOG / INDEX).unlink(missing_ok=True)
    for name in names:
        bring(name)
        bring(f"{name}.idx")  # MariaDB's, from 11.4: where in the file which transaction is
    bring("binlog.state", link=False)  # MariaDB's, which a start rewrites
    sync(LOG)
    write(INDEX, "".join(f"{LOG / name}\n" for name in names))
    write(MOVING, names[-1])


def after() -> None:
    if (LOG / MOVING).exists() and (DATA / INDEX).exists():
        (DATA / INDEX).rename(DATA / MOVED)
        sync(DATA)
    if (DATA / MOVED).exists():
        for name in [*listed(DATA / MOVED), "binlog.state"]:
            (DATA / name).unlink(missing_ok=True)
            (DATA / f"{name}.idx").unlink(missing_ok=True)
        (DATA / MOVED).unlink()
    (LOG / MOVING).unlink(missing_ok=True)


if __name__ == "__main__":
    {"before": before, "after": after}[sys.argv[1]]()
