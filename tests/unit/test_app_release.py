"""The action that has webstack-release change something: what it asks the host, and what it makes of the answers."""

from __future__ import annotations

import json
import shlex
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from loading import load

action = load("plugins/action/app_release.py")
LIVE = {
    "release": "r1", "commit": "c0ffee", "declared": "repo main", "matches_host_python": True, "active": True, "committed": True,
}  # fmt: skip


class Host:
    """Answers as the tool would, in turn, and notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any, installed: bool = True) -> None:
        self.answers, self.installed = list(answers), installed
        self.asked: list[list[str]] = []
        self.shown: list[str] = []
        monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
        monkeypatch.setattr(action.time, "sleep", lambda _seconds: None)

    def run(self, step: str, *, check_mode: bool = False, **args: Any) -> dict[str, Any]:
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode)
        given = {"app": "shop", "step": step, "arguments": [], "request": {}, **args}
        plugin.validate_argument_spec = lambda argument_spec: (None, given)
        plugin._low_level_execute_command = self.execute
        plugin._show = self.shown.append
        return plugin.run(task_vars={"inventory_hostname": "web1"})

    def execute(self, shell: str, in_data: bytes) -> dict[str, Any]:
        assert shell == "sh"
        command = in_data.decode()
        if command.startswith("test -e"):
            return {"rc": 0 if self.installed else 1, "stdout": "", "stderr": ""}
        tool, app, *argv = shlex.split(command)
        assert (tool, app) == (action.TOOL, "shop")
        self.asked.append(argv)
        answer = self.answers.pop(0)
        if answer is None:
            return {"rc": 127, "stdout": "", "stderr": f"sh: 1: {tool}: not found\n"}
        if isinstance(answer, str):
            return {"rc": 1, "stdout": "", "stderr": f"webstack-release: {answer}\n"}
        return {"rc": 0, "stdout": f"told before\n{json.dumps(answer)}\n", "stderr": ""}


def progress(verdict: str, *lines: str, reason: str = "") -> dict[str, Any]:
    return {"lines": lines, "verdict": verdict, "reason": reason, "release": "r2"}


def test_a_change_is_followed_to_its_verdict(monkeypatch):
    host = Host(monkeypatch, {"id": "7"}, progress("", "one", "two"), progress("live", "three"))
    outcome = host.run("deploy", request={"version": "it's"})
    assert outcome["changed"] and outcome["answer"]["release"] == "r2"
    assert host.shown == ["one", "two", "three"]
    start, *follows = host.asked
    request = json.loads(start[1])
    assert (start[0], request["kind"], request["version"]) == ("start", "deploy", "it's") and "@" in request["by"]
    assert follows == [["follow", "7", "0"], ["follow", "7", "2"]]


def test_a_change_of_a_drained_host_waits_for_visitors_until_it_is_told_of_them(monkeypatch):
    waiting = {**progress("", "two"), "phase": "admit"}
    host = Host(
        monkeypatch, {"id": "7"}, {**progress("", "one"), "phase": "flip"}, waiting, {}, progress("live", "three")
    )
    stopped = host.run("switch", request={"release": "r2", "drained": True})
    assert stopped["changed"] and stopped["answer"]["verdict"] == ""
    assert host.run("admit", request=stopped["answer"])["answer"]["verdict"] == "live"
    assert host.asked[-2:] == [["admit"], ["follow", "7", "2"]]
    assert host.shown == ["one", "two", "three"]


def test_a_host_that_changes_nothing_is_told_of_visitors_too(monkeypatch):
    host = Host(monkeypatch, {})
    assert not host.run("admit")["changed"] and host.asked == [["admit"]]


@pytest.mark.parametrize(
    ("verdict", "changed", "failed"),
    [("unchanged", False, False), ("staged", True, False), ("migrated", True, False), ("reverted", False, True)],
)
def test_a_verdict_decides_what_a_change_is(monkeypatch, verdict, changed, failed):
    outcome = Host(monkeypatch, {"id": "7"}, progress(verdict, reason="why")).run("rollback")
    assert (outcome["changed"], outcome.get("failed", False)) == (changed, failed)
    assert outcome.get("msg") == ("why" if failed else None)


def test_a_reason_that_was_shown_is_not_said_again(monkeypatch):
    """Ansible prints what a task fails with twice."""
    why = "The migration failed. It said:\nthe column is in the way"
    failed = progress("failed", f"failed: {why}", "live: r1 in slot blue, as before", reason=why)
    host = Host(monkeypatch, {"id": "7"}, progress("", "migrate the database"), failed)
    outcome = host.run("deploy", request={"version": "v2"})
    assert outcome["failed"] and outcome["msg"] == "The deploy failed; the lines above say why."
    assert sum("the column is in the way" in line for line in host.shown) == 1


def test_a_reason_that_was_not_shown_is_said(monkeypatch):
    host = Host(monkeypatch, {"id": "7"}, progress("cut off", "start r2", reason="it was cut off in the step start"))
    assert host.run("deploy")["msg"] == "it was cut off in the step start"


def test_another_change_is_waited_for_and_named_once(monkeypatch):
    host = Host(monkeypatch, {"busy": "ann"}, {"busy": "ann"}, {"busy": "bob"}, {"id": "7"}, progress("live"))
    assert host.run("renew")["changed"]
    assert host.shown == ["waiting: ann", "waiting: bob"]


def test_another_change_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(action, "BUSY_SECONDS", 0)
    with pytest.raises(AnsibleActionFail, match="ann changes shop"):
        Host(monkeypatch, {"busy": "ann changes shop"}).run("renew")


def test_what_the_tool_complains_of_is_said(monkeypatch):
    with pytest.raises(AnsibleActionFail, match=r"^the disk is full"):
        Host(monkeypatch, "the disk is full").run("deploy")


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"rolled_back_declared": "r9 was rolled back"}, "r9 was rolled back; it is declared"),
        ({"ref": "c0ffee"}, "r1 is for another Python"),
        ({"at_boot": "after a reboot it is gone"}, "r1 is live: after a reboot it is gone"),
        ({"damage": ["x cannot be read"]}, "x cannot be read"),
    ],
)
def test_what_a_converge_does_of_itself_or_leaves_is_warned_of(monkeypatch, known, words):
    outcome = Host(monkeypatch, {"release": "r1", "rolled_back_declared": "", "ref": "", **known}).run(
        "plan", arguments=["d", "s"]
    )
    assert words in outcome["warnings"][0] and not outcome["changed"]


def test_a_dry_run_asks_and_changes_nothing(monkeypatch):
    host = Host(monkeypatch, {"rolled_back_declared": "", "ref": ""})
    host.run("plan", arguments=["d", "s"], check_mode=True)
    assert host.asked == [["plan", "d", "s", "--dry"]]
    assert host.run("rollback", check_mode=True)["changed"] and len(host.asked) == 1


def test_a_dry_run_on_a_bare_host_would_ship(monkeypatch):
    host = Host(monkeypatch, installed=False)
    assert host.run("plan", check_mode=True)["answer"]["ship"]
    assert host.run("deploy", check_mode=True)["changed"] and host.asked == []


@pytest.mark.parametrize("differs", [{}, *({key: ""} for key in LIVE)])
def test_a_dry_run_tells_whether_what_was_sent_is_live(monkeypatch, differs):
    host = Host(monkeypatch, {**LIVE, **differs})
    request = {"version": "main", "commit": "c0ffee", "declared": "repo main"}
    assert host.run("deploy", request=request, check_mode=True)["changed"] == bool(differs)


def test_a_host_of_the_version_before_is_understood(monkeypatch):
    before = {
        "release": "r1",
        "commit": "c0ffee",
        "declared": "repo main",
        "fits": True,
        "active": True,
        "settled": True,
    }
    request = {"version": "main", "commit": "c0ffee", "declared": "repo main"}
    assert not Host(monkeypatch, before).run("deploy", request=request, check_mode=True)["changed"]
    outcome = Host(monkeypatch, {**before, "held": "r9 was rolled back"}).run("plan", arguments=["d", "s"])
    assert "r9 was rolled back" in outcome["warnings"][0] and outcome["answer"]["committed"]


def test_a_dry_run_does_not_know_what_was_not_fetched(monkeypatch):
    host = Host(monkeypatch, LIVE)
    assert host.run("deploy", request={"version": "main", "commit": ""}, check_mode=True)["changed"]
    assert host.asked == []


def test_a_host_without_the_tool_is_told_how_it_gets_there(monkeypatch):
    told = Host(monkeypatch, None).run("status")
    assert told["failed"] and told["msg"] == f"{action.TOOL} is not on this host; make site puts it there"
