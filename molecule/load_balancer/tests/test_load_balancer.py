"""Two hosts, each balancer and web server: what visitors meet when one of them fails, in whatever way."""

from __future__ import annotations

import shlex
import subprocess
import time

import pytest
import testinfra
from outage import power_off, power_on
from scenario import Host, names, playbook, until
from virtual import virtual_address
from visitors import PATIENCE, visitors

SITE = "www.shop.example"
ADDRESS = str(virtual_address().ip)
GATEWAY = str(virtual_address().network[1])  # this machine, from which the visitors come
# Of 12,000 requests, 0.1 % may fail when a host dies: those that it was answering.
FEW = 12


def ran(host: Host, command: str) -> str:
    return host.check_output(command)


def has_address(host: Host) -> bool:
    return f" {ADDRESS}/" in host.run("ip -oneline address show").stdout


def holder() -> Host:
    return next(host for host in all_hosts() if has_address(host))


def other() -> Host:
    return next(host for host in all_hosts() if not has_address(host))


def all_hosts() -> list[Host]:
    return [testinfra.get_host(f"docker://{name}") for name in names()]


def name_of(host: Host) -> str:
    return host.backend.name


def visit(path: str = "/", *words: str, scheme: str = "https") -> str:
    port = {"https": 443, "http": 80}[scheme]
    argv = [
        "curl",
        "--silent",
        "--insecure",
        "--noproxy",
        "*",
        "--max-time",
        "5",
        "--resolve",
        f"{SITE}:{port}:{ADDRESS}",
    ]
    done = subprocess.run([*argv, *words, f"{scheme}://{SITE}{path}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def all_well() -> None:
    """Before each test one balancer has the address, and both web servers get visitors from both."""

    for host in all_hosts():
        for name in names():
            until(lambda host=host, name=name: host.run(f"webstack-balance ready {name}").rc == 0)

    def well() -> bool:
        return sum(map(has_address, all_hosts())) == 1 and all(
            host.run("webstack-balance status").rc == 0 for host in all_hosts()
        )

    until(well)


def test_visitors_are_shared_out_and_known_by_their_own_address(servers):
    with visitors(ADDRESS, SITE) as them:
        until(lambda: set(them.answers) == set(names()) and them.asked > 200)
    assert not them.failures
    visit("/whose", "--header", "X-Forwarded-For: 192.0.2.99")
    until(lambda: any(f'client={GATEWAY} host="{SITE}" request="GET /whose' in log(server) for server in servers))
    assert not any("client=192.0.2.99" in log(server) for server in servers)


def log(server: Host) -> str:
    return server.file("/var/log/nginx/access.log").content_string


def test_over_http_visitors_are_led_to_https_at_the_balancer(servers):
    head = visit("/a?b=c", "--head", "--header", "X-Forwarded-Proto: https", scheme="http")
    assert "301" in head.splitlines()[0]
    assert f"https://{SITE}/a?b=c" in head


@pytest.mark.parametrize("which", [holder, other])
def test_a_host_dies(which):
    victim = which()
    rest = next(host for host in all_hosts() if name_of(host) != name_of(victim))
    try:
        with visitors(ADDRESS, SITE) as them:
            until(lambda: them.asked > 200)
            power_off(victim)
            until(lambda: has_address(rest))
            begin = them.asked
            until(lambda: them.asked > begin + 500)
    finally:
        power_on(victim)
    assert len(them.failures) <= FEW
    until(lambda: rest.run("webstack-balance status").rc == 0)
    assert has_address(rest), "who comes back does not take the address away"


def test_a_balancer_is_cut_off_from_the_other_alone():
    """Both have the address then. Either serves."""
    host = holder()
    peer = other()
    rule = "table inet cut { chain out { type filter hook output priority 0; ip protocol 112 drop; }; }"
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 200)
        ran(host, f"nft {shlex.quote(rule)}")
        try:
            until(lambda: has_address(peer))
            begin = them.asked
            until(lambda: them.asked > begin + 300)
        finally:
            ran(host, "nft delete table inet cut")
        until(lambda: sum(map(has_address, all_hosts())) == 1)
    assert len(them.failures) <= FEW


# A reload loses nothing. With a restart the address moves: what the balancer of before has taken it answers first, but of what visitors
# send by kept connections, which break, some may find a balancer that does not even refuse it.
@pytest.mark.parametrize(
    ("how", "lost"),
    [("systemctl reload haproxy", 0), ("systemctl restart haproxy", FEW), ("systemctl restart keepalived", FEW)],
)
def test_a_daemon_is_reloaded_or_restarted(how, lost):
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 100)
        ran(holder(), how)
        begin = them.asked
        until(lambda: them.asked > begin + 300)
    assert len(them.failures) <= lost


def test_haproxy_hangs():
    """Its process is there, and its socket takes connections: the other balancer has the address before long."""
    host, peer = holder(), other()
    ran(host, "systemctl kill --signal=STOP haproxy")
    try:
        until(lambda: has_address(peer) and not has_address(host))
        assert visit() in names()
    finally:
        ran(host, "systemctl kill --signal=CONT haproxy")


def test_haproxy_is_killed():
    host = holder()
    ran(host, "systemctl kill --signal=KILL haproxy")
    until(lambda: host.run("systemctl is-active haproxy keepalived").stdout.split() == ["active", "active"])
    assert visit() in names()


def test_a_web_server_is_drained_restarted_and_ready_again(servers):
    victim = name_of(other())
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.answers[victim] > 50)
        for server in servers:
            assert f"{victim} is drained" in ran(server, f"webstack-balance drain {victim}")
            said = server.run("webstack-balance status")
            assert said.rc == 1 and f"{victim}: is drained for" in said.stderr
        # What is known of it outlives a reload.
        ran(holder(), "systemctl reload haproxy")
        time.sleep(1)
        before, begin = them.arrivals[victim], them.asked
        until(lambda: them.asked > begin + 100)
        ran(testinfra.get_host(f"docker://{victim}"), "systemctl restart nginx")
        assert them.arrivals[victim] == before
        for server in servers:
            assert ran(server, f"webstack-balance ready {victim}") == f"{victim} gets visitors"
        until(lambda: them.arrivals[victim] > before + 20)
    assert not them.failures


def test_the_last_server_is_not_drained():
    victim, last = names()
    host = holder()
    ran(host, f"webstack-balance drain {victim}")
    try:
        refused = host.run(f"webstack-balance drain {last}")
        assert refused.rc == 1
        assert f"{last} is the last server that is ready for" in refused.stderr
    finally:
        ran(host, f"webstack-balance ready {victim}")
    unknown = host.run("webstack-balance drain nobody")
    assert unknown.rc == 1 and "there is no server nobody; there are " in unknown.stderr


def test_an_application_that_is_not_ready_gets_no_visitors(servers):
    victim = other()
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.answers[name_of(victim)] > 20)
        ran(victim, "mv /srv/shop/ready /srv/shop/not-ready")
        try:
            until(
                lambda: all(
                    "is not ready for shop" in server.run("webstack-balance status").stderr for server in servers
                )
            )
            time.sleep(PATIENCE)  # for those who were led there before
            before, begin = them.arrivals[name_of(victim)], them.asked
            until(lambda: them.asked > begin + 100)
            assert them.arrivals[name_of(victim)] == before
        finally:
            ran(victim, "mv /srv/shop/not-ready /srv/shop/ready")
    assert not them.failures


def test_a_site_that_is_ready_nowhere_is_answered_by_any(servers):
    for server in servers:
        ran(server, "mv /srv/shop/ready /srv/shop/not-ready")
    try:
        until(
            lambda: all("is not ready for shop" in server.run("webstack-balance status").stderr for server in servers)
        )
        assert visit() in names()
    finally:
        for server in servers:
            ran(server, "mv /srv/shop/not-ready /srv/shop/ready")


def test_a_changed_input_costs_no_visitor_anything():
    with visitors(ADDRESS, SITE) as them:
        until(lambda: them.asked > 50)
        sites = [{"name": "shop", "domains": [SITE, "*.shop.example"], "path": "/ready"}]
        playbook("--tags=load_balancer", load_balancer_sites=sites).must_succeed()
        again = playbook("--tags=load_balancer").must_succeed()
        assert [line for line in again.changed if "HAProxy" in line]
    assert not them.failures


def test_what_cannot_work_is_refused(servers):
    for address, words in (
        (f"{GATEWAY}/24", f"{GATEWAY} is in use: the machine with the hardware address"),
        ("192.0.2.10/24", "192.0.2.10/24 is of none of the networks of eth0, which are"),
    ):
        playbook("--tags=load_balancer", load_balancer_virtual_addresses=[address]).must_be_refused(words)
    playbook("--tags=load_balancer", load_balancer_address="192.0.2.1").must_be_refused(
        "no network interface of this host has 192.0.2.1"
    )


def test_both_daemons_are_sandboxed(servers):
    for server in servers:
        for unit in ("haproxy", "keepalived"):
            rating = ran(server, f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
            assert float(rating.split("level for")[1].split(":")[1].split()[0]) < 5, rating
