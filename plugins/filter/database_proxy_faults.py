# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role database_proxy refuses beyond its argument spec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import PORTS, is_address, is_file_path, is_port
from ansible_collections.foobar.webstack.plugins.plugin_utils.servers import server_faults

# A folder of the unit's own, which goes with it. HAProxy adds its process to the name, and the kernel takes 107 characters.
SOCKET = re.compile(r"/run/database/[a-z0-9][a-z0-9_-]{0,62}\.sock")
FILES = ("certificate", "key", "authority")
TAKEN = {3307: "the door", 3308: "where servers are asked who writes"}


def database_proxy_faults(inputs: dict[str, Any]) -> list[str]:
    """Every fault in the role's inputs, each as `path.of.the[0].value: what is wrong and what is allowed`."""
    return [*_end_faults(inputs), *_file_faults(inputs), *_port_faults(inputs["database_proxy_status_port"])]


def _end_faults(inputs: dict[str, Any]) -> Iterator[str]:
    socket, servers, address = (inputs[f"database_proxy_{name}"] for name in ("socket", "servers", "address"))
    if not socket and not address:
        yield "database_proxy_socket, database_proxy_address: both empty; there is nothing to do on this host"
    if socket and not SOCKET.fullmatch(socket):
        yield f"database_proxy_socket: '{shown(socket)}' is not a file in /run/database such as /run/database/writer.sock"
    if servers and not socket:
        yield "database_proxy_servers: of no use without database_proxy_socket"
    yield from server_faults("database_proxy_servers", servers)
    if inputs["database_proxy_only_server"] and (not address or len(servers) > 1):
        yield "database_proxy_only_server: is for the host of the only database server, with database_proxy_address and no other server"
    if address and not is_address(address):
        yield f"database_proxy_address: '{shown(address)}' is not an address such as 192.0.2.21"


def _file_faults(inputs: dict[str, Any]) -> Iterator[str]:
    known: dict[str, str] = {}
    for name in (f"database_proxy_{file}" for file in FILES):
        path = str(inputs[name])
        if not is_file_path(path) or "%" in path:  # which systemd would expand
            yield f"{name}: '{shown(path)}' is not the full path of a file, of letters, digits and '._~+,=:@/-'"
        elif path in known:
            yield f"{name}: {path} is {known[path]} too"
        known.setdefault(path, name)


def _port_faults(port: Any) -> Iterator[str]:
    if not is_port(port):
        yield f"database_proxy_status_port: {port} is not a port; {PORTS}"
    elif int(port) in TAKEN:
        yield f"database_proxy_status_port: {port} is {TAKEN[int(port)]}; choose another"


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"database_proxy_faults": database_proxy_faults}
