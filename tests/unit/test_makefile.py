"""What a verb of the Makefile hands on to a shell is a word to it."""

import os
import subprocess

import pytest
from loading import ROOT


def make(*words):
    """make as a terminal starts it: what a `make test` around this test tells its children is kept from it."""
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("verb", "name"),
    [("deploy", "REF"), ("rollback", "RELEASE"), ("maintenance", "STATE"), ("secrets", "SECRET")],
)
@pytest.mark.parametrize("value", ["v1; touch {place}", "v1`touch {place}`", "a b", "v1|tee", "'", "*"])
def test_what_is_no_word_is_refused(verb, name, value, tmp_path):
    place = tmp_path / "done"
    done = make(verb, f"{name}={value.format(place=place)}", "ENV=demo")
    assert done.returncode == 2
    assert f"{name}: may have letters, digits" in done.stderr
    assert "ansible" not in done.stdout + done.stderr
    assert not place.exists()


@pytest.mark.parametrize(
    "verb", ["site", "check", "verify", "deploy", "rollback", "maintenance", "status", "secrets", "rotate"]
)
def test_an_inventory_that_is_not_there_is_no_success(verb):
    done = make(verb, "ENV=producton", "STATE=on")
    assert done.returncode == 2 and done.stdout == ""
    assert "there is no folder inventories/producton; nothing was done. There are: demo production" in done.stderr


@pytest.mark.parametrize("name", ["deploy", "rollback", "maintenance", "status", "verify", "rotate", "site"])
def test_a_host_that_is_a_placeholder_is_not_asked_anything(name):
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "inventories/production", f"{name}.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )  # fmt: skip
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "has the address 8.8.8.8, which stands for yours" in said, said
    assert "unreachable=0" in said


def test_the_first_run_names_all_that_is_to_be_edited():
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "inventories/production", "site.yml", "--extra-vars", '{"site_version": 1.10}'],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )  # fmt: skip
    said = done.stdout + done.stderr
    for words in (
        "ansible_host: www.foobar.com has the address 8.8.8.8",
        "site_domain: still www.foobar.com",
        "site_repository: not set, or still a placeholder",
        "site_version: put quotes around it; YAML has read it as the number 1.1",
        "site_database_password: not set, or still a placeholder",
        "site_secret_key: not set, or still a placeholder",
    ):
        assert f"  - {words}" in said, said


def test_ansible_itself_does_not_take_an_inventory_that_is_not_there_for_an_empty_one():
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "inventories/producton", "deploy.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )  # fmt: skip
    assert done.returncode != 0
