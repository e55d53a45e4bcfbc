# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What status.yml says of hosts that share their sites: a line for each host, one for each site, and what needs a person."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.foobar.webstack.plugins.filter.status_lines import (
    SEE_BELOW,
    closed_since,
    faults_of,
    of_backups,
    release_of,
    table,
    valid_until,
)

# States of a server in HAProxy.
WORDS = {"DOWN": "not ready", "DRAIN": "drained", "MAINT": "taken out by hand"}


def cluster_lines(
    sites: list[str], shared: dict[str, list[str]], asked: dict[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """`said`, what the hosts do and what is live on them, and `wrong`, what needs a person.

    `shared` names the hosts and the virtual addresses, as foobar.webstack.sites does. `asked` has of each host what the tasks
    of status.yml have registered.
    """
    cluster = _Cluster(sites, shared, asked)
    hosts, live = cluster.hosts_told(), cluster.sites_told()
    return {"said": [*hosts, "", *live, *cluster.backups_said], "wrong": cluster.wrong}


class _Cluster:
    def __init__(self, sites: list[str], shared: dict[str, list[str]], asked: dict[str, Mapping[str, Any]]) -> None:
        self.sites, self.asked = sites, asked
        self.balancers, self.web, self.databases = (shared[name] for name in ("balancers", "web", "databases"))
        self.addresses = [ipaddress.ip_address(address) for address in shared["addresses"]]
        self.hosts = list(dict.fromkeys(self.balancers + self.web + self.databases))
        self.wrong: list[str] = []
        self.marked: set[str] = set()  # hosts with a fault
        self.backups_said: list[str] = []
        # With --limit, what the others say is not known.
        self.all_are_asked = all(host in asked for host in self.hosts)
        for host in self.hosts:
            if host in asked and not self.reached(host):
                answer = asked[host].get("reached", {"rc": 0})
                why = "it was lost meanwhile" if answer.get("rc") == 0 else _complaint(answer)
                self.fault(host, f"is not reached: {why.removeprefix('Task failed: ')}")
        self.views: dict[str, dict[str, dict[str, str]]] = {}  # of a balancer: of each server the state for each site
        self.held: dict[str, list[Any]] = {}  # of a balancer: the virtual addresses that it has
        for host in self.reached_of(self.balancers):
            self._look_at_balancer(host)
        self.nodes = {host: self._node(host) for host in self.reached_of(self.databases)}

    def reached(self, host: str) -> bool:
        mine = self.asked.get(host, {})
        return mine.get("reached", {}).get("rc") == 0 and "node" in mine  # which the last task registers

    def reached_of(self, hosts: list[str]) -> list[str]:
        return [host for host in hosts if self.reached(host)]

    def not_told(self, host: str) -> str:
        """Why nothing is known of a host, or nothing."""
        return "not asked" if host not in self.asked else "" if self.reached(host) else "not reached"

    def fault(self, host: str, words: str) -> None:
        self.marked.add(host)
        self.wrong.append(f"{host} {words}")

    # Load balancers

    def _look_at_balancer(self, host: str) -> None:
        servers, interfaces, keepalived = self.asked[host]["balancer"]["results"]
        try:
            self.views[host] = json.loads(servers["stdout"])
        except (KeyError, ValueError):
            self.fault(host, f"leads no visitors on: {_complaint(servers)}")
        try:
            on = [item["local"] for interface in json.loads(interfaces["stdout"]) for item in interface["addr_info"]]
            self.held[host] = [address for address in self.addresses if address in map(ipaddress.ip_address, on)]
        except (KeyError, ValueError):
            self.fault(host, f"cannot be asked which addresses it has: {_complaint(interfaces)}")
        if self.addresses and keepalived.get("rc") != 0:
            self.fault(
                host, f"cannot take the virtual addresses over: keepalived is {keepalived.get('stdout') or 'not there'}"
            )

    def _balancer_cell(self, host: str) -> str:
        if host not in self.balancers:
            return ""
        if not_told := self.not_told(host):
            return not_told
        words = [] if host in self.views else ["leads nobody on"]
        if held := self.held.get(host):
            words.append(f"has {', '.join(map(str, held))}")
        return "; ".join(words) or "stands by"

    def _address_faults(self) -> None:
        for address in self.addresses:
            holders = [host for host, held in self.held.items() if address in held]
            if not holders and self.all_are_asked:
                self.wrong.append(f"{address}: no load balancer has this address, so no visitor comes by it")
            elif len(holders) > 1:
                self.marked.update(holders)
                self.wrong.append(
                    f"{address}: {' and '.join(holders)} have this address at once; one does not hear the other's announcements"
                )

    # Web servers, as the balancers see them

    def _visitors_cell(self, host: str) -> str:
        if host not in self.web or not self.balancers:
            return ""
        if not self.views:
            return "not known"
        found: dict[str, list[str]] = {}  # balancers, by what they say
        for balancer, servers in self.views.items():
            states = servers.get(host, {})
            for state in dict.fromkeys(states.values()) or ["unknown"]:
                if state in WORDS or not states:
                    of = [site for site, its in states.items() if its == state]
                    what = WORDS.get(state, state) + (f" for {', '.join(of)}" if 0 < len(of) < len(states) else "")
                    found.setdefault(what, []).append(balancer)
        if not found:
            return "in rotation"
        parts = [f"{what} on {', '.join(balancers)}" for what, balancers in found.items()]
        if self.reached(host):  # of one that is not, it is what one expects
            self.fault(host, f"gets not all visitors: it is {'; '.join(parts)}")
        return "; ".join(parts)

    # The database

    def _node(self, host: str) -> dict[str, Any]:
        result = self.asked[host]["node"]
        try:
            return dict(json.loads(result["stdout"]))
        except (KeyError, ValueError):
            return {"error": _complaint(result)}

    def _database_cell(self, host: str) -> str:
        if host not in self.databases:
            return ""
        if not_told := self.not_told(host):
            return not_told
        node = self.nodes[host]
        if "error" in node:
            self.fault(host, f"has a database node that does not answer: {node['error']}")
            return "does not answer"
        if node["status"] != "Primary":
            self.fault(
                host,
                f"has a database node that does not reach most of the others, so it serves nobody: {node['state']}",
            )
            return f"{node['state']}, alone with {node['size']} of {len(self.databases)}"
        if node["state"] != "Synced":
            self.fault(host, f"has a database node that is not Synced: {node['state']}")
        since = f", writer since {node['since'][:16]} UTC" if node["writes"] else ""
        return f"{node['state']}, {node['size']} of {len(self.databases)}{since}"

    def _database_faults(self) -> None:
        writers = [host for host, node in self.nodes.items() if node.get("writes")]
        if not writers and self.nodes and self.all_are_asked:
            self.wrong.append("No database node takes writes")
        if len(writers) > 1:
            self.wrong.append(f"{' and '.join(writers)} both take writes to the database")
        # How many each of them sees. A node that does not answer is told of already.
        sizes: dict[int, list[str]] = {}
        for host, node in self.nodes.items():
            if node.get("status") == "Primary" and node["size"] != len(self.databases):
                sizes.setdefault(node["size"], []).append(host)
        for size, hosts in sizes.items():
            self.wrong.append(
                f"The database's cluster has {size} of {len(self.databases)} nodes, as {', '.join(hosts)} see it"
            )

    def hosts_told(self) -> list[str]:
        rows = [
            (host, self._balancer_cell(host), self._visitors_cell(host), self._database_cell(host))
            for host in self.hosts
        ]
        self._address_faults()
        self._database_faults()
        marked = [(*row, SEE_BELOW if row[0] in self.marked else "") for row in rows]
        return _table(("host", "balancer", "visitors", "database", ""), marked)

    # Sites

    def sites_told(self) -> list[str]:
        rows = [row for site in self.sites for row in self._site_rows(site)]
        for host in self.reached_of(self.databases):
            told = of_backups(self.asked[host]["backups"])
            self.backups_said += ["", f"backups of {host}:"] * bool(told["said"])
            self.backups_said += [line.removeprefix("backups:").replace(" ", "  ", 1) for line in told["said"]]
            self.wrong += [line.replace("backups:", f"backups of {host}:", 1) for line in told["wrong"]]
        return _table(("site", "release", "version", "hosts", "certificate", "maintenance", ""), rows)

    def _site_rows(self, site: str) -> Iterable[tuple[str, ...]]:
        """One row, or where hosts differ, one for those that are alike."""
        alike: dict[tuple[str, ...], list[str]] = {}
        versions: dict[str, str] = {}  # by release; a host that got what others have knows it by its commit alone
        closed: dict[str, str] = {}
        faults: dict[str, list[str]] = {}
        live: dict[str, list[str]] = {}  # hosts, by the commit that is live
        for host in self.reached_of(self.web):
            release, certificate, maintenance = (
                next((result for result in self.asked[host][name]["results"] if result["item"] == site), None)
                for name in ("live", "certificate", "maintenance")
            )
            for fault in faults_of(release, certificate):
                faults.setdefault(fault, []).append(host)
            told, version, _slot = release_of(release)
            if release and (commit := release.get("answer", {}).get("release", "").rpartition("-")[2]):
                live.setdefault(commit, []).append(host)
            closed[host] = closed_since(maintenance["stat"]) if maintenance else "not known"
            is_closed = "closed" if closed[host].startswith("on") else closed[host]
            versions[told] = min(version, versions.get(told, version), key=len)
            alike.setdefault((told, valid_until(certificate), is_closed), []).append(host)
        closed_differ = len({is_closed for _release, _until, is_closed in alike}) > 1
        if len(live) > 1:
            parts = "; ".join(f"{commit} on {', '.join(hosts)}" for commit, hosts in live.items())
            self.wrong.append(f"{site}: different releases are live, {parts}; a deploy gives all of them one")
        if closed_differ:
            hosts = [host for host, words in closed.items() if words.startswith("on")]
            self.wrong.append(f"{site}: {', '.join(hosts)} alone is under maintenance")
        for fault, hosts in faults.items():
            self.wrong.append(f"{site}{'' if hosts == self.web else ' on ' + ', '.join(hosts)}: {fault}")
        for index, ((release, until, _closed), hosts) in enumerate(alike.items()):
            is_wrong = len(live) > 1 or closed_differ or any(host in hosts for of in faults.values() for host in of)
            yield (
                "" if index else site, release, versions[release], "all" if hosts == self.web else ", ".join(hosts), until,
                closed[hosts[0]], SEE_BELOW if is_wrong else "",
            )  # fmt: skip


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Without columns in which nothing stands, as that of balancers where there are none."""
    used = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    first, *rest = (tuple(row[column] for column in used) for row in (headings, *rows))
    return table(first, rest)


def _complaint(result: Mapping[str, Any]) -> str:
    return str(result.get("stderr") or result.get("stdout") or result.get("msg") or "no answer").strip()


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"cluster_lines": cluster_lines}
