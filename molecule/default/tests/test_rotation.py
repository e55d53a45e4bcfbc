"""rotate.yml: new secrets, while visitors never stop coming."""

import concurrent.futures
import contextlib
import json
import shlex
import subprocess
import threading
from types import SimpleNamespace

import pytest
import requests
from scenario import PROJECT, names, playbook
from test_site import get, sql

# Those of molecule.yml, and those to go to.
PASSWORD = "C4nary'\" \\;#%$&<> :@/`=!~* db"
SECRET_KEY = "-=!~@*C4nary key of the site"
NEXT_PASSWORD = 'n€xt\'s "pass\\word", 24/7 & ever'
NEXT_KEY = "the next key of the site, =-~"
THERE = {
    "password": NEXT_PASSWORD,
    "password_before": PASSWORD,
    "secret_key": NEXT_KEY,
}
BACK = {"password_before": NEXT_PASSWORD}
AT_ONCE = 8
NAME = names()[-1]


@pytest.fixture
def host(servers):
    return servers[-1]


def rotate(*arguments, **variables):
    return playbook("--limit", NAME, *arguments, name=str(PROJECT / "playbooks/rotate.yml"), **variables)


@contextlib.contextmanager
def visitors(host):
    """They come in crowds, with breaks in which the database ends idle connections: so pages need new ones all the time."""
    met, over = SimpleNamespace(asked=0, failed=[]), threading.Event()

    def ask(_number):
        try:
            answer = get(host)
            return "" if answer.status_code == 200 else f"{answer.status_code}: {answer.text[:200]}"
        except requests.RequestException as error:
            return str(error)

    def come():
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as crowd:
            while not over.wait(1.3):
                met.asked += AT_ONCE
                met.failed += filter(None, crowd.map(ask, range(AT_ONCE)))

    def connections():
        return int(sql(host, "show global status like 'Connections'").split()[1])

    sql(host, "set global wait_timeout = 1")
    sql(host, "kill user foobar@localhost")
    before, thread = connections(), threading.Thread(target=come)
    thread.start()
    try:
        yield met
    finally:
        over.set()
        thread.join()
        met.connections = connections() - before
        sql(host, "set global wait_timeout = 28800")


def valid(host):
    """Those of the passwords that the database accepts."""
    return [
        word
        for word in (PASSWORD, NEXT_PASSWORD)
        if host.run(f"MYSQL_PWD={shlex.quote(word)} mariadb --user=foobar foobar --execute 'select 1'").rc == 0
    ]


def status(host):
    return json.loads(host.check_output("webstack-release foobar status --json"))


def as_declared(host):
    """The live slot has the settings of now, and no other runs."""
    live = status(host)
    assert live["active"] and live["settings_current"] and live["committed"] and not live["warm"], live


def test_what_would_lock_the_site_out_is_refused(host):
    rotate(password=NEXT_PASSWORD, password_before="a-password-of-nobodys").must_be_refused(
        "user foobar@localhost: the server has a password for it that is neither"
    )
    assert valid(host) == [PASSWORD]
    assert get(host).status_code == 200


def test_new_secrets_are_given_out_and_no_request_is_lost(host):
    slot = status(host)["slot"]
    assert rotate("--check", **THERE).must_succeed().changed
    assert valid(host) == [PASSWORD]
    with visitors(host) as met:
        run = rotate("-vvv", "--diff", **THERE).must_succeed()
    assert met.failed == []
    assert met.asked >= 40 and met.connections >= met.asked / AT_ONCE
    run.must_say("Remove sites.foobar.database.password_before from the inventory.")
    assert not [secret for secret in (PASSWORD, NEXT_PASSWORD, SECRET_KEY, NEXT_KEY) if secret in run.output]
    assert valid(host) == [NEXT_PASSWORD]
    as_declared(host)
    assert status(host)["slot"] != slot
    rotate(**BACK).must_succeed()
    assert valid(host) == [PASSWORD]


@pytest.mark.thorough
def test_a_rotation_that_is_killed_harms_nobody_and_is_made_up_for(host):
    with visitors(host) as met:
        for seconds in (8, 13):
            with contextlib.suppress(subprocess.TimeoutExpired):
                rotate(kill_after=seconds, **THERE)
        rotate(**THERE).must_succeed()
    assert met.failed == []
    assert valid(host) == [NEXT_PASSWORD]
    as_declared(host)
    rotate(**BACK).must_succeed()
    assert valid(host) == [PASSWORD]
    assert rotate(**BACK).must_succeed().changed == []
    # Nor has the next converge of the whole site anything to change (test_shipping.py).
