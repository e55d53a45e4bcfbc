# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which program listens on which port of a host, from /proc (proc(5)): a minimal host has no `ss`."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# File in /proc/net, protocol, and the state of a listening socket: LISTEN; for UDP, unconnected.
TABLES = (("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07"))
Owner = tuple[str, int, str]  # program, process, unit
NOBODY: Owner = ("", 0, "")
UNIT = re.compile(r"/([^/]+\.(?:service|scope|socket))(?=/|$)")


@dataclass(frozen=True)
class Listener:
    """A socket on which a program listens."""

    protocol: str
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    program: str = ""
    pid: int = 0
    unit: str = ""  # systemd unit of the program

    def overlaps(self, address: str) -> bool:
        """Whether another program cannot listen on `address` beside it; "*" stands for all addresses."""
        if address == "*":
            return True
        wanted = ipaddress.ip_address(address)
        if self.address.is_unspecified:  # the IPv6 address :: may include IPv4
            return self.address.version in (6, wanted.version)
        return wanted == self.address or (wanted.is_unspecified and wanted.version == self.address.version)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        where = f"{self.protocol} {host}:{self.port}"
        if not self.pid:
            return f"{where} (a program that cannot be seen from here)"
        return f"{where} ({self.program}, process {self.pid}" + (f", {self.unit})" if self.unit else ")")


def listeners(proc: Path = PROC) -> list[Listener]:
    """All listeners in this network namespace. Names of other users' programs need root."""
    by_inode, by_user = _owners(proc)
    found = []
    for table, protocol, waits in TABLES:
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for fields in map(str.split, lines):
            if fields[3] == waits:
                digits, port = fields[1].split(":")
                owner = by_inode.get(fields[9]) or by_user.get(fields[7]) or NOBODY
                found.append(Listener(protocol, _address(digits), int(port, 16), *owner))
    return found


def _address(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parses the kernel's form: hexadecimal 32-bit words in little-endian order."""
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    address = ipaddress.ip_address(raw)
    return getattr(address, "ipv4_mapped", None) or address


def _owners(proc: Path) -> tuple[dict[str, Owner], dict[str, Owner]]:
    """Owners by the socket's inode; by user, those whose files root of a container may not see (ptrace(2)).

    Of several processes, that of the lowest number: the master.
    """
    by_inode: dict[str, Owner] = {}
    by_user: dict[str, Owner] = {}
    for pid in sorted(int(path.name) for path in proc.iterdir() if path.name.isdigit()):
        place = proc / str(pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the process has ended meanwhile
            units = UNIT.findall((place / "cgroup").read_text(encoding="utf-8", errors="replace"))
            program = (place / "comm").read_text(encoding="utf-8", errors="replace").strip()
            owner = (program, pid, units[-1] if units else "")
            try:
                links = [_link(entry.path) for entry in os.scandir(place / "fd")]
            except PermissionError:
                by_user.setdefault(str(place.stat().st_uid), owner)
                continue
            for link in links:
                if link.startswith("socket:["):
                    by_inode.setdefault(link[8:-1], owner)
    return by_inode, by_user


def _link(path: str) -> str:
    """Where an open file of a process leads; empty if it was closed meanwhile, as a busy server's are all the time."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""
