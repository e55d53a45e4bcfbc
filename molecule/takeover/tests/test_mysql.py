"""Role mysql on hosts whose database server somebody else has set up: nothing is exchanged, cut off or lost."""

import re

import pytest
import testinfra
from scenario import each, names, playbook, until

CONFIGURATION = "/etc/mysql/mariadb.conf.d/99-theirs.cnf"
# Debian's server with a database of somebody's, in two ages: what is in /var/lib/mysql is the older.
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install -y --no-install-recommends "
    "mariadb-server >/dev/null 2>&1 && systemctl start mariadb && "
    "mariadb -e 'CREATE DATABASE shop; CREATE TABLE shop.orders (n INT); INSERT INTO shop.orders VALUES (1), (2)'"
)
REMOVE = (
    "systemctl stop mariadb; export DEBIAN_FRONTEND=noninteractive; "
    "apt-get -qq purge -y 'mariadb*' mysql-common galera-4 python3-pymysql >/dev/null 2>&1; "
    "rm -rf /var/lib/mysql /var/lib/mysql-binlog /var/lib/mysql-files /var/log/mysql /etc/mysql /data /root/.my.cnf /etc/fstab.theirs "
    "/etc/systemd/system/mariadb.service.d /run/webstack/mariadb.service.json; systemctl daemon-reload"
)
MOVE = (
    "systemctl stop mariadb; mkdir -p /data; cp -a /var/lib/mysql /data/mysql; "
    f"printf '[mysqld]\\ndatadir=/data/mysql\\n' > {CONFIGURATION}; systemctl start mariadb; "
    "mariadb -e 'INSERT INTO shop.orders VALUES (3)'"
)
ROOT = "-uroot -ptheir-own-password"
PASSWORD = "mariadb -e \"ALTER USER root@localhost IDENTIFIED BY 'their-own-password'\""
# What must be the same before and after: the process, its settings, its rows, the files.
STATE = (
    "systemctl show -P InvocationID mariadb; systemctl is-enabled mariadb; "
    "mariadb {login} -Ne 'SELECT @@datadir, @@sql_mode, @@skip_networking, @@log_bin; SELECT * FROM shop.orders' 2>&1; "
    "find /etc/mysql /etc/apt /etc/systemd/system -type f -exec sha256sum {{}} + | sort; dpkg --get-selections | sort"
)


def run(*arguments, **variables):
    return playbook(*arguments, name="converge_mysql.yml", **variables)


def refused(servers, *words, login="", arguments=(), **variables):
    """On each host, whose state stays as it is; together they say all the words."""
    before = [server.check_output(STATE.format(login=login)) for server in servers]
    refusal = run(*arguments, **variables).must_be_refused(*words)
    assert refusal.output.count("failed=1 ") == len(servers), refusal.output
    assert [server.check_output(STATE.format(login=login)) for server in servers] == before
    return refusal


@pytest.fixture(scope="module", autouse=True)
def _removed_afterwards():
    yield
    for server in hosts():
        server.check_output(REMOVE)


def hosts():
    return [testinfra.get_host(f"docker://{name}") for name in names()]


TAKE_OVER = {"mysql_take_over": True}
NO_WORD = {"mysql_take_over": False}
# What is no matter of the server's version is shown on one host, while the other is in another state.
USUAL_PLACE = f"systemctl stop mariadb; rm {CONFIGURATION}; rm -r /var/lib/mysql; mv /data/mysql /var/lib/mysql"
BY_SOCKET = f"mariadb {ROOT} -e 'ALTER USER root@localhost IDENTIFIED VIA unix_socket'"


def test_a_server_with_its_data_elsewhere_and_an_older_copy_at_the_usual_place(servers):
    """The gravest: with a password for root, nobody could log in to ask. With the word and without, in a dry run too."""
    for server in servers:
        server.check_output(f"{INSTALL} && {MOVE} && {PASSWORD}")
    for arguments, words in ((("--check",), each(TAKE_OVER, NO_WORD)), ((), each(NO_WORD, TAKE_OVER))):
        said = refused(
            servers, "has its data in /data/mysql", "/var/lib/mysql", login=ROOT, arguments=arguments, **words
        )
        assert said.output.count("has its data in /data/mysql") == len(servers)


def test_the_same_server_stopped_and_one_at_the_usual_place_whose_root_has_a_password(servers):
    old, new = servers
    old.check_output("systemctl stop mariadb")
    new.check_output(f"{USUAL_PLACE}; systemctl start mariadb")
    refused(
        servers,
        "installed here and stopped", "/data/mysql", "/var/lib/mysql",
        "root cannot log in", "ALTER USER root@localhost IDENTIFIED VIA unix_socket", "nothing was changed",
        login=ROOT, **TAKE_OVER,
    )  # fmt: skip
    assert old.run("systemctl is-active mariadb").stdout.strip() == "inactive"
    old.check_output("systemctl start mariadb")
    assert old.check_output(f"mariadb {ROOT} -Ne 'SELECT COUNT(*) FROM shop.orders'") == "3"


def test_one_at_the_usual_place_that_is_stopped_and_data_of_the_other_vendor(servers):
    old, new = servers
    old.check_output(USUAL_PLACE)
    new.check_output(f"{BY_SOCKET}; touch /var/lib/mysql/mysql.ibd")
    refused(
        servers,
        "does not run, so it cannot be asked", "shop", "systemctl start mariadb",
        "mysql_vendor: is mariadb, but /var/lib/mysql/mysql.ibd",
        **each(NO_WORD, TAKE_OVER),
    )  # fmt: skip
    old.check_output(f"systemctl start mariadb; {BY_SOCKET}")
    new.check_output("rm /var/lib/mysql/mysql.ibd")


def test_data_of_a_newer_version(servers):
    for server in servers:
        server.check_output(
            "systemctl stop mariadb; cd /var/lib/mysql; for f in m*_upgrade_info; do cp $f /root/; echo 99.1.0-MariaDB > $f; done"
        )
    said = refused(servers, "were written by version 99.1", **TAKE_OVER)
    assert said.output.count("were written by version 99.1") == len(servers)
    for server in servers:
        server.check_output("cp /root/m*_upgrade_info /var/lib/mysql/; systemctl start mariadb")


def test_a_disk_that_is_not_mounted_and_a_table_outside_of_the_data_that_the_sandbox_would_cut_off(servers):
    old, new = servers
    old.check_output("cp -a /etc/fstab /root/fstab; echo '/dev/none /var/lib/mysql ext4 noauto 0 0' >> /etc/fstab")
    new.check_output(
        "mkdir -p /data/far; chown mysql: /data/far; "
        "mariadb -e \"CREATE TABLE shop.far (n INT) DATA DIRECTORY='/data/far'\""
    )
    refused(
        servers,
        "/var/lib/mysql is a mount point", "nothing is mounted there",
        "has files outside of /var/lib/mysql: /data/far/shop/far.ibd.",
        **TAKE_OVER,
    )  # fmt: skip
    old.check_output("cp -a /root/fstab /etc/fstab")
    new.check_output("mariadb -e 'SELECT * FROM shop.far; DROP TABLE shop.far'; rm -r /data/far")


def test_a_configuration_and_databases_of_somebody_elses_are_taken_over_on_a_word(servers):
    """Through a link to another disk, which goes on working within the sandbox."""
    for server in servers:
        server.check_output(
            "systemctl stop mariadb; mkdir -p /data; mv /var/lib/mysql /data/mysql; ln -s /data/mysql /var/lib/mysql; "
            f"printf '[mysqld]\\nsort_buffer_size=3M\\n' > {CONFIGURATION}; systemctl start mariadb"
        )
    refused(servers, "Its databases: shop", CONFIGURATION, "-e mysql_take_over=true")
    before = [server.check_output("sha256sum /etc/mysql/mariadb.conf.d/99-theirs.cnf") for server in servers]
    taken = run(mysql_take_over=True).must_succeed()
    for server, digest in zip(servers, before, strict=True):
        until(lambda server=server: server.run("mariadb -e 'SELECT 1'").rc == 0, 20)
        assert server.check_output("mariadb -Ne 'SELECT * FROM shop.orders'").split() == ["1", "2", "3"]
        assert server.check_output("mariadb -Ne 'SELECT @@log_bin, @@skip_networking'").split() == ["1", "1"]
        copies = re.findall(r"/var/lib/webstack/copies/[0-9TZ-]+-etc-mysql", taken.output)
        copy = next(path for path in copies if server.file(path).is_directory)
        assert server.check_output(f"cd {copy} && sha256sum mysql/mariadb.conf.d/99-theirs.cnf").split()[0] in digest
        assert server.file("/var/lib/webstack/copies").mode == 0o700
        assert server.check_output("readlink /var/lib/mysql") == "/data/mysql"
    # From now on it is ours, without the word.
    assert run().must_succeed().changed == []
