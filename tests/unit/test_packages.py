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
    """Answers the action's question as dpkg and find would, and notes what apt and dpkg are told."""

    def __init__(self, packages: str = "", updates: str = "", lists: str = FRESH) -> None:
        self.answer = f"{packages}---\n{updates}---\n{lists}"
        self.questions: list[str] = []
        self.told: list[str] = []
        self.complaints: list[str] = []  # of the commands to come; empty for one that succeeds

    def run(self, *, check_mode: bool = False, diff: bool = False, **args: Any) -> dict[str, Any]:
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode, diff=diff, args=args)
        plugin.validate_argument_spec = lambda argument_spec: (
            None, {"default_release": None, "refresh": False, "start": True, **args},
        )  # fmt: skip
        plugin._low_level_execute_command = self.execute
        plugin._compute_environment_string = lambda: "http_proxy=http://proxy.example.com"
        original, action.ActionBase.run = action.ActionBase.run, lambda *_args, **_options: {}
        try:
            return plugin.run(task_vars={})
        finally:
            action.ActionBase.run = original

    def execute(self, command: str, in_data: bytes | None = None) -> dict[str, Any]:
        if in_data is None:
            self.questions.append(command)
            return {"rc": 0, "stdout": self.answer, "stderr": ""}
        assert command == "sh"
        self.told.append(in_data.decode())
        complaint = self.complaints.pop(0) if self.complaints else ""
        return {"rc": 100 if complaint else 0, "stdout": "Reading package lists...", "stderr": complaint}

    def installs(self) -> list[str]:
        """What apt was told to install, by command."""
        return [text.split(" install -- ")[1].split(";")[0] for text in self.told if " install -- " in text]


def test_nothing_is_asked_of_apt_when_all_is_there():
    host = Host("nginx installed\nlibc6:amd64 installed\n", lists="")
    assert host.run(name=["nginx", "libc6"]) == {"changed": False, "missing": []}
    assert (host.told, len(host.questions)) == ([], 1)


@pytest.mark.parametrize("state", ["", "nginx not-installed\n", "nginx config-files\n", "nginx half-installed\n"])
def test_what_is_not_installed_is_missing(state):
    host = Host(f"curl installed\n{state}")
    outcome = host.run(name=["curl", "nginx"])
    assert outcome["changed"] and outcome["missing"] == ["nginx"]
    assert host.installs() == ["nginx"]


def test_a_service_starts_with_its_package_unless_its_role_starts_it():
    for start in (True, False):
        host = Host()
        host.run(name=["nginx"], start=start)
        assert ("SYSTEMD_OFFLINE=1" in host.told[0]) != start


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
    (told,) = host.told
    assert (" update && apt-get" in told) is refreshed


def test_lists_are_refreshed_when_a_source_was_added():
    host = Host()
    host.run(name=["nginx"], refresh=True)
    assert " update && apt-get" in host.told[0]


def test_the_lists_hold_a_release_before_apt_is_asked_for_it():
    host = Host(lists="")
    host.run(name=["mysql-server"], default_release="sid")
    (told,) = host.told
    refresh, install = told.split(" && ")
    assert refresh.endswith(" update") and "-t sid" not in refresh
    assert "-t sid install -- mysql-server" in install


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
    assert "--configure --pending" in host.told[0]


def test_check_mode_asks_and_changes_nothing():
    host = Host("nginx half-configured\n", "0001\n")
    outcome = host.run(name=["nginx", "curl"], check_mode=True, diff=True)
    assert outcome["changed"] and outcome["missing"] == ["nginx", "curl"]
    assert outcome["diff"]["after"] == "nginx\ncurl\n"
    assert (host.told, len(host.questions)) == ([], 1)


@pytest.mark.parametrize(
    "name", ["", "x", "Nginx", "nginx; reboot", "nginx=1.2", "-y", "nginx-", "nginx\n", "../x", "$(id)"]
)
def test_what_is_no_package_name_never_reaches_the_host(name):
    host = Host()
    with pytest.raises(AnsibleActionFail, match="is not the name of a Debian package"):
        host.run(name=["curl", name])
    assert host.questions == []


@pytest.mark.parametrize(
    "words",
    [
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)",
        "E: Unable to lock directory /var/lib/apt/lists/",
        "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
        "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
    ],
)
def test_a_lock_that_another_holds_is_waited_for(monkeypatch, words):
    monkeypatch.setattr(action, "LOCK_PAUSE", 0)
    host = Host()
    host.complaints = [words, words]
    assert host.run(name=["nginx"])["changed"]
    assert host.installs() == ["nginx"] * 3


def test_a_lock_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(action, "LOCK_PAUSE", 0)
    monkeypatch.setattr(action, "LOCK_WAIT", -1)
    host = Host()
    host.complaints = ["E: Could not get lock /var/lib/apt/lists/lock"] * 2
    with pytest.raises(AnsibleActionFail, match="Could not get lock"):
        host.run(name=["nginx"])
    assert len(host.told) == 1


BROKE = "E: Sub-process /usr/bin/dpkg returned an error code (1)"


def test_a_package_whose_script_fails_is_completed_once():
    host = Host()
    host.complaints = [BROKE]
    assert host.run(name=["mysql-server"])["changed"]
    install, complete, again = host.told
    assert "--configure --pending" in complete and install == again


def test_a_package_whose_script_fails_again_is_said_with_where_to_look():
    host = Host()
    host.complaints = [BROKE, "dpkg: error processing package mysql-server (--configure)"]
    with pytest.raises(AnsibleActionFail, match=r"error processing package mysql-server(.|\n)*dpkg --audit"):
        host.run(name=["mysql-server"])


def test_a_package_that_breaks_off_twice_is_no_matter_of_the_archive():
    host = Host()
    host.complaints = [BROKE, "", BROKE]
    with pytest.raises(AnsibleActionFail, match=r"returned an error code(.|\n)*dpkg --audit") as failure:
        host.run(name=["mysql-server"])
    assert "archive" not in str(failure.value)


def test_an_interrupted_installation_that_cannot_be_completed_is_said():
    host = Host("nginx half-configured\n")
    host.complaints = ["dpkg: error processing package nginx (--configure)"]
    with pytest.raises(AnsibleActionFail, match=r"error processing package nginx(.|\n)*dpkg --audit"):
        host.run(name=["nginx"])


def test_a_failure_of_apt_comes_with_its_words_and_with_advice():
    host = Host()
    host.complaints = ["E: Unable to locate package nginx"]
    with pytest.raises(AnsibleActionFail) as failure:
        host.run(name=["nginx"])
    for words in ("nginx: not installed", "Unable to locate package nginx", "network"):
        assert words in str(failure.value)
    assert len(host.told) == 1


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
    assert " update" not in host.told[0]


def test_what_apt_is_told_is_a_script_that_passes_on_how_it_ended(command):
    """Without a terminal, in the language that the complaints are known in; the second only after the first."""
    command(
        "apt-get",
        'case "$*" in *update) read -r line || echo "$LC_ALL $DEBIAN_FRONTEND $http_proxy" ;; *) exit 7 ;; esac',
    )
    host = Host(lists="")
    host.run(name=["nginx"])
    done = subprocess.run(["sh"], input=host.told[0], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("C noninteractive http://proxy.example.com\n", 7)
