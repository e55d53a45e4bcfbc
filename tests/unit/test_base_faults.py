"""The checks of role base's lists of ports and addresses."""

from __future__ import annotations

from typing import Any

import pytest
from loading import load

base_faults = load("plugins/filter/base_faults.py").base_faults
GOOD: dict[str, Any] = {"base_firewall_open": [], "base_listening_expected": [], "base_ssh_from": []}


def test_ports_and_addresses_of_both_families_have_no_fault():
    ports = [
        {"port": 80},
        {"port": "443", "protocol": "udp"},
        {"port": 65535, "from": ["192.0.2.1", "2001:db8::/32"]},
    ]
    assert (
        base_faults(
            {"base_firewall_open": ports, "base_listening_expected": ports, "base_ssh_from": ["::1", "10.0.0.0/8"]}
        )
        == []
    )


@pytest.mark.parametrize("name", ["base_firewall_open", "base_listening_expected"])
@pytest.mark.parametrize("port", [0, 65536, -1, "http", "80; accept", "1e3", ""])
def test_what_is_no_port_is_refused(name, port):
    (fault,) = base_faults({**GOOD, name: [{"port": 80}, {"port": port}]})
    assert fault == f"{name}[1].port: {port} is not a port; ports are 1 to 65535"


@pytest.mark.parametrize(
    "address", ["", "example.com", "192.0.2.1/24", "1.2.3", "::1; accept", "0.0.0.0/0 accept", "10.0.0.1-10.0.0.9", 7.5]
)
def test_what_is_no_address_is_refused(address):
    faults = base_faults(
        {**GOOD, "base_firewall_open": [{"port": 1, "from": ["::1", address]}], "base_ssh_from": [address]}
    )
    assert [fault.split(":")[0] for fault in faults] == ["base_firewall_open[0].from[1]", "base_ssh_from[0]"]
    assert all("it must be an address, or a network such as" in fault for fault in faults)
