"""A node that stops being the writer: what becomes of the sessions that applications have with its server."""

from __future__ import annotations

import pymysql
import pytest
from loading import load

node = load("roles/mysql/files/mysql_node.py")


class Agent(node.Agent):
    """With a server that answers as it is told here, and notes what it was told."""

    def __init__(self, hangs: bool = False) -> None:
        self.hangs, self.told, self.has_sessions, self.connection = hangs, [], True, None

    def query(self, statement: str, *_values: str) -> list[tuple[int]]:
        self.told.append(statement)
        if self.hangs and "read_only" in statement:
            raise pymysql.OperationalError(1205, "Lock wait timeout exceeded")
        if statement == "KILL CONNECTION 7":
            raise pymysql.OperationalError(1094, "Unknown thread id: 7")
        return [(7,), (8,)] if statement == node.SESSIONS else []


def test_sessions_end_after_the_server_takes_no_writes():
    agent = Agent()
    agent.take_no_writes()
    assert agent.told == ["SET GLOBAL read_only = ON", node.SESSIONS, "KILL CONNECTION 7", "KILL CONNECTION 8"]
    assert not agent.has_sessions


def test_sessions_end_where_a_change_hangs_and_the_next_look_tries_again():
    agent = Agent(hangs=True)
    with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
        agent.take_no_writes()
    assert agent.told[-1] == "KILL CONNECTION 8"
