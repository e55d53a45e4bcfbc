"""What a visitor's last step says of the page, under maintenance too."""

from __future__ import annotations

import http.server
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from loading import load, serving

page = load("plugins/action/walk.py")._page
walk = load("plugins/modules/walk.py")


class Site(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<title>A page</title>")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with serving(Site) as number:
        yield number


@pytest.mark.parametrize(
    ("status", "maintenance", "said", "broken"),
    [
        (200, "", "200, 21 characters", False),
        (503, "", "503, 21 characters", True),
        (503, "2026-11-26 01:00 UTC", "under maintenance since 2026-11-26 01:00 UTC, until make maintenance", False),
        (200, "2026-11-26 01:00 UTC", "and this machine is one that sees the site", False),
        (502, "2026-11-26 01:00 UTC", "502, 21 characters", True),
    ],
)
def test_the_page_is_judged_by_whether_it_is_wanted(port, monkeypatch, status, maintenance, said, broken):
    monkeypatch.setattr(Site, "status", status)
    saw, look = page("www.example.com", "127.0.0.1", port, None, maintenance)
    assert said in saw
    assert bool(look) == broken


def test_since_when_is_the_time_of_the_file(tmp_path):
    def since(path: object) -> str:
        return walk.Walk(SimpleNamespace(params={"maintenance": path})).maintenance()

    switch = tmp_path / "www"
    assert since(str(switch)) == since(None) == ""
    switch.touch()
    os.utime(switch, (1_800_000_000, 1_800_000_000))
    assert since(str(switch)) == "2027-01-15 08:00 UTC"
