"""The binary log: beside the data, it survives them; a log that lies with them moves without a hole. In this order."""

import subprocess
import threading
import time

import pytest
import testinfra
from scenario import names, playbook, until

pytestmark = pytest.mark.thorough
DATA, LOG = "/var/lib/mysql", "/var/lib/mysql-binlog"
WAIT = {"mysql_acknowledge_timeout_ms": 700}
MOVE = {"mysql_move_log": True, **WAIT}
# Writes the number of each row that the server has acknowledged to the disk. What it does not answer is not asked again.
WRITER = """
import itertools, time, pymysql
connection = None
with open("/root/acknowledged", "a", buffering=1) as known:
    for number in itertools.count(int(time.time() * 1000) * 1000):
        try:
            connection = connection or pymysql.connect(
                unix_socket="/run/mysqld/mysqld.sock", user="app", password=b"correct-horse-battery", database="app_x",
                autocommit=True, read_timeout=5,
            )
            connection.cursor().execute("INSERT INTO counted VALUES (%s)", [number])
            known.write(f"{number}\\n")
            time.sleep(0.002)
        except pymysql.MySQLError:
            connection = None
            time.sleep(0.05)
"""
# Before the host: its init goes first, and the run would take that for a start that failed, and undo the move.
KILL_THE_RUN = """
for exe in /proc/[0-9]*/exe; do
  case $(readlink $exe) in */python3*) process=${exe%/exe}; kill -KILL ${process#/proc/};; esac
done
"""


def unit(server):
    return "mysql" if "vendor" in server.backend.name else "mariadb"


def sql(server, statement):
    return server.check_output(f"{unit(server)} --batch --skip-column-names --execute %s", statement)


def answers(server):
    return server.run(f"{unit(server)} --execute 'SELECT 1'").rc == 0


def write(server):
    server.check_output("systemd-run --quiet --unit=writer /usr/bin/python3 -c %s", WRITER)


def acknowledged(server):
    return [int(line) for line in server.check_output("cat /root/acknowledged").split()]


def files(server):
    return server.check_output(f"cat {LOG}/binlog.index").split()


def logged(server):
    """The numbers of the rows in the whole log, by the vendor's own tool."""
    tool = {"mysql": "mysqlbinlog", "mariadb": "mariadb-binlog"}[unit(server)]
    command = f"cd {LOG}; {tool} --base64-output=DECODE-ROWS --verbose --database=app_x $(cat binlog.index)"
    lines = server.check_output(f"{command} | grep -A2 '^### INSERT INTO `app_x`.`counted`'").splitlines()
    return [int(line.partition("@1=")[2]) for line in lines if "@1=" in line]


def must_be_complete(server):
    """Every acknowledged row is in the log once, and the log's numbers have no gap."""
    found, known = logged(server), acknowledged(server)
    assert len(found) == len(set(found)) and len(known) > 10
    assert set(known) - set(found) == set(), f"{len(set(known) - set(found))} of {len(known)} are lost"
    paths = files(server)
    first = int(paths[0][-6:])
    assert paths == [f"{LOG}/binlog.{first + place:06}" for place in range(len(paths))]
    assert not server.run(f"ls {DATA}/binlog.* {LOG}/moving").stdout


def state(server):
    return server.check_output(
        f"systemctl show -P InvocationID {unit(server)}; sha256sum /etc/mysql/webstack.cnf /etc/systemd/system/{unit(server)}.service.d/*"
        f"; ls {DATA}/binlog.*"
    )


@pytest.fixture(scope="module")
def of_before():
    """Hosts whose log lies with the data, as the role had it before, and that are written to."""
    found = [testinfra.get_host(f"docker://{name}") for name in names()]
    for server in found:
        server.check_output(
            f"systemctl stop {unit(server)}; cd {LOG}; mv binlog.* {DATA}; sed -i 's,^{LOG},.,' {DATA}/binlog.index; "
            f"rm -rf {LOG} /usr/local/lib/webstack/mysql-log /etc/mysql/mysql.conf.d/webstack-log.cnf"
        )
    playbook(__mysql_log_beside=False).must_succeed()
    for server in found:
        sql(server, "CREATE TABLE app_x.counted (number BIGINT PRIMARY KEY)")
        write(server)
    yield found
    for server in found:
        server.check_output("systemctl stop 'writer*'; rm /root/acknowledged")
        sql(server, "DROP TABLE app_x.counted")
    playbook().must_succeed()


def test_a_new_server_has_its_log_beside_its_data(servers):
    for server in servers:
        assert files(server)[0] == f"{LOG}/binlog.000001"
        assert server.run(f"ls {DATA}/binlog.*").stdout == ""
        assert (server.file(LOG).user, server.file(LOG).mode) == ("mysql", 0o700)
        assert server.file(f"{LOG}/line").content_string.startswith("20")
    ids = {int(sql(server, "SELECT @@server_id")) for server in servers}
    assert len(ids) == len(servers) and not ids & {0, 1}


def test_without_the_word_a_log_with_the_data_stays_there(of_before):
    before = [state(server) for server in of_before]
    run = playbook().must_succeed()
    assert run.changed == []
    run.must_say("The binary log lies with the data", "-e mysql_move_log=true")
    assert [state(server) for server in of_before] == before


def test_a_move_with_which_the_server_does_not_start_is_taken_back(of_before):
    """The rows that are written from then on go into the log with the data, some under a number that the start has used."""
    run = playbook(**MOVE, mysql_options={"innodb_data_file_path": "ibdata1:1G"})
    run.must_fail("The previous configuration is back, and the service runs with it.")
    for server in of_before:
        assert f"{DATA}/binlog.index" in state(server)
        count = len(acknowledged(server))
        until(lambda server=server, count=count: len(acknowledged(server)) > count + 50)


def test_a_move_in_which_the_host_dies_is_finished_by_the_next_start(of_before):
    wait = "[Service]\nExecStartPre=+/bin/sh -c 'touch /run/brought; sleep 60'\n"
    for server in of_before:
        folder = f"/run/systemd/system/{unit(server)}.service.d"  # gone with the next boot
        server.check_output(f"mkdir -p {folder}; printf %s > {folder}/zz.conf", wait)
    runs = []
    move = threading.Thread(target=lambda: runs.append(playbook(**MOVE)))
    move.start()
    for server in of_before:
        until(lambda server=server: server.file("/run/brought").exists)
        server.check_output(f"ls {DATA}/binlog.index {LOG}/binlog.index {LOG}/moving")
        server.check_output(KILL_THE_RUN)
    for verb in (["kill", "--signal=KILL"], ["start"]):
        subprocess.run(["docker", *verb, *names()], check=True, capture_output=True)
    move.join()
    assert not runs[0].ok
    for server in of_before:
        until(lambda server=server: answers(server))
        assert sql(server, "SELECT @@log_bin_basename") == f"{LOG}/binlog"
        count = len(acknowledged(server))
        write(server)
        until(lambda server=server, count=count: len(acknowledged(server)) > count + 50)
    assert playbook(**WAIT).must_succeed().changed == []
    for server in of_before:
        server.check_output("systemctl stop writer")
        must_be_complete(server)


def test_a_commit_waits_for_another_machine_and_then_goes_on_without(of_before):
    for server in of_before:
        side = {"mysql": "source", "mariadb": "master"}[unit(server)]
        settings = [f"@@rpl_semi_sync_{side}_{name}" for name in ("enabled", "timeout", "wait_point")]
        assert sql(server, f"SELECT {', '.join(settings)}").split() == ["1", "700", "AFTER_SYNC"]
        status = f"SHOW STATUS LIKE 'Rpl_semi_sync_{side}_status'"
        # Nobody is there to answer: since the first commit after the start, nobody is waited for.
        assert sql(server, status).split()[1] == "OFF"
        sql(server, f"SET GLOBAL rpl_semi_sync_{side}_enabled = OFF; SET GLOBAL rpl_semi_sync_{side}_enabled = ON")
        assert sql(server, status).split()[1] == "ON"
        start = time.monotonic()
        sql(server, "INSERT INTO app_x.counted VALUES (1)")
        assert time.monotonic() - start > 0.7
        sql(server, "DELETE FROM app_x.counted WHERE number = 1")


def test_what_mysqls_package_changes_by_a_server_of_its_own_is_in_the_log(of_before):
    """It starts one with its own configuration, whose log would lie with the data: the next start would refuse two of them."""
    server = next(server for server in of_before if unit(server) == "mysql")
    before = files(server)
    server.check_output(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install --reinstall -y -t sid mysql-server >/dev/null 2>&1"
    )
    until(lambda: answers(server))
    must_be_complete(server)
    added = " ".join(sorted(set(files(server)) - set(before)))
    assert "ALTER USER 'debian-sys-maint'@'localhost'" in server.check_output(f"mysqlbinlog {added}")


def test_a_log_beside_the_data_outlives_them(of_before):
    """The server goes on to acknowledge rows for a while after its data are gone: they are in the log alone."""
    kept = f"rm -rf /root/kept; mkdir /root/kept; cp -a {DATA} {LOG} /root/kept"
    for server in of_before:
        server.check_output(f"systemctl stop {unit(server)}; {kept}; systemctl start {unit(server)}")
        write(server)
    time.sleep(1)
    counts = []
    for server in of_before:
        counts.append(len(acknowledged(server)))
        server.check_output(
            f"rm -rf {DATA}/*; sleep 0.4; systemctl kill --signal=KILL {unit(server)}; systemctl stop writer {unit(server)}"
        )
    for server, count in zip(of_before, counts, strict=True):
        assert len(acknowledged(server)) > count
        must_be_complete(server)
        server.check_output(f"rm -r {DATA} {LOG}; mv /root/kept/* /var/lib/; systemctl start {unit(server)}")


def test_what_is_older_than_its_days_is_removed(of_before):
    """MariaDB from 11.4 waits for a replica if it is not told that there is none."""
    for server in of_before:
        sql(server, "SET GLOBAL binlog_expire_logs_seconds = 1; FLUSH BINARY LOGS")
    time.sleep(2)
    for server in of_before:
        before = files(server)
        sql(server, "FLUSH BINARY LOGS; SET GLOBAL binlog_expire_logs_seconds = 604800")
        until(lambda server=server, before=before: not set(files(server)) & set(before[:-1]))
