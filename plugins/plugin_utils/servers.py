# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What roles refuse of the servers that HAProxy hands connections on to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import is_address

SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def server_faults(path: str, servers: list[dict[str, Any]]) -> Iterator[str]:
    """Of a list of {name, address}, the input `path`."""
    for key in ("name", "address"):
        yield from repeated(path, key, [str(server[key]) for server in servers])
    for index, server in enumerate(servers):
        if not SERVER.fullmatch(str(server["name"])):
            yield f"{path}[{index}].name: '{shown(server['name'])}' is not made of letters, digits, '.', '_' and '-'"
        if not is_address(server["address"]):
            yield f"{path}[{index}].address: '{shown(server['address'])}' is not an address such as 192.0.2.11"


def repeated(path: str, key: str, values: list[str]) -> Iterator[str]:
    """Of each value that stands there twice."""
    for index, value in enumerate(values):
        first = values.index(value)
        if first != index:
            yield f"{path}[{index}].{key}: {shown(value)} is that of {path}[{first}] too"
