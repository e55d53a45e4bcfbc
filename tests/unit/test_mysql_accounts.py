"""What the servers store of a password, and how a grant is undone."""

from __future__ import annotations

import json
import re

import pytest
from loading import load

module = load("plugins/modules/mysql_accounts.py")

SALT = "twenty bytes of salt"


def test_the_native_hash_is_the_servers():
    assert module.native_hash("mypass") == "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"


@pytest.mark.parametrize(
    ("rounds", "salt", "password", "digest"),
    [  # the specification's own, then what glibc makes of others
        (5000, "saltstring", "Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        (10000, "saltstringsaltst", "Hello world!", "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
        (
            77777,
            "short",
            "we have a short salt string but not a short password",
            "JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
        ),
        (1000, "16characterssalt", "ünï", "zSL/3/bj4uKEB5/ZL3VFWWAA0m0Ku4kN1y9aaIbKrJ3"),
    ],
)
def test_sha256_crypt_is_the_specifications(rounds, salt, password, digest):
    assert module.sha256_crypt(password.encode(), salt.encode(), rounds) == digest


def test_a_stored_password_is_recognised_whatever_its_rounds():
    for rounds, head in ((5000, "$A$005$"), (10000, "$A$00A$")):
        stored = module.caching_hash("right", SALT, rounds)
        assert stored.startswith(head + SALT) and len(stored) == 70
        assert module.caching_match("right", stored)
        assert not module.caching_match("wrong", stored)
    assert not module.caching_match("right", "")
    assert not module.caching_match("right", "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED")


def test_a_stored_password_with_quotes_in_its_salt_is_one_string():
    """Such as the server makes for a password that was set by hand; found where `password` of the inventory is that one."""
    server = module.MySQL(lambda _statement: [])
    stored = module.caching_hash("right", "a'b\\c" + SALT[5:], 5000)
    assert module.caching_match("right", stored)
    assert server.identified("caching_sha2_password", stored) == (
        "IDENTIFIED WITH caching_sha2_password AS '" + stored.replace("\\", "\\\\").replace("'", "''") + "'"
    )


def test_a_name_is_no_pattern():
    assert module.grant_pattern("a_b%c-d") == r"a\_b\%c-d"


@pytest.mark.parametrize(
    ("line", "statements"),
    [
        ("GRANT USAGE ON *.* TO `a`@`%`", []),
        ("GRANT USAGE ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*F00'", []),
        (r"GRANT SELECT ON `x\_y`.* TO `a`@`%` WITH GRANT OPTION", []),
        ("SET DEFAULT ROLE `r` FOR `a`@`%`", []),
        (
            "GRANT PROCESS, FILE ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*F00'",
            ["REVOKE PROCESS, FILE ON *.* FROM me"],
        ),
        ("GRANT SELECT (`n`) ON `x`.`t` TO `a`@`%`", ["REVOKE SELECT (`n`) ON `x`.`t` FROM me"]),
        (
            "GRANT EXECUTE ON PROCEDURE `x`.`p` TO `a`@`%` WITH GRANT OPTION",
            ["REVOKE EXECUTE ON PROCEDURE `x`.`p` FROM me", "REVOKE GRANT OPTION ON PROCEDURE `x`.`p` FROM me"],
        ),
        ("GRANT `role`@`%` TO `a`@`%`", ["REVOKE `role`@`%` FROM me"]),
    ],
)
def test_a_line_of_show_grants_is_undone(line, statements):
    assert module.to_revoke(line, "me") == statements


def test_the_only_way_in_is_told_from_one_of_several():
    debians_root = module.Login("mysql_native_password", "invalid", (("unix_socket", ""),))
    assert debians_root.only("unix_socket")
    assert not module.Login("mysql_native_password", "*F00", (("unix_socket", ""),)).only("unix_socket")
    assert not module.Login("mysql_native_password", "invalid").only("unix_socket")


def test_the_right_to_grant_is_taken_back_where_nothing_else_is_granted():
    line = "GRANT USAGE ON *.* TO `app`@`localhost` WITH GRANT OPTION"
    assert module.to_revoke(line, "me") == ["REVOKE GRANT OPTION ON *.* FROM me"]


NEW, OLD, THIRD = "the new password", "the old password", "a password of nobody's"


class Module:
    """Of Ansible's: what a plan asks of it."""

    def __init__(self):
        self.no_log_values = set()

    def fail_json(self, msg):
        raise SystemExit(msg)


class Connection:
    """A server that has root and one account, with these passwords in this order."""

    def __init__(self, version, *passwords, plugin=None, locked=False, expired=False, account=("app", "localhost")):
        self.version, self.passwords, self.plugin = version, passwords, plugin
        self.locked, self.expired, self.account = locked, expired, account

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def literal(self, text):
        return f"'{text}'"

    def execute(self, statement):
        self.statement = statement

    def fetchall(self):
        answers = {
            "VERSION()": [[self.version]],
            "digest_rounds": [[5000]],
            "global_priv": [[*self.account, json.dumps(self.priv())]] if self.passwords else [],
            "mysql.user": [[*self.account, self.plugin or "caching_sha2_password", *self.row()]]
            if self.passwords
            else [],
        }
        return next((rows for words, rows in answers.items() if words in self.statement), [])

    def priv(self):
        first, *others = [
            {"plugin": self.plugin or "mysql_native_password", "authentication_string": module.native_hash(word)}
            for word in self.passwords
        ]
        state = {"account_locked": self.locked, "password_last_changed": 0 if self.expired else 1795681179}
        return {**first, **({"auth_or": [{}, *others]} if others else {}), **state}

    def row(self):
        first, *others = [module.caching_hash(word, SALT, 5000) for word in self.passwords]
        return first, others[0] if others else None, int(self.locked), int(self.expired)


def planned(connection, password, before="", auth="password"):
    plan = module.Plan(Module(), connection)
    user = {
        "name": "app", "host": "localhost", "auth": auth, "state": "present", "privileges": [], "replication": False,
    }  # fmt: skip
    plan.make({"databases": [], "users": [user], "passwords": [password], "passwords_before": [before]})
    return plan


def statements(connection, password, before="", **user):
    """What brings the account to these passwords."""
    plan = planned(connection, password, before, **user)
    hidden = plan.module.no_log_values
    assert all(text in hidden for statement, _words in plan.steps for text in re.findall(r"'([*$][^']+)'", statement))
    short = [statement.removeprefix("ALTER USER 'app'@'localhost' ") for statement, _words in plan.steps]
    return [re.sub("'([*$][^']+)'", lambda found: named(found[1]), text) for text in short]


def named(stored):
    return next(
        word for word in (NEW, OLD, THIRD) if stored == module.native_hash(word) or module.caching_match(word, stored)
    )


VIA, WITH = "IDENTIFIED VIA mysql_native_password USING", "IDENTIFIED WITH caching_sha2_password AS"
BOTH = f"{VIA} {NEW} OR mysql_native_password USING {OLD}"


@pytest.mark.parametrize(
    ("has", "declared", "mariadb", "mysql"),
    [
        ([OLD], [NEW, OLD], [BOTH], [f"{WITH} {NEW} RETAIN CURRENT PASSWORD"]),
        ([NEW, OLD], [NEW, OLD], [], []),
        ([OLD, NEW], [NEW, OLD], [], []),
        ([NEW, OLD], [NEW], [f"{VIA} {NEW}"], ["DISCARD OLD PASSWORD"]),
        # Who changes back: the new one is the one that was there before.
        ([OLD, NEW], [NEW], [f"{VIA} {NEW}"], [f"{WITH} {NEW}", "DISCARD OLD PASSWORD"]),
        # What is over stays over.
        ([NEW], [NEW, OLD], [], []),
        ([NEW], [NEW], [], []),
        ([NEW], [NEW, NEW], [], []),
        ([OLD], [NEW], [f"{VIA} {NEW}"], [f"{WITH} {NEW}"]),
        ([THIRD, OLD], [NEW], [f"{VIA} {NEW}"], [f"{WITH} {NEW}", "DISCARD OLD PASSWORD"]),
        ([], [NEW, OLD], [f"CREATE USER 'app'@'localhost' {VIA} {NEW}"], [f"CREATE USER 'app'@'localhost' {WITH} {NEW}"]),
    ],
)  # fmt: skip
def test_passwords_follow_each_other_without_a_moment_in_which_a_valid_one_is_refused(has, declared, mariadb, mysql):
    assert statements(Connection("11.8.3-MariaDB-0+deb13u1", *has), *declared) == mariadb
    assert statements(Connection("9.7.0", *has), *declared) == mysql


@pytest.mark.parametrize("version", ["11.8.3-MariaDB-0+deb13u1", "9.7.0"])
@pytest.mark.parametrize(("has", "before"), [([THIRD], OLD), ([NEW, THIRD], OLD), ([OLD], NEW)])
def test_a_wrong_password_before_changes_nothing(version, has, before):
    with pytest.raises(SystemExit, match="neither `password` nor `password_before`"):
        statements(Connection(version, *has), NEW, before)


def test_who_came_by_the_socket_has_no_password_before():
    assert statements(Connection("11.8.3-MariaDB", "", plugin="unix_socket"), NEW, OLD) == [f"{VIA} {NEW}"]


@pytest.mark.parametrize(
    ("has", "declared", "mariadb", "mysql"),
    [
        ([NEW], [NEW], [f"{VIA} {NEW}"], [f"{WITH} {NEW}"]),
        # Of MySQL's two, the second stays as it is.
        ([NEW, OLD], [NEW, OLD], [BOTH], [f"{WITH} {NEW}"]),
        ([OLD, NEW], [NEW, OLD], [BOTH], [f"{WITH} {NEW} RETAIN CURRENT PASSWORD"]),
        ([NEW, OLD], [NEW], [f"{VIA} {NEW}"], [f"{WITH} {NEW}", "DISCARD OLD PASSWORD"]),
        ([OLD], [NEW], [f"{VIA} {NEW}"], [f"{WITH} {NEW}"]),
    ],
)
def test_an_expired_password_is_set_again(has, declared, mariadb, mysql):
    """Measured with 10.11, 11.8 and 9.7: nothing else makes it valid, not ACCOUNT UNLOCK nor PASSWORD EXPIRE NEVER."""
    assert statements(Connection("11.8.3-MariaDB", *has, expired=True), *declared) == mariadb
    assert statements(Connection("9.7.0", *has, expired=True), *declared) == mysql


@pytest.mark.parametrize("version", ["11.8.3-MariaDB", "9.7.0"])
def test_the_words_tell_an_expired_account_from_a_locked_one(version):
    def words(**state):
        return [words for _statement, words in planned(Connection(version, NEW, **state), NEW).steps]

    expired = "user app@localhost: the password, which had expired, is valid again"
    assert words(expired=True) == [expired]
    assert words(locked=True) == ["user app@localhost: unlock"]
    assert words(locked=True, expired=True) == [expired, "user app@localhost: unlock"]


def test_to_a_login_by_socket_an_expired_password_means_nothing():
    connection = Connection("11.8.3-MariaDB", "")
    connection.priv = lambda: {"plugin": "unix_socket", "authentication_string": "", "password_last_changed": 0}
    assert statements(connection, "", auth="socket") == []


@pytest.mark.parametrize("version", ["11.8.3-MariaDB", "9.7.0"])
def test_another_root_is_locked_though_its_password_has_expired(version):
    """MariaDB lets it in to set a new one."""

    def locks(**state):
        steps = planned(Connection(version, OLD, account=("root", "192.0.2.1"), **state), NEW).steps
        return [words for _statement, words in steps if "root" in words]

    assert locks(expired=True) == ["lock user root@192.0.2.1"]
    assert locks(expired=True, locked=True) == []


@pytest.mark.parametrize("name", ["plain", "back`tick", "a``b"])
def test_an_identifier_cannot_end_before_its_end(name):
    quoted = module.identifier(name)
    assert quoted[0] == quoted[-1] == "`" and quoted[1:-1].replace("``", "") == name.replace("`", "")


def test_every_identifier_is_quoted():
    plan = planned(Connection("11.8.3-MariaDB"), NEW)
    plan._database({"name": "a`b", "collation": None}, {})
    plan._privileges(
        {
            "name": "app",
            "host": "localhost",
            "privileges": [{"database": "a`b", "grants": ["SELECT"]}],
            "replication": False,
        },
        "me",
        "me",
        False,
    )
    assert plan.steps[-2][0].startswith("CREATE DATABASE `a``b` ")
    assert plan.steps[-1][0] == "GRANT SELECT ON `a``b`.* TO me"


REPLICA = {"11.8.3-MariaDB": "BINLOG MONITOR, REPLICATION SLAVE", "9.7.0": "REPLICATION CLIENT, REPLICATION SLAVE"}


@pytest.mark.parametrize(("version", "both"), REPLICA.items())
@pytest.mark.parametrize("order", [1, -1])
def test_who_may_read_the_log_keeps_that_and_nothing_more(version, both, order):
    """The servers list privileges in an order of their own."""
    listed = ", ".join(both.split(", ")[::order])
    grant, revoke = f"GRANT {both} ON *.* TO 'app'@'localhost'", f"REVOKE {listed} ON *.* FROM 'app'@'localhost'"
    more = f"REVOKE FILE, {listed} ON *.* FROM 'app'@'localhost'"

    def steps(line, replication):
        connection = Connection(version, NEW)
        answer = connection.fetchall
        connection.fetchall = lambda: [[line]] if connection.statement.startswith("SHOW GRANTS") else answer()
        plan = module.Plan(Module(), connection)
        user = {"name": "app", "host": "localhost", "privileges": [], "replication": replication}
        plan._privileges(user, "'app'@'localhost'", "user app", line is not None)
        return [statement for statement, _words in plan.steps]

    assert steps(None, True) == [grant]
    assert steps("GRANT USAGE ON *.* TO `app`@`localhost`", True) == [grant]
    assert steps(f"GRANT {listed} ON *.* TO `app`@`localhost`", True) == []
    assert steps(f"GRANT {listed} ON *.* TO `app`@`localhost`", False) == [revoke]
    assert steps(f"GRANT FILE, {listed} ON *.* TO `app`@`localhost`", True) == [more, grant]
    passes_on = steps(f"GRANT {listed} ON *.* TO `app`@`localhost` WITH GRANT OPTION", True)
    assert passes_on == [revoke, "REVOKE GRANT OPTION ON *.* FROM 'app'@'localhost'", grant]


CONFIGURATION = """
# max_connections = 7
[mysqld]
max_connections                = 100
max_allowed_packet             = 64M
local-infile                   = OFF
slow_query_log                 = 1
long_query_time                = 1.0
sql_mode                       = STRICT_TRANS_TABLES,NO_ZERO_DATE
binlog_expire_logs_seconds     = 604800
slow_query_log_file            = /var/log/mysql/slow.log
"""


class Variables(Connection):
    """A server on which these were set by hand."""

    def __init__(self, version="11.8.3-MariaDB", kept=(), **by_hand):
        super().__init__(version)
        self.by_hand, self.kept, self.given = by_hand, kept, []

    def execute(self, statement):
        super().execute(statement)
        given = re.match("SET GLOBAL `(.+)` = (.+)", statement)
        if given:
            self.given.append(given.groups())
            if given[1] not in self.kept:
                self.by_hand[given[1]] = given[2].strip("'")

    def fetchall(self):
        if "ORIGIN = 'SQL'" in self.statement or "'DYNAMIC'" in self.statement:
            return [[name.upper(), value] for name, value in self.by_hand.items()]
        asked = re.match("SELECT @@GLOBAL.`(.+)`", self.statement)
        return [[self.by_hand.get(asked[1], "86400")]] if asked else super().fetchall()


@pytest.mark.parametrize("version", ["11.8.3-MariaDB", "9.7.0"])
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_connections", "7", "setting max_connections: 7 -> 100"),
        ("max_connections", "100", None),
        ("max_allowed_packet", "67108864", None),
        ("local_infile", "OFF", None),
        ("local_infile", "1", "setting local_infile: 1 -> OFF"),
        ("slow_query_log", "ON", None),
        ("long_query_time", "1.000000", None),
        ("sql_mode", "NO_ZERO_DATE,STRICT_TRANS_TABLES", None),
        ("sql_mode", "", "setting sql_mode:  -> STRICT_TRANS_TABLES,NO_ZERO_DATE"),
        ("innodb_io_capacity", "7", None),  # nobody has declared it
        # The same variable under an older name.
        ("expire_logs_days", "1", "setting binlog_expire_logs_seconds: 86400 -> 604800"),
    ],
)
def test_a_variable_that_was_set_by_hand_is_found(version, name, value, words):
    plan = module.Plan(Module(), Variables(version, **{name: value}))
    assert [said for _name, said in plan.settings(CONFIGURATION)] == ([words] if words else [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_allowed_packet", "67108864"),
        ("long_query_time", "1.0"),
        ("local_infile", "'OFF'"),
        ("slow_query_log", "1"),
    ],
)
def test_a_variable_gets_its_declared_value_back(name, value):
    connection = Variables(**{name: "7"})
    assert module.Plan(Module(), connection).set_back(name, CONFIGURATION)
    assert connection.given == [(name, value)]


def test_a_value_that_the_server_writes_in_another_way_is_no_change():
    connection = Variables(kept=("sql_mode",), sql_mode="WRITTEN_OTHERWISE")
    assert not module.Plan(Module(), connection).set_back("sql_mode", CONFIGURATION)


@pytest.mark.parametrize(
    ("has", "count", "host", "words"),
    [
        ("tzdata 2026f", 486, "tzdata 2026f", ""),
        ("tzdata 2025b", 486, "tzdata 2026f", "time zone tables: tzdata 2025b -> tzdata 2026f"),
        ("tzdata 2026f", 0, "tzdata 2026f", "time zone tables: not those of the host -> tzdata 2026f"),
        ("Time zone names", 9, "", ""),
    ],
)
def test_time_zones_are_those_of_the_host(has, count, host, words):
    connection = Connection("11.8.3-MariaDB")
    plan = module.Plan(Module(), connection)
    connection.fetchall = lambda: [[has, count]]
    assert plan.zones(host) == words


def test_the_host_says_which_time_zones_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ZONES", tmp_path)
    assert module.host_zones() == ""
    (tmp_path / "tzdata.zi").write_text("# version 2026f\n# more\n")
    assert module.host_zones() == "tzdata 2026f"
    (tmp_path / "US").mkdir()
    assert module.host_zones() == "tzdata 2026f with old names"


def test_a_collation_that_the_server_does_not_know_is_refused_before_any_statement():
    connection = Connection("11.8.3-MariaDB")
    plan = module.Plan(Module(), connection)
    connection.fetchall = lambda: [["utf8mb4_bin"], ["uca1400_ai_ci"]]
    databases = [{"state": "present", "collation": f"utf8mb4_{name}"} for name in ("bin", "uca1400_ai_ci", "no_such")]
    plan._collations(databases)
    assert plan.refused == [
        "mysql_databases: collation utf8mb4_no_such: the server says that it knows none of this name"
    ]


def test_all_that_is_refused_is_said_at_once():
    connection = Connection("11.8.3-MariaDB", THIRD)
    plan = module.Plan(Module(), connection)
    user = {
        "name": "app",
        "host": "localhost",
        "auth": "password",
        "state": "present",
        "privileges": [],
        "replication": False,
    }
    rows = connection.fetchall
    connection.fetchall = lambda: [["old", "x"]] if "SCHEMATA" in connection.statement else rows()
    gone = {"databases": [{"name": "old", "state": "absent", "collation": None}], "confirm_drop": []}
    plan.make({**gone, "users": [user], "passwords": [NEW], "passwords_before": [OLD], "ask": True})
    assert len(plan.refused) == 2
    assert "old: declared absent" in plan.refused[0] and "neither `password` nor" in plan.refused[1]


class Answers:
    """Of Ansible's: runs a program, whose answer this is."""

    def __init__(self, rc=0, out=b"", err=b""):
        self.params = {"socket": "/run/x.sock"}
        self.answer, self.asked = (rc, out, err), []

    def run_command(self, argv, data=None, **_options):
        self.asked.append((argv, data))
        return self.answer


def test_a_host_without_pymysql_is_asked_through_the_vendors_program():
    ours = Answers(out=b"a\\tb\tNULL\n\xff\\\\\t1\n")
    client = module.Client(ours, "/usr/bin/mariadb")
    with client.cursor() as cursor:
        cursor.execute("SELECT 2")
        assert cursor.fetchall() == (("a\tb", None), ("\udcff\\", "1"))
    assert ours.asked[-1][1] == "SELECT 2" and "--no-defaults" in ours.asked[-1][0]
    assert client.literal("o'ne\\") == "'o''ne\\\\'"


@pytest.mark.parametrize(
    ("error", "refused", "answered"),
    [
        ("ERROR 1045 (28000): Access denied for user 'root'@'localhost' (using password: NO)", True, True),
        ("ERROR 1698 (28000): Access denied for user 'root'@'localhost'", True, True),
        ("ERROR 1040 (HY000): Too many connections", False, True),
        ("ERROR 2002 (HY000): Can't connect to local server through socket '/run/x.sock' (2)", False, False),
    ],
)
def test_who_is_not_let_in_is_told_from_who_gets_no_answer(error, refused, answered):
    with pytest.raises(module.ClientError) as raised:
        module.Client(Answers(rc=1, err=error.encode()), "mariadb")
    assert module.refuses_root(raised.value) is refused
    assert module.answered(raised.value) is answered


def test_a_first_question_that_fails_is_told_in_the_servers_words(monkeypatch):
    class Broken(Connection):
        def execute(self, statement):
            raise module.ClientError("Table 'mysql.global_priv' is marked as crashed")

    class Run(Module):
        def __init__(self, **_spec):
            super().__init__()
            self.check_mode = False
            self.params = {"users": [], "passwords": [], "databases": [], "ask": False, "vendor": "mariadb"}

        def fail_json(self, msg, **_result):
            raise SystemExit(msg)

    monkeypatch.setattr(module, "AnsibleModule", Run)
    monkeypatch.setattr(module, "connect", lambda *_args: Broken("11.8.3-MariaDB"))
    with pytest.raises(SystemExit, match="reading what there is: the server says Table"):
        module.main()


def test_a_folder_of_the_server_is_no_looser_than_declared(tmp_path, monkeypatch):
    owner = module.pwd.getpwuid(tmp_path.stat().st_uid).pw_name
    monkeypatch.setattr(module, "FOLDERS", {str(tmp_path): {"mariadb": 0o755}, "/no/such/folder": {"mariadb": 0o700}})
    tmp_path.chmod(0o777)
    (folder,) = module.drifted_folders("mariadb")
    assert str(folder) == f"{tmp_path}: mode 0777 -> 0755, owner {owner} -> mysql"
    monkeypatch.setattr(module.pwd, "getpwuid", lambda _uid: module.pwd.struct_passwd(("mysql", "x", 1, 1, "", "", "")))
    assert str(next(module.drifted_folders("mariadb"))) == f"{tmp_path}: mode 0777 -> 0755"
    tmp_path.chmod(0o700)
    assert list(module.drifted_folders("mariadb")) == []


@pytest.mark.parametrize(
    ("shell", "members", "words"),
    [
        ("/bin/false", [], []),
        ("/usr/sbin/nologin", ["mysql"], ["in the groups shadow"]),
        ("/bin/bash", [], ["its shell is /bin/bash"]),
    ],
)
def test_a_user_of_the_server_that_is_more_than_that_is_told(monkeypatch, shell, members, words):
    user = module.pwd.struct_passwd(("mysql", "x", 100, 101, "", "/nonexistent", shell))
    groups = [
        module.grp.struct_group(("mysql", "x", 101, ["mysql"])),
        module.grp.struct_group(("shadow", "x", 42, members)),
    ]
    monkeypatch.setattr(module.pwd, "getpwnam", lambda _name: user)
    monkeypatch.setattr(module.grp, "getgrall", lambda: groups)
    faults = list(module.user_faults())
    assert len(faults) == len(words) and all(word in fault for word, fault in zip(words, faults, strict=True))
