"""What the parts of the benchmark share: containers, an inventory of the one that is measured, a converge."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
BUILD = PROJECT / "build"
PREFIX = f"bench-{os.environ.get('WEBSTACK_ID', 'local')}"
KEY, KNOWN_HOSTS = BUILD / "bench-key", BUILD / "bench-known-hosts"
SITE, FLOOR, LOAD, TARGET = (f"{PREFIX}-{name}" for name in ("site", "floor", "load", "target"))

PRIVATE = {"source": "private", "authority_folder": str(BUILD / "bench-authority")}
LOAD_SECONDS = 2
WRK = "apt-get -qq update && apt-get -qq install -y --no-install-recommends wrk >/dev/null 2>&1"


@dataclasses.dataclass(frozen=True)
class Rate:
    """One load on one address: good answers a second, failures in 100, latencies in milliseconds."""

    per_second: float
    failed: float
    p50: float
    p99: float


def sh(command: str, container: str = "") -> str:
    argv = ["docker", "exec", container, "sh", "-c", command] if container else ["sh", "-c", command]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def timed(action: Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def fresh(container: str) -> None:
    sh(f"tools/container down {container}; tools/container up {container} trixie")


def let_in(container: str) -> None:
    """Gives a host what a rented server has when it is handed over: an ssh server, and a user with a key who may sudo."""
    KNOWN_HOSTS.unlink(missing_ok=True)
    if not KEY.exists():
        sh(f"ssh-keygen -q -t ed25519 -N '' -f {KEY}")
    sh(
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends openssh-server sudo"
        " >/dev/null 2>&1 && useradd --create-home --shell /bin/bash admin && install -d -o admin -m 0700 /home/admin/.ssh"
        f" && echo {shlex.quote(KEY.with_suffix('.pub').read_text(encoding='utf-8').strip())} > /home/admin/.ssh/authorized_keys"
        " && echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/admin && systemctl start ssh",
        container,
    )


def address_of(container: str) -> str:
    return sh("hostname -I", container).split()[0]


def way_to(address: str) -> dict[str, str]:
    """The way that a server is reached: `docker exec` takes three times as long to run a command."""
    return {
        "ansible_host": address,
        "ansible_user": "admin",
        "ansible_ssh_private_key_file": str(KEY),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={KNOWN_HOSTS} -o StrictHostKeyChecking=accept-new",
    }


def example(certificate: Any) -> dict[str, Any]:
    """The demo's site."""
    return {
        "domain": "www.foobar.com",
        "certificate": certificate,
        "repository": str(PROJECT / ".cache/foobar.git"),
        "push": True,
        "app": {
            "entry": "foobar.wsgi:application",
            "static": "foobar/static",
            "static_command": "python3 foobar/assets.py",
            "migrate_command": "alembic upgrade head",
            "preload": True,  # as in the demo; stock does it for any code
            "secrets": {"SECRET_KEY": "only for the bench, on a container"},
        },
        "database": {"password": "only for the bench, on a container", "scheme": "mysql+pymysql"},
    }


def inventory(sites: int = 1, state: str = "present", *, whole: bool = False, backed_up: bool = False) -> str:
    """The file of an inventory of the measured container.

    It has as many sites, all of the same code; `state` is that of the second. `whole` is with DNS and TLS, `backed_up`
    with a second machine that takes log and backups.
    """
    address = address_of(SITE)
    values = {
        **way_to(address),
        "sites": {
            name: {
                **example(PRIVATE if whole else "none"),
                "state": "present" if name == "foobar" else state,
                "domain": f"{'www' if name == 'foobar' else name}.foobar.com",
            }
            for name in ("foobar", "second")[:sites]
        },
        # As stock nginx, which has no limits, since all load comes from one address.
        "nginx_client_connections": 0,
        "nginx_client_requests": 0,
        "base_firewall_open": [{"port": 8081}],  # where stock listens
        "walk_address": address,
    }
    groups = {group: {"hosts": {SITE: {}}} for group in ("webservers", "appservers", "dbservers")}
    groups["dnsservers"] = {"hosts": {}}
    if whole:
        groups["dnsservers"]["hosts"][SITE] = {}
        values |= {
            "public_address": address,
            "dns_zone": "foobar.com",
            "dns_nameservers": ["ns1.foobar.com"],
            "dns_ask_resolver": False,
            "dns_records": [{"name": "ns1", "type": "A", "values": [address]}],
        }
    if backed_up:
        groups["archives"] = {"hosts": {TARGET: {"ansible_host": address_of(TARGET)}}}
        values |= {
            "archive_hosts": [{"name": "site", "key": KEY.with_suffix(".pub").read_text(encoding="utf-8").strip()}],
            "backup_target": {
                "host": address_of(TARGET),
                "key_file": str(KEY),
                "host_key": " ".join(sh("cat /etc/ssh/ssh_host_ed25519_key.pub", TARGET).split()[:2]),
            },
            "backup_passphrase": "only for the bench, on a container",
        }
    path = BUILD / "bench-inventory.json"
    path.write_text(json.dumps({"all": {"vars": values, "children": groups}}), encoding="utf-8")
    return str(path)


def changes(out: str) -> int:
    """How many tasks of a run changed something, on all hosts."""
    return sum(map(int, re.findall(r"changed=(\d+)", out)))


def must_be_nothing(changed: int) -> None:
    """What is measured as a converge with nothing to change must be one."""
    if changed:
        raise SystemExit(f"bench: a converge with nothing to change changed {changed} things")


def converge(sites: int = 1, state: str = "present", *, whole: bool = False) -> int:
    """Runs site.yml; returns how many tasks changed something."""
    out = sh(f"ansible-playbook --inventory {inventory(sites, state, whole=whole)} site.yml")
    return changes(out)


def load(url: str, connections: int) -> Rate:
    """What so many visitors get of an address, who ask again as soon as they are answered."""
    out = sh(
        f"wrk --threads 1 --connections {connections} --duration {LOAD_SECONDS}s --latency"
        f" --header 'Host: www.foobar.com' --header 'Accept-Encoding: gzip' {url}",
        LOAD,
    )
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    latency = {
        share: float(value) * units[unit] for share, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", out)
    }
    asked = int(re.search(r"(\d+) requests in", out)[1])
    # wrk counts what was answered badly, and apart from it what was not answered.
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", out)))
    unanswered = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", out)))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    return Rate(
        rate * (asked - failed) / asked,
        100 * (failed + unanswered) / (asked + unanswered),
        latency["50"],
        latency["99"],
    )


def medians(taken: Sequence[Any]) -> Any:
    """Of data classes of one kind, such as the rates of some turns: one with the median of each field."""
    kind = type(taken[0])
    return kind(*(statistics.median(getattr(one, field.name) for one in taken) for field in dataclasses.fields(kind)))
