# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.private_certificate: an authority of one's own, in a folder on the controller.

By cryptography, not community.crypto: that is another collection and six tasks a certificate, between which two hosts of
a play could each make an authority.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.module_utils.atomic import write_atomically
from ansible_collections.foobar.webstack.plugins.module_utils.certificates import (
    certificate_addresses,
    certificate_names,
    lacks,
)

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # the action reports it
    pass

AUTHORITY_DAYS = 3650
# No longer, since browsers refuse certificates that are valid for more than 398 days.
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30  # before the end
CLOCKS_DIFFER = datetime.timedelta(hours=1)

Pair = tuple["x509.Certificate", "ec.EllipticCurvePrivateKey"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ActionModule(ActionBase):
    """Runs on the controller alone. In check mode it signs, and saves nothing."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "folder": {"type": "path", "required": True},
                "names": {"type": "list", "elements": "str", "required": True},
                "addresses": {"type": "list", "elements": "str", "default": []},
            },
        )
        if missing := lacks():
            raise AnsibleActionFail(f"No certificate can be signed: {missing}")
        folder, names = Path(args["folder"]), args["names"]
        try:
            addresses = [ipaddress.ip_address(address) for address in args["addresses"]]
        except ValueError as error:
            raise AnsibleActionFail(f"addresses: {error}") from error
        with self._locked(folder):
            if not self._task.check_mode:
                for pair_file in folder.rglob(".*.pair"):
                    _split(pair_file)
            authority, changed = _load(folder / "authority"), False
            if authority and authority[0].not_valid_after_utc < datetime.datetime.now(datetime.UTC):
                raise AnsibleActionFail(
                    f"The authority in {folder} has expired. Move the folder away, and a new one is made, which clients must "
                    "trust anew."
                )
            if authority is None:
                authority, changed = _make_authority(names[0]), True
                self._save(folder / "authority", authority)
            leaf = _load(folder / "signed" / names[0])
            if leaf is None or not _is_valid_for(leaf[0], authority[0], names, addresses):
                leaf, changed = _sign(authority, names, addresses), True
                self._save(folder / "signed" / names[0], leaf)
        return {
            "changed": changed,
            "chain": _certificate_pem(leaf[0]) + _certificate_pem(authority[0]),
            "authority": _certificate_pem(authority[0]),
            "key": _key_pem(leaf[1]),
        }

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Ansible runs this for several hosts at once: without a lock, each could make an authority of its own."""
        if self._task.check_mode:
            yield
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(folder / ".lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _save(self, path: Path, pair: Pair) -> None:
        if self._task.check_mode:
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        pair_file = path.with_name(f".{path.name}.pair")
        write_atomically(pair_file, _key_pem(pair[1]) + _certificate_pem(pair[0]), 0o600)
        _split(pair_file)


def _split(pair_file: Path) -> None:
    """Splits a pair into its two files. It is saved as one file first, so that the next run completes an interrupted split."""
    name, text = pair_file.name.removeprefix(".").removesuffix(".pair"), pair_file.read_text(encoding="utf-8")
    key, begin, certificate = text.partition("-----BEGIN CERTIFICATE-----")
    write_atomically(pair_file.with_name(f"{name}.key"), key, 0o600)
    write_atomically(pair_file.with_name(f"{name}.pem"), begin + certificate, 0o644)
    pair_file.unlink()


def _load(path: Path) -> Pair | None:
    """A certificate and its key from the folder; None where there are none."""
    certificate, key = path.with_name(f"{path.name}.pem"), path.with_name(f"{path.name}.key")
    authority = path.name == "authority"
    if not certificate.exists() and not (authority and key.exists() and any(path.with_name("signed").glob("*"))):
        return None  # an interrupted run left a key that has signed nothing
    try:
        pair = (
            x509.load_pem_x509_certificate(certificate.read_bytes()),
            serialization.load_pem_private_key(key.read_bytes(), password=None),
        )
        if pair[0].public_key() == pair[1].public_key():
            return pair
        if not authority:
            return None
        raise ValueError("the key is another certificate's")
    except (OSError, ValueError, TypeError) as error:
        raise AnsibleActionFail(
            f"{certificate} and {key} on the controller are no certificate and its key: {error}. Bring them back from a "
            "backup; or remove both, and what they signed is made anew."
        ) from error


def _is_valid_for(
    leaf: x509.Certificate, authority: x509.Certificate, names: list[str], addresses: list[Address]
) -> bool:
    """Whether this authority signed it for exactly these names and addresses, and it is not about to expire."""
    try:
        leaf.verify_directly_issued_by(authority)
    except Exception:  # cryptography raises several types
        return False
    left = leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    same = set(certificate_names(leaf)) == set(names) and set(certificate_addresses(leaf)) == set(addresses)
    return same and left > datetime.timedelta(days=RENEW_DAYS)


def _builder(
    subject: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _make_authority(name: str) -> Pair:
    # No name constraints: a name or a site added later would need a new authority, and all clients would have to
    # trust that one.
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(f"Private authority of {name}", None, key, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_usage(signs=True), critical=True).sign(key, hashes.SHA256()), key


def _sign(authority: Pair, names: list[str], addresses: list[Address]) -> Pair:
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if addresses else [])]
    alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
    key = ec.generate_private_key(ec.SECP256R1())
    days = (authority[0].not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days
    builder = _builder(names[0], authority[0].subject, key, min(CERTIFICATE_DAYS, days))
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs=False), True),
        (x509.ExtendedKeyUsage(uses), False),
        (x509.SubjectAlternativeName(alternatives), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(authority[1], hashes.SHA256()), key


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
