"""Two hosts that share a site: a release is built on both, migrated once, and goes live on one after the other, while visitors come."""

from __future__ import annotations

import json
import subprocess

import pytest
import testinfra
from scenario import Host, Run, names, playbook, until
from virtual import virtual_address
from visitors import visitors

ADDRESS = str(virtual_address().ip)
SITE = "www.example.com"
BROKEN = "cp /etc/hello/uwsgi.ini /root/uwsgi.ini && echo no-such-option=1 >> /etc/hello/uwsgi.ini"
MENDED = "mv /root/uwsgi.ini /etc/hello/uwsgi.ini"


def hosts() -> list[Host]:
    return [testinfra.get_host(f"docker://{name}") for name in names()]


def status(host: Host) -> dict:
    return json.loads(host.check_output("webstack-release hello status --json"))


def releases() -> set[str]:
    return {status(host)["release"] for host in hosts()}


def history(host: Host) -> list[dict]:
    return [json.loads(line) for line in host.check_output("cat /var/lib/hello/history").splitlines() if line]


def deploy(ref: str, *arguments: str, **variables) -> Run:
    return playbook(*arguments, name="../../playbooks/deploy.yml", ref=ref, **variables)


def rollback(release: str = "") -> Run:
    return playbook(name="../../playbooks/rollback.yml", release=release)


def other() -> str:
    """One of two branches, whichever is not live."""
    return "better" if status(hosts()[0])["version"] != "better" else "main"


@pytest.fixture(autouse=True)
def all_well():
    """After each test both hosts serve one release, are whole, and get visitors from both balancers."""
    yield
    assert len(releases()) == 1
    for host in hosts():
        assert status(host)["committed"] and not status(host)["drained"]
        until(lambda host=host: host.run("webstack-balance status").rc == 0)


def test_the_first_release_is_the_same_on_both_and_was_migrated_once():
    first = [history(host)[:3] for host in hosts()]
    kinds = [[(entry["kind"], entry["verdict"]) for entry in entries] for entries in first]
    assert kinds[0] == [("stage", "staged"), ("migrate", "migrated"), ("switch", "live")]
    assert kinds[1][:2] == [("stage", "staged"), ("switch", "live")]
    assert first[0][2]["release"] == first[1][1]["release"]


def test_a_commit_is_shipped_to_both_and_no_visitor_notices():
    ref, before = other(), {host.backend.name: len(history(host)) for host in hosts()}
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 100)
        deploy(ref).must_succeed().must_say("wait for visitors", "requests, 0 failed")
    assert not them.failures
    assert {status(host)["version"] for host in hosts()} == {ref}
    assert len(releases()) == 1, "under one name"
    done = {host.backend.name: history(host)[before[host.backend.name] :] for host in hosts()}
    assert sorted(entry["kind"] for entries in done.values() for entry in entries) == [
        "migrate", "stage", "stage", "switch", "switch",
    ]  # fmt: skip
    first, second = (next(entry for entry in done[name] if entry["kind"] == "switch") for name in names())
    assert first["ended"] < second["since"], "one after the other"
    assert deploy(ref).must_succeed().changed == []


def test_where_the_second_host_refuses_the_first_goes_back():
    before, second = releases(), hosts()[1]
    second.check_output(BROKEN)
    try:
        with visitors(ADDRESS, SITE) as them:
            until(lambda: them.asked > 100)
            deploy(other()).must_fail(
                "unknown config directive: no-such-option",
                f"it is back on {next(iter(before))}, since {names()[1]} refused it",
                f"it has what it had, since {names()[1]} refused it",
            )
    finally:
        second.check_output(MENDED)
    assert not them.failures
    assert releases() == before
    assert len({status(host)["before"] for host in hosts()}) == 1, "what was refused is nothing to go back to"
    kinds = [(entry["kind"], entry["verdict"]) for entry in history(hosts()[0])[-2:]]
    assert kinds == [("switch", "live"), ("undo", "live")]


def test_a_rollback_is_the_same_on_both_hosts():
    first, second = hosts()
    (newest,) = releases()
    (before,) = {status(host)["before"] for host in hosts()}
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 100)
        rollback().must_succeed().must_say("wait for visitors")
        assert releases() == {before}
        # Somebody has done it on one of them alone.
        first.check_output(f"webstack-release hello rollback {newest}")
        rollback().must_be_refused(
            f"different ones live: {names()[0]} {newest}, {names()[1]} {before}; name the one for all"
        )
        rollback("20200101000000-c0ffee").must_be_refused("'20200101000000-c0ffee' is no verified release of this host")
        rollback(newest).must_succeed()
    assert not them.failures
    assert releases() == {newest}
    assert history(first)[-1]["kind"] == "rollback" and history(first)[-1]["release"] == newest
    assert (history(second)[-1]["kind"], history(second)[-1]["release"]) == ("rollback", newest)


def in_phase(host: Host, phase: str) -> bool:
    change = json.loads(host.run("cat /var/lib/hello/change.json").stdout or "{}")
    return change.get("phase") == phase and not change.get("verdict")


def test_a_run_that_is_killed_is_made_up_for_by_the_next():
    ref, (first, second) = other(), hosts()
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 100)
        with pytest.raises(subprocess.TimeoutExpired):
            playbook(name="../../playbooks/deploy.yml", ref=ref, kill_when=lambda: in_phase(first, "admit"))
        # Without its controller it goes on to a verdict, and has no visitors from then on.
        until(lambda: status(first)["version"] == ref and status(first)["committed"])
        assert status(first)["drained"] and status(second)["version"] != ref
        assert "may send no visitors to this host" in first.check_output("webstack-release hello status")
        deploy(ref).must_succeed()
    assert not them.failures
    assert {status(host)["version"] for host in hosts()} == {ref}


def test_a_host_that_missed_a_deploy_gets_the_release_that_the_other_has():
    ref, (first, second) = other(), hosts()
    deploy(ref, "--limit", names()[0]).must_succeed()
    assert status(first)["version"] == ref and status(second)["version"] != ref
    migrations = [entry for host in hosts() for entry in history(host) if entry["kind"] == "migrate"]
    deploy(ref).must_succeed()
    assert len(releases()) == 1
    assert migrations == [entry for host in hosts() for entry in history(host) if entry["kind"] == "migrate"]


def test_what_is_declared_is_shipped_to_both_by_a_converge(converge):
    ref = "better"  # until now, main was declared, whatever is live
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 100)
        converge(version=ref).must_succeed()
    assert not them.failures
    assert {status(host)["version"] for host in hosts()} == {ref}
    assert converge(version=ref).must_succeed().changed == []
