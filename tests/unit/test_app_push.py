"""The action that brings a commit from the controller to the host, with real git and a real shell."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from loading import load

action = load("plugins/action/app_push.py")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "app.py").write_text("number = 1\n")
    for argv in (
        ["init", "--quiet", "--initial-branch", "main"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message", "first"],
    ):
        subprocess.run(["git", "-C", folder, *argv], check=True)
    return folder


@pytest.fixture
def push(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the action; what it sends lands in `tmp_path`/cache instead of /var/cache."""
    cache = tmp_path / "cache"
    cache.mkdir()

    def execute(command: str, in_data: bytes) -> dict[str, Any]:
        command = command.replace("/var/cache", str(cache))
        done = subprocess.run(["sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

    def run(*, check_mode: bool = False, **changes: str) -> dict[str, Any]:
        args = {"app": "shop", "repository": str(clone), "version": "main", **changes}
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode, args=args)
        plugin.validate_argument_spec = lambda argument_spec: (None, args)
        plugin._low_level_execute_command = execute
        return plugin.run(task_vars={})

    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    run.cache = cache
    return run


def test_the_commit_arrives_whole_and_for_root_alone(push, clone):
    outcome = push()
    head = subprocess.run(["git", "-C", clone, "rev-parse", "main"], capture_output=True, text=True, check=True)
    assert outcome["commit"] == head.stdout.strip()
    (archive,) = push.cache.iterdir()
    assert archive.name == Path(outcome["archive"]).name
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        assert tar.extractfile("app.py").read() == b"number = 1\n"


def test_what_a_run_before_has_left_is_written_anew(push):
    archive = push.cache / Path(push(check_mode=True)["archive"]).name
    archive.write_text("half of an archive")
    archive.chmod(0o644)
    push()
    assert archive.stat().st_mode & 0o777 == 0o600
    assert tarfile.is_tarfile(archive)


def test_check_mode_sends_nothing(push):
    assert push(check_mode=True)["changed"]
    assert list(push.cache.iterdir()) == []


@pytest.mark.parametrize("version", ["no-such-branch", "-x", "main:app.py"])
def test_what_names_no_commit_sends_nothing(push, version):
    with pytest.raises(AnsibleActionFail, match=r"git rev-parse in .* on the controller"):
        push(version=version)
    assert list(push.cache.iterdir()) == []


def test_a_host_that_cannot_take_it_says_why(push):
    shutil.rmtree(push.cache)
    with pytest.raises(
        AnsibleActionFail, match=r"what is live goes on serving.\n.*No such file or directory|nonexistent"
    ):
        push()


def test_an_archive_that_does_not_fit_is_not_left_behind(push, command):
    command("cat", "/bin/cat; echo 'cat: write error: No space left on device' >&2; exit 1")
    with pytest.raises(AnsibleActionFail, match="No space left on device"):
        push()
    assert list(push.cache.iterdir()) == []
