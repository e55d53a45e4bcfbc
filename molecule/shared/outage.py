"""Hosts that fail without a word."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scenario import Host

_CHAINS = " ".join(f"chain {it} {{ type filter hook {it} priority 0; policy drop; }};" for it in ("input", "output"))
SILENCE = f"nft {shlex.quote(f'table inet cut {{ {_CHAINS} }}')}"  # until `nft delete table inet cut`


def power_off(host: Host) -> None:
    """Without power it is silent: no reset tells anybody, as the kernel of a container would that is only killed."""
    host.check_output(SILENCE)
    subprocess.run(["docker", "kill", host.backend.name], check=True, capture_output=True)


def power_on(host: Host) -> None:
    subprocess.run(["docker", "start", host.backend.name], check=True, capture_output=True)


@contextlib.contextmanager
def filtered(host: Host, chains: str) -> Iterator[None]:
    """Beside its own firewall the host has these chains, as long as the block lasts."""
    host.check_output(f"nft {shlex.quote(f'table inet apart {{ {chains} }}')}")
    try:
        yield
    finally:
        host.check_output("nft delete table inet apart")


def cut_off(host: Host, *addresses: str) -> contextlib.AbstractContextManager[None]:
    """No packet passes between the host and the addresses; all others still reach it."""
    them = f"{{ {', '.join(addresses)} }}"
    chains = " ".join(
        f"chain {hook} {{ type filter hook {hook} priority -10; ip {side} {them} drop; }};"
        for hook, side in (("input", "saddr"), ("output", "daddr"))
    )
    return filtered(host, chains)


def losing(host: Host, percent: int) -> contextlib.AbstractContextManager[None]:
    """Of what the host is sent, a part is lost by chance."""
    chain = f"chain input {{ type filter hook input priority -10; numgen random mod 100 < {percent} drop; }};"
    return filtered(host, chain)


@contextlib.contextmanager
def standing_still(host: Host) -> Iterator[None]:
    """As a virtual machine whose owner moves it: nothing on it runs, but its kernel takes what it is sent."""
    subprocess.run(["docker", "pause", host.backend.name], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", host.backend.name], check=True, capture_output=True)
