"""The cross-field checks of role mysql."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "plugins/filter/mysql_faults.py"
spec = importlib.util.spec_from_file_location("mysql_faults", SOURCE)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

FACTS = {"memtotal_mb": 4096, "mounts": [{"mount": "/", "size_total": 20 * 2**30}]}
SECRET = "a-long-enough-secret"
INPUTS = {
    "vendor": "mariadb",
    "apt_source": {},
    "databases": [{"name": "app_x", "collation": "utf8mb4_bin"}],
    "confirm_drop": [],
    "users": [{"name": "app", "password": SECRET, "privileges": [{"database": "app_x"}]}],
    "listen_address": [],
    "port": 3306,
    "tls_certificate": "",
    "tls_key": "",
    "tls_ca": "",
    "buffer_pool_share": 25,
    "max_connections": 100,
    "binlog_days": 7,
    "acknowledge_timeout_ms": 0,
    "cluster_nodes": [],
    "cluster_address": "",
    "cluster_name": "",
    "cluster_certificate": "",
    "cluster_key": "",
    "cluster_authority": "",
    "slow_query_seconds": 1,
    "options": {"innodb_io_capacity": 300, "table-open-cache": "500"},
}


def faults(facts=None, **inputs):
    given = {f"mysql_{name}": value for name, value in {**INPUTS, **inputs}.items()}
    return module.mysql_faults(given, facts or FACTS)


def user(**fields):
    return {"users": [{"name": "app", "password": SECRET, **fields}]}


def test_good_inputs_have_no_fault():
    assert faults() == []
    assert faults(users=[{"name": "app", "auth": "socket"}, {"name": "gone", "state": "absent"}]) == []
    assert faults(listen_address=["127.0.0.1", "::1"]) == []
    assert faults(acknowledge_timeout_ms=2000) == []
    assert faults(listen_address=["10.0.0.5"], tls_certificate="/etc/ssl/c.pem", tls_key="/etc/ssl/k.pem") == []
    for host in ("%", "192.0.2.7", "192.0.2.%", "10.%", "192.0.2.0/255.255.255.0", "2001:db8::7"):
        assert faults(**user(host=host)) == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"vendor": "mysql"}, "mysql_apt_source: mysql_vendor is mysql"),
        (
            {"apt_source": {"uris": ["https://repo.example.com"], "suites": ["x"]}},
            "mysql_apt_source.components: required",
        ),
        ({"apt_source": {"uris": ["a b"], "suites": ["x"], "components": ["m"]}}, "mysql_apt_source.uris: 'a b'"),
        ({"apt_source": {"uris": "u", "suites": "x", "components": "m", "pin": "a\nb"}}, "mysql_apt_source.pin"),
        ({"databases": [{"name": "back`tick"}]}, "mysql_databases[0].name: 'back`tick'"),
        ({"databases": [{"name": "x" * 65}]}, "mysql_databases[0].name: 'xxx"),
        ({"databases": [{"name": "Information_Schema"}]}, "belongs to the server itself"),
        ({"databases": [{"name": "x"}, {"name": "x"}]}, "[1].name: 'x' is declared by mysql_databases[0] already"),
        ({"databases": [{"name": "a\n"}]}, "mysql_databases[0].name"),
        ({"databases": [{"name": "app_x", "collation": "latin1_bin"}]}, "mysql_databases[0].collation: 'latin1_bin'"),
        ({"databases": [{"name": "app_x", "state": "absent"}]}, "mysql_users[0].privileges[0].database: 'app_x'"),
        (
            user(privileges=[{"database": "undeclared"}]),
            "[0].database: 'undeclared' is not a database that mysql_databases",
        ),
        (user(name="o'neill"), "mysql_users[0].name: 'o'neill' is not made of"),
        (user(name="n" * 33), "mysql_users[0].name: 'nnn"),
        (user(name="root"), "mysql_users[0].name: 'root' belongs to the server itself"),
        ({"users": user()["users"] * 2}, "mysql_users[1]: 'app'@'localhost' is declared by mysql_users[0] already"),
        (user(password=None), "mysql_users[0].password: required, unless auth is socket"),
        (user(host="db.example.com"), "mysql_users[0].host"),
        (user(host="localhost' OR"), "mysql_users[0].host"),
        (user(auth="socket"), "mysql_users[0].password: must not be set"),
        (user(auth="socket", password=None, password_before=SECRET), "mysql_users[0].password_before: must not be set"),
        (user(auth="socket", password=None, host="%"), "mysql_users[0].host: auth by socket"),
        (user(password="x" * 257), "mysql_users[0].password: 256 bytes"),
        (user(privileges=[{"database": "app_x"}, {"database": "app_x"}]), "stands there twice"),
        ({"listen_address": ["db.example.com"]}, "mysql_listen_address[0]: 'db.example.com'"),
        ({"listen_address": ["192.0.2.1"]}, "mysql_tls_certificate: required, as mysql_listen_address holds 192.0.2.1"),
        ({"tls_certificate": "/c.pem"}, "set both or neither"),
        ({"tls_certificate": "c.pem", "tls_key": "/k y"}, "mysql_tls_key: '/k y'"),
        ({"port": 0}, "mysql_port: 0"),
        ({"port": 65536}, "mysql_port: 65536 is not between 1 and 65535"),
        ({"buffer_pool_share": 81}, "mysql_buffer_pool_share: 81 is not between 1 and 80"),
        ({"binlog_days": 0}, "mysql_binlog_days: 0"),
        ({"acknowledge_timeout_ms": 99}, "mysql_acknowledge_timeout_ms: 99 is neither 0 nor"),
        ({"options": {"log-bin": "mysql-bin"}}, "mysql_options.log-bin: not to be set here"),
        ({"slow_query_seconds": 0}, "mysql_slow_query_seconds: 0"),
        ({"options": {"a b": 1}}, "mysql_options: 'a b' is not the name of an option"),
        (
            {"options": {"bind-address": "::"}},
            "mysql_options.bind-address: not to be set here; use mysql_listen_address",
        ),
        ({"options": {"init_connect": "two\nlines"}}, "mysql_options.init_connect: its value must be one line"),
        ({"options": {"loose-x": 1}}, "mysql_options.loose-x"),
        ({"options": {"sort_buffer_size": "1M # more"}}, "mysql_options.sort_buffer_size: its value"),
        ({"options": {"sort_buffer_size": None}}, "mysql_options.sort_buffer_size: its value"),
        ({"max_connections": 1200}, "the host has 4096 MB"),
        ({"facts": {**FACTS, "mounts": [{"mount": "/var", "size_total": 2**30}]}}, "2048 MB; /var has 1024 MB"),
        (
            {"facts": {**FACTS, "mounts": [*FACTS["mounts"], {"mount": "/var/lib/mysql-binlog", "size_total": 2**29}]}},
            "/var/lib/mysql-binlog needs a disk of 1024 MB; /var/lib/mysql-binlog has 512 MB",
        ),
    ],
)
def test_each_fault_is_named(inputs, words):
    said = faults(**inputs)
    assert any(words in fault for fault in said), said
    assert not any(SECRET in fault for fault in said)


CLUSTER = {
    "cluster_nodes": [{"name": f"db{number}", "address": f"192.0.2.{number}"} for number in (1, 2, 3)],
    "cluster_address": "192.0.2.1",
    "cluster_name": "shop",
    "cluster_certificate": "/etc/ssl/node.pem",
    "cluster_key": "/etc/ssl/node.key",
    "cluster_authority": "/etc/ssl/authority.pem",
}


def test_a_cluster_of_three_is_fine():
    assert faults(**CLUSTER) == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"cluster_nodes": CLUSTER["cluster_nodes"][:2]}, "mysql_cluster_nodes: 2 nodes; declare one server, or 3"),
        ({"cluster_nodes": CLUSTER["cluster_nodes"] * 2}, "mysql_cluster_nodes[3]: stands there twice"),
        ({"cluster_nodes": [{"name": "a b", "address": "db"}] * 3}, "mysql_cluster_nodes[0].address: 'db' is not"),
        (
            {"vendor": "mysql", "apt_source": {"uris": ["u"], "suites": ["s"], "components": ["c"]}},
            "only MariaDB can be",
        ),
        ({"cluster_nodes": []}, "mysql_cluster_address: has no effect without mysql_cluster_nodes"),
        ({"cluster_address": "192.0.2.9"}, "mysql_cluster_address: '192.0.2.9' is not the address of one"),
        ({"cluster_name": ""}, "mysql_cluster_name: '' is not made of"),
        ({"cluster_key": ""}, "mysql_cluster_key: '' is not an absolute path"),
        ({"databases": [{"name": "webstack"}]}, "mysql_databases: 'webstack' holds the election"),
        ({"users": [{"name": "webstack-writer", "auth": "socket"}]}, "mysql_users: 'webstack-writer' elects"),
        ({"options": {"wsrep-slave-threads": 4}}, "mysql_options.wsrep-slave-threads: not to be set here"),
    ],
)
def test_a_cluster_that_could_not_work_is_refused(inputs, words):
    assert any(words in fault for fault in faults(**{**CLUSTER, **inputs}))
