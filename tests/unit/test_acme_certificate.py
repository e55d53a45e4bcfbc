"""Whether the names of a certificate lead to the host, and what an authority is asked and told."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loading import load

module = load("plugins/modules/acme_certificate.py")
OWN = "10.0.0.5 2001:db8::5"


DIRECTORY = "https://authority.example.com:14000/dir"


class Host:
    """A host on which certbot knows one account, and makes another where there is none."""

    def __init__(self, folder: Path, email: str) -> None:
        names = {"name": "shop", "names": ["shop.example.com", "example.net"]}
        self.params = {**names, "directory": DIRECTORY, "email": email, "root": str(folder / "root"), "reload": []}
        self.folder, self.calls = folder, []

    def run_command(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        self.calls.append(argv[argv.index("certbot") + 1 :])
        account = self.folder / "accounts/authority.example.com:14000/dir/abc"
        account.mkdir(parents=True, exist_ok=True)
        (self.folder / "renewal").mkdir(exist_ok=True)
        (self.folder / "renewal/shop.conf").write_text(f"[renewalparams]\naccount = abc\nserver = {DIRECTORY}\n")
        return 0, "done", ""


@pytest.fixture
def ordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The certificate of a host that has ordered it with an address."""
    monkeypatch.setattr(module, "CERTBOT", tmp_path)
    monkeypatch.setattr(module, "PLACES", tmp_path)
    (tmp_path / "shop").mkdir()

    def order(email: str) -> Any:
        certificate = module.Certificate(Host(tmp_path, email))
        certificate.order()
        return certificate

    return order


def test_an_order_names_the_domains_and_agrees_to_the_terms(ordered):
    (call,) = ordered("ops@example.com").module.calls
    assert call[0] == "certonly" and call[-2:] == ["--domain=shop.example.com", "--domain=example.net"]
    assert {"--agree-tos", "--email=ops@example.com", "--keep-until-expiring"} <= set(call)


@pytest.mark.parametrize("email", ["", "ops@example.com"])
def test_a_new_account_has_the_address_that_it_was_made_with(ordered, email):
    assert ordered(email).email_is_current()


def test_an_account_that_was_there_is_told_of_another_address_once(ordered):
    ordered("ops@example.com")
    certificate = ordered("")
    assert not certificate.email_is_current()
    certificate.update_email()
    assert certificate.email_is_current()
    assert certificate.module.calls[-1] == [
        "update_account", "--non-interactive", "--server", DIRECTORY, "--register-unsafely-without-email",
        "--no-eff-email", "--account", "abc",
    ]  # fmt: skip


def test_of_an_account_of_which_nothing_is_noted_nothing_is_assumed(ordered):
    certificate = ordered("ops@example.com")
    certificate.email_note().unlink()
    assert not certificate.email_is_current()


@pytest.fixture
def names_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is said of one name that leads to `leads`, on a host with the addresses `OWN`."""

    def ask(*leads: str, addresses: tuple[str, ...] = ()) -> list[str]:
        def resolve(*_args: Any, **_options: Any) -> list[Any]:
            if not leads:
                raise socket.gaierror("Name or service not known")
            return [(0, 0, 0, "", (address, 80)) for address in leads]

        monkeypatch.setattr(module.socket, "getaddrinfo", resolve)
        params = {"name": "shop", "names": ["shop.example.com"], "addresses": list(addresses)}
        host = SimpleNamespace(params=params, run_command=lambda _argv: (0, OWN, ""))
        return module.Certificate(host).names_elsewhere()

    return ask


def test_a_name_that_leads_here_is_no_stray(names_elsewhere):
    assert names_elsewhere("10.0.0.5") == names_elsewhere("10.0.0.5", "2001:db8::5") == []


@pytest.mark.parametrize("entry", ["127.0.1.1", "::1"])
def test_the_hosts_own_entry_for_its_name_says_nothing_and_the_dns_is_asked(
    names_elsewhere, entry, monkeypatch, tmp_path
):
    """As Debian's installer writes it into the hosts file."""
    assert names_elsewhere(entry, "10.0.0.5") == []
    (tmp_path / "resolv.conf").write_text("search example.com\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n")
    monkeypatch.setattr(module, "RESOLVERS", (tmp_path / "none", tmp_path / "resolv.conf"))
    said: dict[str, set[str]] = {}

    def asked(server: str, name: str, version: int) -> set[Any]:
        if server not in said:
            raise TimeoutError
        return {address for text in said[server] if (address := ipaddress.ip_address(text)).version == version}

    monkeypatch.setattr(module.names, "addresses", asked)
    nowhere = ["shop.example.com is not in the DNS, but for this host's own /etc/hosts"]
    assert names_elsewhere(entry) == [], "nobody tells"
    said["192.0.2.54"] = set()
    assert names_elsewhere(entry) == nowhere
    said["192.0.2.54"] = {"10.0.0.5", "2001:db8::5"}
    assert names_elsewhere(entry) == []
    said["192.0.2.53"] = {"10.0.0.5", "192.0.2.1"}
    assert "leads to 192.0.2.1;" in names_elsewhere(entry)[0]
    said["192.0.2.53"] = {"127.0.1.1"}
    assert names_elsewhere(entry) == [], "a name server that reads the hosts file"


def test_an_address_in_front_of_the_host_is_declared(names_elsewhere):
    (said,) = names_elsewhere("203.0.113.7")
    assert said == "shop.example.com leads to 203.0.113.7; this host is 10.0.0.5, 2001:db8::5"
    assert names_elsewhere("203.0.113.7", addresses=("203.0.113.7",)) == []


def test_one_address_elsewhere_is_enough(names_elsewhere):
    (said,) = names_elsewhere("10.0.0.5", "192.0.2.1")
    assert "leads to 192.0.2.1;" in said


def test_a_name_that_is_not_there_is_said(names_elsewhere):
    (said,) = names_elsewhere()
    assert said.startswith("shop.example.com is not in the DNS")
