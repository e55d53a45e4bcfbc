# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role nginx refuses beyond its argument spec. nginx -t accepts most of these faults; visitors would see them.

Values have the right type when they come here, or read as such: `5` for a name, `"80"` for a port.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import CONTROL, shown
from ansible_collections.foobar.webstack.plugins.plugin_utils import formats
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import is_address, is_network, is_port

Inputs = dict[str, Any]
Faults = Iterator[str]

TRUE = ("true", "yes")
SITE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
SIZE = re.compile(r"[0-9]{1,9}[kKmMgG]?")
HEADER_SIZE = re.compile(r"[1-9][0-9]{0,3}[kK]")
URL_PATH = re.compile(r"/[A-Za-z0-9._~!&()*+,=:@%/-]*")
SOCKET = re.compile(r"unix:(/[A-Za-z0-9._~+,=@%/-]+)")
HOST_PORT = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
PROXY = re.compile(
    r"http://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?(/[A-Za-z0-9._~!&()*+,=:@%/-]*)?"
)
PROXY_FOLDER = re.compile(r"http://[^/]+/(.*/)?$")
# Only variables with the request as it was sent, still encoded. A decoded one, such as $uri, may hold a line break, with
# which a visitor could write headers into the answer.
REDIRECT = re.compile(
    r"(https?://([A-Za-z0-9.:\[\]-]|\$host\b)+|(?=/)|(?=\$request_uri\b)|\$scheme\b://([A-Za-z0-9.:\[\]-]|\$host\b)+)"
    r"([A-Za-z0-9._~!&()*+,=:@%/?#\[\]'-]|\$(request_uri|host|scheme|args)\b)*"
)
DIRECTIVE = re.compile(r"[a-z][a-z0-9_]*")
BREAKS_OUT = re.compile(r"[\x00-\x1f\x7f;{}#]")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
BREAKS_QUOTES = re.compile(r"[\x00-\x1f\x7f\"\\$]")
LEAST = {
    "nginx_answer_seconds": 1,
    "nginx_client_connections": 0,
    "nginx_client_requests": 0,
    "nginx_keepalive_timeout": 0,
    "nginx_log_days": 1,
    "nginx_maintenance_retry": 1,
    "nginx_open_files": 1,
    "nginx_worker_connections": 1,
}
HIDDEN_BY_SANDBOX = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc")
KEY_OF_KIND = {"uwsgi": "target", "proxy": "target", "static": "target", "redirect": "target", "raw": "raw"}


def nginx_faults(inputs: Inputs) -> list[str]:
    """Every fault in the role's inputs, each as `path.of.the[0].value: what is wrong and what is allowed`."""
    inputs = _texts(inputs)
    sites = inputs["nginx_sites"] or []
    return [
        *_number_faults(inputs),
        *_guest_faults(inputs["nginx_maintenance_allow"] or []),
        *_proxy_faults(inputs["nginx_trusted_proxies"] or []),
        *_protocol_faults(inputs),
        *_option_faults(inputs["nginx_http_options"] or {}),
        *_header_faults(inputs["nginx_headers"] or {}, inputs["__nginx_headers"]),
        *(fault for index, site in enumerate(sites) for fault in _site_faults(f"nginx_sites[{index}]", site)),
        *_clash_faults(sites),
    ]


def _number_faults(inputs: Inputs) -> Faults:
    for name in ("nginx_http_port", "nginx_https_port", "nginx_status_port", "nginx_challenge_port"):
        if not is_port(inputs[name]):
            yield f"{name}: {inputs[name]} is not a port; {formats.PORTS}"
    if inputs["nginx_http2_port"] != "0" and not is_port(inputs["nginx_http2_port"]):
        yield f"nginx_http2_port: {inputs['nginx_http2_port']} is not a port; {formats.PORTS}, 0 stands for none"
    ports: dict[str, str] = {}
    https = ["nginx_https_port"] if any(_given(site, "certificate") for site in inputs["nginx_sites"] or []) else []
    peers = ["nginx_challenge_port"] if inputs["nginx_challenge_peers"] else []
    for name in ("nginx_http_port", *https, "nginx_http2_port", "nginx_status_port", *peers):
        first = ports.setdefault(str(int(inputs[name])), name)
        if first != name and int(inputs[name]) > 0:
            yield f"{name}: {inputs[name]} is {first} too; each needs a port of its own"
    workers = inputs["nginx_worker_processes"]
    if workers != "auto" and not re.fullmatch(r"[1-9][0-9]{0,3}", workers):
        yield f"nginx_worker_processes: '{shown(workers)}' is neither auto nor a number from 1 on"
    yield from formats.least_faults(inputs, LEAST)
    if inputs["nginx_challenge_root"]:
        yield from _file_faults("nginx_challenge_root", inputs["nginx_challenge_root"])
    elif peers:
        yield "nginx_challenge_peers: they would ask for challenges that have no folder here; set nginx_challenge_root"
    for index, address in enumerate(inputs["nginx_challenge_peers"] or []):
        if not is_address(address):
            yield f"nginx_challenge_peers[{index}]: '{shown(address)}' is no IP address"
    connections = int(inputs["nginx_worker_connections"])
    if int(inputs["nginx_open_files"]) < 2 * connections:
        yield (
            f"nginx_open_files: {inputs['nginx_open_files']} is too few for {connections} nginx_worker_connections, "
            f"which need two each; set at least {2 * connections}"
        )


def _guest_faults(addresses: list[str | None]) -> Faults:
    for index, address in enumerate(addresses):
        if not is_network(address):
            yield f"nginx_maintenance_allow[{index}]: '{shown(address)}' is not possible; {formats.NETWORKS}"


def _proxy_faults(addresses: list[str | None]) -> Faults:
    for index, address in enumerate(addresses):
        path = f"nginx_trusted_proxies[{index}]"
        if not is_network(address):
            yield f"{path}: '{shown(address)}' is not possible; {formats.NETWORKS}"
        elif ipaddress.ip_network(address or "").prefixlen == 0:
            yield f"{path}: '{shown(address)}' would trust everybody; name the proxies' own addresses"


def _protocol_faults(inputs: Inputs) -> Faults:
    hands_over = inputs["nginx_hands_over_ports"].lower() in TRUE
    if inputs["nginx_proxy_protocol"].lower() not in TRUE:
        if hands_over:
            yield "nginx_hands_over_ports: only nginx behind load balancers hands its ports over to one; set nginx_proxy_protocol too"
        return
    if hands_over and {"80", "443"} & {inputs["nginx_http_port"], inputs["nginx_https_port"]}:
        yield "nginx_hands_over_ports: nginx_http_port and nginx_https_port must be other ports than 80 and 443, which are handed over"
    if not inputs["nginx_trusted_proxies"]:
        yield "nginx_proxy_protocol: nobody is believed who the visitor is; name the balancers in nginx_trusted_proxies"
    if inputs["nginx_http2_port"] != "0":
        yield "nginx_http2_port: is for a proxy that ends TLS, and with nginx_proxy_protocol TLS is ended here; leave it 0"
    if inputs["nginx_http3"].lower() in TRUE:
        yield "nginx_http3: balancers hand on TCP, and HTTP/3 comes by UDP; switch it off with nginx_proxy_protocol"


def _option_faults(options: dict[str, Any]) -> Faults:
    for name, values in options.items():
        path = f"nginx_http_options.{shown(name)}"
        if not DIRECTIVE.fullmatch(name):
            yield f"{path}: not the name of a directive, which has small letters, digits and '_'"
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, (dict, list)) or not (value or "").strip():
                yield f"{path}: the value must be a text, a number or a boolean, or a list of them"
            elif BREAKS_OUT.search(value) or value.endswith("\\"):
                yield f"{path}: '{shown(value)}' must be one line without ';', '{{', '}}' or '#', not ending in '\\'"


def _header_faults(headers: dict[str, Any], own: dict[str, Any]) -> Faults:
    spelt = {name.lower(): name for name in own}
    for name, value in headers.items():
        path = f"nginx_headers.{shown(name)}"
        known = spelt.setdefault(name.lower(), name)
        if known != name:
            yield f"{path}: write it as {shown(known)}, else the header would be sent twice"
        if not HEADER.fullmatch(name):
            yield f"{path}: not the name of a header, which has letters, digits and '-'"
        if isinstance(value, (dict, list)) or BREAKS_QUOTES.search(value or ""):
            yield f"{path}: the value must be one line without '\"', '\\' and '$'"


def _site_faults(path: str, site: dict[str, Any]) -> Faults:
    if not SITE_NAME.fullmatch(site["name"]):
        yield (
            f"{path}.name: '{shown(site['name'])}' cannot name a file; use up to 63 small letters, digits, "
            "'.', '_' and '-', beginning with a letter or digit"
        )
    if not site["server_names"]:
        yield f"{path}.server_names: empty; a site needs at least one domain name"
    for key, name in _domains(site):
        if fault := formats.domain_fault(name, wildcard=True):
            yield f"{path}.{key}: '{shown(name)}' {fault}"
    if site.get("redirect_names") and (site["server_names"] or [""])[0].startswith("*"):
        yield f"{path}.server_names[0]: '{shown(site['server_names'][0])}' cannot be what redirect_names lead to"
    for key, other in (("certificate", "certificate_key"), ("certificate_key", "certificate")):
        if _given(site, key):
            yield from _file_faults(f"{path}.{key}", site[key])
            if not _given(site, other):
                yield f"{path}.{other}: required beside {key}"
    for key in ("client_connections", "client_requests"):
        if _given(site, key) and int(site[key]) < 0:
            yield f"{path}.{key}: {site[key]} is not possible; it is 0 for no limit, or more"
    if _given(site, "root"):
        yield from _file_faults(f"{path}.root", site["root"])
    if _given(site, "body_size") and not SIZE.fullmatch(site["body_size"]):
        yield f"{path}.body_size: '{shown(site['body_size'])}' is not a size such as 512k, 10m or 1g"
    if _given(site, "header_size") and not HEADER_SIZE.fullmatch(site["header_size"]):
        yield f"{path}.header_size: '{shown(site['header_size'])}' is not a size from 1k to 9999k"
    for name, seconds in (site.get("timeouts") or {}).items():
        if seconds is not None and int(seconds) < 1:
            yield f"{path}.timeouts.{name}: {seconds} is not possible; it is in seconds, 1 or more"
    yield from _access_faults(f"{path}.access", site.get("access") or {})
    yield from _error_page_faults(f"{path}.error_pages", site.get("error_pages") or {})
    for index, item in enumerate(site.get("static") or []):
        yield from _static_faults(f"{path}.static[{index}]", item)
    for index, location in enumerate(site.get("locations") or []):
        yield from _location_faults(f"{path}.locations[{index}]", location)
    if not any(_given(site, key) for key in ("root", "static", "locations", "extra")):
        yield f"{path}: serves nothing; it needs a root, static, locations or extra"


def _domains(site: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every domain name of a site, each with the key that has it."""
    for key in ("server_names", "redirect_names"):
        for index, name in enumerate(site.get(key) or []):
            yield f"{key}[{index}]", name or ""


def _file_faults(path: str, value: str | None) -> Faults:
    text = value or ""
    if not formats.is_file_path(text):
        yield (
            f"{path}: '{shown(text)}' is not the full path of a file or folder; it begins with '/', has no '..', "
            "and is made of letters, digits and . _ ~ + , = : @ % -"
        )
    else:
        yield from _hidden_faults(path, text)


def _hidden_faults(path: str, text: str) -> Faults:
    for folder in HIDDEN_BY_SANDBOX:
        if PurePosixPath(text).is_relative_to(folder):
            yield f"{path}: '{text}' is below {folder}, which nginx's sandbox hides from it; /srv is a good place"


def _access_faults(path: str, access: dict[str, Any]) -> Faults:
    if access and not any(access.get(key) for key in ("allow", "deny")):
        yield f"{path}: neither allow nor deny has an address, so everybody would come in; remove it, or say allow: [all]"
    for key in ("allow", "deny"):
        for index, address in enumerate(access.get(key) or []):
            if address != "all" and not is_network(address):
                yield f"{path}.{key}[{index}]: '{shown(address)}' is not possible; {formats.NETWORKS}, or all"


def _error_page_faults(path: str, pages: dict[str, Any]) -> Faults:
    for status, page in pages.items():
        if not re.fullmatch(r"[45][0-9][0-9]", status) or status == "499":
            yield f"{path}.{shown(status)}: not the status of an error, which is 400 to 599 (and not 499)"
        yield from _file_faults(f"{path}.{shown(status)}", page)


def _static_faults(path: str, item: dict[str, Any]) -> Faults:
    yield from _url_faults(f"{path}.url", item["url"])
    yield from _file_faults(f"{path}.path", item["path"])
    if not item["url"].endswith("/") and item["path"].endswith("/"):
        yield f"{path}: url '{shown(item['url'])}' stands for one file, but path is a folder; end both in '/' or neither"
    if _given(item, "max_age") and int(item["max_age"]) < 0:
        yield f"{path}.max_age: {item['max_age']} is not possible; it is in seconds, 0 or more"
    if str(item.get("immutable")).lower() in TRUE and not _given(item, "max_age"):
        yield f"{path}.immutable: needs max_age, for how many seconds browsers need not ask again"


def _url_faults(path: str, url: str) -> Faults:
    if not URL_PATH.fullmatch(url):
        yield f"{path}: '{shown(url)}' is not a path such as /static/; it begins with '/', without blanks, quotes and ;{{}}$\\"


def _location_faults(path: str, location: dict[str, Any]) -> Faults:
    kind, match = location["kind"], location.get("match") or "prefix"
    if match != "regex":
        yield from _url_faults(f"{path}.path", location["path"])
    elif not location["path"] or CONTROL.search(location["path"]):
        yield f"{path}.path: must be a regular expression in one line, and not empty"
    if match == "regex" and kind == "static":
        yield f"{path}.match: files are found by prefix or exact; for a regex use kind raw"
    if match == "prefix" and kind == "static" and not location["path"].endswith("/"):
        # Without the slash, /files../secret would serve a file from beside the folder.
        yield f"{path}.path: '{shown(location['path'])}' stands for a folder; end it in '/', or use match exact for one file"
    if (
        match == "prefix"
        and kind == "proxy"
        and not location["path"].endswith("/")
        and PROXY_FOLDER.match(location.get("target") or "")
    ):
        # Likewise, /api../secret would be requested from beside the target's folder.
        yield f"{path}.path: '{shown(location['path'])}' takes the place of the target's folder; end it in '/', or the target without '/'"

    needed = KEY_OF_KIND[kind]
    if not _given(location, needed):
        yield f"{path}.{needed}: required for kind {kind}"
    elif kind != "raw":
        yield from _target_faults(f"{path}.target", kind, location["target"])
    allowed = {needed, {"redirect": "code", "uwsgi": "modifier"}.get(kind)} | (
        {"access"} if kind != "redirect" else set()
    )
    if not 0 <= int(location.get("modifier") or "0") <= 255:
        yield f"{path}.modifier: {location['modifier']} is not a number from 0 to 255"
    for key in ("target", "code", "modifier", "raw", "access"):
        if _given(location, key) and key not in allowed:
            yield f"{path}.{key}: has no meaning for kind {kind}; remove it"
    yield from _access_faults(f"{path}.access", location.get("access") or {})


def _target_faults(path: str, kind: str, target: str) -> Faults:
    if kind == "static":
        yield from _file_faults(path, target)
    elif kind == "redirect":
        if not REDIRECT.fullmatch(target):
            yield (
                f"{path}: '{shown(target)}' is neither an http(s) address nor a path; blanks, quotes and ;{{}}\\ stand "
                "encoded, and the variables are $request_uri, $host, $scheme and $args"
            )
    elif kind == "proxy":
        found = PROXY.fullmatch(target)
        if not found or not is_port(found["port"] or "80"):
            yield f"{path}: '{shown(target)}' is not an address such as http://127.0.0.1:8000"
    else:
        socket, address = SOCKET.fullmatch(target), HOST_PORT.fullmatch(target)
        if socket:
            yield from _hidden_faults(path, socket[1])
        elif not address or not is_port(address["port"]):
            yield f"{path}: '{shown(target)}' is neither a socket such as unix:/run/foobar/live.sock nor host:port"


def _clash_faults(sites: list[dict[str, Any]]) -> Faults:
    """Values that must be unique and are not; a fault names both places."""
    names: dict[str, str] = {}
    domains: dict[str, str] = {}
    defaults: dict[str, str] = {}
    for number, site in enumerate(sites):
        here = f"site '{shown(site['name'])}' (nginx_sites[{number}])"
        yield from _twice(f"nginx_sites[{number}].name", site["name"], names, here, "the name of")
        for key, name in _domains(site):
            domain = name.lower().removesuffix(".")
            yield from _twice(f"nginx_sites[{number}].{key}", domain, domains, here, "a name of")
        if str(site.get("default")).lower() in TRUE:
            if defaults:
                yield f"nginx_sites[{number}].default: {here} and {defaults['']} cannot both answer unknown names"
            defaults.setdefault("", here)
        paths: dict[str, str] = {}
        declared = [
            (f"static[{i}].url", "exact" if not s["url"].endswith("/") else "prefix", s["url"])
            for i, s in enumerate(site.get("static") or [])
        ]
        declared += [
            (f"locations[{i}].path", loc.get("match") or "prefix", loc["path"])
            for i, loc in enumerate(site.get("locations") or [])
        ]
        for key, match, path in declared:
            there = f"nginx_sites[{number}].{key}"
            if f"{match} {path}" in paths:
                yield f"{there}: '{shown(path)}' stands in {paths[f'{match} {path}']} already; nginx can use only one"
            paths.setdefault(f"{match} {path}", there)


def _twice(path: str, value: str, seen: dict[str, str], here: str, what: str) -> Faults:
    if value in seen:
        yield f"{path}: '{shown(value)}' of {here} is {what} {seen[value]} already"
    seen.setdefault(value, here)


def _texts(value: Any) -> Any:
    """A copy in which every value is a text, a list, a dict or None, the only types that the checks take."""
    if isinstance(value, dict):
        return {str(key): _texts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts(item) for item in value]
    return None if value is None else str(value)


def _given(item: dict[str, Any], key: str) -> bool:
    """Whether a key is set to something; an empty text or list counts as not set."""
    return item.get(key) not in (None, "", [], {})


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"nginx_faults": nginx_faults}
