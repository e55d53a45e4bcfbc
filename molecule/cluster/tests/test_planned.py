"""Planned work on three equal hosts: no visitor meets any of it, and nothing that they left is lost."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import host, load, lost
from outage import power_off, power_on
from scenario import PROJECT, Run, names, playbook, until

BROKEN = "cp /etc/ledger/uwsgi.ini /root/uwsgi.ini && echo no-such-option=1 >> /etc/ledger/uwsgi.ini"
MENDED = "mv /root/uwsgi.ini /etc/ledger/uwsgi.ini"


def run(name: str, *arguments: str, **variables) -> Run:
    return playbook(*arguments, name=str(PROJECT / f"playbooks/{name}.yml"), niceness=19, **variables)


def site(*arguments: str, **variables) -> Run:
    return playbook(*arguments, name=str(PROJECT / "site.yml"), niceness=19, **variables)


def releases() -> set[str]:
    """What is live, of all hosts."""
    said = [host(name).check_output("webstack-release ledger status --json") for name in names()]
    return {json.loads(one)["release"] for one in said}


def nobody_noticed(them) -> None:
    assert them.acknowledged and lost(them.acknowledged) == set()
    assert not them.failures


def test_where_the_last_host_refuses_a_release_the_others_go_back():
    before, refuses = releases(), names()[2]
    host(refuses).check_output(BROKEN)
    try:
        with load() as them:
            until(lambda: them.asked > 100)
            run("deploy", ref="better").must_fail(
                "unknown config directive: no-such-option",
                f"it is back on {next(iter(before))}, since {refuses} refused it",
            )
    finally:
        host(refuses).check_output(MENDED)
    assert releases() == before
    nobody_noticed(them)


def test_a_release_is_shipped_to_all_and_taken_back_from_all():
    before = releases()
    with load() as them:
        until(lambda: them.asked > 100)
        run("deploy", ref="better").must_succeed()
        shipped = releases()
        run("rollback").must_succeed()
    assert releases() == before and len(before | shipped) == 2
    nobody_noticed(them)


def settings(number: int) -> dict:
    """One of each part of a site; that of the database needs a restart."""
    return {
        "nginx_keepalive_timeout": number,
        "app_server_request_seconds": number,
        "mysql_slow_query_seconds": number,
    }


def test_settings_change_and_one_database_node_at_a_time_is_away():
    host(names()[0]).check_output("rm -f /run/webstack-run")  # of a run that was cut off
    moment = host(names()[0]).check_output("date +%s.%N")
    with load() as them, ThreadPoolExecutor() as pool:
        until(lambda: them.asked > 100)
        first = pool.submit(site, **settings(random.randrange(100, 500)))
        until(lambda: host(names()[0]).file("/run/webstack-run").exists)
        # It waits, and gives up if that takes long; else it finds that there is nothing for it to do.
        run("recover").must_be_refused("runs a playbook on this host since")
        first.result().must_succeed()
    away = sorted(period for name in names() for period in without_its_database(name, moment))
    site().must_succeed()
    assert len(away) == 3
    assert all(back < gone for (_, back), (gone, _) in itertools.pairwise(away)), away
    nobody_noticed(them)


def without_its_database(name: str, since: str) -> list[tuple[float, float]]:
    """When its server was stopped, and when it had all data again: a start is over only then."""
    lines = host(name).check_output(
        f"journalctl --quiet --output=short-unix --since=@{since} _PID=1 --grep='^(Stopping|Started) mariadb.service'"
    )
    times = [float(line.split()[0]) for line in lines.splitlines()]
    return list(zip(times[::2], times[1::2], strict=True))


def test_runs_that_are_killed_are_made_up_for_by_the_next():
    with load() as them:
        for number in (72, 73, 74, 76, 77):
            seconds = random.uniform(5, 60)
            print(f"killed after {seconds:.1f} s")
            with pytest.raises(subprocess.TimeoutExpired):
                site(kill_after=seconds, **settings(number))
        site().must_succeed()
    assert site().must_succeed().changed == []
    nobody_noticed(them)


def test_where_a_host_does_not_answer_the_others_are_left_alone():
    away = names()[2]
    power_off(host(away))
    try:
        site(**settings(78)).must_fail(f"[{away}]", "is not running")
        run("patch", reboot="true").must_fail(f"[{away}]", "is not running")
    finally:
        power_on(host(away))
    assert "keepalive_timeout 78" not in host(names()[0]).check_output("nginx -T 2>/dev/null")


def test_the_password_of_the_database_changes_and_changes_back():
    declared, other = "the database password of the ledger", "another password of the ledger"
    with load() as them:
        until(lambda: them.asked > 100)
        run("rotate", password=other, password_before=declared).must_succeed()
        run("rotate", password_before=other).must_succeed()
    nobody_noticed(them)


NEWER = """
set -e
mkdir -p /srv/packages/it/DEBIAN && cd /srv/packages
package() { # package VERSION COMMANDS
  printf 'Package: webstack-test\nVersion: %s\nArchitecture: all\nMaintainer: test\nDescription: test\n' "$1" > it/DEBIAN/control
  printf '#!/bin/sh\n%s\n' "$2" > it/DEBIAN/postinst
  chmod 0755 it/DEBIAN/postinst
  dpkg-deb --build it "$1.deb" >/dev/null
}
package 1 true
dpkg --install 1.deb >/dev/null
package 2 'systemctl restart mariadb haproxy nginx && touch /run/reboot-required && echo webstack-test >/run/reboot-required.pkgs'
{ dpkg-deb --field 2.deb; echo "Filename: ./2.deb"; stat --format 'Size: %s' 2.deb; echo "SHA256: $(sha256sum 2.deb | cut -d ' ' -f 1)"; } > Packages
echo 'deb [trusted=yes] file:/srv/packages ./' > /etc/apt/sources.list.d/test.list
apt-get --quiet --quiet -o Dir::Etc::SourceList=/etc/apt/sources.list.d/test.list -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0 update
"""


def booted(name: str) -> str:
    return host(name).check_output("cut -d ' ' -f 22 /proc/1/stat")


def test_new_packages_and_reboots_go_from_host_to_host_and_end_at_one_that_does_not_come_back():
    first, *rest = names()
    before = {name: booted(name) for name in names()}
    for name in names():
        host(name).check_output(NEWER)
    run("patch", reboot="perhaps").must_be_refused("reboot must be true or false")
    run("patch", "--check").must_succeed().must_say("to be upgraded: webstack-test")
    with load() as them:
        until(lambda: them.asked > 100)
        subprocess.run(["docker", "update", "--restart=no", first], check=True, capture_output=True)
        try:
            run("patch", reboot="true", reboot_seconds=20).must_fail(
                f"{first} is not back", "those after it were not touched"
            )
        finally:
            subprocess.run(["docker", "update", "--restart=always", first], check=True, capture_output=True)
            power_on(host(first))
        assert {name: booted(name) for name in rest} == {name: before[name] for name in rest}
        run("patch", reboot="true").must_succeed().must_say("upgraded: webstack-test", "rebooted")
    for name in names():
        assert booted(name) != before[name]
        assert host(name).package("webstack-test").version == "2"
        host(name).check_output("touch /run/reboot-required")
    nobody_noticed(them)
    run("patch").must_succeed().must_say("upgraded: nothing", "a reboot is needed: a package asks for it")
    assert site().must_succeed().changed == []
