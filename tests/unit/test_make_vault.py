"""The tool that makes an inventory's vault, with the real ansible-vault."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from loading import ROOT

VAULT = "group_vars/all/vault.yml"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "inventories/production", tmp_path / "inventory")
    (tmp_path / "password").write_text("a password of the vault")
    return tmp_path / "inventory"


def run(tool: str, *argv: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ANSIBLE_VAULT_PASSWORD_FILE": str(folder.parent / "password")}
    return subprocess.run([tool, *argv], capture_output=True, text=True, env=environment, check=False)


def test_a_vault_has_a_strong_value_for_each_secret_and_is_encrypted(inventory):
    done = run(ROOT / "tools/make-vault", inventory, folder=inventory)
    assert done.returncode == 0, done.stderr
    vault = inventory / VAULT
    assert vault.read_text().startswith("$ANSIBLE_VAULT;")
    assert vault.stat().st_mode & 0o077 == 0
    values = yaml.safe_load(run("ansible-vault", "view", vault, folder=inventory).stdout)
    assert set(values) == set(yaml.safe_load((inventory / f"{VAULT}.example").read_text()))
    assert len(set(values.values())) == len(values) and min(map(len, values.values())) >= 40
    assert not any(value in done.stdout for value in values.values())
    assert sorted(path.name for path in vault.parent.iterdir()) == ["site.yml", "vault.yml", "vault.yml.example"]


def test_a_vault_that_is_there_stays(inventory):
    (inventory / VAULT).write_text("mine")
    done = run(ROOT / "tools/make-vault", inventory, folder=inventory)
    assert done.returncode == 1 and "is there already" in done.stderr
    assert (inventory / VAULT).read_text() == "mine"


def test_without_a_password_nothing_is_left(inventory):
    (inventory.parent / "password").unlink()
    assert run(ROOT / "tools/make-vault", inventory, folder=inventory).returncode != 0
    assert sorted(path.name for path in (inventory / "group_vars/all").iterdir()) == ["site.yml", "vault.yml.example"]


def test_an_inventory_without_a_list_of_secrets_is_told(tmp_path):
    done = run(ROOT / "tools/make-vault", tmp_path, folder=tmp_path)
    assert done.returncode == 1 and "vault.yml.example" in done.stderr


def opened(inventory):
    return yaml.safe_load(run("ansible-vault", "view", inventory / VAULT, folder=inventory).stdout)


def test_a_secret_gets_a_fresh_value_and_what_it_was_stays_beside_it(inventory):
    run(ROOT / "tools/make-vault", inventory, folder=inventory)
    was = opened(inventory)
    done = run(ROOT / "tools/make-vault", inventory, "vault_database_password", folder=inventory)
    assert done.returncode == 0, done.stderr
    values = opened(inventory)
    assert values.pop("vault_database_password_before") == was["vault_database_password"]
    assert len(values.pop("vault_database_password")) >= 40
    assert values.items() <= was.items()
    assert (inventory / VAULT).read_text().startswith("$ANSIBLE_VAULT;")
    assert (inventory / VAULT).stat().st_mode & 0o077 == 0
    again = run(ROOT / "tools/make-vault", inventory, "vault_database_password", folder=inventory)
    assert again.returncode == 1 and "has vault_database_password_before still" in again.stderr
    assert opened(inventory).keys() == {*was, "vault_database_password_before"}


def test_a_value_with_quotes_of_its_own_moves_as_it_stands(inventory):
    kept = "vault_database_password: 'it''s \"mine\"'  # of 2019\nother: 1\n"
    subprocess.run(
        [Path(sys.executable).with_name("ansible-vault"), "encrypt", "--output", inventory / VAULT, "-"],
        input=kept, text=True, check=True, capture_output=True,
        env={**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(inventory.parent / "password")},
    )  # fmt: skip
    assert run(ROOT / "tools/make-vault", inventory, "vault_database_password", folder=inventory).returncode == 0
    assert opened(inventory)["vault_database_password_before"] == 'it\'s "mine"'


def test_the_password_is_asked_for_once_and_a_wrong_one_changes_nothing(inventory):
    run(ROOT / "tools/make-vault", inventory, folder=inventory)
    was = (inventory / VAULT).read_bytes()

    def typed(password: str) -> tuple[int, str]:
        """The exit code, and what a terminal showed on which the password was typed once."""
        pid, terminal = pty.fork()
        if not pid:
            os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            os.execv(ROOT / "tools/make-vault", ["make-vault", str(inventory), "vault_secret_key"])
        shown = b""
        try:
            while part := os.read(terminal, 4096):
                if b"password:" in part:
                    os.write(terminal, f"{password}\n".encode())
                shown += part
        except OSError:  # the terminal of who has ended
            os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

    code, shown = typed("another")
    assert code == 1 and "vault.yml: Decryption failed" in shown and "Traceback" not in shown
    assert (inventory / VAULT).read_bytes() == was
    code, shown = typed("a password of the vault")
    assert code == 0 and shown.count("password:") == 1, shown
    assert "vault_secret_key_before" in opened(inventory)


def test_a_vault_keeps_the_identity_that_it_is_encrypted_for(inventory, monkeypatch):
    monkeypatch.setenv("ANSIBLE_VAULT_IDENTITY_LIST", f"ops@{inventory.parent / 'password'}")
    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_IDENTITY", "ops")
    run(ROOT / "tools/make-vault", inventory, folder=inventory)
    assert run(ROOT / "tools/make-vault", inventory, "vault_secret_key", folder=inventory).returncode == 0
    assert (inventory / VAULT).read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;ops\n")


def test_no_vault_has_no_secret_to_be_changed(inventory):
    done = run(ROOT / "tools/make-vault", inventory, "vault_secret_key", folder=inventory)
    assert done.returncode == 1 and "without SECRET, one is made" in done.stderr


@pytest.mark.parametrize("name", ["vault_nothing", "vault_database"])
def test_a_secret_that_the_vault_does_not_have_is_told(inventory, name):
    run(ROOT / "tools/make-vault", inventory, folder=inventory)
    was = (inventory / VAULT).read_text()
    done = run(ROOT / "tools/make-vault", inventory, name, folder=inventory)
    assert done.returncode == 1 and f"has no {name}" in done.stderr
    assert (inventory / VAULT).read_text() == was
