"""The guard of the way in: what is refused, what is proven, and the undo that starts by itself."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.module_utils.testing import patch_module_args
from loading import load

SYSTEMCTL = r"""
echo "$*" >> "$CALLS"
[ "$1" != is-active ] || exec test -e "$RUNS"
"""
BY_SSH = "admin\n192.0.2.9 50000 198.51.100.7 22\n"
FROM_ANYWHERE = [{"port": 22, "from": []}]


# The controller's part


class Host:
    """A host that answers the action: what service_config and the undo are told, and whether one comes in again."""

    def __init__(
        self, login: str, comes_in: list[bool], undone: bool = False, changed: bool = True, refuses: str = "",
        armed: bool = False, breaks: bool = False,
    ) -> None:  # fmt: skip
        self.login, self.comes_in, self.undone, self.changed, self.refuses = login, comes_in, undone, changed, refuses
        self.armed, self.breaks, self.unfinished = armed, breaks, False
        self.told: list[str] = []
        self.asked: list[list[str]] = []
        self.check_mode = False
        self.answer: dict[str, Any] | None = None  # what the host says when it is asked; None leaves all to the module

    def shell(self, command: str, **_more: Any) -> dict[str, Any]:
        if command.startswith("test -e") and ".undone" in command:
            return {"rc": int(not self.unfinished)}
        if command.startswith("test -e"):
            self.state = command.split()[-1]
            return {"rc": int(not self.armed)}
        if command.startswith("id"):
            return {"stdout": self.login, "stderr": ""}
        self.told.append("come in")
        if self.comes_in.pop(0):
            return {"stdout": "in\n", "stderr": ""}
        raise AnsibleConnectionFailure("timed out")

    def module(self, name: str, module_args: dict[str, Any], **_more: Any) -> dict[str, Any]:
        step = module_args.get("step", "look" if self.task.check_mode else "change")
        self.told.append(step)
        if step == "arm":
            self.undo_seconds = module_args["seconds"]
        if step == "disarm":
            return {"disarmed": not self.undone}
        if step == "change" and self.breaks:
            return {"failed": True, "msg": "a full disk"}
        if "check" in module_args:
            self.asked.append(module_args["check"])
            if self.refuses:
                return {"failed": True, "msg": self.refuses}
        return {"changed": self.changed, "files_changed": ["/etc/x"], "action": "reload"}

    def run(self, check_mode: bool = False, **args: Any) -> dict[str, Any]:
        action_module = load("plugins/action/guarded_config.py")
        action_module.ask = lambda *_question: self.answer
        action_module.UNDO_SECONDS = action_module.PATIENCE = 3
        action_module.time = SimpleNamespace(monotonic=iter(range(99)).__next__, sleep=lambda _seconds: None)
        action = action_module.ActionModule.__new__(action_module.ActionModule)
        self.task = SimpleNamespace(
            args={"unit": "ssh.service", "files": [], "check": ["sshd", "{root}", "{user}", "{client}"], **args},
            check_mode=check_mode, async_val=0,
        )  # fmt: skip
        action._task = self.task
        action._connection = SimpleNamespace(reset=lambda: None, _shell=SimpleNamespace(tmpdir=None))
        action._low_level_execute_command = self.shell
        action._execute_module = self.module
        return action.run(task_vars={})


def test_what_is_as_declared_costs_one_look():
    host = Host(BY_SSH, [], changed=False)
    assert host.run()["changed"] is False
    assert host.told == ["look"]


def test_a_host_that_answers_needs_no_module_unless_there_is_something_to_change():
    host = Host(BY_SSH, [True])
    host.answer = {"changed": False}
    assert host.run() == host.answer
    assert host.told == []
    host.answer = {"changed": True}
    assert host.run()["changed"] is True
    assert host.told == ["look", "look", "arm", "change", "come in", "disarm"]


def test_what_a_killed_run_left_armed_is_proven_and_called_off_though_nothing_differs():
    host = Host(BY_SSH, [True], changed=False, armed=True)
    assert host.run()["changed"] is True
    assert host.told == ["look", "come in", "disarm"]


def test_so_is_it_in_a_run_that_does_not_come_by_ssh():
    host = Host("root\n\n", [True], armed=True)
    assert host.run()["changed"] is True
    assert host.told[-4:] == ["arm", "change", "come in", "disarm"]


def test_a_dry_run_says_that_it_would_be():
    host = Host(BY_SSH, [], changed=False, armed=True)
    assert host.run(check_mode=True)["changed"] is True
    assert host.told == ["look"]


def test_what_a_killed_run_left_armed_and_is_undone_meanwhile_is_a_failure():
    host = Host(BY_SSH, [True], changed=False, armed=True, undone=True)
    with pytest.raises(AnsibleActionFail, match="The host has undone the change by itself"):
        host.run()


@pytest.mark.parametrize("armed", [False, True])
def test_a_change_that_could_not_be_made_calls_off_its_own_undo_alone(armed):
    """What a killed run has changed, nobody has confirmed."""
    host = Host(BY_SSH, [], armed=armed, breaks=True)
    assert host.run()["msg"] == "a full disk"
    assert ("disarm" in host.told) is not armed


@pytest.mark.parametrize(("unit", "state"), [("ssh.service", "ssh.service"), ("", "files")])
def test_an_undo_is_looked_for_where_the_module_keeps_it(unit, state):
    host = Host(BY_SSH, [], changed=False)
    host.run(unit=unit)
    module = load("plugins/modules/guarded_undo.py")
    undo = module.Undo(SimpleNamespace(), unit)
    assert host.state == str(undo.folder) and undo.folder.name == state


def test_a_change_is_proven_by_coming_in_again_before_the_undo_is_called_off():
    host = Host(BY_SSH, [True])
    assert host.run(admits=FROM_ANYWHERE)["changed"] is True
    assert host.told == ["look", "look", "arm", "change", "come in", "disarm"]


def test_the_undo_comes_after_the_seconds_that_the_task_says():
    host = Host(BY_SSH, [True])
    host.run(undo_seconds="7")
    assert host.undo_seconds == 7


def test_the_undo_comes_after_what_the_documentation_says_where_the_task_does_not():
    options = yaml.safe_load(load("plugins/modules/guarded_config.py").DOCUMENTATION)["options"]
    assert options["undo_seconds"]["default"] == load("plugins/action/guarded_config.py").UNDO_SECONDS


def test_the_checker_is_told_who_has_come_in():
    host = Host(BY_SSH, [True])
    host.run()
    assert host.asked == [["sshd", "{root}", "admin", "192.0.2.9"]] * 2


def test_a_dry_run_looks_and_no_more():
    host = Host(BY_SSH, [])
    assert host.run(check_mode=True)["changed"] is True
    assert host.told == ["look", "look"]


def test_a_connection_that_is_not_by_ssh_cannot_be_cut():
    host = Host("root\n\n", [])
    host.run(admits=[])
    assert host.told == ["look", "change"]
    assert host.asked[0] == ["sshd", "{root}", "", ""]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_refusal_of_the_checker_changes_nothing(check_mode):
    host = Host(BY_SSH, [], refuses="would be locked out")
    assert host.run(check_mode=check_mode)["msg"] == "would be locked out"
    assert host.told == ["look", "look"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(
    ("admits", "words"),
    [
        ([], "the ports that would be open are none"),
        ([{"port": 2222}, {"port": 22, "protocol": "udp"}], "the ports that would be open are 2222"),
        ([{"port": 22, "from": ["192.0.2.10", "2001:db8::/32"]}], "base_ssh_from does not name that address"),
    ],
)
def test_a_firewall_that_would_cut_the_connection_is_refused(check_mode, admits, words):
    host = Host(BY_SSH, [])
    with pytest.raises(AnsibleActionFail, match=r"from 192\.0\.2\.9 to port 22") as refusal:
        host.run(check_mode=check_mode, admits=admits)
    assert words in str(refusal.value) and "Nothing was changed" in str(refusal.value)
    assert host.told == ["look", "look"]


@pytest.mark.parametrize(
    ("client", "admits"),
    [
        ("192.0.2.9", [{"port": "22", "from": ["198.51.100.0/24", "192.0.2.0/24"]}]),
        ("2001:db8::5", [{"port": 22, "from": ["2001:db8::/32"]}]),
        ("::ffff:192.0.2.9", [{"port": 22, "from": ["192.0.2.9"]}]),
        ("fe80::1%eth0", [{"port": 22, "from": ["fe80::/10"]}]),
    ],
)
def test_a_firewall_that_names_the_address_in_any_form_is_not(client, admits):
    host = Host(f"admin\n{client} 50000 198.51.100.7 22\n", [True])
    assert host.run(admits=admits)["changed"] is True


def test_a_change_that_does_not_let_in_fails_and_says_that_the_host_has_undone_it():
    host = Host(BY_SSH, [False, False, True], undone=True)
    with pytest.raises(AnsibleActionFail) as failure:
        host.run()
    assert "does not let the play in again: timed out" in str(failure.value)
    assert "The host has undone the change by itself" in str(failure.value)


def test_a_change_that_lets_in_before_the_undo_is_a_good_one():
    """As where sshd is away for a moment."""
    host = Host(BY_SSH, [False, True])
    assert host.run()["changed"] is True
    assert host.told[-4:] == ["change", "come in", "come in", "disarm"]


def test_a_host_that_does_not_come_back_is_said_so():
    host = Host(BY_SSH, [False] * 9)
    with pytest.raises(AnsibleActionFail, match="Nor does the host answer since"):
        host.run()
    assert "disarm" not in host.told


def test_an_undo_that_was_faster_is_a_failure():
    host = Host(BY_SSH, [True], undone=True)
    with pytest.raises(AnsibleActionFail, match="took more than 3 seconds"):
        host.run()


# The host's part


@pytest.fixture
def host(tmp_path, monkeypatch, command, capsys):
    module = load("plugins/modules/guarded_undo.py")
    calls = tmp_path / "calls"
    for name in ("UNDO", "UNITS"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    (tmp_path / "units").mkdir()
    (tmp_path / "runs").touch()
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    command("systemctl", SYSTEMCTL)
    command("systemd-run", 'echo "systemd-run $*" >> "$CALLS"')

    def step(step: str, unit: str = "ssh.service", **args: Any) -> dict[str, Any]:
        with patch_module_args({"step": step, "unit": unit, **args}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    def undo(unit: str = "ssh.service") -> str:
        script = tmp_path / "undo" / unit / "undo"
        return subprocess.run(["sh", script], capture_output=True, text=True, check=True).stdout

    def said() -> list[str]:
        lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return lines

    return SimpleNamespace(step=step, undo=undo, said=said, root=tmp_path, units=tmp_path / "units")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One that is there, and one that is not."""
    old = tmp_path / "old file.conf"
    old.write_text("as it was\n", encoding="utf-8")
    old.chmod(0o640)
    return {"old": old, "new": tmp_path / "new.conf"}


def test_the_undo_brings_files_and_service_back(host, files):
    host.step("arm", paths=[str(path) for path in files.values()], seconds=40)
    said = host.said()
    assert said[-1].startswith("systemd-run --quiet --on-active=40 ") and said[-1].endswith(
        "--unit=webstack-undo-ssh.service"
    )
    assert "enable webstack-undo-ssh.service" in said
    files["old"].write_text("changed\n", encoding="utf-8")
    files["old"].chmod(0o600)
    files["new"].write_text("new\n", encoding="utf-8")
    assert "ssh.service was not confirmed" in host.undo()
    assert (files["old"].read_text(), files["old"].stat().st_mode & 0o777) == ("as it was\n", 0o640)
    assert not files["new"].exists()
    said = host.said()
    assert said.index("daemon-reload") < said.index("--no-block try-reload-or-restart ssh.service")
    assert "disable webstack-undo-ssh.service" in said
    assert list(host.units.iterdir()) == list((host.root / "undo").iterdir()) == []


def test_the_undo_of_a_first_start_is_a_stop_while_its_files_are_there(host, files):
    (host.root / "runs").unlink()
    host.step("arm", paths=[str(files["new"])])
    host.said()
    host.undo()
    said = host.said()
    assert said[0] == "disable --now ssh.service"
    assert not [line for line in said if "reload-or-restart" in line]


def test_an_undo_that_was_called_off_does_nothing_more(host, files):
    host.step("arm", paths=[str(files["old"])])
    script = (host.root / "undo/ssh.service/undo").read_text(encoding="utf-8")
    host.said()
    assert host.step("disarm")["disarmed"] is True
    assert "stop webstack-undo-ssh.timer" in host.said()
    assert list(host.units.iterdir()) == list((host.root / "undo").iterdir()) == []
    files["old"].write_text("changed\n", encoding="utf-8")
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert files["old"].read_text() == "changed\n"


def test_what_the_undo_has_done_cannot_be_called_off(host, files):
    host.step("arm", paths=[str(files["old"])])
    host.undo()
    assert host.step("disarm")["disarmed"] is False


def test_what_a_killed_run_left_armed_still_leads_to_what_was_confirmed(host, files):
    host.step("arm", paths=[str(files["old"])])
    files["old"].write_text("never confirmed\n", encoding="utf-8")
    host.step("arm", paths=[str(files["old"])])
    assert "stop webstack-undo-ssh.timer" in host.said()
    host.undo()
    assert files["old"].read_text() == "as it was\n"


def test_files_of_no_unit_come_back_too(host, files):
    host.step("arm", unit="", paths=[str(files["old"])])
    files["old"].write_text("changed\n", encoding="utf-8")
    host.said()
    host.undo("files")
    assert files["old"].read_text() == "as it was\n"
    assert not [line for line in host.said() if "ssh" in line]


def test_the_undo_comes_before_what_reads_the_files_at_boot(host, files):
    host.step("arm", paths=[str(files["old"])])
    unit = (host.units / "webstack-undo-ssh.service").read_text(encoding="utf-8")
    assert (
        "Before=network-pre.target webstack-firewall.service ssh.service" in unit and "WantedBy=sysinit.target" in unit
    )


def test_the_undo_has_a_sandbox_that_asks_for_no_namespace_and_no_path(host, files):
    host.step("arm", paths=[str(files["old"])])
    unit = host.units / "webstack-undo-ssh.service"
    text = unit.read_text(encoding="utf-8")
    assert not re.search(r"^(Private|ProtectS|ProtectH|ProtectK|ReadWrite)", text, re.MULTILINE)
    argv = ["systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=30", unit]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_an_undo_that_fails_keeps_the_copies_says_so_and_is_tried_again(host, files, command):
    """As on a full disk: it said that all was back, and had removed the only copies."""
    host.step("arm", paths=[str(path) for path in files.values()])
    files["old"].write_text("changed\n", encoding="utf-8")
    host.said()
    cp = command("cp", 'echo "cp: no space left on device" >&2; exit 1')
    argv = ["sh", host.root / "undo/ssh.service/undo"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and str(files["old"]) in done.stderr and "what stood before is back" not in done.stdout
    assert files["old"].read_text() == "changed\n"  # not removed either
    assert "disable webstack-undo-ssh.service" not in host.said()
    assert "Restart=on-failure" in (host.units / "webstack-undo-ssh.service").read_text(encoding="utf-8")
    outcome = host.step("arm", paths=[str(files["old"])])
    assert outcome["failed"] and "its undo is not finished" in outcome["msg"]
    cp.unlink()
    again = ["sh", host.root / "undo/ssh.service.undone/undo"]
    assert "what stood before is back" in subprocess.run(again, capture_output=True, text=True, check=True).stdout
    assert files["old"].read_text() == "as it was\n"
    assert list((host.root / "undo").iterdir()) == []


def test_an_undo_that_a_killed_run_left_armed_gets_the_files_of_the_next_run_too(host, files):
    host.step("arm", paths=[str(files["old"])])
    files["old"].write_text("never confirmed\n", encoding="utf-8")
    third = files["old"].with_name("third.conf")
    third.write_text("as it was, too\n", encoding="utf-8")
    host.step("arm", paths=[str(files["old"]), str(third), str(files["new"])])
    third.write_text("changed\n", encoding="utf-8")
    files["new"].write_text("new\n", encoding="utf-8")
    host.undo()
    assert files["old"].read_text() == "as it was\n" and third.read_text() == "as it was, too\n"
    assert not files["new"].exists()


@pytest.mark.parametrize("word", [True, "true"])
def test_a_look_changes_nothing_and_refuses_what_a_change_would(word):
    host = Host(BY_SSH, [])
    assert host.run(look=word)["changed"] is False
    assert host.told == ["look", "look"]
    assert Host(BY_SSH, [], refuses="would be locked out").run(look=word)["msg"] == "would be locked out"
    with pytest.raises(AnsibleActionFail, match="would cut the play's own connection"):
        Host(BY_SSH, []).run(look=word, admits=[])


@pytest.mark.parametrize("look", [True, False])
def test_a_change_waits_for_an_undo_that_is_not_finished(look):
    host = Host(BY_SSH, [])
    host.unfinished = True
    with pytest.raises(AnsibleActionFail, match="its undo is not finished"):
        host.run(look=look)
    assert host.told == ["look"]
