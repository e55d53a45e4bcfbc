"""Three equal hosts: what visitors meet, and what becomes of what they left, when one of them fails in whatever way."""

from __future__ import annotations

import shlex

import pytest
import testinfra
from outage import power_off, power_on
from scenario import PROJECT, Host, names, playbook, until
from virtual import virtual_address
from visitors import visitors

SITE = "www.ledger.example"
ADDRESS = str(virtual_address().ip)
ASKED = 12_000
FEW = ASKED // 1000  # 0.1 % may fail when a host dies: those that it was answering
BEGINNINGS = iter(range(10**6, 10**9, 10**6))


def host(name: str) -> Host:
    return testinfra.get_host(f"docker://{name}")


def database(name: str, statement: str) -> str:
    return host(name).check_output(f"mariadb --batch --skip-column-names --execute {shlex.quote(statement)}")


def writer() -> str:
    """The node that takes writes, as all see it."""
    said = {database(name, "SELECT name FROM webstack.writer") for name in names()}
    assert len(said) == 1, said
    return said.pop()


def holder() -> str:
    """The host that has the virtual address."""
    (name,) = (name for name in names() if f" {ADDRESS}/" in host(name).run("ip -oneline address show").stdout)
    return name


def is_well(name: str) -> bool:
    """Whether a host's load balancer gives visitors to all, and its database has all data."""
    node = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_state_comment', 'wsrep_cluster_size')"
    return (
        sorted(database(name, node).split()) == ["3", "Synced", "wsrep_cluster_size", "wsrep_local_state_comment"]
        and host(name).run("webstack-balance status").rc == 0
    )


@pytest.fixture(autouse=True)
def all_well() -> None:
    for name in names():
        until(lambda name=name: is_well(name), seconds=120)
    until(lambda: holder() in names() and writer() in names())


def written(name: str) -> set[int]:
    return {int(number) for number in database(name, "SELECT number FROM ledger.entries").split()}


def lost(acknowledged: list[int]) -> set[int]:
    """What was acknowledged, and is not on every host."""
    return set(acknowledged) - set.intersection(*(written(name) for name in names()))


def load():
    """Visitors who leave numbers that nobody has left before."""
    return visitors(ADDRESS, SITE, begin=next(BEGINNINGS))


def neither() -> str:
    """A host that has neither the address nor the writer, if there is one; else one without the address."""
    rest = [name for name in names() if name != holder()]
    return next((name for name in rest if name != writer()), rest[0])


@pytest.mark.parametrize("which", [holder, writer, neither])
def test_a_host_dies_and_comes_back(which):
    victim = which()
    try:
        with load() as them:
            until(lambda: them.asked > 500)
            power_off(host(victim))
            until(lambda: them.asked > ASKED // 2, seconds=180)
            power_on(host(victim))
            until(lambda: them.asked > ASKED, seconds=180)
    finally:
        power_on(host(victim))
    until(lambda: is_well(victim), seconds=120)
    assert lost(them.acknowledged) == set()
    assert len(them.failures) <= FEW


RECOVER = str(PROJECT / "playbooks/recover.yml")


@pytest.mark.parametrize(
    "how", ["systemctl stop mariadb", "systemctl kill --signal=KILL mariadb; systemctl stop mariadb"]
)
def test_a_cluster_of_which_no_node_is_left_begins_again_with_the_newest_data(how):
    playbook(name=RECOVER).must_be_refused("there is nothing to recover")
    with load() as them:
        until(lambda: len(them.acknowledged) > 50)
        for name in names():
            host(name).check_output(how)
    run = playbook(name=RECOVER).must_succeed()
    assert "The cluster has the data of " in run.output
    for name in names():
        until(lambda name=name: is_well(name), seconds=120)
    assert them.acknowledged and lost(them.acknowledged) == set()


def test_no_second_cluster_begins_where_the_first_host_has_lost_its_data():
    first = host(names()[0])
    first.check_output("systemctl stop mariadb && mv /var/lib/mysql/grastate.dat /root/")
    try:
        playbook(name=str(PROJECT / "playbooks/grow.yml")).must_be_refused(
            "the first of dbservers, has no data of one", "It joins by site.yml"
        )
    finally:
        first.check_output("mv /root/grastate.dat /var/lib/mysql/ && systemctl start mariadb")
