"""How a cluster begins, and begins again: which hosts must be asked, and what their data let grow.yml and recover.yml do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from loading import ROOT
from starting import start

HOSTS = ["db1", "db2", "db3"]
# What a host says of itself stands in files of its folder, and what was done to its server in `done`.
NODE = """#!/bin/sh
cd "${0%/*}" && case $1 in
  runs) [ ! -e hangs ] || { echo "mariadb.service runs, and does not say whether it is in a cluster: no answer within 10 s" >&2; exit 1; }
    [ -e running ] && echo yes || echo no ;;
  last) cat last ;;
  writer) [ -e writer ] || { echo "No other node takes writes" >&2; exit 1; } ;;
  *) echo "$1" >>done ;;
esac
"""


def changed(value: Any, folder: Path) -> Any:
    """A play that finds each host's files below a folder, and whose units are a file there."""
    if isinstance(value, str):
        if value == "systemctl":
            return f"{folder}/{{{{ inventory_hostname }}}}/systemctl"
        for path in ("/usr/local/lib/webstack", "/var/lib/mysql", "/etc/database-proxy"):
            value = value.replace(path, f"{folder}/{{{{ inventory_hostname }}}}")
        return value
    if isinstance(value, list):
        return [changed(entry, folder) for entry in value if "foobar.webstack.one_run" not in entry]
    if not isinstance(value, dict):
        return value
    task = {name: changed(entry, folder) for name, entry in value.items() if name != "become"}
    if task.pop("foobar.webstack.sites", None):
        task.pop("register")
        task["ansible.builtin.set_fact"] = {"webstack": {"cluster": True}}
    if unit := task.pop("ansible.builtin.systemd_service", None):
        line = f"echo {unit['state']} {unit['name']} >> {folder}/{{{{ inventory_hostname }}}}/done"
        task["ansible.builtin.command"] = {"argv": ["sh", "-c", line]}
    return task


def run(
    folder: Path, plays: list[dict[str, Any]], *words: str, hosts: list[str] = HOSTS, at: Path | None = None
) -> tuple[int, str]:
    group = {"hosts": {name: {"ansible_connection": "local"} for name in hosts}}
    inventory = folder / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"children": {"dbservers": group}}}))
    play = at or folder / "play.yml"
    if not at:
        play.write_text(yaml.safe_dump(changed(plays, folder)))
    done = start(
        "ansible-playbook", "--inventory", inventory, *words, play, cwd=folder, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def host(folder: Path, name: str, *files: str, **texts: str) -> None:
    """A host's folder; a name that ends with a slash is a folder."""
    (folder / name).mkdir()
    for entry in files:
        (folder / name / entry).mkdir() if entry.endswith("/") else (folder / name / entry).touch()
    for entry, text in texts.items():
        (folder / name / entry).write_text(text)


def node(folder: Path, name: str, *files: str, last: str = "") -> None:
    host(folder, name, *files, last=last)
    (folder / name / "mysql-node").write_text(NODE)
    (folder / name / "mysql-node").chmod(0o755)


def done(folder: Path, name: str) -> list[str]:
    path = folder / name / "done"
    return path.read_text().splitlines() if path.exists() else []


def plays(name: str, number: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks" / name).read_text(encoding="utf-8"))
    return found[:number]


@pytest.mark.parametrize("name", ["grow.yml", "recover.yml"])
def test_a_part_of_the_database_hosts_is_refused(tmp_path, name):
    code, said = run(tmp_path, [], "--limit", "db1", at=ROOT / "playbooks" / name)
    assert code != 0 and f"{name} asks all database hosts; --limit leaves out db2, db3" in said, said


def test_data_are_the_databases_of_somebody(tmp_path):
    host(tmp_path, "db1", "shop/", "ibdata1")
    of_the_server = [f"{name}/" for name in ("mysql", "performance_schema", "sys", "lost+found", "#rocksdb", ".x")]
    host(tmp_path, "db2", *of_the_server, "ibdata1")
    host(tmp_path, "db3", "mysql/", "blog/")
    (tmp_path / "db3/shop").symlink_to(tmp_path / "db1/shop")
    code, said = run(tmp_path, plays("grow.yml", 1))
    assert code != 0 and said.count("FAILED!") == 1, said
    assert "db3 has the databases blog, shop, which those of db1, the first of dbservers, would replace" in said, said


def test_a_database_of_applications_on_other_hosts_does_not_leave_them(tmp_path):
    host(tmp_path, "db1", "shop/", **{"haproxy.cfg": "listen door\n\nbackend only-server\n"})
    host(tmp_path, "db2", **{"haproxy.cfg": "listen door\n"})
    host(tmp_path, "db3")
    code, said = run(tmp_path, plays("grow.yml", 1))
    assert code != 0 and said.count("FAILED!") == 1, said
    assert "applications on other hosts use the database of db1" in said, said


def test_a_first_node_that_waits_for_others_that_never_were_is_stopped_before_it_begins_again(tmp_path):
    host(tmp_path, "db1", "grastate.dat", "shop/", systemctl="#!/bin/sh\necho activating; exit 3\n")
    (tmp_path / "db1/systemctl").chmod(0o755)
    host(tmp_path, "db2", "mysql/")
    first, _told, begins = plays("grow.yml", 3)
    (again,) = [task for task in begins["tasks"] if "grow_again" in str(task)]
    steps = yaml.safe_load((ROOT / "playbooks/tasks/grow_again.yml").read_text(encoding="utf-8"))
    (role,) = [task["vars"] for task in begins["tasks"] if "mysql" in str(task)]
    says = {"ansible.builtin.debug": {"msg": "alone: {{ __mysql_alone }}"}, "vars": role}
    begins["tasks"] = [{"block": steps, "when": again["when"]}, says]
    code, said = run(tmp_path, [first, begins])
    assert code == 0 and "alone: True" in said, said
    assert done(tmp_path, "db1") == ["stopped mariadb.service"]


ONE = "5d1e0000-0000-0000-0000-000000000001"
NONE = "00000000-0000-0000-0000-000000000000:-1"


def test_the_newest_data_begin_the_cluster_again_also_where_a_host_was_never_a_node(tmp_path):
    node(tmp_path, "db1", last=f"{ONE}:9")
    node(tmp_path, "db2", last=f"{ONE}:12")
    host(tmp_path, "db3")
    code, said = run(tmp_path, plays("recover.yml", 2))
    assert code == 0 and "The cluster has the data of db2" in said and json.dumps(NONE) in said, said
    assert done(tmp_path, "db2")[:3] == ["stopped mariadb.service", "begin", "started mariadb.service"]
    assert done(tmp_path, "db1") == ["stopped mariadb.service", "started mariadb.service"]
    assert done(tmp_path, "db3") == []


def test_nothing_begins_while_a_server_does_not_answer(tmp_path):
    for name in HOSTS:
        node(tmp_path, name, *["hangs"] * (name == "db3"), last=f"{ONE}:9")
    code, said = run(tmp_path, plays("recover.yml", 2))
    assert code != 0 and "does not say whether it is in a cluster: no answer within 10 s" in said, said
    assert not any(done(tmp_path, name) for name in HOSTS)


def test_a_host_that_has_data_of_a_node_and_no_server_is_not_passed_over(tmp_path):
    node(tmp_path, "db1", last=f"{ONE}:9")
    host(tmp_path, "db2", "grastate.dat")
    host(tmp_path, "db3")
    code, _said = run(tmp_path, plays("recover.yml", 2))
    assert code != 0 and done(tmp_path, "db1") == []


# The writes, before a host is patched


def writes() -> list[dict[str, Any]]:
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/patch_writes.yml").read_text(encoding="utf-8"))
    for task in tasks[0]["block"]:
        task |= {"retries": 1, "delay": 0} if "until" in task else {}
    tasks.append({"ansible.builtin.command": {"argv": ["/usr/local/lib/webstack/mysql-node", "upgraded"]}})
    return [{"hosts": "db1", "gather_facts": False, "any_errors_fatal": True, "tasks": tasks}]


def test_nothing_is_upgraded_before_another_node_takes_the_writes(tmp_path):
    node(tmp_path, "db1")
    code, said = run(tmp_path, writes(), hosts=["db1"])
    assert code != 0 and "db1 still takes the writes" in said and "Nothing was upgraded on it" in said, said
    assert "No other node takes writes" in said
    assert done(tmp_path, "db1") == ["stopped webstack-writer.service", "started webstack-writer.service"]


def test_a_host_is_upgraded_when_another_node_takes_the_writes(tmp_path):
    node(tmp_path, "db1", "writer")
    code, said = run(tmp_path, writes(), hosts=["db1"])
    assert code == 0, said
    assert done(tmp_path, "db1") == ["stopped webstack-writer.service", "upgraded"]


def test_a_host_hands_over_its_writes_before_anything_of_it_stops():
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/patch_host.yml").read_text(encoding="utf-8"))
    words = [json.dumps(task) for task in tasks]
    (hands_over,) = [index for index, text in enumerate(words) if "patch_writes.yml" in text]
    assert not any("drain" in text or "stopped" in text or "apt" in text for text in words[:hands_over])
    assert "ansible.builtin.apt" in words[hands_over + 1] and "dbservers" in tasks[hands_over]["when"]
