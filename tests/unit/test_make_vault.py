"""The tool that makes an inventory's vault, with the real ansible-vault."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret
from loading import ROOT
from starting import start

VAULT = "group_vars/all/vault.yml"
CONFIG = str(ROOT / "ansible.cfg")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each test finds an inventory of its own, at one path: the password's is a setting of Ansible."""
    return tmp_path_factory.mktemp("place")


@contextlib.contextmanager
def an_inventory(place: Path) -> Iterator[Path]:
    shutil.copytree(ROOT / "inventories/production", place / "inventory")
    (place / "password").write_text("a password of the vault")
    try:
        yield place / "inventory"
    finally:
        shutil.rmtree(place)


@pytest.fixture
def inventory(place: Path) -> Iterator[Path]:
    with an_inventory(place) as one:
        yield one


def run(tool: str | Path, *argv: str | Path, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    settings["ANSIBLE_VAULT_PASSWORD_FILE"] = str(folder.parent / "password")
    return start(tool, *argv, cwd=ROOT, **settings)


def test_a_vault_has_a_strong_value_for_each_secret_and_is_encrypted(inventory):
    done = run(ROOT / "tools/make-vault", inventory, folder=inventory)
    assert done.returncode == 0, done.stderr
    vault = inventory / VAULT
    assert vault.stat().st_mode & 0o077 == 0
    values = opened(inventory)
    text = vault.read_text()
    assert not any(value in text for value in values.values())
    assert set(values) == set(yaml.safe_load((inventory / f"{VAULT}.example").read_text()))
    assert len(set(values.values())) == len(values) and min(map(len, values.values())) >= 40
    assert not any(value in done.stdout for value in values.values())
    assert sorted(path.name for path in vault.parent.iterdir()) == ["sites.yml", "vault.yml", "vault.yml.example"]


def test_a_vault_that_is_there_stays(inventory):
    (inventory / VAULT).write_text("mine")
    done = run(ROOT / "tools/make-vault", inventory, folder=inventory)
    assert done.returncode == 1 and "is there already" in done.stderr
    assert (inventory / VAULT).read_text() == "mine"


def test_without_a_password_nothing_is_left(inventory):
    (inventory.parent / "password").unlink()
    assert run(ROOT / "tools/make-vault", inventory, folder=inventory).returncode != 0
    assert sorted(path.name for path in (inventory / "group_vars/all").iterdir()) == ["sites.yml", "vault.yml.example"]


def test_an_inventory_without_a_list_of_secrets_is_told(place, tmp_path):
    done = run(ROOT / "tools/make-vault", tmp_path, folder=place / "inventory")
    assert done.returncode == 1 and "vault.yml.example" in done.stderr


def opened(inventory):
    """The variables of a vault, of either form."""
    lib = VaultLib([(DEFAULT_VAULT_ID_MATCH, VaultSecret((inventory.parent / "password").read_bytes()))])

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!vault", lambda _loader, node: lib.decrypt(node.value).decode())
    text = (inventory / VAULT).read_text()
    return yaml.load(lib.decrypt(text) if text.startswith("$ANSIBLE_VAULT") else text, Loader)


@pytest.fixture(scope="module")
def texts(place):
    """A vault whose values are encrypted, and one that is encrypted as a whole. They are made once: that takes a second."""
    with an_inventory(place) as inventory:
        assert run(ROOT / "tools/make-vault", inventory, folder=inventory).returncode == 0
        values = (inventory / VAULT).read_text()
        (inventory / VAULT).write_text("".join(f'{name}: "{value}"\n' for name, value in opened(inventory).items()))
        assert run("ansible-vault", "encrypt", inventory / VAULT, folder=inventory).returncode == 0
        return {"values": values, "whole": (inventory / VAULT).read_text()}


def with_vault(inventory, text):
    (inventory / VAULT).touch(0o600)
    (inventory / VAULT).write_text(text)
    return inventory


@pytest.fixture
def kept(texts, inventory):
    """An inventory with a vault as the tool makes it."""
    return with_vault(inventory, texts["values"])


@pytest.fixture(params=["values", "whole"])
def made(request, texts, inventory):
    """An inventory with a vault of either form."""
    return with_vault(inventory, texts[request.param])


def ansible(inventory, *argv):
    """What Ansible itself makes of the inventory, told no password but by `argv`."""
    return start(
        "ansible", "all", "--inventory", inventory, "--module-name", "debug", *argv, cwd=ROOT, ANSIBLE_CONFIG=CONFIG
    )


def test_ansible_reads_a_value_with_the_password_and_all_else_without(kept):
    inventory = kept
    secret = ("--args", "var=sites.foobar.app.secrets.SECRET_KEY")
    done = ansible(inventory, *secret, "--vault-password-file", str(inventory.parent / "password"))
    assert done.returncode == 0 and opened(inventory)["vault_foobar_secret_key"] in done.stdout
    assert ansible(inventory, *secret).returncode != 0
    done = ansible(inventory, "--args", "var=sites.foobar.domain")
    assert done.returncode == 0 and "www.foobar.com" in done.stdout, done.stderr


def test_the_vault_says_how_a_value_is_added(kept):
    inventory = kept
    before = opened(inventory)
    (line,) = [line for line in (inventory / VAULT).read_text().splitlines() if "To add one:" in line]
    command = line.partition(":")[2].replace("--ask-vault-pass --stdin-name NAME", "--stdin-name vault_mail")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ANSIBLE_VAULT_PASSWORD_FILE": str(inventory.parent / "password")}
    subprocess.run(command, shell=True, input="of the mail", text=True, check=True, env=environment)
    assert opened(inventory) == before | {"vault_mail": "of the mail"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "is encrypted, and no password of a vault was given"),
        (("--vault-password-file", "{wrong}"), "the password of the vault is wrong"),
        (("--vault-password-file", "{right}"), ""),
    ],
)
def test_a_play_that_needs_the_secrets_calls_a_wrong_password_wrong(kept, words, said):
    inventory = kept
    (inventory.parent / "wrong").write_text("another")
    play = inventory.parent / "play.yml"
    tasks = [{"foobar.webstack.sites": {"roles": True}}]
    play.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    files = {"wrong": inventory.parent / "wrong", "right": inventory.parent / "password"}
    argv = (word.format(**files) for word in words)
    done = start("ansible-playbook", "--inventory", inventory, play, *argv, cwd=ROOT, ANSIBLE_CONFIG=CONFIG)
    words_of_it = " ".join((done.stdout + done.stderr).split())
    assert (f"sites.foobar.app.secrets.SECRET_KEY: {said}" in words_of_it) == (said != ""), words_of_it
    assert "sites.foobar.repository: not set" in words_of_it
    assert opened(inventory)["vault_foobar_secret_key"] not in done.stdout + done.stderr


def test_a_secret_gets_a_fresh_value_and_what_it_was_stays_beside_it(made):
    inventory = made
    begin = (inventory / VAULT).read_text()[:10]
    was = opened(inventory)
    done = run(ROOT / "tools/make-vault", inventory, "vault_foobar_database_password", folder=inventory)
    assert done.returncode == 0, done.stderr
    values = opened(inventory)
    assert values.pop("vault_foobar_database_password_before") == was["vault_foobar_database_password"]
    assert len(values.pop("vault_foobar_database_password")) >= 40
    assert values.items() <= was.items()
    text = (inventory / VAULT).read_text()
    assert text.startswith(begin) and not any(value in text for value in opened(inventory).values())
    assert (inventory / VAULT).stat().st_mode & 0o077 == 0
    again = run(ROOT / "tools/make-vault", inventory, "vault_foobar_database_password", folder=inventory)
    assert again.returncode == 1 and "has vault_foobar_database_password_before still" in again.stderr
    assert opened(inventory).keys() == {*was, "vault_foobar_database_password_before"}


def test_a_value_with_quotes_of_its_own_moves_as_it_stands(inventory):
    kept = "vault_foobar_database_password: 'it''s \"mine\"'  # of 2019\nother: 1\n"
    subprocess.run(
        [Path(sys.executable).with_name("ansible-vault"), "encrypt", "--output", inventory / VAULT, "-"],
        input=kept, text=True, check=True, capture_output=True,
        env={**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(inventory.parent / "password")},
    )  # fmt: skip
    assert run(ROOT / "tools/make-vault", inventory, "vault_foobar_database_password", folder=inventory).returncode == 0
    assert opened(inventory)["vault_foobar_database_password_before"] == 'it\'s "mine"'


def typed(inventory: Path, name: str, *passwords: str) -> tuple[int, str]:
    """The exit code, and what a terminal showed on which these passwords were typed, each once it was asked for."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        os.execv(ROOT / "tools/make-vault", ["make-vault", str(inventory), name])
    shown, left = b"", list(passwords)
    try:
        while part := os.read(terminal, 4096):
            shown += part
            if left and part.rstrip().endswith(b":"):
                os.write(terminal, f"{left.pop(0)}\n".encode())
    except OSError:  # the terminal of who has ended
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_the_password_is_asked_for_once_and_a_wrong_one_changes_nothing(made):
    inventory = made
    was = (inventory / VAULT).read_bytes()

    code, shown = typed(inventory, "vault_foobar_secret_key", "another")
    assert code == 1 and "vault.yml: Decryption failed" in shown and "Traceback" not in shown
    assert "The password is wrong" in " ".join(shown.split())
    assert (inventory / VAULT).read_bytes() == was
    code, shown = typed(inventory, "vault_foobar_secret_key", "a password of the vault")
    assert code == 0 and shown.count("password:") == 1, shown
    assert "vault_foobar_secret_key_before" in opened(inventory)


def test_a_vault_keeps_the_identity_that_it_is_encrypted_for(inventory):
    identity = {
        "ANSIBLE_VAULT_IDENTITY_LIST": f"ops@{inventory.parent / 'password'}",
        "ANSIBLE_VAULT_ENCRYPT_IDENTITY": "ops",
    }
    run(ROOT / "tools/make-vault", inventory, folder=inventory, **identity)
    done = run(ROOT / "tools/make-vault", inventory, "vault_foobar_secret_key", folder=inventory, **identity)
    assert done.returncode == 0
    text = (inventory / VAULT).read_text()
    assert text.count("  $ANSIBLE_VAULT;1.2;AES256;ops\n") == text.count("$ANSIBLE_VAULT") == 4


def test_no_vault_has_no_secret_to_be_changed(inventory):
    done = run(ROOT / "tools/make-vault", inventory, "vault_foobar_secret_key", folder=inventory)
    assert done.returncode == 1 and "without SECRET, one is made" in done.stderr


@pytest.mark.parametrize("name", ["vault_nothing", "vault_foobar_database"])
def test_a_secret_that_the_vault_does_not_have_is_told(made, name):
    inventory = made
    was = (inventory / VAULT).read_text()
    done = run(ROOT / "tools/make-vault", inventory, name, folder=inventory)
    assert done.returncode == 1 and f"has no {name}" in done.stderr
    assert (inventory / VAULT).read_text() == was


def test_another_password_opens_the_same_values(kept):
    inventory = kept
    was, text = opened(inventory), (inventory / VAULT).read_text()
    code, shown = typed(inventory, "--rekey", "wrong", "new one", "new one")
    assert code == 1 and "The password is wrong" in " ".join(shown.split())
    code, shown = typed(inventory, "--rekey", "a password of the vault", "new one", "newer one")
    assert code == 1 and "Traceback" not in shown
    assert (inventory / VAULT).read_text() == text
    code, shown = typed(inventory, "--rekey", "a password of the vault", "new one", "new one")
    assert code == 0 and "the new password opens 3 secrets" in " ".join(shown.split()), shown
    (inventory.parent / "password").write_text("new one")
    assert opened(inventory) == was
    assert [line for line in (inventory / VAULT).read_text().splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]


def test_a_vault_that_is_encrypted_as_a_whole_is_ansible_vaults_to_rekey(inventory):
    (inventory / VAULT).write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    done = run(ROOT / "tools/make-vault", inventory, "--rekey", folder=inventory)
    assert done.returncode == 1 and f"ansible-vault rekey {inventory / VAULT}" in done.stderr
