"""Folders beside the database: which save belongs to a moment, and how files come back to their places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from backing import Refused, files, placing, repository
from loading import ROOT
from webstack_backup.basics import now

FULL = {"copied": "2026-11-23T03:00:10.000000Z", "files": "1111"}


class Store:
    """A repository with saves that ended at these times; each has the id of its number."""

    def __init__(self, *times: str) -> None:
        self.times = times

    def snapshots(self, tag: str) -> list[repository.Snapshot]:
        assert tag == repository.FILES
        return [
            repository.Snapshot(str(n) * 4, time, (tag, f"data-{n}"), f"/place/{n}.json")
            for n, time in enumerate(self.times)
        ]

    def read(self, snapshot: str, path: Path) -> str:
        assert path == Path(f"/place/{snapshot[0]}.json")
        return json.dumps(
            {
                "begun": f"{datetime.fromisoformat(self.times[int(snapshot[0])]).astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000000Z",
                "bytes": 3,
            }
        )


STORE = Store("2026-11-23T02:00:00.5Z", "2026-11-23T03:00:12.5Z", "2026-11-23T05:00:00.5+01:00")


@pytest.mark.parametrize(
    ("at", "data", "said"),
    [
        ("2026-11-23T03:30:00.000000Z", "1", "1,788 s before that moment"),
        ("2026-11-23T03:00:12.400000Z", "0", "3,612 s before that moment"),  # it may have what came after the moment
        ("2026-11-23T04:00:01.000000Z", "2", "before that moment"),
        (files.AT_FULL, "1", "2 s after that moment"),
        (files.LATEST, "2", " s ago"),
    ],
)
def test_what_was_saved_last_before_a_moment(at: str, data: str, said: str) -> None:
    found, words = files.chosen(STORE, at, FULL, ["/srv/shop/shared"])
    assert found and found.data == data and said in str(found) and words == []


def test_nothing_was_saved_by_then() -> None:
    found, words = files.chosen(STORE, "2026-11-23T01:00:00.000000Z", FULL, [])
    assert not found and words == ["no files had been saved by then; the oldest are of 2026-11-23 02:00:00 UTC"]
    assert files.chosen(STORE, files.LATEST, {"copied": ""}, []) == (None, [])  # a host without any
    assert files.chosen(Store(), files.LATEST, {"copied": ""}, ["/srv"]) == (None, ["no files had been saved by then"])


def test_a_folder_that_was_there_and_is_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LAST", tmp_path / "files.json")
    folder = tmp_path / "media"
    assert files.there([str(folder)]) == {}  # such as before the first deploy
    folder.mkdir()
    here = files.there([str(folder)])
    files.LAST.write_text(json.dumps({"folders": here}))
    assert files.there([str(folder)]) == here  # emptied by its application
    files.LAST.write_text(json.dumps({"folders": {str(folder): here[str(folder)] + 1}}))
    with pytest.raises(Refused, match="is empty now: is its disk mounted"):
        files.there([str(folder)])
    folder.rmdir()
    with pytest.raises(Refused, match="is gone now: is its disk mounted"):
        files.there([str(folder)])


def test_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of folders that are declared; a save that failed is an alarm, and so is none for more than a day."""
    monkeypatch.setattr(files, "LAST", tmp_path / "files.json")
    last = {"files": 1234, "folders": {"/srv": 1}, "begun": "2026-11-23T03:00:00.000000Z"}
    for noted, words, good in (
        (last | {"time": now(-3600)}, "Files: 1,234 of 1 folders, saved at 2026-11-23 03:00:00 UTC", True),
        (last | {"time": now(-27 * 3600)}, "journalctl -u webstack-backup-files.service", False),
        (last | {"time": now(), "fault": "no space", "tried": now()}, "UTC; FAILED at 20", False),
        ({"fault": "no space", "tried": now()}, "Files: none are saved yet; FAILED at 20", False),
        ({}, "Files: none are saved yet", True),
    ):
        files.LAST.write_text(json.dumps(noted))
        (said,), right = files.overview(["/srv"])
        assert words in said and right == good
    assert files.overview([]) == ([], True)


def test_what_restic_could_not_read(tmp_path: Path) -> None:
    """Is a fault if it is there, and none if it was removed meanwhile."""
    told = '{"message_type":"error","error":{"Op":"lstat","Path":"z","Err":2},"during":"archival","item":"%s"}\n'
    summary = '{"message_type":"summary","total_files_processed":5,"snapshot_id":"c13c1fda"}'
    fault = repository.Incomplete("restic could not read all of it")

    def backup(*_: object) -> None:
        raise fault

    store = SimpleNamespace(backup=backup)
    fault.said = told % f"{tmp_path}/z" + summary
    assert files._saved(store, [tmp_path])["snapshot_id"] == "c13c1fda"
    for said in (told % f"{tmp_path}/z" + told % tmp_path + summary, summary):
        fault.said = said
        with pytest.raises(Refused, match="could not read all of it"):
            files._saved(store, [tmp_path])


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """What was saved, what is live, and where is kept what is replaced."""
    monkeypatch.setattr(placing, "ROOT", tmp_path / "live")
    for name in ("saved", "live"):
        (tmp_path / name).mkdir()
    return tmp_path / "saved", tmp_path / "live", tmp_path / "kept"


def written(folder: Path, **content: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in content.items():
        (folder / name).write_text(text)


def moment() -> str:
    time.sleep(0.02)  # the time of a change is told in steps
    found = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    time.sleep(0.02)
    return found


def read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_come_back_to_a_moment(places: tuple[Path, Path, Path]) -> None:
    saved, live, kept = places
    written(saved / "media", gone="gone", early="saved", late="saved", same="same")
    (saved / "media/gone").chmod(0o640)
    os.utime(saved / "media/gone", (1, 1))
    (saved / "media/link").symlink_to("gone")
    written(live / "media", early="changed before the moment")
    then = moment()
    written(live / "media", late="changed after it", same="same", new="new")
    os.utime(live / "media/late", (1, 1))  # a program may say any time
    said = placing.place(saved, then, kept)
    expected = {
        "early": "changed before the moment",
        "gone": "gone",
        "late": "saved",
        "link": "gone",
        "new": "new",
        "same": "same",
    }
    assert read(live / "media") == expected
    assert read(kept) == {"media/late": "changed after it"} and kept.stat().st_mode & 0o077 == 0
    found = (live / "media/gone").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 1)
    assert said[0].startswith("2 files that were missing are back, and 1 that were changed after ")
    assert str(kept) in said[1]
    assert placing.place(saved, then, kept)[0] == "0 files that were missing are back; all others are as they were"
    assert read(live / "media") == expected and read(kept) == {"media/late": "changed after it"}


def test_at_the_latest_moment_what_is_live_is_right(places: tuple[Path, Path, Path]) -> None:
    saved, live, kept = places
    written(saved / "new", one="1")
    written(saved / "media", one="saved", two="saved")
    written(live / "media", one="live")
    placing.place(saved, "", kept)
    assert read(live) == {"media/one": "live", "media/two": "saved", "new/one": "1"} and not kept.exists()


def test_no_link_leads_root_elsewhere(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    saved, live, kept = places
    written(tmp_path / "elsewhere", one="not ours")
    written(saved / "media", one="saved", two="saved")
    (live / "media").symlink_to(tmp_path / "elsewhere")
    said = placing.place(saved, "2020-01-01T00:00:00.000000Z", kept)
    assert read(tmp_path / "elsewhere") == {"one": "not ours"}
    assert said[-1] == f"These were saved as something else than they are now, and stay: {live}/media"


def test_room_is_asked_for_before_anything_is_done(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, live, kept = places
    written(saved / "media", one="saved")
    placing.judge(saved, "", kept)
    monkeypatch.setattr(
        placing.Placing, "_needs", lambda self, _place, size: (self.needed.update({1: size}), self.free.update({1: 4}))
    )
    with pytest.raises(Refused, match="the files that come back need 5 B where they belong, 4 B are free"):
        placing.judge(saved, "", kept)
    assert read(live) == {}


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True
from pathlib import Path
from webstack_backup import placing
placing.ROOT, left = Path(sys.argv[3]), int(sys.argv[6])
def hook(event, _args):
    global left
    if event in ("os.rename", "os.remove", "os.mkdir", "os.chmod", "open"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
placing.place(Path(sys.argv[2]), sys.argv[5], Path(sys.argv[4]))
"""


def test_killed_at_each_step(places: tuple[Path, Path, Path]) -> None:
    """At no step is anything half there, or lost; the next call goes on to the end."""
    saved, live, kept = places
    written(saved / "media", gone="gone", late="saved")
    written(saved / "new", one="1")
    then = moment()
    written(live / "media", late="changed")
    whole = {"media/gone": "gone", "media/late": "saved", "new/one": "1"}
    for step in range(1, 200):
        argv = [
            sys.executable,
            "-c",
            KILLED,
            str(ROOT / "roles/backup/files"),
            *map(str, (saved, live, kept)),
            then,
            str(step),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        found = {path: text for path, text in read(live).items() if not path.endswith(placing.PART)}
        assert found.items() <= {**whole, "media/late": found["media/late"]}.items()
        assert found["media/late"] == "changed" or read(kept)["media/late"] == "changed"
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    assert step > 8
    assert read(live) == whole and read(kept) == {"media/late": "changed"}
