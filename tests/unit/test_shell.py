"""Scripts for a shell on the host."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
from types import SimpleNamespace
from typing import Any

from loading import load

shell = load("plugins/plugin_utils/shell.py")


def as_ansible_does(command: str, in_data: bytes = b"") -> dict[str, Any]:
    """Over ssh Ansible asks for a terminal, unless a command has input (ansible.builtin.ssh, exec_command)."""
    if in_data:
        done = subprocess.run(["sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}
    parent, child = pty.openpty()
    process = subprocess.Popen(["sh", "-c", command], stdin=child, stdout=child, stderr=child)
    os.close(child)
    process.wait()
    said = os.read(parent, 65536).decode()
    os.close(parent)
    return {"rc": process.returncode, "stdout": said, "stderr": "Shared connection to host closed.\r\n"}


ACTION = SimpleNamespace(_low_level_execute_command=as_ansible_does)


def test_a_terminal_would_end_lines_otherwise():
    assert "\r\n" in as_ansible_does("echo a; echo b")["stdout"]


def test_a_script_is_answered_as_it_was_written_and_its_complaints_stand_apart():
    outcome = shell.run_script(ACTION, "echo a; echo ---; echo b; echo oops >&2; exit 3")
    assert (outcome["rc"], outcome["stdout"]) == (3, "a\n---\nb\n")
    assert shell.complaint(outcome) == "oops"


def test_arguments_come_through_whatever_they_hold():
    words = ["two words", "it's", '{"a": "$HOME"}', ""]
    outcome = shell.run_script(ACTION, 'for word; do printf "<%s>" "$word"; done', *words)
    assert outcome["stdout"] == "".join(f"<{word}>" for word in words)


def test_a_script_is_not_in_the_list_of_processes():
    seen: list[str] = []
    spy = SimpleNamespace(_low_level_execute_command=lambda command, in_data: seen.append(command) or {})
    shell.run_script(spy, "echo a secret", "argument")
    assert seen == [shlex.join(["sh", "-s", "--", "argument"])]
