# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a certificate that an operator brings: a web server starts with most such faults, a browser refuses them."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.foobar.webstack.plugins.module_utils.certificates import certificate_names, lacks

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
except ImportError:  # `_need` reports it
    pass


def certificate_faults(chain: str, key: str, names: list[str]) -> list[str]:
    """Every fault of a chain and its key, in PEM, for a site of these names.

    The chain begins with the site's own certificate; each further one has signed the one before it.
    """
    _need("certificate_faults")
    try:
        certificates = x509.load_pem_x509_certificates(chain.encode())
    except ValueError:
        return ["certificate_file: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"]
    leaf = certificates[0]
    return [
        *_key_faults(leaf, key),
        *_chain_faults(certificates),
        *_date_faults(certificates),
        *_name_faults(leaf, names),
    ]


def _need(name: str) -> None:
    if missing := lacks():
        raise AnsibleFilterError(f"{name}: {missing}")


def _key_faults(leaf: x509.Certificate, key: str) -> list[str]:
    try:
        secret = serialization.load_pem_private_key(key.encode(), password=None)
    except TypeError:
        return ["certificate_key_file: is encrypted with a password, which nobody types when the server starts"]
    except ValueError:
        return ["certificate_key_file: holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"]
    if _public(secret.public_key()) != _public(leaf.public_key()):
        return ["certificate_key_file: is the key of another certificate than the first of certificate_file"]
    return []


def _chain_faults(certificates: list[x509.Certificate]) -> list[str]:
    for number, (lower, upper) in enumerate(itertools.pairwise(certificates), start=2):
        try:
            lower.verify_directly_issued_by(upper)
        except Exception:  # cryptography raises several types, for a wrong issuer and for a wrong signature
            return [
                f"certificate_file: the certificate in place {number} ({upper.subject.rfc4514_string()}) has not signed the "
                "one before it; the site's own comes first, then the one that signed it, and so on"
            ]
    return []


def _date_faults(certificates: list[x509.Certificate]) -> list[str]:
    now = datetime.datetime.now(datetime.UTC)
    for certificate in certificates:
        what = f"certificate_file: {certificate.subject.rfc4514_string()}"
        if certificate.not_valid_after_utc <= now:
            return [f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"]
        if certificate.not_valid_before_utc > now:
            return [f"{what} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"]
    return []


def _name_faults(leaf: x509.Certificate, names: list[str]) -> list[str]:
    held = {name.lower() for name in certificate_names(leaf)}
    missing = [name for name in names if name.lower() not in held and f"*.{name.lower().partition('.')[2]}" not in held]
    if not missing:
        return []
    return [f"certificate_file: is for {', '.join(sorted(held)) or 'no name'}, and not for {', '.join(missing)}"]


def _public(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def days_left(chain: str) -> int:
    """Whole days until the first certificate of a chain in PEM expires."""
    _need("certificate_days_left")
    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    return (leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"certificate_faults": certificate_faults, "certificate_days_left": days_left}
