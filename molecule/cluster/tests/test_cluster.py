"""Three equal hosts: what visitors meet, and what becomes of what they left, when one of them fails in whatever way."""

from __future__ import annotations

import pytest
from cluster import ASKED, FEW, RECOVER, holder, host, is_well, load, lost, neither, writer
from outage import power_off, power_on
from scenario import PROJECT, names, playbook, until


@pytest.mark.parametrize("which", [holder, writer, neither])
def test_a_host_dies_and_comes_back(which):
    victim = which()
    try:
        with load() as them:
            until(lambda: them.asked > 500)
            power_off(host(victim))
            until(lambda: them.asked > ASKED // 2, seconds=180)
            power_on(host(victim))
            until(lambda: them.asked > ASKED, seconds=180)
    finally:
        power_on(host(victim))
    until(lambda: is_well(victim), seconds=120)
    assert lost(them.acknowledged) == set()
    assert len(them.failures) <= FEW


@pytest.mark.parametrize(
    "how", ["systemctl stop mariadb", "systemctl kill --signal=KILL mariadb; systemctl stop mariadb"]
)
def test_a_cluster_of_which_no_node_is_left_begins_again_with_the_newest_data(how):
    playbook(name=RECOVER).must_be_refused("there is nothing to recover")
    with load() as them:
        until(lambda: len(them.acknowledged) > 50)
        for name in names():
            host(name).check_output(how)
    run = playbook(name=RECOVER).must_succeed()
    assert "The cluster has the data of " in run.output
    for name in names():
        until(lambda name=name: is_well(name), seconds=120)
    assert them.acknowledged and lost(them.acknowledged) == set()


def test_no_second_cluster_begins_where_the_first_host_has_lost_its_data():
    first = host(names()[0])
    first.check_output("systemctl stop mariadb && mv /var/lib/mysql/grastate.dat /root/")
    try:
        playbook(name=str(PROJECT / "playbooks/grow.yml")).must_be_refused(
            "the first of dbservers, has no data of one", "It joins by site.yml"
        )
    finally:
        first.check_output("mv /root/grastate.dat /var/lib/mysql/ && systemctl start mariadb")
