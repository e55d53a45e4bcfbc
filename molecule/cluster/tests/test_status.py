"""What `make status` says of three hosts, of which one is not well."""

from __future__ import annotations

import re

from cluster import ADDRESS, holder, host, is_well, neither, writer
from outage import power_off, power_on
from scenario import PROJECT, Run, names, playbook, until


def status() -> Run:
    return playbook(name=str(PROJECT / "playbooks/status.yml"))


def table(run: Run) -> dict[str, str]:
    """The line of each host, with single blanks."""
    lines = [" ".join(line.split()) for line in run.output.partition("PLAY RECAP")[0].splitlines()]
    return {
        name: line
        for name in names()
        for line in reversed(lines)  # what needs a person stands below
        if re.match(f"{name} (has|stands|leads|not reached) ", line)
    }


def test_hosts_that_are_well_are_told_of_in_one_table():
    run = status().must_succeed()
    assert run.changed == [] and "WARNING" not in run.output
    told = table(run)
    for name in names():
        has = f"has {ADDRESS}" if name == holder() else "stands by"
        assert told[name].startswith(f"{name} {has} in rotation Synced, 3 of 3")
        assert (", writer since 20" in told[name]) == (name == writer())
    run.must_say("site release version hosts certificate maintenance", "main all until ", "backups of ")


def test_a_host_that_one_balancer_leads_nobody_to_needs_a_person():
    balancer, victim = names()[:2]
    host(balancer).check_output(f"webstack-balance drain {victim}")
    try:
        run = status().must_fail(f"{victim} gets not all visitors: it is drained on {balancer}")
    finally:
        host(balancer).check_output(f"webstack-balance ready {victim}")
    assert f"drained on {balancer} Synced" in table(run)[victim]


def test_a_load_balancer_that_is_down_needs_a_person():
    victim = neither()
    host(victim).check_output("systemctl stop haproxy")  # and with it keepalived, which requires it
    try:
        run = status().must_fail(
            f"{victim} leads no visitors on: HAProxy does not answer",
            f"{victim} cannot take the virtual addresses over: keepalived is inactive",
        )
    finally:
        host(victim).check_output("systemctl start haproxy")  # and with it keepalived again
    assert f"{victim} leads nobody on in rotation Synced" in table(run)[victim]


def test_a_host_that_is_gone_is_told_of_by_the_others():
    victim = neither()
    rest = [name for name in names() if name != victim]
    power_off(host(victim))
    try:
        until(
            lambda: all(f"{victim}: is not ready" in host(name).run("webstack-balance status").stderr for name in rest)
        )
        run = status().must_fail(
            f"{victim} is not reached: ", f"The database's cluster has 2 of 3 nodes, as {', '.join(rest)} see it"
        )
    finally:
        power_on(host(victim))
    told = table(run)
    assert told[victim].startswith(f"{victim} not reached not ready on {', '.join(rest)} not reached")
    assert all("Synced, 2 of 3" in told[name] for name in rest)
    assert any(f"has {ADDRESS}" in told[name] for name in rest)
    until(lambda: is_well(victim), seconds=120)
