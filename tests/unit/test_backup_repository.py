"""What restic's end means, in words for an operator; and that no call of it is without an end.

Both versions' own words stand here as they were printed; the scenario `backup` has the real ones.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backing import Refused, full, repository

LOCKED = """unable to create lock in backend: repository is already locked exclusively by PID 4711 on web1 by root (UID 0, GID 0)
lock was created at 2026-11-23 03:00:01 (8m19.2s ago)
storage ID 1b2c3d4e
"""
NONE = """Fatal: unable to open config file: stat /backups/config: no such file or directory
Is there a repository at the following location?
/backups
"""
SILENT = """Fatal: unable to open config file: Head "http://10.0.0.9:8000/config": dial tcp 10.0.0.9:8000: connect: connection refused
Is there a repository at the following location?
rest:http://10.0.0.9:8000/
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> repository.Repository:
    monkeypatch.setattr(repository, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(repository, "PASSPHRASE", tmp_path / "passphrase")
    monkeypatch.setattr(repository, "OWN", tmp_path / "own")
    (tmp_path / "passphrase").write_text("a long passphrase\n")
    return repository.Repository(str(tmp_path / "restic"), tmp_path / "known.json", "shop-db")


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (1, "Fatal: wrong password or no key found\n", "wrong passphrase for"),
        (12, "Fatal: wrong password\n", "wrong passphrase for"),
        (1, LOCKED, "is locked by web1:4711 since 2026-11-23 03:00:01"),
        (11, LOCKED, "is locked by web1:4711 since 2026-11-23 03:00:01"),
        (1, "Fatal: unable to save snapshot: write /x: no space left on device\n", "no space left at .*GB free"),
        (1, "rclone: Post request put error: preallocate: file too big for remaining disk space\n", "no space left at"),
        (3, "error: read /x: input/output error\n", "does not count"),
        (1, SILENT, "restic backup failed at .*\n.*connection refused"),
    ],
)
def test_words(store: repository.Repository, code: int, said: str, words: str) -> None:
    store.local.mkdir()
    with pytest.raises(Refused, match=words) as refused:
        raise store.fault("backup", code, said)
    assert not isinstance(refused.value, repository.NoRepository)


@pytest.mark.parametrize(("code", "said"), [(1, NONE), (10, "Fatal: repository does not exist\n")])
def test_no_repository(store: repository.Repository, code: int, said: str) -> None:
    assert isinstance(store.fault("cat", code, said), repository.NoRepository)


@pytest.mark.parametrize("password", ["canary", "canary@canary", "canary/canary"])
def test_a_password_in_the_address_is_not_said(tmp_path: Path, password: str) -> None:
    store = repository.Repository(
        f"rest:https://web1:{password}@backup.example.com/web1", tmp_path / "known.json", "web1"
    )
    said = str(store.fault("cat", 1, f"Fatal: cannot reach {store.address}"))
    assert "canary" not in said and "web1:***@backup.example.com/web1" in said


def test_a_host_for_which_none_is_declared_makes_a_passphrase_of_its_own_and_keeps_it(
    store: repository.Repository, command: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Only for a folder of its own that it has not used: another passphrase would open nothing."""
    command("restic", """echo '{"id": "a"}'""")
    repository.PASSPHRASE.unlink()
    elsewhere = repository.Repository("sftp:keeper@backup.example.com:/srv", tmp_path / "elsewhere.json", "shop-db")
    with pytest.raises(Refused, match=r"passphrase is missing, and nothing opens sftp:"):
        elsewhere.open()
    store.open()
    made = repository.OWN.read_text()
    assert len(made) > 40 and repository.OWN.stat().st_mode & 0o777 == 0o600
    store.open()
    assert repository.OWN.read_text() == made
    repository.OWN.unlink()
    with pytest.raises(Refused, match="passphrase is missing"):
        store.open()
    assert not repository.OWN.exists()


def test_a_call_ends(store: repository.Repository, command: Callable[[str, str], Path], tmp_path: Path) -> None:
    """Also what it has started, such as ssh, which holds its output open."""
    command("restic", f"sleep 60 & echo $! > {tmp_path}/pid; trap '' INT; wait; sleep 60")
    with pytest.raises(Refused, match="has not answered within 0 s"):
        store.call("cat", "config", seconds=0.3)
    child = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + 30  # long before its sleep is over
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while child.read_text().split()[2] != "Z":  # a signal takes a moment
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_neither_address_nor_passphrase_is_a_word_of_the_command(
    store: repository.Repository, command: Callable[[str, str], Path]
) -> None:
    command("restic", 'echo "$*"; cat "$2"')
    said, address = store.call("cat", "config", seconds=9).splitlines()
    assert address == store.address and store.address not in said


def test_another_repository_in_the_place_of_the_known_one(
    store: repository.Repository, command: Callable[[str, str], Path]
) -> None:
    command("restic", """echo '{"id": "b"}'""")
    assert store.open() == ""
    assert json.loads(store.known.read_text()) == {store.name: "b"}
    store.known.write_text('{"id": "b"}')  # as an earlier version has noted it
    assert store.open() == ""
    command("restic", """echo '{"id": "c"}'""")
    with pytest.raises(Refused, match="is another repository"):
        store.open()
    command("restic", "echo 'Fatal: repository does not exist' >&2; exit 10")
    with pytest.raises(Refused, match=r"is gone.*Is its disk mounted"):
        store.open()


def test_another_address_is_a_decision(
    store: repository.Repository, command: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Such as first a folder of the host, and a target later. Each is known from then on."""
    restic = """case "$*" in *init*) touch {0}/made; exit;; esac
test -e {0}/made || {{ echo 'Fatal: repository does not exist' >&2; exit 10; }}; echo '{{"id": "a"}}'"""
    (tmp_path / "made").touch()
    command("restic", restic.format(tmp_path))
    store.open()
    (tmp_path / "made").unlink()
    other = repository.Repository("rest:https://web1:canary@backup.example.com/", store.known, "shop-db")
    assert other.open().splitlines() == [
        f"made the repository {other.name}",
        f"backups go to {other.name} from now on; those until now stay in {store.name}",
    ]
    assert "canary" not in store.known.read_text()
    assert other.open() == store.open() == ""
    (tmp_path / "made").unlink()
    for one in (store, other):
        with pytest.raises(Refused, match=r"is gone.*Is its disk mounted"):
            one.open()


@pytest.mark.parametrize(("number", "words"), [(999, "999 B"), (3_100_000_000, "3.1 GB"), (5e15, "5000.0 TB")])
def test_in_bytes(number: float, words: str) -> None:
    assert repository.in_bytes(number) == words


def test_the_newest_is_the_one_of_the_latest_time_in_whatever_zone(
    store: repository.Repository, command: Callable[[str, str], Path]
) -> None:
    """restic tells the time of the zone that its host has, or had."""
    later, earlier = "2026-10-25T02:20:00.1+01:00", "2026-10-25T02:50:00.123456789+02:00"
    listed = [{"id": one, "time": one, "paths": ["/m"]} for one in (later, earlier)]
    command("restic", f"echo '{json.dumps(listed)}'")
    assert [one.id for one in store.snapshots("full")] == [earlier, later]


def test_backups_are_found_by_the_name_in_the_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: repository.Repository, command: Callable[[str, str], Path]
) -> None:
    """A machine in the place of a lost one has it, whatever its hostname; two with one hostname do not take each other's."""
    monkeypatch.setattr(full, "CONFIG", tmp_path / "full.json")
    monkeypatch.setattr(full, "config", lambda: {"name": "shop-db", "target": {}})
    full.CONFIG.write_text(json.dumps({"repository": str(tmp_path)}))
    assert full.repository().host == "shop-db"
    command("restic", f'echo "$@" >> {tmp_path}/asked; echo \'{{"message_type": "summary"}}\'')
    full.repository().backup(tmp_path, "full")
    command("restic", f'echo "$@" >> {tmp_path}/asked')
    with contextlib.suppress(ValueError):  # it lists nothing
        full.repository().snapshots("full")
    saved, listed = (tmp_path / "asked").read_text().splitlines()
    assert re.findall(r"--host (\S+)", saved) == ["shop-db"]
    assert re.findall(r"--host (\S+)", listed) == ["shop-db", socket.gethostname()]  # as an earlier version called it


RESTIC_WITH_LOCKS = """echo "$@" | sed 's/.*--cache-dir [^ ]* //' >> asked
case "$*" in *'list locks'*) echo a1; echo b2;; *'cat lock a1'*) echo '{"time": "%s"}';; *'cat lock b2'*) echo '{"time": "%s"}';; esac
"""


@pytest.mark.parametrize(
    ("minutes", "removed"), [((31, 0), False), ((31, 29), False), ((31, -60), False), ((31, 40), True)]
)
def test_locks_elsewhere_are_dead_by_their_age(
    minutes: tuple[int, int], removed: bool, store: repository.Repository, command: Callable[[str, str], Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whatever the hostname in them: another machine that is called as this one may be at work there."""
    monkeypatch.chdir(tmp_path)
    times = tuple(f"{datetime.now(UTC) - timedelta(minutes=one):%Y-%m-%dT%H:%M:%S}.123456789Z" for one in minutes)
    command("restic", RESTIC_WITH_LOCKS % times)
    repository.Repository(
        "sftp:keeper@backup.example.com:/srv", tmp_path / "known.json", "shop-db"
    ).release_stale_locks()
    asked = Path("asked").read_text().splitlines()
    assert [one for one in asked if "unlock" in one] == (["unlock --remove-all"] if removed else [])
    store.release_stale_locks()  # a folder of this host: the process can be asked for
    assert Path("asked").read_text().splitlines()[-1] == "unlock"
