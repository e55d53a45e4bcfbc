"""restore.yml: the database as it was, beside the live one and in its place; the site is closed meanwhile, and no longer."""

import re
import uuid

import pytest
from scenario import PROJECT, names, playbook
from test_site import get, publish, sql

NAME = names()[-1]


@pytest.fixture
def host(servers):
    return servers[-1]


def restore(**variables):
    return playbook("--limit", NAME, name=str(PROJECT / "playbooks/restore.yml"), **variables)


def titles(server):
    return set(sql(server, "select title from articles").splitlines())


def test_a_moment_comes_back_and_what_came_after_it_is_kept(host):
    kept, later = (f"{word} {uuid.uuid4()}" for word in ("before the moment", "after it"))
    host.check_output("webstack-backup full")
    assert publish(host, kept).status_code == 200
    here = ":".join(host.check_output("mariadb -N -B -e 'SHOW MASTER STATUS'").split()[:2])
    assert publish(host, later).status_code == 200

    restore(only="foobar.article", to=here).must_fail(
        "'foobar.article' is not in the restored server", "foobar.articles"
    )
    said = restore(only="foobar.articles", to=here).must_succeed().output
    path = re.search(r"are in (/var/lib/webstack-backup/dumps/\S+\.sql),", said)[1]
    assert host.file(path).mode == 0o600
    assert kept in host.file(path).content_string and later not in host.file(path).content_string

    restore(into="live", confirm="elsewhere").must_be_refused(f"say CONFIRM={NAME}")
    restore(into="life").must_be_refused("neither scratch nor live")
    restore(into="live", confirm=NAME, only="foobar").must_be_refused("leave out into=live")
    assert get(host).status_code == 200 and later in titles(host)

    # What comes after the exchange fails; the same command goes on from there.
    host.check_output("mv /usr/bin/mariadb-backup /root")
    try:
        live = restore(to=here, into="live", confirm=NAME)
    finally:
        host.check_output("mv /root/mariadb-backup /usr/bin")
    live.must_fail("The restored copy is live, as of " + here, "mariadb-backup")
    assert get(host).status_code == 503
    before = host.check_output("ls -d /var/lib/mysql.before-restore-*")
    restore(to=here, into="live", confirm=NAME).must_succeed().must_say(
        "The restored copy is live already, as of " + here
    )
    assert get(host).status_code == 200  # open again
    assert kept in titles(host) and later not in titles(host)
    assert publish(host, "after the restore").status_code == 200
    assert host.check_output("ls -d /var/lib/mysql.before-restore-*") == before
    told = host.run("webstack-backup status").stdout
    assert "Full backups: the newest is 0 h old" in told and "another log" not in told


@pytest.mark.thorough
def test_a_backup_that_is_gone_needs_a_person(host):
    host.check_output("mv /var/backups/webstack /root/gone")
    try:
        gone = "there is no repository at /var/backups/webstack"
        run = playbook("--limit", NAME, name=str(PROJECT / "playbooks/status.yml")).must_fail(
            "backups: Full backups", gone
        )
        assert "backups: Room for the log" not in run.output.partition("Say what needs a person")[2]
        playbook("--limit", NAME, name=str(PROJECT / "playbooks/verify.yml")).must_fail("9. the page: 200", gone)
    finally:
        host.check_output("mv /root/gone /var/backups/webstack")


@pytest.mark.thorough
def test_what_cannot_go_live_leaves_the_site_open_as_it_was(host):
    """With a maintenance page that somebody else has put there, it stays."""
    page = "/var/lib/webstack/maintenance/foobar"
    before = titles(host)
    host.check_output("mount --bind /var/lib/mysql /var/lib/mysql")
    try:
        restore(into="live", confirm=NAME).must_fail("is a link or a file system of its own")
        assert get(host).status_code == 200 and not host.file(page).exists
        host.check_output(f"echo for another reason > {page}")
        restore(into="live", confirm=NAME).must_fail("is a link or a file system of its own")
        assert host.file(page).content_string == "for another reason\n"
    finally:
        host.check_output(f"umount --lazy /var/lib/mysql; rm -f {page}; webstack-backup end-scratch")
    assert titles(host) == before
