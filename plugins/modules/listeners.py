#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""See what listens to the network on a host, and whether somebody has declared it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: listeners
short_description: What role base must know of a host before it changes anything
description:
  - Reads the sockets of the host on which a program waits for others, those on loopback addresses
    left out, and warns of each whose port nobody has declared.
  - Says whether the host has an ssh server, and on which ports; which settings of it somebody else has made that
    those of the role would overrule; which other tool keeps a firewall; and to which inventory the host belongs.
  - Changes nothing.
options:
  settings:
    description: The role's settings of the ssh server, as its file has them.
    type: str
    default: ""
  declared:
    description: The ports on which something may listen, such as C(80/tcp), besides those of the ssh server.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Access | See what listens, and whether it was declared
  foobar.webstack.listeners:
    declared: [80/tcp, 443/tcp, 443/udp]
"""

RETURN = r"""
sshd:
  description: Whether an OpenSSH server is installed.
  type: bool
  returned: always
ssh_unit:
  description: The unit of the ssh server that runs; empty where none does, or where systemd listens for it.
  type: str
  returned: always
ssh_ports:
  description: The ports on which it listens, and those on which it would after a restart.
  type: list
  elements: int
  returned: always
firewall:
  description: Whether the unit of this collection's firewall is there.
  type: bool
  returned: always
belongs_to:
  description: What the host says that it belongs to; empty before the first run.
  type: str
  returned: always
firewalls:
  description: The units of other tools that keep a firewall on the host, and that can be taken over.
  type: list
  elements: str
  returned: always
firewalls_begun:
  description: Those of them whose takeover has begun, and was not finished.
  type: list
  elements: str
  returned: always
firewalls_to_stay:
  description: The other tools that keep a firewall, each with why it cannot be taken over.
  type: list
  elements: str
  returned: always
overruled:
  description: >-
    Ways in that somebody else has set otherwise than O(settings), which are not on the host yet, such as
    C(/etc/ssh/sshd_config.d/mine.conf: PasswordAuthentication yes).
  type: list
  elements: str
  returned: always
settings_differ:
  description: Whether the host has an ssh server without O(settings).
  type: bool
  returned: always
rules:
  description: The firewall that the host has in the role's file; empty where there is none.
  type: str
  returned: always
undeclared:
  description: What listens to the network undeclared, such as C(tcp 0.0.0.0:9100 (exporter)).
  type: list
  elements: str
  returned: always
in_use:
  description: >-
    Those of them that a first firewall might cut off from who relies on them: of TCP all, of UDP
    the usual ports of IPsec, OpenVPN and WireGuard, by which one may have come in.
  type: list
  elements: str
  returned: always
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils.firewalls import TOOLS, begun, kept, why_not
from ansible_collections.foobar.webstack.plugins.module_utils.sockets import listeners

UNITS = ("ssh.service", "ssh.socket", "webstack-firewall.service", *TOOLS)
SSHD = Path("/etc/ssh/sshd_config")
SSHD_SHIPPED = Path("/usr/share/openssh/sshd_config")  # the original of SSHD in Debian's package
SSHD_DROP_INS = Path("/etc/ssh/sshd_config.d")
SSHD_OURS = SSHD_DROP_INS / "00-webstack.conf"
# Settings that logins may depend on. Others, such as time limits, lock nobody out.
WAYS_IN = (
    "passwordauthentication", "kbdinteractiveauthentication", "pubkeyauthentication", "authenticationmethods", "permitrootlogin",
    "allowtcpforwarding", "allowagentforwarding", "allowstreamlocalforwarding", "x11forwarding", "hostkeyalgorithms",
)  # fmt: skip
RULES = Path("/etc/webstack/firewall.nft")
BELONGS_TO = Path("/etc/webstack/belongs-to")
# Ports of DHCP clients, which listen for answers.
ALWAYS = {"68/udp", "546/udp"}
# UDP ports of IPsec, OpenVPN and WireGuard. Other UDP sockets are mostly clients.
VPN = {500, 4500, 1194, 51820}


@dataclass(frozen=True)
class Socket:
    """A program that listens."""

    protocol: str
    address: str
    port: int
    program: str
    pid: str

    def is_local(self) -> bool:
        return self.address.startswith(("127.", "[::1]", "[::ffff:127.")) or self.address.endswith("%lo")

    def __str__(self) -> str:
        return f"{self.protocol} {self.address}:{self.port}" + (f" ({self.program})" if self.program else "")


def sockets(listing: str) -> list[Socket]:
    """Parses the output of `ss -Hlntup`."""
    found = []
    for line in listing.splitlines():
        protocol, _state, _waiting, _limit, local, _peer, *owner = line.split(maxsplit=6)
        address, _colon, port = local.rpartition(":")
        who = re.search(r'\("([^"]*)",pid=(\d+)', owner[0] if owner else "")
        found.append(Socket(protocol, address, int(port), *(who.groups() if who else ("", ""))))
    return found


def of_kernel() -> list[Socket]:
    return [
        Socket(
            one.protocol,
            f"[{one.address}]" if one.address.version == 6 else str(one.address),
            one.port,
            one.program,
            str(one.pid),
        )
        for one in listeners()
    ]


def undeclared(found: list[Socket], declared: set[str]) -> list[Socket]:
    """Listeners that other hosts can reach and that are not declared."""
    known = declared | ALWAYS
    strangers = {
        str(socket): socket
        for socket in found
        if not socket.is_local() and f"{socket.port}/{socket.protocol}" not in known
    }
    return [strangers[name] for name in sorted(strangers)]


def units(module: AnsibleModule) -> dict[str, dict[str, str]]:
    """systemd's state of each of UNITS; a host may lack some."""
    _rc, out, _err = module.run_command(
        ["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState,MainPID,Listen", *UNITS]
    )
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line and not line.startswith("Listen="))
        | {"Listen": " ".join(re.findall(r"^Listen=(.*)", block, re.MULTILINE))}
        for block in out.split("\n\n")
    ]
    return {block["Id"]: block for block in blocks if "Id" in block}


def ssh_ports(
    module: AnsibleModule, sshd: str | None, known: dict[str, dict[str, str]], found: list[Socket]
) -> list[int]:
    """Ports of sshd: now, and after its next restart."""
    if sshd is None:
        return []
    pid = known["ssh.service"].get("MainPID", "0")
    ports = {socket.port for socket in found if socket.pid == pid and not socket.is_local()}
    if known["ssh.socket"].get("ActiveState") == "active":
        return sorted(ports | {int(port) for port in re.findall(r":(\d+) \(Stream\)", known["ssh.socket"]["Listen"])})
    os.makedirs("/run/sshd", 0o755, exist_ok=True)  # sshd needs it, and only its unit makes it
    _rc, out, _err = module.run_command([sshd, "-T"])
    return sorted(ports | {int(port) for port in re.findall(r"^port (\d+)$", out, re.MULTILINE)})


def text(path: Path) -> str:
    """The text of a file; empty without one."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def settings(of: str) -> dict[str, str]:
    """Settings of a file of sshd before the first Match. The first value of a keyword counts."""
    found: dict[str, str] = {}
    for line in of.splitlines():
        keyword, *value = re.split(r"\s*=\s*|\s+", line.strip(), maxsplit=1)
        if keyword.lower() == "match":
            break
        if value and not keyword.startswith("#"):
            found.setdefault(keyword, value[0])
    return found


def plain(value: str) -> str:
    """A value in lower case; of two names for one value, one."""
    return value.lower().replace("without-password", "prohibit-password")


def overruled(declared: str) -> list[str]:
    """Settings for logins of other files that differ from `declared`. Ours is read first, so it would override them.

    What the role's file has already is nobody's loss any more.
    """
    known = {keyword.lower() for keyword in settings(text(SSHD_OURS))}
    ours = {keyword.lower(): plain(value) for keyword, value in settings(declared).items()}
    asked = {keyword: value for keyword, value in ours.items() if keyword in WAYS_IN and keyword not in known}
    shipped = settings(text(SSHD_SHIPPED)).items()
    found = []
    for path in [*sorted(SSHD_DROP_INS.glob("*.conf")), SSHD]:
        for keyword, value in settings(text(path)).items():
            if path == SSHD_OURS or (path == SSHD and (keyword, value) in shipped):
                continue
            if asked.get(keyword.lower(), plain(value)) != plain(value):
                found.append(f"{path}: {keyword} {value}")
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "declared": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    ss = module.get_bin_path("ss")
    # A minimal host has no `ss`. /proc has the same, except interfaces.
    found = sockets(module.run_command([ss, "-Hlntup"], check_rc=True)[1]) if ss else of_kernel()
    known = units(module)
    unfinished = begun()
    reasons = {unit: unit not in unfinished and why_not(module.run_command, unit) for unit in kept(known)}
    sshd = module.get_bin_path("sshd", opt_dirs=["/usr/sbin"])
    ports = ssh_ports(module, sshd, known, found)
    strangers = undeclared(found, {*module.params["declared"], *(f"{port}/tcp" for port in ports)})
    for stranger in strangers:
        module.warn(
            f"{stranger} listens to the network and is not declared. Stop it, bind it to 127.0.0.1, or declare its port "
            "in base_firewall_open (others may reach it) or base_listening_expected (they may not)."
        )
    module.exit_json(
        changed=False,
        sshd=sshd is not None,
        ssh_unit="ssh.service" if known["ssh.service"]["ActiveState"] == "active" else "",
        ssh_ports=ports,
        firewall=known["webstack-firewall.service"]["LoadState"] == "loaded",
        firewalls=unfinished + [unit for unit, reason in reasons.items() if not reason and unit not in unfinished],
        firewalls_begun=unfinished,
        firewalls_to_stay=[f"{unit}, which {reason}" for unit, reason in reasons.items() if reason],
        belongs_to=text(BELONGS_TO).strip(),
        overruled=overruled(module.params["settings"]) if sshd else [],
        settings_differ=sshd is not None and text(SSHD_OURS).strip() != module.params["settings"].strip(),
        rules=text(RULES).strip(),
        undeclared=[str(stranger) for stranger in strangers],
        in_use=[str(stranger) for stranger in strangers if stranger.protocol == "tcp" or stranger.port in VPN],
    )


if __name__ == "__main__":
    main()
