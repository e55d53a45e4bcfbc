# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an entry of `sites` may hold, and what it means for each role.

Roles do not read each other's variables: what two of them must agree on, such as the socket between nginx and the
application, is worked out here, once, from the name of a site. meta/sites.yml says what an entry may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import APPLICATION as NAME
from ansible_collections.foobar.webstack.plugins.plugin_utils.specs import read_yaml, spec_faults

Entry = dict[str, Any]
Options = dict[str, dict[str, Any]]

ROOT = Path(__file__).parents[2]
PLACEHOLDER = "REPLACE_ME"
EXAMPLE_DOMAIN = "www.foobar.com"  # in the template of the production inventory
# Documentation addresses (RFC 5737, 3849), and the public resolver of the design's example.
EXAMPLE_ADDRESS = re.compile(r"8\.8\.8\.8|192\.0\.2\.[0-9]+|198\.51\.100\.[0-9]+|203\.0\.113\.[0-9]+|2001:db8:.*")
NONE = "none"
# Keys that may be a word instead of a dict: `none`, or for a certificate its source.
WORDS = {"app": None, "database": None, "certificate": "source"}
# By its address, what may be a script of PHP.
PHP_SCRIPTS = r"(?i:\.(php\d?|phtml|phps|phar|inc)(/|$))"
DATABASE_SOCKET = "/run/mysqld/mysqld.sock"
MAINTENANCE = "/var/lib/webstack/maintenance"
CHALLENGES = "/var/lib/webstack/challenges"
# Who reads the binary log for role backup, and how long a commit waits for the other machine.
READER = {"name": "webstack-binlog", "auth": "socket", "replication": True}
ACKNOWLEDGE_MS = 2000
# By whom role database_proxy asks whether the only server takes connections.
ASKER = {"name": "haproxy", "auth": "socket"}
YEAR = 31536000  # seconds
# Inputs that the sites of a host are turned into. The inventory's own entries are added.
LISTS = (
    "base_firewall_open", "dns_records", "nginx_sites", "nginx_trusted_proxies", "mysql_databases", "mysql_users", "backup_paths",
)  # fmt: skip


@cache
def role_options(role: str) -> Options:
    """The spec of a role's inputs, by name. Do not change it: it is cached."""
    options: Options = read_yaml(ROOT / f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return options


@cache
def site_options() -> Options:
    """The spec of an entry, with parts of the roles' specs. Do not change it: it is cached."""
    options: Options = read_yaml(ROOT / "meta/sites.yml")["options"]
    for option in options.values():
        option.pop("default", None)  # only for the documentation, and not always a value
        role = option.pop("inputs_of", "")
        if not role:
            continue
        inputs = role_options(role)
        if "of" in option:
            inputs = inputs[option.pop("of")]["options"]
        without = {name.removeprefix(f"{role}_"): dict(spec) for name, spec in inputs.items()}
        option["options"] = {name: spec for name, spec in without.items() if name not in option["not"]}
        del option["not"]
        for name, more in option.pop("choices_of", {}).items():
            option["options"][name]["choices"] = [*option["options"][name]["choices"], *more]
        for spec in option["options"].values():
            spec.pop("required", None)  # the role checks it
            spec.pop("default", None)
    return options


@cache
def modifier(plugin: str) -> int:
    """The number of a language in the uwsgi protocol, from role app_server; 0, which is Python's, for an unknown one."""
    languages = read_yaml(ROOT / "roles/app_server/vars/main.yml")["__app_server_languages"]
    return int(languages.get(plugin, {}).get("modifier", 0))


def with_keys(entry: Entry) -> Entry:
    """An entry with a dict in the place of a word, and without keys that are `none`."""
    keyed = dict(entry)
    for key, main in WORDS.items():
        value = keyed.get(key)
        if isinstance(value, str) and main:
            keyed[key] = {main: value}
        elif value == NONE:
            del keyed[key]
    return keyed


@dataclass(frozen=True)
class Site:
    """A valid entry of `sites`."""

    name: str
    entry: Entry
    # Role inputs that the inventory sets outside of `sites`: defaults for all sites.
    said: dict[str, Any] = field(default_factory=dict)
    database_socket: str = DATABASE_SOCKET

    @property
    def is_there(self) -> bool:
        return self.entry.get("state") != "absent"

    @property
    def has_app(self) -> bool:
        return self.entry.get("app") is not None or bool(self.entry.get("repository"))

    @property
    def app(self) -> Entry:
        return self.entry.get("app") or {}

    @property
    def database(self) -> Entry | None:
        return self.entry.get("database")

    @property
    def database_name(self) -> str:
        return str((self.database or {}).get("name") or self.name)

    @property
    def home(self) -> str:
        return f"/srv/{self.name}"

    @property
    def socket(self) -> str:
        return f"unix:/run/{self.name}/live.sock"

    @cached_property
    def names(self) -> list[str]:
        """DNS names in lower case; the first is the domain. Another host's entry is read before it is judged."""
        further = [self.entry.get(key) for key in ("aliases", "redirects")]
        listed = [
            self.entry.get("domain", ""),
            *(name for names in further if isinstance(names, list) for name in names),
        ]
        return [str(name).lower().removesuffix(".") for name in listed]

    @property
    def certificate_source(self) -> str:
        return str((self.entry.get("certificate") or {}).get("source") or "acme")

    @property
    def has_certificate(self) -> bool:
        return self.certificate_source != NONE

    @property
    def authority_folder(self) -> str:
        """Folder of a private authority; empty if it is not set."""
        own = (self.entry.get("certificate") or {}).get("authority_folder")
        return str(own or self.said.get("certificate_authority_folder") or "")

    def is_in(self, zone: Any) -> bool:
        """Whether the domain is in a DNS zone."""
        return in_zone(self.names[0], zone)

    def of_app(self, name: str, default: Any = None) -> Any:
        """An input of role app_server: from the entry, else from the inventory."""
        return self.app[name] if name in self.app else self.said.get(f"app_server_{name}", default)


def in_zone(name: str, zone: Any) -> bool:
    """Whether a name in lower case is in a zone."""
    return f".{name}".endswith(f".{str(zone).lower().removesuffix('.')}")


def names_faults(sites: Any) -> list[str]:
    """What is wrong with `sites` as a whole."""
    if not isinstance(sites, dict):
        return [
            "sites: must be the names of the sites with keys for each, as in `sites: {shop: {domain: www.shop.example}}`"
        ]
    faults = []
    for name, entry in sites.items():
        if not NAME.fullmatch(str(name)):
            faults.append(
                f"sites: '{shown(name)}' is not a name of 1 to 25 lower case letters, digits and '-', a letter first"
            )
        elif not isinstance(entry, dict):
            faults.append(f"sites.{name}: must be keys with a value each; it needs a domain at least")
    return faults


def entry_faults(name: str, entry: Entry, options: Options) -> list[str]:
    """Faults of one entry (after with_keys), each with its place."""
    place = f"sites.{name}"
    if entry.get("state") == "absent":
        optional = {key: option | {"required": False} for key, option in options.items()}
        # Only unknown keys: the others have no effect until the site is present again.
        judged = {key: value for key, value in entry.items() if key == "state" or key not in options}
        return [f"{place}.{fault}" for fault in spec_faults(optional, judged)]
    leaves = list(_leaves(entry))
    if nulls := [path for path, value in leaves if value is None]:
        return [f"{place}.{path}: has no value; remove the line, or give it one" for path in nulls]
    faults = list(_placeholder_faults(entry))
    faults += [
        f"{path}: still a placeholder"
        for path, value in leaves
        if value == PLACEHOLDER and path not in ("domain", "repository", "version")
    ]
    named = {fault.partition(":")[0] for fault in faults}
    judged = {key: value for key, value in entry.items() if key not in named}
    spec = {key: option for key, option in options.items() if key not in named}
    # Some messages of Ansible, such as for a wrong choice, name no place; it is added below.
    faults += spec_faults(spec, judged)
    if not faults:
        faults += _meaning_faults(entry)
    return [f"{place}.{fault}" if re.match(r"[\w.\[\]-]+:", fault) else f"{place}: {fault}" for fault in faults]


def _placeholder_faults(entry: Entry) -> Iterator[str]:
    certificate = entry.get("certificate") or {}
    source = certificate.get("source", "acme") if isinstance(certificate, dict) else ""
    if entry.get("domain") in (None, "", PLACEHOLDER):
        yield "domain: not set; the name that visitors type"
    elif entry["domain"] == EXAMPLE_DOMAIN and source in ("acme", "files"):
        yield f"domain: still {EXAMPLE_DOMAIN}, which stands for yours in the examples; the name that visitors type"
    if entry.get("repository") == PLACEHOLDER or ("app" in entry and not entry.get("repository")):
        yield "repository: not set, or still a placeholder; the git repository of the site's code"
    if "version" in entry and entry["version"] in (None, "", PLACEHOLDER):
        yield "version: not set; the branch, tag or commit to ship"
    elif "version" in entry and not isinstance(entry["version"], str):
        yield f"version: put quotes around it; YAML has read it as the number {entry['version']}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of an entry that is no dict or list, with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _meaning_faults(entry: Entry) -> Iterator[str]:
    """Keys that would have no effect, and sites that show nothing."""
    nginx, has_app = entry.get("nginx") or {}, bool(entry.get("repository"))
    if entry.get("root") and nginx.get("root"):
        yield "root: stands in nginx, too; say it once"
    if not has_app:
        for key in ("version", "push"):
            if key in entry:
                yield f"{key}: has no effect without a repository"
        if entry.get("database") is not None:
            yield "database: has no effect without a repository; a database for something else is one of mysql_databases and mysql_users"
        if not (entry.get("root") or any(nginx.get(key) for key in ("root", "static", "locations", "extra"))):
            yield "has nothing to show; it needs a repository, a root, or nginx.static or nginx.locations"
        for index, location in enumerate(nginx.get("locations") or []):
            if location.get("kind") == "uwsgi" and not location.get("target"):
                yield f"nginx.locations[{index}].target: not set; this site has no application of its own"
    certificate = entry.get("certificate") or {}
    if certificate.get("source") == NONE and len(certificate) > 1:
        yield f"certificate: {', '.join(sorted(set(certificate) - {'source'}))} has no effect with source none"


def clash_faults(sites: list[Site]) -> list[str]:
    """Faults for names and databases that two sites of a host both claim."""
    faults: list[str] = []
    owners: dict[str, str] = {}
    for site in sites:
        claims = [(f"the name {name}", f"sites.{site.name}") for name in dict.fromkeys(site.names)]
        if site.database is not None:
            claims.append((f"the database {site.database_name}", f"sites.{site.name}.database"))
        for claim, place in claims:
            other = owners.setdefault(claim, place)
            if other != place:
                faults.append(f"{place}: {claim} is that of {other} already")
    return faults


def nginx_site(site: Site) -> Entry:
    """The entry of nginx_sites for a site."""
    entry, nginx = site.entry, dict(site.entry.get("nginx") or {})
    certificate = f"/etc/ssl/{site.name}" if site.has_certificate else ""
    told = {
        **nginx,
        "name": site.name,
        "server_names": [entry["domain"], *entry.get("aliases", [])],
        "redirect_names": entry.get("redirects", []),
        "certificate": certificate and f"{certificate}/fullchain.pem",
        "certificate_key": certificate and f"{certificate}/key.pem",
    }
    if entry.get("root"):
        told["root"] = entry["root"]
    if not site.has_app:
        return told
    # nginx must wait as long as a request may take in the application.
    seconds = site.of_app("request_seconds")
    if seconds is not None and "nginx_answer_seconds" not in site.said and "read" not in (nginx.get("timeouts") or {}):
        told["timeouts"] = {**(nginx.get("timeouts") or {}), "read": number(seconds, 30)}
    static, folder = list(nginx.get("static") or []), f"{site.home}/static"
    if not any(item.get("url") == "/static/" or str(item.get("path", "")).rstrip("/") == folder for item in static):
        # Browsers may cache them: frameworks put a digest of the content into the names.
        static.append({"url": "/static/", "path": folder, "max_age": YEAR, "immutable": True})
    told["static"] = static
    number_of_language = modifier(str(site.of_app("plugin", "")))
    own: Entry = {"kind": "uwsgi", "target": site.socket}
    if number_of_language:
        own["modifier"] = number_of_language
    locations = [
        {**own, **location} if location.get("kind") == "uwsgi" and not location.get("target") else location
        for location in nginx.get("locations") or []
    ]
    if not any(item.get("path") == "/" and item.get("match", "prefix") == "prefix" for item in locations):
        locations.append({"path": "/", **own})
    if site.of_app("plugin", "") == "php":
        locations += [{**location, **own} for location in _scripts_among_files(static, locations)]
    told["locations"] = locations
    return told


def _scripts_among_files(static: list[Entry], locations: list[Entry]) -> Iterator[Entry]:
    """Locations for scripts of PHP in folders of files: the application runs or refuses them, and no source is sent.

    For nginx a regular expression comes before every prefix, so each leaves out the prefixes below its folder: a redirect, or
    who may visit, is not passed by.
    """
    prefixes = {str(item.get("path", "")): item for item in locations if item.get("match", "prefix") == "prefix"}
    folders = {str(item.get("url", "")): {} for item in static} | {
        path: {"access": item["access"]} if item.get("access") else {}
        for path, item in prefixes.items()
        if item.get("kind") == "static"
    }
    for folder, more in folders.items():
        below = [
            re.escape(path.removeprefix(folder)) for path in prefixes if path != folder and path.startswith(folder)
        ]
        besides = f"(?!{'|'.join(below)})" if below else ""
        if folder.endswith("/"):
            yield {"path": f"(?s)^{re.escape(folder)}{besides}.*{PHP_SCRIPTS}", "match": "regex", **more}


def published(site: Site) -> list[str]:
    """The shared folders that nginx serves."""
    shown_by_nginx = nginx_site(site)
    paths = [str(item.get("path", "")) for item in shown_by_nginx.get("static") or []]
    paths += [
        str(item.get("target", "")) for item in shown_by_nginx.get("locations") or [] if item.get("kind") == "static"
    ]
    prefix = f"{site.home}/shared/"
    found = {path.removeprefix(prefix) for path in paths if path.startswith(prefix)}
    # nginx may serve a folder below a shared one, such as uploads/images of uploads.
    return [
        name for name in site.of_app("shared", [])
        if any(path.rstrip("/") == name or path.startswith(f"{name}/") for path in found)
    ]  # fmt: skip


def database_environment(site: Site) -> tuple[dict[str, str], dict[str, str]]:
    """Environment variables with the database: public ones, and secret ones."""
    if site.database is None:
        return {}, {}
    name, password = site.database_name, str(site.database.get("password", ""))
    # The password may hold any character, so it is URL-encoded.
    url = (
        f"{site.database.get('scheme') or 'mysql'}://{name}:{quote(password, safe='')}@localhost/{name}"
        f"?unix_socket={site.database_socket}&charset=utf8mb4"
    )
    parts = {"DB_NAME": name, "DB_USER": name, "DB_HOST": "localhost", "DB_SOCKET": site.database_socket}
    return parts, {"DATABASE_URL": url, "DB_PASSWORD": password}


def nginx_ports(said: dict[str, Any]) -> dict[str, int]:
    """The ports of nginx, by scheme."""
    return {"http": number(said.get("nginx_http_port"), 80), "https": number(said.get("nginx_https_port"), 443)}


def public_url(site: Site, ports: dict[str, int]) -> str:
    scheme = "https" if site.has_certificate else "http"
    return f"{scheme}://{site.entry['domain']}:{ports[scheme]}"


def told_app(site: Site, options: Options, ports: dict[str, int], processes: int) -> dict[str, Any]:
    """All inputs of role app_server for a site. All, so that no value of another site stays in place."""
    environment, secrets = database_environment(site)
    follows = {
        "public_url": public_url(site, ports),
        "shared_published": published(site),
        "processes": processes,
    }
    told = {
        name: site.of_app(short, follows.get(short, option.get("default")))
        for name, option in options.items()
        if (short := name.removeprefix("app_server_")) not in ("ref",)
    }
    told |= {
        "app_server_name": site.name,
        "app_server_repository": site.entry.get("repository", ""),
        "app_server_version": site.entry.get("version", "main"),
        "app_server_push": site.entry.get("push", False),
        # The site's own values override these.
        "app_server_environment": {**environment, **site.of_app("environment", {})},
        "app_server_secrets": {**secrets, **site.of_app("secrets", {})},
    }
    for name in environment:
        if name in told["app_server_secrets"]:
            del told["app_server_environment"][name]
    for name in secrets:
        if name in site.of_app("environment", {}):
            del told["app_server_secrets"][name]
    # A required input without a value is left out, so that the role reports it.
    return {name: value for name, value in told.items() if value is not None}


def told_certificate(site: Site, options: Options, addresses: list[str]) -> dict[str, Any]:
    """All inputs of role certificate for a site."""
    entry = site.entry.get("certificate") or {}
    follows = {"addresses": addresses}
    told = {
        name: entry[short] if short in entry else site.said.get(name, follows.get(short, option.get("default")))
        for name, option in options.items()
        if (short := name.removeprefix("certificate_"))
    }
    return {
        **told,
        "certificate_name": site.name,
        "certificate_names": site.names,
        "certificate_source": site.certificate_source if site.has_certificate else "acme",
        "certificate_reload": ["nginx.service"],
    }


def told_site(site: Site, ports: dict[str, int], public: list[str], workers: dict[str, int]) -> dict[str, Any]:
    """All inputs of the roles that are called for a site; `public` are the addresses that its names lead to."""
    if not site.is_there:
        return {"app_server_name": site.name, "certificate_name": site.name}
    inputs = told_certificate(site, role_options("certificate"), public)
    if site.has_app:
        inputs |= told_app(site, role_options("app_server"), ports, workers.get(site.name, 0))
    return inputs


def told_names(sites: list[Site], renewed: list[str]) -> dict[str, Any]:
    """Which sites a play calls which role for, and where the inventory says what a host's roles are told.

    `renewed` are the names of certificates that certbot renews on the host.
    """
    here = [site for site in sites if site.is_there]
    return {
        "all": [site.name for site in here],
        "apps": [site.name for site in here if site.has_app],
        "absent": [site.name for site in sites if not site.is_there],
        "certificates": [site.name for site in here if site.has_certificate],
        "orders": [site.name for site in here if site.has_certificate and site.certificate_source == "acme"],
        "no_certificates": [
            site.name for site in sites if site.name in renewed and not (site.is_there and site.has_certificate)
        ],
        "maintenance": MAINTENANCE,
        "places": places_on_host(here),
    }


def host_inputs(
    here: list[Site],
    lists: dict[str, list[Any]],
    said: dict[str, Any],
    *,
    serves_web: bool,
    serves_names: bool,
    http3: bool,
    ships_log: bool,
) -> dict[str, Any]:
    """The inputs of the roles that a host has once: what its sites need, and then what the inventory adds."""
    firewall: list[Entry] = []
    port = nginx_ports(said)
    if serves_web:
        firewall.append({"port": port["http"]})
        if any(site.has_certificate for site in here):
            firewall.append({"port": port["https"]})
        if http3:
            firewall.append({"port": port["https"], "protocol": "udp"})
    if serves_names:
        firewall += [{"port": 53}, {"port": 53, "protocol": "udp"}]
    told = {
        "base_firewall_open": firewall,
        "nginx_sites": [nginx_site(site) for site in here],
        **told_database(here),
        "backup_paths": [folder for site in here if (folder := files_of(site))],
    }
    challenges = said.get("nginx_challenge_root", said.get("certificate_acme_root", CHALLENGES))
    inputs = {"nginx_challenge_root": challenges, **{name: told[name] + lists.get(name, []) for name in told}}
    if ships_log:
        inputs["mysql_users"].append(dict(READER))
    return inputs


def records(names: list[tuple[str, str]], zone: Any) -> list[Entry]:
    """The DNS records of those names, each with an address, that are in a zone."""
    values: dict[tuple[str, str], list[str]] = {}
    for name, address in dict.fromkeys(names):
        if in_zone(name, zone):
            values.setdefault((name, "AAAA" if ":" in address else "A"), []).append(address)
    return [{"name": f"{name}.", "type": kind, "values": found} for (name, kind), found in values.items()]


def walk(
    site: Site, ports: dict[str, int], address: Any, port: Any, public_address: str, name_servers: list[str]
) -> dict[str, Any]:
    """The arguments of the walk for a site. `address` and `port`: where the walk connects to."""
    own = f"{site.home}/static"
    # A folder that the application writes itself may be empty.
    static = [
        item for item in nginx_site(site).get("static") or []
        if str(item.get("url", "")).endswith("/")
        and not str(item.get("path", "")).startswith(f"{site.home}/shared/")
        and (item.get("path") != own or site.of_app("static", ""))
    ]  # fmt: skip
    authority = site.entry.get("authority", "")
    if not authority and site.certificate_source == "private":
        authority = f"{site.authority_folder}/authority.pem"
    told = {
        "domain": site.entry["domain"],
        "address": address,
        "port": port,
        "name_servers": name_servers,
        "public_address": public_address if name_servers else "",
        "tls": site.has_certificate,
        "authority": authority,
        "host_port": ports["https" if site.has_certificate else "http"],
        "app": site.name if site.has_app else "",
        "names": site.names,
        "page_path": site.entry.get("page_path", ""),
        "page_status": site.entry.get("page_status", ""),
        "health_path": site.of_app("health_path", ""),
        "maintenance": f"{MAINTENANCE}/{site.name}",
        "static_url": static[0]["url"] if static else "",
        "static_path": static[0]["path"] if static else "",
    }
    return {key: value for key, value in told.items() if key == "app" or value not in ("", None)}


def told_database(sites: list[Site]) -> dict[str, list[Entry]]:
    """The inputs of role mysql for the databases and accounts of the sites."""
    databases, users = [], []
    for site in sites:
        if site.database is None or not site.is_there:
            continue
        name, entry = site.database_name, site.database
        databases.append({"name": name, **({"collation": entry["collation"]} if entry.get("collation") else {})})
        grants = entry.get("grants") or site_options()["database"]["options"]["grants"]["default"]
        users.append({
            "name": name,
            "auth": "password",
            "password": entry.get("password"),
            "password_before": entry.get("password_before"),
            "privileges": [{"database": name, "grants": grants}],
        })  # fmt: skip
    return {"mysql_databases": databases, "mysql_users": users}


def files_of(site: Site) -> str:
    """The folder with the files that the application's releases share, if there are any."""
    return f"{site.home}/shared" if site.of_app("shared", []) or site.of_app("shared_files", []) else ""


def told_backup(declared: dict[str, Any]) -> dict[str, Any]:
    """What the database server and its backups are told for each other; what the inventory says of the same is left out.

    `declared` are variables of the host: of them backup_target, backup_repository, backup_acknowledge, mysql_binlog_days and
    mysql_vendor have a meaning here.
    """
    told: dict[str, Any] = {"backup_vendor": declared.get("mysql_vendor") or "mariadb"}
    if declared.get("backup_target") or not str(declared.get("backup_repository") or "/").startswith("/"):
        # The server would remove by age what the other machine may not have.
        told["mysql_binlog_expires"] = False
        if "mysql_binlog_days" in declared:
            told["backup_log_days"] = declared["mysql_binlog_days"]
    if declared.get("backup_target") and declared.get("backup_acknowledge", True):
        told["mysql_acknowledge_timeout_ms"] = ACKNOWLEDGE_MS
    return {name: value for name, value in told.items() if name not in declared}


def number(value: Any, default: int) -> int:
    """A number of the inventory, else the default. Only to compute with: the role refuses a wrong value."""
    return int(value) if re.fullmatch("[0-9]{1,9}", str(value)) else default


def shared_out(sites: list[Site], memory_mb: int, cores: int) -> tuple[dict[str, int], list[str]]:
    """Workers for each application for which the inventory sets none; and a fault if the host has too little memory.

    Half of the memory is for workers. An application alone is role app_server's to judge: 0 stands for that.
    """
    apps = [site for site in sites if site.has_app and site.is_there]
    if len(apps) < 2:
        return {site.name: number(site.of_app("processes"), 0) for site in apps}, []
    each = {site.name: number(site.of_app("worker_memory_mb"), 256) or 1 for site in apps}  # the role refuses 0
    workers = {site.name: number(site.of_app("processes"), 0) for site in apps}
    left = memory_mb // 2 - sum(workers[name] * each[name] for name in workers)
    open_ones = [name for name in workers if workers[name] == 0]
    for name in open_ones:
        workers[name] = max(2, min(cores, left // len(open_ones) // each[name]))
    needed = sum(workers[name] * each[name] for name in workers)
    if needed <= memory_mb:
        return workers, []
    listed = ", ".join(f"{name} {workers[name]} × {each[name]}" for name in sorted(workers))
    return workers, [
        f"sites: the workers of all applications ({listed} MiB) need {needed} MiB, and the host has {memory_mb}; lower "
        "app.worker_memory_mb or app.processes of some, take a site off the host, or give it more memory"
    ]


def places(site: Site, inputs: dict[str, Any]) -> dict[str, str]:
    """The place in the inventory of each role input of a site."""
    own = f"sites.{site.name}"
    found = {}
    for name in inputs:
        role = "app_server" if name.startswith("app_server_") else "certificate"
        short = name.removeprefix(f"{role}_")
        if name not in site.said or short in (site.entry.get("app" if role == "app_server" else role) or {}):
            found[name] = f"{own}.{'app' if role == 'app_server' else role}.{short}"
    return found | {
        "app_server_name": own,
        **{f"app_server_{name}": f"{own}.{name}" for name in ("repository", "version", "push")},
        "certificate_name": own,
        "certificate_names": f"{own}.domain, aliases, redirects",
        "certificate_source": f"{own}.certificate",
    }


def places_on_host(sites: list[Site]) -> dict[str, str]:
    """The same for the entries of the host's lists."""
    found = {f"nginx_sites[{index}]": f"sites.{site.name}" for index, site in enumerate(sites)}
    with_database = [site for site in sites if site.database is not None]
    for index, site in enumerate(with_database):
        for name in ("mysql_users", "mysql_databases"):
            found[f"{name}[{index}]"] = f"sites.{site.name}.database"
    return found
