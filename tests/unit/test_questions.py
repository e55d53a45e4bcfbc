"""What a host answers when it is asked, beside what the module itself says."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from loading import load

questions = load("plugins/plugin_utils/questions.py")
ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
PYTHON = {"ansible_python_interpreter": sys.executable}


class Action:
    """Runs what it is told on this machine."""

    def __init__(self, diff: bool = False) -> None:
        self._task = SimpleNamespace(diff=diff)
        self.told: list[str] = []

    def _compute_environment_string(self) -> str:
        return "WORD='two words'"

    def _low_level_execute_command(self, command: str, in_data: bytes) -> dict[str, Any]:
        self.told.append(command)
        done = subprocess.run(["sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


def ask(module: str, **args: Any) -> dict[str, Any] | None:
    return questions.ask(Action(), module, args, PYTHON)


def run(capsys: pytest.CaptureFixture[str], module: str, **args: Any) -> dict[str, Any]:
    """What the module answers Ansible in check mode."""
    with patch_module_args({**args, "_ansible_check_mode": True}), pytest.raises(SystemExit):
        load(f"plugins/modules/{module}.py").main()
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    del answer["invocation"]
    return answer


def test_a_service_answers_what_its_module_does(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    conf = tmp_path / "app.conf"
    conf.write_text("colour = blue\n", encoding="utf-8")
    conf.chmod(0o640)
    tmp_path.chmod(0o755)
    file = {"path": str(conf), "content": "colour = blue", **ME}
    right, wrong = {"files": [{**file, "mode": "0640"}]}, {"files": [file]}
    assert ask("service_config", **right) == run(capsys, "service_config", **right)
    assert ask("service_config", **right)["changed"] is False
    assert ask("service_config", **wrong) == run(capsys, "service_config", **wrong)
    assert ask("service_config", **wrong)["files_changed"] == [str(conf)]


def test_so_does_a_first_contact(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "mine.conf").touch()
    args = {"unit": "app.service", "folders": [str(tmp_path)], "word": "app_take_over"}
    assert ask("first_contact", **args) == run(capsys, "first_contact", **args)
    assert "mine.conf" in ask("first_contact", **args)["refusals"][0]


def test_nothing_is_changed_by_a_question(tmp_path: Path):
    conf = tmp_path / "app.conf"
    assert ask("service_config", files=[{"path": str(conf), "content": "colour = blue", **ME}])["changed"] is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "args",
    [
        {"files": []},  # is answered
        pytest.param({"files": [], "unknown": 1}, id="unknown"),
        pytest.param({"files": "a string"}, id="another type"),
        pytest.param({"files": [{"path": "~/app.conf", "content": ""}]}, id="a path to be expanded"),
        pytest.param({"files": [{"path": "/etc/app.conf"}]}, id="something missing"),
        pytest.param({"files": [{"path": "/etc/app.conf", "content": "", "apply": "perhaps"}]}, id="no choice"),
        pytest.param({"files": [{"path": "/etc/app.conf", "content": "", "mode": "rwx"}]}, id="an exception"),
        pytest.param({"files": [], "first_contact": "yes"}, id="to be converted"),
    ],
)
def test_what_would_have_to_be_judged_is_left_to_ansible(args: dict[str, Any]):
    assert (ask("service_config", **args) is None) == (args != {"files": []})


def test_a_check_is_left_to_the_module(tmp_path: Path):
    file = {"path": str(tmp_path / "app.conf"), "content": "", **ME}
    assert ask("service_config", files=[file], check=["true"]) is None


def test_so_are_failures_and_a_host_without_that_python():
    assert ask("mysql_accounts", ask=True, users=[], passwords=["one too many"]) is None
    assert questions.ask(Action(), "service_config", {"files": []}, {"ansible_python_interpreter": "/none"}) is None


def test_a_secret_in_an_answer_is_for_ansible_to_mask():
    stand_in = load("plugins/module_utils/stand_in.py")
    stand_in.asked.update(diff=False, arguments={"word": ["hidden"]})
    module = stand_in.AnsibleModule({"word": {"type": "list", "elements": "str", "no_log": True}}, True)
    with pytest.raises(stand_in.Unsure):
        module.exit_json(changes=[{"says": "it is hidden here"}])
    with pytest.raises(SystemExit):
        module.exit_json(changes=["nothing"])


@pytest.mark.parametrize("module", ["service_config", "first_contact", "listeners", "mysql_accounts", "walk"])
def test_every_default_is_ansible_s(monkeypatch: pytest.MonkeyPatch, module: str):
    """By the modules' own specs, with no more than what they require."""
    given = {
        "service_config": {"files": [{"path": "/a", "content": "b"}], "confirm": {"url": "c", "text": "d"}},
        "first_contact": {"unit": "a", "word": "b", "ports": [{"port": 80, "input": "c"}]},
        "mysql_accounts": {"users": [{"name": "a", "privileges": [{"database": "b"}]}], "databases": [{"name": "c"}]},
        "walk": {"domain": "a", "address": "b"},
    }.get(module, {})
    plugin, stand_in = load(f"plugins/modules/{module}.py"), load("plugins/module_utils/stand_in.py")
    stand_in.asked.update(diff=False, arguments=given)
    seen = []
    for kind in (plugin.AnsibleModule, stand_in.AnsibleModule):

        class Seen(kind):
            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **options)
                seen.append(dict(self.params))
                raise StopIteration

        monkeypatch.setattr(plugin, "AnsibleModule", Seen)
        with patch_module_args(given), pytest.raises(StopIteration):
            plugin.main()
    assert seen[0] == seen[1]


def test_the_question_is_not_in_the_list_of_processes_and_has_the_task_s_environment():
    action = Action()
    questions.ask(action, "service_config", {"files": []}, PYTHON)
    assert action.told == [f"WORD='two words' {sys.executable} -"]


@pytest.mark.parametrize(
    ("answer", "check_mode", "runs"),
    [
        ({"changed": False, "noted": True}, False, False),
        ({"changed": False, "noted": False}, True, False),
        ({"changed": False, "noted": False}, False, True),
        ({"changed": True, "noted": True}, False, True),
        (None, False, True),
    ],
)
def test_a_service_s_module_runs_where_there_is_something_to_do(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | None, check_mode: bool, runs: bool
):
    action = load("plugins/action/service_config.py")
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    monkeypatch.setattr(action, "ask", lambda *_question: answer)
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args={"files": []}, check_mode=check_mode)
    plugin._execute_module = lambda *_args, **_options: {"ran": True}
    assert plugin.run() == ({"ran": True} if runs else answer)
