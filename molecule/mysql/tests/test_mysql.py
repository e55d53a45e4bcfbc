"""Role mysql: the server, its databases, its users and what they may do; MariaDB and MySQL alike."""

import contextlib
import json
import re
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
import testinfra
from scenario import each, names, until, watched

SOURCE = "mysql : Install | Remove the package source that is declared no more"
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
DECLARED = {
    "mysql_databases": DATABASES,
    "mysql_confirm_drop": [],
    "mysql_users": USERS,
    "mysql_max_connections": 100,
    "mysql_options": {},
    "mysql_listen_address": [],
    "mysql_tls_certificate": "",
    "mysql_tls_key": "",
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


def on_each(**hosts):
    """Variables of a run: what is declared, but for what is another on a host."""
    declared = {name: {**DECLARED, "mysql_vendor": "mariadb"} for name in ("debian12", "debian13")}
    declared["vendor"] = {**DECLARED, "mysql_vendor": "mysql"}
    return each(**{name: {**values, **hosts.get(name, {})} for name, values in declared.items()})


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


def fill(server):
    """Fills the disk; returns how many rows were acknowledged."""
    as_app(server, "DROP TABLE IF EXISTS filled", "CREATE TABLE filled (n INT PRIMARY KEY, text LONGTEXT)")
    server.check_output(
        f"systemctl stop {unit(server)} && mount -t tmpfs -o size=800m tmpfs /mnt && cp -a /var/lib/mysql/. /mnt/"
        f" && chown mysql: /mnt && mount --move /mnt /var/lib/mysql && systemctl start {unit(server)}"
        # MySQL goes on making its files for a while.
        " && room() { df --output=avail -B1 /var/lib/mysql | tail -n 1; }"
        ' && for _ in $(seq 20); do now=$(room); [ $now != "$before" ] || break; before=$now; sleep 3; done'
        ' && [ $now = "$before" ] && fallocate -l $((now - 12000000)) /var/lib/mysql/filler'
    )
    return int(server.check_output("python3 -c %s", FILL))


def make_room(server):
    """Takes the small disk away."""
    server.check_output(
        f"rm -f /var/lib/mysql/filler; systemctl stop {unit(server)}; umount /var/lib/mysql && systemctl start {unit(server)}"
    )


@pytest.mark.thorough
def test_a_full_disk_loses_no_acknowledged_row_and_passes(servers):
    """On all hosts at once: where the binary log had no room, the server looks for some once a minute."""
    with ThreadPoolExecutor() as hosts:
        try:
            acknowledged = list(hosts.map(fill, servers))
            assert min(acknowledged) > 0
            for server in servers:
                server.check_output("rm /var/lib/mysql/filler")
            for server, count in zip(servers, acknowledged, strict=True):
                insert = "INSERT INTO app_x.filled VALUES (-1, 'room again')"
                until(lambda server=server, insert=insert: run_sql(server, insert).rc == 0, 90)
                assert as_app(server, f"SELECT COUNT(*) FROM filled WHERE n BETWEEN 0 AND {count - 1}") == [[count]]
                assert rows(server, "CHECK TABLE app_x.filled")[-1][-1] == "OK"
        finally:
            list(hosts.map(make_room, servers))
    for server in servers:
        as_app(server, "DROP TABLE filled")


# Refusals: each host has another fault in the same run


UNTOUCHED, BACK = "the live one is untouched", "The previous configuration is back, and the service runs with it."
UNKNOWN = ({"mysql_options": {"no_such_option_at_all": 1}}, "no_such_option_at_all", UNTOUCHED)
MALFORMED = ({"mysql_options": {"max_allowed_packet": "10X"}}, "Unknown suffix 'X'", UNTOUCHED)
# To the servers, this is worth a warning and another value.
ADJUSTED = ({"mysql_options": {"sync_binlog": "99999999999999"}}, "adjusted to", UNTOUCHED)
# No checker finds this one before the start.
NO_START = ({"mysql_options": {"innodb_data_file_path": "ibdata1:1G"}}, BACK)
CERTIFICATES = """
cd /etc/ssl
make() { openssl req -x509 -newkey rsa:2048 -subj /CN=db.example.com "$@" 2>/dev/null; }
make -nodes -days 2 -keyout private/server.key -out server.pem
make -nodes -days 2 -keyout private/other.key -out other.pem
make -passout pass:secret -days 2 -keyout private/encrypted.key -out encrypted.pem
# Over as soon as it is made.
openssl req -new -key private/server.key -subj /CN=db.example.com |
  openssl x509 -req -signkey private/server.key -days 0 -out expired.pem 2>/dev/null
chmod 600 private/*.key
"""


def tls(certificate="server", key="server"):
    return {
        "mysql_listen_address": ["0.0.0.0"],
        "mysql_tls_certificate": f"/etc/ssl/{certificate}.pem",
        "mysql_tls_key": f"/etc/ssl/private/{key}.key",
        "mysql_users": [*USERS, {**APP, "host": "%"}],
    }


NO_FILE = (tls("none"), "/etc/ssl/none.pem is not there", UNTOUCHED)
OTHER_KEY = (tls(key="other"), "/etc/ssl/private/other.key is not the key of /etc/ssl/server.pem", UNTOUCHED)
EXPIRED = (tls("expired"), "/etc/ssl/expired.pem has expired on ", UNTOUCHED)
ENCRYPTED = (tls("encrypted", "encrypted"), "/etc/ssl/private/encrypted.key is encrypted", UNTOUCHED)
RULES = (
    {
        "mysql_databases": [{"name": "a;DROP"}, {"name": "twice"}, {"name": "twice"}],
        "mysql_users": [{"name": "nopassword"}, {"name": "root", "auth": "socket"}],
        "mysql_listen_address": ["192.0.2.1"],
        "mysql_max_connections": 90000,
        "mysql_options": {"bind-address": "::"},
    },
    "mysql_databases[0].name: 'a;DROP' is not made of",
    "mysql_databases[2].name: 'twice' is declared by mysql_databases[1] already",
    "mysql_users[0].password: required, unless auth is socket",
    "mysql_users[1].name: 'root' belongs to the server itself",
    "mysql_tls_certificate: required, as mysql_listen_address holds 192.0.2.1",
    "mysql_options.bind-address: not to be set here; use mysql_listen_address",
    "90000 connections of 3 MB",
    "the host has",
)
BAD = ["tab\tin a long password", "too short", "change-me-please-now", 83000000000000000]
SPEC = (
    {"mysql_users": [{"name": f"user{number}", "password": password} for number, password in enumerate(BAD)]},
    "mysql_users[0].password: holds a newline, a tab",
    "mysql_users[1].password: a secret has at least 16 characters",
    "mysql_users[2].password: still a placeholder",
    "mysql_users[3].password: must be a string",
)
OTHER_VENDOR = ({"mysql_vendor": "mariadb"}, "mysql_vendor: is mariadb, but /var/lib/mysql/mysql.ibd")
LESS = {"mysql_max_connections": 50}
SHUT_OUT = (
    (LESS, "ALTER USER root@localhost IDENTIFIED VIA unix_socket"),
    (LESS, "ALTER USER root@localhost IDENTIFIED WITH auth_socket"),
)


@pytest.fixture(scope="module")
def certificates():
    for name in names():
        testinfra.get_host(f"docker://{name}").check_output(CERTIFICATES)


def state(server):
    return starts(server), server.file("/etc/mysql/webstack.cnf").content


def refuse(converge, servers, *cases):
    """Each host is told its case, refuses it with these words, and goes on as before."""
    before = [state(server) for server in servers]
    told = dict(zip(("debian12", "debian13", "vendor"), (case[0] for case in cases), strict=True))
    run = converge(**on_each(**told)).must_be_refused()
    for server, was, (_told, *words) in zip(servers, before, cases, strict=True):
        (said,) = re.findall(rf"fatal: \[{server.backend.name}\].*\n((?:    .*\n|\n)+)", run.output)
        assert [word for word in words if word not in " ".join(said.split())] == [], said
        if BACK not in words:
            assert state(server) == was
        assert state(server)[1] == was[1]
        until(lambda server=server: as_app(server, "SELECT 1") == [[1]], 5)
    return run


def test_bad_inputs_are_refused_all_at_once_and_no_password_is_shown(converge, servers):
    """tests/unit/test_mysql_faults.py has all that the role refuses, test_validate_inputs.py what each role does."""
    run = refuse(converge, servers, RULES, SPEC, OTHER_VENDOR)
    assert not [password for password in BAD if str(password) in run.output]


def test_root_that_has_got_a_password_is_refused_with_the_way_back(converge, servers):
    for server in servers[1:]:
        plugin = "WITH caching_sha2_password " if unit(server) == "mysql" else ""
        rows(server, f"ALTER USER root@localhost IDENTIFIED {plugin}BY 'a-password-of-roots'")
    try:
        refuse(converge, servers, NO_FILE, *SHUT_OUT)
    finally:
        for server in servers[1:]:
            how = "WITH auth_socket" if unit(server) == "mysql" else "VIA unix_socket"
            rows(server, f"ALTER USER root@localhost IDENTIFIED {how}", password="a-password-of-roots")


@pytest.mark.usefixtures("certificates")
@pytest.mark.parametrize(
    "cases",
    [
        (OTHER_KEY, UNKNOWN, UNKNOWN),
        (EXPIRED, UNKNOWN, MALFORMED),  # on one of them a second time: it never turns green
        (ENCRYPTED, MALFORMED, ADJUSTED),
        (NO_START, ADJUSTED, NO_START),
    ],
)
def test_a_configuration_that_cannot_work_leaves_the_server_as_it_was(converge, servers, cases):
    refuse(converge, servers, *cases)


def test_what_would_fail_later_is_refused_before_the_server_is_touched(converge, servers):
    """Together with a change of the configuration, which would restart the server first."""
    before = [state(server) for server in servers]
    for server in servers:
        rows(server, *TREASURE)
    part = secrets.token_hex(12)
    with unseen(servers, part):
        run = converge(
            "-vvv",
            mysql_max_connections=50,
            mysql_databases=[*DATABASES, OLD, {"name": "x", "collation": "utf8mb4_y"}],
            mysql_users=[
                {**APP, "password": f"canary'that\\must not-be-seen {part}", "password_before": "of-nobody's-at-all"}
            ],
        )
    run.must_be_refused(
        "old: declared absent", "mysql_confirm_drop",
        "collation utf8mb4_y: the server says that it knows none",
        "user app@localhost: the server has a password for it that is neither `password` nor `password_before`",
    )  # fmt: skip
    assert part not in run.output
    for server in servers:
        assert rows(server, "SELECT * FROM old.treasure") == []
    assert [state(server) for server in servers] == before


# Passwords


@contextlib.contextmanager
def unseen(servers, part):
    """What is done in the block lets no process, log or file of a host have this part of a password."""
    for server in servers:
        rows(server, "SET GLOBAL general_log = 1")
    with watched(servers, part, "cmdline", "environ") as met:
        yield
    assert met == []
    for server in servers:
        assert server.run(f"journalctl -o export --no-pager | grep --text -c {part}").stdout.strip() == "0"
        found = server.run(
            f"grep -rl {part} /etc /root /tmp /var/log /var/lib/mysql /var/lib/mysql-binlog /var/tmp /run --exclude-dir=udev"
        )
        assert found.stdout == ""


OLD = {"name": "old", "state": "absent"}
TREASURE = ("CREATE DATABASE IF NOT EXISTS old", "CREATE TABLE IF NOT EXISTS old.treasure (n INT)")


def test_passwords_are_replaced_while_those_before_are_valid_and_without_a_restart(converge, servers):
    """A database goes, and is confirmed, together with the password before. Each run leaves a host or two as they are."""
    part = secrets.token_hex(12)
    new = f"canary'that\\must not-be-seen {part}"
    hostile = [{"name": f"hostile-{number}", "password": password} for number, password in enumerate(HOSTILE)]
    gone = {
        "mysql_databases": [*DATABASES, OLD],
        "mysql_users": [READER, DAEMON, *({"name": user["name"], "state": "absent"} for user in hostile)],
    }

    def with_app(declared, **passwords):
        return {**declared, "mysql_users": [{**APP, **passwords}, *declared["mysql_users"]]}

    both = with_app({"mysql_users": [READER, DAEMON, *hostile]}, password=new, password_before=PASSWORD)
    over = {**with_app(gone, password=new), "mysql_confirm_drop": ["old"]}
    over_though_declared = with_app(gone, password=new, password_before=PASSWORD)

    def valid(*words):
        return [
            [word for word in words if run_sql(server, "SELECT 1", user="app", password=word).rc == 0]
            for server in servers
        ]

    before = [starts(server) for server in servers]
    one, *others = servers
    for server in servers:
        rows(server, *TREASURE)
    dry = with_app({"mysql_users": [READER, DAEMON]}, password="a-password-for-a-dry-run", password_before=PASSWORD)
    assert converge("--check", **on_each(debian12=dry)).must_succeed().changed == everywhere([one], ACCOUNTS)
    assert valid(PASSWORD, "a-password-for-a-dry-run") == [[PASSWORD]] * len(servers)

    with unseen(servers, part):
        run = converge("-vvv", "--diff", **both).must_succeed()
    run.must_say("user app@localhost: new password login, beside the one before")
    assert part not in run.output and PASSWORD not in run.output
    assert sorted(run.changed) == everywhere(servers, ACCOUNTS)
    assert valid(PASSWORD, new) == [[PASSWORD, new]] * len(servers)
    for server in servers:
        for user in hostile:
            rows(server, "SELECT 1", user=user["name"], password=user["password"])

    run = converge("--diff", **on_each(debian12=over, debian13=both, vendor=both)).must_succeed()
    run.must_say("user app@localhost: the password before is accepted no more", "drop database old")
    assert run.changed == everywhere([one], ACCOUNTS)
    assert valid(PASSWORD, new) == [[new], [PASSWORD, new], [PASSWORD, new]]

    run = converge(**on_each(debian12=over_though_declared, debian13=over, vendor=over)).must_succeed()
    assert sorted(run.changed) == everywhere(others, ACCOUNTS)
    assert valid(PASSWORD, new) == [[new]] * len(servers)
    for server in servers:
        assert "Access denied" in refusal(server, "SELECT 1", user="hostile-0", password=HOSTILE[0])
        assert rows(server, "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'hostile%'") == [[0]]
        assert "old" not in [name for (name,) in rows(server, "SHOW DATABASES")]
        rows(server, f"ALTER USER app@localhost IDENTIFIED BY '{PASSWORD}'")  # for the tests below
    assert [starts(server) for server in servers] == before


# Repairs


def change_by_hand(server):
    """Accounts, rights, the running settings, the time zones, the folders."""
    mysql = unit(server) == "mysql"
    rows(
        server,
        "CREATE TABLE IF NOT EXISTS other.t (n INT)",
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


def assert_mended(server):
    as_app(server, "CREATE TABLE IF NOT EXISTS kept (n INT)", "INSERT INTO kept VALUES (4)")
    assert "Access denied" in refusal(server, "USE other", user="app", password=PASSWORD)
    assert "Access denied" in refusal(server, "SELECT 1", user="app", password="another-way-in")
    rows(server, "SELECT 1", user="reader", password=READER["password"])
    assert rows(server, "SELECT 1", user="daemon", as_os_user="daemon") == [[1]]
    assert "Access denied" in refusal(server, "SELECT 1", password="x", as_os_user="nobody")
    settings = "SELECT @@GLOBAL.max_connections, @@GLOBAL.local_infile, @@GLOBAL.innodb_io_capacity"
    assert rows(server, settings) == [[100, 0, 300]]
    assert "STRICT_TRANS_TABLES" in rows(server, "SELECT @@GLOBAL.sql_mode")[0][0]
    assert rows(server, "SELECT COUNT(*) FROM mysql.time_zone_name WHERE Name = 'Europe/Berlin'") == [[1]]
    assert server.file("/var/lib/mysql").mode == (0o700 if unit(server) == "mysql" else 0o755)
    assert server.file("/var/log/mysql").user == "mysql"


def expire(server):
    # That of a login by socket too, where a server takes it.
    users = ("reader",) if unit(server) == "mysql" else ("reader", "daemon")
    rows(server, *(f"ALTER USER {name}@localhost PASSWORD EXPIRE" for name in users))
    said = refusal(server, "SELECT 1", user="reader", password=READER["password"])
    assert "password has expired" in said or "must SET PASSWORD" in said  # MySQL's words, MariaDB's words


def install_again(server):
    suite, package = ("-t sid", "mysql-server") if unit(server) == "mysql" else ("", "mariadb-server")
    server.check_output(
        f"DEBIAN_FRONTEND=noninteractive apt-get -qq install --reinstall -y {suite} {package} >/dev/null 2>&1"
    )


def test_what_has_drifted_is_foreseen_and_repaired_and_nothing_else(converge, servers):
    """Each host has drifted in another way, and then once more."""
    one, other, vendor = servers
    before = [starts(server) for server in servers]
    one.check_output(
        "echo 'max_connections = 7' >> /etc/mysql/webstack.cnf; "
        "touch /etc/apt/sources.list.d/webstack-mysql.sources /etc/apt/preferences.d/webstack-mysql"
    )
    for server in (other, vendor):
        change_by_hand(server)
    drift = sorted([*everywhere([one], SOURCE), *everywhere([one], SERVER), *everywhere([other, vendor], ACCOUNTS)])
    predicted = converge("--check", "--diff").must_succeed()
    assert sorted(predicted.changed) == drift
    predicted.must_say("lock user root@192.0.2.1", "user app@localhost: grant INSERT on app_x")
    predicted.must_say("setting max_connections: 17 -> 100", "time zone tables: tzdata 2000a -> tzdata 20")
    predicted.must_say("/var/lib/mysql: mode 0777 -> 07", "/var/log/mysql: owner root -> mysql")
    for server in (other, vendor):
        assert rows(server, "SELECT @@GLOBAL.max_connections, @@GLOBAL.sql_mode") == [[17, ""]]
    assert sorted(converge().must_succeed().changed) == drift
    assert [starts(server) for server in servers] == before  # no server has read what was written into its file
    for server in (other, vendor):
        assert_mended(server)
    for server in servers:
        left = server.run("ls /etc/apt/sources.list.d/webstack-mysql.sources /etc/apt/preferences.d/webstack-mysql")
        assert (left.rc == 0) == (unit(server) == "mysql")

    for server in (one, vendor):
        expire(server)
    # As a run leaves it that was killed before the restart.
    other.check_output("rm -r /run/webstack; touch /etc/mysql/webstack.cnf")
    run = converge("--diff").must_succeed()
    run.must_say("user reader@localhost: the password, which had expired, is valid again")
    assert sorted(run.changed) == sorted([*everywhere([other], SERVER), *everywhere([one, vendor], ACCOUNTS)])
    assert [starts(server) for server in servers] == [before[0], before[1] + 1, before[2]]
    for server in (one, vendor):
        assert rows(server, "SELECT 1", user="reader", password=READER["password"]) == [[1]]
        assert rows(server, "SELECT 1", user="daemon", as_os_user="daemon") == [[1]]

    with ThreadPoolExecutor() as hosts:
        list(hosts.map(install_again, servers))
    assert converge().must_succeed().changed == []
    for server in servers:
        as_app(server, "SELECT 1")


# Another configuration


@pytest.mark.usefixtures("certificates", "restored")
def test_a_new_configuration_takes_one_restart_and_those_who_come_over_the_network_need_tls(converge, servers):
    before = [starts(server) for server in servers]
    options = {"innodb_io_capacity": 300, "table-open-cache": 500, "general_log": True}
    variables = {**tls(), "mysql_options": options, "mysql_max_connections": 60}
    for server in servers:
        rows(server, "DROP USER IF EXISTS app@'%'")
    everything = sorted([*everywhere(servers, SERVER), *everywhere(servers, ACCOUNTS)])
    assert sorted(converge(**variables).must_succeed().changed) == everything
    assert [starts(server) for server in servers] == [count + 1 for count in before]
    for server in servers:
        query = "SELECT @@innodb_io_capacity, @@table_open_cache, @@max_connections, @@general_log"
        assert rows(server, query) == [[300, 500, 60, 1]]
        over_tcp = {"user": "app", "password": PASSWORD, "host": "127.0.0.1"}
        plain = "mysql --ssl-mode=DISABLED --get-server-public-key" if unit(server) == "mysql" else "mariadb --skip-ssl"
        said = server.run(f"MYSQL_PWD={PASSWORD} {plain} -h 127.0.0.1 -u app -e 'SELECT 1'")
        assert said.rc != 0
        assert "insecure transport" in said.stderr or "Access denied" in said.stderr  # MySQL's words, MariaDB's words
        ca = {"ca": "/etc/ssl/server.pem", "check_hostname": False}
        cipher = rows(server, "SHOW SESSION STATUS LIKE 'Ssl_version'", ssl=ca, **over_tcp)
        assert cipher == [["Ssl_version", "TLSv1.3"]]
        as_app(server, "SELECT 1")  # the socket needs none
    # On one host it is renewed by others: taken up by a restart. On the others, all is as declared.
    servers[0].check_output(
        "cd /etc/ssl; openssl req -x509 -key private/server.key -days 3 -subj /CN=db.example.com -out server.pem"
    )
    assert converge(**variables).must_succeed().changed == everywhere(servers[:1], SERVER)
    assert [starts(server) for server in servers] == [before[0] + 2, before[1] + 1, before[2] + 1]
