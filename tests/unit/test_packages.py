"""The action that installs packages: what it makes of dpkg's answers, and what it asks of apt."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from loading import load

action = load("plugins/action/packages.py")
FRESH = "/var/lib/apt/lists/deb_Packages\n/var/lib/apt/lists\n"


class Host:
    """Answers the action's question as dpkg and find would, and notes what apt is asked for."""

    def __init__(self, packages: str = "", updates: str = "", lists: str = FRESH) -> None:
        self.answer = f"{packages}---\n{updates}---\n{lists}"
        self.commands: list[str] = []
        self.apt: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []

    def run(self, *, check_mode: bool = False, diff: bool = False, **args: Any) -> dict[str, Any]:
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode, diff=diff, args=args)
        plugin.validate_argument_spec = lambda argument_spec: (
            None, {"default_release": None, "refresh": False, **args},
        )  # fmt: skip
        plugin._low_level_execute_command = self.execute
        plugin._execute_module = self.module
        original, action.ActionBase.run = action.ActionBase.run, lambda *_args, **_options: {}
        try:
            return plugin.run(task_vars={})
        finally:
            action.ActionBase.run = original

    def execute(self, command: str) -> dict[str, Any]:
        self.commands.append(command)
        return {"rc": 0, "stdout": self.answer, "stderr": ""}

    def module(self, module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert module_name == "ansible.builtin.apt"
        self.apt.append(module_args)
        return self.outcomes.pop(0) if self.outcomes else {"changed": True}


def test_nothing_is_asked_of_apt_when_all_is_there():
    host = Host("nginx installed\nlibc6:amd64 installed\n", lists="")
    assert host.run(name=["nginx", "libc6"]) == {"changed": False, "missing": []}
    assert host.apt == []
    assert len(host.commands) == 1


@pytest.mark.parametrize("state", ["", "nginx not-installed\n", "nginx config-files\n", "nginx half-installed\n"])
def test_what_is_not_installed_is_missing(state):
    host = Host(f"curl installed\n{state}")
    outcome = host.run(name=["curl", "nginx"])
    assert outcome["changed"] and outcome["missing"] == ["nginx"]
    assert [request["name"] for request in host.apt] == [["nginx"]]


def test_a_package_named_twice_is_installed_once():
    host = Host()
    assert host.run(name=["nginx", "nginx"])["missing"] == ["nginx"]


@pytest.mark.parametrize(
    ("lists", "refreshed"),
    [(FRESH, False), ("", True), ("/var/lib/apt/lists\n", True), ("/var/lib/apt/lists/deb_Packages\n", True)],
    ids=["fresh", "absent", "empty but just made", "old"],
)
def test_lists_are_refreshed_when_they_are_empty_or_old(lists, refreshed):
    host = Host(lists=lists)
    host.run(name=["nginx"])
    assert host.apt[0]["update_cache"] is refreshed


def test_lists_are_refreshed_when_a_source_was_added():
    host = Host()
    host.run(name=["nginx"], refresh=True)
    assert host.apt[0]["update_cache"] is True


def test_the_lists_hold_a_release_before_apt_is_asked_for_it():
    host = Host(lists="")
    host.run(name=["mysql-server"], default_release="sid")
    refresh, install = host.apt
    assert refresh["update_cache"] and "name" not in refresh
    assert (install["name"], install["default_release"]) == (["mysql-server"], "sid")
    assert "update_cache" not in install


def test_a_refresh_that_fails_ends_it():
    host = Host(lists="")
    host.outcomes = [{"failed": True, "msg": "Temporary failure resolving"}]
    with pytest.raises(AnsibleActionFail, match="Temporary failure resolving"):
        host.run(name=["mysql-server"], default_release="sid")
    assert len(host.apt) == 1


@pytest.mark.parametrize(
    ("packages", "updates"),
    [
        ("nginx installed\n", "0001\n"),
        ("nginx half-configured\n", ""),
        ("nginx unpacked\n", ""),
        ("nginx triggers-pending\n", ""),
    ],
)
def test_an_interrupted_installation_is_completed_first(packages, updates):
    host = Host(packages, updates)
    assert host.run(name=["nginx"])["changed"]
    assert "dpkg --force-confold --configure --pending" in host.commands[1]


def test_check_mode_asks_and_changes_nothing():
    host = Host("nginx half-configured\n", "0001\n")
    outcome = host.run(name=["nginx", "curl"], check_mode=True, diff=True)
    assert outcome["changed"] and outcome["missing"] == ["nginx", "curl"]
    assert outcome["diff"]["after"] == "nginx\ncurl\n"
    assert len(host.commands) == 1 and host.apt == []


@pytest.mark.parametrize("name", ["", "x", "Nginx", "nginx; reboot", "nginx=1.2", "-y", "nginx\n", "../x", "$(id)"])
def test_what_is_no_package_name_never_reaches_the_host(name):
    host = Host()
    with pytest.raises(AnsibleActionFail, match="is not the name of a Debian package"):
        host.run(name=["curl", name])
    assert host.commands == []


@pytest.mark.parametrize(
    "words",
    [
        "E:Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)",
        "Failed to lock apt for exclusive operation: Failed to lock directory /var/lib/apt/lists/",
        "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend)",
    ],
)
def test_a_lock_that_another_holds_is_waited_for(monkeypatch, words):
    monkeypatch.setattr(action, "LOCK_PAUSE", 0)
    host = Host()
    host.outcomes = [{"failed": True, "msg": words}, {"failed": True, "msg": words}, {"changed": True}]
    assert host.run(name=["nginx"])["changed"]
    assert len(host.apt) == 3


def test_a_package_whose_script_fails_is_completed_once(monkeypatch):
    broke = {"failed": True, "msg": "E: Sub-process /usr/bin/dpkg returned an error code (1)"}
    host = Host()
    host.outcomes = [broke, {"changed": True}]
    assert host.run(name=["mysql-server"])["changed"]
    assert "--configure --pending" in host.commands[-1]
    host.outcomes = [broke, broke, {"changed": True}]
    with pytest.raises(AnsibleActionFail, match=r"returned an error code(.|\n)*dpkg --audit"):
        host.run(name=["mysql-server"])


def test_a_lock_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(action, "LOCK_PAUSE", 0)
    monkeypatch.setattr(action, "LOCK_WAIT", -1)
    host = Host()
    host.outcomes = [{"failed": True, "msg": "E:Could not get lock /var/lib/apt/lists/lock"}]
    with pytest.raises(AnsibleActionFail, match="Could not get lock"):
        host.run(name=["nginx"])
    assert len(host.apt) == 1


def test_a_failure_of_apt_comes_with_its_words_and_with_advice():
    host = Host()
    host.outcomes = [{"failed": True, "msg": "No package matching 'nginx'"}]
    with pytest.raises(AnsibleActionFail) as failure:
        host.run(name=["nginx"])
    for words in ("nginx: not installed", "No package matching 'nginx'", "network"):
        assert words in str(failure.value)


def test_a_host_without_dpkg_is_told_apart():
    host = Host()
    host.answer = ""
    with pytest.raises(AnsibleActionFail, match="is this a Debian host"):
        host.run(name=["nginx"])


def test_the_question_is_one_that_a_shell_understands(tmp_path: Path, command):
    command(
        "dpkg-query",
        r"""[ "$3" = '${binary:Package} ${db:Status-Status}\n' ] || exit 9; echo "curl installed"; exit 1""",
    )
    query = action.QUERY.format(names="curl no-such-package").replace("/var/lib", str(tmp_path))
    (tmp_path / "dpkg/updates").mkdir(parents=True)
    (tmp_path / "apt/lists/partial").mkdir(parents=True)
    (tmp_path / "apt/lists/archive_Packages.lz4").touch()
    said = subprocess.run(["sh", "-c", query], capture_output=True, text=True, check=True).stdout
    host = Host()
    host.answer = said
    outcome = host.run(name=["curl", "no-such-package"])
    assert outcome["missing"] == ["no-such-package"]
    assert host.apt[0]["update_cache"] is False
