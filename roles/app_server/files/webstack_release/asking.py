"""Requests to a slot over the uwsgi protocol, to nginx as a visitor, and to uWSGI's counters."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import struct
import time
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

Answer = tuple[int, str]  # HTTP status, or 0 if there was no answer; body, or the error


def ask(address: Path, path: str, modifier: int, seconds: float = 5, url: str = "") -> Answer:
    """GET `path` over the uwsgi protocol, as a request for the site at `url`; raises OSError if nothing answers.

    The packet: modifier1, length of the variables (16 bits, little endian), modifier2, then each
    name and value behind its own length (uWSGI's documentation, "The uwsgi protocol").
    """
    name, _mark, query = path.partition("?")
    site = urlsplit(url or "http://localhost")
    host, port = site.hostname or "", str(port_of(site))
    variables = {
        "REQUEST_METHOD": "GET", "REQUEST_URI": path, "PATH_INFO": name, "QUERY_STRING": query, "SERVER_NAME": host,
        "SERVER_PORT": port, "SERVER_PROTOCOL": "HTTP/1.0", "HTTP_HOST": host, "REMOTE_ADDR": "127.0.0.1",
        "HTTP_USER_AGENT": "webstack-release", "REQUEST_SCHEME": site.scheme,
        **({"HTTPS": "on", "UWSGI_SCHEME": "https"} if site.scheme == "https" else {}),
    }  # fmt: skip
    block = b"".join(
        struct.pack("<H", len(text.encode())) + text.encode() for pair in variables.items() for text in pair
    )
    answer = exchange(address, struct.pack("<BHB", modifier, len(block), 0) + block, seconds)
    head, _gap, body = answer.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/\d\.\d (\d{3})", head)
    return (int(match[1]) if match else 0), body.decode(errors="replace")


def exchange(address: Path, packet: bytes, seconds: float) -> bytes:
    """Sends a packet to a Unix socket and returns everything that it answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        deadline = time.monotonic() + seconds
        connection.settimeout(seconds)
        connection.connect(str(address))
        if packet:  # the counters send their answer without a request, and may have closed the socket already
            connection.sendall(packet)
        answer = b""
        while len(answer) < 1_000_000 and (part := connection.recv(65536)):
            answer += part
            # The limit is for the whole answer, also if it arrives byte by byte.
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
    return answer


def requests_so_far(counters: Path) -> int:
    """Number of requests that the workers of a slot have had; 0 if uWSGI does not say."""
    # The application can put its own socket there and answer anything.
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        return sum(worker["requests"] for worker in json.loads(exchange(counters, b"", 5))["workers"])
    return 0


def ask_at_the_door(url: str, path: str, *, proxy_protocol: bool = False, seconds: float = 5) -> Answer:
    """GET `path` from the nginx of this host, with the site's name.

    The certificate is not verified: the question is which release answers. With `proxy_protocol` it is asked as by a load
    balancer, and not on behalf of a visitor.
    """
    site = urlsplit(url)
    host = site.hostname or ""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        raw = socket.create_connection(("127.0.0.1", port_of(site)), timeout=seconds)
        if proxy_protocol:
            raw.sendall(b"PROXY UNKNOWN\r\n")
        with context.wrap_socket(raw, server_hostname=host) if site.scheme == "https" else raw as stream:
            connection = http.client.HTTPConnection(host, timeout=seconds)
            connection.sock = stream
            connection.request(
                "GET", path, headers={"Host": host, "User-Agent": "webstack-release", "Connection": "close"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read(1_000_000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


def port_of(site: SplitResult) -> int:
    return site.port or (443 if site.scheme == "https" else 80)
