"""What `status` says of full backups."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from backing import full


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "CONFIG", tmp_path / "config.json")
    monkeypatch.setattr(full, "LAST", tmp_path / "last.json")


def taken(hours: float) -> None:
    copied = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    full.LAST.write_text(json.dumps({"copied": copied, "position": "binlog.000002:4", "holds": "1 databases"}))


def test_a_new_one_and_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    taken(3)
    (said,), good = full.overview()
    assert "config.json is missing" in said and not good  # the repository cannot be asked
    monkeypatch.setattr(full, "missing", lambda _last: "")
    assert full.overview() == (["Full backups: the newest is 3 h old (binlog.000002:4: 1 databases)"], True)
    taken(27)
    (said,), good = full.overview()
    assert "27 h old" in said and "webstack-backup.service says why" in said and not good


@pytest.mark.parametrize(
    ("noted", "words"),
    [
        ({"snapshot": "2d0e2c16", "line": "", "log_folder": "/nowhere"}, ""),
        ({"snapshot": "ffffffff", "line": "", "log_folder": "/nowhere"}, "does not have it"),
        ({"snapshot": "2d0e2c16", "line": "20261128T190000Z-4f3a9c", "log_folder": "/nowhere"}, "begun another log"),
        ({}, ""),  # as an earlier version has noted it
    ],
)
def test_a_full_counts_where_the_repository_has_it_and_the_log_goes_on(
    noted: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SimpleNamespace(name="the repository", snapshots=lambda _tag, **_: [SimpleNamespace(id="2d0e2c16344d")])
    monkeypatch.setattr(full, "FOLDER", tmp_path)
    monkeypatch.setattr(full, "repository", lambda: there)
    found = full.missing(noted)
    assert words in found and bool(words) == bool(found)


def test_none_yet() -> None:
    assert full.overview() == ([], True)  # nothing is declared
    full.CONFIG.write_text("{}")
    assert full.overview() == (["Full backups: none yet"], True)
    os.utime(full.CONFIG, (time.time() - 27 * 3600,) * 2)
    assert not full.overview()[1]


def test_the_line_goes_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "FOLDER", tmp_path)
    log = tmp_path / "log"
    log.mkdir()
    assert full.line(log) == ""
    (tmp_path / "line").write_text("20261128T190000Z-4f3a9c\n")
    assert full.line(log) == "20261128T190000Z-4f3a9c"
    (log / "line").write_text("20261128T190001Z-4f3a9c\n")
    assert full.line(log) == "20261128T190001Z-4f3a9c"


def test_the_size_of_a_data_folder_is_without_its_log(tmp_path: Path) -> None:
    (tmp_path / "t.ibd").write_bytes(b"x" * 9000)
    (tmp_path / "binlog.000001").write_bytes(b"x" * 90000)
    assert 9000 <= full.size(tmp_path, "binlog") < 90000 < full.size(tmp_path)
