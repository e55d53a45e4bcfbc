"""Two web servers and one database server: what visitors meet when the database restarts or a web server dies, and where jobs run."""

from __future__ import annotations

import shlex

import testinfra
from outage import power_off, power_on
from scenario import Host, names, until
from virtual import virtual_address
from visitors import Visitors, visitors

SITE = "www.ledger.example"
ADDRESS = str(virtual_address().ip)
FIRST, SECOND, DATABASE = names()


def host(name: str) -> Host:
    return testinfra.get_host(f"docker://{name}")


def sql(statement: str) -> list[str]:
    command = f"mariadb --batch --skip-column-names --execute {shlex.quote(statement)} ledger"
    return host(DATABASE).check_output(command).splitlines()


def lately(job: str) -> set[str]:
    """The hosts on which a job has run in the last seconds."""
    moment = "moment > NOW(3) - INTERVAL 2 SECOND"
    return set(sql(f"SELECT DISTINCT host FROM beats WHERE job = '{job}' AND {moment}"))


def lost(them: Visitors) -> set[int]:
    return set(them.acknowledged) - {int(number) for number in sql("SELECT number FROM entries")}


def all_well() -> bool:
    return all(host(name).run("webstack-balance status").rc == 0 for name in (FIRST, SECOND))


def test_the_only_server_says_that_it_writes_to_those_who_have_a_certificate():
    web, folder = host(FIRST), "/etc/ssl/webstack-host"
    address = web.check_output("sed -n 's/^ *server .* addr //p' /etc/database-proxy/haproxy.cfg")
    ask = f"curl --silent --show-error --insecure --output /dev/null --write-out '%{{http_code}}' https://{address}:3308/writer"
    assert web.check_output(f"{ask} --cert {folder}/certificate.pem --key {folder}/key.pem") == "200"
    assert "certificate required" in web.run(ask).stderr
    # It is asked twice a second, and the server's log says nothing of it.
    assert "unauthenticated" not in host(DATABASE).check_output("journalctl --unit mariadb --no-pager")


def test_a_restart_of_the_database_costs_visitors_no_more_than_waiting():
    with visitors(ADDRESS, SITE, begin=1_000_000) as them:
        until(lambda: them.asked > 300)
        host(DATABASE).check_output("systemctl restart mariadb")
        until(lambda: them.asked > 1500)
    assert them.acknowledged and lost(them) == set()
    assert set(them.failures) <= {"TimeoutError"}, "who waits longer than visitors do is not refused either"


def test_a_job_runs_on_one_host_and_on_the_other_when_that_dies():
    until(lambda: len(lately("beat")) == 1 and lately("own") == {FIRST, SECOND}, seconds=60)
    (runs,) = lately("beat")
    (rest,) = {FIRST, SECOND} - {runs}
    try:
        power_off(host(runs))
        until(lambda: lately("beat") == {rest}, seconds=60)
    finally:
        power_on(host(runs))
    until(lambda: lately("own") == {FIRST, SECOND}, seconds=120)
    until(all_well, seconds=60)


def test_a_second_run_changes_nothing(converge):
    assert converge().must_succeed().changed == []
