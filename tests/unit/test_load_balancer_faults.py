"""What role load_balancer refuses beyond its spec, and which virtual addresses a host cannot take over."""

from __future__ import annotations

from typing import Any

import pytest
from loading import load

module = load("plugins/filter/load_balancer_faults.py")
addresses = load("plugins/modules/virtual_addresses.py")
PAIR = [{"name": name, "address": "192.0.2.11"} for name in ("a", "b")]
SAME = [{"name": name, "domains": ["A.example"]} for name in ("a", "b")]
GOOD: dict[str, Any] = {
    "load_balancer_servers": [{"name": "web1", "address": "192.0.2.11"}, {"name": "web2", "address": "2001:db8::12"}],
    "load_balancer_http_port": 8080,
    "load_balancer_https_port": 8443,
    "load_balancer_status_port": 8098,
    "load_balancer_connections": 8000,
    "load_balancer_sites": [
        {"name": "shop", "domains": ["www.shop.example", "*.shop.example"], "path": "/ready?deep=1"}
    ],
    "load_balancer_virtual_addresses": ["192.0.2.10/24", "2001:db8::10/64"],
    "load_balancer_address": "192.0.2.1",
    "load_balancer_peers": ["192.0.2.2"],
}


def faults(**inputs: Any) -> list[str]:
    found: list[str] = module.load_balancer_faults(
        {**GOOD, **{f"load_balancer_{name}": value for name, value in inputs.items()}}
    )
    return found


def test_what_can_work_has_no_fault():
    assert faults() == []
    assert faults(sites=[]) == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"servers": []}, "load_balancer_servers: empty"),
        ({"servers": [{"name": "a b", "address": "192.0.2.11"}]}, "load_balancer_servers[0].name: 'a b' is not made of"),
        ({"servers": [{"name": "web1", "address": "web1.example.com"}]}, "load_balancer_servers[0].address: 'web1.example.com' is not an address"),
        ({"servers": PAIR}, "load_balancer_servers[1].address: 192.0.2.11 is that of load_balancer_servers[0] too"),
        ({"sites": [{"name": "http", "domains": ["a.example"]}]}, "load_balancer_sites[0].name: 'http' must be small letters"),
        ({"sites": [{"name": "a", "domains": []}]}, "load_balancer_sites[0].domains: empty"),
        ({"sites": [{"name": "a", "domains": ["a_b.example"]}]}, "load_balancer_sites[0].domains[0]: 'a_b.example' has an underscore"),
        ({"sites": SAME}, "load_balancer_sites[1].domains[0]: A.example is a domain of load_balancer_sites[0] already"),
        ({"sites": [{"name": "a", "domains": ["a.example"], "path": "/a b"}]}, "load_balancer_sites[0].path: '/a b' is not a path"),
        ({"https_port": 8080}, "load_balancer_https_port: 8080 is load_balancer_http_port too"),
        ({"status_port": 443}, "load_balancer_status_port: 443 is where visitors come in"),
        ({"connections": 0}, "load_balancer_connections: 0 is less than 1"),
        ({"address": ""}, "load_balancer_address: '' is not an address; the other balancers"),
        ({"peers": []}, "load_balancer_peers: empty"),
        ({"virtual_addresses": [], "address": ""}, "load_balancer_virtual_addresses: empty; an address of the hosts' network"),
        ({"peers": ["192.0.2.1"]}, "load_balancer_peers[0]: 192.0.2.1 is load_balancer_address, this host"),
        ({"peers": ["2001:db8::2"]}, "load_balancer_peers[0]: 2001:db8::2 and load_balancer_address are not both IPv4"),
        ({"virtual_addresses": ["192.0.2.10"]}, "load_balancer_virtual_addresses[0]: '192.0.2.10' is not an address with the length"),
        ({"virtual_addresses": ["192.0.2.2/24"]}, "load_balancer_virtual_addresses[0]: 192.0.2.2 is the address of a host"),
        ({"virtual_addresses": ["192.0.2.9/24", "192.0.2.9/24"]}, "load_balancer_virtual_addresses[1]: 192.0.2.9 stands there already"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named(inputs, words):
    found = faults(**inputs)
    assert len(found) == 1, found
    assert found[0].startswith(words)


ETH0 = {
    "ifname": "eth0",
    "addr_info": [{"local": "192.0.2.1", "prefixlen": 24}, {"local": "192.0.2.20", "prefixlen": 24}],
}
OWNERS = {"192.0.2.2": "aa", "192.0.2.10": "aa", "192.0.2.30": "cc"}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.0.2.40/24", ""),  # nobody has it
        ("192.0.2.10/24", ""),  # the other balancer does
        ("192.0.2.20/24", ""),  # this one does
        ("192.0.2.30/24", "192.0.2.30 is in use: the machine with the hardware address cc answers for it"),
        ("192.0.2.40/25", "192.0.2.40/25 is of none of the networks of eth0, which are 192.0.2.0/24, 192.0.2.0/24"),
        ("198.51.100.1/24", "198.51.100.1/24 is of none of the networks of eth0"),
    ],
)
def test_an_address_that_cannot_move_here_is_named(address, words):
    found = addresses.faults(ETH0, [address], lambda asked: OWNERS.get(asked, ""), ["192.0.2.2"])
    assert len(found) == bool(words), found
    assert "".join(found).startswith(words)


def test_the_interface_is_the_one_with_the_hosts_address():
    lo = {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]}
    assert addresses.interface_of([lo, ETH0], "192.0.2.1") == ETH0
    assert addresses.interface_of([lo, ETH0], "192.0.2.2") is None
