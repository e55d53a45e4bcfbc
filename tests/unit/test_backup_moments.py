"""Which position of the log an operator means."""

from __future__ import annotations

import pytest
from backing import Position, Refused, ledger, moments

LINES = [
    "2026-11-23T10:15:00.000000Z binlog.000002 400 2026-11-23T10:15:00.000500Z",
    "2026-11-23T10:15:01.000000Z binlog.000002 500 2026-11-23T10:15:01.000500Z mark before:r1",
    "2026-11-23T10:15:02.000000Z binlog.000003 4 2026-11-23T10:15:02.000500Z",
]
KNOWN = [ledger.entry(line) for line in LINES]


@pytest.mark.parametrize(
    ("to", "position"),
    [
        ("latest", None),
        ("binlog.000012:4711", Position("binlog.000012", 4711)),
        ("before:r1", Position("binlog.000002", 500)),
        ("2026-11-23 10:15:00.0005Z", Position("binlog.000002", 400)),
        ("2026-11-23 10:15:01 UTC", Position("binlog.000002", 400)),  # as messages tell it
        ("2026-11-23 10:15:01.0004Z", Position("binlog.000002", 400)),  # the server may have been asked after that
        ("2026-11-23T15:45:01.5+05:30", Position("binlog.000002", 500)),
    ],
)
def test_wanted(to: str, position: Position | None) -> None:
    assert moments.wanted(to, KNOWN, None).position == position


def test_after_the_ledger() -> None:
    """Only if the log still ends where the ledger's last line says: nothing was written then."""
    to, last = "2026-11-23 10:20:00Z", Position("binlog.000003", 4)
    assert moments.wanted(to, KNOWN, last).position == last
    for end in (None, Position("binlog.000003", 5)):
        with pytest.raises(Refused, match=r"until 2026-11-23 10:15:02 UTC; you asked for 2026-11-23 10:20:00 UTC"):
            moments.wanted(to, KNOWN, end)


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("2026-11-23 10:14:00Z", r"the ledger begins at 2026-11-23 10:15:00 UTC; you asked for"),
        ("2026-11-23 10:15:00", "does not say its zone: 2026-11-23 10:15:00Z, or"),
        ("2026-13-23", "is no time"),
        ("before:r2", r"is none of: .*the newest are: before:r1"),
        ("yesterday", "is none of"),
    ],
)
def test_refused(to: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        moments.wanted(to, KNOWN, None)


@pytest.mark.parametrize("line", ["20261128T190000Z-4f3a9c", ""])
def test_without_a_ledger(tmp_path, line) -> None:
    (tmp_path / "ledgers").mkdir()  # of a line of before
    with pytest.raises(Refused, match="there is no ledger"):
        moments.wanted("2026-11-23 10:15:00Z", moments.entries(line, tmp_path), None)
