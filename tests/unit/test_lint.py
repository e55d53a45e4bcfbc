"""tools/ansible-lint: one look at the syntax of all playbooks overlooks no mistake of any."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from loading import load

lint = load("tools/ansible-lint")


@pytest.mark.parametrize(("broken", "each"), [("", False), ("play.yml", True), ("roles/web", True)])
def test_each_is_looked_at_by_itself_where_there_is_a_mistake(tmp_path: Path, broken, each):
    right, wrong = "- ansible.builtin.debug:\n", "- no_such_module:\n"
    files = []
    for name, kind, path in (
        ("play.yml", "playbook", "play.yml"),
        ("roles/db", "role", "roles/db/tasks/main.yml"),
        ("roles/web", "role", "roles/web/tasks/main.yml"),
    ):
        tasks = wrong if name == broken else right
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(tasks if kind == "role" else f"- hosts: localhost\n  tasks:\n  {tasks}")
        files.append(SimpleNamespace(kind=kind, path=tmp_path / name))
    runner = lint.Runner.__new__(lint.Runner)
    runner.app = SimpleNamespace(runtime=SimpleNamespace(environ=os.environ))
    asked = []
    lint.all_at_once(runner, lambda file: asked.append(file.path) or [], files)
    assert sorted(asked) == (sorted(file.path for file in files) if each else [])


def test_each_rule_finds_a_task_as_it_is_whatever_another_has_added():
    raw = {"name": "Say it", "ansible.builtin.debug": {"msg": "a"}}
    tasks = [lint.Task(raw, filename="tasks.yml") for _rule in range(2)]
    first, second = map(lint.normalized_once, tasks)
    assert first == second == lint.normalize(tasks[0])
    first["action"]["more"] = first["more"] = True
    assert lint.normalized_once(tasks[1]) == second != first
