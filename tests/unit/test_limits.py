"""What acts on all hosts of a site in one run, and refuses to act on some of them."""

from __future__ import annotations

import pytest
import yaml
from loading import ROOT
from starting import start

HOSTS = {f"web{number}": {"ansible_host": f"10.0.0.{number}"} for number in (1, 2, 3)}
GROUPS = ("loadbalancers", "webservers", "appservers", "dbservers")
SITE = {"certificate": "none", "repository": "https://example.com/it.git", "app": {"entry": "it:application"}}
VARIABLES = {
    "ansible_connection": "local",
    "ansible_become": False,
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "cluster_authority_folder": "/home/me/authority",
    "load_balancer_virtual_addresses": ["10.0.0.100/24"],
    "vault_shop_database_password": "a password that is long enough",
    "sites": {
        "shop": {"domain": "www.shop.example", "database": {}, **SITE},
        "old": {"domain": "old.shop.example", "state": "absent", **SITE},
    },
}


@pytest.fixture
def play(tmp_path):
    """Runs a playbook on three equal hosts, which are this machine: nothing may be changed there."""
    inventory = {"all": {"vars": VARIABLES, "children": {group: {"hosts": HOSTS} for group in GROUPS}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def run(name, *arguments):
        argv = ["--inventory", tmp_path / "hosts.yml", ROOT / "playbooks" / name, *arguments]
        done = start("ansible-playbook", *argv, cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
        assert "changed=0" in done.stdout and "changed=1" not in done.stdout, done.stdout
        return done.returncode, " ".join(done.stdout.split())

    return run


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rotate.yml", "all hosts of a site get its new secrets in one run, and --limit leaves out web2, web3"),
        ("remove.yml", "a site is removed from all of its hosts in one run, and --limit leaves out web2, web3"),
    ],
)
def test_some_of_the_hosts_that_share_a_database(play, name, words):
    code, said = play(name, "--limit=web1", "--extra-vars=site=" + ("old" if name == "remove.yml" else "shop"))
    assert code == 2 and words in said, said


@pytest.mark.parametrize("name", ["backup.yml", "drill.yml", "backup-sheet.yml", "restore.yml"])
def test_the_node_that_keeps_the_backups(play, name):
    code, said = play(name, "--limit=web2,web3")
    assert code == 2 and "web1 keeps the backups of the cluster, and --limit leaves it out" in said, said


def test_the_data_of_one_node_are_not_exchanged(play):
    code, said = play("restore.yml", "--limit=web1", "--extra-vars=into=live confirm=web1")
    assert code == 2 and "into: the data of one node of a cluster are those of all" in said, said


@pytest.mark.parametrize(("theirs", "refused"), [("", True), ("c0ffee", False)])
def test_a_host_that_is_new_gets_what_the_others_have_or_nothing(play, tmp_path, theirs, refused):
    """The question as site.yml asks it, of a host with nothing and of one with or without a release, without a third one."""
    (several,) = (
        task for task in yaml.safe_load((ROOT / "playbooks/tasks/converge_several.yml").read_text()) if "block" in task
    )
    live = {"web1": {"ship": True}, "web2": {"ship": not theirs, "commit": theirs}}
    facts = {
        "webstack": {"hosts": list(HOSTS)},
        "__app_server_plan": {"answer": f"{{{{ {live} [inventory_hostname] }}}}"},
    }
    tasks = [{"ansible.builtin.set_fact": facts}, {"vars": several["vars"], "block": several["block"][:1]}]
    given = {"webstack_hosts": ["web1", "web2"], "webstack_app": "shop"}
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "webservers", "gather_facts": False, "vars": given, "tasks": tasks}])
    )
    code, said = play(tmp_path / "play.yml", "--limit=web1,web2")
    assert ("goes to all hosts of a site, and this run goes on without web3" in said) == refused, said
    assert code == (2 if refused else 0)
