"""What the servers store of a password, and how a grant is undone."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "plugins/modules/mysql_accounts.py"
spec = importlib.util.spec_from_file_location("mysql_accounts", SOURCE)
module = importlib.util.module_from_spec(spec)
sys.modules["mysql_accounts"] = module
spec.loader.exec_module(module)

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
    user = {"name": "app", "host": "localhost", "auth": auth, "state": "present", "privileges": []}
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
