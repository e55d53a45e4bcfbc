"""What the roles would write, rendered by their own tasks, and read by those that will have to.

One run of Ansible on this machine covers all cases. The roles' real tasks run with some actions
replaced: what service_config and guarded_config get is written down, packages installs nothing. The daemons that
judge the files are Debian's own, unpacked by tools/checker.
"""

from __future__ import annotations

import configparser
import datetime
import functools
import hashlib
import ipaddress
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from loading import ROLES, ROOT
from starting import start

MARK = "rendered from"
FACTS = {
    "distribution": "Debian",
    "distribution_release": "trixie",
    "distribution_version": "13",
    "service_mgr": "systemd",
    "virtualization_type": "kvm",
    "virtualization_role": "host",
    "memtotal_mb": 4096,
    "processor_vcpus": 2,
    "mounts": [{"mount": "/", "size_total": 20 * 2**30}],
}
BOOKWORM = {**FACTS, "distribution_release": "bookworm", "distribution_version": "12"}
SECRET = "a long enough secret"
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
HOSTILE = {
    "ALL": PRINTABLE,
    "BACKWARDS": PRINTABLE[::-1],
    "TWICE": "".join(character * 2 for character in PRINTABLE),
    "BACKSLASHES": "\\ \\\\ \\\\\\ \\n \\$ \\",
    "QUOTES": '"\'`"\'` "a" \'b\' "',
    "COMMENT": "# no comment ; none either",
    "EDGES": "  blanks at both ends  ",
    "EXPANDS": "$HOME ${HOME} $(id) `id` %n %% %h @(exec://id) {{ 1 + 1 }} {% raw %}",
    "UNICODE": "grüße € 🔑 \u00a0 end",
    "CONTINUES": "ends in a backslash \\",
    "EMPTY": "",
}
RECORDER = """
import json
from pathlib import Path
from ansible.plugins.action import ActionBase

def plain(value):
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

# What listeners would say.
HOST = {"sshd": True, "ssh_unit": "ssh.service", "ssh_ports": [22, 2222], "firewall": False, "undeclared": [], "in_use": [],
        "firewalls": [], "firewalls_begun": [], "firewalls_to_stay": [],
        "overruled": [], "belongs_to": "", "settings_differ": True, "rules": ""}

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        given = json.dumps(plain(self._task.args))
        recording = Path(self._templar.template(task_vars["recording"]))
        known = recording.read_text(encoding="utf-8").splitlines() if recording.exists() else []
        # Neither a question that was asked before, nor one whether a change would be refused.
        if given not in known and not self._task.args.get("look") and not self._task.action.endswith(("first_contact", "mysql_accounts")):
            with open(recording, "a", encoding="utf-8") as handle:
                handle.write(given + "\\n")
        log_beside = task_vars.get("log_lies_beside", True)
        return {"changed": False, "missing": plain(self._task.args).get("name", []), "log_beside": log_beside, **HOST}
"""
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SITES = [
    {
        "name": "www",
        "server_names": ["www.example.com", "Example.COM."],
        "default": True,
        "root": "/srv/www",
        "static": [
            {"url": "/static/", "path": "/srv/www/static", "max_age": 60, "immutable": True},
            {"url": "/robots.txt", "path": "/srv/www/robots.txt"},
        ],
        "locations": [
            {"path": "/", "kind": "uwsgi", "target": "unix:/run/foobar/live.sock"},
            {"path": "/api/", "kind": "proxy", "target": "http://127.0.0.1:8000/", "access": {"allow": ["10.0.0.0/8"]}},
            {"path": "/old", "match": "exact", "kind": "redirect", "target": "/new", "code": 308},
            {"path": r'^/a{2}"\d;', "match": "regex", "kind": "raw", "raw": "return 204;"},
        ],
        "header_size": "16k",
        "timeouts": {"read": 5, "client_read": 6, "client_send": 7},
        "error_pages": {404: "/srv/www/404.html"},
        "access": {"deny": ["192.0.2.1"]},
        "extra": 'set $a "}";',
    },
    {"name": "files", "server_names": ["files.example.com"], "root": "/srv/files"},
]
CERTIFICATES = "/etc/ssl/shop"
TLS_SITES = [
    {
        **SITES[0],
        "name": "shop",
        "server_names": ["shop.example.com"],
        "redirect_names": ["example.net", "*.example.net"],
        "default": "no",
        "certificate": "/etc/ssl/shop/fullchain.pem",
        "certificate_key": "/etc/ssl/shop/key.pem",
        "client_requests": 0,
    },
    {**SITES[1], "redirect_names": ["old.example.com"], "client_connections": 7, "client_requests": 9},
]
APPLICATION = {
    "app_server_name": "shop",
    "app_server_repository": "https://git.example.com/shop.git",
    "app_server_entry": "shop.wsgi:application",
}
APT_SOURCE = {
    "uris": ["https://repo.example.com/apt"],
    "suites": ["trixie"],
    "components": ["mysql-8.4-lts"],
    "signed_by": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----",
    "check_valid_until": False,
    "pin": "release n=trixie",
    "priority": 100,
}
DOOR = {f"database_proxy_{name}": f"/etc/ssl/{name}.pem" for name in ("certificate", "key", "authority")}
TLS = {f"mysql_tls_{name}": f"/etc/ssl/{name}.pem" for name in ("certificate", "key", "ca")}
ZONE: dict[str, Any] = {
    "dns_zone": "Example.COM.",
    "dns_nameservers": ["ns1.example.com", "ns.example.net"],
    "dns_contact": "first.last@example.net",
    "dns_records": [
        {"name": "ns1", "type": "A", "values": ["192.0.2.53"]},
        {"name": "@", "type": "A", "values": ["192.0.2.2", "192.0.2.1", "192.0.2.2"], "ttl": 60},
        {"name": "*.WWW.example.com", "type": "AAAA", "values": ["2001:DB8::0:1"]},
        {"name": "@", "type": "MX", "values": ["10 MX.example.net", "20 mx.example.org."]},
        {
            "name": "@",
            "type": "CAA",
            "values": ["0 issue ca.example.net", '128 iodef "mailto:a@example.com"', '0 issuewild ";"'],
        },
        {"name": "_sip._tcp", "type": "SRV", "values": ["10 5 5060 sip.example.net"]},
        {"name": "blog", "type": "CNAME", "values": ["www.example.net"]},
        {"name": "sub", "type": "NS", "values": ["ns.example.net"]},
    ],
}
TEXTS = [
    {"name": name.lower(), "type": "TXT", "values": [text, f"{text}{'x' * 300}"]} for name, text in HOSTILE.items()
]
# As a template may give them.
NUMBERS = {
    "app_server_threads": "1",
    "app_server_listen_backlog": "100",
    "app_server_request_seconds": "8",
    "app_server_migrate_seconds": "60",
    "app_server_worker_memory_mb": "64",
    "app_server_preload": "yes",
    "app_server_push": "no",
    "app_server_health_reports_release": "false",
    "app_server_processes": "3",
    "app_server_warm_seconds": "0",
    "app_server_version": 7,
    "app_server_shared": [5],
}
CHANGED_SETTINGS: dict[str, Any] = {
    "environment": {"A": "1"},
    "secrets": {"A": "a long enough secret"},
    "threads": 3,
    "preload": True,
    "writable_paths": ["/srv/media"],
    "readable_paths": ["/srv/pictures"],
    "socket_group": "adm",
    "groups": ["redis"],
}
# name: (role, the steps that write files, inputs)
CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "base": ("base", ["validate", "configure", "access"], {}),
    "base-container": (
        "base", ["configure"],
        {"ansible_facts": {**FACTS, "virtualization_type": "docker", "virtualization_role": "guest"}},
    ),
    "base-rebooting": (
        "base", ["validate", "configure"],
        {"base_reboot_time": "04:30", "base_core_dumps": "yes", "base_security_updates": "no", "base_journal_max_days": "1",
         "base_belongs_to": "web1 in inventory production",
         "base_sysctl": {"-kernel.kptr_restrict": 1, "net.ipv6.conf.*.accept_redirects": 1}},
    ),
    "base-open": (
        "base", ["validate", "access"],
        {"base_ssh_options": {"MaxAuthTries": 3, "AllowTcpForwarding": True, "HostKeyAlgorithms": "", "AllowUsers": ["a", "b"]},
         "base_idle_shell_seconds": "0", "base_ssh_root_login": "yes", "base_ssh_from": ["192.0.2.0/24", "2001:db8::/32"], "base_ssh_new_connections": 0,
         "base_firewall_open": [{"port": "80"}, {"port": 443, "protocol": "udp"}, {"port": 3306, "from": ["10.0.0.1"]}],
         "base_firewall_vrrp_from": ["192.0.2.2"]},
    ),
    "base-without-firewall": ("base", ["validate", "access"], {"base_firewall": "no"}),
    "nginx": ("nginx", ["validate", "configure"], {}),
    "nginx-full": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": SITES, "nginx_http2_port": 8082, "nginx_ipv6": False, "nginx_maintenance_allow": ["192.0.2.0/24", "2001:db8::/32"],
         "nginx_http_options": {"gzip": False, "map_hash_max_size": 4096}},
    ),
    "nginx-bookworm": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": SITES, "nginx_http2_port": 8082, "nginx_compress_pages": "no", "nginx_answer_seconds": "9",
         "nginx_headers": {"Content-Security-Policy": "default-src *"}, "ansible_facts": BOOKWORM},
    ),
    "nginx-tls": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": TLS_SITES, "nginx_http2_port": 8082, "nginx_http3": True, "nginx_challenge_root": "/srv/challenges",
         "nginx_headers": {"X-Frame-Options": "", "X-Shop": "it's; {open}"}},
    ),
    "nginx-tls-bookworm": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": TLS_SITES, "nginx_http_port": "80", "nginx_http2_port": "8082", "nginx_https_port": "8443",
         "nginx_tls_profile": "modern", "ansible_facts": BOOKWORM},
    ),
    "nginx-trusted": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": TLS_SITES, "nginx_http2_port": 8082, "nginx_trusted_proxies": ["10.0.0.0/8", "2001:db8::1"],
         "nginx_challenge_root": "/srv/challenges"},
    ),
    "nginx-behind-balancers": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": TLS_SITES, "nginx_http_port": 8080, "nginx_https_port": 8443, "nginx_trusted_proxies": ["10.0.0.0/8"],
         "nginx_proxy_protocol": "yes", "nginx_challenge_root": "/srv/challenges",
         "nginx_challenge_peers": ["10.0.0.12", "2001:db8::12"]},
    ),
    "nginx-hands-over": (
        "nginx", ["validate", "configure"],
        {"nginx_sites": TLS_SITES, "nginx_http_port": 8080, "nginx_https_port": 8443, "nginx_trusted_proxies": ["10.0.0.0/8"],
         "nginx_proxy_protocol": "yes", "nginx_hands_over_ports": "yes"},
    ),
    "mysql-cluster": (
        "mysql", ["configure"],
        {"mysql_cluster_nodes": [{"name": f"db{number}", "address": f"192.0.2.{number}"} for number in (1, 2, 3)],
         "mysql_cluster_address": "192.0.2.1", "mysql_cluster_name": "shop", "__mysql_grow": "grow alone", "mysql_cluster_incomplete": "yes",
         **{f"mysql_cluster_{name}": f"/etc/ssl/{name}.pem" for name in ("certificate", "key", "authority")}},
    ),
    "load_balancer": (
        "load_balancer", ["configure"],
        {"load_balancer_servers": [{"name": "web1", "address": "192.0.2.11"}, {"name": "web2", "address": "2001:db8::12"}],
         "load_balancer_sites": [{"name": "shop", "domains": ["www.example.com", "*.example.com"], "path": "/ready"}],
         "load_balancer_connections": "500", "load_balancer_virtual_addresses": ["192.0.2.10/24"],
         "load_balancer_address": "192.0.2.1", "load_balancer_peers": ["192.0.2.2"], "__load_balancer_host": {"interface": "eth0"}},
    ),
    "load_balancer-virtual": (
        "load_balancer", ["configure"],
        {"load_balancer_servers": [{"name": "web1", "address": "192.0.2.11"}], "load_balancer_ipv6": "no",
         "load_balancer_virtual_addresses": ["192.0.2.10/24", "2001:db8::10/64", "192.0.2.20/24", *(f"2001:db8::{number}/64" for number in range(11, 15))],
         "load_balancer_address": "192.0.2.2", "load_balancer_peers": ["192.0.2.1", "192.0.2.3"], "__load_balancer_host": {"interface": "eth0"}},
    ),
    "database_proxy": (
        "database_proxy", ["configure"],
        {"database_proxy_socket": "/run/database/writer.sock", "database_proxy_address": "2001:db8::21",
         "database_proxy_servers": [{"name": "db1", "address": "192.0.2.21"}], **DOOR},
    ),
    "database_proxy-door": (
        "database_proxy", ["configure"],
        {"database_proxy_address": "192.0.2.21", "database_proxy_status_port": "8196", "database_proxy_only_server": "yes", **DOOR},
    ),
    "certificate": (
        "certificate", ["validate", "install"],
        {"certificate_name": "shop", "certificate_names": ["shop.example.com"], "certificate_reload": ["nginx.service"]},
    ),
    "backup": (
        "backup", ["ship", "full"],
        {"backup_target": {"host": "192.0.2.9", "port": "2222", "key_file": str(ROOT / "LICENSE"), "host_key": "ssh-ed25519 AAAA"},
         "backup_passphrase": "only for a test"},
    ),
    "archive": ("archive", ["validate", "access"], {"archive_hosts": [{"name": "www.example.com", "key": PUBLIC_KEY}]}),
    "app": ("app_server", ["validate", "configure"], APPLICATION),
    "app-hostile": (
        "app_server", ["validate", "configure"],
        {**APPLICATION, "app_server_environment": HOSTILE, "app_server_secrets": {f"S_{k}": v + SECRET for k, v in HOSTILE.items()},
         "app_server_uwsgi_options": {"harakiri": 7, "env": "RATE=100%"}, "app_server_writable_paths": ["/srv/media"],
         "app_server_database_lock": True, "app_server_shared": ["media"], "app_server_shared_storage": True,
         "app_server_jobs": [{"name": "mails", "command": "python -m shop.mails", "once": False},
                             {"name": "tidy", "command": "python -m shop.tidy 'a \"$b\"; 5%'", "schedule": "*-*-* 03:30"}],
         "app_server_static_command": ["npm run 'a b'", "collect"], "app_server_migrate_command": "alembic upgrade head",
         "app_server_known_hosts": ["git.example.com ssh-ed25519 AAAA"]},
    ),
    "app-numbers": ("app_server", ["validate", "configure"], {**APPLICATION, **NUMBERS}),
    **{
        f"app-own-{name}": ("app_server", ["configure"], {**APPLICATION, "app_server_uwsgi_options": {name: 512}})
        for name in ("threads", "async", "reload-on-rss")
    },
    "app-perl": ("app_server", ["validate", "configure"], {**APPLICATION, "app_server_plugin": "psgi", "app_server_entry": "shop.psgi"}),
    "app-php": (
        "app_server", ["validate", "configure"],
        {**APPLICATION, "app_server_plugin": "php", "app_server_entry": "./shop.php", "app_server_threads": 4},
    ),
    **{
        f"app-php-{name}": ("app_server", ["configure"], {**APPLICATION, "app_server_plugin": "php", "app_server_entry": entry})
        for name, entry in {"folder": "./public/", "whole": "./"}.items()
    },
    # Each of what a slot reads when it starts, changed by itself.
    **{
        f"app-changed-{name}": ("app_server", ["configure"], {**APPLICATION, f"app_server_{name}": value})
        for name, value in CHANGED_SETTINGS.items()
    },
    "mariadb": ("mysql", ["validate", "install", "configure"], {}),
    "mariadb-bookworm": (
        "mysql", ["validate", "install", "configure"],
        {"mysql_options": {"innodb_io_capacity": 2000, "event_scheduler": True}, "ansible_facts": BOOKWORM},
    ),
    "mariadb-log-with-data": ("mysql", ["validate", "install", "configure"], {"log_lies_beside": False}),
    "mysql-log-with-data": (
        "mysql", ["validate", "install", "configure"],
        {"mysql_vendor": "mysql", "mysql_apt_source": APT_SOURCE, "mysql_listen_address": ["0.0.0.0"], **TLS, "log_lies_beside": False},
    ),
    "mariadb-acknowledged": (
        "mysql", ["validate", "install", "configure"],
        {"mysql_acknowledge_timeout_ms": 2000, "mysql_binlog_expires": "no"},
    ),
    "mysql-full": (
        "mysql", ["validate", "install", "configure"],
        {"mysql_vendor": "mysql", "mysql_apt_source": APT_SOURCE, "mysql_listen_address": ["0.0.0.0"], **TLS,
         "mysql_acknowledge_timeout_ms": 2000, "mysql_options": {"innodb_io_capacity": 2000, "event_scheduler": True}},
    ),
    "dns": ("dns", ["validate", "serve"], ZONE),
    "dns-hostile": ("dns", ["validate", "serve"], {**ZONE, "dns_records": ZONE["dns_records"] + TEXTS}),
    "dns-bookworm": (
        "dns", ["validate", "serve"],
        {**ZONE, "dns_dnssec": True, "dns_query_log": True, "dns_listen": ["127.0.0.1", "::"], "ansible_facts": BOOKWORM},
    ),
    "dns-update": (
        "dns", ["validate", "install", "serve"],
        {"dns_zone": "example.net", "dns_publish": "update", "dns_records": ZONE["dns_records"], "dns_primary": "192.0.2.53",
         "dns_tsig": {"name": "web", "secret": "bm90IHNlY3JldCwgYnV0IDMyIGJ5dGVzIGxvbmcuLi4="}},
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """For each case, what the modules were given: service_config's arguments, one after the other."""
    work = tmp_path_factory.mktemp("rendered")
    plugins = work / "collections/ansible_collections/foobar/webstack/plugins"
    (plugins / "action").mkdir(parents=True)
    for name in ("modules", "module_utils", "plugin_utils", "callback", "filter", "test"):
        (plugins / name).symlink_to(ROOT / "plugins" / name)
    (plugins / "action/validate_inputs.py").symlink_to(ROOT / "plugins/action/validate_inputs.py")
    for name in (
        "service_config",
        "guarded_config",
        "listeners",
        "first_contact",
        "packages",
        "app_preflight",
        "mysql_accounts",
        "virtual_addresses",
    ):
        (plugins / f"action/{name}.py").write_text(RECORDER, encoding="utf-8")
    plays = [
        {
            "name": case,
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {
                "recording": str(work / f"{case}.json"),
                "ansible_managed": f"{MARK} {{{{ template_path | basename }}}}",
                "ansible_facts": FACTS,
                **literal(inputs),
            },
            "tasks": [
                {"name": step, "ansible.builtin.include_role": {"name": role, "tasks_from": step}} for step in steps
            ],
        }
        for case, (role, steps, inputs) in CASES.items()
    ]
    (work / "play.yml").write_text(yaml.dump(plays, Dumper=Dumper, allow_unicode=True), encoding="utf-8")
    done = start(
        "ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", cwd=work,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_COLLECTIONS_PATH=str(work / "collections"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"), ANSIBLE_LOCALHOST_WARNING="false",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        case: [json.loads(line) for line in (work / f"{case}.json").read_text(encoding="utf-8").splitlines()]
        for case in CASES
    }


class Literal(str):
    """Text that Ansible must not take for a template, as from a vault."""


class Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(Literal, lambda dumper, text: dumper.represent_scalar("!unsafe", text, style='"'))


def literal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [literal(item) for item in value]
    return Literal(value) if isinstance(value, str) and re.search(r"{{|{%|{#", value) else value


@pytest.fixture(scope="session")
def files(rendered: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """For each case, every file by its path."""
    return {
        case: {item["path"]: item for args in calls for item in args.get("files", [])}
        for case, calls in rendered.items()
    }


def ini(text: str) -> configparser.RawConfigParser:
    """Read strictly: a name that stands twice is an error."""
    parser = configparser.RawConfigParser(allow_no_value=True, inline_comment_prefixes=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def all_files(files: dict[str, dict[str, dict[str, Any]]], pattern: str) -> list[tuple[str, str, str]]:
    """(case, path, text) of every file whose path matches; there is at least one."""
    found = [
        (case, path, item["content"])
        for case, known in files.items()
        for path, item in known.items()
        if re.search(pattern, path)
    ]
    assert found
    return found


# The daemons' own checkers


def suite(case: str) -> str:
    return "bookworm" if case.endswith("-bookworm") else "trixie"


@functools.cache
def certificate() -> dict[str, str]:
    """A certificate and its key, at the paths that sites name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {f"{CERTIFICATES}/fullchain.pem": made.decode(), f"{CERTIFICATES}/key.pem": secret.decode()}


def judged(case: str, command: list[str], texts: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Lets a daemon of the case's release judge files, which stand below `{root}`, as service_config stages them."""
    checker = [ROOT / "tools/checker", suite(case)]
    root = Path(subprocess.run(checker, capture_output=True, text=True, check=True).stdout.strip())
    with tempfile.TemporaryDirectory(dir=root / "tmp") as folder:
        for path, text in {**texts, **certificate()}.items():
            target = Path(folder, path.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace(CERTIFICATES, f"/tmp/{Path(folder).name}{CERTIFICATES}"), encoding="utf-8")
        stage = f"/tmp/{Path(folder).name}"
        argv = [part.replace("{root}", stage) for part in command]
        return subprocess.run([*checker, *argv], capture_output=True, text=True, check=False)


def checked(rendered: dict[str, list[dict[str, Any]]], case: str) -> tuple[list[str], dict[str, str]]:
    """The checker that a role calls, and the files that it is given."""
    (call,) = [call for call in rendered[case] if "check" in call]
    return call["check"], {item["path"]: item["content"] for item in call["files"]}


# Debian stable has no MySQL to ask, unpacked alone PHP is not found, HAProxy is not among the unpacked, and a node asks others; the scenarios have them.
ASKED = sorted(
    case
    for case, (role, _steps, _inputs) in CASES.items()
    if role not in ("base", "certificate", "backup", "archive", "load_balancer", "database_proxy")
    and case not in ("mysql-full", "mysql-log-with-data", "mysql-cluster", "dns-update")
    and not case.startswith("app-php")
    and "-changed-" not in case
)


@pytest.mark.parametrize("case", ASKED)
def test_the_daemon_takes_its_files(rendered, case):
    done = judged(case, *checked(rendered, case))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("case", "path", "words"),
    [
        ("nginx-full", "/etc/nginx/sites/www.conf", 'unknown directive "no_such_setting"'),
        ("nginx-bookworm", "/etc/nginx/sites/www.conf", 'unknown directive "no_such_setting"'),
        ("app", "/etc/shop/uwsgi.ini", "unknown config directive: no_such_setting"),
        ("mariadb", "/etc/mysql/webstack.cnf", "no_such_setting"),
        ("mariadb-bookworm", "/etc/mysql/webstack.cnf", "no_such_setting"),
        ("dns", "/etc/knot/knot.conf", "no_such_setting"),
        ("dns-bookworm", "/etc/knot/zones/example.com.zone", "line "),
    ],
)
def test_the_daemon_would_refuse_a_broken_file(rendered, case, path, words):
    """Guards the test above."""
    command, texts = checked(rendered, case)
    ending = "no_such_setting on;\n" if "nginx" in case else "no_such_setting = 1\n"
    done = judged(case, command, {**texts, path: texts[path] + ending})
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize("role", ["nginx", "dns"])
def test_logrotate_takes_its_file(files, role):
    texts = {path: text for _case, path, text in all_files({role: files[role]}, r"^/etc/logrotate\.d/")}
    (path,) = texts
    for case in (role, f"{role}-bookworm"):
        done = judged(case, ["logrotate", "--debug", f"{{root}}{path}"], texts)
        assert done.returncode == 0, done.stderr
        assert not re.search("error:|unknown", done.stderr), done.stderr
        broken = judged(
            case, ["logrotate", "--debug", f"{{root}}{path}"], {path: texts[path].replace("daily", "dayly")}
        )
        assert "unknown option 'dayly'" in broken.stderr, broken.stderr


# Whatever it is


def test_every_template_was_rendered(rendered):
    text = json.dumps(rendered)
    templates = {path.name for role in ROLES for path in (role / "templates").glob("*.j2")}
    without_mark = {"release.json.j2", "check.sh.j2", "sandbox.j2"}
    assert {name for name in templates - without_mark if f"{MARK} {name}" not in text} == set()


def test_a_file_says_at_its_top_where_it_comes_from(files):
    for _case, path, text in all_files(files, r"."):
        unmarked = (
            "release.json",
            "/webstack-release",
            "/mysql-log",
            "/etc/issue.net",
            "/etc/issue",
            "/etc/webstack/belongs-to",
            "/etc/webstack/version",
            "/etc/webstack-backup/key",
            "/etc/webstack-backup/passphrase",
            "/etc/webstack-backup/full.json",
            "/etc/webstack-backup/config.json",
            "/usr/local/sbin/webstack-backup",
            "/usr/local/sbin/webstack-balance",
            "/usr/local/lib/webstack/database-lock",
            "/usr/local/lib/webstack/haproxy-alive",
            "/usr/local/lib/webstack/mysql-node",
            "/etc/mysql/webstack-cluster.json",
            "/etc/webstack-archive/keep.json",
            ".py",
        )
        if path.endswith(unmarked):
            continue
        first = (
            text.split("\n")[1]
            if path.endswith(".html")
            else next(line for line in text.splitlines() if line.strip("#/*;- ") and not line.startswith("#!"))
        )
        assert MARK in first, path


def test_a_host_that_belongs_to_an_inventory_remembers_the_version_first_and_another_neither(files):
    kept = [path for path in files["base-rebooting"] if path in ("/etc/webstack/version", "/etc/webstack/belongs-to")]
    assert kept == ["/etc/webstack/version", "/etc/webstack/belongs-to"]
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert files["base-rebooting"]["/etc/webstack/version"]["content"] == galaxy["version"]
    assert not {"/etc/webstack/version", "/etc/webstack/belongs-to"} & set(files["base"])


def test_nothing_of_the_template_language_is_left(files):
    for case, path, text in all_files(files, r"."):
        if not case.endswith("-hostile") and "/usr/local/" not in path and not path.endswith(".py"):
            assert not re.search(r"{{|}}|{%|%}|\bNone\b|\bUndefined\b", re.sub(r"^.*\{2\}.*$", "", text, flags=re.M)), (
                path,
                text,
            )


def test_files_with_secrets_are_readable_for_root_alone(files):
    for path in ("/etc/shop/secrets", "/etc/shop/environment"):
        assert files["app-hostile"][path]["mode"] == "0600"


def test_a_number_is_written_as_one_however_it_was_given(files):
    options = ini(files["app-numbers"]["/etc/shop/uwsgi.ini"]["content"])["uwsgi"]
    names = ("threads", "listen", "harakiri", "worker-reload-mercy")
    assert [options[name] for name in names] == ["1", "100", "8", "8"]
    release = ini(files["app-numbers"]["/etc/shop/uwsgi.ini"]["content"])["release"]
    assert release["set-placeholder"] == "worker-memory-mb=64"
    assert "\nLimitDATA=136M\n" in files["app-numbers"]["/etc/systemd/system/shop@.service"]["content"]
    told = json.loads(files["app-numbers"]["/etc/shop/release.json"]["content"])
    assert (told["migrate_seconds"], told["preload"], told["worker_data_mb"], options["lazy-apps"]) == (
        60,
        True,
        136,
        "false",
    )
    php = files["app-php"]
    options = ini(php["/etc/shop/uwsgi.ini"]["content"])["uwsgi"]
    assert (options["threads"], options["reload-on-rss"]) == ("1", "256")
    assert "\nLimitDATA=520M\n" in php["/etc/systemd/system/shop@.service"]["content"]
    journal = ini(files["base-rebooting"]["/etc/systemd/journald.conf.d/webstack.conf"]["content"])["Journal"]
    assert journal["MaxRetentionSec"] == "1day"
    text = files["nginx-tls-bookworm"]["/etc/nginx/sites/shop.conf"]["content"]
    listened = re.findall(r"^ *listen (?:\[::\]:)?([^;]*);", text, re.MULTILINE)
    assert {listen.removesuffix(" default_server") for listen in listened} == {"80", "8082 http2", "8443 ssl http2"}
    assert "return 301 https://$host:8443$request_uri;" in text


def test_a_script_of_php_is_run_for_every_request_or_each_of_a_folder_by_its_path(files):
    release = "/srv/shop/releases/$(RELEASE)"
    told = {
        case: ini(files[case]["/etc/shop/uwsgi.ini"]["content"])["release"]
        for case in ("app-php", "app-php-folder", "app-php-whole")
    }
    alone, folder, whole = told.values()
    assert (alone["php-docroot"], alone["php-app"]) == (release, f"{release}/shop.php") and "php-fallback" not in alone
    assert (folder["php-docroot"], folder["php-fallback"]) == (f"{release}/public", f"{release}/public/index.php")
    assert (whole["php-docroot"], whole["php-fallback"]) == (release, f"{release}/index.php")
    for section in (folder, whole):
        assert "php-app" not in section and section["php-allowed-docroot"] == section["php-docroot"]


@pytest.mark.parametrize(
    ("case", "who", "limit"),
    [("app", "worker", None), ("app-numbers", "worker", None), ("app-changed-threads", "uwsgi", "256"),
     ("app-own-threads", "uwsgi", "256"), ("app-own-async", "uwsgi", "256"), ("app-own-reload-on-rss", "uwsgi", "512"),
     ("app-perl", "uwsgi", "256"), ("app-php", "uwsgi", "256")],
)  # fmt: skip
def test_one_looks_at_a_workers_memory_and_it_can_end_that_worker(files, case, who, limit):
    sections = ini(files[case]["/etc/shop/uwsgi.ini"]["content"])
    assert ("python-import" in sections["release"]) == (who == "worker")
    assert sections["uwsgi"].get("reload-on-rss") == limit


# systemd


def environment_file(text: str) -> dict[str, str]:
    """A model of how systemd reads an EnvironmentFile (its src/basic/env-file.c)."""
    result: dict[str, str] = {}
    key, value, state, quote = "", "", "start", ""
    for character in text + "\n":
        if state == "comment":
            state = "start" if character == "\n" else "comment"
        elif state == "start":
            if character in "#;":
                state = "comment"
            elif not character.isspace():
                key, state = character, "key"
        elif state == "key":
            if character == "=":
                value, state = "", "before value"
            elif character == "\n":
                raise AssertionError(f"no value: {key}")
            else:
                key += character
        elif state == "quoted":
            if character == quote:
                state = "value"
            elif character == "\\" and quote == '"':
                state = "escaped"
            else:
                value += character
        elif state == "escaped":
            if character != "\n":  # an escaped line break continues the line
                value += character if character in '"\\`$' else f"\\{character}"
            state = "quoted"
        elif character == "\n":
            result[key.strip()], state = value.rstrip() if state == "bare" else value, "start"
        elif character in "\"'" and state in ("before value", "value"):
            quote, state = character, "quoted"
        elif not character.isspace():
            assert character != "\\", "not written by the role"
            value, state = value + character, "bare"
    assert state == "start"
    return result


def test_the_model_reads_what_systemds_manual_shows():
    text = '# comment\n;comment\nA=b\nB="c d"\nC=\'e $f\'\nD="\\$x \\\\ \\" \\n"\nE=""\n\nF="a\\\nb"\n'
    assert environment_file(text) == {"A": "b", "B": "c d", "C": "e $f", "D": '$x \\ " \\n', "E": "", "F": "ab"}


def test_every_character_reaches_the_application_as_it_was_declared(files):
    known = files["app-hostile"]
    assert environment_file(known["/etc/shop/environment"]["content"]) == HOSTILE
    assert environment_file(known["/etc/shop/secrets"]["content"]) == {f"S_{k}": v + SECRET for k, v in HOSTILE.items()}


def test_a_variable_is_one_line(files):
    lines = files["app-hostile"]["/etc/shop/environment"]["content"].strip().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == len(HOSTILE)


def test_systemd_takes_every_unit_and_drop_in(files, tmp_path):
    """Of a program that is not on this machine it complains, which is no fault of the unit's."""
    stock = "[Unit]\nDescription=Stock\n[Service]\nExecStart=/bin/true\n"
    for case, known in files.items():
        folder = tmp_path / case
        units = set()
        for path, item in known.items():
            if not path.startswith("/etc/systemd/system/"):
                continue
            target = folder / Path(path).relative_to("/etc/systemd/system")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(item["content"], encoding="utf-8")
            if target.parent != folder:  # a drop-in, for a unit of the distribution
                units.add(target.parent.name.removesuffix(".d"))
                (folder / target.parent.name.removesuffix(".d")).write_text(stock, encoding="utf-8")
            else:
                units.add(target.name.replace("@.", "@blue."))
        if not units:
            continue
        environment = {
            **os.environ,
            "SYSTEMD_UNIT_PATH": f"{folder}:",
            "SYSTEMD_LOG_LEVEL": "warning",
            "SYSTEMD_COLORS": "0",
        }
        argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *sorted(units)]
        done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        mine = [line for line in done.stderr.splitlines() if str(folder) in line or any(unit in line for unit in units)]
        assert [line for line in mine if "is not executable" not in line] == [], done.stderr


def test_a_mistake_in_a_unit_would_be_found(files, tmp_path):
    """Guards the test above: systemd-analyze runs here, and says so when it does not like a unit."""
    text = files["app"]["/etc/systemd/system/shop@.service"]["content"]
    (tmp_path / "shop@.service").write_text(text.replace("ProtectHome=", "ProtectHomes="), encoding="utf-8")
    argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", "shop@blue.service"]
    done = subprocess.run(
        argv,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ProtectHomes" in done.stderr


def test_what_must_be_there_before_a_slot_starts_is_made(files):
    for case, _path, text in all_files(files, r"^/etc/tmpfiles\.d/"):
        lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
        assert {line[0] for line in lines} == {"d", "L+"}, case
        assert all(len(line) == (5 if line[0] == "d" else 7) for line in lines), case


def test_the_journal_has_its_bounds(files):
    journal = ini(files["base"]["/etc/systemd/journald.conf.d/webstack.conf"]["content"])["Journal"]
    assert (journal["SystemMaxUse"], journal["MaxRetentionSec"]) == ("500M", "30day")


# The application


def test_uwsgis_file_is_strict_and_names_each_option_once(files):
    for case, _path, text in all_files(files, r"/uwsgi\.ini$"):
        options = ini(text)["uwsgi"]
        assert options["strict"] == "true", case
        assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in options), case


def test_a_rare_option_of_uwsgi_wins_and_stands_once(files):
    options = ini(files["app-hostile"]["/etc/shop/uwsgi.ini"]["content"])["uwsgi"]
    assert options["harakiri"] == "7"
    assert options["env"] == "RATE=100%%"


def test_a_change_of_whatever_a_slot_reads_is_a_change_of_its_settings(files):
    digests = [
        json.loads(files[case]["/etc/shop/release.json"]["content"])["settings"]
        for case in ("app", *(f"app-changed-{name}" for name in CHANGED_SETTINGS))
    ]
    assert len(set(digests)) == 1 + len(CHANGED_SETTINGS)


def test_nothing_of_a_release_runs_as_root(files):
    units = [text for _case, path, text in all_files(files, r"(@|-job-[a-z]+)\.service$") if "/shop" in path]
    assert len(units) > 3
    for text in units:
        assert "User=shop\nGroup=shop\n" in text


def test_what_a_template_or_the_command_line_gives_as_text_counts_as_what_it_says(files):
    """And what YAML reads as a number, where a text is meant, as that text."""
    release = json.loads(files["app-numbers"]["/etc/shop/release.json"]["content"])
    known = {
        **json.loads(files["app"]["/etc/shop/release.json"]["content"]),
        "push": False,
        "health_reports_release": False,
    }
    assert (release["preload"], release["push"], release["health_reports_release"]) == (True, False, False)
    assert (release["version"], release["shared"], release["warm_seconds"]) == ("7", ["5"], 0)
    assert {key: type(value) for key, value in release.items()} == {key: type(value) for key, value in known.items()}
    assert "processes = 3\n" in files["app-numbers"]["/etc/shop/uwsgi.ini"]["content"]


def test_commands_reach_the_host_as_they_were_meant(files):
    release = json.loads(files["app-hostile"]["/etc/shop/release.json"]["content"])
    assert release["static_command"] == ["npm run 'a b'", "collect"]
    assert release["migrate_command"] == ["alembic upgrade head"] and release["notify_command"] == []
    job = files["app-hostile"]["/etc/shop/jobs/shop-job-tidy.service"]["content"]
    assert ' python -m shop.tidy "a \\"$$b\\"; 5%%"\n' in job


def test_of_several_hosts_one_runs_a_job_unless_it_is_for_each(files):
    tidy, timer, mails = (
        files["app-hostile"][f"/etc/shop/jobs/shop-job-{it}"]["content"]
        for it in ("tidy.service", "tidy.timer", "mails.service")
    )
    assert (
        " /usr/local/lib/webstack/database-lock try shop-job-tidy python -m " in tidy and "database-lock" not in mails
    )
    assert "Persistent" not in timer and "AccuracySec=1s\n" in timer
    for unit in (tidy, mails, files["app-hostile"]["/etc/systemd/system/shop@.service"]["content"]):
        assert "AssertPathIsMountPoint=/srv/shop/shared\n" in unit


TOOL = ROOT / "roles/app_server/files/webstack_release"


def test_the_release_tool_finds_every_setting_that_it_reads(files):
    tool = "".join(path.read_text(encoding="utf-8") for path in TOOL.glob("*.py"))
    read = set(re.findall(r"""config\[["'](\w+)["']\]""", tool))
    for case in ("app", "app-hostile", "app-perl"):
        assert set(json.loads(files[case]["/etc/shop/release.json"]["content"])) == read
    assert json.loads(files["app-perl"]["/etc/shop/release.json"]["content"])["modifier"] == 5


def test_the_release_tool_is_installed_as_it_stands_in_the_role(files):
    parts = {f"/usr/local/lib/webstack/webstack_release/{path.name}": path for path in TOOL.glob("*.py")}
    parts["/usr/local/sbin/webstack-release"] = TOOL.parent / "webstack-release"
    parts["/etc/shop/worker_memory.py"] = TOOL.parent / "worker_memory.py"
    for name, path in parts.items():
        assert files["app"][name]["content"].strip() == path.read_text(encoding="utf-8").strip()
    assert files["app"]["/usr/local/sbin/webstack-release"]["mode"] == "0755"


# nginx


def nginx_directives(text: str) -> list[tuple[int, list[str]]]:
    """(depth, words) of each directive, by nginx's rules for quotes, comments, braces and semicolons."""
    found: list[tuple[int, list[str]]] = []
    words: list[str] = []
    depth = 0
    for token in re.findall(
        r"""\s+|#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|(?:\\.|[^\s;{}"'\\]|(?<=\S)\{\d)+""", text
    ):
        if not token.strip() or (token.startswith("#")):
            continue
        if token not in "{};":
            words.append(token)
            continue
        assert bool(words) == (token != "}"), f"unexpected {token} after {found[-1:]}"
        if words:
            found.append((depth, words))
        depth += {"{": 1, "}": -1, ";": 0}[token]
        words = []
        assert depth >= 0, "a brace too many"
    assert not words, f"no semicolon after {words}"
    assert depth == 0, "a brace is missing"
    return found


@pytest.mark.parametrize("text", ["a b", "a { b; ", "a; }", "a ; ;", "{ a; }"])
def test_a_broken_configuration_of_nginx_would_be_found(text):
    with pytest.raises(AssertionError):
        nginx_directives(text)


def test_nginx_finds_its_files_in_form_and_all_that_they_include(files):
    for case in ("nginx", "nginx-full"):
        known = {
            path: item["content"]
            for path, item in files[case].items()
            if path.startswith("/etc/nginx/") and "/pages/" not in path
        }
        for path, text in known.items():
            for _depth, words in nginx_directives(text):
                if words[0] == "include" and not words[1].startswith("/"):
                    pattern = re.escape(f"/etc/nginx/{words[1]}").replace(r"\*", "[^/]*")
                    wanted = [other for other in known if re.fullmatch(pattern, other)]
                    assert wanted or (case == "nginx" and words[1] == "sites/*.conf"), f"{path} includes {words[1]}"


def test_a_site_of_nginx_is_one_server_of_its_own(files):
    known = files["nginx-full"]
    directives = nginx_directives(known["/etc/nginx/sites/www.conf"]["content"])
    assert [words[0] for depth, words in directives if depth == 0] == ["limit_req_zone", "server"]
    assert ["server_name", "www.example.com", "example.com"] in [words for _depth, words in directives]
    assert "default_server" in known["/etc/nginx/sites/www.conf"]["content"]
    assert "return 444" not in known["/etc/nginx/nginx.conf"]["content"]
    assert "return 444" in files["nginx"]["/etc/nginx/nginx.conf"]["content"]


def test_a_site_with_a_certificate_is_reached_in_one_step(files):
    directives = nginx_directives(files["nginx-tls"]["/etc/nginx/sites/shop.conf"]["content"])
    words = [words for _depth, words in directives]
    assert [line[1:] for line in words if line[0] == "server_name"] == [
        ["example.net", "*.example.net"], ["shop.example.com"], ["shop.example.com"],
    ]  # fmt: skip
    assert [line[2] for line in words if line[:2] == ["return", "301"]] == [
        "https://shop.example.com$request_uri", "https://$host$request_uri",
    ]  # fmt: skip
    assert ["root", "/srv/challenges"] in words
    plain = files["nginx-tls"]["/etc/nginx/sites/files.conf"]["content"]
    assert "return 301 $visited_scheme://files.example.com$visited_port$request_uri" in plain
    assert "ssl" not in plain
    assert (
        "return 301 https://$host:8443$request_uri"
        in files["nginx-tls-bookworm"]["/etc/nginx/sites/shop.conf"]["content"]
    )


def test_a_name_without_a_site_gets_no_certificate(files):
    for case in ("nginx-tls", "nginx-tls-bookworm"):
        # One over HTTP, one over HTTPS.
        assert files[case]["/etc/nginx/nginx.conf"]["content"].count("return 444;") == 2
    for case, refused in (("nginx", False), ("nginx-tls", True), ("nginx-tls-bookworm", True)):
        assert ("ssl_reject_handshake on" in files[case]["/etc/nginx/nginx.conf"]["content"]) == refused


def test_each_debian_speaks_http_2_and_3_in_its_own_words(files):
    new, old = (files[case]["/etc/nginx/sites/shop.conf"]["content"] for case in ("nginx-tls", "nginx-tls-bookworm"))
    assert "listen 443 ssl;" in new and "listen 443 quic;" in new and "http2 on;" in new
    assert "listen 8443 ssl http2;" in old and "http2 on;" not in old
    assert "MLKEM" in files["nginx-tls"]["/etc/nginx/nginx.conf"]["content"]
    assert "MLKEM" not in files["nginx-tls-bookworm"]["/etc/nginx/nginx.conf"]["content"]


def test_limits_are_those_of_the_site_or_else_the_roles(files):
    shop, plain = (files["nginx-tls"][f"/etc/nginx/sites/{name}.conf"]["content"] for name in ("shop", "files"))
    assert "limit_conn client_connections 200;" in shop and "limit_req" not in shop
    assert "limit_conn client_connections 7;" in plain and "rate=9r/s" in plain and "burst=18" in plain


def test_how_long_a_site_waits_stands_in_its_own_server(files):
    words = [words for _depth, words in nginx_directives(files["nginx-full"]["/etc/nginx/sites/www.conf"]["content"])]
    assert sorted(line for line in words if "timeout" in line[0] or "header_buffers" in line[0]) == [
        ["client_body_timeout", "6s"], ["large_client_header_buffers", "4", "16k"], ["proxy_read_timeout", "5s"],
        ["send_timeout", "7s"], ["uwsgi_read_timeout", "5s"],
    ]  # fmt: skip


def http_level(files: dict[str, dict[str, dict[str, Any]]], case: str) -> list[list[str]]:
    return [words for _depth, words in nginx_directives(files[case]["/etc/nginx/nginx.conf"]["content"])]


@pytest.mark.parametrize(("case", "seconds"), [("nginx", "20s"), ("nginx-bookworm", "9s")])
def test_no_visitor_waits_for_an_application_without_end(files, case, seconds):
    for name in ("uwsgi_read_timeout", "proxy_read_timeout"):
        assert [name, seconds] in http_level(files, case)


def test_late_answers_have_the_page_that_the_site_gives_them(files):
    words = [words for _depth, words in nginx_directives(files["nginx-full"]["/etc/nginx/sites/www.conf"]["content"])]
    pages = [line[1:] for line in words if line[0] == "error_page"]
    assert ["504", "=", "@late"] in pages and ["503", "504", "/.error/500.html"] in pages
    assert ["500", "502", "503", "/.error/500.html"] in pages


def test_pages_are_packed_unless_that_is_declined_and_files_always(files):
    for case, declined in (("nginx-full", 0), ("nginx-bookworm", 2)):  # an application and a proxied server
        assert files[case]["/etc/nginx/sites/www.conf"]["content"].count("gzip off;") == declined
    assert ["gzip", "on"] in http_level(files, "nginx-bookworm")


def test_browsers_are_told_to_keep_to_https_for_names_that_are_the_sites_alone(files):
    text = files["nginx-tls"]["/etc/nginx/nginx.conf"]["content"]
    (pattern,) = re.findall(r'"~(\^on:.*)" on;', text)
    for host, strictly in (
        ("www.example.com", True),
        ("localhost.example.com", True),
        ("localhost", False),
        ("a.localhost", False),
    ):
        assert bool(re.match(pattern, f"on:{host}")) == strictly, host
    assert 'map "$visited_strictly:$upstream_http_strict_transport_security"' in text


def test_a_wider_content_policy_goes_without_the_embedder_policy(files):
    """Else a page could not show what that policy lets it show."""
    for case, sent in (("nginx", "require-corp"), ("nginx-bookworm", "")):
        text = files[case]["/etc/nginx/nginx.conf"]["content"]
        assert f'$header_cross_origin_embedder_policy {{ "on:" "{sent}";' in text


def test_a_proxy_that_has_ended_tls_is_served_and_not_led_elsewhere(files):
    for case in ("nginx-tls", "nginx-tls-bookworm"):
        text = files[case]["/etc/nginx/sites/shop.conf"]["content"]
        servers = [part for part in text.split("\nserver {") if "server_name shop.example.com;" in part]
        assert ["listen 8082" in server for server in servers] == [False, True]
        assert ["return 301" in server.partition("location = /old")[0] for server in servers] == [True, False]


def open_under_maintenance(text: str) -> list[str]:
    """The paths that each server of a site leaves open."""
    return [words[3].strip('"') for _depth, words in nginx_directives(text) if words[:3] == ["if", "($uri", "~"]]


def test_behind_balancers_a_visitors_own_headers_say_nothing(files):
    case = files["nginx-behind-balancers"]
    main, site = case["/etc/nginx/nginx.conf"]["content"], case["/etc/nginx/sites/shop.conf"]["content"]
    assert "set_real_ip_from 10.0.0.0/8;" in main
    assert "real_ip_header proxy_protocol;" in main
    assert "x_forwarded_proto" not in main
    listening = re.findall(r"listen (.*);", main + site)
    assert listening and all("proxy_protocol" in line for line in listening if "8096" not in line)
    assert "return 301 https://$host$request_uri;" in site


def test_while_ports_are_handed_over_visitors_are_served_there_by_sockets_that_two_can_have(files):
    case = files["nginx-hands-over"]
    listening = re.findall(
        r"listen (.*);", "".join(case[f"/etc/nginx/{name}"]["content"] for name in ("nginx.conf", "sites/shop.conf"))
    )
    for address, tls in {"80": "", "[::]:80": "", "443": " ssl", "[::]:443": " ssl"}.items():
        there = [line for line in listening if line.split()[0] == address]
        # A second one with options of the socket would be refused by nginx.
        assert [line for line in there if "reuseport" in line] == [f"{address}{tls} default_server reuseport"]
        assert len(there) > 1 and not any("proxy_protocol" in line for line in there)
    assert not any("reuseport" in line for line in listening if "proxy_protocol" in line)


def test_each_site_is_asked_on_every_server_and_found_by_its_names(files):
    text = files["load_balancer"]["/etc/haproxy/haproxy.cfg"]["content"]
    assert "use_backend shop if { req.ssl_sni -i www.example.com } { nbsrv(shop) gt 0 }" in text
    assert "use_backend shop if { req.ssl_sni -m end -i .example.com } { nbsrv(shop) gt 0 }" in text
    for server in ("web1 192.0.2.11", "web2 2001:db8::12"):
        assert f"server {server}:8443 check-ssl check-sni www.example.com verify none" in text
    assert "bind [::]:443 v6only" in text
    assert "bind [" not in files["load_balancer-virtual"]["/etc/haproxy/haproxy.cfg"]["content"]


def test_virtual_addresses_of_both_families_move_together(files):
    text = files["load_balancer-virtual"]["/etc/keepalived/keepalived.conf"]["content"]
    inside = {name: body.split() for name, body in re.findall(r"(\w+) \{([^{}]*)\}", text)}
    assert inside["virtual_ipaddress"] == ["192.0.2.10/24", "192.0.2.20/24"]
    assert inside["virtual_ipaddress_excluded"] == [f"2001:db8::{number}/64" for number in range(10, 15)]
    assert inside["unicast_peer"] == ["192.0.2.1", "192.0.2.3"]
    leave = files["load_balancer-virtual"]["/usr/local/lib/webstack/leave-addresses"]["content"]
    assert "ip daddr { 192.0.2.10, 192.0.2.20 } tcp" in leave
    assert f"ip6 daddr {{ {', '.join(f'2001:db8::{number}' for number in range(10, 15))} }} tcp" in leave


def test_no_two_balancers_take_the_addresses_in_the_same_moment(files):
    ranks = [
        re.search(r"priority (\d+)", files[case]["/etc/keepalived/keepalived.conf"]["content"])[1]
        for case in ("load_balancer", "load_balancer-virtual")
    ]
    assert ranks == ["200", "150"], "the first of two, and the second of three"


def test_a_host_has_the_end_of_the_way_to_the_database_that_it_needs(files):
    both, door = (
        files[case]["/etc/database-proxy/haproxy.cfg"]["content"] for case in ("database_proxy", "database_proxy-door")
    )
    assert "bind 2001:db8::21:3307 ssl crt host.pem ca-file /etc/ssl/authority.pem verify required" in both
    assert "server db1 192.0.2.21:3307 ssl crt host.pem" in both
    assert "listen writer" not in door and "tcp-request content lua.hold_local" in door


def test_the_way_to_the_database_is_sandboxed(files, tmp_path):
    unit = tmp_path / "database-proxy.service"
    unit.write_text(files["database_proxy"]["/etc/systemd/system/database-proxy.service"]["content"], encoding="utf-8")
    argv = ["systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=30", unit]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_under_maintenance_static_files_stay_open_and_nothing_else(files):
    text = files["nginx-full"]["/etc/nginx/sites/www.conf"]["content"]
    pattern, closed = open_under_maintenance(text)
    for path in ("/static/a/b.css", "/robots.txt", "/.well-known/acme-challenge/x", "/.error/404.html"):
        assert re.match(pattern.replace(r"\z", r"\Z"), path), path
    for path in ("/", "/static", "/robots.txt\n", "/robotsxtxt", "/robots.txt/x", "/x/static/a", "/api/", "/old"):
        assert not re.match(pattern.replace(r"\z", r"\Z"), path), path
    # A regular expression, such as that for scripts of PHP, wins over a folder of files; so it is closed again behind it.
    assert closed == r"^/a{2}\"\\d;"
    close = [
        words for _depth, words in nginx_directives(text) if words[0] in ("if", "set") and "maintenance" in str(words)
    ]
    assert [words[-1] for words in close[:2]] == ["/var/lib/webstack/maintenance/www", '""']
    assert close[2][-1] == "/var/lib/webstack/maintenance/www" and close[3][1] == "($maintenance_guest)"


def test_each_site_has_a_switch_of_its_own_and_https_the_only_check(files):
    plain, secured = (files["nginx-tls"][f"/etc/nginx/sites/{name}.conf"]["content"] for name in ("files", "shop"))
    for name, text in (("files", plain), ("shop", secured)):
        assert [words for _depth, words in nginx_directives(text) if words[:2] == ["if", "(-f"]] == [
            ["if", "(-f", "$maintenance)"]
        ]
        assert f"set $maintenance /var/lib/webstack/maintenance/{name};" in text


def test_who_sees_a_site_under_maintenance_is_the_host_and_those_declared(files):
    for case, declared in (("nginx", []), ("nginx-full", [["192.0.2.0/24", "1"], ["2001:db8::/32", "1"]])):
        directives = [words for _depth, words in nginx_directives(files[case]["/etc/nginx/nginx.conf"]["content"])]
        begin = directives.index(["geo", "$maintenance_guest"])
        found = [words for words in directives[begin + 1 :] if words[-1] == "1" and len(words) == 2]
        assert found == [["127.0.0.0/8", "1"], ["::1", "1"], *declared]


def test_nginx_can_tell_which_files_it_has_loaded(files, rendered):
    for case in ("nginx", "nginx-full"):
        (call,) = [call for call in rendered[case] if call.get("unit") == "nginx.service"]
        assert re.fullmatch(r"[0-9a-f]{64}", call["confirm"]["text"])
        assert call["confirm"]["text"] in files[case]["/etc/nginx/status.conf"]["content"]
    assert (
        len(
            {
                call["confirm"]["text"]
                for case in ("nginx", "nginx-full")
                for call in rendered[case]
                if "confirm" in call
            }
        )
        == 2
    )


# The database


def test_the_server_reads_each_of_its_options_once(files):
    plain = ini(files["mariadb"]["/etc/mysql/webstack.cnf"]["content"])["mysqld"]
    assert plain["skip_networking"] == "ON"
    full = ini(files["mysql-full"]["/etc/mysql/webstack.cnf"]["content"])["mysqld"]
    assert (full["require_secure_transport"], full["bind_address"]) == ("ON", "0.0.0.0")
    assert (full["event_scheduler"], full["innodb_io_capacity"]) == ("ON", "2000")


# SHA-256 of what was written before the log of new servers lay beside their data: webstack.cnf, the drop-in.
OF_BEFORE = {
    "mariadb-log-with-data": (
        "9b5d4dba0baff282b2847b3dcf8bc20bd7506c8b8c675575c5eeab939f650e31",
        "bcdf11312cfb9071b0fb4944cb24ff74a23f5bd9b3b88ee346a5ef50c8a1933d",
    ),
    "mysql-log-with-data": (
        "32d448bfe541a94c04e8f8f49d6e467cd97a8de82896c0aba84c593d8e007a53",
        "263aeb96fa0f9b1dc39b4b59b0467677e4c8356c01ce16e2c9cccaa513b9a9c8",
    ),
}


@pytest.mark.parametrize("case", OF_BEFORE)
def test_a_server_whose_log_lies_with_its_data_keeps_its_files_and_is_not_restarted(files, case):
    unit = case.partition("-")[0]
    paths = ("/etc/mysql/webstack.cnf", f"/etc/systemd/system/{unit}.service.d/webstack.conf")
    assert set(files[case]) - set(paths) <= {path for path in files[case] if path.startswith("/etc/apt/")}
    digests = (hashlib.sha256(files[case][path]["content"].encode()).hexdigest() for path in paths)
    assert tuple(digests) == OF_BEFORE[case]


def test_where_the_log_lies_is_said_in_one_file_with_what_it_needs_there(files):
    """As one file, it is of a moment: a host that is killed between two has a log at one place or the other."""
    for case, unit in (("mariadb", "mariadb"), ("mysql-full", "mysql")):
        drop_in = files[case][f"/etc/systemd/system/{unit}.service.d/webstack.conf"]["content"]
        assert " --log-bin=/var/lib/mysql-binlog/binlog\n" in drop_in
        assert "StateDirectory=mysql-files mysql-binlog\n" in drop_in
        assert "ExecStartPre=+/usr/local/lib/webstack/mysql-log before\n" in drop_in
        assert "log_bin" not in ini(files[case]["/etc/mysql/webstack.cnf"]["content"])["mysqld"]
        # The tool is there before the unit that runs it, and none of its changes is worth a restart.
        tool, *_others = (path for path in files[case] if not path.startswith("/etc/apt/"))
        assert (tool, files[case][tool]["apply"]) == ("/usr/local/lib/webstack/mysql-log", "none")


def test_the_server_that_mysqls_package_starts_has_the_same_log(files):
    path = "/etc/mysql/mysql.conf.d/webstack-log.cnf"
    assert ini(files["mysql-full"][path]["content"])["mysqld"]["log_bin"] == "/var/lib/mysql-binlog/binlog"
    # After the drop-in: before, the log lies with the data.
    assert list(files["mysql-full"])[-1] == path and files["mysql-full"][path]["apply"] == "none"
    assert not [case for case in ("mariadb", "mysql-log-with-data") if path in files[case]]


def test_commits_wait_for_another_machine_where_they_are_to(files):
    settings = {
        case: ini(files[case]["/etc/mysql/webstack.cnf"]["content"])["mysqld"] for case in files if case.startswith("m")
    }
    for case, side in (("mariadb-acknowledged", "master"), ("mysql-full", "source")):
        found = {name: value for name, value in settings[case].items() if name.startswith("rpl_semi_sync_")}
        assert found == {
            f"rpl_semi_sync_{side}_{name}": value
            for name, value in {"enabled": "ON", "timeout": "2000", "wait_point": "AFTER_SYNC"}.items()
        }
    assert not [name for name in settings["mariadb"] if "semi" in name]
    assert settings["mariadb-acknowledged"]["binlog_expire_logs_seconds"] == "0"
    assert settings["mariadb"]["binlog_expire_logs_seconds"] == "604800"


def test_a_package_source_is_one_stanza_whose_key_is_folded_as_it_must_be(files):
    text = files["mysql-full"]["/etc/apt/sources.list.d/webstack-mysql.sources"]["content"]
    lines = [line for line in text.rstrip("\n").splitlines() if not line.startswith("#")]
    assert all(re.match(r"[A-Z][A-Za-z-]+:|\s\S", line) for line in lines), text
    assert " ." in lines, "an empty line within a field"
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    assert fields == {
        "Types": "deb", "URIs": "https://repo.example.com/apt", "Suites": "trixie", "Components": "mysql-8.4-lts",
        "Check-Valid-Until": "no",
    }  # fmt: skip


def test_the_trial_of_the_servers_files_is_a_shell_script(rendered):
    for case in ("mariadb", "mysql-full"):
        (check,) = [call["check"] for call in rendered[case] if "check" in call]
        assert check[:2] == ["sh", "-euc"]
        done = subprocess.run(["sh", "-n", "-c", check[2]], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("found", "code"), [("/var/lib/mysql/", 0), ("/data/mysql/", 1)])
def test_a_server_with_its_data_elsewhere_is_not_led_away_from_them(rendered, command, found, code):
    (check,) = [call["check"] for call in rendered["mariadb"] if "check" in call]
    command("mariadbd", "exit 0")
    command("mariadb", f"echo {found}")
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert (found in done.stdout) == bool(code)


def test_a_server_that_may_become_the_first_node_is_asked_with_the_words_of_its_tool(rendered):
    (check,) = [call["check"] for call in rendered["mysql-cluster"] if "mysql-node" in str(call.get("check"))]
    assert check[-1].rstrip().endswith('/etc/mysql/webstack-cluster.json" grow alone incomplete')


@pytest.mark.parametrize(("address", "refused"), [("192.0.2.1", False), ("192.0.2.9", True)])
def test_a_node_whose_certificate_is_not_for_its_address_is_refused(rendered, command, tmp_path, address, refused):
    (check,) = [call["check"] for call in rendered["mysql-cluster"] if "mysql-node" in str(call.get("check"))]
    command("mariadbd", "exit 0")
    command("mariadb", "exit 1")
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    start = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
    for path in ("certificate.pem", "key.pem", "authority.pem"):
        (tmp_path / path).write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    argv = [part.replace("/etc/ssl/", f"{tmp_path}/") for part in check]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ("certificate.pem is not for 192.0.2.1, the address of this node" in done.stdout) == refused, done.stderr


@pytest.mark.parametrize(
    ("days", "password", "own_key", "words"),
    [
        (1, None, True, ""),
        (1, None, False, "key.pem is not the key of"),
        (0, None, True, "certificate.pem has expired on Jan  1 00:00:00 2025 GMT"),
        (1, b"secret", True, "key.pem is encrypted: the server, which has no password for it, could not read it"),
    ],
)
def test_a_certificate_that_the_server_could_not_use_is_refused(
    rendered, command, tmp_path, days, password, own_key, words
):
    (check,) = [call["check"] for call in rendered["mysql-full"] if "check" in call]
    command("mysqld", "exit 0")
    command("mysql", "exit 1")
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _key in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db.example.com")])
    start = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days) if days else start
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, end).sign(key, hashes.SHA256())
    cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    kept = (key if own_key else other).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher
    )
    for path in ("certificate.pem", "ca.pem"):
        (tmp_path / path).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(kept)
    argv = [part.replace("/etc/ssl/", f"{tmp_path}/") for part in check]
    # In a session of its own, as Ansible's: a prompt would find no terminal, and wait for nobody.
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, start_new_session=True, timeout=60
    )
    assert done.returncode == bool(words), done.stdout + done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# The zone


def strings_of(text: str) -> bytes:
    """A model of how a zone file's quoted strings are read (RFC 1035, 5.1): what they hold, joined."""
    data = b""
    for quoted in re.findall(r'"((?:[^"\\]|\\[0-9]{3})*)"', text):
        data += re.sub(rb"\\([0-9]{3})", lambda found: bytes([int(found[1])]), quoted.encode())
    return data


def test_a_zone_is_one_record_a_line_whatever_its_texts_hold(files):
    lines = files["dns-hostile"]["/etc/knot/zones/example.com.zone"]["content"].splitlines()
    records = [line.split(" ", 3) for line in lines if line.strip() and not line.startswith(";")]
    assert [record[2] for record in records].count("SOA") == 1
    assert records[0][3].startswith("ns1.example.com. first\\.last.example.net. 1 ")
    texts = {record[0]: [] for record in records if record[2] == "TXT"}
    for owner, _ttl, kind, value in records:
        assert owner.endswith("example.com.")
        if kind == "TXT":
            assert re.fullmatch(r'("([^"\\]|\\[0-9]{3}){0,255}" ?)+', value), value
            texts[owner].append(strings_of(value).decode())
    assert {owner.split(".")[0]: sorted(found) for owner, found in texts.items()} == {
        name.lower(): sorted([text, f"{text}{'x' * 300}"]) for name, text in HOSTILE.items()
    }
    plain = [" ".join(record) for record in records if record[2] not in ("SOA", "TXT")]
    assert plain == [
        "example.com. 60 A 192.0.2.1",
        "example.com. 60 A 192.0.2.2",
        'example.com. 3600 CAA 0 issue "ca.example.net"',
        'example.com. 3600 CAA 0 issuewild ";"',
        'example.com. 3600 CAA 128 iodef "mailto:a@example.com"',
        "example.com. 3600 MX 10 mx.example.net.",
        "example.com. 3600 MX 20 mx.example.org.",
        "example.com. 3600 NS ns1.example.com.",
        "example.com. 3600 NS ns.example.net.",
        "_sip._tcp.example.com. 3600 SRV 10 5 5060 sip.example.net.",
        "blog.example.com. 3600 CNAME www.example.net.",
        "ns1.example.com. 3600 A 192.0.2.53",
        "sub.example.com. 3600 NS ns.example.net.",
        "*.www.example.com. 3600 AAAA 2001:db8::1",
    ]


def test_of_a_zone_that_others_serve_nothing_is_served(rendered):
    assert rendered["dns-update"] == [{"name": ["python3-dnspython"], "start": False}]


# The host


def test_apt_reads_its_settings(files, tmp_path):
    wanted = {
        "base": ('Unattended-Upgrade "1"', 'Automatic-Reboot "false"'),
        "base-rebooting": ('Unattended-Upgrade "0"', 'Automatic-Reboot "true"', 'Automatic-Reboot-Time "04:30"'),
    }
    for case, settings in wanted.items():
        path = tmp_path / case
        path.write_text(files[case]["/etc/apt/apt.conf.d/60webstack"]["content"], encoding="utf-8")
        environment = {**os.environ, "APT_CONFIG": str(path)}
        done = subprocess.run(["apt-config", "dump"], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        for setting in settings:
            assert setting in done.stdout, case


def test_kernel_settings_are_a_name_and_a_value_a_line(files):
    lines = files["base"]["/etc/sysctl.d/60-webstack.conf"]["content"].splitlines()
    settings = [line for line in lines if not line.startswith("#")]
    assert "net.core.somaxconn = 4096" in settings and "kernel.core_pattern = |/bin/false" in settings
    assert all(re.fullmatch(r"-?[a-z0-9_.*]+ = \S+", line) for line in settings)
    assert not [line for line in settings if "forward" in line], "a container engine needs it as it is"
    settings = files["base-rebooting"]["/etc/sysctl.d/60-webstack.conf"]["content"].splitlines()
    for name in ("kernel.kptr_restrict", "net.ipv6.conf.*.accept_redirects"):
        assert len([line for line in settings if name in line]) == 1, "the inventory's alone, minus or not"
    assert "-kernel.kptr_restrict = 1" in settings


def test_core_dumps_are_the_inventorys_to_allow(files):
    places = (
        "security/limits.d/60-webstack.conf",
        "systemd/coredump.conf.d/webstack.conf",
        "profile.d/webstack.sh",
        "sysctl.d/60-webstack.conf",
    )
    for case, settings in (
        (
            "base",
            {"* hard core 0", "root hard core 0", "Storage=none", "ulimit -c 0", "kernel.core_pattern = |/bin/false"},
        ),
        ("base-rebooting", set()),
    ):
        lines = {line for path in places for line in files[case][f"/etc/{path}"]["content"].splitlines()}
        found = {line for line in lines if re.search(r"core 0|Storage|ulimit|core_pattern", line) and line[0] != "#"}
        assert found == settings


def test_a_kernel_setting_that_has_drifted_is_seen(rendered, command, tmp_path):
    """The unit notes what the kernel made of the settings; the probe of the role compares."""
    command("stat", "")  # the other half of the probe: what root alone reads
    kernel, note = tmp_path / "sys", tmp_path / "note"
    call = next(call for call in rendered["base"] if "probe" in call)
    unit = next(item["content"] for item in call["files"] if item["path"].endswith(".service"))
    assert unit.count("systemd-sysctl --strict /etc/sysctl.d/60-webstack.conf\n") == 2

    def run(script: str) -> int:
        script = script.replace("/proc/sys", str(kernel)).replace("/run/webstack-sysctl", str(note))
        return subprocess.run(["sh", "-c", script], check=False).returncode

    def put(name: str, value: str) -> None:
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text(f"{value}\n", encoding="utf-8")

    drifts = ("net/core/somaxconn", "net/ipv4/conf/eth0.5/rp_filter")
    for name in (*drifts, "net/ipv4/conf/gone/rp_filter", "fs/suid_dumpable"):
        put(name, "0")
    assert run(call["probe"][2]) != 0, "it was never applied"
    assert run(re.findall(r"^ExecReload=/bin/sh -c '(.*)'$", unit, re.MULTILINE)[0]) == 0
    assert len(note.read_text(encoding="utf-8").splitlines()) == 4
    (kernel / "net/ipv4/conf/gone/rp_filter").unlink()
    put("net/ipv4/conf/new/rp_filter", "1")
    assert run(call["probe"][2]) == 0
    for name in drifts:
        put(name, "2")
        assert run(call["probe"][2]) != 0
        put(name, "0")


def test_of_a_containers_kernel_nothing_is_set_or_asked(files, rendered):
    assert "sysctl" not in files["base-container"]["/etc/systemd/system/webstack-hardening.service"]["content"]
    assert "sysctl" not in next(call["probe"][2] for call in rendered["base-container"] if "probe" in call)


def test_the_units_of_the_host_are_sandboxed(files, tmp_path):
    for case in ("base", "base-container"):
        for path in (path for path in files[case] if path.endswith(".service")):
            unit = tmp_path / Path(path).name
            unit.write_text(files[case][path]["content"], encoding="utf-8")
            argv = ["systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=30", unit]
            assert subprocess.run(argv, capture_output=True, check=False).returncode == 0, path


def test_the_streamer_is_sandboxed_and_knows_the_targets_key_at_its_port(files, tmp_path):
    unit = tmp_path / "webstack-binlog.service"
    unit.write_text(files["backup"]["/etc/systemd/system/webstack-binlog.service"]["content"], encoding="utf-8")
    argv = ["systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=30", unit]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 0
    known = files["backup"]["/etc/webstack-backup/known_hosts"]["content"].splitlines()
    assert known[-1] == "[192.0.2.9]:2222 ssh-ed25519 AAAA"
    assert files["backup"]["/etc/webstack-backup/key"]["mode"] == "0600"


def test_a_hosts_key_opens_one_program(files):
    keys = files["archive"]["/var/lib/webstack-archive/.ssh/authorized_keys"]["content"].splitlines()
    assert [line for line in keys if not line.startswith("#")] == [
        f'restrict,command="/usr/local/lib/webstack/backup-sink www.example.com" {PUBLIC_KEY}'
    ]


def rules(files: dict[str, dict[str, dict[str, Any]]], case: str) -> list[str]:
    """The lines of the firewall's file that let a port be reached."""
    text = files[case]["/etc/webstack/firewall.nft"]["content"]
    return [line.strip() for line in text.splitlines() if re.search(r"\b(tcp|udp) dport (?!546)", line)]


def test_the_firewall_opens_ssh_where_it_listens_and_nothing_else(files):
    assert rules(files, "base") == ["tcp dport 22 goto ssh", "tcp dport 2222 goto ssh"]
    limit = "limit rate over 30/minute burst 30 packets } drop\n"
    assert files["base"]["/etc/webstack/firewall.nft"]["content"].count(limit) == 2


def test_the_firewall_opens_what_is_declared_to_those_who_are(files):
    assert rules(files, "base-open") == [
        *(
            f"{family} saddr {source} tcp dport {port} goto ssh"
            for port in (22, 2222)
            for family, source in (("ip", "192.0.2.0/24"), ("ip6", "2001:db8::/32"))
        ),
        "tcp dport 80 accept",
        "udp dport 443 accept",
        "ip saddr 10.0.0.1 tcp dport 3306 accept",
    ]
    text = files["base-open"]["/etc/webstack/firewall.nft"]["content"]
    assert "\t\tip saddr 192.0.2.2 meta l4proto 112 accept\n" in text
    assert "112" not in files["base"]["/etc/webstack/firewall.nft"]["content"]
    assert "limit" not in text


def test_the_firewall_touches_no_table_but_its_own(files):
    for _case, _path, text in all_files(files, r"/firewall\.nft$"):
        code = "\n".join(line.split("#")[0] for line in text.splitlines())
        assert set(re.findall(r"\btable (.*?)(?: \{)?$", code, re.MULTILINE)) == {"inet webstack"}
        assert not re.search(r"flush|forward|nat\b", code)


def test_the_way_in_by_ssh_is_told_to_the_guard(rendered):
    (guard,) = [call for call in rendered["base-open"] if "admits" in call]
    sources = ["192.0.2.0/24", "2001:db8::/32"]
    assert guard["admits"][:2] == [{"port": 22, "from": sources}, {"port": 2222, "from": sources}]
    (asked,) = [call for call in rendered["base-open"] if "declared" in call]
    assert asked["declared"] == ["80/tcp", "443/udp", "3306/tcp"]


def test_without_a_firewall_none_is_written(files):
    assert set(files["base-without-firewall"]) == {"/etc/ssh/sshd_config.d/00-webstack.conf", "/etc/issue.net"}


@pytest.mark.parametrize(("case", "root"), [("base", "no"), ("base-open", "prohibit-password")])
def test_a_login_by_ssh_takes_a_key(files, case, root):
    lines = files[case]["/etc/ssh/sshd_config.d/00-webstack.conf"]["content"].splitlines()
    assert {"AuthenticationMethods publickey", "PasswordAuthentication no", f"PermitRootLogin {root}"} <= set(lines)


def test_options_of_sshd_replace_the_roles_own_and_stand_once(files):
    own, open_ = (
        [
            line
            for line in files[case]["/etc/ssh/sshd_config.d/00-webstack.conf"]["content"].splitlines()
            if line[:1] not in ("", "#")
        ]
        for case in ("base", "base-open")
    )
    assert {"AllowTcpForwarding no", "AllowAgentForwarding no", "HostKeyAlgorithms -ecdsa-*", "MaxAuthTries 6"} <= set(
        own
    )
    assert {"AllowTcpForwarding yes", "MaxAuthTries 3", "AllowUsers a", "AllowUsers b"} <= set(open_)
    assert not [line for line in open_ if line.startswith("HostKeyAlgorithms")], "left to sshd"
    for lines in (own, open_):
        names = [line.split()[0] for line in lines if not line.startswith("AllowUsers")]
        assert sorted(names) == sorted(set(names))


def test_settings_of_logins_take_the_place_of_others_and_give_it_back(rendered, files, tmp_path):
    """The unit's own command, on a file with lines of somebody else."""
    theirs, ours = tmp_path / "login.defs", tmp_path / "ours"
    unit = files["base-container"]["/etc/systemd/system/webstack-hardening.service"]["content"]
    (command,) = re.findall(r"^ExecReload=/bin/sh -c '(.*login\.defs.*)'$", unit, re.MULTILINE)

    def run(declared: str) -> str:
        ours.write_text(declared, encoding="utf-8")
        script = command.replace("/etc/webstack/login.defs", str(ours)).replace("/etc/login.defs", str(theirs))
        subprocess.run(["sh", "-c", script], check=True)
        return theirs.read_text(encoding="utf-8")

    before = "# UMASK is the mask\nUMASK\t\t022\nUMASKED 1\nUID_MIN 1000\n"
    theirs.write_text(before, encoding="utf-8")
    declared = files["base-container"]["/etc/webstack/login.defs"]["content"]
    for _time in range(2):
        lines = run(declared).splitlines()
        assert [line for line in lines if re.match("UMASK|UID", line)] == ["UMASKED 1", "UID_MIN 1000", "UMASK 027"]
    without = command.replace('-e "s/^UMASK[[:space:]]/#webstack#&/"', "")
    assert without != command
    command = without
    assert run("# nothing\n# BEGIN webstack\n# END webstack\n").startswith(before)


def test_what_a_server_has_no_use_for_is_never_loaded(files):
    lines = files["base"]["/etc/modprobe.d/webstack.conf"]["content"].splitlines()
    assert "install sctp /bin/false" in lines and not [line for line in lines if "usb" in line]


def test_a_shell_ends_after_a_while_unless_that_is_declined(files, rendered):
    assert "\nTMOUT=900\n" in files["base-container"]["/etc/profile.d/webstack.sh"]["content"]


def test_an_authority_comes_to_its_challenge_where_the_site_itself_answers_it(files):
    text = files["nginx-trusted"]["/etc/nginx/sites/shop.conf"]["content"]
    challenges = re.findall(r"location \^~ /\.well-known/acme-challenge/ \{.*?\}", text, re.DOTALL)
    assert challenges and all("allow all;" in found and "auth_basic off;" in found for found in challenges)
