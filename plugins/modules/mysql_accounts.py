#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep databases, users and privileges of a MariaDB or MySQL server as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mysql_accounts
short_description: Keep databases and users of MariaDB or MySQL as declared
description:
  - Reads what the server has, works out the statements that are missing, and runs those. In check
    mode it reports them and runs none.
  - The server never gets a password, only what it would make of it, so that none of its logs can
    hold one. A stored one is compared by repeating the calculation, whatever its salt.
  - A declared user has the declared privileges and no other. Who is not declared is left alone,
    but root, who has the socket and no other way in.
  - Works as root through the server's socket, with PyMySQL on the host.
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
  data:
    description: The server's data, which tells a server that is down from one that is not there yet.
    type: path
    default: /var/lib/mysql/mysql
author: The foobar web stack maintainers
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
"""

import hashlib
import json
import os
import re
import secrets
import string
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import pymysql
except ImportError:
    pymysql = None

NO_ANSWER = 2003  # what PyMySQL says when nobody answers
LOCK_WAIT = 30  # seconds for a statement on a table in use, where the servers would wait a day or a year
ALL = frozenset(
    {
        "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE TEMPORARY TABLES",
        "LOCK TABLES", "EXECUTE", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER",
    }
)  # fmt: skip
CRYPT64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def native_hash(password: str) -> str:
    """What mysql_native_password stores."""
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
    for _ in range(10):
        value = digest[order[0]] << 16 | digest[order[1]] << 8 | digest[order[2]]
        text += "".join(CRYPT64[value >> shift & 63] for shift in (0, 6, 12, 18))
        order = (order[2] + 1, order[0] + 1, order[1] + 1)
    value = digest[31] << 8 | digest[30]
    return text + "".join(CRYPT64[value >> shift & 63] for shift in (0, 6, 12))


def caching_hash(password: str, salt: str, rounds: int) -> str:
    """What caching_sha2_password stores. `rounds` is a multiple of 1000."""
    return f"$A${rounds // 1000:03X}${salt}{sha256_crypt(password.encode(), salt.encode(), rounds)}"


def caching_match(password: str, stored: str) -> bool:
    parts = re.fullmatch(r"\$A\$([0-9A-F]{3})\$(.{20})(.{43})", stored, re.DOTALL)
    return bool(parts) and caching_hash(password, parts[2], int(parts[1], 16) * 1000) == stored


def grant_pattern(database: str) -> str:
    """A database's name where a grant takes a pattern."""
    return database.replace("\\", "\\\\").replace("_", r"\_").replace("%", r"\%")


def to_revoke(line: str, account: str) -> list[str]:
    """Statements that undo one line of SHOW GRANTS; none for what is judged by database."""
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


@dataclass(frozen=True)
class Login:
    """How an account is let in, as the server stores it."""

    plugin: str
    stored: str
    ways: tuple[tuple[str, str], ...] = ()  # further ones
    locked: bool = False
    expired: bool = False  # its password; to a login by socket, this means nothing

    def open(self) -> list[tuple[str, str]]:
        """All ways in; a stored `invalid` lets nobody in."""
        return [way for way in ((self.plugin, self.stored), *self.ways) if way[1] != "invalid"]

    def only(self, plugin: str) -> bool:
        """Whether there is no other way in."""
        return {way[0] for way in self.open()} == {plugin}

    def stored_for(self, plugin: str) -> list[str]:
        return [stored for name, stored in self.open() if name == plugin]


class MariaDB:
    password_plugin, socket_plugin = "mysql_native_password", "unix_socket"

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
        """What follows ALTER USER so that the passwords of which this is stored, one or two, are the ways in."""
        return ["IDENTIFIED VIA " + " OR ".join(f"{self.password_plugin} USING '{text}'" for text in stored)]


class MySQL:
    password_plugin, socket_plugin = "caching_sha2_password", "auth_socket"

    def __init__(self, run: Any) -> None:
        self.run = run

    def logins(self) -> dict[tuple[str, str], Login]:
        query = (
            "SELECT User, Host, plugin, authentication_string, User_attributes ->> '$.additional_password', "
            "account_locked = 'Y', password_expired = 'Y' FROM mysql.user"
        )
        return {
            (user, host): Login(
                plugin, stored or "", ((plugin, second),) if second else (), locked=bool(locked), expired=bool(expired)
            )
            for user, host, plugin, stored, second, locked, expired in self.run(query)
        }

    def matches(self, password: str, stored: str) -> bool:
        return caching_match(password, stored)

    def make(self, password: str) -> str:
        rounds = self.run("SELECT @@caching_sha2_password_digest_rounds")[0][0]
        salt = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(20))
        return caching_hash(password, salt, int(rounds))

    def identified(self, plugin: str, stored: str = "") -> str:
        return f"IDENTIFIED WITH {plugin}" + (f" AS '{stored}'" if stored else "")

    def accept(self, stored: list[str], login: Login | None) -> list[str]:
        """The same; of two, the second is one that the account has."""
        first = self.identified(self.password_plugin, stored[0])
        there = bool(login) and login.stored == stored[0]
        if len(stored) == 2:
            return [first if there else f"{first} RETAIN CURRENT PASSWORD"]
        statements = [] if there and not login.expired else [first]
        return statements + (["DISCARD OLD PASSWORD"] if login and login.ways else [])


class Plan:
    """The statements that lead from what the server has to what is declared."""

    def __init__(self, module: AnsibleModule, connection: Any) -> None:
        self.module, self.connection = module, connection
        self.steps: list[tuple[str, str]] = []  # statement, words
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
            self.module.fail_json(
                msg=f"{', '.join(unconfirmed)}: declared absent, which would drop it with all that is in it. No database and "
                "no user was changed. If that is meant, repeat the run with "
                f"-e '{json.dumps({'mysql_confirm_drop': unconfirmed})}'; if not, remove state: absent."
            )
        logins = self.server.logins()
        self._root(logins)
        for item in params["databases"]:
            if item["state"] == "present":
                self._database(item, existing)
        before = params["passwords_before"] or [""] * len(params["users"])
        for user, *passwords in zip(params["users"], params["passwords"], before, strict=True):
            self._user(user, passwords, logins.get((user["name"], user["host"])))
        for name in gone:
            self.add(f"drop database {name}", f"DROP DATABASE `{name}`")

    def _root(self, logins: dict[tuple[str, str], Login]) -> None:
        """Root comes through the socket and no other way; what else bears the name is locked, not lost."""
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
            self.add(f"create database {name}", f"CREATE DATABASE `{name}` {text}")
        elif collation and existing[name] != collation:
            self.add(f"database {name}: collation {existing[name]} -> {collation}", f"ALTER DATABASE `{name}` {text}")

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
            self.module.fail_json(
                msg=f"{label}: the server has a password for it that is neither `password` nor `password_before`. No database "
                "and no user was changed. Set password_before to the one that is valid now; or remove it, to have `password` "
                "set at once, where nobody uses another."
            )
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
                        f"{verb} {listed} ON `{database}`.* {preposition} {account}",
                    )
        if exists:
            for (line,) in self.run(f"SHOW GRANTS FOR {account}"):
                for statement in to_revoke(line, account):
                    self.add(f"{label}: {statement.split(' FROM ')[0].lower()}", statement)

    def _granted(self, user: dict[str, Any]) -> dict[str, set[str]]:
        """Privileges by pattern of database."""
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


def connect(module: AnsibleModule) -> Any:
    """A connection as root; None in check mode where there is no server to ask."""
    complaint = "python3-pymysql is not installed"
    if pymysql:
        try:
            return pymysql.connect(
                unix_socket=module.params["socket"],
                user="root",
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=10,
                init_command=f"SET SESSION lock_wait_timeout = {LOCK_WAIT}",
            )
        except pymysql.MySQLError as error:
            complaint = f"root cannot log in through {module.params['socket']}: {said(error)}"
            if error.args[0] != NO_ANSWER:
                module.fail_json(
                    msg=f"{complaint}\nThis role works as root by socket. If root has a password, let it in with the "
                    "statement ALTER USER root@localhost IDENTIFIED VIA unix_socket (MariaDB) or WITH auth_socket (MySQL)."
                )
    if not module.check_mode:
        module.fail_json(msg=complaint)
    return None


def said(error: Exception) -> str:
    return ": ".join(str(part) for part in error.args)


def of_a_bare_host(params: dict[str, Any]) -> list[str]:
    """What would be made if the server had nothing yet."""
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
            "data": {"type": "path", "default": "/var/lib/mysql/mysql"},
        },
        supports_check_mode=True,
    )
    if len(module.params["users"]) != len(module.params["passwords"]):
        module.fail_json(msg="passwords: one for each user, empty where there is none")
    connection = connect(module)
    if connection is None:
        words = [] if os.path.exists(module.params["data"]) else of_a_bare_host(module.params)
        if not words:
            module.warn(
                "The server is not running or python3-pymysql is missing: databases and users were not compared."
            )
        finish(module, words)
    done: list[str] = []
    try:
        plan = Plan(module, connection)
        plan.make(module.params)
        for statement, words in plan.steps:
            if not module.check_mode:
                plan.run(statement)
            done.append(words)
    except pymysql.MySQLError as error:
        next_step = plan.steps[len(done)][1] if len(done) < len(plan.steps) else "reading what there is"
        module.fail_json(msg=f"{next_step}: the server says {said(error)}", changes=done, changed=bool(done))
    connection.close()
    finish(module, done)


def finish(module: AnsibleModule, words: list[str]) -> None:
    result: dict[str, Any] = {"changed": bool(words), "changes": words}
    if module._diff and words:
        result["diff"] = {"prepared": "".join(f"{line}\n" for line in words)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
