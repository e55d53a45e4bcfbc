"""What the parts of the benchmark share: containers, an inventory of the one that is measured, a converge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BUILD = PROJECT / "build"
PREFIX = f"bench-{os.environ.get('WEBSTACK_ID', 'local')}"
SITE, FLOOR, LOAD = (f"{PREFIX}-{name}" for name in ("site", "floor", "load"))


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


def inventory(sites: int = 1, state: str = "present") -> str:
    """The file of an inventory of the measured container, with as many sites, all of the same code; `state` is that of the second."""
    values = {
        "ansible_connection": "community.docker.docker",
        "ansible_become": False,
        "sites": {
            name: {
                "state": "present" if name == "foobar" else state,
                "domain": f"{'www' if name == 'foobar' else name}.foobar.com",
                # As stock nginx, and with its lack of limits, since all load comes from one address.
                "certificate": "none",
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
            for name in ("foobar", "second")[:sites]
        },
        "nginx_client_connections": 0,
        "nginx_client_requests": 0,
        "base_firewall_open": [{"port": 8081}],  # where stock listens
        "walk_address": sh("hostname -I", SITE).split()[0],
    }
    groups = {group: {"hosts": {SITE: {}}} for group in ("webservers", "appservers", "dbservers")}
    groups["dnsservers"] = {"hosts": {}}
    path = BUILD / "bench-inventory.json"
    path.write_text(json.dumps({"all": {"vars": values, "children": groups}}), encoding="utf-8")
    return str(path)


def converge(sites: int = 1, state: str = "present") -> int:
    """Runs site.yml; returns how many tasks changed something."""
    out = sh(f"ansible-playbook --inventory {inventory(sites, state)} site.yml")
    return int(re.search(r"changed=(\d+)", out)[1])
