"""What wiring.yml computes of what the inventory says: each case is a host, and one run asks for all."""

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
MEDIA = {"app_server_shared": ["media", "private"]}
# name: (the groups of the host, what its inventory says)
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    **{f"http3-{given!r}": (("webservers",), {"nginx_http3": given}) for given in ("false", "no", False, "true", True)},
    "dns": (("dnsservers",), {"dns_publish": "authoritative"}),
    "dns-elsewhere": (("dnsservers",), {"dns_publish": "update"}),
    "plain": (("webservers",), {}),
    "slow": (("webservers",), {"app_server_request_seconds": 120}),
    "slow-but": (("webservers",), {"app_server_request_seconds": 120, "nginx_answer_seconds": 5}),
    "shared": (("webservers",), MEDIA),
    "shared-said": (("webservers",), {**MEDIA, "site_shared_published": ["media"]}),
}
ASKED = ("base_firewall_open", "nginx_sites", "app_server_shared_published")


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The values of ASKED, by case."""
    work = tmp_path_factory.mktemp("wired")
    content = "{{ {" + ", ".join(f"'{name}': {name}" for name in ASKED) + "} | to_json }}"
    copy = {"content": content, "dest": f"{work}/{{{{ inventory_hostname }}}}.json", "mode": "0600"}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [str(ROOT / "wiring.yml")],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    (work / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    groups: dict[str, Any] = {}
    for case, (names, inventory) in CASES.items():
        for name in names:
            variables = {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                **SITE,
                **inventory,
            }
            groups.setdefault(name, {"hosts": {}})["hosts"][case] = variables
    (work / "inventory.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
    argv = [Path(sys.executable).with_name("ansible-playbook"), "-i", work / "inventory.yml", work / "play.yml"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {case: yaml.safe_load((work / f"{case}.json").read_text(encoding="utf-8")) for case in CASES}


@pytest.mark.parametrize(
    ("given", "opened"), [("false", False), ("no", False), (False, False), ("true", True), (True, True)]
)
def test_the_firewall_opens_http_3_where_it_is_spoken(wired, given, opened):
    ports = wired[f"http3-{given!r}"]["base_firewall_open"]
    assert ({"port": 443, "protocol": "udp"} in ports) == opened


@pytest.mark.parametrize(("case", "opened"), [("dns", True), ("dns-elsewhere", False)])
def test_the_firewall_opens_the_port_of_names_where_they_are_served(wired, case, opened):
    assert ({"port": 53} in wired[case]["base_firewall_open"]) == opened


@pytest.mark.parametrize(("case", "timeouts"), [("plain", {}), ("slow", {"read": 120}), ("slow-but", {})])
def test_nginx_waits_as_long_as_the_application_may_take(wired, case, timeouts):
    assert wired[case]["nginx_sites"][0]["timeouts"] == timeouts


@pytest.mark.parametrize(("case", "published"), [("shared", []), ("shared-said", ["media"])])
def test_shared_folders_are_published_where_somebody_says_so(wired, case, published):
    assert wired[case]["app_server_shared_published"] == published
