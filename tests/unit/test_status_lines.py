"""What status.yml says of one site, and of several."""

from __future__ import annotations

from typing import Any

from loading import load

module = load("plugins/filter/status_lines.py")
NO_DATABASE = {"skipped": True}
OPEN = {"exists": False}
CLOSED = {"exists": True, "mtime": 1764342000.0}  # 2025-11-28 15:00 UTC
OVERVIEW = ["shop: release 20251128151837-5bd9fffc372d in slot blue", "releases:"]
LIVE = {"item": "shop", "answer": {"release": "20251128151837-5bd9fffc372d", "slot": "blue", "version": "main", "overview": OVERVIEW, "wrong": []}}  # fmt: skip
SILENT = {"item": "blog", "msg": "sh: 1: webstack-release: not found\n"}
GOOD = {"item": "shop", "rc": 0, "stdout_lines": ["issuer=CN=Test", "notAfter=Nov  8 15:19:00 2027 GMT", "will not expire"]}  # fmt: skip
ENDS = {"item": "blog", "rc": 1, "stdout_lines": ["issuer=CN=Test", "notAfter=Nov 29 15:19:00 2025 GMT", "will expire"]}
ABSENT = {"item": "blog", "rc": 1, "stdout_lines": []}


def stat(**sites: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"item": site, "stat": stat} for site, stat in sites.items()]


def status_lines(*results: Any, backups: dict[str, Any] | None = None, **named: Any) -> dict[str, list[str]]:
    told: dict[str, list[str]] = module.status_lines(*results, backups=backups or NO_DATABASE, **named)
    return told


def test_backups_are_told_with_the_sites_and_a_promise_that_does_not_hold_needs_a_person():
    asked = ["shop"], [LIVE], [GOOD], stat(shop=CLOSED)
    alone = status_lines(*asked)
    good = status_lines(*asked, backups={"stdout": '{"overview": ["Full backups: none yet"], "wrong": []}'})
    assert good == {"said": [*alone["said"], "backups: Full backups: none yet"], "wrong": []}
    late = status_lines(
        *asked, backups={"stdout": '{"overview": ["Room", "Full backups: late"], "wrong": ["Full backups: late"]}'}
    )
    assert late["wrong"] == ["backups: Full backups: late"] and late["said"][-1] == "backups: Full backups: late"
    for silent in ({"msg": "No such file"}, {"stdout": "", "stderr": "No such file"}):
        told = status_lines(*asked, backups=silent)
        assert told["said"] == alone["said"]
        assert told["wrong"] == [
            "backups: they cannot be asked for: No such file; a converge of the host (make site) mends its tools"
        ]


def test_one_site_is_told_in_full():
    told = status_lines(["shop"], [LIVE], [GOOD], stat(shop=CLOSED))
    assert told["said"] == [
        *OVERVIEW,
        "certificate: issuer=CN=Test, notAfter=Nov  8 15:19:00 2027 GMT",
        "maintenance: on since 2025-11-28 15:00 UTC",
    ]
    assert told["wrong"] == []
    told = status_lines(["docs"], [], [], stat(docs=OPEN))
    assert told["said"] == ["docs: a site without an application", "certificate: none, HTTP alone", "maintenance: off"]


def test_several_sites_are_a_table():
    asked = {"releases": [LIVE, SILENT], "certificates": [GOOD, ENDS], "maintenance": stat(shop=OPEN, blog=CLOSED, docs=OPEN)}  # fmt: skip
    told = status_lines(["shop", "blog", "docs"], **asked)
    assert told["said"] == [
        "site  release                      version  slot  certificate       maintenance",
        "shop  20251128151837-5bd9fffc372d  main     blue  until 2027-11-08  off",
        "blog  cannot be asked                             until 2025-11-29  on since 2025-11-28 15:00 UTC  ← see below",
        "docs  no application                              HTTP alone        off",
    ]
    assert told["wrong"] == [
        "blog: its release cannot be asked: sh: 1: webstack-release: not found",
        "blog: its certificate ends within a week, has ended, or is not there",
    ]


def test_what_the_release_tool_says_is_wrong_needs_a_person():
    live = {"item": "blog", "answer": {"release": "", "slot": None, "version": "", "overview": [], "wrong": ["nothing is live"]}}  # fmt: skip
    told = status_lines(["blog", "shop"], [live, LIVE], [ABSENT, GOOD], stat(shop=OPEN, blog=OPEN))
    assert told["wrong"] == [
        "blog: nothing is live",
        "blog: its certificate ends within a week, has ended, or is not there",
    ]
    assert told["said"][1].split("  ")[:2] == ["blog", "nothing is live"] and told["said"][1].endswith("← see below")


def test_a_dry_run_of_a_host_without_the_tool_says_that_nothing_is_live():
    bare = {"item": "shop", "answer": load("plugins/action/app_release.py").NOTHING_LIVE}
    told = status_lines(["shop"], [bare], [], stat(shop=OPEN))
    assert told["said"][0] == "shop: nothing is live"
