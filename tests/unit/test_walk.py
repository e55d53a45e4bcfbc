"""The walk's first step, against name servers on the loopback; and what the host's half is told.

The nine steps on a running site are the scenario's (molecule/default).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from loading import load

action = load("plugins/action/walk.py")

SITE, SITE6, ELSEWHERE = "192.0.2.1", "2001:db8::1", "192.0.2.66"
POINTER = b"\xc0\x0c"  # to the name in the question


def record(kind: int, data: bytes, name: bytes = POINTER) -> bytes:
    return name + struct.pack(">2HIH", kind, 1, 300, len(data)) + data


def address(text: str) -> bytes:
    return record(28 if ":" in text else 1, socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text))


def answer(*records: bytes, code: int = 0) -> Callable[[bytes], bytes]:
    """What a name server makes of a question."""
    return lambda question: (
        question[:2] + struct.pack(">5H", 0x8400 | code, 1, len(records), 0, 0) + question[12:] + b"".join(records)
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[bytes]]]:
    """Starts a name server on 127.0.0.1 that gives these answers in turn, None for none; returns what it was asked."""
    monkeypatch.setattr(action.names, "SECONDS", 0.4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(2)
        monkeypatch.setattr(action.names, "PORT", sock.getsockname()[1])
        threads: list[threading.Thread] = []

        def start(*answers: Callable[[bytes], bytes] | None) -> list[bytes]:
            asked: list[bytes] = []

            def serve() -> None:
                for make in answers:
                    question, sender = sock.recvfrom(512)
                    asked.append(question)
                    if make:
                        sock.sendto(make(question), sender)

            threads.append(threading.Thread(target=serve))
            threads[-1].start()
            return asked

        yield start
        for thread in threads:
            thread.join()


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """The step, on a machine whose resolver knows no name."""

    def unknown(*_args: Any, **_options: Any) -> list[Any]:
        raise socket.gaierror("not known")

    def step(servers: list[str], published: str = SITE, domain: str = "www.example.com") -> tuple[str, str]:
        monkeypatch.setattr(action.socket, "getaddrinfo", unknown)
        return action._name(domain, "127.0.0.1", servers, published)

    return step


def test_a_name_in_anothers_zone_is_told_and_not_held_against_the_host(name):
    saw, look = name([])
    assert saw == "www.example.com is not in the DNS that this machine asks; going on with 127.0.0.1"
    assert look == ""


@pytest.mark.parametrize(
    ("published", "records"),
    [
        (SITE, [address(SITE)]),
        ("2001:DB8:0::1", [address(SITE6)]),
        (SITE, [record(1, socket.inet_aton(SITE), b"\x03WWW\x07example\x03com\x00")]),
        (SITE, [record(5, b"\x04host" + POINTER), record(1, socket.inet_aton(SITE), b"\x04host" + POINTER)]),
    ],
    ids=["A", "AAAA", "name in full", "CNAME"],
)
def test_a_name_server_of_ours_that_answers_right_is_said(name, server, published, records):
    server(answer(*records))
    saw, look = name(["127.0.0.1"], published)
    assert saw.startswith(f"127.0.0.1 answers www.example.com → {published}; www.example.com is not in the DNS")
    assert look == ""


def test_it_is_asked_as_resolvers_ask(name, server):
    asked = server(answer(address(SITE)))
    name(["127.0.0.1"], domain="www.example.com.")
    assert asked[0][2:] == bytes.fromhex("0100 0001 0000 0000 0000") + b"\x03www\x07example\x03com\x00\x00\x01\x00\x01"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer(address(ELSEWHERE)), f"www.example.com → {ELSEWHERE}, not {SITE}"),
        (answer(address(SITE), address(ELSEWHERE)), f"{SITE}, {ELSEWHERE}, not {SITE}"),
        (answer(code=3), f"→ nothing, not {SITE}"),
        (answer(code=5), "does not answer: it says REFUSED"),
        (lambda question: question[:2], "does not answer: what it says cannot be read"),
        (lambda question: answer(address(SITE))(question)[:-3], "does not answer: what it says cannot be read"),
    ],
    ids=["elsewhere", "elsewhere, too", "no such name", "refused", "no answer", "half an answer"],
)
def test_a_name_server_of_ours_that_answers_wrongly_breaks_the_step(name, server, reply, words):
    server(reply)
    saw, look = name(["127.0.0.1"])
    assert "the name server 127.0.0.1" in saw and words in saw
    assert "knot" in look


def test_one_that_is_silent_breaks_the_step_and_a_lost_datagram_does_not(name, server):
    server(None, answer(address(SITE)))
    assert name(["127.0.0.1"])[1] == ""
    server(None, None)
    saw, look = name(["127.0.0.1"])
    assert "the name server 127.0.0.1 does not answer: nothing within" in saw and "port 53" in look


def test_every_name_server_of_ours_is_asked(name, server):
    server(answer(address(SITE)))
    saw, look = name(["127.0.0.1", "127.0.0.2"])  # nobody listens on the second
    assert "the name server 127.0.0.2 does not answer" in saw and look


def test_a_controller_without_dnspython_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(action.names, "dns", None)
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(
        args={"domain": "www.example.com", "address": "127.0.0.1", "name_servers": ["127.0.0.1"]}
    )
    with pytest.raises(action.AnsibleActionFail, match="lacks the package dnspython"):
        plugin.run(task_vars={})


@pytest.mark.parametrize(
    ("args", "ports"),
    [
        ({}, (80, 80)),
        ({"tls": True}, (443, 443)),
        ({"tls": True, "port": 8443}, (8443, 443)),
        ({"tls": True, "port": "443", "host_port": "8443"}, (443, "8443")),
    ],
)
def test_both_halves_are_told_of_one_port(monkeypatch, args, ports):
    asked = []
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    monkeypatch.setattr(action, "_name", lambda *_args: ("", ""))
    monkeypatch.setattr(action, "_address", lambda _domain, _address, port, _lock: asked.append(port) or ("", ""))
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args={"domain": "www.example.com", "address": "127.0.0.1", **args})
    monkeypatch.setattr(
        "ansible_collections.foobar.webstack.plugins.plugin_utils.questions.ask", lambda *_question: None
    )
    plugin._execute_module = lambda module_args, **_options: asked.append(module_args["host_port"]) or {"failed": True}
    plugin.run(task_vars={})
    assert asked == [int(port) for port in ports]


@pytest.mark.parametrize("at_boot", ["", "after a reboot it is not served"])
def test_what_a_reboot_would_do_is_said_where_the_slot_is(at_boot):
    status = {"active": True, "slot": "blue", "release": "r1", "at_boot": at_boot}
    host = SimpleNamespace(params={"app": "shop"}, run_command=lambda _argv: (0, json.dumps(status), ""))
    said = load("plugins/modules/walk.py").Walk(host).slot()
    assert said == "shop@blue runs release r1" + (f", but {at_boot}" if at_boot else "")
