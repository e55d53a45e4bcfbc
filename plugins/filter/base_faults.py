# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role base refuses of its lists of ports and addresses, which become rules of the firewall.

Values have the right type when they come here, or read as such: `"80"` for a port.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

PORT = re.compile(r"[0-9]{1,5}")


def base_faults(inputs: dict[str, Any]) -> list[str]:
    """Every fault, each as `path.of.the[0].value: what is wrong and what is allowed`."""
    return list(_faults(inputs))


def _faults(inputs: dict[str, Any]) -> Iterator[str]:
    for name in ("base_firewall_open", "base_listening_expected"):
        for index, item in enumerate(inputs[name] or []):
            port = str(item["port"])
            if not PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
                yield f"{name}[{index}].port: {port} is not a port; ports are 1 to 65535"
            yield from _address_faults(f"{name}[{index}].from", item.get("from"))
    yield from _address_faults("base_ssh_from", inputs["base_ssh_from"])


def _address_faults(path: str, addresses: list[Any] | None) -> Iterator[str]:
    for index, address in enumerate(addresses or []):
        try:
            ipaddress.ip_network(str(address))
        except ValueError as error:
            yield f"{path}[{index}]: {error}; it must be an address, or a network such as 192.0.2.0/24 or 2001:db8::/32"


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"base_faults": base_faults}
