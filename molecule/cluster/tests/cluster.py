"""What the tests of the cluster ask, and who visits it."""

from __future__ import annotations

import shlex

import testinfra
from scenario import PROJECT, Host, names, until
from virtual import virtual_address
from visitors import Visitors, visitors

SITE = "www.ledger.example"
ADDRESS = str(virtual_address().ip)
RECOVER = str(PROJECT / "playbooks/recover.yml")
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


def neither() -> str:
    """A host that has neither the address nor the writer."""
    return next(name for name in names() if name not in (holder(), writer()))


def is_well(name: str) -> bool:
    """Whether a host's load balancer gives visitors to all, and its database has all data."""
    node = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_local_state_comment', 'wsrep_cluster_size')"
    return (
        sorted(database(name, node).split()) == ["3", "Synced", "wsrep_cluster_size", "wsrep_local_state_comment"]
        and host(name).run("webstack-balance status").rc == 0
    )


def written(name: str) -> set[int]:
    return {int(number) for number in database(name, "SELECT number FROM ledger.entries").split()}


def lost(acknowledged: list[int]) -> set[int]:
    """What was acknowledged, and is not on every host."""
    return set(acknowledged) - set.intersection(*(written(name) for name in names()))


def load():
    """Visitors who leave numbers that nobody has left before."""
    return visitors(ADDRESS, SITE, begin=next(BEGINNINGS))


def more(them: Visitors, seconds: int) -> None:
    """Waits for as many visitors as come in the time."""
    wanted = them.asked + seconds * them.rate
    until(lambda: them.asked > wanted, seconds=10 * seconds + 60)
