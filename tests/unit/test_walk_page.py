"""What the walk says of the page, of the code and of the database, of applications as people bring them."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from loading import load, serving

page = load("plugins/action/walk.py")._page
walk = load("plugins/modules/walk.py")
DOMAIN, NAMES = "www.example.com", ["www.example.com", "example.com"]


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with a status, and for one that leads on, where to."""

    pages: ClassVar[dict[str, tuple[int, str]]] = {}

    def do_GET(self) -> None:
        status, target = self.pages.get(self.path, (404, ""))
        self.send_response(status)
        if target:
            self.send_header("Location", target)
        self.end_headers()
        self.wfile.write(f"<title>{self.headers['Host']}</title>".encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with serving(Site) as number:
        yield number


def seen(
    port: int, monkeypatch: pytest.MonkeyPatch, pages: dict[str, tuple[int, str]], **options: Any
) -> tuple[str, str]:
    monkeypatch.setattr(
        Site, "pages", {path: (status, to.replace("PORT", str(port))) for path, (status, to) in pages.items()}
    )
    return page(DOMAIN, "127.0.0.1", port, None, options.pop("maintenance", ""), names=NAMES, **options)


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ({"/": (204, "")}, "204, 0 characters"),
        ({"/": (302, "/login?next=/"), "/login?next=/": (200, "")}, "302 to /login?next=/, 200, "),
        ({"/": (301, "login/"), "/login/": (200, "")}, "301 to login/, 200, "),
        ({"/": (302, "http://www.example.com/in"), "/in": (200, "")}, "200, "),
        ({"/": (302, "http://example.com:PORT/in"), "/in": (200, "")}, '"example.com"'),
        ({"/": (302, "//WWW.example.com/in"), "/in": (200, "")}, "200, "),
        ({"/": (301, "https://www.example.com/")}, "another port of this site"),
        ({"/": (304, "")}, "304, "),
    ],
)
def test_a_page_of_this_site_is_right_wherever_it_leads(port, monkeypatch, pages, said):
    saw, look = seen(port, monkeypatch, pages)
    assert said in saw and look == ""


@pytest.mark.parametrize(
    ("pages", "said", "look"),
    [
        ({"/": (404, "")}, "404, ", "page_path and page_status of the site"),
        ({"/": (401, "")}, "401, ", "page_path and page_status of the site"),
        ({"/": (400, "")}, "400, ", "whether the application answers to the name www.example.com (ALLOWED_HOSTS"),
        ({"/": (500, "")}, "500, ", "/var/log/nginx/access.log"),
        ({"/": (302, "/login"), "/login": (500, "")}, "302 to /login, 500, ", "/var/log/nginx/access.log"),
        ({"/": (302, "https://login.example.net/")}, "302 to https://login.example.net/, which is not this site", "page_path of the site"),
        ({"/": (302, "http://www.example.com.evil.example/")}, "which is not this site", "page_path of the site"),
        ({"/": (301, "/")}, "301 to /, round and round", "knows of HTTPS and of its own name"),
        ({"/": (301, "http://www.example.com/")}, "round and round", "knows of HTTPS"),
        ({"/": (302, "/a"), "/a": (302, "/b"), "/b": (302, "/a")}, "round and round", "knows of HTTPS"),
        ({"/": (302, "http://[broken/")}, "302 to http://[broken/, ", "/var/log/nginx/access.log"),
    ],
)  # fmt: skip
def test_one_that_is_not_is_broken_and_says_where_to_look(port, monkeypatch, pages, said, look):
    saw, looks = seen(port, monkeypatch, pages)
    assert said in saw and look in looks


def test_the_page_and_its_status_can_be_said(port, monkeypatch):
    pages = {"/": (302, "https://elsewhere.example/"), "/api": (401, ""), "/in": (200, "")}
    assert seen(port, monkeypatch, pages, path="/in")[1] == ""
    assert seen(port, monkeypatch, pages, path="/api", wanted=401)[1] == ""
    assert seen(port, monkeypatch, pages, path="/", wanted=302)[1] == ""
    assert "page_status" in seen(port, monkeypatch, pages, path="/in", wanted=401)[1]
    saw, look = seen(port, monkeypatch, pages, path="/api", wanted=401, maintenance="2026-11-26")
    assert "under maintenance since 2026-11-26, and this machine" in saw and look == ""


# On the host


class Host:
    """A host by what its commands say."""

    def __init__(self, answers: dict[str, tuple[int, str]], database: str, error: str = "") -> None:
        self.answers, self.database, self.error = answers, database, error

    def walk(self, **params: Any) -> Any:
        given = {
            "app": "shop",
            "page_path": "/",
            "page_status": None,
            "health_path": "/healthz",
            "static_path": None,
            **params,
        }
        return walk.Walk(SimpleNamespace(params=given, run_command=self.run))

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "systemctl":
            known = "loaded" if self.database else "not-found"
            units = [f"LoadState={known}\nActiveState={self.database or 'inactive'}\n"]
            return 0, "\n".join([*units, "LoadState=not-found\nActiveState=inactive\n"]), ""
        if self.error:
            return 1, "", self.error
        status, body = self.answers[argv[-1]]
        return 0, json.dumps({"status": status, "body": body}), ""


@pytest.mark.parametrize("status", [200, 302, 400, 403, 404])
def test_what_the_code_makes_of_the_page_is_a_visitors_to_judge(status):
    assert Host({"/": (status, "x")}, "active").walk().code() == f"the code answers {status}, 1 characters"


@pytest.mark.parametrize(
    ("database", "names_it"), [("active", False), ("inactive", True), ("failed", True), ("", False)]
)
def test_the_database_is_named_only_where_it_does_not_run(database, names_it):
    for host in (Host({"/": (500, "x"), "/healthz": (500, "x")}, database), Host({}, database, "no socket")):
        for step in (host.walk().code, host.walk().database):
            with pytest.raises(walk.Broken) as broken:
                step()
            assert "journalctl -u 'shop@*'" in broken.value.look
            assert ("systemctl status mariadb mysql" in broken.value.look) == names_it


@pytest.mark.parametrize(("status", "names_it"), [(503, True), (400, False), (404, False), (500, False)])
def test_a_health_answer_names_the_database_only_where_it_says_that_something_is_missing(status, names_it):
    with pytest.raises(walk.Broken) as broken:
        Host({"/healthz": (status, "bad\n news")}, "active").walk().database()
    assert "/healthz" in broken.value.saw and "bad news" in broken.value.saw
    assert ("mariadb" in broken.value.look) == names_it
    assert ("app.health_path" in broken.value.look) != names_it


def test_an_answer_that_is_declared_is_right_whatever_it_is():
    host = Host({"/closed": (503, ""), "/healthz": (200, "well")}, "active")
    assert host.walk(page_path="/closed", page_status=503).code() == "the code answers 503, 0 characters"
    assert host.walk().database() == "/healthz says well"


def test_a_site_without_static_files_is_whole():
    assert Host({}, "active").walk().static() == "the site has none"
