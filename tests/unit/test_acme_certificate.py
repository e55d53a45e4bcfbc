"""Whether the names of a certificate lead to the host, before an authority is asked."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from loading import load

module = load("plugins/modules/acme_certificate.py")
OWN = "10.0.0.5 2001:db8::5"


@pytest.fixture
def strays(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is said of one name that leads to `leads`, on a host with the addresses `OWN`."""

    def ask(*leads: str, addresses: tuple[str, ...] = ()) -> list[str]:
        def resolve(*_args: Any, **_options: Any) -> list[Any]:
            if not leads:
                raise socket.gaierror("Name or service not known")
            return [(0, 0, 0, "", (address, 80)) for address in leads]

        monkeypatch.setattr(module.socket, "getaddrinfo", resolve)
        params = {"name": "shop", "names": ["shop.example.com"], "addresses": list(addresses)}
        host = SimpleNamespace(params=params, run_command=lambda _argv: (0, OWN, ""))
        return module.Certificate(host).strays()

    return ask


def test_a_name_that_leads_here_is_no_stray(strays):
    assert strays("10.0.0.5") == strays("10.0.0.5", "2001:db8::5") == []


def test_the_hosts_own_entry_for_its_name_says_nothing(strays):
    """As Debian's installer writes it into the hosts file."""
    assert strays("127.0.1.1") == strays("127.0.1.1", "10.0.0.5") == strays("::1") == []


def test_an_address_in_front_of_the_host_is_declared(strays):
    (said,) = strays("203.0.113.7")
    assert said == "shop.example.com leads to 203.0.113.7; this host is 10.0.0.5, 2001:db8::5"
    assert strays("203.0.113.7", addresses=("203.0.113.7",)) == []


def test_one_address_elsewhere_is_enough(strays):
    (said,) = strays("10.0.0.5", "192.0.2.1")
    assert "leads to 192.0.2.1;" in said


def test_a_name_that_is_not_there_is_said(strays):
    (said,) = strays()
    assert said.startswith("shop.example.com is not in the DNS")
