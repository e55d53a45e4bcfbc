"""What wiring.yml computes of what the inventory says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from loading import ROOT

SITE = {
    "site_name": "shop", "site_domain": "www.example.com", "site_aliases": [], "site_redirects": [], "site_certificate": "private",
}  # fmt: skip


def wired(tmp_path: Path, name: str, groups: tuple[str, ...] = ("webservers",), **inventory: Any) -> Any:
    """The value of one variable of wiring.yml, for a host of these groups."""
    out = tmp_path / "out"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROOT / "wiring.yml")],
        "tasks": [
            {"ansible.builtin.copy": {"content": f"{{{{ {name} | to_yaml }}}}", "dest": str(out), "mode": "0600"}},
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    (tmp_path / "inventory.yml").write_text(
        yaml.safe_dump(
            {group: {"hosts": {"localhost": {"ansible_connection": "local", **SITE, **inventory}}} for group in groups}
        ),
        encoding="utf-8",
    )
    argv = [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "inventory.yml", tmp_path / "play.yml"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return yaml.safe_load(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("given", "opened"), [("false", False), ("no", False), (False, False), ("true", True), (True, True)]
)
def test_the_firewall_opens_http_3_where_it_is_spoken(tmp_path, given, opened):
    ports = wired(tmp_path, "base_firewall_open", nginx_http3=given)
    assert ({"port": 443, "protocol": "udp"} in ports) == opened


@pytest.mark.parametrize(("publish", "opened"), [("authoritative", True), ("update", False)])
def test_the_firewall_opens_the_port_of_names_where_they_are_served(tmp_path, publish, opened):
    ports = wired(tmp_path, "base_firewall_open", groups=("dnsservers",), dns_publish=publish)
    assert ({"port": 53} in ports) == opened


@pytest.mark.parametrize(
    ("inventory", "timeouts"),
    [
        ({}, {}),
        ({"app_server_request_seconds": 120}, {"read": 120}),
        ({"app_server_request_seconds": 120, "nginx_answer_seconds": 5}, {}),
    ],
)
def test_nginx_waits_as_long_as_the_application_may_take(tmp_path, inventory, timeouts):
    assert wired(tmp_path, "nginx_sites", **inventory)[0]["timeouts"] == timeouts
