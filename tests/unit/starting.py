"""Ansible's programs and the tools that use it, as a command line starts them, without what an import of Ansible takes.

A process has imported Ansible, and each call is a fork of it. What Ansible reads of its environment and of ansible.cfg as it
is imported is the same for all calls of one process, so there is one for each such environment.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

BIN = Path(sys.executable).parent


def start(
    program: str | Path, *argv: str | Path, cwd: Path, home: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs a program of .venv, or a tool by its path; of Ansible's settings it knows `settings` and no others.

    `home` is where Ansible looks for its ansible.cfg and its own folders; without it, `cwd` and the user's.
    """
    words = [str(word) for word in (BIN / program, *argv)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{environment['PATH']}:{BIN}", **settings}
    if home:
        environment["HOME"] = str(home)
    process = imported(str(home or cwd), environment["HOME"], *sorted(settings.items()))
    assert process.stdin and process.stdout
    with tempfile.TemporaryDirectory() as folder:
        process.stdin.write(json.dumps([words, str(cwd), environment, folder]) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        said = [Path(folder, name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, code, *said)


@functools.cache
def imported(cwd: str, home: str, *settings: tuple[str, str]) -> subprocess.Popen[str]:
    """A process that has imported Ansible; it ends with this one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    process = subprocess.Popen(
        [sys.executable, __file__], cwd=cwd, env=environment | {"HOME": home} | dict(settings), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    atexit.register(process.communicate)
    return process


def serve() -> None:
    from ansible.cli import adhoc, playbook  # noqa: F401 - imported for the forks
    from ansible.constants import DEFAULT_LOCAL_TMP
    from ansible.plugins import loader

    loader.init_plugin_loader()
    for kind in ("connection", "become", "shell", "inventory", "strategy", "action", "lookup", "filter", "test"):
        list(getattr(loader, f"{kind}_loader").all(class_only=True))  # Ansible has a fork of its own for each task
    warnings.filterwarnings("ignore", "AnsibleCollectionFinder has already been configured")
    for line in sys.stdin:
        words, cwd, environment, folder = json.loads(line)
        if pid := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
            continue
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        for number, path in enumerate((os.devnull, f"{folder}/stdout", f"{folder}/stderr")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
        os.makedirs(DEFAULT_LOCAL_TMP, 0o700, exist_ok=True)  # made by the import, and removed by the call before
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
        sys.exit()


if __name__ == "__main__":
    serve()
