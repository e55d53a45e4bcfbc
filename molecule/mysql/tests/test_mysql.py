"""Role mysql: the server, its databases, its users and what they may do; MariaDB and MySQL alike."""

import json
import secrets
import time

import pytest
from scenario import until, watched

SERVER = "mysql : Configure | The server and its sandbox"
ACCOUNTS = "mysql : Accounts | Databases, users and what they may do"
PASSWORD = "correct-horse-battery"
DATABASES = [{"name": "app_x"}, {"name": "other", "collation": "utf8mb4_bin"}]
APP = {"name": "app", "password": PASSWORD, "privileges": [{"database": "app_x", "grants": ["ALL"]}]}
READER = {
    "name": "reader",
    "password": "another-long-secret",
    "privileges": [{"database": "other", "grants": ["SELECT"]}],
}
DAEMON = {"name": "daemon", "auth": "socket", "privileges": [{"database": "app_x"}]}
USERS = [APP, READER, DAEMON]
HOSTILE = [
    "quote'and\"double`back",
    "back\\slash;semi#hash",
    "%percent$dollar&amp<less",
    "grea>ter :co@at/slash x",
    "-dash leads the way",
    "=equals leads the way",
    "!bang leads the way, ~tilde",
    "*CAFEBABECAFEBABECAFEBABECAFEBABECAFEBABE",
    "ünïcödé is a word 🙂",
]
TLS = {
    "mysql_listen_address": ["0.0.0.0"],
    "mysql_tls_certificate": "/etc/ssl/server.pem",
    "mysql_tls_key": "/etc/ssl/private/server.key",
    "mysql_users": [*USERS, {**APP, "host": "%"}],
}

CLIENT = """
import json, os, sys, pymysql
options = json.loads(os.environ["CONNECTION"])
options.setdefault("unix_socket", None if "host" in options else "/run/mysqld/mysqld.sock")
if "password" in options:
    options["password"] = options["password"].encode()
with pymysql.connect(charset="utf8mb4", autocommit=True, **options) as connection, connection.cursor() as cursor:
    for statement in sys.argv[1:]:
        cursor.execute(statement)
    print(json.dumps(cursor.fetchall(), default=str))
"""


def run_sql(server, *statements, as_os_user="root", **connection):
    """Runs the statements in one session on the host; root's by default."""
    settings = json.dumps({"user": "root", **connection})
    quoted = " ".join(["%s"] * len(statements))
    command = f"runuser -u {as_os_user} -- env CONNECTION=%s python3 -c %s {quoted}"
    return server.run(command, settings, CLIENT, *statements)


def rows(server, *statements, **connection):
    done = run_sql(server, *statements, **connection)
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


def refusal(server, *statements, **connection):
    done = run_sql(server, *statements, **connection)
    assert done.rc != 0, done.stdout
    return done.stderr


def as_app(server, *statements, **connection):
    return rows(server, *statements, user="app", password=PASSWORD, database="app_x", **connection)


def unit(server):
    return (
        "mysql"
        if server.file("/usr/sbin/mysqld").is_file and not server.file("/usr/sbin/mariadbd").exists
        else "mariadb"
    )


def starts(server):
    """How often the server was started."""
    return int(server.check_output(f"journalctl -u {unit(server)} -o cat --no-pager | grep -c '^Started '"))


def everywhere(servers, task):
    """What a run says that changed `task` on all hosts and nothing else."""
    return sorted(f"{server.check_output('hostname')}: {task}" for server in servers)


def test_a_dry_run_of_a_converged_host_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


def test_the_app_logs_in_by_password_and_keeps_rows(server):
    as_app(server, "CREATE TABLE IF NOT EXISTS notes (text VARCHAR(99))", "INSERT INTO notes VALUES ('käse 🧀')")
    assert ["käse 🧀"] in as_app(server, "SELECT text FROM notes")
    assert "Access denied" in refusal(server, "SELECT 1", user="app", password="not-the-password!")
    assert "Access denied" in refusal(server, "SELECT 1", user="app")


def test_a_user_of_the_operating_system_logs_in_by_the_socket(server):
    assert rows(server, "SELECT CURRENT_USER()", user="daemon", as_os_user="daemon") == [["daemon@localhost"]]
    assert "Access denied" in refusal(server, "SELECT 1", user="daemon", as_os_user="nobody")
    assert "Access denied" in refusal(server, "SELECT 1", user="daemon")


def test_a_user_reaches_its_own_database_only(server):
    app = {"user": "app", "password": PASSWORD}
    rows(server, "CREATE TABLE IF NOT EXISTS other.t (n INT)", "CREATE DATABASE IF NOT EXISTS appyx")
    assert "Access denied" in refusal(server, "USE other", **app)
    assert "Access denied" in refusal(server, "USE mysql", **app)
    assert "denied" in refusal(server, "SELECT * FROM other.t", **app)
    reader = {"user": "reader", "password": READER["password"], "database": "other"}
    assert rows(server, "SELECT * FROM t", **reader) == []
    assert "denied" in refusal(server, "INSERT INTO t VALUES (1)", **reader)


def test_an_underscore_in_a_name_is_no_wildcard(server):
    rows(server, "CREATE DATABASE IF NOT EXISTS appyx")
    assert "Access denied" in refusal(server, "USE appyx", user="app", password=PASSWORD)


def test_root_has_the_socket_and_no_other_way_in(server):
    assert rows(server, "SELECT CURRENT_USER()") == [["root@localhost"]]
    for os_user in ("nobody", "daemon"):
        for password in ({}, {"password": "invalid"}, {"password": "root"}):
            assert "Access denied" in refusal(server, "SELECT 1", as_os_user=os_user, **password)
    assert not server.file("/root/.my.cnf").exists


def test_debians_own_maintenance_goes_on_working(server):
    tool = "mysqladmin" if unit(server) == "mysql" else "mariadb-admin"
    server.check_output(f"{tool} --defaults-file=/etc/mysql/debian.cnf ping")
    server.check_output(
        f"logrotate --force /etc/logrotate.d/{'mysql-server' if unit(server) == 'mysql' else 'mariadb'}"
    )


def test_nothing_listens_on_the_network(server):
    assert server.check_output("ss -Hltnu") == ""


def test_the_settings_are_in_force(server):
    wanted = {
        "log_bin": "1",
        "sync_binlog": "1",
        "innodb_flush_log_at_trx_commit": "1",
        "binlog_expire_logs_seconds": "604800",
        "binlog_format": "ROW",
        "local_infile": "0",
        "secure_file_priv": "/var/lib/mysql-files/",
        "character_set_server": "utf8mb4",
        "slow_query_log": "1",
        "slow_query_log_file": "/var/log/mysql/slow.log",
        "max_connections": "100",
        "skip_networking": "1",
    }
    query = "SELECT " + ", ".join(f"@@GLOBAL.{name}" for name in wanted)
    assert dict(zip(wanted, map(str, rows(server, query)[0]), strict=True)) == wanted
    pool = rows(server, "SELECT @@innodb_buffer_pool_size")[0][0]
    memory = int(server.check_output("awk '/MemTotal/ {print $2}' /proc/meminfo")) * 1024
    assert pool % 2**27 == 0 and pool <= max(memory * 0.02, 2**27)


def test_a_database_is_in_utf8mb4(server):
    query = "SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA"
    collations = dict(rows(server, query))
    assert (collations["app_x"], collations["other"]) == ("utf8mb4_unicode_ci", "utf8mb4_bin")


def test_the_server_knows_the_time_zones_of_the_host(server):
    query = "SELECT CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'Europe/Berlin')"
    assert as_app(server, query) == [["2026-07-01 14:00:00"]]


def test_a_slow_query_is_noted(server):
    rows(server, "SELECT SLEEP(1.1)")
    assert "SELECT SLEEP(1.1)" in server.file("/var/log/mysql/slow.log").content_string


def test_files_are_out_of_reach(server):
    as_app(server, "CREATE TABLE IF NOT EXISTS lines_of_a_file (line TEXT)")
    load = "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE lines_of_a_file"
    refusal(server, load, user="app", password=PASSWORD, database="app_x", local_infile=True)
    assert "secure" in refusal(server, "SELECT 1 INTO OUTFILE '/tmp/outside'")
    assert rows(server, "SELECT LOAD_FILE('/etc/passwd')") == [[None]]


def test_the_server_is_sandboxed(server):
    score = server.check_output(f"systemd-analyze security {unit(server)} | tail -n 1").split(": ")[1].split()[0]
    assert float(score) <= 1.5


def test_a_killed_server_is_back_with_every_acknowledged_row(server):
    as_app(
        server, "CREATE TABLE IF NOT EXISTS kept (n INT)", "DELETE FROM kept", "INSERT INTO kept VALUES (1), (2), (3)"
    )
    server.check_output(f"systemctl kill --signal=KILL {unit(server)}")
    # 2 s on a host at rest; the bound leaves room for the other hosts' tests.
    until(lambda: run_sql(server, "SELECT 1").rc == 0, 20)
    assert as_app(server, "SELECT COUNT(*) FROM kept") == [[3]]


FILL = """
import pymysql
connection = pymysql.connect(
    unix_socket="/run/mysqld/mysqld.sock", user="app", password=b"correct-horse-battery", database="app_x",
    autocommit=True, read_timeout=5,
)
acknowledged = 0
try:
    for number in range(2000):
        connection.cursor().execute("INSERT INTO filled VALUES (%s, REPEAT('x', 65536))", [number])
        acknowledged += 1
except pymysql.MySQLError:
    print(acknowledged)
"""


def test_a_full_disk_loses_no_acknowledged_row_and_passes(servers):
    """On all hosts at once: where the binary log had no room, the server looks for some once a minute."""
    for server in servers:
        as_app(server, "DROP TABLE IF EXISTS filled", "CREATE TABLE filled (n INT PRIMARY KEY, text LONGTEXT)")
        server.check_output(
            f"systemctl stop {unit(server)} && mount -t tmpfs -o size=800m tmpfs /mnt && cp -a /var/lib/mysql/. /mnt/"
            f" && chown mysql: /mnt && mount --move /mnt /var/lib/mysql && systemctl start {unit(server)}"
            # MySQL goes on making its files for a while.
            " && room() { df --output=avail -B1 /var/lib/mysql | tail -n 1; }"
            ' && for _ in $(seq 20); do now=$(room); [ $now != "$before" ] || break; before=$now; sleep 3; done'
            ' && [ $now = "$before" ] && fallocate -l $((now - 12000000)) /var/lib/mysql/filler'
        )
    try:
        acknowledged = [int(server.check_output("python3 -c %s", FILL)) for server in servers]
        assert min(acknowledged) > 0
        for server in servers:
            server.check_output("rm /var/lib/mysql/filler")
        deadline = time.monotonic() + 90
        for server, count in zip(servers, acknowledged, strict=True):
            while run_sql(server, "INSERT INTO app_x.filled VALUES (-1, 'room again')").rc != 0:
                assert time.monotonic() < deadline
                time.sleep(1)
            assert as_app(server, f"SELECT COUNT(*) FROM filled WHERE n BETWEEN 0 AND {count - 1}") == [[count]]
            assert rows(server, "CHECK TABLE app_x.filled")[-1][-1] == "OK"
    finally:
        for server in servers:
            server.check_output(
                f"rm -f /var/lib/mysql/filler; systemctl stop {unit(server)}; umount /var/lib/mysql && systemctl start {unit(server)}"
            )
    for server in servers:
        as_app(server, "DROP TABLE filled")


@pytest.mark.usefixtures("restored")
def test_a_changed_option_restarts_the_server_once(converge, servers):
    before = [starts(server) for server in servers]
    variables = {"mysql_options": {"innodb_io_capacity": 300, "table-open-cache": 500}, "mysql_max_connections": 60}
    assert sorted(converge(**variables).must_succeed().changed) == everywhere(servers, SERVER)
    assert [starts(server) for server in servers] == [count + 1 for count in before]
    for server in servers:
        assert rows(server, "SELECT @@innodb_io_capacity, @@table_open_cache, @@max_connections") == [[300, 500, 60]]
    assert converge(**variables).must_succeed().changed == []


def test_an_option_that_the_server_refuses_never_turns_green(converge, servers):
    before = [(starts(server), server.file("/etc/mysql/webstack.cnf").content) for server in servers]
    for _run in range(2):
        converge(mysql_options={"no_such_option_at_all": 1}).must_be_refused(
            "no_such_option_at_all", "the live one is untouched"
        )
    converge(mysql_options={"max_allowed_packet": "10X"}).must_be_refused(
        "Unknown suffix 'X'", "the live one is untouched"
    )
    # To the servers, this is worth a warning and another value.
    converge(mysql_options={"sync_binlog": "99999999999999"}).must_be_refused(
        "adjusted to", "the live one is untouched"
    )
    for server, state in zip(servers, before, strict=True):
        assert (starts(server), server.file("/etc/mysql/webstack.cnf").content) == state
        assert rows(server, "SELECT 1") == [[1]]


def test_a_setting_with_which_the_server_does_not_start_is_taken_back(converge, servers):
    """No checker finds this one before the start."""
    run = converge(mysql_options={"innodb_data_file_path": "ibdata1:1G"})
    run.must_fail("The previous configuration is back, and the service runs with it.")
    for server in servers:
        until(lambda server=server: run_sql(server, "SELECT 1").rc == 0, 5)


def test_hand_edits_are_repaired_and_nothing_else(converge, servers):
    for server in servers:
        server.check_output("echo 'max_connections = 7' >> /etc/mysql/webstack.cnf")
    assert len(converge("--check").must_succeed().changed) == len(servers)
    assert sorted(converge().must_succeed().changed) == everywhere(servers, SERVER)


def test_a_restart_that_a_killed_run_left_out_is_made_up_for(converge, servers):
    before = [starts(server) for server in servers]
    for server in servers:
        server.check_output("rm -r /run/webstack; touch /etc/mysql/webstack.cnf")
    converge().must_succeed()
    assert [starts(server) for server in servers] == [count + 1 for count in before]


def test_accounts_changed_by_hand_are_repaired(converge, servers):
    before = [starts(server) for server in servers]
    for server in servers:
        mysql = unit(server) == "mysql"
        rows(
            server,
            "GRANT SELECT ON other.* TO app@localhost WITH GRANT OPTION",
            "GRANT SELECT ON `app_x`.* TO app@localhost",
            "GRANT PROCESS ON *.* TO app@localhost",
            "GRANT SELECT (n) ON other.t TO app@localhost",
            "REVOKE INSERT ON `app\\_x`.* FROM app@localhost",
            f"ALTER USER reader@localhost IDENTIFIED {'WITH auth_socket' if mysql else 'VIA unix_socket'}",
            "DROP USER IF EXISTS root@'192.0.2.1'",
            "CREATE USER root@'192.0.2.1' IDENTIFIED BY 'a-second-way-in'",
            "ALTER USER daemon@localhost ACCOUNT LOCK",
            *(
                ["ALTER USER app@localhost IDENTIFIED BY 'another-way-in' RETAIN CURRENT PASSWORD"]
                if mysql
                else [
                    "ALTER USER app@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('another-way-in')"
                    f" OR mysql_native_password USING PASSWORD('{PASSWORD}')",
                    "ALTER USER root@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('x')",
                ]
            ),
            "SET GLOBAL max_connections = 17",
            "SET GLOBAL sql_mode = ''",
            "SET GLOBAL local_infile = 1",
            "SET GLOBAL innodb_io_capacity = 300",  # which nobody has declared
            # Left by an update of tzdata.
            "ALTER TABLE mysql.time_zone_name COMMENT = 'tzdata 2000a'",
            "DELETE FROM mysql.time_zone_name WHERE Name = 'Europe/Berlin'",
        )
        server.check_output("chmod 0777 /var/lib/mysql && chown root /var/log/mysql")
    predicted = converge("--check", "--diff").must_succeed()
    predicted.must_say("lock user root@192.0.2.1", "user app@localhost: grant INSERT on app_x")
    predicted.must_say("setting max_connections: 17 -> 100", "time zone tables: tzdata 2000a -> tzdata 20")
    predicted.must_say("/var/lib/mysql: mode 0777 -> 07", "/var/log/mysql: owner root -> mysql")
    for server in servers:
        assert rows(server, "SELECT @@GLOBAL.max_connections, @@GLOBAL.sql_mode") == [[17, ""]]
    assert sorted(predicted.changed) == everywhere(servers, ACCOUNTS)
    assert sorted(converge().must_succeed().changed) == everywhere(servers, ACCOUNTS)
    assert converge().must_succeed().changed == []
    assert [starts(server) for server in servers] == before
    for server in servers:
        as_app(server, "INSERT INTO kept VALUES (4)")
        assert "Access denied" in refusal(server, "USE other", user="app", password=PASSWORD)
        assert "Access denied" in refusal(server, "SELECT 1", user="app", password="another-way-in")
        rows(server, "SELECT 1", user="reader", password=READER["password"])
        assert "Access denied" in refusal(server, "SELECT 1", password="x", as_os_user="nobody")
        settings = "SELECT @@GLOBAL.max_connections, @@GLOBAL.local_infile, @@GLOBAL.innodb_io_capacity"
        assert rows(server, settings) == [[100, 0, 300]]
        assert "STRICT_TRANS_TABLES" in rows(server, "SELECT @@GLOBAL.sql_mode")[0][0]
        assert rows(server, "SELECT COUNT(*) FROM mysql.time_zone_name WHERE Name = 'Europe/Berlin'") == [[1]]
        assert server.file("/var/lib/mysql").mode == (0o700 if unit(server) == "mysql" else 0o755)
        assert server.file("/var/log/mysql").user == "mysql"


def test_an_expired_password_is_made_valid_again(converge, servers):
    """A test of its own: above, both passwords are set anew for another reason."""
    reader = {"user": "reader", "password": READER["password"]}
    for server in servers:
        # That of a login by socket too, where a server takes it.
        expire = [f"ALTER USER {name}@localhost PASSWORD EXPIRE" for name in ("reader", "daemon")]
        rows(server, *(expire[:1] if unit(server) == "mysql" else expire))
        said = refusal(server, "SELECT 1", **reader)
        assert "password has expired" in said or "must SET PASSWORD" in said  # MySQL's words, MariaDB's words
    run = converge("--diff").must_succeed()
    run.must_say("user reader@localhost: the password, which had expired, is valid again")
    assert sorted(run.changed) == everywhere(servers, ACCOUNTS)
    assert converge().must_succeed().changed == []
    for server in servers:
        assert rows(server, "SELECT 1", **reader) == [[1]]
        assert rows(server, "SELECT 1", user="daemon", as_os_user="daemon") == [[1]]


@pytest.mark.usefixtures("restored")
def test_hostile_passwords_work_and_rotate_without_a_restart(converge, servers):
    hostile = [{"name": f"hostile-{number}", "password": password} for number, password in enumerate(HOSTILE)]
    before = [starts(server) for server in servers]
    users = {"mysql_users": [{**APP, "password": "rotated-secret-value"}, READER, DAEMON, *hostile]}
    assert sorted(converge(**users).must_succeed().changed) == everywhere(servers, ACCOUNTS)
    assert converge(**users).must_succeed().changed == []
    for server in servers:
        for user in hostile:
            rows(server, "SELECT 1", user=user["name"], password=user["password"])
        rows(server, "SELECT 1", user="app", password="rotated-secret-value")
        assert "Access denied" in refusal(server, "SELECT 1", user="app", password=PASSWORD)
    gone = [{"name": user["name"], "state": "absent"} for user in hostile]
    assert sorted(converge(mysql_users=[*USERS, *gone]).must_succeed().changed) == everywhere(servers, ACCOUNTS)
    assert [starts(server) for server in servers] == before
    for server in servers:
        assert "Access denied" in refusal(server, "SELECT 1", user="hostile-0", password=HOSTILE[0])
        assert rows(server, "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'hostile%'") == [[0]]


@pytest.mark.usefixtures("restored")
def test_a_password_is_replaced_while_the_one_before_is_valid(converge, servers):
    new, third = "a-password-from-now-on", "a-password-of-nobodys"

    def users(**login):
        return {"mysql_users": [{**APP, **login}, READER, DAEMON]}

    def valid():
        return [
            [word for word in (PASSWORD, new, third) if run_sql(server, "SELECT 1", user="app", password=word).rc == 0]
            for server in servers
        ]

    both = users(password=new, password_before=PASSWORD)
    dry = converge("--check", **both).must_succeed()
    assert sorted(dry.changed) == everywhere(servers, ACCOUNTS)
    assert valid() == [[PASSWORD]] * len(servers)
    run = converge("-vvv", "--diff", **both).must_succeed()
    run.must_say("user app@localhost: new password login, beside the one before")
    assert not [word for word in (new, PASSWORD) if word in run.output]
    assert sorted(run.changed) == everywhere(servers, ACCOUNTS)
    assert valid() == [[PASSWORD, new]] * len(servers)
    assert converge(**both).must_succeed().changed == []
    # Who names the wrong one before would lock somebody out.
    converge(**users(password=new, password_before=third)).must_be_refused("neither `password` nor `password_before`")
    assert valid() == [[PASSWORD, new]] * len(servers)
    alone = converge("--diff", **users(password=new)).must_succeed()
    alone.must_say("user app@localhost: the password before is accepted no more")
    assert sorted(alone.changed) == everywhere(servers, ACCOUNTS)
    # What is over stays over, though it is declared still.
    assert converge(**both).must_succeed().changed == []
    assert valid() == [[new]] * len(servers)


def test_a_database_is_dropped_only_if_that_is_confirmed(converge, servers):
    databases = [*DATABASES, {"name": "old"}]
    converge(mysql_databases=databases).must_succeed()
    for server in servers:
        rows(server, "CREATE TABLE old.treasure (n INT)")
    databases[-1]["state"] = "absent"
    converge(mysql_databases=databases).must_be_refused("old: declared absent", "mysql_confirm_drop")
    for server in servers:
        assert rows(server, "SELECT * FROM old.treasure") == []
    confirmed = {"mysql_databases": databases, "mysql_confirm_drop": ["old"]}
    assert sorted(converge(**confirmed).must_succeed().changed) == everywhere(servers, ACCOUNTS)
    for server in servers:
        assert "old" not in [name for (name,) in rows(server, "SHOW DATABASES")]
    assert converge(mysql_databases=databases).must_succeed().changed == []


def test_what_would_fail_later_is_refused_before_the_server_is_touched(converge, servers):
    """Together with a change of the configuration, which would restart the server first."""
    before = [(starts(server), server.file("/etc/mysql/webstack.cnf").content) for server in servers]
    for server in servers:
        rows(server, "CREATE DATABASE IF NOT EXISTS kept_by_mistake")
    converge(
        mysql_max_connections=50,
        mysql_databases=[
            *DATABASES,
            {"name": "kept_by_mistake", "state": "absent"},
            {"name": "x", "collation": "utf8mb4_y"},
        ],
        mysql_users=[{**APP, "password": "a-password-from-now-on", "password_before": "of-nobody's-at-all"}],
    ).must_be_refused(
        "kept_by_mistake: declared absent",
        "collation utf8mb4_y: the server says that it knows none",
        "user app@localhost: the server has a password for it that is neither",
    )
    assert [(starts(server), server.file("/etc/mysql/webstack.cnf").content) for server in servers] == before


@pytest.mark.usefixtures("restored")
def test_root_that_has_got_a_password_is_refused_with_the_way_back(converge, servers):
    before = [starts(server) for server in servers]
    for server in servers:
        plugin = "WITH caching_sha2_password " if unit(server) == "mysql" else ""
        rows(server, f"ALTER USER root@localhost IDENTIFIED {plugin}BY 'a-password-of-roots'")
    run = converge(mysql_max_connections=50)
    for server in servers:
        login = {"password": "a-password-of-roots"}
        how = "WITH auth_socket" if unit(server) == "mysql" else "VIA unix_socket"
        rows(server, f"ALTER USER root@localhost IDENTIFIED {how}", **login)
    run.must_be_refused(
        "ALTER USER root@localhost IDENTIFIED WITH auth_socket", "ALTER USER root@localhost IDENTIFIED VIA unix_socket"
    )
    assert [starts(server) for server in servers] == before


def test_a_package_source_that_is_declared_no_more_is_removed(converge, servers):
    debians = [server for server in servers if unit(server) == "mariadb"]
    for server in debians:
        server.check_output(
            "touch /etc/apt/sources.list.d/webstack-mysql.sources /etc/apt/preferences.d/webstack-mysql"
        )
    task = "mysql : Install | Remove the package source that is declared no more"
    assert sorted(converge("--check").must_succeed().changed) == everywhere(debians, task)
    assert sorted(converge().must_succeed().changed) == everywhere(debians, task)
    for server in servers:
        left = server.run("ls /etc/apt/sources.list.d/webstack-mysql.sources /etc/apt/preferences.d/webstack-mysql")
        assert (left.rc == 0) == (unit(server) == "mysql")


def test_bad_inputs_are_refused_all_at_once(converge, servers):
    converge(
        mysql_databases=[{"name": "a;DROP"}, {"name": "twice"}, {"name": "twice"}, {"name": "sys"}, {"name": "x" * 65}],
        mysql_users=[
            {"name": "o'neill", "password": "long enough to pass"},
            {"name": "nopassword"},
            {"name": "both", "auth": "socket", "password": "long enough to pass"},
            {"name": "root", "auth": "socket"},
            {"name": "far", "host": "web1.example.com", "password": "long enough to pass"},
            {"name": "same", "password": "long enough to pass", "privileges": [{"database": "undeclared"}]},
            {"name": "same", "password": "long enough to pass"},
            {"name": "n" * 33, "password": "long enough to pass"},
        ],
        mysql_listen_address=["192.0.2.1"],
        mysql_port=65536,
        mysql_buffer_pool_share=81,
        mysql_options={"a b": 1, "bind-address": "::", "init_connect": "two\nlines"},
    ).must_be_refused(
        "mysql_databases[0].name: 'a;DROP' is not made of",
        "mysql_databases[2].name: 'twice' is declared by mysql_databases[1] already",
        "mysql_databases[3].name: 'sys' belongs to the server itself",
        "mysql_databases[4].name: 'xxx",
        "mysql_users[0].name: 'o'neill' is not made of",
        "mysql_users[1].password: required, unless auth is socket",
        "mysql_users[2].password: must not be set where auth is socket",
        "mysql_users[3].name: 'root' belongs to the server itself",
        "mysql_users[4].host: 'web1.example.com' is neither localhost nor an address",
        "mysql_users[5].privileges[0].database: 'undeclared' is not a database that mysql_databases declares",
        "mysql_users[6]: 'same'@'localhost' is declared by mysql_users[5] already",
        "mysql_users[7].name: 'nnn",
        "mysql_tls_certificate: required, as mysql_listen_address holds 192.0.2.1",
        "mysql_port: 65536 is not between 1 and 65535",
        "mysql_buffer_pool_share: 81 is not between 1 and 80",
        "mysql_options: 'a b' is not the name of an option",
        "mysql_options.bind-address: not to be set here; use mysql_listen_address",
        "mysql_options.init_connect: its value must be one line",
    )
    for server in servers:
        assert rows(server, "SELECT 1") == [[1]]


def test_bad_passwords_are_refused_and_not_shown(converge):
    bad = ["tab\tin a long password", "too short", "change-me-please-now", 83000000000000000]
    run = converge(mysql_users=[{"name": f"user{number}", "password": password} for number, password in enumerate(bad)])
    run.must_be_refused(
        "mysql_users[0].password: holds a newline, a tab",
        "mysql_users[1].password: a secret has at least 16 characters",
        "mysql_users[2].password: still a placeholder",
        "mysql_users[3].password: must be a string",
    )
    assert not [password for password in bad if str(password) in run.output]


def test_a_server_is_not_replaced_by_the_other_vendors(converge):
    converge(mysql_vendor="mariadb").must_be_refused("mysql_vendor: is mariadb, but /var/lib/mysql/mysql.ibd")


def test_misspelt_inputs_are_refused_with_the_nearest_name(converge):
    converge(mysql_bufer_pool_share=10).must_be_refused(
        "mysql_bufer_pool_share", "did you mean mysql_buffer_pool_share?"
    )


def test_more_than_the_host_has_is_refused_with_both_figures(converge):
    converge(mysql_max_connections=90000).must_be_refused("90000 connections of 3 MB", "the host has")


@pytest.mark.usefixtures("restored")
def test_those_who_come_over_the_network_need_tls(converge, servers):
    for server in servers:
        server.check_output("rm -f /etc/ssl/server.pem")
    converge(**TLS).must_be_refused("/etc/ssl/server.pem is not there")
    for server in servers:
        server.check_output(
            "cd /etc/ssl; openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=db.example.com "
            "-keyout private/server.key -out server.pem 2>/dev/null; chmod 600 private/server.key"
        )
    converge(**TLS).must_succeed()
    assert converge(**TLS).must_succeed().changed == []
    for server in servers:
        over_tcp = {"user": "app", "password": PASSWORD, "host": "127.0.0.1"}
        plain = "mysql --ssl-mode=DISABLED --get-server-public-key" if unit(server) == "mysql" else "mariadb --skip-ssl"
        said = server.run(f"MYSQL_PWD={PASSWORD} {plain} -h 127.0.0.1 -u app -e 'SELECT 1'")
        assert said.rc != 0
        assert "insecure transport" in said.stderr or "Access denied" in said.stderr  # MySQL's words, MariaDB's words
        tls = {"ca": "/etc/ssl/server.pem", "check_hostname": False}
        cipher = rows(server, "SHOW SESSION STATUS LIKE 'Ssl_version'", ssl=tls, **over_tcp)
        assert cipher == [["Ssl_version", "TLSv1.3"]]
        as_app(server, "SELECT 1")  # the socket needs none
    for server in servers:  # renewed by others: taken up by one restart
        server.check_output(
            "cd /etc/ssl; openssl req -x509 -key private/server.key -days 3 -subj /CN=db.example.com -out server.pem"
        )
    assert sorted(converge(**TLS).must_succeed().changed) == everywhere(servers, SERVER)
    for server in servers:
        server.check_output("openssl genrsa -out /etc/ssl/private/server.key 2048 2>/dev/null")
    converge(**TLS).must_be_refused("/etc/ssl/private/server.key is not the key of /etc/ssl/server.pem")
    for server in servers:  # over as soon as it is made
        server.check_output(
            "cd /etc/ssl; openssl req -new -key private/server.key -subj /CN=db.example.com "
            "| openssl x509 -req -signkey private/server.key -days 0 -out server.pem 2>/dev/null"
        )
    converge(**TLS).must_be_refused("/etc/ssl/server.pem has expired on ")
    for server in servers:
        server.check_output(
            "cd /etc/ssl; openssl req -x509 -newkey rsa:2048 -passout pass:secret -days 2 -subj /CN=db.example.com "
            "-keyout private/server.key -out server.pem 2>/dev/null"
        )
    converge(**TLS).must_be_refused("/etc/ssl/private/server.key is encrypted")
    for server in servers:
        as_app(server, "SELECT 1")


@pytest.mark.usefixtures("restored")
def test_a_password_is_nowhere_to_be_found(converge, servers):
    part = secrets.token_hex(12)
    canary = f"canary'that\\must not-be-seen {part}"
    variables = {"mysql_options": {"general_log": True}, "mysql_users": [{**APP, "password": canary}, READER, DAEMON]}
    with watched(servers, part, "cmdline", "environ") as met:
        run = converge("-vvv", "--diff", **variables).must_succeed()
        run.must_say("user app@localhost: new password login")
        failed = converge(
            "-vvv",
            mysql_databases=[{"name": "app_x", "collation": "utf8mb4_no_such"}],
            mysql_users=[{**APP, "password": canary}],
        )
    assert met == []
    assert part not in run.output
    assert part not in failed.must_fail("the server says").output
    for server in servers:
        journal = f"journalctl -o export --no-pager | grep --text -c {part}"
        assert server.run(journal).stdout.strip() == "0"
        found = server.run(f"grep -rl {part} /etc /root /tmp /var/log /var/lib/mysql /var/tmp /run --exclude-dir=udev")
        assert found.stdout == ""
        assert rows(server, "SELECT 1", user="app", password=canary) == [[1]]


def test_a_package_that_is_installed_again_leaves_all_as_it_was(converge, servers):
    for server in servers:
        suite, package = ("-t sid", "mysql-server") if unit(server) == "mysql" else ("", "mariadb-server")
        server.check_output(
            f"DEBIAN_FRONTEND=noninteractive apt-get -qq install --reinstall -y {suite} {package} >/dev/null 2>&1"
        )
    assert converge().must_succeed().changed == []
    for server in servers:
        as_app(server, "SELECT * FROM kept")
