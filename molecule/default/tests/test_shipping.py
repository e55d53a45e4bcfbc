"""deploy.yml and rollback.yml on the whole site."""

import json
import subprocess

import pytest
from scenario import PROJECT, playbook, until

MEANWHILE = """
until grep -q '"phase": "migrate"' /var/lib/foobar/change.json; do sleep 0.2; done
sleep 2
systemctl stop other-migration
"""
pytestmark = pytest.mark.thorough
REPOSITORY = str(PROJECT / ".cache/foobar.git")


def git(*argv):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", "-C", REPOSITORY, *identity, *argv], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def live(server):
    status = json.loads(server.check_output("webstack-release foobar status --json"))
    assert status["active"] and status["committed"]
    return status


def locked(server):
    said = server.check_output("mariadb --skip-column-names --execute %s", "SELECT IS_USED_LOCK('migrate foobar')")
    return said != "NULL"


def ship(name, *arguments, **variables):
    return playbook(*arguments, name=f"../../playbooks/{name}.yml", **variables)


def test_a_branch_is_shipped_one_migration_after_the_other_and_a_converge_leaves_it_and_a_rollback_goes_back(
    converge, servers
):
    """The first migration is another host's, or a hand's: it holds the lock of the database."""
    git("branch", "--force", "next", git("commit-tree", "main^{tree}", "-p", "main", "-m", "The same, once more"))
    first = servers[0]
    before = [live(server)["release"] for server in servers]
    assert ship("deploy", "--check", ref="next").must_succeed().changed != []
    assert [live(server)["release"] for server in servers] == before

    run = "systemd-run --quiet --collect --unit other-migration mariadb foobar --execute %s"
    try:
        first.check_output(run, "SELECT GET_LOCK('migrate foobar', 1), SLEEP(120)")
        until(lambda: locked(first))
        ship("deploy", ref="next").must_fail("The migration failed", "Another migration is still running")
        assert [live(server)["release"] for server in servers] == before
    finally:
        first.check_output("systemctl stop other-migration")
    until(lambda: not locked(first))  # the server takes a moment to see that the client is gone
    # It ends once the deploy waits for it, however long a busy machine takes to get there.
    first.check_output(run, "SELECT GET_LOCK('migrate foobar', 1), SLEEP(120)")
    until(lambda: locked(first))
    first.check_output("systemd-run --quiet --collect sh -c %s", MEANWHILE)
    ship("deploy", ref="next").must_succeed().must_say(
        "goes live", "requests, 0 failed", "took ", " s: build ", f"before: {before[0]}", "go back: make rollback"
    )
    assert {(live(server)["version"], live(server)["commit"]) for server in servers} == {
        ("next", git("rev-parse", "next"))
    }
    # Pages ask for static files by their hash, which are there; and what nobody declared, nobody undoes.
    assert converge().must_succeed().changed == []
    for server in servers:
        assert server.run("ls /srv/foobar/static/site.*.css").rc == 0
        said = server.check_output("webstack-release foobar status")
        assert "verified" in said and "deploy next by" in said
    ship("rollback").must_succeed()
    assert [live(server)["release"] for server in servers] == before


def test_what_is_live_and_who_changed_it_is_told(servers):
    ship("status").must_succeed().must_say(
        "foobar: release", "verified", "rolled back by", "certificate:", "maintenance: off", "backups: Full backups:"
    )
