# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.walk: a visitor's steps here, the host's steps there, printed in order."""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.module_utils import names

SECONDS = 5
STEPS = 9
SOON = 14  # days; certbot renews with 30 days left


class ActionModule(ActionBase):
    """Steps 1, 2 and 9 are a visitor's; 3 to 8 are asked on the host by the module of this name."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args = self._task.args
        domain, address, tls = args["domain"], args["address"], boolean(args.get("tls", False))
        usual = 443 if tls else 80
        port, host_port = (int(args.get(name) or usual) for name in ("port", "host_port"))
        try:
            lock = ssl.create_default_context(cafile=args.get("authority")) if tls else None
        except OSError as error:
            raise AnsibleActionFail(f"authority: {args.get('authority')} on this machine: {error}") from error
        lines: list[str] = []

        def told(title: str, saw: str, look: str = "") -> bool:
            lines.append(f"{len(lines) + 1}. {title}: {saw}" + (f"  ← broken. Look at: {look}" if look else ""))
            return not look

        name = _name(domain, address, args.get("name_servers") or [], args.get("public_address", ""))
        if told("the name", *name) and told("the address", *_address(domain, address, port, lock)):
            outcome = self._execute_module(
                module_name="foobar.webstack.walk", module_args={**args, "host_port": host_port}, task_vars=task_vars
            )
            if outcome.get("failed"):
                return outcome
            whole = all(told(step["title"], step["saw"], step.get("look", "")) for step in outcome["steps"])
            if whole:
                whole = told("the page", *_page(domain, address, port, lock, outcome["maintenance"]))
        whole = len(lines) == STEPS and "← broken" not in lines[-1]
        # The callback prints the lines of a task that has this set, as it does for debug.
        return {"changed": False, "failed": not whole, "msg": "\n".join(lines), "_ansible_verbose_always": True}


def _name(domain: str, address: str, servers: list[str], published: str) -> tuple[str, str]:
    """What our own name servers say, and the controller's resolver.

    A name that the resolver does not have (yet), or has with another address, is told, not held against the host.
    """
    for server in servers:
        wanted = ipaddress.ip_address(published)
        try:
            answer = names.asked(server, domain, wanted.version)
        except OSError as error:
            saw = f"the name server {server} does not answer: {error}"
            return saw, "on it, systemctl status knot; port 53 of its firewall"
        if answer != {wanted}:
            found = ", ".join(sorted(map(str, answer))) or "nothing"
            saw = f"the name server {server} answers {domain} → {found}, not {published}"
            return saw, "site_public_address; on it, journalctl -u knot and /etc/knot/zones/"
    ours = f"{', '.join(servers)} answers {domain} → {published}; " if servers else ""
    try:
        found = ", ".join(
            sorted({str(info[4][0]) for info in socket.getaddrinfo(domain, None, type=socket.SOCK_STREAM)})
        )
    except OSError:
        return f"{ours}{domain} is not in the DNS that this machine asks; going on with {address}", ""
    return f"{ours}{domain} → {found} (the inventory says {address})", ""


def _address(domain: str, address: str, port: int, lock: ssl.SSLContext | None) -> tuple[str, str]:
    started = time.monotonic()
    try:
        connection = socket.create_connection((address, port), timeout=SECONDS)
    except OSError as error:
        return f"{address}:{port} does not accept: {error}", "the host's network and firewall; systemctl status nginx"
    saw = f"{address}:{port} accepts, {1000 * (time.monotonic() - started):.1f} ms"
    if lock is None:
        connection.close()
        return saw, ""
    try:
        with lock.wrap_socket(connection, server_hostname=domain) as secured:
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


def _page(domain: str, address: str, port: int, lock: ssl.SSLContext | None, maintenance: str) -> tuple[str, str]:
    look = "/var/log/nginx/access.log"
    connection = http.client.HTTPConnection(address, port, timeout=SECONDS)
    started = time.monotonic()
    try:
        if lock is not None:
            connection.connect()
            connection.sock = lock.wrap_socket(connection.sock, server_hostname=domain)
        connection.request("GET", "/", headers={"Host": domain})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return str(error), look
    finally:
        connection.close()
    took = 1000 * (time.monotonic() - started)
    title = re.search(r"<title>(.*?)</title>", body, re.DOTALL)
    saw = f"{answer.status}, {len(body)} characters, {took:.0f} ms" + (f", “{title[1].strip()}”" if title else "")
    if maintenance and answer.status in (200, 503):
        # Somebody wants it so, and what is behind it has answered the host.
        guest = ", and this machine is one that sees the site" if answer.status == 200 else ""
        return f"{saw}; under maintenance since {maintenance}{guest}, until make maintenance STATE=off", ""
    return saw, "" if answer.status == 200 else look
