"""The tree as others install it: built, installed into an empty folder, and called from there by full name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from loading import ROLES, ROOT
from starting import start

FACTS = {
    "distribution": "Debian",
    "distribution_release": "trixie",
    "distribution_version": "13",
    "service_mgr": "systemd",
    "virtualization_type": "kvm",
    "virtualization_role": "host",
    "memtotal_mb": 4096,
}


def ansible(*argv: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs one of Ansible's commands as somebody who has nothing of this checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    program = Path(sys.executable).with_name(str(argv[0]))
    return subprocess.run(
        [program, *argv[1:]],
        cwd=cwd,
        env={**clean, "HOME": str(cwd), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefact")
    done = ansible("ansible-galaxy", "collection", "build", ROOT, "--output-path", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def installed(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An otherwise empty folder of collections."""
    folder = tmp_path_factory.mktemp("installed")
    done = ansible(
        "ansible-galaxy", "collection", "install", artefact, "--no-deps", "--offline", "-p", folder, cwd=folder
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_the_artefact_holds_what_others_need_and_nothing_else(artefact):
    with tarfile.open(artefact) as archive:
        names = archive.getnames()
    for role in ROLES:
        assert f"roles/{role.name}/tasks/main.yml" in names
        assert f"roles/{role.name}/README.md" in names
    for path in ROOT.glob("plugins/*/*.py"):
        assert str(path.relative_to(ROOT)) in names
    parts = {part for name in names for part in Path(name).parts}
    unwanted = {
        ".venv",
        ".ansible",
        ".cache",
        ".git",
        ".pytest_cache",
        ".ruff_cache",
        "__pycache__",
        "secrets",
        ".secrets",
    }
    assert parts & unwanted == set()
    assert {Path(name).parts[0] for name in names} & {
        "molecule",
        "tests",
        ".ci",
        ".github",
        ".config",
        "build",
        "inventories",
        "ansible.cfg",  # it names an inventory of the checkout
    } == set()
    assert "meta/execution-environment.yml" in names  # else ansible-builder takes requirements.txt
    assert [name for name in names if name.endswith((".tar.gz", ".pyc", "vault.yml", "_key", ".pem"))] == []


# What operators have in a checkout beside the project's own files.
OF_A_USER = """
inventories/production/group_vars/all/vault.yml inventories/production/hosts.yml inventories/shop/hosts.ini
inventories/shop/host_vars/www.example.com/vault.yaml inventories/shop/files/tls.txt inventory.ini inventory/hosts hosts hosts.yml
group_vars/all.yml host_vars/www.example.com.yml vault.yml vault_password secrets/token secrets.yml .env prod.env .vault_pass
vault-pass my.password .idea/workspace.xml .vscode/settings.json .envrc site.retry site.key site.pem chain.crt keys/deploy
id_ed25519 id_ed25519.pub private/ca.txt dump.sql dump.sql.gz backups/monday.tar venv/bin/python env/x node_modules/x site.log
notes.orig site.yml~ .site.yml.swp tmp/x foobar-webstack-0.1.0.tar.gz
"""


def test_nothing_that_an_operator_has_in_a_checkout_is_packed(artefact, tmp_path):
    copy = tmp_path / "checkout"
    with tarfile.open(artefact) as archive:
        archive.extractall(copy, filter="data")
        clean = set(archive.getnames())
    for name in ("MANIFEST.json", "FILES.json"):
        (copy / name).unlink()
    shutil.copy(ROOT / "galaxy.yml", copy)
    for name in OF_A_USER.split():
        assert not (copy / name).exists(), name
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("of a user")
    done = ansible("ansible-galaxy", "collection", "build", copy, "--output-path", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        assert sorted(set(archive.getnames()) - clean) == []


def test_a_role_is_found_and_runs_by_its_full_name(installed, tmp_path):
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"ansible_facts": FACTS, "certificate_name": "shop", "certificate_names": ["shop.example.com"]},
        "tasks": [
            {"ansible.builtin.include_role": {"name": "foobar.webstack.certificate", "tasks_from": "validate"}},
            {
                "ansible.builtin.include_role": {"name": "foobar.webstack.certificate", "tasks_from": "validate"},
                "vars": {"certificate_sorce": "acme"},
            },
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    argv = ["ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml"]
    done = start(*argv, cwd=tmp_path, home=installed, ANSIBLE_COLLECTIONS_PATH=str(installed))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    # Two inclusions and the first one's task pass, the second's is refused: so the action judged, and not an error of its own.
    assert "ok=3 " in said and "failed=1 " in said, said
    assert "certificate_sorce: unknown variable; did you mean certificate_source?" in said


PLAYBOOKS = ["site", "deploy", "rollback", "rotate", "maintenance", "status", "verify", "remove"]


@pytest.fixture
def playbook(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs playbooks by their names, from a folder that holds an inventory and nothing else."""
    groups = {group: {"hosts": {"192.0.2.7": {}}} for group in ("webservers", "appservers", "dbservers")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({**groups, "all": {"vars": {"sites": {}}}}))
    argv = ["ansible-playbook", "--inventory", tmp_path / "hosts.yml"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return start(*argv, *words, cwd=tmp_path, home=installed, ANSIBLE_COLLECTIONS_PATH=str(installed))

    return run


def test_the_collection_has_its_playbooks_and_all_that_they_import(playbook):
    listed = playbook("--list-tasks", *(f"foobar.webstack.{name}" for name in PLAYBOOKS))
    assert listed.returncode == 0, listed.stderr
    assert [Path(path).stem for path in re.findall(r"^playbook: (.*)$", listed.stdout, re.MULTILINE)] == PLAYBOOKS


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_the_collection_runs_its_own_playbooks(playbook, name):
    done = playbook(f"foobar.webstack.{name}")
    assert done.returncode != 0
    assert "192.0.2.7 has the address 192.0.2.7, which stands for yours in the examples" in done.stdout + done.stderr
