"""Which full is taken, what fits this host, and what a restored copy is compared with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from backing import Position, Refused, cli, ledger, replay, repository, restore, scratch, vendor
from loading import ROOT
from logs import log_file

LINE = "20261128T190000Z-4f3a9c"
TABLES = {"app": {"orders": [3, 111], "users": [1, 5]}}
MANIFEST: dict[str, Any] = {
    "vendor": "mariadb", "version": "11.8.9", "position": "binlog.000002:400", "copied": "2026-11-23T03:10:00.000000Z",
    "line": "L1", "tables": TABLES,
}  # fmt: skip


def full(**other: Any) -> restore.Full:
    return restore.Full("abc", {**MANIFEST, **other})


def test_what_others_could_read_or_hold_is_roots_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of a part of the log, and the lock, which one process of any user could hold for ever."""
    monkeypatch.setattr(scratch, "PLACE", tmp_path)
    (tmp_path / "full.lock").touch(0o644)  # of a version before
    with scratch.alone("full"):
        assert (tmp_path / "full.lock").stat().st_mode & 0o077 == 0
    log, work = tmp_path / "binlog.000001", tmp_path / "work"
    work.mkdir()
    log.write_bytes(b"all rows")
    copy = replay._until(log, 3, work)
    assert copy.read_bytes() == b"all" and copy.stat().st_mode & 0o077 == 0


GB = 10**9


@pytest.mark.parametrize(
    ("free", "total", "words"),
    [
        (31, 200, ""),
        (29, 200, "10.7 GB of that have to stay free"),
        (25, 40, ""),
        (23, 40, "4.0 GB of that have to stay free"),
    ],
)
def test_a_copy_leaves_room_for_the_log_of_the_live_server(
    free: int, total: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: SimpleNamespace(free=free * GB, total=total * GB))
    with pytest.raises(Refused, match=words) if words else contextlib.nullcontext():
        scratch.room(tmp_path, 20 * GB, "the copy")


def test_one_large_copy_is_written_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(scratch, "PLACE", tmp_path)
    with scratch.with_space("drill"):
        with pytest.raises(Refused, match=r"another copy .* takes room: pid \d+, since .* \(drill\)"):
            scratch.with_space("restore", 0).__enter__()
        waits = threading.Thread(target=lambda: scratch.with_space("full").__enter__())
        waits.start()
        waits.join(0.2)
        assert waits.is_alive()
    waits.join(20)
    assert not waits.is_alive() and capsys.readouterr().err.startswith("waits: another copy")


def test_room_is_judged_where_the_server_writes_the_copy() -> None:
    assert (vendor.MYSQL.writes_to, vendor.MARIADB.writes_to) == (vendor.CLONE.parent, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_removes_what_it_has_made(number: signal.Signals, tmp_path: Path) -> None:
    """As systemctl stop, or the end of the time that its unit has, or of the operator's connection."""
    program = f"""if True:
        import sys, time
        sys.path.insert(0, {str(ROOT / "roles/backup/files")!r})
        from pathlib import Path
        from webstack_backup import cli, full, scratch
        scratch.PLACE, full.COPY = Path({str(tmp_path)!r}), Path({str(tmp_path / "full")!r})
        full.repository = full.installed = lambda: None
        def copying(*_):
            full.COPY.mkdir()
            print("begun", flush=True)
            time.sleep(60)
        full._full = copying
        sys.exit(cli.main(["full"]))
    """
    process = subprocess.Popen([sys.executable, "-B", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"begun\n" and (tmp_path / "full").exists()
    process.send_signal(number)
    _out, said = process.communicate(timeout=20)
    assert process.returncode == 1 and b"ended on request" in said
    assert not (tmp_path / "full").exists()


class Store:
    """A repository with these manifests, the oldest first by what the clock said; `tagged` as they are now."""

    name, host = "/backups", "web1"

    def __init__(self, *manifests: dict[str, Any], tagged: bool = True) -> None:
        self.manifests = sorted(manifests, key=lambda one: one["copied"])
        self.tagged = tagged

    def snapshots(self, tag: str) -> list[repository.Snapshot]:
        assert tag == repository.FULL
        return [
            repository.Snapshot(
                str(n), one["copied"], (tag, f"line-{one['line']}", f"at-{one['position']}") if self.tagged else (tag,)
            )
            for n, one in enumerate(self.manifests)
        ]

    def read(self, snapshot: str, path: Path) -> str:
        return json.dumps(self.manifests[int(snapshot)])


def test_the_newest_full_before_the_moment() -> None:
    store = Store(*({**MANIFEST, "position": f"binlog.00000{n}:400"} for n in (1, 2, 3)))
    assert restore.next_full(store, None).position == Position("binlog.000003", 400)
    assert restore.next_full(store, Position("binlog.000003", 399)).position == Position("binlog.000002", 400)
    assert restore.next_full(store, Position("binlog.000003", 400)).position == Position("binlog.000003", 400)
    with pytest.raises(Refused, match=r"binlog.000001:399 is before the oldest full backup, .*2026-11-23 03:10:00Z"):
        restore.next_full(store, Position("binlog.000001", 399))
    with pytest.raises(Refused, match="/backups has no full backup of web1"):
        restore.next_full(Store(), None)


AHEAD = "2131-01-01T03:10:00.000000Z"


@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "of an earlier version"])
def test_a_full_whose_time_was_made_up(tagged: bool) -> None:
    """The clock was ahead for some time: of a line the positions say which is the newest, and of two lines not that time."""
    one, two = ({**MANIFEST, "position": f"binlog.00000{n}:400"} for n in (1, 2))
    store = Store(
        {**one, "copied": AHEAD}, two, {**MANIFEST, "line": "L2", "copied": "2026-11-20T03:10:00Z"}, tagged=tagged
    )
    assert restore.next_full(store, None, "L1").position == Position("binlog.000002", 400)
    assert restore.next_full(store, Position("binlog.000001", 999), "L1").position == Position("binlog.000001", 400)
    assert restore.next_full(store, None).manifest == {**two}
    assert restore.next_full(store, None, "L2").manifest["line"] == "L2"
    assert restore.next_full(Store({**one, "copied": AHEAD}), None).manifest["copied"] == AHEAD


def test_what_is_no_full_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thief can give anything the tag of a full: it does not keep the others from being restored."""
    store = Store({**MANIFEST, "line": "L1"}, {**MANIFEST, "copied": AHEAD})
    listed = store.snapshots(repository.FULL)
    made_up = repository.Snapshot("no manifest", listed[1].time, (repository.FULL,))
    monkeypatch.setattr(store, "snapshots", lambda tag: [listed[0], made_up])
    assert restore.next_full(store, None, "L1").manifest["copied"] == MANIFEST["copied"]


def test_the_line_of_this_host_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the times: a restore to the latest moment is not one of the line before, nor is that of a position before the first full."""
    store = Store(
        {**MANIFEST, "position": "binlog.000005:400", "line": "L1"},
        {**MANIFEST, "position": "binlog.000001:400", "line": "L1", "copied": AHEAD},
        {**MANIFEST, "position": "binlog.000002:400", "line": "L2", "copied": "2026-11-22T03:10:00Z"},
    )
    asked: list[Any] = []
    monkeypatch.setattr(restore, "live_log", lambda: (tmp_path, Position("binlog.000006", 9)))
    monkeypatch.setattr(restore, "line", lambda folder: "L2")
    monkeypatch.setattr(restore, "entries", lambda line: [])
    monkeypatch.setattr(restore, "config", lambda: {"target": {"host": "backup.example.com"}})
    monkeypatch.setattr(restore, "judge", lambda *words: asked.append(words))
    restore.plan(store, "latest", None, tmp_path)
    assert asked == [(tmp_path, Position("binlog.000002", 400), Position("binlog.000006", 9), None, "")]
    assert restore.plan(store, "full", None, tmp_path).full.manifest["line"] == "L2"
    with pytest.raises(Refused, match=r"binlog.000002:9 is before the oldest full backup, .*binlog.000002:400"):
        restore.plan(store, "binlog.000002:9", None, tmp_path)


@pytest.mark.parametrize("version", ["11.8.9", "11.8.2", "12.3.1"])
def test_versions_that_read_the_data(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(vendor.Vendor, "version", lambda self: version)
    restore.fits(full(), vendor.MARIADB)


def test_versions_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor.Vendor, "version", lambda self: "10.11.19")
    with pytest.raises(Refused, match=r"MariaDB 11.8.9.*: this host has 10.11.19, it needs 11.8 or newer"):
        restore.fits(full(), vendor.MARIADB)
    with pytest.raises(Refused, match=r"MariaDB 11.8.9.*: this host has MySQL"):
        restore.fits(full(), vendor.MYSQL)


def test_what_was_restored_is_compared() -> None:
    assert "1 databases, 2 tables, 4 rows: rows and checksums" in restore.compared(full(), TABLES, "11.8.12")
    other = {"app": {"orders": [3, 112], "users": [1, 5]}}
    with pytest.raises(Refused, match=r"app.orders: 3 rows, checksum 112 instead of 3 rows, checksum 111"):
        restore.compared(full(), other, "11.8.9")
    assert "checksums of 11.8.9 mean nothing to 12.3.1" in restore.compared(full(), other, "12.3.1")
    for wrong in (
        {"app": {"orders": [2, 111], "users": [1, 5]}},
        {"app": {"orders": [3, 111]}},
        {},
        {**TABLES, "x": {"y": [1, 1]}},
    ):
        with pytest.raises(Refused, match="is not what was saved"):
            restore.compared(full(), wrong, "12.3.1")


def test_what_the_replay_has_changed() -> None:
    after = {"app": {"orders": [1203, 9], "new": [2, 1]}, "b": {"same": [1, 1]}}
    said = restore.differences({**TABLES, "b": {"same": [1, 1]}}, after)
    assert said == [
        "now 2 databases, 3 tables, 1,206 rows",
        "  app.new: 2 rows (new)", "  app.orders: 1,203 rows (+1,200)", "  app.users: dropped",
    ]  # fmt: skip


def test_the_latest_moment_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is that of the ledger's last line: a log that a crash has cut short looks like one that ends there."""
    log = tmp_path / "binlog.000002"
    content = log_file(b"one", b"two")
    start = len(log_file(b"one"))
    log.write_bytes(content)
    (tmp_path / "line").write_text(LINE, encoding="utf-8")
    store = Store({**MANIFEST, "position": f"binlog.000002:{start}", "log_folder": str(tmp_path), "line": LINE})
    known = [ledger.Entry("2026-11-23T10:15:00.000000Z", "binlog.000002", len(content), "2026-11-23T10:15:00.000100Z")]
    monkeypatch.setattr(restore, "live_log", lambda: None)
    monkeypatch.setattr(restore, "entries", lambda line: known)
    planned = restore.plan(store, "latest", None, tmp_path)
    assert planned.chain and planned.chain.stop == Position("binlog.000002", len(content))
    log.write_bytes(log_file(b"one"))
    with pytest.raises(
        Refused, match=f"had reached binlog.000002:{len(content)}, but {len(content) - start} bytes are"
    ):
        restore.plan(store, "latest", None, tmp_path)
    monkeypatch.setattr(restore, "entries", lambda line: [])
    restore.plan(store, "latest", None, tmp_path)


def test_a_server_can_pass_through_its_folder_whatever_the_umask(monkeypatch, tmp_path):
    """Role base has those who log in make what others cannot read."""
    monkeypatch.setattr(scratch, "PLACE", tmp_path / "scratch")
    before = os.umask(0o077)
    try:
        cli.main(["end-scratch"])
    finally:
        os.umask(before)
    assert oct((tmp_path / "scratch").stat().st_mode & 0o777) == oct(0o711)
