# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a name server itself answers: this machine's hosts file and caches are not asked."""

from __future__ import annotations

import ipaddress
from typing import Any

try:
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype
except ImportError:  # the callers report it
    dns = None

PORT = 53
SECONDS = 5  # for one answer; over UDP that is two tries
TYPES = {4: "A", 6: "AAAA"}


def send(question: Any, server: str) -> Any:
    """A name server's answer over UDP, or over TCP where it was truncated. Raises Timeout after SECONDS."""

    def ask() -> Any:
        return dns.query.udp_with_fallback(question, server, timeout=SECONDS / 2, port=PORT)[0]

    try:
        return ask()
    except dns.exception.Timeout:  # a datagram may get lost
        return ask()


def addresses(server: str, domain: str, version: int) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of this IP version that a name server has for a domain.

    Raises OSError where it does not answer within SECONDS, or not with addresses or "no such name".
    """
    try:
        answer = send(dns.message.make_query(domain, TYPES[version]), server)
    except dns.exception.Timeout:
        raise TimeoutError(f"nothing within {SECONDS} s") from None
    except dns.exception.DNSException as error:
        raise OSError(f"what it says cannot be read ({error})") from error
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise OSError(f"it says {dns.rcode.to_text(answer.rcode())}")
    kind = dns.rdatatype.from_text(TYPES[version])
    return {ipaddress.ip_address(item.address) for rrset in answer.answer if rrset.rdtype == kind for item in rrset}
