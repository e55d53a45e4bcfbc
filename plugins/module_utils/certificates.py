# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading certificates, on the controller."""

from __future__ import annotations

import ipaddress

from ansible_collections.foobar.webstack.plugins.module_utils.faults import controller_lacks

try:
    from cryptography import x509
except ImportError:  # `lacks` reports it
    x509 = None


def lacks() -> str:
    """Which library the controller lacks to read or sign certificates, for the operator; empty where it has it."""
    if x509 and hasattr(x509.Certificate, "not_valid_after_utc"):
        return ""
    return controller_lacks("cryptography", "42", "python3-cryptography, from Debian 13 on")


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """The domain names that a certificate is for."""
    return _alternatives(certificate, x509.DNSName)


def certificate_addresses(certificate: x509.Certificate) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses that a certificate is for."""
    return _alternatives(certificate, x509.IPAddress)


def _alternatives(certificate: x509.Certificate, of_type: type) -> list:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(of_type)
