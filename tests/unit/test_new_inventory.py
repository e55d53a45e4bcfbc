"""`make new`: the inventory that it writes, with an ssh that answers as a server would."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from loading import load

new = load("tools/new-inventory")
specs = load("plugins/plugin_utils/sites.py")
GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@example.com"]
SHIPS: dict[str, dict[str, str]] = {
    "django": {
        "manage.py": "",
        "shop/wsgi.py": "application = get_wsgi_application()\n",
        "shop/settings.py": "STATIC_ROOT = BASE_DIR / 'staticfiles'\nMEDIA_ROOT = BASE_DIR / 'media'\n",
    },
    "flask": {"app.py": "from flask import Flask\napp = Flask(__name__)\n"},
    "factory": {
        "shop/__init__.py": "import flask\ndef create_app():\n    return flask.Flask('x')\n",
        "setup.py": "x = 1\n",
    },
    "wsgi": {"tests/x.py": "", "shop/wsgi.py": "def application(environ, start_response): ...\n"},
    "php": {"public/index.php": "<?php\n", "composer.json": "{}"},
    "project": {
        "src/shop/__init__.py": "import flask\ndef create_app():\n    return flask.Flask('x')\n",
        "pyproject.toml": "",
        "uv.lock": "",
    },
    "scripts": {"index.php": "<?php\n", "about.php": "<?php\n"},
    "nothing": {"README": "x"},
}


@pytest.fixture
def make(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the tool with these words; returns the code, what it said, and the folder."""
    (tmp_path / "inventories").mkdir()
    monkeypatch.setattr(new, "ROOT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    command("ssh-keyscan", "echo 203.0.113.7 ssh-ed25519 AAAA")
    command("ssh-keygen", '[ "$1" != -F ] && echo "256 SHA256:abc 203.0.113.7 (ED25519)"')

    def run(
        capsys: Any, server: str = 'ID=debian\nVERSION_ID="12"\n1000\n/usr/bin/sudo\nsudo works', **words: str
    ) -> Any:
        command("ssh", f"cat <<'END'\n{server}\nEND\n")
        given = {
            "ADDRESS": "203.0.113.7",
            "LOGIN": "admin",
            "DOMAIN": "www.shop.example",
            "KNOWN": "yes",
            "SITE": "shop",
            **words,
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(new.sys, "argv", ["new-inventory", "mine"])
        code = new.main()
        said = capsys.readouterr()
        return code, said.out + said.err, tmp_path / "inventories/mine"

    return run


def repository(tmp_path: Path, files: dict[str, str]) -> str:
    place = tmp_path / "code"
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    subprocess.run([*GIT, "init", "--quiet", place], check=True)
    subprocess.run([*GIT, "-C", place, "add", "--all"], check=True)
    subprocess.run([*GIT, "-C", place, "commit", "--quiet", "--message", "x"], check=True)
    return str(place)


@pytest.mark.parametrize(
    ("kind", "made_with", "entry"),
    [
        ("django", "Django", "shop.wsgi:application"),
        ("flask", "Flask", "app:app"),
        ("factory", "Flask", "shop:create_app()"),
        ("wsgi", "Python (WSGI)", "shop.wsgi:application"),
        ("project", "Flask", "shop:create_app()"),
        ("php", "PHP", "public/index.php"),
        ("scripts", "PHP", "./"),
        ("nothing", "something that its files do not tell", "REPLACE_ME"),
    ],
)
def test_what_an_application_is_made_with_is_seen_from_its_files(make, tmp_path, capsys, kind, made_with, entry):
    code, said, folder = make(capsys, REPOSITORY=repository(tmp_path, SHIPS[kind]))
    assert code == 0 and f"made with {made_with}." in said, said
    site = yaml.safe_load((folder / "group_vars/all/sites.yml").read_text())["sites"]["shop"]
    assert site["app"]["entry"] == entry and site["push"] is True
    site["app"]["secrets"]["SECRET_KEY"] = site["database"]["password"] = "correct horse battery"
    left = [
        fault
        for fault in specs.entry_faults("shop", specs.with_keys(site), specs.site_options())
        if "placeholder" not in fault
    ]
    assert left == []
    hosts = yaml.safe_load((folder / "hosts.yml").read_text())["all"]
    assert hosts["hosts"] == {"www.shop.example": {"ansible_host": "203.0.113.7", "ansible_user": "admin"}}
    assert list(hosts["children"]) == ["webservers", "appservers", "dbservers", "dnsservers"]
    assert "vault_shop_secret_key" in (folder / "group_vars/all/vault.yml.example").read_text()


@pytest.mark.parametrize(
    ("files", "requirements"),
    [
        (("requirements.txt",), None),
        (("pyproject.toml",), "."),
        (("setup.py", "requirements.txt"), None),
        (("poetry.lock", "pyproject.toml"), "requirements.txt"),
        (("src/shop/wsgi.py", "pyproject.toml", "requirements.txt"), ["requirements.txt", "."]),
    ],
)
def test_what_a_virtualenv_is_made_from_is_seen_from_the_files(make, tmp_path, capsys, files, requirements):
    wsgi = "def application(environ, start_response): ...\n"
    given = dict.fromkeys(files, "")
    given["src/shop/wsgi.py" if "src/shop/wsgi.py" in files else "wsgi.py"] = wsgi
    _code, _said, folder = make(capsys, REPOSITORY=repository(tmp_path, given))
    text = (folder / "group_vars/all/sites.yml").read_text()
    app = yaml.safe_load(text)["sites"]["shop"]["app"]
    assert app.get("requirements") == requirements
    assert ("poetry export -o requirements.txt" in text) == ("poetry.lock" in files)
    assert app["entry"] == ("shop.wsgi" if "src/shop/wsgi.py" in files else "wsgi") + ":application"


def test_a_site_of_files_needs_no_code(make, capsys):
    code, _said, folder = make(capsys, REPOSITORY="")
    site = yaml.safe_load((folder / "group_vars/all/sites.yml").read_text())["sites"]["shop"]
    assert code == 0 and specs.entry_faults("shop", specs.with_keys(site), specs.site_options()) == []


def test_nothing_is_overwritten(make, tmp_path, capsys):
    (tmp_path / "inventories/mine").mkdir()
    code, said, folder = make(capsys, REPOSITORY="")
    assert code == 2 and "is there already, and stays as it is" in said and list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("server", "words", "said"),
    [
        ("ID=ubuntu\nVERSION_ID=\"24.04\"\n0", {}, "runs ubuntu 24; Debian 12 and 13 are supported"),
        ("ID=debian\nVERSION_ID=\"11\"\n0", {}, "runs debian 11"),
        ("ID=debian\nVERSION_ID=\"13\"\n1000", {}, "is not root, and 203.0.113.7 has no sudo"),
        ("ID=debian\nVERSION_ID=\"13\"\n0", {"KNOWN": "no"}, "the host key is not known"),
        ("ID=debian\nVERSION_ID=\"13\"\n0", {"DOMAIN": "shop"}, "DOMAIN: 'shop' is not a domain name"),
        ("ID=debian\nVERSION_ID=\"13\"\n0", {"DOMAIN": "a b"}, "DOMAIN: 'a b' has a character in it"),
        ("ID=debian\nVERSION_ID=\"13\"\n0", {"SITE": "Shop"}, "SITE: 'Shop' is not a name"),
        ("ID=debian\nVERSION_ID=\"13\"\n0", {"REPOSITORY": "/nowhere"}, "REPOSITORY: /nowhere cannot be cloned"),
        ("ID=debian\nVERSION_ID=\"13\"\n0", {"ADDRESS": ""}, "ADDRESS: empty"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_and_nothing_is_written(make, capsys, server, words, said):
    code, told, folder = make(capsys, server, **{"REPOSITORY": "", **words})
    assert code == 2 and said in told and "No inventory was written" in told, told
    assert not folder.exists()


def test_a_server_on_which_root_logs_in_needs_no_sudo(make, capsys):
    _code, _said, folder = make(capsys, 'ID=debian\nVERSION_ID="13"\n0', LOGIN="root", REPOSITORY="")
    host = yaml.safe_load((folder / "hosts.yml").read_text())["all"]["hosts"]["www.shop.example"]
    assert host == {"ansible_host": "203.0.113.7", "ansible_user": "root", "ansible_become": False}


def test_the_host_key_is_known_afterwards(make, tmp_path, capsys):
    _code, said, _folder = make(capsys, REPOSITORY="")
    assert "SHA256:abc" in said and "ssh-ed25519 AAAA" in (tmp_path / ".ssh/known_hosts").read_text()


def test_a_server_that_does_not_answer_is_said_with_the_port_that_was_asked(make, command, capsys):
    command("ssh-keyscan", "true")
    code, told, folder = make(capsys)
    assert code == 2 and not folder.exists()
    assert told == "new: ADDRESS: no ssh server answers at port 22 of 203.0.113.7. No inventory was written.\n"


def test_a_site_of_files_needs_no_vault(make, tmp_path, capsys):
    _code, said, folder = make(capsys, REPOSITORY="")
    assert "make check ENV=mine" in said and "make secrets" not in said
    folder.rename(tmp_path / "inventories/other")
    _code, said, _folder = make(capsys, REPOSITORY=repository(tmp_path, SHIPS["wsgi"]))
    assert "make secrets ENV=mine" in said
