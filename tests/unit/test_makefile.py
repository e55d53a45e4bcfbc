"""What a verb of the Makefile hands on to a shell is a word to it."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from loading import ROOT
from starting import start


def make(*words, **environment):
    """make as a terminal starts it: what a `make test` around this test tells its children is kept from it."""
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=env | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("verb", "name"),
    [("deploy", "REF"), ("rollback", "RELEASE"), ("maintenance", "STATE"), ("secrets", "SECRET"), ("restore", "ONLY")],
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
    ("words", "said"),
    [
        ("site ENV=", "ENV: is empty"),
        ("site ENV=.", "ENV: is the name of a folder"),
        ("site ENV=..", "ENV: is the name of a folder"),
        ("check ENV=demo/../production", "ENV: is the name of a folder"),
        ("verify ENV=-i", "ENV: begins with -"),
        ("status ENV=demo/", "ENV: is the name of a folder"),
        ("deploy REF=", "REF: is empty, as from a variable that is not set; leave it out"),
        ("deploy REF=--", "REF: begins with -"),
        ("deploy REF=v1$x", "REF: may have letters"),
        ("rollback RELEASE=", "RELEASE: is empty"),
        ("secrets SECRET=", "SECRET: is empty"),
        ("maintenance", "STATE: not given; make maintenance ENV=demo STATE=on, or STATE=off"),
        ("maintenance STATE=", "STATE: not given"),
        ("run", "COMMAND: not given"),
        ("run COMMAND=", "COMMAND: not given"),
        ("test-role", "ROLE: not given"),
        ("test-role ROLE=../molecule/nginx", "ROLE: is the name of a folder"),
        ("test-role ROLE=shared", "ROLE: there is no folder molecule/shared"),
        ("demo DEMO_PORT=", "DEMO_PORT: '' is no port"),
        ("demo DEMO_HTTPS_PORT=65536", "DEMO_HTTPS_PORT: '65536' is no port"),
        ("demo DEMO_PORT=80:80", "DEMO_PORT: '80:80' is no port"),
        ("demo HOSTS=", "HOSTS: '' is not 3; leave it out for one host"),
        ("demo HOSTS=2", "HOSTS: '2' is not 3"),
        ("demo-kill", "HOST: not given; make demo-kill HOST=2"),
        ("demo-kill HOST=web2", "HOST: 'web2' is no host of make demo HOSTS=3; 1, 2 or 3"),
        ("demo-heal HOST=4", "HOST: '4' is no host of make demo HOSTS=3"),
        # A word that would have no effect: the verb would do something else than was asked for.
        ("rollback REF=v1", "REF: make rollback takes ENV SITE RELEASE"),
        ("deploy TAG=v1", "TAG: make deploy takes ENV SITE REF"),
        ("demo ENV=production", "ENV: make demo takes DEMO_PORT DEMO_HTTPS_PORT"),
        ("demo HOSTS=3 DEMO_PORT=81", "DEMO_PORT: make demo takes HOSTS"),
        ("restore TO=", "TO: is empty"),
        ("restore TO=-1", "TO: begins with -"),
        ("restore TO='", "TO: may have letters, digits, blanks"),
        ("restore TO=$x", "TO: may have letters, digits, blanks"),
        ("restore FROM=backup", "FROM: make restore takes ENV SITE TO INTO CONFIRM ONLY"),
        ("status verify STATE=on", "STATE: make status verify takes ENV"),
    ],
)
def test_an_empty_or_hostile_word_is_refused_before_anything_is_done(words, said):
    done = make(*words.split(" "))
    assert done.returncode == 2 and done.stdout == ""
    assert f"{said}" in done.stderr and "; nothing was done." in done.stderr
    assert done.stderr.count(said) == 1


def test_an_empty_word_of_the_environment_is_refused_too():
    done = make("deploy", REF="")
    assert done.returncode == 2 and "REF: is empty" in done.stderr and done.stdout == ""


def test_what_make_would_expand_is_not_expanded(tmp_path):
    done = make("deploy", f"REF=$(shell touch {tmp_path}/done)")
    assert done.returncode == 2 and "REF: may have letters" in done.stderr
    assert not (tmp_path / "done").exists()


def recipe(*words, **environment):
    """The command of a verb, as make would run it."""
    return make("--dry-run", *words, **environment).stdout.splitlines()[-1].rstrip()


def test_a_word_is_handed_on_as_it_is():
    deploy = "ansible-playbook --inventory inventories/production playbooks/deploy.yml"
    assert recipe("deploy", "ENV=production") == deploy
    assert recipe("deploy", "ENV=production", "REF=feature/a-b+c_1.0") == f"{deploy} --extra-vars ref=feature/a-b+c_1.0"


@pytest.mark.parametrize("verb", ["demo", "test", "test-role", "bench"])
def test_a_missing_engine_is_found_before_the_toolchain_is_built(verb):
    lines = make("--dry-run", verb, "ROLE=nginx").stdout.splitlines()
    assert lines.index("tools/engine") < lines.index("tools/toolchain")


def playbook(inventory, path):
    return start("ansible-playbook", "--inventory", inventory, path, cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))


@pytest.mark.parametrize(("lint", "unit"), [(0, 0), (2, 0), (0, 2), (2, 2)])
def test_lint_and_unit_tests_run_side_by_side_and_each_can_fail_both(tmp_path, lint, unit):
    """Each waits for the other to begin."""
    fake = tmp_path / "make"
    fake.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$1 begins"\n: >begun-$1\n'
        "for _try in $(seq 100); do [ -e begun-lint ] && [ -e begun-unit ] && break; sleep 0.1; done\n"
        f'[ -e begun-lint ] && [ -e begun-unit ] && echo "$1 ends"\n'
        f"[ $1 = lint ] && exit {lint}\nexit {unit}\n"
    )
    fake.chmod(0o755)
    done = make("test-fast", f"MAKE={fake}")
    assert done.stdout.splitlines()[-4:] == ["unit begins", "unit ends", "lint begins", "lint ends"], done
    assert done.returncode == (2 if lint or unit else 0)


# The password of a vault


VERBS = {"site": True, "check": True, "rotate": True, "restore": True} | dict.fromkeys(
    ["status", "verify", "deploy", "rollback", "maintenance"], False
)


def vault_option(tmp_path, text, *words, terminal=True, **environment):
    """What tools/vault prints and says of an inventory with `text` among its variables."""
    folder = tmp_path / "inventory/group_vars/all"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vault.yml").write_text(text)
    (folder / "sites.yml").write_text("sites: {}\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    master, slave = os.openpty()
    done = subprocess.run(
        [ROOT / "tools/vault", tmp_path / "inventory", *words], env=clean | environment, capture_output=True, text=True,
        check=True, stdin=slave if terminal else subprocess.DEVNULL,
    )  # fmt: skip
    os.close(master)
    os.close(slave)
    return done.stdout.strip(), done.stderr


WHOLE = "$ANSIBLE_VAULT;1.1;AES256\n6162\n"
VALUE = "vault_secret_key: !vault |\n    $ANSIBLE_VAULT;1.1;AES256\n    6162\n"


def test_the_password_is_asked_for_where_something_encrypted_is_read(tmp_path):
    ask = ("--ask-vault-pass", "")
    assert vault_option(tmp_path, WHOLE) == vault_option(tmp_path, WHOLE, "secrets") == ask
    assert vault_option(tmp_path, VALUE, "secrets") == ask
    assert vault_option(tmp_path, VALUE) == ("", "")
    assert vault_option(tmp_path, "vault_secret_key: plain\n", "secrets") == ("", "")


@pytest.mark.parametrize(
    "name", ["ANSIBLE_ASK_VAULT_PASS", "ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"]
)
def test_who_has_configured_a_password_is_not_asked(tmp_path, name):
    assert vault_option(tmp_path, WHOLE, "secrets", **{name: "x"}) == ("", "")


def test_a_password_that_ansible_cfg_names_is_not_asked_for(tmp_path):
    (tmp_path / "ansible.cfg").write_text("[defaults]\nvault_password_file = ~/.password\n")
    assert vault_option(tmp_path, WHOLE, ANSIBLE_CONFIG=str(tmp_path / "ansible.cfg")) == ("", "")


def test_where_nobody_can_be_asked_it_is_said_what_to_do(tmp_path):
    option, hint = vault_option(tmp_path, WHOLE, terminal=False)
    assert option == ""
    assert "group_vars/all/vault.yml is encrypted" in hint and "export ANSIBLE_VAULT_PASSWORD_FILE=" in hint


@pytest.mark.parametrize(("verb", "secrets"), VERBS.items())
def test_only_verbs_that_need_the_secrets_ask_for_their_password(verb, secrets):
    """The tool is told so by the recipe."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = text.partition(f"\n{verb}: ")[2].splitlines()[1].replace("))", ")")
    assert line.endswith("$(call ask,secrets)" if secrets else "$(call ask,)")


# The toolchain


def laid(folder):
    """A folder with the toolchain's tools, and requirements that are met at once."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools/toolchain", folder / "tools")
    (folder / "requirements.txt").write_text("")
    (folder / "galaxy.yml").write_text("")
    return folder


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A checkout whose toolchain two runs have made that waited for a third; and for each of them its code and what it said."""
    checkout = laid(tmp_path_factory.mktemp("made"))
    (checkout / ".cache").mkdir()
    with open(checkout / ".cache/toolchain.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = [toolchain(checkout) for _number in range(2)]
        begun = [run.stdout.readline() for run in runs]
        assert not (checkout / ".venv").exists()
    said = [first + run.communicate()[0] for first, run in zip(begun, runs, strict=True)]
    return checkout, [(run.returncode, words) for run, words in zip(runs, said, strict=True)]


@pytest.fixture
def made(two_runs, tmp_path):
    """A checkout whose toolchain has been made."""
    return Path(shutil.copytree(two_runs[0], tmp_path / "made", symlinks=True))


def toolchain(checkout, **options):
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.Popen(
        [checkout / "tools/toolchain"], env=environment, text=True, stdout=subprocess.PIPE, **options
    )


def test_two_runs_make_one_toolchain(two_runs):
    checkout, runs = two_runs
    assert [code for code, _said in runs] == [0, 0]
    assert sum("making .venv with" in said for _code, said in runs) == 1, runs
    assert (checkout / ".venv/bin/python").exists()


def test_a_run_waits_for_another_and_says_so(two_runs):
    for _code, said in two_runs[1]:
        assert said.startswith("toolchain: another run is making .venv; waiting for it\n")


def test_a_toolchain_of_older_requirements_is_made_anew_and_again_after_a_killed_run(made):
    """The second time as make starts it, with .venv first on PATH."""
    (made / "requirements.txt").write_text("# newer\n")
    killed = toolchain(made, start_new_session=True)
    assert "making .venv with" in killed.stdout.readline()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    path = f"{made}/.venv/bin:{os.environ['PATH']}"
    done = subprocess.run([made / "tools/toolchain"], env=os.environ | {"PATH": path}, check=False)
    assert done.returncode == 0 and (made / ".venv/bin/pip").exists()
    assert toolchain(made).communicate()[0] == ""


@pytest.mark.parametrize(
    "verb",
    [
        "site",
        "check",
        "verify",
        "deploy",
        "rollback",
        "maintenance",
        "status",
        "secrets",
        "rekey",
        "rotate",
        "run",
        "restore",
    ],
)
def test_an_inventory_that_is_not_there_is_no_success(verb):
    done = make(verb, "ENV=producton", "STATE=on")
    assert done.returncode == 2 and done.stdout == ""
    assert "there is no folder inventories/producton; nothing was done. There are: demo demo3 production" in done.stderr


@pytest.mark.parametrize("name", ["deploy", "rollback", "maintenance", "status", "verify", "rotate", "restore", "site"])
def test_a_host_that_is_a_placeholder_is_not_asked_anything(name):
    done = playbook("inventories/production", f"playbooks/{name}.yml")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "has the address 8.8.8.8, which stands for yours" in said, said
    assert "unreachable=0" in said


def test_the_first_run_names_all_that_is_to_be_edited():
    done = playbook("inventories/production", "site.yml")
    said = done.stdout + done.stderr
    for words in (
        "ansible_host: www.foobar.com has the address 8.8.8.8",
        "sites.foobar.domain: still www.foobar.com",
        "sites.foobar.repository: not set, or still a placeholder",
        "sites.foobar.app.entry: still a placeholder",
        "sites.foobar.app.secrets.SECRET_KEY: not set, or empty",
        "sites.foobar.database.password: not set; a secret, for the vault, as vault_foobar_database_password",
    ):
        assert f"  - {words}" in said, said


def test_ansible_itself_does_not_take_an_inventory_that_is_not_there_for_an_empty_one():
    done = playbook("inventories/producton", "playbooks/deploy.yml")
    assert done.returncode != 0


@pytest.mark.parametrize("name", ["deploy", "rollback", "maintenance", "status"])
def test_an_inventory_without_sites_is_told_so(tmp_path, name):
    groups = "".join(f"    {group}:\n      hosts: {{10.0.0.5: }}\n" for group in ("webservers", "appservers"))
    (tmp_path / "hosts.yml").write_text(f"all:\n  vars: {{site: {{}}}}\n  children:\n{groups}")
    done = playbook(tmp_path / "hosts.yml", f"playbooks/{name}.yml")
    said = done.stdout + done.stderr
    assert done.returncode == 2 and "unreachable=0" in said
    assert "  - sites: not set for 10.0.0.5; its web sites" in said, said


def test_a_site_is_named_where_there_are_several():
    assert recipe("rollback", "SITE=shop").endswith("playbooks/rollback.yml --extra-vars site=shop")
