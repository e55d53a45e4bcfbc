"""Which backups the target removes, with a restic that only remembers what it is asked. The scenario `backup` has the real one."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from loading import ROOT

sys.path.insert(0, str(ROOT / "roles/archive/files"))
sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode  # no __pycache__ beside what is copied to hosts
from webstack_archive import thin_out  # noqa: E402

sys.dont_write_bytecode = kept

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def removed(*snapshots: tuple[str, str, float], **manifests: dict[str, str]) -> tuple[str, list[str]]:
    """Of (id, tags, age in days), and manifests by id: what is said, and what is forgotten, in its order."""
    asked: list[str] = []

    def restic(verb: str, *words: str, seconds: float) -> str:
        if verb == "forget":
            asked.extend(words)
        if verb == "dump":
            assert words[2] == f"/place/{words[1]}"
            return json.dumps(manifests[words[1]]) if words[1] in manifests else "not JSON"
        if verb != "snapshots":
            return ""
        return json.dumps(
            [
                {
                    "id": name,
                    "tags": tag.split() or None,
                    "paths": [f"/place/{name}"],
                    "time": f"{NOW - timedelta(days=age):%Y-%m-%dT%H:%M:%S}.123456789Z",
                }
                for name, tag, age in snapshots
            ]
        )

    return thin_out.thin_out(restic, timedelta(days=30), NOW), asked


OLD, NEW = [("d1", "data", 31.1), ("f1", "full", 31), ("d0", "data", 40)], [("d2", "data", 29.6), ("f2", "full", 29.5)]


def test_what_is_older_than_declared_goes_marks_first():
    said, forgotten = removed(*OLD, *NEW, ("d3", "data", 0.1), ("f3", "full", 0.01))
    assert forgotten == ["f1", "d0", "d1"] and said == "1 full backups removed, 2 kept"


def test_data_of_a_full_that_stays_do_too():
    """However long the full took; and with them what has no mark yet."""
    assert removed(("d1", "data", 30.9), ("f1", "full", 29.9), ("d2", "data", 0), ("f2", "full", 0.01))[1] == []
    assert removed(("d1", "data", 0))[1] == []


def test_the_data_that_a_full_names_stay_whatever_their_time():
    """The clock was wrong when they were saved, and right when the mark was; restic 0.14 tells the beginning of an id."""
    f2 = {"data": "d1", "files": "m1"}
    wrong = [("d1" * 9, "data", 900), ("a1" * 9, "files-data", 900), ("m1" * 9, "files data-a1a1", 899)]
    left = [("d0", "data", 900), ("m0", "files data-a0", 900), ("a0", "files-data", 900)]
    assert removed(*wrong, *left, *NEW, f2=f2)[1] == ["a0", "d0", "m0"]
    # Those of a mark that stays for its age do, too.
    assert removed(("a1", "files-data", 900), ("m1", "files data-a1", 1), *NEW)[1] == []
    assert removed(("a1", "files-data", 900), *NEW, f2={"data": "d2", "files": ""})[1] == ["a1"]


def test_a_host_that_takes_none_any_more_keeps_its_own():
    assert removed(("d1", "data", 400), ("f1", "full", 400), ("f0", "full", 420))[1] == []


def test_times_that_a_stolen_host_makes_up():
    """One in the future does not make the others old, and one in the past does not either."""
    assert removed(*NEW, ("f9", "full", -9000))[1] == []
    assert removed(*NEW, ("f0", "full", 9000), ("d0", "", 9000))[1] == ["f0", "d0"]


def test_no_lock_of_a_backup_at_work_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its host is called: restic takes a lock of its own hostname for dead if no process here has its number."""
    monkeypatch.setattr(thin_out, "FOLDER", tmp_path)
    monkeypatch.setattr(thin_out, "ROOT", tmp_path)
    (tmp_path / "keep.json").write_text('{"days": 30}')
    (tmp_path / "passphrases").mkdir()
    (tmp_path / "passphrases/www").touch()
    locks = tmp_path / "www/restic/locks"
    locks.mkdir(parents=True)
    (locks.parent / "config").touch()
    command("restic", f'echo "$@" >> {tmp_path}/asked; echo "[]"')
    alive, dead = locks / "a1", locks / "b2"
    alive.touch()
    dead.touch()
    os.utime(dead, (time.time() - 31 * 60,) * 2)
    assert thin_out.main() == 0
    assert alive.exists() and not dead.exists()
    assert "www: a backup is at work" in capsys.readouterr().out and not (tmp_path / "asked").exists()
    alive.unlink()
    assert thin_out.main() == 0
    assert "www: no full backup yet" in capsys.readouterr().out
    assert "snapshots" in (tmp_path / "asked").read_text() and "unlock" not in (tmp_path / "asked").read_text()
