"""A web server more, and it goes again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import host, load, lost, more
from entering import write_inventory
from scenario import INVENTORY, PROJECT, Run, names, playbook, until
from virtual import virtual_address


@pytest.fixture
def fourth() -> Iterator[str]:
    """A bare host in the network of the three."""
    first = names()[0]
    name, network = first.replace("-1-", "-4-"), first.replace("-1-", "-")
    place = [f"--network={network}", f"--ip={virtual_address().ip + 4}"]
    tool = str(PROJECT / "tools/container")
    subprocess.run([tool, "up", name, "trixie", *place], check=True)
    yield name
    subprocess.run([tool, "down", name], check=True)


def site_of(web: list[str]) -> Run:
    """site.yml with these web servers; balancers and database stay on the three."""
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "more/inventory"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "group_vars").exists():
        (folder / "group_vars").symlink_to(INVENTORY / "group_vars")
    addresses = write_inventory(folder / "ways.json", *web)
    docker = {"ansible_connection": "community.docker.docker"}
    groups = {"loadbalancers": names(), "dbservers": names(), "webservers": web, "appservers": web}
    told = {group: {"hosts": dict.fromkeys(hosts, docker)} for group, hosts in groups.items()}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"children": told}}), encoding="utf-8")
    return playbook(name=str(PROJECT / "site.yml"), inventory=folder, niceness=19, addresses=addresses)


def test_a_web_server_more_and_one_less_and_no_visitor_notices(fourth):
    with load() as them:
        more(them, 1)
        try:
            site_of([*names(), fourth]).must_succeed()
            until(lambda: them.answers[fourth] > 100)
            for name in names():
                host(name).check_output(f"webstack-balance drain {fourth}")
        finally:
            site_of(names()).must_succeed()
        answered = them.answers[fourth]
        more(them, 3)
    assert them.answers[fourth] == answered
    assert not them.failures
    assert them.acknowledged and lost(them.acknowledged) == set()
    assert site_of(names()).must_succeed().changed == []
