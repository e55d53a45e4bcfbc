"""molecule/shared/scenario.py: on which hosts of a scenario its tests run."""

import os
import subprocess
import sys

import pytest
import yaml
from loading import ROOT

TESTS = """
import pytest

@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "empty"])
def test_of_each(server, harm):
    pass

@pytest.mark.everywhere
def test_that_differs(server):
    pass

def test_of_none():
    pass
"""


@pytest.fixture
def collected(tmp_path):
    """The tests that would run, without the hosts' common beginning."""
    hosts = {f"one-debian{number}-{'abcd'}": {} for number in (12, 13)}
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/ansible_inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (tmp_path / "test_one.py").write_text(TESTS)
    given = {"MOLECULE_SCENARIO_DIRECTORY": tmp_path, "MOLECULE_PROJECT_DIRECTORY": ROOT}
    given |= {"MOLECULE_EPHEMERAL_DIRECTORY": tmp_path, "PYTHONPATH": ROOT / "molecule/shared"}

    def collect(**more):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "scenario", "--collect-only", "--quiet", "--rootdir", tmp_path, tmp_path],
            env={**os.environ, **{name: str(value) for name, value in given.items()}, **more},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done
        return [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]

    return collect


def test_each_test_takes_one_host_in_turn(collected):
    tests = collected()
    assert len(tests) == 4 + 2 + 1, tests
    assert {name for name in ("debian12", "debian13") if any(name in test and "of_each" in test for test in tests)} == {
        "debian12",
        "debian13",
    }, tests
    assert tests == collected()


def test_or_every_host(collected):
    assert len(collected(EVERY_HOST="true")) == 8 + 2 + 1
