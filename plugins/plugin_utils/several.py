# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What hosts that serve the same sites are told for each other.

Their number follows from the inventory's groups: `loadbalancers` in front, `webservers`, which are the `appservers` too, and
`dbservers`. Where no two hosts have a site in common, each is on its own, and nothing of this applies.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.foobar.webstack.plugins.plugin_utils.sites import (
    Entry,
    Site,
    nginx_ports,
    number,
    role_options,
)

GROUPS = ("loadbalancers", "webservers", "appservers", "dbservers", "dnsservers", "archives")
# Web servers behind load balancers, which may be the same hosts.
PORTS = {"nginx_http_port": 8080, "nginx_https_port": 8443}
BALANCED = {**PORTS, "app_server_public_proxy_protocol": True}
DATABASE_SOCKET = "/run/database/writer.sock"
# Of Galera: its group, what a node lacks, and all its data.
GALERA_PORTS = (4567, 4568, 4444)
# Of role database_proxy's door, and of what says which node writes.
DATABASE_PORTS = (3307, 3308)
# By these files the hosts know each other.
CERTIFICATES = "/etc/ssl/webstack-host"


@dataclass(frozen=True)
class Several:
    """The hosts, by their names in the inventory, and the address by which each is reached by the others."""

    host: str
    addresses: dict[str, str]
    balancers: tuple[str, ...]
    web: tuple[str, ...]
    databases: tuple[str, ...]
    virtual: tuple[str, ...]  # addresses with the length of their network

    @property
    def balanced(self) -> bool:
        """Whether visitors come by our own load balancers."""
        return bool(self.balancers)

    @property
    def is_cluster(self) -> bool:
        """Whether the database is on several hosts."""
        return len(self.databases) > 1

    @property
    def has_door(self) -> bool:
        """Whether an application may be on another host than the database that writes."""
        return self.is_cluster or (bool(self.databases) and set(self.web) != set(self.databases))

    @property
    def public(self) -> list[str]:
        """The virtual addresses, without the length of their network."""
        return [address.partition("/")[0] for address in self.virtual]

    def told(self) -> dict[str, list[str]]:
        """Who they are, for playbooks that look at all of them."""
        return {
            "balancers": list(self.balancers),
            "web": list(self.web),
            "databases": list(self.databases),
            "addresses": self.public,
        }

    def _of(self, hosts: tuple[str, ...]) -> list[str]:
        """Their addresses, without this host's own."""
        return [self.addresses[host] for host in hosts if host != self.host]

    def _named(self, hosts: tuple[str, ...]) -> list[Entry]:
        return [{"name": host, "address": self.addresses[host]} for host in hosts]

    def firewall(self, said: dict[str, Any]) -> list[Entry]:
        """The ports that other hosts of the inventory may reach, and on a load balancer, visitors."""
        found: list[Entry] = []
        if self.host in self.balancers:
            found += [{"port": 80}, {"port": 443}]
        if self.balanced and self.host in self.web and self._of(self.balancers):
            found += [{"port": port, "from": self._of(self.balancers)} for port in nginx_ports(said).values()]
        if self.host in self.web and self._of(self.web):
            port = number(said.get("nginx_challenge_port"), role_options("nginx")["nginx_challenge_port"]["default"])
            found.append({"port": port, "from": self._of(self.web)})
        if self.has_door and self.host in self.databases:
            if self.is_cluster:
                found += [{"port": port, "from": self._of(self.databases)} for port in GALERA_PORTS]
            askers = self._of(tuple(dict.fromkeys(self.web + self.databases)))
            found += [{"port": port, "from": askers} for port in DATABASE_PORTS]
        return found

    def inputs(self, sites: list[Site]) -> dict[str, Any]:
        """The inputs of the roles that a host has once; what the inventory says of the same wins."""
        told: dict[str, Any] = {}
        if self.balanced and self.host in self.web:
            told |= {**PORTS, "nginx_proxy_protocol": True}
        if self.host in self.web and any(site.has_certificate and site.certificate_source == "acme" for site in sites):
            told["nginx_challenge_peers"] = self._of(self.web)
        if self.host in self.balancers:
            told |= {
                "base_firewall_vrrp_from": self._of(self.balancers),
                "load_balancer_address": self.addresses[self.host],
                "load_balancer_peers": self._of(self.balancers),
                "load_balancer_servers": self._named(self.web),
                "load_balancer_takes_ports_of": "nginx.service" if self.host in self.web else "",
                "load_balancer_sites": [
                    {"name": site.name, "domains": site.names, "path": ready_path(site)}
                    for site in sites
                    if site.has_certificate and site.has_app
                ],
            }
        if self.has_door:
            files = {name: f"{CERTIFICATES}/{name}.pem" for name in ("certificate", "key", "authority")}
            told |= {f"database_proxy_{name}": path for name, path in files.items()}
            if self.host in self.web:
                told |= {
                    "database_proxy_socket": DATABASE_SOCKET,
                    "database_proxy_servers": self._named(self.databases),
                }
            if self.host in self.databases:
                told |= {
                    "database_proxy_address": self.addresses[self.host],
                    "database_proxy_only_server": not self.is_cluster,
                }
            if self.is_cluster and self.host in self.databases:
                told |= {
                    "mysql_cluster_nodes": self._named(self.databases),
                    "mysql_cluster_address": self.addresses[self.host],
                    "mysql_cluster_name": "webstack",
                    **{f"mysql_cluster_{name}": path for name, path in files.items()},
                }
        return told

    def trusted(self) -> list[str]:
        """Of whom nginx believes who the visitor is."""
        return [self.addresses[host] for host in self.balancers] if self.balanced else []


def ready_path(site: Site) -> str:
    """What an application is asked to know whether it is ready, through its web server."""
    return str(site.of_app("health_path", role_options("app_server")["app_server_health_path"]["default"]))


def group_faults(groups: dict[str, list[str]]) -> Iterator[str]:
    """Groups whose name is nearly that of one that has a meaning."""
    for name, hosts in groups.items():
        if hosts and name not in GROUPS and (like := difflib.get_close_matches(name, GROUPS, 1, 0.8)):
            yield f"{name}: this group has no meaning, and its hosts would not be what its name says; did you mean {like[0]}?"


def number_faults(groups: dict[str, list[str]], where: str) -> Iterator[str]:
    """Numbers of hosts that cannot work, where several have the same sites."""
    web, app, balancers, databases = (
        sorted(groups.get(name, [])) for name in ("webservers", "appservers", "loadbalancers", "dbservers")
    )
    if web != app:
        yield f"webservers, appservers: must hold the same hosts, since nginx and an application meet on a unix socket; mend {where}"
    if len(balancers) == 1:
        yield (
            f"loadbalancers: {balancers[0]} alone would be what all others fail with; have two, which may be web servers too, or none"
        )
    if len(databases) % 2 == 0:
        yield (
            f"dbservers: {len(databases)} cannot tell which of them is cut off: when half of them are gone, none writes. "
            "Have one, three, or any odd number; they may be web servers too"
        )


def site_faults(sites: list[Site]) -> Iterator[str]:
    """What an application has that cannot be the same on several hosts."""
    for site in sites:
        jobs = site.of_app("jobs", []) if site.is_there and site.database is None else []
        for index, job in enumerate(jobs):
            if job.get("once", True):
                yield (
                    f"sites.{site.name}.app.jobs[{index}]: {job['name']} would run on each host: which one of them runs it is decided in "
                    "the database of the site, and it has none; if it may run on each, say once: false"
                )
        files = [*site.of_app("shared", []), *site.of_app("shared_files", [])]
        if site.is_there and files and not site.of_app("shared_storage", False):
            yield (
                f"sites.{site.name}.app.shared: each host would have its own {', '.join(map(str, files))}, and a visitor sees those of "
                f"one of them. Mount storage of all hosts on {site.home}/shared, and say app.shared_storage: true; or have the "
                "application keep them in its database or an object store, and take them out"
            )


def reboot_faults(host: str, times: dict[str, str]) -> Iterator[str]:
    """Why a host must not reboot by itself when it does: `times` has base_reboot_time of all hosts."""
    others = [other for other, when in times.items() if other != host and times[host] and when == times[host]]
    if others:
        yield (
            f"base_reboot_time: {times[host]} on {', '.join([host, *others])}; all of them would be away at once, and a cluster of which no "
            "node is left begins again by make recover alone. Leave it out, and reboot them in turn by make patch REBOOT=true"
        )


def address_faults(host: str, address: str) -> Iterator[str]:
    """Why the others cannot reach a host by an address."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        yield (
            f"private_address: {'not set' if not address else repr(address) + ' is no IP address'} for {host}; the address by which "
            "the other hosts of the inventory reach it"
        )
