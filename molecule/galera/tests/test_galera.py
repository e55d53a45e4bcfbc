"""Three nodes of a cluster of MariaDB: who takes writes, and what a run, a fault and an operator may do to them."""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import testinfra
from outage import power_off, power_on
from scenario import Host, names, playbook, until

FILES = "/etc/ssl/cluster"
CURL = f"curl --silent --max-time 5 --cacert {FILES}/authority.pem --cert {FILES}/node.pem --key {FILES}/node.key"


def node(name: str) -> Host:
    return testinfra.get_host(f"docker://{name}")


def sql(name: str, statement: str) -> str:
    return node(name).check_output(f"mariadb --batch --skip-column-names --execute {shlex.quote(statement)}")


def address(name: str) -> str:
    return node(name).check_output("hostname --all-ip-addresses").strip()


def answer(name: str, path: str, of: str = "") -> tuple[int, dict]:
    """What the agent of a node says to another node."""
    where = address(of or name)
    said = node(name).run(f"{CURL} --write-out '\\n%{{http_code}}' https://{where}:3308{path}").stdout
    body, _, code = said.rpartition("\n")
    return int(code or 0), json.loads(body or "{}")


def writers(among: list[str]) -> list[str]:
    return [name for name in among if answer(name, "/writer")[0] == 200]


def writer(among: list[str]) -> str:
    (one,) = writers(among)
    return one


def healthy() -> bool:
    return len(writers(names())) == 1 and all(
        (said := answer(name, "/node"))[0] == 200 and said[1]["size"] == 3 for name in names()
    )


@pytest.fixture(autouse=True)
def all_well() -> None:
    until(healthy, 120)


class Client:
    """Writes numbers through the socket of whichever node takes writes, and knows which were acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.longest = 0.0
        self.over = threading.Event()

    def write(self) -> None:
        number, last = 0, time.monotonic()
        while not self.over.is_set():
            number += 1
            for name in names():
                statement = f"INSERT INTO shop.numbers VALUES ({number})"
                done = node(name).run(f"timeout 3 mariadb --user=app --password=correct-horse-battery -e '{statement}'")
                if done.rc == 0:
                    self.acknowledged.append(number)
                    self.longest, last = max(self.longest, time.monotonic() - last), time.monotonic()
                    break


@contextlib.contextmanager
def writing() -> Iterator[Client]:
    """A client writes as long as the block lasts; afterwards every node has every number that was acknowledged."""
    sql(writer(names()), "CREATE OR REPLACE TABLE shop.numbers (number INT PRIMARY KEY)")
    client = Client()
    with ThreadPoolExecutor() as pool:
        task = pool.submit(client.write)
        try:
            yield client
        finally:
            client.over.set()
        task.result()
    until(healthy, 120)
    for name in names():
        have = {int(line) for line in sql(name, "SELECT number FROM shop.numbers").split()}
        assert set(client.acknowledged) <= have, f"{name} has lost {set(client.acknowledged) - have}"


def test_one_node_takes_writes_and_all_have_them():
    one = writer(names())
    sql(one, "CREATE OR REPLACE TABLE shop.pages (page INT PRIMARY KEY); INSERT INTO shop.pages VALUES (42)")
    app = "mariadb --user=app --password=correct-horse-battery --batch --skip-column-names shop"
    for name in names():
        until(
            lambda name=name: (
                node(name).run(f"{app} -e 'SELECT page FROM pages WHERE page = 42'").stdout.strip() == "42"
            )
        )
        done = node(name).run(f"{app} -e 'INSERT INTO pages VALUES (43)'")
        assert (done.rc == 0) == (name == one), done.stderr
        assert name == one or "read-only" in done.stderr


def test_the_agent_speaks_to_nobody_without_a_certificate():
    name = names()[0]
    assert node(name).run(f"curl --silent --insecure --max-time 5 https://{address(name)}:3308/writer").rc != 0
    assert answer(name, "/other")[0] == 404


def test_nothing_else_than_the_cluster_listens_on_the_network(servers):
    for server in servers:
        lines = server.check_output("ss --no-header --listening --tcp --numeric --processes").splitlines()
        ours = {line.split()[3].rpartition(":")[2] for line in lines if "mariadbd" in line or "python3" in line}
        assert ours == {"4567", "3308"}, lines


@pytest.mark.parametrize("how", ["process", "host"])
def test_a_killed_writer_is_replaced_and_comes_back(how):
    old = writer(names())
    rest = [name for name in names() if name != old]
    with writing() as client:
        until(lambda: len(client.acknowledged) > 5)
        if how == "process":
            node(old).check_output("systemctl kill --signal=KILL mariadb")
        else:
            power_off(node(old))
        try:
            until(lambda: len(writers(rest)) == 1)
            begin = len(client.acknowledged)
            until(lambda: len(client.acknowledged) > begin + 5)
        finally:
            power_on(node(old))
        until(healthy, 120)
        assert writer(names()) != old, "who comes back does not take the writes away"


def test_a_planned_stop_hands_over_first():
    old = writer(names())
    with writing() as client:
        until(lambda: len(client.acknowledged) > 5)
        node(old).check_output("systemctl restart mariadb")
        assert "the writer is " in node(old).check_output("journalctl --unit webstack-writer --lines 20")
        assert writer(names()) != old
        begin = len(client.acknowledged)
        until(lambda: len(client.acknowledged) > begin + 5)


def test_a_second_run_changes_nothing_and_check_mode_either():
    assert playbook("--check").must_succeed().changed == []
