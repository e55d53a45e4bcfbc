"""Faults other than a host that dies: what visitors meet, and whether the cluster is well again by itself."""

from __future__ import annotations

import contextlib

import pytest
from cluster import FEW, RECOVER, database, holder, host, is_well, load, lost, more, neither, writer
from outage import cut_off, losing, standing_still
from scenario import names, playbook, until
from virtual import virtual_address


def address(name: str) -> str:
    return str(virtual_address().ip + 1 + names().index(name))


def others(name: str) -> list[str]:
    return [other for other in names() if other != name]


def takes_writes(name: str) -> bool:
    return database(name, "SELECT @@GLOBAL.read_only") == "0"


def accepts(name: str) -> bool:
    """Whether the node takes a change, even of root, whom read_only does not keep away."""
    return host(name).run("timeout 5 mariadb --execute 'UPDATE webstack.writer SET id = id'").rc == 0


def move_writer(name: str) -> None:
    database(name, f"UPDATE webstack.writer SET name = '{name}'")
    until(lambda: [other for other in names() if takes_writes(other)] == [name])


def is_one() -> bool:
    """One has the address, and one takes writes, whichever was the only one before."""
    return holder() in names() and [name for name in names() if takes_writes(name)] == [writer()]


def all_are_well(them) -> None:
    """By themselves, with all rows that were acknowledged and with the same ones."""
    for name in names():
        until(lambda name=name: is_well(name), seconds=120)
    until(is_one)
    assert them.acknowledged and lost(them.acknowledged) == set()
    assert len({database(name, "CHECKSUM TABLE ledger.entries") for name in names()}) == 1


def test_two_hosts_do_not_reach_each_other():
    one = holder()
    move_writer(one)
    with load() as them:
        more(them, 3)
        with cut_off(host(one), address(others(one)[0])):
            more(them, 20)
        more(them, 5)
    all_are_well(them)


def test_a_host_reaches_no_other():
    victim = holder()
    move_writer(victim)
    with load() as them:
        more(them, 3)
        with cut_off(host(victim), *map(address, others(victim))):
            # The others take the address at once, and the victim gives it up.
            until(lambda: holder() != victim)
            assert not accepts(victim)
            more(them, 10)
        more(them, 5)
    all_are_well(them)


@pytest.mark.parametrize("unit", ["haproxy", "keepalived", "nginx", "mariadb", "database-proxy", "webstack-writer"])
def test_a_daemon_dies_where_the_visitors_and_the_writes_are(unit):
    victim = holder()
    move_writer(victim)
    with load() as them:
        more(them, 3)
        before = len(them.failures)  # the writer has only just moved, and not as planned
        host(victim).check_output(f"systemctl kill --signal=KILL {unit}")
        more(them, 20)
    all_are_well(them)
    # Nobody else listens where it did, until it has started again.
    assert len(them.failures) - before <= (them.rate // 2 if unit == "haproxy" else FEW)


@pytest.mark.parametrize("which", [holder, neither])
def test_a_host_stands_still_and_goes_on(which):
    victim = which()
    if which is holder:
        move_writer(victim)
    with load() as them:
        more(them, 3)
        with standing_still(host(victim)):
            before = len(them.acknowledged)
            more(them, 20)
            assert len(them.acknowledged) > before + 100
        more(them, 10)
    all_are_well(them)


def test_the_network_loses_each_twentieth_packet():
    with load() as them:
        with contextlib.ExitStack() as stack:
            for name in names():
                stack.enter_context(losing(host(name), percent=5))
            more(them, 30)
        more(them, 5)
    all_are_well(them)


def test_of_three_databases_the_last_takes_no_writes():
    last, *gone = sorted(names(), key=lambda name: name == writer())
    with load() as them:
        more(them, 3)
        try:
            for name in gone:
                host(name).check_output("systemctl kill --signal=KILL mariadb; systemctl stop mariadb")
            until(lambda: not accepts(last))
            until(lambda: takes_no_more(them))
            assert "non-Primary" in host(last).check_output("/usr/local/lib/webstack/mysql-node status")
        finally:
            # It knows that the others are down, as the last one cannot.
            playbook(name=RECOVER, niceness=19).must_succeed()
        before = len(them.acknowledged)
        until(lambda: len(them.acknowledged) > before + 50)
    all_are_well(them)


def takes_no_more(them) -> bool:
    before = len(them.acknowledged)
    more(them, 2)
    return len(them.acknowledged) == before


# By the application's way to the database, opened before the way is reloaded.
KEPT = """
import pymysql, subprocess, sys, time
kept = pymysql.connect(unix_socket="/run/database/writer.sock", user="ledger", password="the database password of the ledger")
subprocess.run(["systemctl", "reload", "database-proxy.service"], check=True)
subprocess.run(["mariadb", "--execute", f"UPDATE webstack.writer SET name = '{sys.argv[1]}'"], check=True)
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    try:
        kept.ping(reconnect=False)
    except pymysql.MySQLError:
        break
    time.sleep(0.2)
else:
    sys.exit("the connection is still there")
"""


def test_no_connection_stays_with_a_node_that_writes_no_more():
    """Those of before a reload are the old process's, which asks no node any more who the writer is."""
    host(names()[0]).check_output("python3 -c %s %s", KEPT, others(writer())[0])
