# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a name server answers, asked by itself: neither a hosts file nor a cache of this machine has a say."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

PORT = 53
SECONDS = 5
TRIES = 2  # a datagram may get lost
TYPES = {4: 1, 6: 28}  # A, AAAA
NO_ERROR, NO_SUCH_NAME = 0, 3
ERRORS = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}
RECURSE = 0x0100  # who serves the zone itself does not mind


def asked(server: str, domain: str, version: int) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of a version of IP that a name server answers for a name (RFC 1035, 4).

    Raises OSError where nothing comes within SECONDS, or no answer to the question.
    """
    kind = TYPES[version]
    labels = b"".join(bytes([len(label)]) + label.encode() for label in domain.rstrip(".").split("."))
    question = struct.pack(">2s5H", os.urandom(2), RECURSE, 1, 0, 0, 0) + labels + struct.pack(">x2H", kind, 1)
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS / TRIES)
        sock.connect((server, PORT))
        for _try in range(TRIES):
            sock.send(question)
            try:
                answer = sock.recv(4096)
            except TimeoutError:
                continue
            try:
                code = answer[3] & 0xF
                if code not in (NO_ERROR, NO_SUCH_NAME):
                    raise OSError(f"it says {ERRORS.get(code, f'error {code}')}")
                return _addresses(answer, len(question), kind)
            except (IndexError, ValueError, struct.error) as error:
                raise OSError(f"what it says cannot be read ({error})") from error
    raise TimeoutError(f"nothing within {SECONDS} s")


def _addresses(answer: bytes, place: int, kind: int) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses in an answer, whose records begin at `place`, behind the question."""
    found = set()
    for _record in range(int.from_bytes(answer[6:8], "big")):
        while 0 < answer[place] < 0xC0:  # the parts of a name, up to an empty one or a pointer
            place += 1 + answer[place]
        place += 2 if answer[place] else 1
        is_kind, length = struct.unpack_from(">H6xH", answer, place)
        place += 10
        if is_kind == kind:
            found.add(ipaddress.ip_address(answer[place : place + length]))
        place += length
    return found
