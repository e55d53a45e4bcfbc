#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Walk the way of a request through a host: the steps that only the host itself can see."""

from __future__ import annotations

DOCUMENTATION = r"""
module: walk
short_description: Walk the way of a request, from the address typed to the page shown
description:
  - Asks each of the nine steps of the request's way in order, on the running site, and says what
    each one saw. Fails at the first that is broken, and says where to look.
  - Steps 1, 2 and 9 are asked on the controller, as a visitor would; the others on the host.
  - Changes nothing.
requirements: ["dnspython 2.3 or newer, on the controller, with O(name_servers)"]
options:
  domain:
    description: The name that visitors type.
    type: str
    required: true
  address:
    description: Where the controller reaches the host.
    type: str
    required: true
  tls:
    description: Whether visitors come over HTTPS.
    type: bool
    default: false
  port:
    description: The port there; 443 with O(tls), else 80, if not set.
    type: int
  host_port:
    description: The port on which nginx listens on the host itself; 443 with O(tls), else 80, if not set.
    type: int
  name_servers:
    description: Addresses of name servers that must answer O(domain) with O(public_address).
    type: list
    elements: str
    default: []
  public_address:
    description: The address under which visitors reach the host; needed with O(name_servers).
    type: str
  authority:
    description: A file on the controller with the authority to trust, for one that browsers do not know.
    type: path
  app:
    description: The application's name; empty for a site without one.
    type: str
    default: ""
  names:
    description: Names of this site besides O(domain), to which a redirect may lead.
    type: list
    elements: str
    default: []
  page_path:
    description: The page that the walk ends at.
    type: str
    default: /
  page_status:
    description: >-
      The status that it answers with. Without one, any below 400 is right, and a redirect is followed as long as it
      leads to this site.
    type: int
  health_path:
    description: What the application is asked about its database.
    type: str
    default: /healthz
  proxy_protocol:
    description: Whether the host's nginx takes connections by the PROXY protocol alone, as behind load balancers.
    type: bool
    default: false
  maintenance:
    description: The file that is there while the site is under maintenance.
    type: path
  static_url:
    description: The path under which nginx serves static files.
    type: str
  static_path:
    description: The folder on the host that it serves; not set for a site without static files.
    type: path
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
- name: Walk the nine steps
  foobar.webstack.walk:
    domain: www.foobar.com
    address: 203.0.113.7
    app: foobar
    static_url: /static/
    static_path: /srv/foobar/current/foobar/static
"""

RETURN = r"""
msg:
  description: A line a step.
  type: list
  elements: str
  returned: always
"""

import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SECONDS = 5
# By their suffix, files of a static folder that nobody asks for: packed ones, and scripts of PHP, which nginx hands on.
NOT_SENT = re.compile(r"\.(gz|br|php\d?|phtml|phps|phar|inc)", re.IGNORECASE)


class Broken(Exception):
    """A step that is broken: what was seen, and where to look."""

    def __init__(self, saw: str, look: str) -> None:
        super().__init__(saw)
        self.saw, self.look = saw, look


class Walk:
    """The steps on the host. Each returns what it saw or raises Broken."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params

    def systemctl(self, unit: str) -> dict[str, str]:
        argv = ["systemctl", "show", "--property=ActiveState,ActiveEnterTimestamp,TasksCurrent", unit]
        _rc, out, _err = self.module.run_command(argv)
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def get(self, path: str, host: str) -> tuple[int, bytes]:
        sock = socket.create_connection(("127.0.0.1", self.params["host_port"]), SECONDS)
        if self.params["proxy_protocol"]:
            sock.sendall(b"PROXY UNKNOWN\r\n")
        if self.params["tls"]:
            # Step 2 verifies the certificate.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock, server_hostname=host)
        connection = http.client.HTTPConnection(host)
        connection.sock = sock
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def nginx(self) -> str:
        state = self.systemctl("nginx.service")
        if state.get("ActiveState") != "active":
            raise Broken(f"nginx.service is {state.get('ActiveState')}", "journalctl -u nginx; nginx -t")
        return f"nginx runs since {state['ActiveEnterTimestamp']}"

    def site(self) -> str:
        domain = self.params["domain"]
        look = "/etc/nginx/sites/; /var/log/nginx/error.log"
        try:
            self.get("/", domain)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"nginx does not answer for {domain}: {error}", look) from error
        try:
            status, _body = self.get("/", "unknown.invalid")
        except (OSError, http.client.HTTPException):
            return f"nginx answers for {domain} and hangs up on unknown names"
        raise Broken(f"nginx answers {status} for a name that is not ours", look)

    def static(self) -> str:
        if not self.params["static_path"]:
            return "the site has none"
        folder = Path(self.params["static_path"])
        look = f"ls -l {folder}; app.static and nginx.static of the site (docs/sites.md)"
        files = sorted(
            path
            for path in folder.rglob("*")
            if path.is_file() and not NOT_SENT.fullmatch(path.suffix) and not path.name.startswith(".")
        )
        if not files:
            raise Broken(f"there is no file in {folder}", look)
        url = self.params["static_url"].rstrip("/") + "/" + urllib.parse.quote(str(files[0].relative_to(folder)))
        status, body = self.get(url, self.params["domain"])
        if status != 200 or body != files[0].read_bytes():
            raise Broken(f"{url} answered {status}, {len(body)} bytes", look)
        return f"{url} comes from the disk, {len(body)} bytes"

    def socket(self) -> str:
        link = f"/run/{self.params['app']}/live.sock"
        end = os.path.realpath(link)
        if not Path(end).is_socket():
            raise Broken(f"{link} leads to {end}, which is no socket", f"webstack-release {self.params['app']} status")
        return f"{link} → {end}"

    def slot(self) -> str:
        app = self.params["app"]
        rc, out, err = self.module.run_command(["/usr/local/sbin/webstack-release", app, "status", "--json"])
        if rc != 0:
            raise Broken(err.strip(), f"/etc/{app}/release.json")
        status = json.loads(out)
        if not status["active"]:
            raise Broken(f"{app}@{status['slot']} does not run", f"journalctl -u '{app}@*'")
        at_boot = f", but {status['at_boot']}" if status.get("at_boot") else ""
        return f"{app}@{status['slot']} runs release {status['release']}{at_boot}"

    def ask(self, path: str) -> tuple[int, str]:
        """What the live slot answers, asked without nginx but by the site's name."""
        app = self.params["app"]
        rc, out, err = self.module.run_command(["/usr/local/sbin/webstack-release", app, "ask", path])
        if rc != 0:
            raise Broken(err.strip(), self.blame())
        answer = json.loads(out)
        return answer["status"], answer["body"]

    def blame(self) -> str:
        """Where to look when the code does not answer as it should."""
        return f"journalctl -u '{self.params['app']}@*'" + (
            "; systemctl status mariadb mysql" if self.database_is_down() else ""
        )

    def database_is_down(self) -> bool:
        """Whether this host has a database server, and none that runs."""
        argv = ["systemctl", "show", "--property=LoadState,ActiveState", "mariadb.service", "mysql.service"]
        _rc, out, _err = self.module.run_command(argv)
        loaded = [unit for unit in out.split("\n\n") if "LoadState=loaded" in unit]
        return bool(loaded) and not any("ActiveState=active" in unit for unit in loaded)

    def code(self) -> str:
        path = self.params["page_path"]
        status, body = self.ask(path)
        # Step 9 judges any status below 500.
        if status >= 500 and status != self.params["page_status"]:
            raise Broken(f"the code answers {status}", self.blame())
        return f"the code answers {status}, {len(body)} characters"

    def database(self) -> str:
        path = self.params["health_path"]
        status, body = self.ask(path)
        said = " ".join(body.split())
        if status == 200:
            return f"{path} says {said}"
        # 503: the application lacks something that it needs, such as the database.
        if status == 503:
            raise Broken(f"{path} says {said}", "systemctl status mariadb mysql; /run/mysqld/mysqld.sock")
        raise Broken(f"{path} answers {status}: {said[:200]}", f"{self.blame()}; app.health_path of the site")

    def maintenance(self) -> str:
        """Since when the site is under maintenance; empty where it is not."""
        try:
            since = os.stat(self.params["maintenance"] or "").st_mtime
        except OSError:
            return ""
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(since))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "domain": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "tls": {"type": "bool", "default": False},
            "port": {"type": "int"},
            "host_port": {"type": "int"},  # the action always sets it
            "name_servers": {"type": "list", "elements": "str", "default": []},
            "public_address": {"type": "str"},
            "authority": {"type": "path"},
            "app": {"type": "str", "default": ""},
            "names": {"type": "list", "elements": "str", "default": []},
            "page_path": {"type": "str", "default": "/"},
            "page_status": {"type": "int"},
            "health_path": {"type": "str", "default": "/healthz"},
            "proxy_protocol": {"type": "bool", "default": False},
            "maintenance": {"type": "path"},
            "static_url": {"type": "str"},
            "static_path": {"type": "path"},
        },
        required_together=[("static_url", "static_path")],
        supports_check_mode=True,
    )
    walk = Walk(module)
    app: list[tuple[str, Callable[[], str]]] = [
        ("the socket", walk.socket),
        ("uWSGI", walk.slot),
        ("the code and its database", lambda: f"{walk.code()}; {walk.database()}"),
    ]
    steps: list[tuple[str, Callable[[], str]]] = [
        ("nginx takes it", walk.nginx),
        ("the site is known", walk.site),
        ("static files", walk.static),
        *(app if module.params["app"] else [(title, lambda: "the site has no application") for title, _step in app]),
    ]
    seen: list[dict[str, Any]] = []
    for title, step in steps:
        try:
            seen.append({"title": title, "saw": step()})
        except Broken as broken:
            seen.append({"title": title, "saw": broken.saw, "look": broken.look})
            break
        except (OSError, http.client.HTTPException, ValueError) as error:
            seen.append({"title": title, "saw": str(error), "look": "journalctl -b -p warning"})
            break
    module.exit_json(changed=False, steps=seen, maintenance=walk.maintenance())


if __name__ == "__main__":
    main()
