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
        args = {"app": "shop", "repository": str(clone), "version": "main", "signers": [], **changes}
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


def test_two_pushes_of_one_commit_do_not_meet(push):
    first, second = push()["archive"], push()["archive"]
    assert first != second and len(list(push.cache.iterdir())) == 2


def test_check_mode_sends_nothing(push):
    assert push(check_mode=True)["commit"]
    assert list(push.cache.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("no-such-branch", "is no branch, tag or commit of .* on the controller"),
        ("-x", "is not the name of"),
        ("main:app.py", "is not the name of"),
        ("main~1", "is not the name of"),
        ("both", "'both' is ambiguous: the branch is .* the tag is"),
    ],
)
def test_what_names_no_commit_sends_nothing(push, clone, version, words):
    git(clone, "tag", "both")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "second")
    git(clone, "branch", "both")
    with pytest.raises(AnsibleActionFail, match=words):
        push(version=version)
    assert list(push.cache.iterdir()) == []


def test_a_repository_that_is_not_there_is_named(push):
    with pytest.raises(AnsibleActionFail, match=r"git rev-parse in /nowhere, on the controller"):
        push(repository="/nowhere")


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


# Signatures, and submodules


def git(folder: Path, *argv: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", "-C", folder, *identity, *argv], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def signed(clone: Path, tmp_path: Path) -> str:
    """Makes the last commit a signed one; returns the line that knows its signer."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    git(
        clone,
        "-c",
        "gpg.format=ssh",
        "-c",
        f"user.signingKey={tmp_path}/key",
        "commit",
        "--quiet",
        "--amend",
        "-S",
        "--no-edit",
    )
    kind, key = (tmp_path / "key.pub").read_text().split()[:2]
    return f"t@example.com {kind} {key}"


def test_a_commit_that_a_signer_has_signed_arrives(push, signed):
    assert push(signers=[signed])["commit"]


def test_a_commit_that_nobody_has_signed_is_refused(push, signed, clone):
    git(clone, "commit", "--quiet", "--amend", "--no-edit", "--no-gpg-sign")
    with pytest.raises(AnsibleActionFail, match="is signed by none of app_server_signers"):
        push(signers=[signed])
    assert list(push.cache.iterdir()) == []


def test_a_commit_that_somebody_else_has_signed_is_refused(push, signed, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    with pytest.raises(AnsibleActionFail, match="is signed by none of app_server_signers"):
        push(signers=[f"t@example.com {kind} {key}"])


def test_a_signed_tag_is_enough_however_its_commit_is_asked_for(push, signed, clone, tmp_path):
    git(clone, "commit", "--quiet", "--amend", "--no-edit", "--no-gpg-sign")
    git(clone, "tag", "light")
    git(clone, "tag", "-m", "not signed", "heavy")
    with pytest.raises(AnsibleActionFail, match="is signed by none"):
        push(signers=[signed], version="heavy")
    git(clone, "-c", "gpg.format=ssh", "-c", f"user.signingKey={tmp_path}/key", "tag", "-s", "-m", "good", "v1")
    for version in ("v1", "main", git(clone, "rev-parse", "main")):
        assert push(signers=[signed], version=version)["commit"]
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "further on", "--no-gpg-sign")
    with pytest.raises(AnsibleActionFail, match="is signed by none"):
        push(signers=[signed], version="main")


def test_submodules_come_with_the_commit(push, clone, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(clone, part)
    git(clone, "submodule", "--quiet", "add", str(part), "lib/part")
    git(clone, "commit", "--quiet", "--message", "with a part")
    place = tmp_path / "place"
    place.mkdir()
    push()
    (archive,) = push.cache.iterdir()
    subprocess.run(["tar", "--extract", "--ignore-zeros", "--file", archive], cwd=place, check=True)
    assert (place / "app.py").exists() and (place / "lib/part/app.py").read_text() == "number = 1\n"


def test_files_that_git_lfs_keeps_elsewhere_arrive_whole_where_it_is_set_up(push, clone):
    """Git has them put in by whatever filter the clone has for them, as `git lfs install` makes one."""
    (clone / ".gitattributes").write_text("*.png filter=lfs\n")
    (clone / "logo.png").write_text("pointer\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "A logo")
    git(clone, "config", "filter.lfs.smudge", "sed s/pointer/picture/")
    with tarfile.open(push.cache / Path(push()["archive"]).name) as archive:
        assert archive.extractfile("logo.png").read() == b"picture\n"


def test_a_submodule_that_is_not_checked_out_is_named(push, clone, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(clone, part)
    git(clone, "submodule", "--quiet", "add", str(part), "lib/part")
    git(clone, "commit", "--quiet", "--message", "with a part")
    shutil.rmtree(clone / "lib/part")
    with pytest.raises(AnsibleActionFail, match=r"the submodule lib/part is not checked out.*submodule update --init"):
        push()
