#!/usr/bin/env python3
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs with every start of the database server whose binary log lies beside the data. Standard library only.

    mysql-log before    ExecStartPre: brings a log that lies with the data here, and gives a log without a line one
    mysql-log after     ExecStartPost: the server has started with the log here, so what lies with the data is removed

Until `after`, the log with the data is complete, and is the one that counts: its files are linked here, or copied where
this is another file system. So a start that fails is undone by the unit's former drop-in alone.

Root runs it, in folders that belong to the server: whoever has taken the server over may have put links there, to files that
are only root's to read or to write. None is followed, and no name is taken that is not one of the log.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

DATA, LOG = Path("/var/lib/mysql"), Path("/var/lib/mysql-binlog")
INDEX = "binlog.index"
# Holds the name of the last file brought here, as long as no server has started with the log here.
MOVING = "moving"
# Renaming the index with the data to this name is the moment from which the log here counts.
MOVED = "binlog.index.moved"
# The id of an unbroken sequence of log files: it goes where the log goes. A log that begins anew has a new one.
LINE = "line"
ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}\n", re.ASCII)
# The id that shipping (role backup) has used for a log that lay with the data.
SHIPPED = Path("/var/lib/webstack-binlog/line")
NAME = re.compile(r"binlog\.[0-9]{6,10}", re.ASCII)
# The profile that MySQL's package brings, and what role mysql adds to it, where AppArmor has the host's additions.
APPARMOR = Path("/etc/apparmor.d/usr.sbin.mysqld")
LOADED = Path("/sys/kernel/security/apparmor/profiles")
RULES = """\
# Folders of role mysql (foobar.webstack)
/var/lib/mysql-binlog/ r,
/var/lib/mysql-binlog/** rwk,
/run/mysql-tls/* r,
"""


def opened(path: Path) -> BinaryIO:
    """A file to read, and nothing else that may have its name."""
    try:
        handle = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        sys.exit(f"{path} is a link, which role mysql does not follow")
    if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        sys.exit(f"{path} is no file")
    return handle


def read(path: Path) -> str:
    with opened(path) as handle:
        return handle.read().decode()


def fresh(path: Path) -> BinaryIO:
    """A new file to write, which only root can read."""
    path.unlink(missing_ok=True)  # left by a run that was killed
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def listed(index: Path) -> list[str]:
    """The names of the log files in an index, the oldest first."""
    names = [line.rpartition("/")[2] for line in read(index).splitlines() if line.strip()]
    if not all(NAME.fullmatch(name) for name in names):
        sys.exit(f"{index} names files that are none of the log")
    return names


def number(name: str) -> int:
    return int(name.rpartition(".")[2])


def write(name: str, text: str) -> None:
    """Writes a file of the log's folder, which the server owns, in one step."""
    target, owner = LOG / name, LOG.stat()
    staged = LOG / f"{name}.new"
    with fresh(staged) as handle:
        handle.write(text.encode())
        handle.flush()
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
    if not os.path.lexists(source):
        return
    with opened(source) as content:
        if link:
            try:
                os.link(source, target, follow_symlinks=False)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
        staged, status = LOG / f"{name}.new", os.fstat(content.fileno())
        with fresh(staged) as handle:
            shutil.copyfileobj(content, handle, 1 << 20)
            handle.flush()
            os.fchown(handle.fileno(), status.st_uid, status.st_gid)
            os.fchmod(handle.fileno(), status.st_mode & 0o777)
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
        brought = read(LOG / MOVING) if (LOG / MOVING).exists() else None
        if brought is None and (LOG / INDEX).exists():
            sys.exit(
                f"{DATA / INDEX} and {LOG / INDEX}: two binary logs of one server. Data that were put back from elsewhere may "
                f"have brought the first: the log in {LOG} is ahead of them then, and must be replayed before the server "
                "starts. Move the one that is not to be continued to another folder."
            )
        if not (LOG / INDEX).exists() or brought != names[-1]:
            move(names, brought or "")
    if not (LOG / LINE).exists():
        write(
            LINE, (names and shipped()) or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}\n"
        )


def shipped() -> str:
    """The line of the log that is moved, where it has been shipped: the target goes on with it, and fulls belong to it."""
    known = read(SHIPPED) if SHIPPED.exists() else ""
    return known if ID.fullmatch(known) else ""


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
