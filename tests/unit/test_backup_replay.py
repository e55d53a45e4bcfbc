"""What is said of a replay that stopped: why, and nothing of what is in the log."""

from __future__ import annotations

import pytest
from backing import replay

# As MariaDB 10.11 printed it.
SAID = """\
--------------
BINLOG '
R6ELaxMyiBvkMAAAAEcDAAAAABkAAAAAAAEABGVycnMAAXQAAg/8A2gBBAKTYhbc
R6ELaxcyiBvkMwAAAHoDAAAAABkAAAAAAAEAAgP8CgBzZWNyZXQtcm93AQAAAHjeKK4M
'
--------------

ERROR 1062 (23000) at line 62: Duplicate entry 'secret-row' for key 'PRIMARY'
"""


def test_the_cause_alone_is_told() -> None:
    assert replay.in_public(SAID.splitlines()) == [
        "ERROR 1062 (23000) at line 62: Duplicate entry '…' for key 'PRIMARY'"
    ]
    statement = "--------------\nCREATE USER q@localhost IDENTIFIED BY 'Secret' bad\n--------------"
    assert replay.in_public(statement.splitlines()) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Duplicate entry 'it''s for key' for key 't.PRIMARY'", "Duplicate entry '…' for key 't.PRIMARY'"),
        (
            "Incorrect integer value: 'secret' for column 'a' at row 1",
            "Incorrect integer value: '…' for column 'a' at row 1",
        ),
        ("the right syntax to use near 'secret' at line 2", "the right syntax to use near '…' at line 2"),
        ("the right syntax to use near 'secret", "the right syntax to use near '…'"),  # the rest is on other lines
        ("Table 'app.orders' doesn't exist", "Table 'app.orders' doesn't exist"),
    ],
)
def test_values_are_not_told(said: str, told: str) -> None:
    assert replay.in_public([f"ERROR 1234 (42000) at line 7: {said}"]) == [f"ERROR 1234 (42000) at line 7: {told}"]
