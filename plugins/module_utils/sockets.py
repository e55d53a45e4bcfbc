# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who listens on which port of a host, as the kernel tells it (proc(5)): a bare host may have no `ss`."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Table of the kernel, protocol, and the state of a socket that waits for others: LISTEN, or of UDP, unconnected.
TABLES = (("tcp", "tcp", "0A"), ("tcp6", "tcp", "0A"), ("udp", "udp", "07"), ("udp6", "udp", "07"))
UNIT = re.compile(r"/([^/]+\.(?:service|scope|socket))(?=/|$)")


@dataclass(frozen=True)
class Listener:
    """A socket on which a program waits for others."""

    protocol: str
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    program: str = ""
    pid: int = 0
    unit: str = ""  # of systemd, in which the program runs

    def overlaps(self, address: str) -> bool:
        """Whether a program that listens on `address` gets in its way; "*" stands for all addresses."""
        if address == "*":
            return True
        wanted = ipaddress.ip_address(address)
        if self.address.is_unspecified:  # of IPv6 it may stand for both
            return self.address.version in (6, wanted.version)
        return wanted == self.address or (wanted.is_unspecified and wanted.version == self.address.version)

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        where = f"{self.protocol} {host}:{self.port}"
        if not self.pid:
            return f"{where} (a program that cannot be seen from here)"
        return f"{where} ({self.program}, process {self.pid}" + (f", {self.unit})" if self.unit else ")")


def listeners(proc: Path = PROC) -> list[Listener]:
    """All of them, in the network of whoever asks; needs root to name programs of others."""
    owners = _owners(proc)
    found = []
    for table, protocol, waits in TABLES:
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for fields in map(str.split, lines):
            if fields[3] != waits:
                continue
            local, inode = fields[1], fields[9]
            digits, port = local.split(":")
            found.append(Listener(protocol, _address(digits), int(port, 16), *owners.get(inode, ("", 0, ""))))
    return found


def _address(digits: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Of the kernel's hexadecimal words of 32 bits, each with its last byte first."""
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    address = ipaddress.ip_address(raw)
    return getattr(address, "ipv4_mapped", None) or address


def _owners(proc: Path) -> dict[str, tuple[str, int, str]]:
    """Program, process and unit, by the socket's inode. Of several processes, that of the lowest number: the master."""
    owners: dict[str, tuple[str, int, str]] = {}
    for pid in sorted(int(path.name) for path in proc.iterdir() if path.name.isdigit()):
        with contextlib.suppress(OSError):  # a process that has ended meanwhile
            links = [os.readlink(entry.path) for entry in os.scandir(proc / str(pid) / "fd")]
            inodes = [link[8:-1] for link in links if link.startswith("socket:[")]
            if inodes:
                program = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
                units = UNIT.findall((proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace"))
                for inode in inodes:
                    owners.setdefault(inode, (program, pid, units[-1] if units else ""))
    return owners
