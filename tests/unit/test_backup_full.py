"""What `status` says of full backups."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from backing import drill, files, full, noted, repository, state


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
    taken(28)
    (said,), good = full.overview()
    assert "28 h old" in said and "webstack-backup.service says why" in said and not good


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
    there = SimpleNamespace(
        name="the repository",
        snapshots=lambda _tag, **_: [repository.Snapshot("2d0e2c16344d", "2026-11-28T03:00:00Z", ())],
    )
    monkeypatch.setattr(full, "FOLDER", tmp_path)
    monkeypatch.setattr(full, "repository", lambda: there)
    found = full.missing(noted)
    assert words in found and bool(words) == bool(found)


@pytest.mark.parametrize(
    ("since", "now", "schedule", "late"),
    [
        ("2026-11-23 03:20", "2026-11-24 04:59", "*-*-* 03:00", False),
        ("2026-11-23 03:20", "2026-11-24 05:01", "*-*-* 03:00", True),
        ("2026-11-23 02:10", "2026-11-23 09:00", "*-*-* 03:00", False),  # by hand, shortly before
        ("2026-11-23 03:20", "2026-11-30 04:59", "Mon *-*-* 03:00", False),
        ("2026-11-23 03:20", "2026-11-30 05:01", "Mon *-*-* 03:00", True),
        ("2026-11-23 03:20", "2026-11-23 07:01", "hourly", True),
        ("2026-11-23 02:20", "2026-11-24 03:59", "*-*-* 03:00 Europe/Berlin", False),
        ("2026-11-23 02:20", "2026-11-24 04:01", "*-*-* 03:00 Europe/Berlin", True),
        ("2026-11-23 03:20", "2026-11-23 03:30", "2020-01-01", True),  # which never comes again
    ],
)
def test_late_is_what_has_missed_its_turn(
    since: str, now: str, schedule: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.fromisoformat(f"{now}+00:00")

    monkeypatch.setattr(noted, "datetime", Then)
    assert noted.is_late(datetime.fromisoformat(f"{since}+00:00"), schedule) is late


def test_one_a_week_is_declared_and_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "missing", lambda _last: "")
    taken(3 * 24)
    full.CONFIG.write_text(json.dumps({"schedule": f"{datetime.now(UTC) - timedelta(days=5):%a} *-*-* 03:00"}))
    assert full.overview()[1]
    full.CONFIG.write_text(json.dumps({"schedule": "*-*-* 03:00"}))
    assert not full.overview()[1]


def test_none_yet() -> None:
    assert full.overview() == ([], True)  # nothing is declared
    full.CONFIG.write_text("{}")
    assert full.overview() == (["Full backups: none yet"], True)
    os.utime(full.CONFIG, (time.time() - 28 * 3600,) * 2)
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


def test_a_time_to_come_is_not_new(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The clock was ahead when it was noted: that would look new for years."""
    monkeypatch.setattr(full, "missing", lambda _last: "")
    taken(-9000)
    (said,), good = full.overview()
    assert "is to come: is the clock right?" in said and not good
    ahead = "2131-01-01T03:10:00.000000Z"
    path = tmp_path / "noted.json"
    path.write_text(json.dumps({"time": ahead, "begun": ahead, "part": 1, "files": 1, "folders": ["/srv"]}))
    monkeypatch.setattr(files, "LAST", path)
    assert not files.overview(["/srv"])[1]
    assert not drill._said(path, 2, "Repository", "webstack-backup-check", lambda _last: "")[1]
    assert state.overview({"time": ahead}) == (
        ["Shipping: no sign of webstack-binlog.service since 2131-01-01 03:10:00 UTC; its journal says why"], False,
    )  # fmt: skip


def test_beside_one_of_a_time_to_come_no_old_ones_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By restic's rules, all that are of now would be old."""
    full.CONFIG.write_text(json.dumps({"keep": {"within": "30d"}}))
    there = [repository.Snapshot(f"{n}" * 16, f"{year}-01-01T00:00:00Z", ()) for n, year in ((1, 2026), (2, 2131))]
    store = SimpleNamespace(
        name="/backups", local=Path("/backups"), snapshots=lambda tag, **_: there if tag == "full" else []
    )
    (said,) = full.thin_out(store)
    assert "/backups, the first of 2131-01-01T00:00" in said and said.endswith("restic forget 22222222")
    monkeypatch.setattr(full, "repository", lambda: store)
    assert full.missing({"snapshot": "1111"}) == said
