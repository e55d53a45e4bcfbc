"""tools/release: two commits and a tag, or nothing. (That the changelog is made of the fragments is antsibull's to show.)"""

import os
import subprocess

import pytest
import yaml
from loading import ROOT

VERSIONS = "---\n0.3.0: {}\n0.2.0:\n  commit: abc\n"


@pytest.fixture
def tree(command, tmp_path, monkeypatch):
    """A clone that is about to release 0.3.0."""
    command("antsibull-changelog", 'echo "$@" >> ../asked; echo "$@" >> CHANGELOG.md')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "me")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "me@example.com")
    place = tmp_path / "tree"
    for name, text in {
        "galaxy.yml": "name: webstack\nversion: 0.3.0\n",
        "meta/versions.yml": VERSIONS,
        "changelogs/fragments/a.yml": "---\n",
        "tools/release": (ROOT / "tools/release").read_text(encoding="utf-8"),
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    (place / "tools/release").chmod(0o755)
    git(place, "init", "--quiet")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "Before")
    return place


def git(place, *argv):
    return subprocess.run(["git", *argv], cwd=place, check=True, capture_output=True, text=True).stdout.strip()


def release(place, *argv):
    return subprocess.run(
        ["tools/release", *argv], cwd=place, env=os.environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("said", ["0.3.0: {}\n", "0.3.0:\n  steps: [do it]\n"])
def test_a_version_is_committed_tagged_and_noted_and_the_next_begins(tree, said):
    (tree / "meta/versions.yml").write_text(VERSIONS.replace("0.3.0: {}\n", said), encoding="utf-8")
    git(tree, "commit", "--quiet", "--all", "--allow-empty", "--message", "Steps")
    done = release(tree, "0.10.0")
    assert done.returncode == 0, done.stderr
    assert (tree.parent / "asked").read_text() == "lint\nrelease --version 0.3.0\n"
    assert git(tree, "rev-parse", "v0.3.0^{commit}") == git(tree, "rev-parse", "HEAD~1")
    assert git(tree, "show", "v0.3.0:galaxy.yml").endswith("version: 0.3.0") and git(
        tree, "show", "v0.3.0:CHANGELOG.md"
    )
    versions = yaml.safe_load((tree / "meta/versions.yml").read_text(encoding="utf-8"))
    assert list(versions) == ["0.10.0", "0.3.0", "0.2.0"] and versions["0.10.0"] == {}
    assert versions["0.3.0"]["commit"] == git(tree, "rev-parse", "v0.3.0^{commit}")
    assert versions["0.3.0"].get("steps") == (["do it"] if "steps" in said else None)
    assert "version: 0.10.0" in (tree / "galaxy.yml").read_text() and git(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "which version comes after 0.3.0?"),
        (["next"], "which version comes after 0.3.0?"),
        (["0.3.0"], "0.3.0 does not come after 0.3.0"),
        (["0.2.9"], "0.2.9 does not come after 0.3.0"),
    ],
)
def test_what_is_no_next_version_is_refused(tree, argv, words):
    refused(tree, argv, words)


def test_what_is_not_committed_is_not_released(tree):
    (tree / "new").touch()
    refused(tree, ["0.4.0"], "differs from what is committed")


def refused(tree, argv, words):
    before = git(tree, "rev-parse", "HEAD")
    done = release(tree, *argv)
    assert done.returncode == 1 and words in done.stderr
    assert git(tree, "rev-parse", "HEAD") == before and git(tree, "tag") == "" and not (tree.parent / "asked").exists()
