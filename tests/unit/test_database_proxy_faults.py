"""What role database_proxy refuses beyond its spec."""

from __future__ import annotations

from typing import Any

import pytest
from loading import load

module = load("plugins/filter/database_proxy_faults.py")
SAME = [{"name": name, "address": "192.0.2.21"} for name in ("db1", "db2")]
GOOD: dict[str, Any] = {
    "database_proxy_socket": "/run/database/writer.sock",
    "database_proxy_servers": [{"name": "db1", "address": "192.0.2.21"}, {"name": "db2", "address": "2001:db8::22"}],
    "database_proxy_address": "192.0.2.21",
    "database_proxy_only_server": False,
    "database_proxy_certificate": "/etc/ssl/database/host.pem",
    "database_proxy_key": "/etc/ssl/database/host.key",
    "database_proxy_authority": "/etc/ssl/database/authority.pem",
    "database_proxy_status_port": 8097,
}


def faults(**inputs: Any) -> list[str]:
    found: list[str] = module.database_proxy_faults(
        {**GOOD, **{f"database_proxy_{name}": value for name, value in inputs.items()}}
    )
    return found


def test_what_can_work_has_no_fault():
    assert faults() == []
    assert faults(address="") == []
    assert faults(socket="", servers=[]) == []
    assert faults(socket="", servers=[], only_server=True) == []
    assert faults(servers=[]) == faults(servers=[], address="") == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"socket": "", "servers": [], "address": ""}, "database_proxy_socket, database_proxy_address: both empty"),
        ({"only_server": True}, "database_proxy_only_server: is for the host of the only database server"),
        ({"socket": "/run/mysqld/mysqld.sock"}, "database_proxy_socket: '/run/mysqld/mysqld.sock' is not a file in /run/database"),
        ({"socket": ""}, "database_proxy_servers: of no use without database_proxy_socket"),
        ({"servers": SAME}, "database_proxy_servers[1].address: 192.0.2.21 is that of database_proxy_servers[0] too"),
        ({"servers": [{"name": "a b", "address": "192.0.2.21"}]}, "database_proxy_servers[0].name: 'a b' is not made of"),
        ({"address": "db1.example.com"}, "database_proxy_address: 'db1.example.com' is not an address"),
        ({"key": "host.key"}, "database_proxy_key: 'host.key' is not the full path"),
        ({"key": "/etc/ssl/a b"}, "database_proxy_key: '/etc/ssl/a b' is not the full path"),
        ({"key": "/etc/ssl/%h.key"}, "database_proxy_key: '/etc/ssl/%h.key' is not the full path"),
        ({"key": GOOD["database_proxy_certificate"]}, "database_proxy_key: /etc/ssl/database/host.pem is database_proxy_certificate too"),
        ({"status_port": 0}, "database_proxy_status_port: 0 is not a port"),
        ({"status_port": 3307}, "database_proxy_status_port: 3307 is the door"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named(inputs, words):
    found = faults(**inputs)
    assert len(found) == 1, found
    assert found[0].startswith(words)
