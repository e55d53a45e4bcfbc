# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.walk: the steps of a visitor on the controller, the others on the host, printed in order."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.module_utils import names
from ansible_collections.foobar.webstack.plugins.module_utils.faults import controller_lacks
from ansible_collections.foobar.webstack.plugins.plugin_utils.questions import answer_of

SECONDS = 5
STEPS = 9
SOON = 14  # days; certbot renews with 30 days left
HOPS = 5  # redirects that are followed


class ActionModule(ActionBase):
    """Takes steps 1, 2 and 9 here, as a visitor; the module of this name takes 3 to 8 on the host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args = self._task.args
        domain, address, tls = args["domain"], args["address"], boolean(args.get("tls", False))
        usual = 443 if tls else 80
        port, host_port = (int(args.get(name) or usual) for name in ("port", "host_port"))
        if args.get("name_servers") and not names.dns:
            raise AnsibleActionFail(f"name_servers: {controller_lacks('dnspython', '2.3', 'python3-dnspython')}")
        try:
            context = ssl.create_default_context(cafile=args.get("authority")) if tls else None
        except OSError as error:
            raise AnsibleActionFail(f"authority: {args.get('authority')} on this machine: {error}") from error
        lines: list[str] = []

        def report(title: str, saw: str, look: str = "") -> bool:
            lines.append(f"{len(lines) + 1}. {title}: {saw}" + (f"  ← broken. Look at: {look}" if look else ""))
            return not look

        name = _name(domain, address, args.get("name_servers") or [], args.get("public_address", ""))
        if report("the name", *name) and report("the address", *_address(domain, address, port, context)):
            outcome = answer_of(self, "walk", {**args, "host_port": host_port}, task_vars or {})
            if outcome.get("failed"):
                return outcome
            passed = all(report(step["title"], step["saw"], step.get("look", "")) for step in outcome["steps"])
            if passed:
                page = {
                    "path": args.get("page_path") or "/",
                    "wanted": int(args.get("page_status") or 0),
                    "names": args.get("names") or [],
                }
                passed = report("the page", *_page(domain, address, port, context, outcome["maintenance"], **page))
        passed = len(lines) == STEPS and "← broken" not in lines[-1]
        # Has the callback print the lines, as it does for debug.
        return {"changed": False, "failed": not passed, "msg": "\n".join(lines), "_ansible_verbose_always": True}


def _name(domain: str, address: str, servers: list[str], published: str) -> tuple[str, str]:
    """What our own name servers answer, and the controller's resolver.

    A name that the resolver does not know yet, or with another address, is reported and is no failure.
    """
    for server in servers:
        wanted = ipaddress.ip_address(published)
        try:
            answer = names.addresses(server, domain, wanted.version)
        except OSError as error:
            saw = f"the name server {server} does not answer: {error}"
            return saw, "on it, systemctl status knot; port 53 of its firewall"
        if answer != {wanted}:
            found = ", ".join(sorted(map(str, answer))) or "nothing"
            saw = f"the name server {server} answers {domain} → {found}, not {published}"
            return saw, "public_address; on it, journalctl -u knot and /etc/knot/zones/"
    ours = f"{', '.join(servers)} answers {domain} → {published}; " if servers else ""
    try:
        found = ", ".join(
            sorted({str(info[4][0]) for info in socket.getaddrinfo(domain, None, type=socket.SOCK_STREAM)})
        )
    except OSError:
        return f"{ours}{domain} is not in the DNS that this machine asks; going on with {address}", ""
    return f"{ours}{domain} → {found} (the inventory says {address})", ""


def _address(domain: str, address: str, port: int, context: ssl.SSLContext | None) -> tuple[str, str]:
    started = time.monotonic()
    try:
        connection = socket.create_connection((address, port), timeout=SECONDS)
    except OSError as error:
        return f"{address}:{port} does not accept: {error}", "the host's network and firewall; systemctl status nginx"
    saw = f"{address}:{port} accepts, {1000 * (time.monotonic() - started):.1f} ms"
    if context is None:
        connection.close()
        return saw, ""
    try:
        with context.wrap_socket(connection, server_hostname=domain) as secured:
            return f"{saw}; {secured.version()}, {_certificate(secured.getpeercert())}", ""
    except OSError as error:
        return (
            f"{saw}; no trust: {error}",
            f"/etc/ssl/; journalctl -u certbot; openssl s_client -connect {address}:{port}",
        )


def _certificate(certificate: dict[str, Any]) -> str:
    issuer = {key: value for part in certificate["issuer"] for key, value in part}
    left = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86400
    soon = ", which is soon" if left < SOON else ""
    return f"certificate by {issuer.get('organizationName') or issuer.get('commonName')}, {left:.0f} days left{soon}"


def _page(
    domain: str, address: str, port: int, context: ssl.SSLContext | None, maintenance: str,
    path: str = "/", wanted: int = 0, names: Iterable[str] = (),
) -> tuple[str, str]:  # fmt: skip
    """Whether a visitor gets a page of this very site: with the status `wanted`, or any below 400.

    Redirects are followed within this site and port.
    """
    look = "/var/log/nginx/access.log"
    ours = {name.lower().rstrip(".") for name in (domain, *names)}
    scheme, target, seen, saw = "https" if context else "http", path, [], ""
    url = f"{scheme}://{domain}:{port}"
    started = time.monotonic()
    while True:
        try:
            url = _with_port(urljoin(url, target), scheme, port)
            site = urlsplit(url)
            if site.hostname not in ours:
                return (
                    f"{saw}which is not this site",
                    f"{look}; page_path of the site, if that page is meant to lead elsewhere",
                )
            if (site.scheme, site.port) != (scheme, port):
                return f"{saw}another port of this site", ""
            if url in seen or len(seen) > HOPS:
                return f"{saw}round and round", f"{look}; what the application knows of HTTPS and of its own name"
            status, target, body = _answer(site, address, port, context)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"{saw}{error}", look
        if wanted or not 300 <= status < 400 or not target:
            break
        saw += f"{status} to {target}, "
        seen.append(url)
    took = 1000 * (time.monotonic() - started)
    title = re.search(r"<title>(.*?)</title>", body, re.DOTALL)
    saw += f"{status}, {len(body)} characters, {took:.0f} ms" + (f', "{title[1].strip()}"' if title else "")
    right = status == wanted if wanted else status < 400
    if maintenance and (right or status == 503):
        # Maintenance is intended, and the application behind it has answered in the steps on the host.
        guest = "" if status == 503 else ", and this machine is one that sees the site"
        return f"{saw}; under maintenance since {maintenance}{guest}, until make maintenance STATE=off", ""
    if right:
        return saw, ""
    if status == 400:
        look += f"; whether the application answers to the name {domain} (ALLOWED_HOSTS, or what it calls that)"
    return saw, f"{look}; page_path and page_status of the site, if that is as it should be" if status < 500 else look


def _with_port(url: str, scheme: str, port: int) -> str:
    """A URL with its port. One of our scheme without a port gets ours, at which visitors come in."""
    site = urlsplit(url)
    usual = port if site.scheme == scheme else 443 if site.scheme == "https" else 80
    return site._replace(netloc=f"{(site.hostname or '').rstrip('.')}:{site.port or usual}").geturl()


def _answer(site: SplitResult, address: str, port: int, context: ssl.SSLContext | None) -> tuple[int, str, str]:
    """Status, Location and body of the answer for a page of a site at this address."""
    connection = http.client.HTTPConnection(address, port, timeout=SECONDS)
    name = site.hostname or ""
    try:
        if context is not None:
            connection.connect()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
        page = site._replace(scheme="", netloc="", fragment="").geturl()
        connection.request("GET", page or "/", headers={"Host": name})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", ""), answer.read().decode(errors="replace")
    finally:
        connection.close()
