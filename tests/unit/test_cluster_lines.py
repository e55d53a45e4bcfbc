"""What status.yml says of hosts that share their sites."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from loading import load

module = load("plugins/filter/cluster_lines.py")
WEB = ["web1", "web2", "web3"]
SHARED = {"balancers": WEB, "web": WEB, "databases": WEB, "addresses": ["10.0.0.100"]}
RELEASE = "20251128151837-5bd9fffc372d"
OLDER = "20251127151837-0a0b0c0d0e0f"
NODE = {"status": "Primary", "state": "Synced", "size": 3, "writes": False, "since": "2025-11-28 15:00:01.123456"}
VIEW = {host: {"shop": "UP", "https": "UP", "http": "UP"} for host in WEB}
LOST = {"reached": {"unreachable": True, "msg": "no route to host"}, "node": {"skipped": True}}
WELL = [
    "host  balancer        visitors     database",
    "web1  stands by       in rotation  Synced, 3 of 3",
    "web2  has 10.0.0.100  in rotation  Synced, 3 of 3, writer since 2025-11-28 15:00 UTC",
    "web3  stands by       in rotation  Synced, 3 of 3",
    "",
    "site  release                      version  hosts  certificate       maintenance",
    "shop  20251128151837-5bd9fffc372d  main     all    until 2027-11-08  off",
    "docs  no application                        all    HTTP alone        off",
    "",
    "backups of web1:",
    "  Full backups: none yet",
]


def addresses(*held: str) -> dict[str, Any]:
    return {"rc": 0, "stdout": json.dumps([{"addr_info": [{"local": address} for address in ("10.0.0.11", *held)]}])}


def balancer(view: dict[str, Any] | None = None, held: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"results": [{"rc": 0, "stdout": json.dumps(view or VIEW)}, addresses(*held), {"rc": 0, "stdout": "active"}]}


def node(**more: Any) -> dict[str, Any]:
    return {"rc": 0, "stdout": json.dumps({**NODE, **more})}


def host(**more: Any) -> dict[str, Any]:
    live = {"release": RELEASE, "slot": "blue", "version": "main", "wrong": []}
    stat = {"exists": False}
    return {
        "reached": {"rc": 0},
        "live": {"results": [{"item": "shop", "answer": live}]},
        "certificate": {"results": [{"item": "shop", "rc": 0, "stdout_lines": ["notAfter=Nov  8 15:19:00 2027 GMT"]}]},
        "maintenance": {"results": [{"item": site, "stat": stat} for site in ("shop", "docs")]},
        "backups": {"skipped": True},
        "balancer": balancer(),
        "node": node(),
        **more,
    }  # fmt: skip


def all_well() -> dict[str, Any]:
    backups = {"stdout": '{"overview": ["Full backups: none yet"], "wrong": []}'}
    hosts = {
        "web1": host(backups=backups),
        "web2": host(balancer=balancer(held=("10.0.0.100",)), node=node(writes=True)),
        "web3": host(),
    }
    return copy.deepcopy(hosts)


def told(asked: dict[str, Any], shared: dict[str, list[str]] = SHARED) -> dict[str, list[str]]:
    said: dict[str, list[str]] = module.cluster_lines(["shop", "docs"], shared, asked)
    return said


def line(said: dict[str, list[str]], host: str) -> str:
    return next(words for words in said["said"] if words.startswith(host))


def test_hosts_that_are_well_are_one_table():
    assert told(all_well()) == {"said": WELL, "wrong": []}


def test_a_host_that_is_not_reached_is_told_of_with_the_others():
    """And once, though the others miss it, too."""
    without = {**VIEW, "web3": dict.fromkeys(VIEW["web3"], "DOWN")}
    asked = {**all_well(), "web3": LOST}
    for name in ("web1", "web2"):
        asked[name]["balancer"] = balancer(without, ("10.0.0.100",) if name == "web2" else ())
        asked[name]["node"] = node(size=2, writes=name == "web2")
    said = told(asked)
    assert line(said, "web3").startswith("web3  not reached     not ready on web1, web2  not reached")
    assert line(said, "web3").endswith("← see below") and "shop  " + RELEASE + "  main     web1, web2" in line(
        said, "shop"
    )
    assert said["wrong"] == [
        "web3 is not reached: no route to host",
        "The database's cluster has 2 of 3 nodes, as web1, web2 see it",
    ]
    stopped = {"reached": {"rc": 1, "stderr": "Error: container is not running"}, "node": {"skipped": True}}
    asked["web3"] = stopped
    assert told(asked)["wrong"][0] == "web3 is not reached: Error: container is not running"
    # One that was lost while it was asked has no answer to the last question.
    asked["web3"] = {"reached": {"rc": 0}}
    assert told(asked)["wrong"][0] == "web3 is not reached: it was lost meanwhile"


@pytest.mark.parametrize(
    ("name", "change", "wrong", "cell"),
    [
        ("web1", {"balancer": balancer({**VIEW, "web3": dict.fromkeys(VIEW["web3"], "DRAIN")})},
         ["web3 gets not all visitors: it is drained on web1"], "drained on web1"),
        ("web1", {"balancer": balancer({**VIEW, "web3": {**VIEW["web3"], "shop": "DOWN"}})},
         ["web3 gets not all visitors: it is not ready for shop on web1"], "not ready for shop on web1"),
        ("web1", {"balancer": balancer({"web1": VIEW["web1"], "web2": VIEW["web2"]})},
         ["web3 gets not all visitors: it is unknown on web1"], "unknown on web1"),
        ("web3", {"balancer": {"results": [{"rc": 1, "stdout": "", "stderr": "HAProxy does not answer: Connection refused"}, addresses(), {"rc": 0}]}},
         ["web3 leads no visitors on: HAProxy does not answer: Connection refused"], "leads nobody on"),
        ("web3", {"balancer": {"results": [{"stdout": json.dumps(VIEW)}, addresses(), {"rc": 3, "stdout": "inactive"}]}},
         ["web3 cannot take the virtual addresses over: keepalived is inactive"], "stands by"),
        ("web3", {"balancer": balancer(held=("10.0.0.100",))},
         ["10.0.0.100: web2 and web3 have this address at once; one does not hear the other's announcements"], "has 10.0.0.100"),
        ("web3", {"node": node(state="Donor/Desynced")},
         ["web3 has a database node that is not Synced: Donor/Desynced"], "Donor/Desynced, 3 of 3"),
        ("web3", {"node": {"stdout": '{"error": "timed out"}'}},
         ["web3 has a database node that does not answer: timed out"], "does not answer"),
        ("web3", {"node": {"msg": "No such file"}},
         ["web3 has a database node that does not answer: No such file"], "does not answer"),
        ("web3", {"node": node(status="non-Primary", state="Initialized", size=1)},
         ["web3 has a database node that does not reach most of the others, so it serves nobody: Initialized"], "Initialized, alone with 1 of 3"),
        ("web3", {"node": node(writes=True)}, ["web2 and web3 both take writes to the database"], "writer since"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_host_needs_a_person(name, change, wrong, cell):
    asked = all_well()
    asked[name].update(change)
    said = told(asked)
    assert said["wrong"] == wrong
    assert cell in line(said, "web3")


def test_an_address_that_nobody_has_and_a_database_that_nobody_writes_need_a_person():
    asked = all_well()
    asked["web2"] = host()
    assert told(asked)["wrong"] == [
        "10.0.0.100: no load balancer has this address, so no visitor comes by it",
        "No database node takes writes",
    ]
    # One who is not asked may be it.
    del asked["web3"]
    said = told(asked)
    assert said["wrong"] == [] and line(said, "web3").startswith("web3  not asked")


def test_different_releases_need_a_person():
    asked = all_well()
    asked["web3"]["live"]["results"][0]["answer"]["release"] = OLDER
    said = told(asked)
    assert said["said"][6:8] == [
        "shop  20251128151837-5bd9fffc372d  main     web1, web2  until 2027-11-08  off          ← see below",
        "      20251127151837-0a0b0c0d0e0f  main     web3        until 2027-11-08  off          ← see below",
    ]
    assert said["wrong"] == [
        "shop: different releases are live, 5bd9fffc372d on web1, web2; 0a0b0c0d0e0f on web3; a deploy gives all of them one"
    ]
    # What a host has built later is the same code.
    asked["web3"]["live"]["results"][0]["answer"]["release"] = "20251129000000-5bd9fffc372d"
    assert told(asked)["wrong"] == []


def test_hosts_that_got_what_the_others_have_by_its_commit_have_the_same_release():
    asked = all_well()
    asked["web2"]["live"]["results"][0]["answer"]["version"] = "5bd9fffc372d5bd9fffc372d5bd9fffc372d5bd9"
    assert told(asked) == told(all_well())


def test_what_is_wrong_with_a_site_names_the_hosts_unless_it_is_so_on_all():
    asked = all_well()
    asked["web3"]["live"]["results"][0]["answer"]["wrong"] = ["it is not verified"]
    asked["web1"]["maintenance"]["results"][0]["stat"] = {"exists": True, "mtime": 1764342000.0}
    asked["web1"]["backups"] = {"msg": "No such file"}
    for mine in asked.values():
        mine["certificate"]["results"][0]["rc"] = 1
    said = told(asked)
    assert said["wrong"] == [
        "shop: web1 alone is under maintenance",
        "shop: its certificate ends within a week, has ended, or is not there",
        "shop on web3: it is not verified",
        "backups of web1: they cannot be asked for: No such file; a converge of the host (make site) mends its tools",
    ]
    assert "on since 2025-11-28 15:00 UTC" in line(said, "shop")


def test_seven_hosts_have_a_line_each():
    names = {"balancers": ["lb1", "lb2"], "web": ["web1", "web2"], "databases": ["db1", "db2", "db3"]}
    view = dict.fromkeys(names["web"], VIEW["web1"])
    nothing = {
        "reached": {"rc": 0},
        "balancer": {"results": []},
        "backups": {"skipped": True},
        "node": {"skipped": True},
    }
    asked = {
        **{
            name: {**nothing, "balancer": balancer(view, ("2001:db8:0::64",) if name == "lb1" else ())}
            for name in names["balancers"]
        },
        **{name: {**host(), "node": {"skipped": True}} for name in names["web"]},
        **{name: {**nothing, "node": node(writes=name == "db3")} for name in names["databases"]},
    }
    said = told(asked, {**names, "addresses": ["2001:db8::64"]})
    assert said["wrong"] == []
    assert said["said"][:8] == [
        "host  balancer          visitors     database",
        "lb1   has 2001:db8::64",
        "lb2   stands by",
        "web1                    in rotation",
        "web2                    in rotation",
        "db1                                  Synced, 3 of 3",
        "db2                                  Synced, 3 of 3",
        "db3                                  Synced, 3 of 3, writer since 2025-11-28 15:00 UTC",
    ]


def test_hosts_behind_somebody_elses_balancer_have_no_column_for_it():
    said = told(all_well(), {**SHARED, "balancers": [], "addresses": []})
    assert said["wrong"] == [] and said["said"][0].split() == ["host", "database"]
