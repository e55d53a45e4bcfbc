"""From the last release to this tree, step by step: what is refused, and what visitors notice of the rest, which is nothing."""

import contextlib
import json
import os
import re
import subprocess
import sys

import pytest
import requests
import testinfra
import yaml
from entering import whereabouts
from scenario import PROJECT, names, playbook

VISITORS = PROJECT / "molecule/deploy/files/visitors.py"
RATE = 40  # requests a second
CHECKOUT = PROJECT.joinpath(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "last-release")
BEFORE = CHECKOUT / "inventories/inventory"
VERSIONS = yaml.safe_load((PROJECT / "meta/versions.yml").read_text(encoding="utf-8"))
THIS, LAST = next(iter(VERSIONS)), next(name for name, version in VERSIONS.items() if "commit" in version)
RECORD = "/etc/webstack/version"
# All that a converge might write.
LOOK = "find /etc /usr/local /srv /var/lib/webstack /var/lib/foobar -printf '%p %i %s %m %u %T@\\n' | sort | sha256sum"
ARTICLE = "What was written before the upgrade"


@pytest.fixture(scope="module")
def host():
    (name,) = names()
    return testinfra.get_host(f"docker://{name}")


def address():
    (where,) = whereabouts(*names()).values()
    return where.address


def url(path=""):
    return f"http://{address()}{path}"


def visitor():
    session = requests.Session()
    session.headers["Host"], session.trust_env = "www.foobar.com", False
    return session


def status(host):
    return json.loads(host.check_output("webstack-release foobar status --json"))


def verb(name, *arguments, **variables):
    return playbook(*arguments, name=str(PROJECT / f"playbooks/{name}.yml"), **variables)


def last_release():
    """A converge as its user runs it: site.yml of that tree, with its own ansible.cfg, plugins and roles."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    argv = ["ansible-playbook", "--inventory", BEFORE, "site.yml"]
    argv += ["--extra-vars", json.dumps({"addresses": dict.fromkeys(names(), address())})]
    return subprocess.run(
        argv, cwd=CHECKOUT, env={**environment, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@contextlib.contextmanager
def visitors():
    """Load on the site as long as the block lasts; none of it may fail."""
    running = subprocess.Popen(
        [sys.executable, str(VISITORS), address(), str(RATE), "www.foobar.com", "/healthz", "reloads"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield
    finally:
        met = json.loads(running.communicate(timeout=60)[0])
    assert met["failed"] == []
    assert met["asked"] > 5 * RATE


@contextlib.contextmanager
def untouched(host):
    before = host.check_output(LOOK)
    yield
    assert host.check_output(LOOK) == before


def test_a_host_of_the_last_release_serves_and_a_visitor_writes(host):
    done = last_release()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not host.file(RECORD).exists
    session = visitor()
    token = re.search(r'name="csrf" value="([^"]+)"', session.get(url(), timeout=10).text)[1]
    form = {"csrf": token, "author": "Zoë", "title": ARTICLE, "body": "Text."}
    cookies = {cookie.name: cookie.value for cookie in session.cookies}
    answer = session.post(url("/articles"), data=form, cookies=cookies, timeout=10, allow_redirects=False)
    assert answer.status_code == 303, answer.text


def test_its_inventory_is_refused_with_the_lines_to_write(host):
    with untouched(host):
        playbook(inventory=BEFORE).must_be_refused(
            "site_database_password, ", "sites: foobar: domain: www.foobar.com", "docs/upgrading.md has more about it"
        )


def test_its_host_is_refused_with_the_step_until_that_is_acknowledged(host):
    words = (
        f"is kept by version {LAST} of this project, and this is {THIS}",
        f"{THIS}: An application sees nothing of /srv any more but its own folder",
        f"When it is done, say upgraded_to: {THIS} in the inventory",
    )
    with untouched(host):
        playbook(upgrade_to=THIS).must_be_refused(*words, "(there is a upgrade_to)")
        verb("deploy", ref="main").must_be_refused(*words)


def test_it_is_upgraded_while_it_serves_and_a_second_run_changes_nothing(host):
    before, database = status(host), host.check_output("systemctl show -P InvocationID mariadb")
    with visitors():
        run = playbook(upgraded_to=THIS).must_succeed()
        run.must_say("The binary log lies with the data", "-e mysql_move_log=true")
        # The host remembers it.
        assert playbook().must_succeed().changed == []
    after = status(host)
    assert after["release"] == before["release"] and after["active"] and after["committed"]
    assert after["slot"] != before["slot"], "the application has new settings, so it was switched"
    assert host.check_output(f"cat {RECORD}") == THIS
    assert ARTICLE in visitor().get(url(), timeout=10).text
    assert host.check_output("systemctl show -P InvocationID mariadb") == database


def test_what_the_last_release_has_built_can_be_gone_back_to(host):
    git = ["git", "-C", str(PROJECT / ".cache/foobar.git"), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    argv = [*git, "commit-tree", "main^{tree}", "-p", "main", "-m", "The same, once more"]
    commit = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([*git, "branch", "--force", "upgraded", commit], check=True)
    before = status(host)["release"]
    with visitors():
        verb("deploy", ref="upgraded").must_succeed()
        assert status(host)["release"] != before
        verb("rollback").must_succeed()
    assert status(host)["release"] == before
    verb("status").must_succeed().must_say(f"foobar: release {before}", "verified")
    assert ARTICLE in visitor().get(url(), timeout=10).text


def test_nothing_goes_back_to_an_older_version(host):
    with untouched(host):
        done = last_release()
        assert done.returncode != 0 and "this host is kept as" in done.stdout, done.stdout
    host.check_output(f"echo 9.0.1 > {RECORD}")
    try:
        with untouched(host):
            for run in (playbook, lambda: verb("rollback")):
                run().must_be_refused(
                    f"is kept by version 9.0.1 of this project, and this is {THIS}", "Use 9.0.1, or a newer one"
                )
    finally:
        host.check_output(f"echo {THIS} > {RECORD}")
