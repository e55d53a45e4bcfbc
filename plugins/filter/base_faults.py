# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role base refuses beyond its argument spec: in firewall rules, and in options of sshd and login.defs.

Values have the right type when they come here, or read as such: `"80"` for a port.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import CONTROL, shown
from ansible_collections.foobar.webstack.plugins.plugin_utils import formats

SSH_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9]*")
LOGIN_OPTION = re.compile(r"[A-Z][A-Z0-9_]*")
LOGIN_VALUE = re.compile(r"[!-~]+")
MODULE = re.compile(r"[a-z0-9][a-z0-9_-]*")
KEYS_ALONE = "a login by ssh takes a key, and nothing else"
# Options that have an input of their own, or that would defeat the role's checks, with what to write instead.
NOT_OPTIONS = {
    "permitrootlogin": "set base_ssh_root_login instead",
    "banner": "set base_login_banner instead",
    "pubkeyauthentication": KEYS_ALONE,
    "passwordauthentication": KEYS_ALONE,
    "kbdinteractiveauthentication": KEYS_ALONE,
    "challengeresponseauthentication": KEYS_ALONE,
    "authenticationmethods": KEYS_ALONE,
    "port": "write it in /etc/ssh/sshd_config; the firewall opens the ports on which sshd listens",
    "listenaddress": "write it in /etc/ssh/sshd_config; the firewall opens the ports on which sshd listens",
    "include": "put a file into /etc/ssh/sshd_config.d",
    "match": "put a file with the block into /etc/ssh/sshd_config.d",
}


def base_faults(inputs: dict[str, Any]) -> list[str]:
    """Every fault, each as `path.of.the[0].value: what is wrong and what is allowed`."""
    return list(_faults(inputs))


def _faults(inputs: dict[str, Any]) -> Iterator[str]:
    for name in ("base_firewall_open", "base_listening_expected"):
        for index, item in enumerate(inputs[name] or []):
            if not formats.is_port(item["port"]):
                yield f"{name}[{index}].port: {item['port']} is not a port; {formats.PORTS}"
            yield from _address_faults(f"{name}[{index}].from", item.get("from"))
    for name in ("base_ssh_from", "base_firewall_vrrp_from"):
        yield from _address_faults(name, inputs[name])
    yield from _ssh_option_faults(inputs.get("base_ssh_options") or {}, inputs.get("__base_ssh_options") or {})
    for name, value in (inputs.get("base_login_options") or {}).items():
        if not LOGIN_OPTION.fullmatch(str(name)):
            yield f"base_login_options.{shown(name)}: not the name of a setting, such as UMASK"
        if isinstance(value, bool) or not LOGIN_VALUE.fullmatch(str(value)):
            yield f'base_login_options.{shown(name)}: \'{shown(value)}\' must be one word, such as "027" or "yes", in quotes'
    for index, name in enumerate(inputs.get("base_blocked_modules") or []):
        if not MODULE.fullmatch(str(name)):
            yield f"base_blocked_modules[{index}]: '{shown(name)}' is not the name of a kernel module, such as usb-storage"
    seconds = inputs.get("base_idle_shell_seconds") or 0
    if int(seconds) < 0:
        yield f"base_idle_shell_seconds: {seconds} is not possible; it is 0 for never, or more"


def _ssh_option_faults(options: dict[str, Any], own: dict[str, Any]) -> Iterator[str]:
    spelt = {name.lower(): name for name in own}
    for name, values in options.items():
        path = f"base_ssh_options.{shown(name)}"
        known = spelt.setdefault(str(name).lower(), name)
        if not SSH_OPTION.fullmatch(str(name)):
            yield f"{path}: not the name of an option of sshd, such as MaxAuthTries"
        elif str(name).lower() in NOT_OPTIONS:
            yield f"{path}: not taken here; {NOT_OPTIONS[str(name).lower()]}"
        elif known != name:
            yield f"{path}: write it as {shown(known)}, since sshd takes the first of two"
        for value in values if isinstance(values, list) else [values]:
            if value is None or isinstance(value, (dict, list)) or CONTROL.search(str(value)):
                yield f"{path}: the value must be a text in one line, a number or a boolean, or a list of them"


def _address_faults(path: str, addresses: list[Any] | None) -> Iterator[str]:
    for index, address in enumerate(addresses or []):
        if not formats.is_network(address):
            yield f"{path}[{index}]: '{shown(address)}' is not possible; {formats.NETWORKS}"


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"base_faults": base_faults}
