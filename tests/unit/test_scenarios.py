"""tools/scenarios: what it calls passed."""

import os
import subprocess

import pytest
from loading import ROOT


@pytest.fixture
def run(command, tmp_path, monkeypatch):
    """Runs it on a scenario whose molecule prints a line and ends with a code."""
    for name in ("tools", "bin"):
        (tmp_path / name).mkdir(exist_ok=True)
    tool = tmp_path / "tools/scenarios"
    tool.write_text((ROOT / "tools/scenarios").read_text(encoding="utf-8"))
    (tmp_path / "tools/image").write_text("#!/bin/sh\n")
    for path in (tool, tmp_path / "tools/image"):
        path.chmod(0o755)

    def scenarios(line, code):
        command("molecule", f"echo '{line}'; exit {code}")
        return subprocess.run([tool, "one", "two"], capture_output=True, text=True, check=False, env=os.environ)

    return scenarios


def test_a_scenario_whose_tests_pass_passes(run):
    done = run("===== 12 passed, 1 warning in 3.4s =====", 0)
    assert done.returncode == 0, done.stdout
    assert "scenario one passed in 0 s: 12 passed" in done.stdout
    assert "scenario two passed" in done.stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("===== 12 passed in 3.4s =====", 1),
        ("===== 1 failed, 11 passed in 3.4s =====", 1),
        ("no tests ran", 0),
        ("", 0),
    ],
)
def test_a_scenario_that_fails_or_tests_nothing_fails(run, line, code):
    done = run(line, code)
    assert done.returncode != 0
    assert "scenario one FAILED" in done.stdout and "scenario two FAILED" in done.stdout
    assert line in done.stdout


def test_what_took_longest_is_told_at_the_end(run):
    slow = "  | 7.10s call     tests/test_x.py::test_slow[a b]\n  | 12.30s setup    tests/test_x.py::test_slower"
    done = run(f"{slow}\n===== 2 passed in 19.4s =====", 0)
    assert done.returncode == 0, done.stdout
    told = done.stdout.split("What took longest:\n")[1].splitlines()
    # In whole seconds, and one may have begun before the other.
    assert sorted(line.split("s ", 1)[1] for line in told[:2]) == ["scenario one", "scenario two"]
    assert sorted(told[2:4]) == [f"12.30s setup    {name}: test_x.py::test_slower" for name in ("one", "two")]
    assert sorted(told[4:]) == [f"7.10s call     {name}: test_x.py::test_slow[a b]" for name in ("one", "two")]
