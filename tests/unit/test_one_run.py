"""Two runs on one host: who waits, and for whom nobody does. With a real shell and real processes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from loading import load

action = load("plugins/action/one_run.py")
ELSEWHERE = {"machine": "other 1", "by": "ann@other", "pid": 1, "start": "1", "since": "2026-01-01 00:00 UTC"}


class Host:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.note, self.shown, self.through = folder / "webstack-run", [], ""
        monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
        monkeypatch.setattr(action.time, "sleep", lambda _seconds: None)
        monkeypatch.setattr(action, "Display", lambda: SimpleNamespace(display=self.shown.append))
        monkeypatch.setattr(action, "WAIT_SECONDS", 0)

    def execute(self, command: str, in_data: bytes) -> dict[str, Any]:
        script = in_data.decode().replace(action.NOTE, str(self.note))
        argv = [self.through, "-c", f"{command}; exit $?"] if self.through else ["sh", "-c", command]
        done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

    def claim(self, check_mode: bool = False, over: bool = False) -> dict[str, Any]:
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode, args={"over": over})
        plugin._low_level_execute_command = self.execute
        return plugin.run(task_vars={"inventory_hostname": "web1"})

    def held_by(self, door: str, **changes: Any) -> None:
        self.note.write_text(f"{door}\n{json.dumps({**action.identity(), **changes}, sort_keys=True)}")

    def holder(self) -> dict[str, Any]:
        return json.loads(self.note.read_text().partition("\n")[2])

    def door(self) -> str:
        return self.note.read_text().partition("\n")[0]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def process() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A process that lives as long as the test, unless it is killed."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen(["sleep", "600"]))
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()
        one.wait()


def test_a_host_is_claimed_by_the_run_and_its_tasks_do_not_wait_for_each_other(host):
    for _task in range(2):
        assert host.claim() == {"changed": False}
    assert host.holder() == action.identity() and host.holder()["pid"] == os.getppid()
    assert host.shown == []


def test_check_mode_claims_nothing(host):
    assert host.claim(check_mode=True) == {"changed": False} and not host.note.exists()


def test_a_run_of_another_machine_is_waited_for_as_long_as_its_connection_lasts(host, process):
    connection = process()
    host.held_by(f"{connection.pid}:{action.started(connection.pid)}", **ELSEWHERE)
    with pytest.raises(
        AnsibleActionFail,
        match=r"ann@other runs a playbook on this host since 2026-01-01 00:00 UTC; nothing was changed",
    ):
        host.claim()
    connection.kill()
    connection.wait()
    host.claim()
    assert host.holder() == action.identity()


def test_another_process_with_the_number_of_its_connection_is_not_it(host, process):
    host.held_by(f"{process().pid}:1", **ELSEWHERE)
    host.claim()
    assert host.holder() == action.identity()


def test_a_run_of_this_machine_is_waited_for_as_long_as_it_lives(host, process, monkeypatch):
    run = process()
    for door in ("-", f"{os.getpid()}:{action.started(os.getpid())}"):
        host.held_by(door, pid=run.pid, start=action.started(run.pid), by="bob@here")
        with pytest.raises(AnsibleActionFail, match="bob@here runs a playbook"):
            host.claim()
    monkeypatch.setattr(action, "WAIT_SECONDS", 60)
    # Killed, and not waited for by who began it.
    monkeypatch.setattr(action.time, "sleep", lambda _seconds: run.kill())
    host.claim()
    assert host.holder() == action.identity()
    assert len(host.shown) == 1 and "web1 | waiting: bob@here runs a playbook on this host since" in host.shown[0]


def test_one_without_ssh_of_another_machine_cannot_be_told_and_is_not_waited_for(host):
    host.held_by("-", **ELSEWHERE)
    host.claim()
    assert host.holder() == action.identity()


def test_what_holds_a_host_is_the_connection_nearest_to_the_command(host, tmp_path):
    host.through = str(tmp_path / "sshd-session")
    shutil.copy(os.path.realpath(shutil.which("sh") or ""), host.through)
    host.claim()
    assert host.door() != "-"
    # It has ended with the command, and so has its hold.
    assert not Path(f"/proc/{host.door().partition(':')[0]}").exists()
    host.held_by(host.door(), **ELSEWHERE)
    host.claim()


def test_a_note_that_cannot_be_read_is_a_refusal(host):
    host.note.write_text("-\n{torn")
    with pytest.raises(AnsibleActionFail, match=r"cannot be told: .*cannot be read; remove it"):
        host.claim()


def test_a_host_that_cannot_be_asked_is_a_refusal(host):
    host.note = Path("/nowhere/webstack-run")
    with pytest.raises(
        AnsibleActionFail, match=r"cannot be told: .*(No such file|Directory nonexistent|cannot create)"
    ):
        host.claim()


def test_of_two_that_come_at_once_one_gets_the_host(host, process):
    """Each by another connection that stays."""
    runs = [{**ELSEWHERE, "machine": f"other {number}"} for number in range(2)]
    claim = action.CLAIM.replace(action.NOTE, str(host.note)).replace("pid=$$ door=-", "pid=0 door=$3")
    doors = [f"{one.pid}:{action.started(one.pid)}" for one in (process(), process())]
    argvs = [["sh", "-c", claim, "sh", json.dumps(run), "", door] for run, door in zip(runs, doors, strict=True)]
    begun = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for argv in argvs]
    said = [one.communicate()[0] for one in begun]
    assert sorted(map(bool, said)) == [False, True], shlex.join(argvs[0])


def test_a_run_that_ends_lets_go_of_what_is_its_own(host):
    host.claim()
    host.claim(over=True)
    assert not host.note.exists()
    host.held_by("-", **ELSEWHERE)
    host.claim(over=True)
    assert host.holder()["by"] == ELSEWHERE["by"]


def test_a_note_that_comes_back_after_it_was_found_to_be_over_is_not_asked_about_for_ever(host, monkeypatch):
    """As over ssh with a terminal, whose line ends made it another note each time."""
    held = "-\n" + json.dumps({**ELSEWHERE}, sort_keys=True)
    monkeypatch.setattr(action.ActionModule, "_claim", lambda _self, _ours, _over: held)
    with pytest.raises(AnsibleActionFail, match="ann@other runs a playbook on this host since"):
        host.claim()
