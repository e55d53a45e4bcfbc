# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role load_balancer refuses beyond its argument spec."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import PORTS, domain_fault, is_address, is_port
from ansible_collections.foobar.webstack.plugins.plugin_utils.servers import repeated, server_faults

Inputs = dict[str, Any]
Faults = Iterator[str]

SITE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
OWN = ("http", "https", "configuration")  # the role's own names beside those of the sites
PATH = re.compile(r"/[A-Za-z0-9._~!&()*+,=:@%/?-]*")


def load_balancer_faults(inputs: Inputs) -> list[str]:
    """Every fault in the role's inputs, each as `path.of.the[0].value: what is wrong and what is allowed`."""
    return [
        *_server_faults(inputs["load_balancer_servers"]),
        *_site_faults(inputs["load_balancer_sites"]),
        *_port_faults(inputs),
        *_virtual_faults(inputs),
    ]


def _server_faults(servers: list[dict[str, Any]]) -> Faults:
    if not servers:
        yield "load_balancer_servers: empty; there is nobody to hand a visitor on to"
    yield from server_faults("load_balancer_servers", servers)


def _site_faults(sites: list[dict[str, Any]]) -> Faults:
    yield from repeated("load_balancer_sites", "name", [str(site["name"]) for site in sites])
    domains: dict[str, str] = {}
    for index, site in enumerate(sites):
        path = f"load_balancer_sites[{index}]"
        name = str(site["name"])
        if not SITE.fullmatch(name) or name in OWN:
            yield f"{path}.name: '{shown(name)}' must be small letters, digits, '_' and '-', and none of {', '.join(OWN)}"
        if not PATH.fullmatch(str(site.get("path") or "/")):
            yield f"{path}.path: '{shown(site['path'])}' is not a path such as /ready"
        if not site["domains"]:
            yield f"{path}.domains: empty; name the domains of the site"
        for place, domain in enumerate(site["domains"]):
            if fault := domain_fault(str(domain), wildcard=True):
                yield f"{path}.domains[{place}]: '{shown(domain)}' {fault}"
            first = domains.setdefault(str(domain).lower(), path)
            if first != path:
                yield f"{path}.domains[{place}]: {domain} is a domain of {first} already"


def _port_faults(inputs: Inputs) -> Faults:
    for name in ("load_balancer_http_port", "load_balancer_https_port", "load_balancer_status_port"):
        if not is_port(inputs[name]):
            yield f"{name}: {inputs[name]} is not a port; {PORTS}"
        elif int(inputs[name]) in (80, 443) and name == "load_balancer_status_port":
            yield f"{name}: {inputs[name]} is where visitors come in; choose another"
    if inputs["load_balancer_http_port"] == inputs["load_balancer_https_port"]:
        yield f"load_balancer_https_port: {inputs['load_balancer_https_port']} is load_balancer_http_port too"
    if int(inputs["load_balancer_connections"]) < 1:
        yield f"load_balancer_connections: {inputs['load_balancer_connections']} is less than 1"


def _virtual_faults(inputs: Inputs) -> Faults:
    own, peers, virtual = (inputs[f"load_balancer_{name}"] for name in ("address", "peers", "virtual_addresses"))
    if not virtual:
        yield (
            "load_balancer_virtual_addresses: empty; an address of the hosts' network that belongs to none of them, such as "
            "192.0.2.10/24, to which the names of the sites lead. Where addresses cannot move from host to host, have no load "
            "balancers of your own: leave the group loadbalancers out, and lead a provider's balancer or the DNS to the web servers"
        )
        return
    if not is_address(own):
        yield f"load_balancer_address: '{shown(own)}' is not an address; the other balancers know this one by it"
    if not peers:
        yield "load_balancer_peers: empty; addresses move between two balancers or more"
    for index, peer in enumerate(peers):
        if not is_address(peer):
            yield f"load_balancer_peers[{index}]: '{shown(peer)}' is not an address such as 192.0.2.12"
        elif peer == own:
            yield f"load_balancer_peers[{index}]: {peer} is load_balancer_address, this host; name the others"
        elif is_address(own) and (":" in peer) != (":" in own):
            yield f"load_balancer_peers[{index}]: {peer} and load_balancer_address are not both IPv4, or both IPv6"
    taken = {str(server["address"]) for server in inputs["load_balancer_servers"]} | {own, *peers}
    seen: set[str] = set()
    for index, text in enumerate(map(str, virtual)):
        path = f"load_balancer_virtual_addresses[{index}]"
        address, slash, _length = text.partition("/")
        try:
            ipaddress.ip_interface(text)
        except ValueError:
            slash = ""
        if not slash:
            yield f"{path}: '{shown(text)}' is not an address with the length of its network, such as 192.0.2.10/24"
        elif address in taken:
            yield f"{path}: {address} is the address of a host; a virtual one belongs to none"
        elif address in seen:
            yield f"{path}: {address} stands there already"
        seen.add(address)


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"load_balancer_faults": load_balancer_faults}
