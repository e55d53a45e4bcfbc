"""site.yml with a certificate by ACME, on a bare host: its names, its challenges, its certificate, in that order."""

import json
import os
import subprocess

import pytest
import testinfra
from scenario import PROJECT, names, playbook

SITE, WEB = (next(name for name in names() if part in name) for part in ("-site-", "-debian13-"))
NGINX = f"{SITE}: nginx : Configure | nginx, its sites, its unit and its logs"
ORDER = f"{SITE}: certificate : Order | Have the authority sign the certificate"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Runs site.yml on the host, whose inventory says no more than it must."""
    subprocess.run([PROJECT / "tools/demo-repository"], check=True)
    folder = tmp_path_factory.mktemp("site")
    root = testinfra.get_host(f"docker://{WEB}").check_output("curl -sk https://authority.example.com:15000/roots/0")
    (folder / "root.pem").write_text(root, encoding="utf-8")
    values = {
        "ansible_connection": "community.docker.docker",
        "ansible_become": False,
        "sites": {
            "foobar": {
                "domain": "www.example.com",
                "certificate": {"source": "acme", "acme_directory": "https://authority.example.com:14000/dir"},
                "authority": str(folder / "root.pem"),
                "repository": str(PROJECT / ".cache/foobar.git"),
                "push": True,
                "app": {
                    "entry": "foobar.wsgi:application",
                    "static": "foobar/static",
                    "static_command": "python3 foobar/assets.py",
                    "migrate_command": "alembic upgrade head",
                    "secrets": {"SECRET_KEY": "{{ vault_foobar_secret_key }}"},
                },
                "database": {"scheme": "mysql+pymysql"},
            }
        },
        "walk_address": testinfra.get_host(f"docker://{SITE}").check_output("hostname -I").split()[0],
    }
    # As `make secrets` makes it: each value encrypted by itself.
    password, vault = folder / "password", folder / "group_vars/all/vault.yml"
    password.write_text("of the vault", encoding="utf-8")
    vault.parent.mkdir(parents=True)
    with open(vault, "w", encoding="utf-8") as text:
        for name in ("vault_foobar_database_password", "vault_foobar_secret_key"):
            argv = ["ansible-vault", "encrypt_string", "--name", name, "only for this test, in a container"]
            environment = os.environ | {"ANSIBLE_VAULT_PASSWORD_FILE": str(password)}
            subprocess.run(argv, check=True, stdout=text, env=environment)
            text.write("\n")
    groups = {group: {"hosts": {SITE: {}}} for group in ("webservers", "appservers", "dbservers")}
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps({"all": {"vars": values, "children": groups}}), encoding="utf-8")

    def run(*arguments, name="site.yml", with_password=True, **variables):
        words = ("--vault-password-file", str(password)) if with_password else ()
        return playbook(*arguments, *words, name=str(PROJECT / name), inventory=inventory, **variables)

    return run


def test_a_dry_run_of_a_bare_host_would_order(site):
    assert ORDER in site("--check").must_succeed().changed


def test_the_authority_is_asked_once_nginx_serves_and_a_visitor_trusts_what_it_signs(site):
    run = site().must_succeed()
    assert run.changed.index(NGINX) < run.changed.index(ORDER)
    run.must_say("certificate by Pebble", "9. the page: 200")


def test_a_second_run_changes_nothing(site):
    assert site().must_succeed().changed == []


def test_what_needs_no_secret_needs_no_password_of_the_vault(site):
    def run(name, *more, **variables):
        return site(*more, name=name, with_password=False, **variables)

    more = (str(PROJECT / f"playbooks/{name}.yml") for name in ("maintenance", "verify"))
    run("playbooks/status.yml", *more, state="on").must_succeed().must_say("maintenance: off")
    run("playbooks/maintenance.yml", state="off").must_succeed()
    for name, variables in (("playbooks/rollback.yml", {}), ("playbooks/deploy.yml", {"ref": "no-such-branch"})):
        outcome = run(name, **variables)
        assert not outcome.ok and "undecryptable" not in outcome.output and "vault" not in outcome.output, (
            outcome.output
        )
    run("playbooks/rotate.yml").must_be_refused("is encrypted, and no password of a vault was given")
