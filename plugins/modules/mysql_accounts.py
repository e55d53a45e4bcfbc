#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep databases, users and privileges of a MariaDB or MySQL server as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mysql_accounts
short_description: Keep databases, users and running settings of MariaDB or MySQL as declared
description:
  - Reads what the server has, works out the statements that are missing, and runs those. In check
    mode it reports them and runs none.
  - The server never gets a password, only what it would make of it, so that none of its logs can
    hold one. A stored one is compared by repeating the calculation, whatever its salt.
  - A declared user has the declared privileges and no other. Who is not declared is left alone,
    but root, who has the socket and no other way in.
  - A variable of the running server that was set by hand, and that O(configuration) declares, is set back.
  - The server's time zone tables hold what the host's tzdata holds.
  - The folders of the server belong to its user, with no more permissions than they need.
  - Works as root through the server's socket, with PyMySQL on the host.
  - With O(ask) it is the question before the first change of a run. It refuses where data would be lost, cut off or
    put to other use, and where that cannot be told; and it refuses whatever would fail later.
requirements: [python3-pymysql]
options:
  databases:
    description: The databases.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      collation:
        description: A collation of utf8mb4. Without it, a new database has the server's and another keeps its own.
        type: str
      state:
        description: Whether it exists. C(absent) fails unless O(confirm_drop) names it too.
        type: str
        choices: [present, absent]
        default: present
  confirm_drop:
    description: Databases that may be dropped.
    type: list
    elements: str
    default: []
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      host:
        description: Where it comes from.
        type: str
        default: localhost
      auth:
        description: How it proves who it is.
        type: str
        choices: [password, socket]
        default: password
      privileges:
        description: What it may do, by database.
        type: list
        elements: dict
        default: []
        suboptions:
          database:
            description: The database's exact name.
            type: str
            required: true
          grants:
            description: The privileges; C(ALL) stands for those that both servers know.
            type: list
            elements: str
            default: [SELECT, INSERT, UPDATE, DELETE]
      replication:
        description: Whether it may read the binary log, and see where that ends.
        type: bool
        default: false
      state:
        description: Whether it exists.
        type: str
        choices: [present, absent]
        default: present
  passwords:
    description: The password of each of O(users), in the same order; empty where there is none.
    type: list
    elements: str
    default: []
  passwords_before:
    description:
      - The one that each had before, in the same order; empty where that is over. Where the server
        accepts it, it goes on to, beside the new one. Where it does not, it is not let in again.
      - A user with a password that is neither is not touched, and the task fails.
    type: list
    elements: str
    default: []
  socket:
    description: The server's socket.
    type: path
    default: /run/mysqld/mysqld.sock
  vendor:
    description: Whose server it is.
    type: str
    choices: [mariadb, mysql]
    default: mariadb
  configuration:
    description: The server's option file as it is declared, to compare with what the server runs with.
    type: str
    default: ""
  ask:
    description: Look at the host first, and change nothing. Needs check mode.
    type: bool
    default: false
  certificate:
    description: With O(ask), the server's certificate, of which it warns as its end comes near.
    type: str
    default: ""
  take_over:
    description: With O(ask), whether a server that somebody else has set up may be configured anew.
    type: bool
    default: false
  move_log:
    description: With O(ask), whether a binary log that lies with the data is to lie beside them.
    type: bool
    default: false
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: With no server that answers, databases and users are not compared.
  diff_mode:
    support: partial
    details: It shows the statements, not what they change.
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Accounts | Databases, users and what they may do
  foobar.webstack.mysql_accounts:
    databases:
      - name: app
    users:
      - name: app
        privileges:
          - database: app
    passwords: ["{{ app_password }}"]
"""

RETURN = r"""
changes:
  description: What was done, or would be, one line each.
  type: list
  elements: str
  returned: always
refusals:
  description: What forbids the change, one for each thing.
  type: list
  elements: str
  returned: with O(ask)
takes_over:
  description: Where a copy of the configuration is to be kept that loses its effect; empty if there is none.
  type: str
  returned: with O(ask)
log_beside:
  description: Whether the binary log lies beside the data, or is to at the end of the run.
  type: bool
  returned: with O(ask)
apt_files:
  description: The files of a package source that the role has written, and that are there.
  type: list
  elements: str
  returned: with O(ask)
"""

import contextlib
import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import stat
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils import mysql_host, ownership

try:
    import pymysql
except ImportError:
    pymysql = None


class ClientError(Exception):
    """An error of the vendor's client program."""


ERRORS: tuple[type[Exception], ...] = (ClientError, pymysql.MySQLError) if pymysql else (ClientError,)
NO_ANSWER = (2002, 2003)  # error numbers of the client programs and PyMySQL if no server answers
ACCESS_DENIED = (1045, 1698)
EXPIRY_DAYS = 14
ZONES = Path("/usr/share/zoneinfo")
# Folders of the server, with the widest mode that is allowed: the packages' and the unit's.
FOLDERS = {
    mysql_host.DATA: {"mariadb": 0o755, "mysql": 0o700},
    mysql_host.LOG: {"mariadb": 0o700, "mysql": 0o700},
    "/var/log/mysql": {"mariadb": 0o750, "mysql": 0o750},
    "/var/lib/mysql-files": {"mariadb": 0o700, "mysql": 0o700},
}
# Variables with two names: setting the first also sets the second.
SAME_VARIABLE = {"expire_logs_days": "binlog_expire_logs_seconds"}
LOCK_WAIT = 30  # seconds; the servers' defaults for a table in use are a day or a year
ALL = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE TEMPORARY TABLES",
        "LOCK TABLES", "EXECUTE", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER",
    }
)  # fmt: skip
LET_IN = {
    "mariadb": "This role works as root by socket, without a password. To let it in, say as root of the server:\n"
    "  ALTER USER root@localhost IDENTIFIED VIA unix_socket;",
    "mysql": "This role works as root by socket, without a password. To let it in, say as root of the server:\n"
    "  INSTALL PLUGIN auth_socket SONAME 'auth_socket.so';  -- unless SHOW PLUGINS lists it\n"
    "  ALTER USER root@localhost IDENTIFIED WITH auth_socket;",
}
CRYPT64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def native_hash(password: str) -> str:
    """The hash that mysql_native_password stores."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


def sha256_crypt(password: bytes, salt: bytes, rounds: int) -> str:
    """The digest of SHA-crypt with SHA-256, for salts of any length.

    After the specification, https://www.akkadia.org/drepper/SHA-crypt.txt; its steps are numbered.
    """

    def repeat(block: bytes, length: int) -> bytes:
        return (block * (length // len(block) + 1))[:length]

    other = hashlib.sha256(password + salt + password).digest()  # 4-8
    start = password + salt + repeat(other, len(password))  # 1-3, 9-10
    count = len(password)
    while count:  # 11
        start += other if count & 1 else password
        count >>= 1
    digest = hashlib.sha256(start).digest()  # 12
    p = repeat(hashlib.sha256(password * len(password)).digest(), len(password))  # 13-16
    s = repeat(hashlib.sha256(salt * (16 + digest[0])).digest(), len(salt))  # 17-20
    for turn in range(rounds):  # 21
        block = (p if turn & 1 else digest) + (s if turn % 3 else b"") + (p if turn % 7 else b"")
        digest = hashlib.sha256(block + (digest if turn & 1 else p)).digest()
    text, order = "", (0, 10, 20)  # 22: three bytes make four letters
    for _turn in range(10):
        value = digest[order[0]] << 16 | digest[order[1]] << 8 | digest[order[2]]
        text += "".join(CRYPT64[value >> shift & 63] for shift in (0, 6, 12, 18))
        order = (order[2] + 1, order[0] + 1, order[1] + 1)
    value = digest[31] << 8 | digest[30]
    return text + "".join(CRYPT64[value >> shift & 63] for shift in (0, 6, 12))


def caching_hash(password: str, salt: str, rounds: int) -> str:
    """The hash that caching_sha2_password stores. `rounds` is a multiple of 1000."""
    return f"$A${rounds // 1000:03X}${salt}{sha256_crypt(password.encode(), salt.encode(), rounds)}"


def caching_match(password: str, stored: str) -> bool:
    parts = re.fullmatch(r"\$A\$([0-9A-F]{3})\$(.{20})(.{43})", stored, re.DOTALL)
    return bool(parts) and caching_hash(password, parts[2], int(parts[1], 16) * 1000) == stored


def identifier(name: str) -> str:
    """Quotes a name of a schema, table, column or variable."""
    return "`" + name.replace("`", "``") + "`"


def grant_pattern(database: str) -> str:
    """Quotes a database name for GRANT, where _ and % are wildcards."""
    return database.replace("\\", "\\\\").replace("_", r"\_").replace("%", r"\%")


def to_revoke(line: str, account: str) -> list[str]:
    """Statements that revoke one line of SHOW GRANTS; none for privileges on whole databases, which are compared elsewhere."""
    if not line.startswith("GRANT "):
        return []
    if line.startswith("GRANT USAGE ON *.* "):
        return [f"REVOKE GRANT OPTION ON *.* FROM {account}"] if line.endswith(" WITH GRANT OPTION") else []
    if re.match(r"GRANT .+ ON `(?:[^`]|``)+`\.\* TO ", line):
        return []
    parts = re.match(r"GRANT (?P<what>.+?) TO ['`]", line)
    if not parts:
        raise ValueError(f"SHOW GRANTS: not understood: {line}")
    statements = [f"REVOKE {parts['what']} FROM {account}"]
    where = re.search(r" ON (.+)$", parts["what"])
    if where and line.endswith(" WITH GRANT OPTION"):
        statements.append(f"REVOKE GRANT OPTION ON {where[1]} FROM {account}")
    return statements


def everywhere(line: str) -> frozenset[str]:
    """The privileges on all databases that a line of SHOW GRANTS tells of, if they cannot be passed on."""
    parts = re.match(r"GRANT (.+) ON \*\.\* TO ", line)
    return frozenset(parts[1].split(", ")) if parts and not line.endswith(" WITH GRANT OPTION") else frozenset()


@dataclass(frozen=True)
class Login:
    """How an account authenticates, as the server stores it."""

    plugin: str
    stored: str
    ways: tuple[tuple[str, str], ...] = ()  # further methods
    locked: bool = False
    expired: bool = False  # of the password; a login by socket ignores it

    def open(self) -> list[tuple[str, str]]:
        """All methods. With a stored `invalid`, none succeeds."""
        return [way for way in ((self.plugin, self.stored), *self.ways) if way[1] != "invalid"]

    def only(self, plugin: str) -> bool:
        """Whether there is no other method."""
        return {way[0] for way in self.open()} == {plugin}

    def stored_for(self, plugin: str) -> list[str]:
        return [stored for name, stored in self.open() if name == plugin]


# Variables with folders of other data; NULL and ./ stand for the data folder.
PLACES = "".join(
    f"UNION SELECT @@{name} " for name in ("innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_undo_directory")
)


def quoted(text: str) -> str:
    """As a string in SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


class MariaDB:
    password_plugin, socket_plugin = "mysql_native_password", "unix_socket"
    replica = frozenset({"REPLICATION SLAVE", "BINLOG MONITOR"})
    zone_tool, client = "mariadb-tzinfo-to-sql", "mariadb"
    files = f"SELECT FILENAME FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME <> 'innodb_temporary' {PLACES}"
    set_by_hand = (
        "SELECT VARIABLE_NAME, GLOBAL_VALUE FROM information_schema.SYSTEM_VARIABLES "
        "WHERE GLOBAL_VALUE_ORIGIN = 'SQL' AND READ_ONLY = 'NO'"
    )

    def __init__(self, run: Any) -> None:
        self.run = run

    def logins(self) -> dict[tuple[str, str], Login]:
        result = {}
        for user, host, document in self.run("SELECT User, Host, Priv FROM mysql.global_priv"):
            priv = json.loads(document)
            if priv.get("is_role"):
                continue
            ways = [
                (way["plugin"], way.get("authentication_string", ""))
                for way in priv.get("auth_or", [])
                if "plugin" in way
            ]
            result[user, host] = Login(
                priv.get("plugin", ""),
                priv.get("authentication_string", ""),
                tuple(ways),
                locked=bool(priv.get("account_locked")),
                expired=priv.get("password_last_changed") == 0,
            )
        return result

    def matches(self, password: str, stored: str) -> bool:
        return stored == native_hash(password)

    def make(self, password: str) -> str:
        return native_hash(password)

    def identified(self, plugin: str, stored: str = "") -> str:
        return f"IDENTIFIED VIA {plugin}" + (f" USING '{stored}'" if stored else "")

    def accept(self, stored: list[str], _login: Login | None) -> list[str]:
        """The rest of an ALTER USER statement that sets one or two stored password hashes."""
        return ["IDENTIFIED VIA " + " OR ".join(f"{self.password_plugin} USING '{text}'" for text in stored)]


class MySQL:
    password_plugin, socket_plugin = "caching_sha2_password", "auth_socket"
    replica = frozenset({"REPLICATION SLAVE", "REPLICATION CLIENT"})
    zone_tool, client = "mysql_tzinfo_to_sql", "mysql"
    files = f"SELECT FILE_NAME FROM information_schema.FILES WHERE FILE_TYPE <> 'TEMPORARY' {PLACES}"
    set_by_hand = (
        "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.variables_info "
        "JOIN performance_schema.global_variables USING (VARIABLE_NAME) WHERE VARIABLE_SOURCE = 'DYNAMIC'"
    )

    def __init__(self, run: Any) -> None:
        self.run = run

    def logins(self) -> dict[tuple[str, str], Login]:
        query = (
            "SELECT User, Host, plugin, authentication_string, User_attributes ->> '$.additional_password', "
            "account_locked = 'Y', password_expired = 'Y' FROM mysql.user"
        )
        return {
            (user, host): Login(
                plugin,
                stored or "",
                ((plugin, second),) if second else (),
                locked=int(locked) == 1,
                expired=int(expired) == 1,
            )
            for user, host, plugin, stored, second, locked, expired in self.run(query)
        }

    def matches(self, password: str, stored: str) -> bool:
        return caching_match(password, stored)

    def make(self, password: str) -> str:
        rounds = self.run("SELECT @@caching_sha2_password_digest_rounds")[0][0]
        salt = "".join(secrets.choice(string.ascii_letters + string.digits) for _turn in range(20))
        return caching_hash(password, salt, int(rounds))

    def identified(self, plugin: str, stored: str = "") -> str:
        # The salt of a password that somebody has set by hand is of any characters, quotes among them.
        return f"IDENTIFIED WITH {plugin}" + (f" AS {quoted(stored)}" if stored else "")

    def accept(self, stored: list[str], login: Login | None) -> list[str]:
        """The same. Of two hashes, the account has the second already."""
        first = self.identified(self.password_plugin, stored[0])
        there = bool(login) and login.stored == stored[0]
        if len(stored) == 2:
            return [first if there else f"{first} RETAIN CURRENT PASSWORD"]
        statements = [] if there and not login.expired else [first]
        return statements + (["DISCARD OLD PASSWORD"] if login and login.ways else [])


class Plan:
    """Works out the statements that bring the server to the declared state."""

    def __init__(self, module: AnsibleModule, connection: Any) -> None:
        self.module, self.connection = module, connection
        self.steps: list[tuple[str, str]] = []  # statement, words
        self.refused: list[str] = []
        version = self.run("SELECT VERSION()")[0][0]
        self.server = MariaDB(self.run) if "MariaDB" in version else MySQL(self.run)

    def run(self, statement: str) -> tuple[Any, ...]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def add(self, words: str, statement: str) -> None:
        self.steps.append((statement, words))

    def quoted(self, text: str) -> str:
        return self.connection.literal(text)

    def account(self, name: str, host: str) -> str:
        return f"{self.quoted(name)}@{self.quoted(host)}"

    def make(self, params: dict[str, Any]) -> None:
        existing = dict(self.run("SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA"))
        gone = [item["name"] for item in params["databases"] if item["state"] == "absent" and item["name"] in existing]
        unconfirmed = [name for name in gone if name not in params["confirm_drop"]]
        if unconfirmed:
            self.refused.append(
                f"{', '.join(unconfirmed)}: declared absent, which would drop it with all that is in it. No database and "
                "no user was changed. If that is meant, repeat the run with "
                f"-e '{json.dumps({'mysql_confirm_drop': unconfirmed})}'; if not, remove state: absent."
            )
        self._collations(params["databases"])
        logins = self.server.logins()
        self._root(logins)
        for item in params["databases"]:
            if item["state"] == "present":
                self._database(item, existing)
        before = params["passwords_before"] or [""] * len(params["users"])
        for user, *passwords in zip(params["users"], params["passwords"], before, strict=True):
            self._user(user, passwords, logins.get((user["name"], user["host"])))
        for name in gone:
            self.add(f"drop database {name}", f"DROP DATABASE {identifier(name)}")
        if self.refused and not params.get("ask"):
            self.module.fail_json(msg="\n".join(self.refused))

    def _collations(self, databases: list[dict[str, Any]]) -> None:
        """Refuses names that the server does not know, before a statement with one fails after others were done."""
        named = {item["collation"] for item in databases if item["state"] == "present" and item["collation"]}
        if not named:
            return
        # MariaDB lists some under a name that several character sets share, such as uca1400_ai_ci.
        rows = self.run("SHOW COLLATION")
        known = {row[0] for row in rows} | {f"utf8mb4_{row[0]}" for row in rows if row[0].startswith("uca1400")}
        for name in sorted(named - known):
            self.refused.append(f"mysql_databases: collation {name}: the server says that it knows none of this name")

    def settings(self, configuration: str) -> list[tuple[str, str]]:
        """Variables that were changed since the server's start, with their declared values."""
        declared = declared_settings(configuration)
        by_hand = {name.lower(): str(value) for name, value in self.run(self.server.set_by_hand)}
        for name, other in SAME_VARIABLE.items():
            if name in by_hand and other in declared and other not in by_hand:
                by_hand[other] = str(self.run(f"SELECT @@GLOBAL.{identifier(other)}")[0][0])
        drifted = []
        for name in sorted(by_hand.keys() & declared.keys()):
            if normal(by_hand[name]) != normal(declared[name]):
                drifted.append((name, f"setting {name}: {by_hand[name]} -> {declared[name]}"))
        return drifted

    def set_back(self, name: str, configuration: str) -> bool:
        """Sets a variable to its declared value; returns whether that changed it."""
        value, query = declared_settings(configuration)[name], f"SELECT @@GLOBAL.{identifier(name)}"
        before = self.run(query)
        number = as_number(value)
        self.run(f"SET GLOBAL {identifier(name)} = {self.quoted(value) if number is None else number}")
        return self.run(query) != before

    def zones(self, host: str) -> str:
        """What is missing in the time zone tables; empty if they match the host's (`host`, from host_zones)."""
        found = self.run(
            "SELECT TABLE_COMMENT, (SELECT COUNT(*) FROM mysql.time_zone_name) FROM information_schema.TABLES "
            "WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'time_zone_name'"
        )
        has, count = (str(found[0][0]), int(found[0][1])) if found else ("", 0)
        if not host or (has == host and count):
            return ""
        return f"time zone tables: {has if count and has else 'not those of the host'} -> {host}"

    def _root(self, logins: dict[tuple[str, str], Login]) -> None:
        """Root logs in by socket only. Other accounts of that name are locked, not dropped."""
        for (name, host), login in logins.items():
            if name != "root":
                continue
            if host == "localhost" and not login.only(self.server.socket_plugin):
                how = self.server.identified(self.server.socket_plugin)
                self.add("let root in through the socket only", f"ALTER USER {self.account(name, host)} {how}")
            elif host != "localhost" and not login.locked:
                self.add(f"lock user root@{host}", f"ALTER USER {self.account(name, host)} ACCOUNT LOCK")

    def _database(self, item: dict[str, Any], existing: dict[str, str]) -> None:
        name, collation = item["name"], item["collation"]
        text = "CHARACTER SET utf8mb4 COLLATE " + (collation or "utf8mb4_unicode_ci")
        if name not in existing:
            self.add(f"create database {name}", f"CREATE DATABASE {identifier(name)} {text}")
        elif collation and existing[name] != collation:
            self.add(
                f"database {name}: collation {existing[name]} -> {collation}",
                f"ALTER DATABASE {identifier(name)} {text}",
            )

    def _user(self, user: dict[str, Any], passwords: list[str], login: Login | None) -> None:
        account, label = self.account(user["name"], user["host"]), f"user {user['name']}@{user['host']}"
        if user["state"] == "absent":
            if login:
                self.add(f"remove {label}", f"DROP USER {account}")
            return
        if user["auth"] == "socket":
            self._by_socket(account, label, login)
        else:
            self._by_password(account, label, passwords, login)
        if login and login.locked:
            self.add(f"{label}: unlock", f"ALTER USER {account} ACCOUNT UNLOCK")
        self._privileges(user, account, label, login is not None)

    def _by_socket(self, account: str, label: str, login: Login | None) -> None:
        plugin = self.server.socket_plugin
        if login is None:
            self.add(f"create {label}, by socket", f"CREATE USER {account} {self.server.identified(plugin)}")
        elif login.open() != [(plugin, "")]:
            self.add(f"{label}: new socket login", f"ALTER USER {account} {self.server.identified(plugin)}")

    def _by_password(self, account: str, label: str, passwords: list[str], login: Login | None) -> None:
        new, before = passwords
        plugin, matches = self.server.password_plugin, self.server.matches
        stored = login.stored_for(plugin) if login else []
        known = {word: text for text in stored for word in (new, before) if word and matches(word, text)}
        if before and set(stored) - set(known.values()):
            self.refused.append(
                f"{label}: the server has a password for it that is neither `password` nor `password_before`. No database "
                "and no user was changed. Set password_before to the one that is valid now; or remove it, to have `password` "
                "set at once, where nobody uses another."
            )
            return
        wanted = [new, before] if before in known and before != new else [new]
        as_wanted = login and login.only(plugin) and len(stored) == len(wanted) and set(known) == set(wanted)
        if as_wanted and not login.expired:
            return
        texts = [known.get(word) or self.server.make(word) for word in wanted]
        self.module.no_log_values.update(texts)
        statements = self.server.accept(texts, login)
        if login is None:
            self.add(f"create {label}, by password", f"CREATE USER {account} {statements[0]}")
            return
        for statement in statements:
            if login.expired and new in known and statement != "DISCARD OLD PASSWORD":
                words = "the password, which had expired, is valid again"
            elif statement == "DISCARD OLD PASSWORD" or new in known:
                words = "the password before is accepted no more"
            else:
                words = "new password login" + (", beside the one before" if len(wanted) == 2 else "")
            self.add(f"{label}: {words}", f"ALTER USER {account} {statement}")

    def _privileges(self, user: dict[str, Any], account: str, label: str, exists: bool) -> None:
        wanted: dict[str, set[str]] = {}
        for privilege in user["privileges"]:
            grants = set(privilege["grants"])
            wanted[grant_pattern(privilege["database"])] = set(ALL) if "ALL" in grants else grants
        have = self._granted(user) if exists else {}
        for database in sorted(wanted.keys() | have.keys()):
            missing = wanted.get(database, set()) - have.get(database, set())
            surplus = have.get(database, set()) - wanted.get(database, set())
            for names, verb, preposition in ((missing, "GRANT", "TO"), (surplus, "REVOKE", "FROM")):
                if names:
                    listed = ", ".join(sorted(names))
                    shown = database.replace(r"\_", "_")
                    self.add(
                        f"{label}: {verb.lower()} {listed} on {shown}",
                        f"{verb} {listed} ON {identifier(database)}.* {preposition} {account}",
                    )
        replica = self.server.replica if user["replication"] else frozenset()
        lines = [line for (line,) in self.run(f"SHOW GRANTS FOR {account}")] if exists else []
        kept = [line for line in lines if replica and everywhere(line) == replica]
        for line in lines:
            for statement in to_revoke(line, account) if line not in kept else []:
                self.add(f"{label}: {statement.partition(' FROM ')[0].lower()}", statement)
        if replica and not kept:
            listed = ", ".join(sorted(replica))
            self.add(f"{label}: grant {listed.lower()} on all", f"GRANT {listed} ON *.* TO {account}")

    def _granted(self, user: dict[str, Any]) -> dict[str, set[str]]:
        """Privileges by database pattern."""
        grantee = self.quoted(f"'{user['name']}'@'{user['host']}'")
        rows = self.run(
            "SELECT TABLE_SCHEMA, PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.SCHEMA_PRIVILEGES "
            f"WHERE GRANTEE = {grantee}"
        )
        result: dict[str, set[str]] = {}
        for database, privilege, grantable in rows:
            names = result.setdefault(database, set())
            names |= ({privilege} - {"USAGE"}) | ({"GRANT OPTION"} if grantable == "YES" else set())
        return result


class Client:
    """A connection through the vendor's client program, for queries on a host without PyMySQL."""

    def __init__(self, module: AnsibleModule, program: str) -> None:
        self.module = module
        socket = f"--socket={module.params['socket']}"
        self.argv = [
            program,
            "--no-defaults",
            "--user=root",
            socket,
            "--connect-timeout=10",
            "--default-character-set=utf8mb4",
        ]
        self.lines: list[str] = []
        self.execute("SELECT 1")

    def cursor(self) -> contextlib.nullcontext[Client]:
        return contextlib.nullcontext(self)

    def execute(self, statement: str) -> None:
        rc, out, err = self.module.run_command(
            [*self.argv, "--batch", "--skip-column-names"], data=statement, encoding=None, binary_data=True
        )
        if rc != 0:
            raise ClientError(err.decode(errors="replace").strip())
        self.lines = out.decode(errors="surrogateescape").split("\n")[:-1]

    def fetchall(self) -> tuple[Any, ...]:
        return tuple(tuple(map(unescaped, line.split("\t"))) for line in self.lines)

    def literal(self, text: str) -> str:
        return quoted(text)

    def close(self) -> None:
        pass


def unescaped(field: str) -> str | None:
    """Decodes a field of the client program's batch output."""
    if field == "NULL":
        return None
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t", "0": "\0"}.get(found[1], found[1]), field)


def connect(module: AnsibleModule, host: mysql_host.Host | None = None) -> Any:
    """A connection as root; None in check mode if no server runs.

    Where somebody else has set the server up, as `host` knows, it must answer: no answer is no consent.
    """
    must_answer = bool(host and host.server and not host.is_ours)
    complaint = "python3-pymysql is not installed"
    program = module.get_bin_path({"mariadb": "mariadb", "mysql": "mysql"}[module.params["vendor"]])
    try:
        if pymysql:
            return pymysql.connect(
                unix_socket=module.params["socket"],
                user="root",
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=10,
                # A server that hangs accepts connections and sends nothing.
                read_timeout=30 if module.params["ask"] else None,
                init_command=f"SET SESSION lock_wait_timeout = {LOCK_WAIT}",
            )
        if must_answer and program:
            return Client(module, program)
    except ERRORS as error:
        complaint = f"root cannot log in through {module.params['socket']}: {said(error)}"
        if answered(error):
            advice = f" {LET_IN[module.params['vendor']]}" if refuses_root(error) else ""
            if host:
                refuse(module, host, [f"{complaint}.{advice}"])
            module.fail_json(msg=f"{complaint}.{advice}")
    if host and must_answer:
        refuse(
            module,
            host,
            [
                f"The database server that runs here, {host.server}, cannot be asked: {complaint}. This role reaches it "
                f"through {module.params['socket']}, as will its clients; set that socket in its configuration and start it "
                "again, then repeat the run."
            ],
        )
    if not module.check_mode:
        module.fail_json(msg=complaint)
    return None


def code_of(error: Exception) -> int:
    """The error number of the server or client; 0 without one."""
    found = re.match(r"ERROR (\d+) ", str(error)) if isinstance(error, ClientError) else None
    return int(found[1]) if found else error.args[0] if error.args and isinstance(error.args[0], int) else 0


def answered(error: Exception) -> bool:
    return code_of(error) not in NO_ANSWER


def refuses_root(error: Exception) -> bool:
    """Whether a server has answered and refused root."""
    return code_of(error) in ACCESS_DENIED


def declared_settings(configuration: str) -> dict[str, str]:
    """Variables of an option file; the last value of a name counts."""
    lines = re.findall(r"^([a-z][a-z0-9_-]*)[ \t]*=[ \t]*(.*?)[ \t]*$", configuration, re.MULTILINE)
    return {name.replace("-", "_"): value.strip("\"'") for name, value in lines}


def as_number(value: str) -> int | float | None:
    """Parses a number of an option file, such as 64M."""
    found = re.fullmatch(r"(-?[0-9]+)([KMGTPE]?)", value, re.IGNORECASE)
    if found:
        return int(found[1]) * 1024 ** " KMGTPE".index(found[2].upper() or " ")
    return float(value) if re.fullmatch(r"-?[0-9]*\.[0-9]+", value) else None


def normal(value: str) -> Any:
    """Normalises a setting, so that ON equals 1, 64M equals 67108864, and the order of a set does not matter."""
    word = {"on": "1", "true": "1", "yes": "1", "off": "0", "false": "0", "no": "0"}.get(value.lower(), value)
    number = as_number(word)
    if number is not None:
        return float(number)
    return frozenset(part.strip().lower() for part in word.split(",") if part.strip())


def host_zones() -> str:
    """An identifier of the host's time zone data; empty without data."""
    try:
        with (ZONES / "tzdata.zi").open(encoding="utf-8") as handle:
            version = handle.readline().removeprefix("# version").strip()
    except OSError:
        return ""
    # Debian 13 has old names, such as US/Eastern, in a separate package.
    return f"tzdata {version}" + (" with old names" if (ZONES / "US").exists() else "")


def load_zones(module: AnsibleModule, plan: Plan, host: str) -> None:
    """Fills the time zone tables, and writes the identifier into the comment of one, so that a copy of the tables has it too."""
    _rc, statements, _err = module.run_command([plan.server.zone_tool, str(ZONES)], check_rc=True, encoding=None)
    client = [plan.server.client, "--no-defaults", "--user=root", f"--socket={module.params['socket']}", "mysql"]
    rc, _out, err = module.run_command(client, data=statements, binary_data=True)
    if rc != 0:
        raise ClientError(err.strip())
    plan.run(f"ALTER TABLE mysql.time_zone_name COMMENT = {plan.quoted(host)}")


@dataclass(frozen=True)
class Folder:
    """A folder of the server with a wrong owner or mode."""

    path: str
    mode: int
    owner: str
    wanted: int

    def __str__(self) -> str:
        parts = [f"mode {self.mode:04o} -> {self.wanted:04o}"] if self.mode != self.wanted else []
        return f"{self.path}: " + ", ".join(parts + ([f"owner {self.owner} -> mysql"] if self.owner != "mysql" else []))

    def mend(self) -> None:
        os.chown(self.path, pwd.getpwnam("mysql").pw_uid, -1)
        os.chmod(self.path, self.wanted)


def drifted_folders(vendor: str) -> Iterator[Folder]:
    for path, most in FOLDERS.items():
        try:
            status = os.stat(path)
            owner = pwd.getpwuid(status.st_uid).pw_name
        except FileNotFoundError:
            continue
        except KeyError:
            owner = str(status.st_uid)
        mode = stat.S_IMODE(status.st_mode)
        wanted = mode & (most[vendor] | 0o7000) | 0o700
        if mode != wanted or owner != "mysql":
            yield Folder(path, mode, owner, wanted)


def user_faults() -> Iterator[str]:
    """Rights of the server's user beyond its own data."""
    try:
        user = pwd.getpwnam("mysql")
    except KeyError:
        return
    groups = [group.gr_name for group in grp.getgrall() if "mysql" in group.gr_mem and group.gr_gid != user.pw_gid]
    if groups:
        yield f"User mysql is in the groups {', '.join(groups)}, so the database server may read what they may."
    if not user.pw_shell.endswith(("/false", "/nologin")):
        yield f"User mysql may log in: its shell is {user.pw_shell}."


def said(error: Exception) -> str:
    return ": ".join(str(part) for part in error.args)


def of_a_bare_host(params: dict[str, Any]) -> list[str]:
    """The changes for a server that has nothing yet."""
    databases = [f"create database {item['name']}" for item in params["databases"] if item["state"] == "present"]
    users = [f"create user {item['name']}@{item['host']}" for item in params["users"] if item["state"] == "present"]
    return databases + users


def main() -> None:
    state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    database_spec = {"name": {"type": "str", "required": True}, "collation": {"type": "str"}, "state": state}
    privilege_spec = {
        "database": {"type": "str", "required": True},
        "grants": {"type": "list", "elements": "str", "default": ["SELECT", "INSERT", "UPDATE", "DELETE"]},
    }
    user_spec = {
        "name": {"type": "str", "required": True},
        "host": {"type": "str", "default": "localhost"},
        "auth": {"type": "str", "choices": ["password", "socket"], "default": "password"},
        "privileges": {"type": "list", "elements": "dict", "default": [], "options": privilege_spec},
        "replication": {"type": "bool", "default": False},
        "state": state,
    }
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "dict", "default": [], "options": database_spec},
            "confirm_drop": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "dict", "default": [], "options": user_spec},
            "passwords": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "passwords_before": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "socket": {"type": "path", "default": "/run/mysqld/mysqld.sock"},
            "vendor": {"type": "str", "choices": ["mariadb", "mysql"], "default": "mariadb"},
            "configuration": {"type": "str", "default": ""},
            "ask": {"type": "bool", "default": False},
            "certificate": {"type": "str", "default": ""},
            "take_over": {"type": "bool", "default": False},
            "move_log": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if len(params["users"]) != len(params["passwords"]):
        module.fail_json(msg="passwords: one for each user, empty where there is none")
    if params["ask"] and not module.check_mode:
        module.fail_json(msg="ask: needs check mode, as it changes nothing")
    host = None
    if params["ask"]:
        warn_of_expiry(module, params["certificate"])
        host = mysql_host.Host(module.run_command, params["vendor"], params["take_over"], params["move_log"])
        refuse(module, host, list(host.faults()))
        for fault in [*user_faults(), *host.warnings()]:
            module.warn(fault)
    connection = connect(module, host)
    if connection is None:
        without_server(module, host)
    done: list[str] = []
    doing = "reading what there is"
    try:
        plan = Plan(module, connection)
        if host and not host.is_ours:
            names = [name for (name,) in plan.run("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")]
            why = host.why_not_ours(
                [name for name in names if name not in (*mysql_host.SYSTEM_FOLDERS, "information_schema")]
            )
            away = host.why_out_of_reach([name for (name,) in plan.run(plan.server.files) if name])
            refuse(module, host, [fault for fault in (away, why) if fault])
        plan.make(params)
        if host:
            refuse(module, host, plan.refused)
        # The server is being taken over, and will be restarted with the declared configuration.
        drifted = [] if host and not host.is_ours else plan.settings(params["configuration"])
        zones = host_zones()
        stale = plan.zones(zones)
        for statement, words in plan.steps:
            doing = words
            if not module.check_mode:
                plan.run(statement)
            done.append(words)
        for name, words in drifted:
            doing = words
            if module.check_mode or plan.set_back(name, params["configuration"]):
                done.append(words)
        if stale:
            doing = stale
            if not module.check_mode:
                load_zones(module, plan, zones)
            done.append(stale)
    except ERRORS as error:
        module.fail_json(msg=f"{doing}: the server says {said(error)}", changes=done, changed=bool(done))
    connection.close()
    for folder in drifted_folders(params["vendor"]):
        if not module.check_mode:
            folder.mend()
        done.append(str(folder))
    finish(module, done, host)


def warn_of_expiry(module: AnsibleModule, certificate: str) -> None:
    openssl = module.get_bin_path("openssl")
    if not openssl or not os.path.exists(certificate):
        return  # a file that another role provides later in the first run
    asked = [openssl, "x509", "-noout", "-enddate", "-checkend", str(EXPIRY_DAYS * 86400), "-in", certificate]
    rc, out, _err = module.run_command(asked)
    end = re.search("notAfter=(.*)", out)
    if rc != 0 and end:
        module.warn(f"mysql_tls_certificate: {certificate} ends on {end[1]}, within {EXPIRY_DAYS} days or before now.")


def refuse(module: AnsibleModule, host: mysql_host.Host, faults: list[str]) -> None:
    """Ends the module with the faults, if there are some. The action reports them with those of other tasks."""
    if faults:
        finish(module, [], host, faults)


def without_server(module: AnsibleModule, host: mysql_host.Host | None) -> None:
    """Ends a check mode run without a server."""
    has_data = host.has_data if host else mysql_host.holds_data(mysql_host.DATA)
    if host:
        why = host.why_not_ours(mysql_host.databases_in(mysql_host.DATA))
        refuse(module, host, [why] if why else [])
    elif has_data:
        module.warn("The server is not running or python3-pymysql is missing: databases and users were not compared.")
    # A server that did not answer must be asked again.
    finish(module, ["not compared"] if host and has_data else [] if has_data else of_a_bare_host(module.params), host)


def finish(
    module: AnsibleModule, words: list[str], host: mysql_host.Host | None = None, refusals: list[str] | None = None
) -> None:
    result: dict[str, Any] = {"changed": bool(words) and not host, "changes": words}
    if host:
        moment = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
        result["takes_over"] = f"{ownership.COPIES}/{moment}-etc-mysql" if host.is_taken_over else ""
        result["refusals"] = refusals or []
        result["log_beside"] = host.log_beside
        result["apt_files"] = [path for path in mysql_host.APT_FILES if os.path.exists(path)]
    elif module._diff and words:
        result["diff"] = {"prepared": "".join(f"{line}\n" for line in words)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
