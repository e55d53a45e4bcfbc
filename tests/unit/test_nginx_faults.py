"""The checks of role nginx's inputs that go beyond types."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "plugins/filter/nginx_faults.py"
spec = importlib.util.spec_from_file_location("nginx_faults", SOURCE)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

GOOD: dict[str, Any] = {
    "nginx_http_port": 80,
    "nginx_https_port": 443,
    "nginx_http2_port": 0,
    "nginx_challenge_root": "",
    "nginx_challenge_peers": [],
    "nginx_challenge_port": 8096,
    "nginx_headers": {},
    "__nginx_headers": {"X-Frame-Options": "DENY"},
    "nginx_client_connections": 200,
    "nginx_client_requests": 100,
    "nginx_maintenance_allow": [],
    "nginx_trusted_proxies": [],
    "nginx_proxy_protocol": False,
    "nginx_hands_over_ports": False,
    "nginx_http3": False,
    "nginx_maintenance_retry": 300,
    "nginx_status_port": 8099,
    "nginx_worker_processes": "auto",
    "nginx_worker_connections": 4096,
    "nginx_open_files": 16384,
    "nginx_keepalive_timeout": 65,
    "nginx_answer_seconds": 20,
    "nginx_http_options": {},
    "nginx_log_days": 14,
    "nginx_sites": [],
}


def faults(**inputs: Any) -> list[str]:
    return module.nginx_faults({**GOOD, **inputs})


def site_faults(**keys: Any) -> list[str]:
    return faults(nginx_sites=[{"name": "www", "server_names": ["www.example.com"], "root": "/srv/www", **keys}])


def location_faults(**keys: Any) -> list[str]:
    return site_faults(locations=[keys])


def one(found: list[str], path: str, *words: str) -> None:
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: "), found
    assert all(word in found[0] for word in words), found


def test_defaults_have_no_fault():
    assert faults() == []


def test_a_site_with_everything_has_no_fault():
    assert (
        site_faults(
            default=True,
            static=[{"url": "/static/", "path": "/srv/www/static", "max_age": "3600", "immutable": True}],
            locations=[
                {"path": "/", "kind": "uwsgi", "target": "unix:/run/www/live.sock", "match": None, "access": None},
                {"path": "/", "match": "exact", "kind": "uwsgi", "target": "[::1]:3031"},
                {"path": "/api/", "kind": "proxy", "target": "http://localhost:8000/v1/"},
                {"path": "/files/", "kind": "static", "target": "/srv/files"},
                {"path": r"^/a{2}(;|\")$", "match": "regex", "kind": "raw", "raw": "return 204;"},
            ],
            body_size=0,
            header_size="16k",
            timeouts={"read": 1, "send": None, "client_read": 1},
            error_pages={404: "/srv/www/404.html", "503": "/srv/www/503.html"},
            access={"allow": ["192.0.2.0/24", "2001:db8::1"], "deny": ["all"]},
        )
        == []
    )


@pytest.mark.parametrize(
    "name", ["www.example.com", "Example.COM.", "*.example.com", "xn--bcher-kva.example", "a" * 63 + ".de", "localhost"]
)
def test_domain_names(name):
    assert site_faults(server_names=[name]) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        (".", "empty"),
        ("http://www.example.com", "write the domain name alone"),
        ("www.example.com:80", "has a port"),
        ("a_b.example.com", "underscore"),
        ("-a.example.com", "neither begins nor ends"),
        ("a-.example.com", "neither begins nor ends"),
        ("a..example.com", "neither begins nor ends"),
        ("a" * 64 + ".com", "63"),
        (".".join(["a" * 50] * 6), "253"),
        ("www.*.com", "only the whole first part"),
        ("*", "only the whole first part"),
        ("*a.example.com", "only the whole first part"),
        ("~^www", "not a domain name"),
        ("www.example.com; location", "not a domain name"),
        ("www.example.com\nx", "not a domain name"),
        ("$host", "not a domain name"),
        ("bücher.example", "xn--"),
    ],
)
def test_domain_names_refused(name, words):
    one(site_faults(server_names=["ok.example.com", name]), "nginx_sites[0].server_names[1]", words)


def test_the_same_twice_names_both():
    site = {"name": "a", "server_names": ["a.example.com"], "root": "/srv/a", "default": True}
    other = {"name": "a", "server_names": ["b.example.com", "A.example.com."], "root": "/srv/a", "default": True}
    found = faults(nginx_sites=[site, other])
    assert [fault.split(": ")[0] for fault in found] == [
        "nginx_sites[1].name",
        "nginx_sites[1].server_names[1]",
        "nginx_sites[1].default",
    ]
    assert all("nginx_sites[0]" in fault and "nginx_sites[1]" in fault for fault in found)


def test_the_same_path_twice():
    uwsgi = {"kind": "uwsgi", "target": "localhost:1"}
    assert site_faults(locations=[{"path": "/x", **uwsgi}, {"path": "/x", "match": "exact", **uwsgi}]) == []
    found = site_faults(static=[{"url": "/x/", "path": "/srv/x"}], locations=[{"path": "/x/", **uwsgi}])
    one(found, "nginx_sites[0].locations[0].path", "nginx_sites[0].static[0].url")


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"nginx_http_port": 0}, "nginx_http_port"),
        ({"nginx_status_port": "65536"}, "nginx_status_port"),
        ({"nginx_http_port": 8099}, "nginx_status_port"),
        ({"nginx_http2_port": -1}, "nginx_http2_port"),
        ({"nginx_http2_port": "80"}, "nginx_http2_port"),
        ({"nginx_worker_processes": "many"}, "nginx_worker_processes"),
        ({"nginx_worker_processes": "0"}, "nginx_worker_processes"),
        ({"nginx_worker_connections": 0}, "nginx_worker_connections"),
        ({"nginx_open_files": 8191}, "nginx_open_files"),
        ({"nginx_log_days": -1}, "nginx_log_days"),
        ({"nginx_answer_seconds": 0}, "nginx_answer_seconds"),
        ({"nginx_maintenance_retry": 0}, "nginx_maintenance_retry"),
        ({"nginx_maintenance_allow": ["::1", "all"]}, "nginx_maintenance_allow[1]"),
        ({"nginx_maintenance_allow": ["192.0.2.1/24"]}, "nginx_maintenance_allow[0]"),
        ({"nginx_maintenance_allow": ["192.0.2.1 1; } geo $x {"]}, "nginx_maintenance_allow[0]"),
        ({"nginx_maintenance_allow": [None]}, "nginx_maintenance_allow[0]"),
        ({"nginx_trusted_proxies": ["10.0.0.0/8", "balancer"]}, "nginx_trusted_proxies[1]"),
        ({"nginx_trusted_proxies": ["10.0.0.1/8"]}, "nginx_trusted_proxies[0]"),
        ({"nginx_trusted_proxies": [None]}, "nginx_trusted_proxies[0]"),
        ({"nginx_trusted_proxies": ["10.0.0.1", "0.0.0.0/0"]}, "nginx_trusted_proxies[1]"),
        ({"nginx_trusted_proxies": ["::/0"]}, "nginx_trusted_proxies[0]"),
        ({"nginx_keepalive_timeout": -1}, "nginx_keepalive_timeout"),
        ({"nginx_http_options": {"Gzip on": "x"}}, "nginx_http_options.Gzip on"),
        ({"nginx_http_options": {"gzip": "on;"}}, "nginx_http_options.gzip"),
        ({"nginx_http_options": {"gzip": ["on", "a\nb"]}}, "nginx_http_options.gzip"),
        ({"nginx_http_options": {"gzip": {"a": 1}}}, "nginx_http_options.gzip"),
        ({"nginx_http_options": {"gzip": None}}, "nginx_http_options.gzip"),
        ({"nginx_http_options": {"gzip": "on\\"}}, "nginx_http_options.gzip"),
    ],
)
def test_values_refused(inputs, path):
    one(faults(**inputs), path)


def test_a_number_may_be_written_as_a_text():
    assert faults(nginx_http_port="8080", nginx_log_days="10") == []
    assert location_faults(path="/", kind="uwsgi", target="localhost:1", modifier="10") == []


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"server_names": []}, "server_names"),
        ({"root": "srv/www"}, "root"),
        ({"root": "/srv/../etc"}, "root"),
        ({"root": "/srv/www; x"}, "root"),
        ({"root": "/srv/$host"}, "root"),
        ({"root": "/home/me/www"}, "root"),
        ({"body_size": "10X"}, "body_size"),
        ({"body_size": "-1"}, "body_size"),
        ({"header_size": "512"}, "header_size"),
        ({"header_size": "0k"}, "header_size"),
        ({"header_size": "1g"}, "header_size"),
        ({"header_size": "9m"}, "header_size"),
        ({"timeouts": {"connect": 0}}, "timeouts.connect"),
        ({"timeouts": {"client_send": -1}}, "timeouts.client_send"),
        ({"error_pages": {200: "/srv/x"}}, "error_pages.200"),
        ({"error_pages": {404: "404.html"}}, "error_pages.404"),
        ({"access": {"allow": ["10.0.0.1/8"]}}, "access.allow[0]"),
        ({"access": {"deny": ["everybody; x"]}}, "access.deny[0]"),
        ({"static": [{"url": "static/", "path": "/srv/x"}]}, "static[0].url"),
        ({"static": [{"url": "/s {", "path": "/srv/x"}]}, "static[0].url"),
        ({"static": [{"url": "/x", "path": "/srv/x/"}]}, "static[0]"),
        ({"static": [{"url": "/x/", "path": "/tmp/x"}]}, "static[0].path"),
        ({"static": [{"url": "/x/", "path": "/srv/x", "max_age": -1}]}, "static[0].max_age"),
        ({"static": [{"url": "/x/", "path": "/srv/x", "immutable": True}]}, "static[0].immutable"),
    ],
)
def test_site_values_refused(keys, path):
    one(site_faults(**keys), f"nginx_sites[0].{path}")


def test_a_site_that_serves_nothing():
    one(site_faults(root=None), "nginx_sites[0]", "serves nothing")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/new/?a=1",
        "https://www.example.org$request_uri",
        "https://$host/x",
        "$scheme://www.example.org/",
        "$request_uri",
    ],
)
def test_redirects(target):
    assert location_faults(path="/x", kind="redirect", target=target, code=302) == []


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"kind": "uwsgi"}, "target"),
        ({"kind": "raw", "raw": ""}, "raw"),
        ({"kind": "uwsgi", "target": "unix:run/x.sock"}, "target"),
        ({"kind": "uwsgi", "target": "unix:/tmp/x.sock"}, "target"),
        ({"kind": "uwsgi", "target": "localhost"}, "target"),
        ({"kind": "uwsgi", "target": "localhost:65536"}, "target"),
        ({"kind": "uwsgi", "target": "localhost:1; x"}, "target"),
        ({"kind": "proxy", "target": "https://localhost"}, "target"),
        ({"kind": "proxy", "target": "http://$host"}, "target"),
        ({"kind": "proxy", "target": "http://localhost:0"}, "target"),
        ({"kind": "redirect", "target": "www.example.com"}, "target"),
        ({"kind": "redirect", "target": "javascript:x"}, "target"),
        ({"kind": "redirect", "target": "https://x$uri"}, "target"),
        ({"kind": "redirect", "target": "https://x$request_uri_x"}, "target"),
        ({"kind": "redirect", "target": "/x; y"}, "target"),
        ({"kind": "redirect", "target": "/x", "access": {"allow": ["::1"]}}, "access"),
        ({"kind": "uwsgi", "target": "localhost:1", "code": 301}, "code"),
        ({"kind": "uwsgi", "target": "localhost:1", "raw": "x"}, "raw"),
        ({"kind": "raw", "raw": "x;", "target": "/"}, "target"),
        ({"kind": "raw", "raw": "x;", "path": "x"}, "path"),
        ({"kind": "raw", "raw": "x;", "path": "", "match": "regex"}, "path"),
        ({"kind": "raw", "raw": "x;", "path": "a\nb", "match": "regex"}, "path"),
        ({"kind": "static", "target": "/srv/x", "match": "regex"}, "match"),
    ],
)
def test_locations_refused(keys, path):
    one(location_faults(**{"path": "/x", **keys}), f"nginx_sites[0].locations[0].{path}")


def test_values_of_other_types_are_judged_by_their_text():
    assert site_faults(name=5, server_names=[5], body_size=5, timeouts={"read": "1"}, default="no") == []
    one(site_faults(server_names=[None]), "nginx_sites[0].server_names[0]", "empty")
    one(site_faults(static=[{"url": 5, "path": "/srv/x"}]), "nginx_sites[0].static[0].url")
    one(site_faults(error_pages={404: None}), "nginx_sites[0].error_pages.404")


def test_a_message_is_one_short_line():
    (fault,) = site_faults(body_size="1\n" * 200)
    assert "\n" not in fault
    assert len(fault) < 250


def test_a_folder_without_its_slash_would_show_what_stands_beside_it():
    one(location_faults(path="/files", kind="static", target="/srv/files"), "nginx_sites[0].locations[0].path", "'/'")
    assert location_faults(path="/robots.txt", match="exact", kind="static", target="/srv/robots.txt") == []


@pytest.mark.parametrize("target", ["http://localhost:8000/", "http://localhost:8000/public/"])
def test_a_proxied_folder_without_its_slash_would_show_what_stands_beside_it(target):
    one(location_faults(path="/api", kind="proxy", target=target), "nginx_sites[0].locations[0].path", "'/'")
    assert location_faults(path="/api/", kind="proxy", target=target) == []
    assert location_faults(path="/api", kind="proxy", target=target.rstrip("/")) == []
    assert location_faults(path="/api", match="exact", kind="proxy", target=target) == []


def test_rules_without_an_address_would_let_everybody_in():
    one(site_faults(access={"allow": [], "deny": []}), "nginx_sites[0].access", "neither allow nor deny")


def test_a_site_with_a_certificate_has_no_fault():
    assert site_faults(
        certificate="/etc/ssl/www/fullchain.pem", certificate_key="/etc/ssl/www/key.pem",
        redirect_names=["example.com", "*.example.net"], client_connections=0, client_requests=5,
    ) == []  # fmt: skip
    assert faults(nginx_maintenance_allow=["192.0.2.1", "10.0.0.0/8", "2001:db8::/32"]) == []


def test_trusted_proxies_are_addresses_and_networks():
    assert faults(nginx_trusted_proxies=["192.0.2.1", "10.0.0.0/8", "2001:db8::/32"]) == []
    one(faults(nginx_trusted_proxies=["0.0.0.0/0"]), "nginx_trusted_proxies[0]", "would trust everybody")
    assert faults(nginx_headers={"X-Shop": "it's; {open}", "X-Frame-Options": ""}, nginx_challenge_root="/srv/c") == []


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"certificate": "/etc/ssl/a.pem"}, "nginx_sites[0].certificate_key"),
        ({"certificate_key": "/etc/ssl/a.pem"}, "nginx_sites[0].certificate"),
        ({"certificate": "/root/a.pem", "certificate_key": "/etc/ssl/a.key"}, "nginx_sites[0].certificate"),
        ({"certificate": "/etc/ssl/a.pem", "certificate_key": "/etc/a;b"}, "nginx_sites[0].certificate_key"),
        ({"redirect_names": ["http://example.com"]}, "nginx_sites[0].redirect_names[0]"),
        ({"redirect_names": ["WWW.example.com."]}, "nginx_sites[0].redirect_names[0]"),
        ({"server_names": ["*.example.com"], "redirect_names": ["example.com"]}, "nginx_sites[0].server_names[0]"),
        ({"client_connections": -1}, "nginx_sites[0].client_connections"),
        ({"client_requests": -1}, "nginx_sites[0].client_requests"),
    ],
)
def test_values_around_certificates_and_limits_refused(keys, path):
    one(site_faults(**keys), path)


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"nginx_https_port": 0}, "nginx_https_port"),
        ({"nginx_headers": {"x-frame-options": "SAMEORIGIN"}}, "nginx_headers.x-frame-options"),
        ({"nginx_headers": {"X-Shop": "a", "X-SHOP": "b"}}, "nginx_headers.X-SHOP"),
        ({"nginx_client_requests": -1}, "nginx_client_requests"),
        ({"nginx_client_connections": -1}, "nginx_client_connections"),
        ({"nginx_challenge_root": "srv"}, "nginx_challenge_root"),
        ({"nginx_challenge_peers": ["192.0.2.2"]}, "nginx_challenge_peers"),
        ({"nginx_challenge_root": "/srv/c", "nginx_challenge_peers": ["web2"]}, "nginx_challenge_peers[0]"),
        ({"nginx_challenge_port": 0}, "nginx_challenge_port"),
        ({"nginx_headers": {"X Shop": "a"}}, "nginx_headers.X Shop"),
        ({"nginx_headers": {"X-Shop": 'a"; return 200; #'}}, "nginx_headers.X-Shop"),
        ({"nginx_headers": {"X-Shop": "a\nb"}}, "nginx_headers.X-Shop"),
        ({"nginx_headers": {"X-Shop": "$request_uri"}}, "nginx_headers.X-Shop"),
        ({"nginx_headers": {"X-Shop": ["a"]}}, "nginx_headers.X-Shop"),
    ],
)
def test_values_of_the_role_refused(inputs, path):
    one(faults(**inputs), path)


def test_the_port_of_https_is_in_nobodys_way_without_a_certificate():
    assert faults(nginx_http_port=443) == []
    site = {
        "name": "www",
        "server_names": ["a.example"],
        "root": "/srv/a",
        "certificate": "/etc/a",
        "certificate_key": "/etc/b",
    }
    one(faults(nginx_http_port=443, nginx_sites=[site]), "nginx_https_port", "nginx_http_port too")


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"nginx_trusted_proxies": []}, "nginx_proxy_protocol"),
        ({"nginx_http2_port": 8082}, "nginx_http2_port"),
        ({"nginx_http3": "yes"}, "nginx_http3"),
        ({"nginx_hands_over_ports": "yes"}, "nginx_hands_over_ports"),
        ({"nginx_hands_over_ports": "yes", "nginx_http_port": 8080, "nginx_https_port": 443}, "nginx_hands_over_ports"),
    ],
)
def test_behind_balancers_that_hand_connections_on(inputs, path):
    behind = {"nginx_proxy_protocol": True, "nginx_trusted_proxies": ["192.0.2.1"]}
    assert faults(**behind) == []
    one(faults(**{**behind, **inputs}), path)


def test_ports_are_handed_over_to_load_balancers_alone():
    one(faults(nginx_hands_over_ports="yes", nginx_http_port=8080, nginx_https_port=8443), "nginx_hands_over_ports")
