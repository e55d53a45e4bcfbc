#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Refuse addresses that cannot move between the balancers, before anything changes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: virtual_addresses
short_description: Refuse virtual addresses that a host cannot take over
description:
  - Finds the network interface that has the host's own address, and refuses virtual addresses that are of none of its networks,
    or that another machine than the balancers answers for.
  - Changes nothing.
options:
  address:
    description: The host's own address.
    type: str
    required: true
  peers:
    description: The addresses of the other balancers, each of which may have the virtual addresses now.
    type: list
    elements: str
    default: []
  virtual_addresses:
    description: The virtual addresses, each with the length of its network.
    type: list
    elements: str
    required: true
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
- name: Validate | Refuse addresses that cannot move
  foobar.webstack.virtual_addresses:
    address: 192.0.2.11
    peers: [192.0.2.12]
    virtual_addresses: [192.0.2.10/24]
"""

RETURN = r"""
interface:
  description: The network interface that has the host's own address.
  type: str
  returned: success
"""

import ipaddress
import json
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ANSWER_SECONDS = 2  # for as long as the kernel asks who has an address


def interface_of(addresses: list[dict[str, Any]], own: str) -> dict[str, Any] | None:
    """The interface with the address, as `ip -json address` tells of it."""
    wanted = ipaddress.ip_address(own)
    for interface in addresses:
        if wanted in (ipaddress.ip_address(found["local"]) for found in interface["addr_info"]):
            return interface
    return None


def faults(interface: dict[str, Any], virtual: list[str], owner_of: Any, peers: list[str]) -> list[str]:
    """What is wrong with the virtual addresses. `owner_of` gives the hardware address that answers for an address."""
    networks = [ipaddress.ip_interface(f"{found['local']}/{found['prefixlen']}") for found in interface["addr_info"]]
    balancers = {owner_of(peer) for peer in peers} - {""}
    complaints = []
    for text in virtual:
        address = ipaddress.ip_interface(text)
        if not any(address.network == network.network for network in networks):
            there = ", ".join(str(network.network) for network in networks)
            complaints.append(f"{text} is of none of the networks of {interface['ifname']}, which are {there}")
        elif address.ip in (network.ip for network in networks):
            continue  # this balancer has it now
        elif (owner := owner_of(str(address.ip))) and owner not in balancers:
            complaints.append(f"{address.ip} is in use: the machine with the hardware address {owner} answers for it")
    return complaints


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "peers": {"type": "list", "elements": "str", "default": []},
            "virtual_addresses": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )

    def told(*words: str) -> list[dict[str, Any]]:
        _code, out, _errors = module.run_command(["ip", "-json", *words], check_rc=True)
        found: list[dict[str, Any]] = json.loads(out or "[]")
        return found

    def owner_of(address: str) -> str:
        """By the kernel's own question in the network, which any packet to the address has it ask."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (address, 9))
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            found = told("neighbour", "show", "to", address)
            if found and found[0].get("lladdr"):
                return str(found[0]["lladdr"])
            if found and "FAILED" in found[0].get("state", []):
                return ""
            time.sleep(0.1)
        return ""

    params = module.params
    interface = interface_of(told("address", "show"), params["address"])
    if interface is None:
        module.fail_json(msg=f"load_balancer_address: no network interface of this host has {params['address']}")
    found = faults(interface, params["virtual_addresses"], owner_of, params["peers"])
    if found:
        module.fail_json(msg="load_balancer_virtual_addresses: " + "; ".join(found))
    module.exit_json(changed=False, interface=interface["ifname"])


if __name__ == "__main__":
    main()
