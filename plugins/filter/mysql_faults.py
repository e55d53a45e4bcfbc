# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role mysql refuses beyond its argument spec: the server would not start, or would expose data."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import is_address, is_file_path, is_port

DATABASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
DATABASE_FORM = "letters, digits, '_' and '-', 64 at most, the first a letter or digit"
USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
USER_FORM = "letters, digits, '_', '-' and '.', 32 at most, the first a letter or digit"
HOST = re.compile(r"localhost|%|[0-9]{1,3}(\.[0-9]{1,3}){0,2}\.%|[0-9.]+/[0-9.]+")
COLLATION = re.compile(r"utf8mb4_[a-z0-9_]+")
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
OPTION = re.compile(r"[a-z][a-z0-9_-]*")
OPTION_VALUE = re.compile(r"[^\x00-\x1f\x7f\"'\\#]*")

SYSTEM_DATABASES = {"mysql", "sys", "information_schema", "performance_schema", "test"}
SYSTEM_USERS = {"root", "mysql", "debian-sys-maint", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"}

# Options that the role sets, each with what to write instead, or why not.
OWNED = {
    "bind_address": "use mysql_listen_address",
    "skip_networking": "use mysql_listen_address",
    "port": "use mysql_port",
    "ssl_cert": "use mysql_tls_certificate",
    "ssl_key": "use mysql_tls_key",
    "ssl_ca": "use mysql_tls_ca",
    "require_secure_transport": "the role sets it where others can connect",
    "max_connections": "use mysql_max_connections",
    "innodb_buffer_pool_size": "use mysql_buffer_pool_share",
    "expire_logs_days": "use mysql_binlog_days",
    "binlog_expire_logs_seconds": "use mysql_binlog_days",
    "log_bin": "the sandbox and the backup rely on it",
    "log_bin_index": "the sandbox and the backup rely on it",
    "long_query_time": "use mysql_slow_query_seconds",
    "user": "the role and the sandbox rely on it",
    "datadir": "the role and the sandbox rely on it",
    "socket": "the role and its clients rely on it",
    "pid_file": "the role relies on it",
    "skip_grant_tables": "it would let everybody in",
    "local_infile": "it would let a server read its clients' files",
    "partial_revokes": "it changes what a database's name means in a grant",
    "persisted_globals_load": "what was set by hand would win over what is declared",
}

SMALLEST_POOL = 128  # MB
CONNECTION = 3  # MB: thread stack, sort, join and read buffers, and a temporary table
REST_OF_SERVER = 256  # MB
# MB: an empty server, its redo log, a first binary log and some room; where the binary log has a disk of its own, some of its files
SMALLEST_DISKS = {"/var/lib/mysql": 2048, "/var/lib/mysql-binlog": 1024}


def mysql_faults(inputs: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Every fault in the role's inputs; `facts` are those of host_facts."""
    short = {name.removeprefix("mysql_"): value for name, value in inputs.items()}
    parts: list[Callable[[dict[str, Any]], Iterator[str]]] = [
        _source,
        _databases,
        _users,
        _network,
        _numbers,
        _options,
        _cluster,
    ]
    return [f"mysql_{fault}" for part in parts for fault in part(short)] + list(_host(short, facts))


def _source(inputs: dict[str, Any]) -> Iterator[str]:
    source = inputs["apt_source"]
    if inputs["vendor"] == "mysql" and not source:
        yield "apt_source: mysql_vendor is mysql, which Debian does not ship; say here where its packages come from"
    for key in ("uris", "suites", "components"):
        values = source.get(key, [])
        if source and not values:
            yield f"apt_source.{key}: required"
        for value in [values] if isinstance(values, str) else values:
            if not re.fullmatch(r"[^\s\x00-\x1f]+", str(value)):
                yield f"apt_source.{key}: '{value}' holds blanks or line breaks"
    if re.search(r"[\r\n]", str(source.get("pin", ""))):
        yield "apt_source.pin: must be one line"
    if not -32768 < int(source.get("priority", 500)) < 32768 or int(source.get("priority", 500)) == 0:
        yield "apt_source.priority: must be between -32767 and 32767, and not 0"


def _databases(inputs: dict[str, Any]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for index, database in enumerate(inputs["databases"]):
        path, name = f"databases[{index}]", str(database["name"])
        yield from _name_faults(f"{path}.name", name, DATABASE, DATABASE_FORM, SYSTEM_DATABASES)
        if name in seen:
            yield f"{path}.name: '{name}' is declared by mysql_databases[{seen[name]}] already"
        seen.setdefault(name, index)
        if not COLLATION.fullmatch(str(database.get("collation") or "utf8mb4_bin")):
            yield f"{path}.collation: '{database['collation']}' is not a collation of utf8mb4, such as utf8mb4_unicode_ci"


def _users(inputs: dict[str, Any]) -> Iterator[str]:
    present = {str(item["name"]) for item in inputs["databases"] if item.get("state", "present") == "present"}
    seen: dict[tuple[str, str], int] = {}
    for index, user in enumerate(inputs["users"]):
        path, name, host = f"users[{index}]", str(user["name"]), str(user.get("host", "localhost"))
        yield from _name_faults(f"{path}.name", name, USER, USER_FORM, SYSTEM_USERS)
        if not HOST.fullmatch(host) and not is_address(host):
            yield (
                f"{path}.host: '{host}' is neither localhost nor an address (192.0.2.7, 192.0.2.%, "
                "192.0.2.0/255.255.255.0, %); names of hosts are not looked up"
            )
        if (name, host) in seen:
            yield f"{path}: '{name}'@'{host}' is declared by mysql_users[{seen[name, host]}] already"
        seen.setdefault((name, host), index)
        yield from _proof_faults(path, host, user)
        granted = [str(privilege["database"]) for privilege in user.get("privileges", [])]
        for number, database in enumerate(granted):
            where = f"{path}.privileges[{number}].database"
            if database not in present:
                yield f"{where}: '{database}' is not a database that mysql_databases declares as present"
            if database in granted[:number]:
                yield f"{where}: '{database}' stands there twice; write all its grants into one entry"


def _proof_faults(path: str, host: str, user: dict[str, Any]) -> Iterator[str]:
    """Faults in how a user authenticates."""
    auth, removed = user.get("auth", "password"), user.get("state", "present") == "absent"
    if auth == "password" and not user.get("password") and not removed:
        yield f"{path}.password: required, unless auth is socket"
    for key in ("password", "password_before"):
        if auth == "socket" and user.get(key):
            yield f"{path}.{key}: must not be set where auth is socket"
    if auth == "socket" and host != "localhost":
        yield f"{path}.host: auth by socket works for localhost only"
    if len(str(user.get("password") or "").encode()) > 256:
        yield f"{path}.password: 256 bytes at most"


def _network(inputs: dict[str, Any]) -> Iterator[str]:
    addresses = [inputs["listen_address"]] if isinstance(inputs["listen_address"], str) else inputs["listen_address"]
    for index, address in enumerate(addresses):
        if not is_address(address):
            yield f"listen_address[{index}]: '{address}' is not an address such as 127.0.0.1 or 0.0.0.0"
    public = [address for address in addresses if is_address(address) and not ipaddress.ip_address(address).is_loopback]
    for name in ("tls_certificate", "tls_key"):
        if public and not inputs[name]:
            yield f"{name}: required, as mysql_listen_address holds {public[0]}, which others can reach"
    if bool(inputs["tls_certificate"]) != bool(inputs["tls_key"]) and not public:
        yield "tls_certificate and mysql_tls_key: set both or neither"
    for name in ("tls_certificate", "tls_key", "tls_ca"):
        if inputs[name] and not is_file_path(str(inputs[name])):
            yield f"{name}: '{inputs[name]}' is not an absolute path without blanks"
    if not is_port(inputs["port"]):
        yield f"port: {inputs['port']} is not between 1 and 65535"


def _numbers(inputs: dict[str, Any]) -> Iterator[str]:
    bounds = {"buffer_pool_share": (1, 80), "max_connections": (1, 100000), "binlog_days": (1, 365)}
    for name, (least, most) in bounds.items():
        if not least <= int(inputs[name]) <= most:
            yield f"{name}: {inputs[name]} is not between {least} and {most}"
    if int(inputs["acknowledge_timeout_ms"]) and not 100 <= int(inputs["acknowledge_timeout_ms"]) <= 3600000:
        yield f"acknowledge_timeout_ms: {inputs['acknowledge_timeout_ms']} is neither 0 nor between 100 and 3600000"
    if not 0.001 <= float(inputs["slow_query_seconds"]) <= 3600:
        yield f"slow_query_seconds: {inputs['slow_query_seconds']} is not between 0.001 and 3600"


def _options(inputs: dict[str, Any]) -> Iterator[str]:
    for name, value in inputs["options"].items():
        plain = str(name).replace("-", "_")
        if not OPTION.fullmatch(str(name)):
            yield f"options: '{name}' is not the name of an option (small letters, digits, '_' and '-')"
        elif plain in OWNED:
            yield f"options.{name}: not to be set here; {OWNED[plain]}"
        elif plain.startswith(("loose_", "maximum_")):
            yield f"options.{name}: a prefix that makes the server overlook what it does not know"
        if isinstance(value, (dict, list)) or value is None or not OPTION_VALUE.fullmatch(str(value)):
            yield f"options.{name}: its value must be one line without quotes, '\\' and '#'"


def _cluster(inputs: dict[str, Any]) -> Iterator[str]:
    nodes, own = inputs["cluster_nodes"], str(inputs["cluster_address"])
    others = ("address", "name", "certificate", "key", "authority")
    if not nodes:
        for name in others:
            if inputs[f"cluster_{name}"]:
                yield f"cluster_{name}: has no effect without mysql_cluster_nodes"
        return
    if inputs["vendor"] != "mariadb":
        yield "cluster_nodes: only MariaDB can be a cluster (Galera); for MySQL declare one server, and no nodes"
    if len(nodes) < 3 or len(nodes) % 2 == 0:
        yield (
            f"cluster_nodes: {len(nodes)} nodes; declare one server, or 3 nodes or another odd number. Of an even number, the half "
            "that is left when the network parts would not know whether it is the majority, and take no writes"
        )
    addresses, names = [str(node["address"]) for node in nodes], [str(node["name"]) for node in nodes]
    for index, node in enumerate(nodes):
        if not NODE.fullmatch(str(node["name"])):
            yield f"cluster_nodes[{index}].name: '{node['name']}' is not made of letters, digits, '_', '-' and '.'"
        if not is_address(node["address"]):
            yield f"cluster_nodes[{index}].address: '{node['address']}' is not an address"
        if node["address"] in addresses[:index] or node["name"] in names[:index]:
            yield f"cluster_nodes[{index}]: stands there twice"
    if own not in addresses:
        yield f"cluster_address: '{own}' is not the address of one of mysql_cluster_nodes"
    if not NODE.fullmatch(str(inputs["cluster_name"])):
        yield f"cluster_name: '{inputs['cluster_name']}' is not made of letters, digits, '_', '-' and '.'"
    for name in ("certificate", "key", "authority"):
        if not is_file_path(str(inputs[f"cluster_{name}"])):
            yield f"cluster_{name}: '{inputs[f'cluster_{name}']}' is not an absolute path without blanks"
    if any(str(database["name"]) == "webstack" for database in inputs["databases"]):
        yield "databases: 'webstack' holds the election of the cluster's writer; give yours another name"
    if any(str(user["name"]) == "webstack-writer" for user in inputs["users"]):
        yield "users: 'webstack-writer' elects the cluster's writer; give yours another name"
    for option in inputs["options"]:
        if str(option).replace("-", "_").startswith("wsrep_") or str(option).replace("-", "_") == "read_only":
            yield f"options.{option}: not to be set here; it must be the same on all nodes, and the role sets it"


def _host(inputs: dict[str, Any], facts: dict[str, Any]) -> Iterator[str]:
    """Memory and disk that the host lacks; a fault has the figures needed and present."""
    memory = int(facts["memtotal_mb"])
    pool = memory * int(inputs["buffer_pool_share"]) // 100
    needed = max(pool, SMALLEST_POOL) + int(inputs["max_connections"]) * CONNECTION + REST_OF_SERVER
    if needed > memory:
        yield (
            f"mysql_max_connections: {inputs['max_connections']} connections of {CONNECTION} MB, "
            f"{max(pool, SMALLEST_POOL)} MB of buffer pool and {REST_OF_SERVER} MB for the rest need {needed} MB of memory; the host has {memory} MB"
        )
    for folder, least in SMALLEST_DISKS.items():
        mounts = [mount for mount in facts.get("mounts", []) if _holds(mount["mount"], folder)]
        disk = max(mounts, key=lambda mount: len(mount["mount"]), default={})
        size = int(disk.get("size_total", 0)) // 2**20
        if 0 < size < least:
            yield f"{folder} needs a disk of {least} MB; {disk['mount']} has {size} MB"


def _holds(folder: str, path: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _name_faults(path: str, name: str, form: re.Pattern[str], words: str, reserved: set[str]) -> Iterator[str]:
    if not form.fullmatch(name):
        yield f"{path}: '{name}' is not made of {words}"
    elif name.lower() in reserved:
        yield f"{path}: '{name}' belongs to the server itself"


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"mysql_faults": mysql_faults}
