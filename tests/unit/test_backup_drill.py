"""What `status` says of restores that were tried."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backing import Refused, drill


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "PROVEN", "CHECKED"):
        monkeypatch.setattr(drill, name, tmp_path / name)


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_none_yet_counts_from_the_declaration_on() -> None:
    assert drill.overview() == ([], True)  # nothing is declared
    drill.CONFIG.write_text("{}")
    assert drill.overview() == (["Last proven restore: none yet", "Repository: none yet"], True)
    os.utime(drill.CONFIG, (time.time() - 9 * 86400,) * 2)
    assert not drill.overview()[1]


@pytest.mark.parametrize(("days", "good"), [(7.9, True), (8.1, False)])
def test_one_that_is_too_old(days: float, good: bool) -> None:
    drill.CONFIG.write_text("{}")
    drill.PROVEN.write_text(json.dumps({"time": days_ago(days), "holds": "2 tables", "seconds": 3.5}))
    said, is_good = drill.overview()
    assert "2 tables in 3.5 s" in said[0] and is_good is good
    assert ("journalctl -u webstack-drill.service" in said[0]) is not good


@pytest.mark.parametrize("text", ["no object", '{"id": 1}'])
def test_one_that_ends_with_what_nobody_has_thought_of_is_told(text: str) -> None:
    with drill.noted(drill.PROVEN) as proof:
        proof |= {"holds": "2 tables", "seconds": 3.5}
    with pytest.raises((ValueError, KeyError)), drill.noted(drill.PROVEN):
        json.loads(text)["data"]
    drill.CONFIG.write_text("{}")
    said, good = drill.overview()
    assert "2 tables in 3.5 s; FAILED at" in said[0] and "Error(" in said[0] and not good


def test_one_that_fails_is_told_beside_the_one_that_did_not() -> None:
    drill.CONFIG.write_text("{}")
    with drill.noted(drill.PROVEN) as proof:
        proof |= {"holds": "2 tables", "seconds": 3.5}
    assert drill.overview()[1]
    with pytest.raises(Refused), drill.noted(drill.PROVEN):
        raise Refused("binlog.000003 is missing")
    said, good = drill.overview()
    assert "2 tables in 3.5 s; FAILED at" in said[0] and "binlog.000003 is missing" in said[0] and not good
    with drill.noted(drill.PROVEN) as proof:
        proof |= {"holds": "2 tables", "seconds": 3.5}
    assert drill.overview()[1]
