"""Role mysql on a host whose MySQL somebody else has set up; scenario takeover does the same with MariaDB."""

import re

import pytest
import testinfra
from scenario import names, playbook, until

VENDOR = next(name for name in names() if "vendor" in name)
CONFIGURATION = "/etc/mysql/mysql.conf.d/theirs.cnf"
# What the role has brought, and how it knows a server for its own.
FORGET = (
    "systemctl stop mysql; rm -r /etc/mysql/webstack.cnf /etc/mysql/mysql.conf.d/webstack-log.cnf /etc/systemd/system/mysql.service.d "
    "/run/webstack/mysql.service.json /var/lib/mysql-binlog; systemctl daemon-reload; systemctl start mysql; "
    "mysql -e 'CREATE DATABASE shop; CREATE TABLE shop.orders (n INT); INSERT INTO shop.orders VALUES (1), (2)'"
)
# The older copy stays at the usual place.
MOVE = (
    "systemctl stop mysql; mkdir /data; cp -a /var/lib/mysql /data/mysql; "
    f"printf '[mysqld]\\ndatadir=/data/mysql\\n' > {CONFIGURATION}; systemctl start mysql; "
    'mysql -e "INSERT INTO shop.orders VALUES (3); '
    "ALTER USER root@localhost IDENTIFIED WITH caching_sha2_password BY 'their-own-password'\""
)
MOVE_BACK = (
    f"systemctl stop mysql; rm -r {CONFIGURATION} /var/lib/mysql; mv /data/mysql /var/lib/mysql; rmdir /data; "
    "systemctl start mysql; {login} -e 'ALTER USER root@localhost IDENTIFIED WITH auth_socket'"
)
BY_PASSWORD = "MYSQL_PWD=their-own-password mysql"
# What must be the same before and after: the process, its settings, its rows, the files.
STATE = (
    "systemctl show -P InvocationID mysql; systemctl is-enabled mysql; "
    "{login} -Ne 'SELECT @@datadir, @@skip_networking, @@port; SELECT * FROM shop.orders'; "
    "find /etc/mysql /etc/apt /etc/systemd/system -type f -exec sha256sum {{}} + | sort; dpkg --get-selections | sort"
)


def run(*arguments, **variables):
    return playbook("--limit", VENDOR, *arguments, **variables)


@pytest.fixture(scope="module")
def theirs():
    """The host, as if the role had never been there; the last test has the role take it over."""
    server = testinfra.get_host(f"docker://{VENDOR}")
    server.check_output(FORGET)
    yield server
    server.check_output(f"mysql -e 'DROP DATABASE shop; RESET PERSIST'; rm -r {CONFIGURATION} /var/lib/webstack/copies")


@pytest.fixture
def moved(theirs):
    theirs.check_output(MOVE)
    yield theirs
    theirs.check_output(MOVE_BACK.format(login=BY_PASSWORD))


@pytest.mark.thorough
def test_a_server_with_its_data_elsewhere_is_refused_with_both_places(moved):
    """The gravest: with a password for root, nobody could log in to ask."""
    before = moved.check_output(STATE.format(login=BY_PASSWORD))
    assert before.split()[2:4] == ["/data/mysql/", "0"] and "\n3\n" in before
    run(mysql_take_over=True).must_be_refused("has its data in /data/mysql", "This role keeps them in /var/lib/mysql")
    assert moved.check_output(STATE.format(login=BY_PASSWORD)) == before
    moved.check_output("systemctl stop mysql")
    run(mysql_take_over=True).must_be_refused("installed here and stopped", "/data/mysql", "/var/lib/mysql")
    assert moved.run("systemctl is-active mysql").stdout.strip() == "inactive"
    moved.check_output("systemctl start mysql")
    after = moved.check_output(STATE.format(login=BY_PASSWORD))
    assert after.splitlines()[1:] == before.splitlines()[1:]  # but for the process


@pytest.mark.thorough
def test_a_server_at_the_usual_place_is_taken_over_on_a_word_if_the_sandbox_cuts_nothing_off(theirs):
    """tests/unit/test_mysql_host.py shows that the word does not help against the latter."""
    theirs.check_output(
        "mkdir -p /data/tables; chown mysql: /data/tables; "
        f"printf '[mysqld]\\nsort_buffer_size=3M\\ninnodb_directories=/data/tables\\n' > {CONFIGURATION}; systemctl restart mysql; "
        "mysql -e \"CREATE TABLE shop.far (n INT) DATA DIRECTORY='/data/tables'; SET PERSIST max_connections = 70\""
    )
    before, rows = theirs.check_output(STATE.format(login="mysql")), "mysql -Ne 'SELECT * FROM shop.orders'"
    orders, digest = theirs.check_output(rows), theirs.check_output(f"sha256sum < {CONFIGURATION}")
    run().must_be_refused(
        "has files outside of /var/lib/mysql: /data/tables/shop/far.ibd.",
        "Its databases: ", "shop", CONFIGURATION, "mysqld-auto.cnf", "-e mysql_take_over=true",
    )  # fmt: skip
    assert theirs.check_output(STATE.format(login="mysql")) == before
    theirs.check_output("mysql -e 'SELECT * FROM shop.far; DROP TABLE shop.far'; rm -r /data")
    taken = run(mysql_take_over=True).must_succeed()
    until(lambda: theirs.run("mysql -e 'SELECT 1'").rc == 0, 20)
    assert theirs.check_output(rows) == orders
    settings = "mysql -Ne 'SELECT @@log_bin, @@skip_networking, @@max_connections, @@sort_buffer_size'"
    assert theirs.check_output(settings).split() == ["1", "1", "100", "262144"]
    (copy,) = set(re.findall(r"/var/lib/webstack/copies/[0-9TZ-]+-etc-mysql", taken.output))
    assert theirs.check_output(f"sha256sum < {copy}/mysql/mysql.conf.d/theirs.cnf") == digest
    assert theirs.file("/var/lib/webstack/copies").mode == 0o700
    # From now on it is the role's, without the word.
    assert run().must_succeed().changed == []
