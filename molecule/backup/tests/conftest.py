"""The database servers, and what they hold before a test."""

import pytest
import testinfra
from copies import FOLDER, FULL, REPOSITORY, SERVERS, fulls, log_folder, make_repository, ran, sql
from scenario import at_once

SAVED = "/var/lib/webstack-backup/files.json"


@pytest.fixture(params=SERVERS)
def host(request):
    """Those that have a database."""
    return testinfra.get_host(f"docker://{request.param}")


@pytest.fixture(scope="session", autouse=True)
def quick_repositories():
    hosts = [testinfra.get_host(f"docker://{name}") for name in SERVERS]
    at_once(
        lambda host: make_repository(host, REPOSITORY), [host for host in hosts if not host.file(REPOSITORY).exists]
    )


def make_full_if_none(host):
    same_line = 'last=/var/lib/webstack-backup/full.json; test -e $last && grep -q "$(cat %s/line)" $last'
    if not (host.file(REPOSITORY).exists and fulls(host) and host.run(same_line % log_folder(host)).rc == 0):
        ran(host, FULL)


@pytest.fixture
def has_full(host):
    """Any full of the server's log: it takes seconds, so that tests share one where that makes no difference."""
    make_full_if_none(host)


@pytest.fixture
def uploads(host):
    """A folder with files of somebody else's. Afterwards there is none, and that is no fault."""
    ran(host, f"id shop || useradd --system shop; rm -rf {FOLDER} {SAVED}; mkdir -p {FOLDER}/media")
    ran(
        host,
        f"cd {FOLDER}/media && echo one > one && chmod 0640 one && ln -s one link && echo odd > 'odd [o]*?.txt' && chown -hR shop: .",
    )
    yield
    ran(host, f"webstack-backup end-scratch; rm -rf {FOLDER} {SAVED}")


def begin(host):
    sql(
        host,
        "DROP DATABASE IF EXISTS proof; CREATE DATABASE proof; CREATE TABLE proof.t (id INT PRIMARY KEY, body TEXT)",
    )
    sql(host, "INSERT INTO proof.t VALUES (1, 'before'), (2, '🙂')")


def go_on(host):
    sql(host, "INSERT INTO proof.t VALUES (3, 'after'); CREATE TABLE proof.late (a INT); FLUSH BINARY LOGS")
    sql(host, "INSERT INTO proof.late VALUES (1)")


@pytest.fixture
def written(host, has_full):
    """Rows that came after the newest full; afterwards the scratch instance is gone."""
    begin(host)
    go_on(host)
    yield
    ran(host, "webstack-backup end-scratch")


@pytest.fixture
def backed_up(host):
    """The same rows, of which the first two are in the newest full."""
    begin(host)
    ran(host, FULL)
    go_on(host)
    yield
    ran(host, "webstack-backup end-scratch")
