"""Which snapshots of the log are asked for which of its files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from backing import Refused, minute
from backing import repository as repositories


def repository(*snapshots: tuple[str, str, int, range]) -> Any:
    """Its snapshots, the oldest first: id, line of the log, and which files it says, and which it has."""
    asked: list[str] = []

    def files(wanted: str) -> list[dict[str, Any]]:
        asked.append(wanted)
        has = next(numbers for name, _line, _first, numbers in snapshots if name == wanted)
        return [{"path": f"/var/lib/mysql-binlog/binlog.{n:06d}", "size": 100 + n} for n in has]

    found = [
        repositories.Snapshot(name, f"2026-11-{day:02d}T10:00:00Z", ("log", line, f"first={first}"))
        for day, (name, line, first, _has) in enumerate(snapshots, 1)
    ]
    return SimpleNamespace(name="sftp:x:/y", snapshots=lambda _tag: found, files=files, asked=asked)


def test_the_newest_snapshot_that_has_a_file_is_asked_for_it():
    store = repository(
        ("a", "L", 1, range(1, 4)), ("b", "L", 1, range(1, 5)), ("c", "L", 4, range(4, 7)), ("d", "M", 1, range(1, 9))
    )
    saved = minute.Saved(store)
    assert list(saved.files("L", 5, None)) == ["binlog.000005", "binlog.000006"] and store.asked == ["c"]
    assert sorted(saved.files("L", 2, 5)) == [f"binlog.{n:06d}" for n in (2, 3, 4, 5)]
    assert saved.where == {**{f"binlog.{n:06d}": "c" for n in (4, 5, 6)}, **{f"binlog.{n:06d}": "b" for n in (1, 2, 3)}}
    assert saved.newest("M")["binlog.000008"] == 108


def test_a_snapshot_that_has_less_than_it_says_is_made_up_for_by_those_before_it():
    """The server may remove a file between the two."""
    store = repository(("a", "L", 1, range(1, 4)), ("b", "L", 1, range(2, 5)), ("c", "L", 4, range(4, 7)))
    assert sorted(minute.Saved(store).files("L", 1, None)) == [f"binlog.{n:06d}" for n in range(1, 7)]
    with pytest.raises(Refused, match="has no log of the line N"):
        minute.Saved(store).files("N", 1, None)
