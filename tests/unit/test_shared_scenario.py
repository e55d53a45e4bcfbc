"""molecule/shared/scenario.py: which tests of a scenario run, and on which of its hosts."""

import os
import subprocess
import sys

import pytest
import yaml
from loading import ROOT

HOSTS = ["one-debian12-abcd", "one-debian13-abcd"]
TESTS = """
import pytest

@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "empty"])
def test_of_each(server, harm):
    pass

def test_of_none():
    pass

@pytest.mark.thorough
def test_that_takes_long(server):
    pass
"""


@pytest.fixture
def collected(tmp_path):
    """The tests that would run."""
    hosts = {name: {} for name in HOSTS}
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


def test_each_test_takes_one_host_in_turn_and_what_takes_long_is_left_out(collected):
    tests = collected()
    assert len(tests) == 4 + 1, tests
    assert all(any(host in test for test in tests if "of_each" in test) for host in HOSTS), tests
    assert tests == collected()


def test_or_all_tests_run_on_every_host(collected):
    assert len(collected(THOROUGH="true")) == 8 + 1 + 2
