"""A node of a cluster: when its server may be started or restarted, and how it stops being the writer."""

from __future__ import annotations

import io
import json
import threading
import types

import pymysql
import pytest
from loading import load

node = load("roles/mysql/files/mysql_node.py")
SYNCED = {"status": "Primary", "state": "Synced", "size": 3, "uuid": "8a1c", "writes": False}
GONE = {"error": "timed out"}
PRIMARY = "printf 'wsrep_cluster_status\\tPrimary\\n'"
STOPPED = 'echo "ERROR 2002 (HY000): Can\'t connect" >&2; exit 1'


@pytest.fixture
def cluster(tmp_path, monkeypatch, command):
    """db1 of three nodes. `declare` says which nodes there are to be, `say` what the others answer, `save` what the data say."""

    class Cluster:
        def __init__(self):
            self.answers = {}

        def declare(self, *names, file="staged.json", **addresses):
            nodes = [{"name": name, "address": addresses.get(name, f"10.0.0.{name[-1]}")} for name in names]
            files = dict.fromkeys(("certificate", "key", "authority"), "/none.pem")
            (tmp_path / file).write_text(
                json.dumps({"name": "webstack", "address": "10.0.0.1", "nodes": nodes, **files})
            )

        def say(self, **answers):
            self.answers = {f"10.0.0.{name[-1]}": answer for name, answer in answers.items()}

        def save(self, mark):
            node.STATE.write_text(f"# GALERA saved state\nuuid:    8a1c\nseqno:   7\nsafe_to_bootstrap: {mark}\n")

        def server(self, script, active="exit 3"):
            command("mariadb", script)
            command("systemctl", active)

        def check(self, *words):
            node.check(tmp_path / "staged.json", **dict.fromkeys(words, True))

    (tmp_path / "data").mkdir()
    ours = Cluster()
    for file in ("live.json", "staged.json"):
        ours.declare("db1", "db2", "db3", file=file)
    ours.server(PRIMARY, active="exit 0")
    files = {
        "CONFIGURATION": "live.json",
        "DATA": "data",
        "STATE": "data/grastate.dat",
        "GROW": "grow",
        "OPTIONS": "options",
    }
    for name, file in files.items():
        monkeypatch.setattr(node, name, tmp_path / file)
    monkeypatch.setattr(node.Config.__init__, "__defaults__", (node.CONFIGURATION,))
    monkeypatch.setattr(node, "ask", lambda _config, address: ours.answers.get(address, GONE))
    return ours


class Agent(node.Agent):
    """With a server that answers as it is told here, and notes what it was told."""

    def __init__(self, hangs: int = 0) -> None:
        """`hangs` is how often a change in flight keeps the server from taking no more writes."""
        self.hangs, self.told, self.has_sessions, self.connection, self.leaving = hangs, [], True, None, False

    def query(self, statement: str, *_values: str) -> list[tuple[int]]:
        self.told.append(statement)
        if self.hangs and "read_only" in statement:
            self.hangs -= 1
            raise pymysql.OperationalError(1205, "Lock wait timeout exceeded")
        return [(7,), (8,)] if statement == node.SESSIONS else []


def test_sessions_end_after_the_server_takes_no_writes():
    agent = Agent()
    agent.take_no_writes()
    assert agent.told == ["SET GLOBAL read_only = ON", node.END.format(node.SESSIONS)]
    assert not agent.has_sessions


def test_sessions_end_where_a_change_hangs_and_the_next_look_tries_again():
    agent = Agent(hangs=1)
    with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
        agent.take_no_writes()
    assert agent.told[-1] == node.END.format(node.SESSIONS)


# What takes the writes next


@pytest.fixture
def writer(cluster, monkeypatch):
    """The agent of db1, which takes the writes and is told to stop; db2 can take them."""
    monkeypatch.setattr(node, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(node, "NOTICE_SECONDS", 0.01)
    monkeypatch.setattr(node, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(node, "PAUSE_SECONDS", 0.01)
    agent = Agent()
    agent.config, agent.stopping = node.Config(), threading.Event()
    agent.state, agent.looked_at = {"writes": True, "members": ["db1", "db2"]}, node.time.monotonic()
    agent.stopping.set()
    cluster.say(db2={**SYNCED, "writes": True})
    return agent


@pytest.mark.parametrize("hangs", [0, 2])
def test_the_writes_are_handed_over_also_where_a_change_takes_long(writer, hangs, capsys):
    writer.hangs = hangs
    writer.run()
    assert writer.told.count("SET GLOBAL read_only = ON") == hangs + 1
    assert writer.told[-1].startswith("UPDATE webstack.writer") and not writer.state["writes"]
    assert "the writer is db2 from now on" in capsys.readouterr().out


def test_sessions_that_rest_end_while_their_server_still_takes_writes(writer):
    writer.run()
    resting, all_others = (writer.told.index(node.END.format(which)) for which in (node.IDLE, node.SESSIONS))
    assert resting < writer.told.index("SET GLOBAL read_only = ON") < all_others, "one at work has until then to finish"
    assert writer.leaving


@pytest.mark.parametrize(("writes", "leaving", "code"), [(True, False, 200), (True, True, 404), (False, True, 503)])
def test_a_proxy_is_told_to_send_nobody_else_to_a_writer_that_hands_over(writer, monkeypatch, writes, leaving, code):
    writer.state["writes"], writer.leaving = writes, leaving
    told = []
    handler = node.Handler.__new__(node.Handler)
    handler.path, handler.wfile, handler.server = "/writer", io.BytesIO(), types.SimpleNamespace(agent=writer)
    monkeypatch.setattr(node.Handler, "send_response", lambda _self, code: told.append(code))
    monkeypatch.setattr(node.Handler, "send_header", lambda *_words: None)
    monkeypatch.setattr(node.Handler, "end_headers", lambda *_words: None)
    handler.do_GET()
    assert told == [code]


def test_a_node_that_is_gone_is_not_asked_whether_it_can_be_the_writer(writer, monkeypatch):
    asked = []
    monkeypatch.setattr(node, "ask", lambda _config, address: asked.append(address) or {**SYNCED, "writes": True})
    writer.state["members"] = ["db1", "db3"]
    writer.run()
    assert set(asked) == {writer.config.others["db3"]}


def test_a_server_that_says_nothing_of_its_sessions_hands_over_all_the_same(writer, monkeypatch):
    monkeypatch.setattr(node, "SESSIONS", "of which read_only would be said")
    writer.hangs = 2
    writer.run()
    assert writer.told[-1].startswith("UPDATE webstack.writer")


def test_a_hand_over_that_never_succeeds_is_told(writer, monkeypatch):
    monkeypatch.setattr(node, "HAND_OVER_SECONDS", 0.05)
    writer.hangs = 1000
    with pytest.raises(SystemExit, match=r"db2 was not made the writer: .*Lock wait timeout"):
        writer.run()
    assert not [statement for statement in writer.told if statement.startswith("UPDATE")]


def test_a_stop_that_meets_a_look_hands_over_all_the_same(writer, monkeypatch):
    state = {"state": "Synced", "writes": False}
    monkeypatch.setattr(writer, "query", lambda *_statement: [("db1", "2026-11-29 12:41:00", 0, '["db1", "db2"]')])
    writer.elect(state)
    assert state["writes"], "run hands over what the last look has found"


def test_which_other_node_takes_the_writes_is_said(cluster, capsys):
    cluster.say(db2=SYNCED, db3={**SYNCED, "writes": True})
    node.writer()
    assert capsys.readouterr().out == "db3\n"
    cluster.say(db2=SYNCED)
    with pytest.raises(SystemExit, match=r"(?s)No other node takes writes:.*db2 .*Synced.*db3 .*does not answer"):
        node.writer()


# The start of the server


def test_a_node_that_runs_restarts_while_all_others_have_all_data(cluster):
    cluster.save(0)
    cluster.say(db2=SYNCED, db3=SYNCED)
    cluster.check()
    cluster.say(db2=SYNCED, db3={**SYNCED, "state": "Joined"})
    with pytest.raises(SystemExit, match=r"not every other node has all data:(?s:.*)db3 .*Joined"):
        cluster.check()


def test_a_word_lets_a_node_restart_while_another_one_carries_the_site_and_never_the_last(cluster):
    cluster.save(0)
    cluster.say(db2=SYNCED)
    with pytest.raises(SystemExit, match="-e mysql_cluster_incomplete=true"):
        cluster.check()
    cluster.check("incomplete")
    cluster.say()
    with pytest.raises(SystemExit, match="no other node has all data"):
        cluster.check("incomplete")


@pytest.mark.parametrize("names", [("db1", "db2", "db3", "db4", "db5"), ("db1", "db2", "db4")])
def test_no_node_waits_for_one_that_is_added(cluster, names):
    cluster.save(0)
    cluster.declare(*names)
    cluster.say(db2=SYNCED, db3=SYNCED)
    cluster.check()
    cluster.say(db3=SYNCED)
    with pytest.raises(SystemExit, match="other node has all data"):
        cluster.check()


def test_the_one_that_is_added_joins_the_others(cluster):
    node.CONFIGURATION.unlink()
    cluster.server(STOPPED)
    cluster.say(db2=SYNCED, db3=SYNCED)
    cluster.check()


def test_a_new_host_under_the_address_of_a_lost_one_holds_nobody_up(cluster):
    cluster.save(0)
    cluster.declare("db1", "db2", "db4", db4="10.0.0.3")
    cluster.say(db2=SYNCED)
    cluster.check()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'ERROR 1040 (HY000): Too many connections' >&2; exit 1", "ERROR 1040 .*: Too many connections"),
        ("exit 5", "exit code 5 of mariadb"),
        ("exec sleep 20", "no answer within 0.2 s"),
    ],
)
def test_a_server_that_runs_and_does_not_answer_is_not_taken_for_one_that_is_down(cluster, monkeypatch, script, words):
    monkeypatch.setattr(node, "CLIENT_SECONDS", 0.2)
    cluster.server(script, active='[ "$*" = "is-active --quiet mariadb.service" ]')
    cluster.save(0)
    cluster.say(db2=SYNCED)
    for question in (node.runs_here, cluster.check):
        with pytest.raises(SystemExit, match=f"mariadb.service runs, and does not say .*: {words}"):
            question()
    cluster.server(STOPPED)
    assert not node.runs_here()


@pytest.mark.parametrize(
    ("mark", "server", "words", "begins"),
    [
        (None, STOPPED, ["grow"], True),
        (1, STOPPED, ["grow", "alone"], True),  # it was stopped after a run that was cut off
        (1, PRIMARY, ["grow", "alone"], True),  # it runs, and may need a restart
        (1, STOPPED, ["grow"], False),  # another host has data of a cluster
        (1, STOPPED, [], False),
        (0, STOPPED, ["grow", "alone"], False),  # it did not stop in an orderly way: recover.yml
    ],
)
def test_a_first_node_without_others_begins_again(cluster, mark, server, words, begins):
    if mark is not None:
        cluster.save(mark)
    cluster.server(server)
    if not begins:
        with pytest.raises(SystemExit, match="this role never begins one"):
            cluster.check(*words)
        return
    cluster.check(*words)
    if mark == 1 and server == STOPPED:
        node.before()
        assert "--wsrep-new-cluster" in node.OPTIONS.read_text()
        assert not node.GROW.exists()
    else:
        assert node.GROW.exists()


def test_a_cluster_that_runs_is_joined_also_by_the_first_of_its_hosts(cluster):
    cluster.save(1)
    cluster.server(STOPPED)
    cluster.say(db2=SYNCED)
    cluster.check("grow", "alone")
    assert not node.GROW.exists()
