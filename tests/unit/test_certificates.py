"""An authority of one's own, on the controller, and what is said of certificates that somebody brings."""

from __future__ import annotations

import datetime
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from loading import load

action = load("plugins/action/private_certificate.py")
faults = load("plugins/filter/certificate_faults.py")
NAMES = ("shop.example.com", "*.example.net")


@pytest.fixture
def sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})

    def run(*, check_mode: bool = False, names: Iterable[str] = NAMES, addresses: Iterable[str] = ()) -> dict[str, Any]:
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode, args={})
        args = {"folder": str(tmp_path / "authority"), "names": list(names), "addresses": list(addresses)}
        plugin.validate_argument_spec = lambda argument_spec: (None, args)
        return plugin.run(task_vars={})

    run.folder = tmp_path / "authority"
    return run


def test_what_is_signed_has_no_fault_and_stays(sign):
    first, second = sign(), sign()
    assert (first["changed"], second["changed"]) == (True, False)
    assert (first["chain"], first["key"]) == (second["chain"], second["key"])
    assert faults.certificate_faults(first["chain"], first["key"], ["shop.example.com", "a.example.net"]) == []
    assert 360 <= faults.days_left(first["chain"]) <= 365


def test_keys_are_for_their_owner_alone(sign):
    sign()
    assert sign.folder.stat().st_mode & 0o077 == 0
    keys = list(sign.folder.rglob("*.key"))
    assert len(keys) == 2 and not any(key.stat().st_mode & 0o077 for key in keys)


def test_other_names_are_signed_by_the_same_authority(sign):
    first, second = sign(), sign(names=["shop.example.com"])
    assert second["changed"] and first["chain"].count("BEGIN") == 2
    assert first["chain"].split("-----BEGIN")[2] == second["chain"].split("-----BEGIN")[2]


def test_a_hosts_certificate_is_for_its_addresses_and_for_a_client(sign):
    plain = x509.load_pem_x509_certificate(sign(names=["web1"])["chain"].encode())
    addresses = ["192.0.2.1", "2001:db8::1"]
    answer = sign(names=["web1"], addresses=addresses)
    assert answer["changed"] and not sign(names=["web1"], addresses=addresses)["changed"]
    assert answer["authority"] == answer["chain"][answer["chain"].rindex("-----BEGIN") :]
    own = x509.load_pem_x509_certificate(answer["chain"].encode())
    assert list(map(str, action.certificate_addresses(own))) == addresses and not action.certificate_addresses(plain)
    uses = [found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value for found in (plain, own)]
    assert [ExtendedKeyUsageOID.CLIENT_AUTH in use for use in uses] == [False, True]
    assert sign(names=["web1"], addresses=["192.0.2.2"])["changed"]
    with pytest.raises(AnsibleActionFail, match=r"^addresses: 'web1' does not appear to be an IPv4 or IPv6 address$"):
        sign(names=["web1"], addresses=["web1"])


def test_one_near_its_end_is_signed_anew(sign, monkeypatch):
    monkeypatch.setattr(action, "CERTIFICATE_DAYS", 29)
    sign()
    monkeypatch.setattr(action, "CERTIFICATE_DAYS", 365)
    assert sign()["changed"] and not sign()["changed"]


def test_check_mode_keeps_nothing(sign):
    assert sign(check_mode=True)["changed"]
    assert not sign.folder.exists()


def test_hosts_at_the_same_time_have_one_authority(sign):
    chains: list[str] = []
    threads = [threading.Thread(target=lambda: chains.append(sign()["chain"])) for _number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(chains) == 8 and len(set(chains)) == 1


def test_files_that_are_damaged_are_named(sign):
    sign()
    (sign.folder / "authority.key").write_text("damaged")
    with pytest.raises(AnsibleActionFail, match=r"authority\.key on the controller are no certificate"):
        sign()


def test_a_lost_certificate_of_the_authority_is_not_replaced_in_silence(sign):
    sign()
    (sign.folder / "authority.pem").unlink()
    before = (sign.folder / "authority.key").read_text()
    with pytest.raises(AnsibleActionFail, match="Bring them back from a backup"):
        sign()
    assert (sign.folder / "authority.key").read_text() == before


class Killed(BaseException):
    """The run ends here, whatever it was about to do."""


@pytest.mark.parametrize("pair", ["authority", "signed/shop.example.com"])
@pytest.mark.parametrize("half", ["key", "pem"])
def test_a_run_that_is_killed_between_the_halves_of_a_pair_is_made_up_for(sign, monkeypatch, pair, half):
    """Of a first pair, and of the one that takes its place when it is near its end."""
    write, first = action.write_atomically, pair == "authority"
    if not first:
        sign()
        (sign.folder / f"{pair}.pem").unlink()

    def killed(path: Path, *arguments: Any) -> None:
        if path == sign.folder / f"{pair}.{half}":
            raise Killed
        write(path, *arguments)

    monkeypatch.setattr(action, "write_atomically", killed)
    with pytest.raises(Killed):
        sign()
    monkeypatch.setattr(action, "write_atomically", write)
    made = sign()
    assert faults.certificate_faults(made["chain"], made["key"], ["shop.example.com"]) == []
    assert sign()["chain"] == made["chain"]
    assert not list(sign.folder.rglob("*.pair"))


def test_a_key_of_another_certificate_is_replaced_but_for_the_authoritys(sign):
    """As a version left it that wrote one half after the other."""
    before = sign()
    other = sign(names=["other.example.com"])["key"]
    (sign.folder / "signed/shop.example.com.key").write_text(other)
    made = sign()
    assert made["changed"] and made["key"] not in (before["key"], other)
    assert faults.certificate_faults(made["chain"], made["key"], ["shop.example.com"]) == []
    (sign.folder / "authority.key").write_text(other)
    with pytest.raises(AnsibleActionFail, match="the key is another certificate's"):
        sign()


def test_a_key_of_an_authority_that_has_signed_nothing_is_what_a_killed_run_left(sign):
    sign.folder.mkdir()
    (sign.folder / "authority.key").write_text("half")
    assert sign()["changed"] and not sign()["changed"]


def test_an_authority_signs_nothing_that_outlives_it(sign, monkeypatch):
    monkeypatch.setattr(action, "AUTHORITY_DAYS", 100)
    leaf, authority = x509.load_pem_x509_certificates(sign()["chain"].encode())
    assert leaf.not_valid_after_utc <= authority.not_valid_after_utc
    assert not sign()["changed"]


def test_an_authority_that_has_expired_is_said(sign, monkeypatch):
    sign()
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=action.AUTHORITY_DAYS + 1)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, _zone):
            return later

    monkeypatch.setattr(action.datetime, "datetime", Later)
    with pytest.raises(AnsibleActionFail, match="has expired"):
        sign()


def test_browsers_take_what_is_signed(sign):
    chain = x509.load_pem_x509_certificates(sign()["chain"].encode())
    assert chain[0].not_valid_after_utc - chain[0].not_valid_before_utc < datetime.timedelta(days=398)
    usage = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert chain[1].extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    store = x509.verification.Store([chain[1]])
    verifier = x509.verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName("shop.example.com"))
    assert len(verifier.verify(chain[0], [])) == 2


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [("", "", "holds no certificate"), ("x", "y", "holds no certificate"), (None, "", "holds no private key")],
)
def test_what_is_no_certificate_is_said(sign, chain, key, words):
    made = sign()
    (found,) = faults.certificate_faults(made["chain"] if chain is None else chain, key, NAMES[:1])
    assert words in found


# Python knows a package that is None here as one that is not there.
WITHOUT = """
import sys
sys.modules["cryptography"] = None
from types import SimpleNamespace
from loading import load
action = load("plugins/action/private_certificate.py")
action.ActionBase.run = lambda *_args: {}
action.ActionBase.validate_argument_spec = lambda *_args, **_options: (None, {"folder": "/nowhere", "names": ["a.example"]})
plugin = action.ActionModule.__new__(action.ActionModule)
faults = load("plugins/filter/certificate_faults.py")
for ask in (plugin.run, lambda: faults.certificate_faults("", "", []), lambda: faults.days_left("")):
    try:
        ask()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_a_controller_without_cryptography_is_told_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert len(said) == 3 and said[0].startswith("AnsibleActionFail: No certificate can be signed")
    assert all("lacks the package cryptography" in line and "pip install" in line for line in said)


def test_an_old_cryptography_is_none(monkeypatch):
    """Debian 12 has 38, which does not know certificates' dates in UTC."""
    utils = sys.modules[faults.lacks.__module__]
    assert utils.lacks() == ""
    monkeypatch.setattr(utils, "x509", SimpleNamespace(Certificate=object))
    assert "42 or newer" in utils.lacks()
