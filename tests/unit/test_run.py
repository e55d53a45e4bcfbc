"""The tool that runs a command of the application on its host: with docker and ssh that note what they are told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loading import ROOT
from starting import start

TOOL = "/usr/local/sbin/webstack-release"
NOTE = """
printf '%s\\0' "$@" > "$NOTED"
[ -t 0 ] && echo 'a terminal' || echo 'no terminal'
exit 7
"""


class Outcome:
    def __init__(self, code: int, said: str, told: list[str] | None) -> None:
        self.code, self.said, self.told = code, said, told


@pytest.fixture
def run(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the tool on an inventory of one host with these variables."""
    noted = tmp_path / "noted"
    monkeypatch.setenv("NOTED", str(noted))
    monkeypatch.setenv("ANSIBLE_CONFIG", str(ROOT / "ansible.cfg"))
    for name in ("docker", "ssh"):
        command(name, NOTE)

    def tell(text: str, *, terminal: bool = False, group: str = "appservers", **values: Any) -> Outcome:
        host = {"ansible_host": "10.0.0.5", "sites": {"shop": {"repository": "x"}}, **values}
        inventory = tmp_path / "inventory.json"
        inventory.write_text(json.dumps({"all": {"children": {group: {"hosts": {"www.example.com": host}}}}}))
        argv = [str(ROOT / "tools/run"), str(inventory), text]
        noted.unlink(missing_ok=True)
        if terminal:
            code, said = on_terminal([sys.executable, *argv])
        else:
            done = start(*argv, cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
            code, said = done.returncode, done.stdout + done.stderr
        return Outcome(code, said, noted.read_text().split("\0")[:-1] if noted.exists() else None)

    return tell


def on_terminal(argv: list[str]) -> tuple[int, str]:
    pid, terminal = pty.fork()
    if not pid:
        os.execv(argv[0], argv)
    said = b""
    try:
        while part := os.read(terminal, 4096):
            said += part
    except OSError:  # the terminal of who has ended
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()


def test_over_ssh_one_line_that_the_shell_there_reads_as_it_was_meant(run):
    outcome = run("python manage.py shell -c 'print(\"a b; $HOME\")'", ansible_user="admin", ansible_port=2222)
    assert outcome.code == 7, outcome.said
    *options, end, host, line = outcome.told
    assert (end, host) == ("--", "10.0.0.5")
    assert options[0] == "-T" and options[-4:] == ["-p", "2222", "-l", "admin"]
    words = subprocess.run(
        ["sh", "-c", f'set -- {line}; printf "%s\\n" "$@"'], capture_output=True, text=True, check=True
    )
    assert words.stdout.splitlines() == [
        "sudo", "--", TOOL, "shop", "run", "--", "python", "manage.py", "shell", "-c", 'print("a b; $HOME")',
    ]  # fmt: skip


def test_ansibles_own_words_for_ssh_are_taken_over(run):
    outcome = run(
        "x",
        ansible_ssh_common_args="-o ProxyJump=gate.example.com",
        ansible_ssh_private_key_file="/home/me/.ssh/key",
        ansible_ssh_user="{{ who }}",
        who="deploy",
        ansible_become=False,
    )
    told = " ".join(outcome.told)
    assert "-o ProxyJump=gate.example.com" in told and "-i /home/me/.ssh/key -l deploy" in told
    assert told.endswith(f"-- 10.0.0.5 {TOOL} shop run -- x")


def test_into_a_container_without_a_shell(run):
    outcome = run(
        "say 'a  b'", ansible_connection="community.docker.docker", ansible_host="{{ 'box' }}", ansible_become=False
    )
    assert outcome.told == ["exec", "-i", "box", TOOL, "shop", "run", "--", "say", "a  b"]
    assert outcome.code == 7 and "no terminal" in outcome.said


def test_a_terminal_is_handed_on(run):
    outcome = run("x", terminal=True)
    assert outcome.told[0] == "-t" and outcome.code == 7 and "a terminal" in outcome.said
    outcome = run("x", terminal=True, ansible_connection="community.docker.docker", ansible_become=False)
    assert outcome.told[:3] == ["exec", "-it", "10.0.0.5"] and outcome.code == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a command"),
        ("  ", "is not a command"),
        ("say 'a", "cannot be taken apart into words: no closing quotation"),
        ("cd /tmp && ls", "begins with 'cd', which is a shell's"),
        ("say $HOME", "has a $ that is for a shell"),
        ('say "$HOME"', "has a $ that is for a shell"),
        ("say x > file", "has a > that is for a shell"),
        ("say *.py", "has a * that is for a shell"),
        ("say x\nsay y", "is not a command of one line"),
    ],
)
def test_what_is_no_single_command_is_refused(run, text, said):
    outcome = run(text)
    assert outcome.code == 2 and outcome.told is None
    assert "COMMAND: " in outcome.said and said in outcome.said and outcome.said.count("nothing was done") == 1


@pytest.mark.parametrize("text", ["say '$HOME & more'", r"say \$HOME", 'say "a & b"'])
def test_quotes_make_a_letter_of_it(run, text):
    assert run(text).code == 7


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ansible_host": "8.8.8.8"}, "has the address 8.8.8.8, which stands for yours"),
        ({"ansible_connection": "winrm"}, "ansible_connection: winrm, and this knows ssh and docker"),
        ({"ansible_become_method": "doas"}, "ansible_become_method: doas, and this knows sudo alone"),
        ({"group": "webservers"}, "there is no host in its group appservers"),
        ({"sites": {"docs": {"root": "/srv/docs"}}}, "there is no site with an application; nothing was done."),
    ],
)
def test_a_host_to_which_it_knows_no_way_is_refused(run, values, said):
    outcome = run("x", **values)
    assert outcome.code == 2 and outcome.told is None
    assert said in outcome.said and "Traceback" not in outcome.said


def test_no_password_of_a_vault_is_needed_for_values_that_are_not(run, tmp_path):
    vaulted = {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n6162\n"}
    assert run("x", vault_shop_database_password=vaulted).code == 7
