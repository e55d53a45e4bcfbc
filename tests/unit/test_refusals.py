"""What a play refuses: at once, or all of it in one report; and the questions that a run asks once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from loading import ROOT, load
from starting import start

refusals = load("plugins/plugin_utils/refusals.py")
listeners = load("plugins/action/listeners.py")
COLLECTING = {"webstack_collect": True}


def test_a_play_that_collects_goes_on_and_its_report_has_everything_once():
    first = refusals.refused("The play", ["a: not set"], COLLECTING)
    second = refusals.refused("Role web", ["b: wrong", refusals.HIDDEN], COLLECTING)
    third = refusals.refused("Role web", ["b: wrong"], COLLECTING)
    found = refusals.collected({"x": first, "__web_judged": second, "y": third, "other": {"webstack_faults": 5}})
    assert found == {"The play refuses its inputs": ["a: not set"], "Role web refuses its inputs": ["b: wrong"]}
    assert refusals.report(found).count("nothing was changed") == 2


@pytest.mark.parametrize("word", [False, "false", "no", None])
def test_a_play_that_does_not_collect_is_refused_at_once(word):
    with pytest.raises(AnsibleActionFail, match="a: not set"):
        refusals.refused("The play", ["a: not set"], {} if word is None else {"webstack_collect": word})


def test_what_follows_from_another_fault_is_no_line():
    hidden = refusals.refused("Role web", [refusals.HIDDEN], COLLECTING)
    assert "webstack_faults" in hidden  # so that the role's further tasks are skipped
    assert refusals.collected({"x": hidden}) == {}


@pytest.fixture
def ask(monkeypatch):
    """Asks a host by action listeners, whose module gives one answer after the other."""
    monkeypatch.setattr(ActionBase, "run", lambda *_args: {})
    monkeypatch.setattr(
        "ansible_collections.foobar.webstack.plugins.plugin_utils.questions.ask", lambda *_question: None
    )

    def asked(args, variables, answers):
        plugin = listeners.ActionModule.__new__(listeners.ActionModule)
        plugin._task = SimpleNamespace(args=args)
        plugin._execute_module = lambda *_args, **_options: answers.pop(0)
        return plugin.run(None, variables)

    return asked


def test_a_question_is_asked_once_a_run_and_again_if_it_is_another(ask):
    answers = [{"changed": False, "answer": number, "warnings": ["once"]} for number in (1, 2)]
    first = ask({"a": 1}, {}, answers)
    known = {"__web_contact": first}
    assert ask({"a": 1}, known, answers) == {key: first[key] for key in first if key != "warnings"}
    assert len(answers) == 1
    assert ask({"a": 2}, known, answers)["answer"] == 2


def test_a_question_that_failed_is_asked_again(ask):
    answers = [{"failed": True}, {"answer": 1}]
    first = ask({}, {}, answers)
    assert ask({}, {"x": first}, answers)["answer"] == 1


# As a play


SECRET = "hunter2"
PLAY = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"webstack_collect": True},
        "tasks": [
            {
                "foobar.webstack.validate_inputs": {
                    "rules": [
                        {"refuse": "{{ shop_version is not defined }}", "say": "shop_version: not set; what to ship"}
                    ]
                },
                "register": "first",
            },
            {
                "foobar.webstack.validate_inputs": {"rules": [{"refuse": True, "say": "shop_name: taken"}]},
                "register": "second",
            },
            {"foobar.webstack.validate_inputs": {"collected": True}},
        ],
    }
]


def run(
    folder: Path, variables: dict[str, str], play: list[dict[str, Any]] | None = None
) -> subprocess.CompletedProcess[str]:
    (folder / "play.yml").write_text(yaml.safe_dump(play or PLAY), encoding="utf-8")
    (folder / "vars.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
    return start(
        "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", "@vars.yml", "play.yml", cwd=folder,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".ansible/collections"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
    )  # fmt: skip


def test_all_of_a_play_stands_in_one_report_and_each_word_once(tmp_path):
    done = run(tmp_path, {})
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert said.count("shop_version: not set; what to ship") == 1, said
    assert said.count("shop_name: taken") == 1 and "Origin:" not in said and "Traceback" not in said


@pytest.mark.parametrize("secret", ["a {{hunter2}} b", "{% hunter2", "{# hunter2 #} rest", "{{ hunter2 }} rest"])
def test_a_template_in_a_secret_is_named_and_not_said(tmp_path, secret):
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"foobar.webstack.sites": {"roles": True}}]}]
    done = run(tmp_path, {"vault_password": secret, "base_belongs_to": "{{ vault_password }}"}, play)
    said = done.stdout + done.stderr
    assert done.returncode == 2 and SECRET not in said and "rest" not in said, said
    assert "vault_password: holds" in said and "!unsafe" in said


def test_a_missing_input_of_a_role_alone_is_a_line(tmp_path):
    """Ansible's own look at a role's inputs would print the whole spec."""
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["dns"]}]
    done = run(tmp_path, {}, play)
    said = done.stdout + done.stderr
    assert done.returncode == 2 and said.count("missing required arguments: dns_records, dns_zone") == 1, said
    assert "argument_spec_data" not in said and len(said) < 1500


def test_a_task_in_a_loop_keeps_what_its_turns_before_have_found():
    first = refusals.refused("Role web", ["a: wrong"], COLLECTING)
    second = refusals.refused("Role web", ["b: wrong"], {**COLLECTING, "judged": first})
    third = refusals.refused("Role web", [], {**COLLECTING, "judged": second})
    assert refusals.collected({**COLLECTING, "judged": third}) == {
        "Role web refuses its inputs": ["a: wrong", "b: wrong"]
    }
    assert refusals.FAULTS not in third  # the last turn itself has found nothing


SITES = {
    "sites": {"shop": {"places": {"app_server_entry": "sites.shop.app.entry", "app_server_push": "sites.shop.push"}}},
    "places": {"nginx_sites[0]": "sites.docs", "nginx_sites[1]": "sites.shop", "mysql_users[0]": "sites.shop.database"},
}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("app_server_entry: 'x' is not a module", "sites.shop.app.entry: 'x' is not a module"),
        ("app_server_threads: must be 1", "app_server_threads: must be 1"),
        ("a path needs app_server_push: true", "a path needs sites.shop.push: true"),
        ("nginx_sites[1].server_names[0]: no", "sites.shop.domain: no"),
        ("nginx_sites[1].server_names[2]: no", "sites.shop.aliases[1]: no"),
        ("nginx_sites[0].redirect_names[1]: no", "sites.docs.redirects[1]: no"),
        ("nginx_sites[0].locations[1].target: no", "sites.docs.nginx.locations[1].target: no"),
        ("nginx_sites[0]: serves nothing", "sites.docs: serves nothing"),
        ("nginx_sites[7].root: no", "nginx_sites[7].root: no"),
        ("mysql_users[0].password: short", "sites.shop.database.password: short"),
    ],
)
def test_a_fault_has_the_place_where_the_inventory_says_it(fault, said):
    assert refusals.where_it_stands(fault, {"webstack": SITES, "webstack_site": "shop"}) == said
    assert refusals.where_it_stands(fault, {}) == fault
