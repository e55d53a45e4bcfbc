"""The action that refuses a role's inputs: every fault at once, named by its path, no secret said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from loading import ROOT, load
from starting import start

action = load("plugins/action/validate_inputs.py")
refusals = load("plugins/plugin_utils/refusals.py")
specs = load("plugins/plugin_utils/specs.py")
SPEC: dict[str, Any] = {
    "web_name": {"type": "str", "required": True, "description": "Names the site. More about it."},
    "web_port": {"type": "int", "default": 80, "description": "A port."},
    "web_kind": {"type": "str", "choices": ["static", "proxy"], "default": "static", "description": "What."},
    "web_on": {"type": "bool", "default": True, "description": "Whether."},
    "web_secrets": {"type": "dict", "default": {}, "no_log": True, "description": "Secrets."},
    "web_token": {"type": "str", "default": "", "no_log": True, "description": "One that may be left out."},
    "web_names": {"type": "list", "elements": "str", "default": [], "description": "Names."},
    "web_ports": {"type": "list", "elements": "int", "default": [], "description": "Ports."},
    "web_headers": {"type": "dict", "default": {}, "description": "Headers."},
    "web_key": {"type": "path", "default": "", "description": "A path."},
    "web_sites": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "description": "Sites.",
        "options": {
            "domain": {"type": "str", "required": True, "description": ["Its name. Of the DNS.", "More."]},
            "password": {"type": "str", "no_log": True, "description": "Its password."},
            "limits": {
                "type": "dict",
                "description": "Limits.",
                "options": {
                    "body": {"type": "int", "description": "Bytes."},
                    "open": {"type": "bool", "description": "W."},
                },
            },
        },
    },
}
SECRET = "correct horse battery staple"
SUPPORTED = [{"name": "Debian", "versions": ["bookworm", "trixie"]}]
TRIXIE = {"distribution": "Debian", "distribution_release": "trixie", "service_mgr": "systemd"}


def faults(**inputs: Any) -> list[str]:
    return specs.spec_faults(SPEC, {"web_name": "www", **inputs})


def of_secret(value: Any) -> list[str]:
    """What is wrong with a secret; its value never stands in a message."""
    found = faults(web_secrets={"TOKEN": value})
    if isinstance(value, str) and len(value) > 3:
        assert not any(value in fault for fault in found), found
    return found


def test_good_inputs_have_no_fault():
    assert faults() == []
    assert faults(
        web_port="8080",
        web_on="no",
        web_secrets={"TOKEN": SECRET},
        web_sites=[{"domain": "www.example.com", "password": SECRET, "limits": {"body": 5, "open": False}}],
    ) == []  # fmt: skip


# Secrets


@pytest.mark.parametrize("character", [chr(code) for code in range(0x20, 0x7F)] + ["ü", "€", "🔑", "\u00a0"])
def test_every_character_that_can_be_typed_may_stand_in_a_secret(character):
    for secret in (f"{character}sixteen letters{character}", f"{character * 20}a"):
        if not specs.PLACEHOLDER.search(secret):
            assert of_secret(secret) == []


@pytest.mark.parametrize("character", ["\n", "\t", "\r", "\0", "\x1b", "\x7f"])
def test_control_characters_are_refused_anywhere_in_a_secret(character):
    for secret in (
        f"{character}sixteen letters or more",
        f"sixteen {character} letters",
        f"sixteen letters or more{character}",
    ):
        assert of_secret(secret) == ["web_secrets.TOKEN: holds a newline, a tab or another control character"]


def test_short_secrets_are_refused_with_both_lengths():
    assert of_secret("a" * 16) == []
    assert of_secret("fifteen letters") == ["web_secrets.TOKEN: a secret has at least 16 characters, this one has 15"]
    assert of_secret("") == ["web_secrets.TOKEN: not set, or empty; a secret"]
    assert faults(web_token="") == []
    assert faults(web_token="short") == ["web_token: a secret has at least 16 characters, this one has 5"]


@pytest.mark.parametrize(
    "placeholder",
    ["REPLACE_ME_REPLACE_ME", "please-change-me-now", "CHANGEME12345678", "<put your secret here>", "x" * 20, "*" * 20,
     "placeholder-for-a-secret", "Password1234567890"],
)  # fmt: skip
def test_placeholders_are_refused(placeholder):
    assert of_secret(placeholder) == ["web_secrets.TOKEN: still a placeholder; put a real secret in its place"]


@pytest.mark.parametrize(
    ("written", "kind"),
    [("0123456701234567", "int"), ("12345678901234567", "int"), ("1.5", "float"), ("no", "bool"), ("2026-01-05", "date"),
     ("[a, b]", "list")],
)  # fmt: skip
def test_a_secret_that_yaml_changed_is_refused(written, kind):
    read = DataLoader().load(f"secret: {written}")["secret"]  # as Ansible reads it, with its own types
    (fault,) = of_secret(specs.plain(read))
    assert fault == f"web_secrets.TOKEN: must be a string; put quotes around it (YAML has read it as {kind})"
    assert written not in fault


def test_secrets_that_are_no_dict_are_refused_without_saying_them():
    for value in (SECRET, [SECRET]):
        (fault,) = faults(web_secrets=value)
        assert fault.startswith("web_secrets: must be names with a secret each")
        assert SECRET not in fault


def test_a_secret_that_is_a_dict_is_refused_without_saying_it():
    (fault,) = faults(web_sites=[{"domain": "a", "password": {"of": SECRET}}])
    assert fault.startswith("web_sites[0].password: must be a string")
    assert SECRET not in fault


def test_a_secret_in_a_list_is_found_by_its_place():
    (fault,) = faults(web_sites=[{"domain": "a", "password": SECRET}, {"domain": "b", "password": "hunter2"}])
    assert fault == "web_sites[1].password: a secret has at least 16 characters, this one has 7"


def test_a_fault_elsewhere_does_not_bring_a_secret_to_light():
    for inputs in (
        {"web_port": "many"},
        {"web_kind": "other"},
        {"web_sites": [{"domain": "a", "password": SECRET, "limits": 5}]},
    ):
        found = faults(web_secrets={"TOKEN": SECRET}, **inputs)
        assert found and SECRET not in str(found)


def test_ansibles_own_validator_never_sees_a_secret():
    sites = [{"domain": "a", "password": SECRET}]
    seen = specs._check_tree(SPEC, {"web_name": "www", "web_secrets": {"TOKEN": SECRET}, "web_sites": sites}, "", [])
    assert SECRET not in str(seen)
    assert sites[0]["password"] == SECRET, "what the role gets is as it was"


# Everything else


def test_what_is_required_is_named_all_at_once_with_its_meaning():
    found = specs.spec_faults(SPEC, {"web_sites": [{}, {"domain": None}]})
    assert found == [
        "web_name: required, but not set (Names the site)",
        "web_sites[0].domain: required, but not set (Its name)",
        "web_sites[1].domain: required, but not set (Its name)",
    ]


def test_unknown_keys_are_refused_at_every_depth_with_the_nearest_name():
    found = faults(web_sites=[{"domain": "a", "pasword": SECRET, "limits": {"boddy": 5, "zzzzzz": 1}}])
    assert found[0] == "web_sites[0].pasword: unknown key; did you mean password? (known: domain, limits, password)"
    assert found[1] == "web_sites[0].limits.boddy: unknown key; did you mean body? (known: body, open)"
    assert found[2] == "web_sites[0].limits.zzzzzz: unknown key (known: body, open)"
    assert SECRET not in str(found)


@pytest.mark.parametrize("value", ["maybe", "", 2, "ja"])
def test_what_is_neither_true_nor_false_is_refused(value):
    assert faults(web_on=value) == [f"web_on: '{value}' is neither true nor false"]


@pytest.mark.parametrize("value", [True, False, "yes", "no", "True", "false"])
def test_what_ansible_reads_as_true_or_false_is_taken(value):
    assert faults(web_on=value) == []


@pytest.mark.parametrize(
    "value", ["many", "", True, False, "True", 3.0, "3.0", "1e2", "0x10", "1_000", " 5", "5\n", "+5", [5], {}]
)
def test_what_is_no_whole_number_is_refused(value):
    """Ansible would take some of them for one, and the role would write what stands there."""
    shown = str(value).replace("\n", "\\x0a")
    assert faults(web_port=value) == [f"web_port: '{shown}' is not a whole number"]
    limits = [{"domain": "a", "limits": {"body": value}}]
    assert faults(web_sites=limits) == [f"web_sites[0].limits.body: '{shown}' is not a whole number"]


@pytest.mark.parametrize("value", [0, -1, 8080, "8080", "-1"])
def test_what_is_a_whole_number_is_taken(value):
    assert faults(web_port=value) == []


def test_what_stands_in_a_list_is_judged_by_its_place():
    assert faults(web_names=["a", 5, True], web_ports=[1, "2"]) == []
    assert faults(web_names=["a", ["b"]], web_ports=[1, "2.5"]) == [
        "web_names[1]: must be a string", "web_ports[1]: '2.5' is not a whole number",
    ]  # fmt: skip


def test_choices_are_ansibles_own_to_refuse():
    (found,) = faults(web_kind="other")
    assert "static, proxy" in found


@pytest.mark.parametrize(
    ("sites", "fault"),
    [
        ("a", "web_sites: must be a list"),
        ({"domain": "a"}, "web_sites: must be a list"),
        (["a"], "web_sites[0]: must be keys with a value each (known: domain, limits, password)"),
        ([["a"]], "web_sites[0]: must be keys with a value each (known: domain, limits, password)"),
        ([{"domain": "a", "limits": 5}], "web_sites[0].limits: must be keys with a value each (known: body, open)"),
        ([{"domain": "a", "limits": []}], "web_sites[0].limits: must be keys with a value each (known: body, open)"),
    ],
)
def test_keys_are_wanted_where_something_else_stands(sites, fault):
    assert faults(web_sites=sites) == [fault]


@pytest.mark.parametrize("value", ["A=b", '{"A": "b"}', "", "A", ["A=b"], [], 5, True])
def test_keys_are_wanted_for_a_dict_of_any_keys(value):
    """Ansible would take some of them apart, and the role would get the text all the same."""
    assert faults(web_headers=value) == ["web_headers: must be keys with a value each"]


@pytest.mark.parametrize("value", [["a", "b"], [], {"a": "b"}, {}])
def test_a_string_is_wanted_where_something_else_stands(value):
    assert faults(web_kind=value) == ["web_kind: must be a string"]
    assert faults(web_key=value) == ["web_key: must be a string"]
    assert faults(web_sites=[{"domain": value}]) == ["web_sites[0].domain: must be a string"]


def test_a_version_that_yaml_has_shortened_is_refused():
    fault = "must be a string; put quotes around it (YAML has read it as the number 1.1)"
    assert faults(web_key=yaml.safe_load("1.10")) == [f"web_key: {fault}"]
    assert faults(web_names=["a", 1.1]) == [f"web_names[1]: {fault}"]


@pytest.mark.parametrize("value", [5, True, None, ""])
def test_what_reads_as_a_string_is_taken(value):
    assert faults(web_key=value, web_sites=[{"domain": "a" if value is None else value}]) == []


def test_what_a_template_gives_has_its_own_type():
    templar = Templar(variables={"ports": [80, 443], "header": "a"})

    def given(text: str) -> Any:
        return specs.plain(templar.template(trust_as_template(text)))

    assert faults(web_headers=given("{{ {'X-A': header} }}"), web_key=given("{{ ports[0] }}")) == []
    assert faults(web_key=given("{{ ports }}")) == ["web_key: must be a string"]
    assert faults(web_headers=given("{{ {'X-A': header} | to_json }}")) == [
        "web_headers: must be keys with a value each"
    ]


def test_values_are_judged_and_not_converted():
    inputs = {"web_name": "www", "web_port": "8080", "web_sites": [{"domain": "a", "limits": {"body": "5"}}]}
    assert specs.spec_faults(SPEC, specs.plain(inputs)) == []
    assert inputs["web_port"] == "8080" and inputs["web_sites"][0]["limits"]["body"] == "5"


def test_all_faults_come_in_one_message_that_says_where_to_mend_them():
    with pytest.raises(AnsibleActionFail) as failure:
        refusals.refused("Role web", ["web_a: wrong", "web_b: wrong too"], {})
    message = str(failure.value)
    for words in (
        "Role web refuses its inputs; nothing was changed.",
        "  - web_a: wrong\n",
        "  - web_b: wrong too\n",
        "inventory",
    ):
        assert words in message


def test_no_fault_is_no_failure():
    assert refusals.refused("Role web", [], {}) == {"changed": False}


def test_rules_are_worked_out_one_by_one_and_their_words_only_where_they_are_broken():
    templar = Templar(variables={"web_port": 0, "web_rules": [{"refuse": True, "say": "web_name: taken"}]})

    def rule(refuse: Any, say: str) -> dict[str, Any]:
        return {"refuse": trust_as_template(refuse), "say": trust_as_template(say)}

    rules = [
        rule("{{ web_port | int < 1 }}", "web_port: {{ web_port }} is none"),
        rule("{{ web_port | int > 1 }}", "{{ undefined_variable }}"),
    ]
    assert action._broken(rules, templar.template) == ["web_port: 0 is none"]
    assert action._broken(trust_as_template("{{ web_rules }}"), templar.template) == ["web_name: taken"]
    faults = trust_as_template("{{ ['web_port: none', 'web_name: taken'] }}")
    assert action._broken([faults, *rules], templar.template) == [
        "web_port: none",
        "web_name: taken",
        "web_port: 0 is none",
    ]


def test_rules_are_given_all_inputs_with_flags_that_are_true_or_false(monkeypatch, tmp_path):
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    (tmp_path / "web/meta").mkdir(parents=True)
    options = {"web_on": {"type": "bool"}, "web_port": {"type": "int"}, "web_unset": {"type": "bool"}}
    for name, content in (
        ("argument_specs", {"argument_specs": {"main": {"options": options}}}),
        ("main", {"galaxy_info": {"platforms": SUPPORTED}}),
    ):
        (tmp_path / f"web/meta/{name}.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    rules = [{"refuse": True, "say": trust_as_template("{{ role_inputs }}")}]
    task_vars = {"role_path": str(tmp_path / "web"), "ansible_facts": FACTS, "__rules": rules}
    task_vars |= {"web_on": "no", "web_port": "80", "web_unset": None}
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args={"rules_from": "__rules"})
    plugin._templar = Templar(variables=task_vars)
    plugin._vars = task_vars
    (said,) = plugin._faults(tmp_path / "web", {})
    assert said == {"web_on": False, "web_port": "80", "web_unset": None}


# The host


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_supported_hosts_are_let_in(release):
    assert action._refuse_host({**TRIXIE, "distribution_release": release}, SUPPORTED) is None


@pytest.mark.parametrize(
    "facts",
    [
        {**TRIXIE, "distribution_release": "bullseye", "distribution_version": "11"},
        {**TRIXIE, "distribution": "Ubuntu", "distribution_release": "noble"},
        {**TRIXIE, "distribution": "Ubuntu"},
        {"service_mgr": "systemd"},
    ],
)
def test_other_hosts_are_refused_with_what_they_run_and_what_is_supported(facts):
    with pytest.raises(AnsibleActionFail) as failure:
        action._refuse_host(facts, SUPPORTED)
    assert f"This host runs {facts.get('distribution', 'unknown')}" in str(failure.value)
    assert "Supported: Debian bookworm, trixie." in str(failure.value)


def test_a_host_without_systemd_is_refused():
    with pytest.raises(AnsibleActionFail, match="init is sysvinit; systemd is needed"):
        action._refuse_host({**TRIXIE, "service_mgr": "sysvinit"}, SUPPORTED)


def test_a_host_without_sudo_is_told_what_to_do():
    outcome = action._explained({"failed": True, "module_stderr": "/bin/sh: 1: sudo: not found"})
    assert "Install sudo there, or log in as root" in outcome["msg"]
    other = {"failed": True, "msg": "unreachable"}
    assert action._explained(other)["msg"] == "unreachable"


# As a task


FACTS = {**TRIXIE, "memtotal_mb": 2048, "processor_vcpus": 2, "virtualization_type": "kvm"}
SHOP = {
    "app_server_name": "shop", "app_server_push": True, "app_server_version": "main", "app_server_entry": "shop.wsgi",
    "app_server_repository": "/nowhere/shop",
}  # fmt: skip
# name: (the role, what its inputs are)
ROLES: dict[str, tuple[str, dict[str, Any]]] = {
    "rules": ("base", {"base_journal_max_days": -5, "base_reboot_time": "noon"}),
    "spec": ("base", {"base_journal_max_days": "many", "base_reboot_time": "noon"}),
    "unknown": ("base", {"base_journl_max_size": "10M"}),
    "clone": ("app_server", SHOP),
    "secret": ("app_server", {**SHOP, "app_server_repository": f"https://bob:{SECRET}@git.example.com/shop.git"}),
    "null": ("app_server", {**SHOP, "app_server_deploy_key_file": None}),
}
# name: what the task is given
TASKS: dict[str, dict[str, Any]] = {
    "misspelt": {"rules_form": "web_rules"},
    "undefined": {"rules_from": "web_rules"},
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For each of ROLES and TASKS, what it was refused with."""
    work = tmp_path_factory.mktemp("refused")
    plugins = work / "collections/ansible_collections/foobar/webstack/plugins"
    plugins.parent.mkdir(parents=True)
    plugins.symlink_to(ROOT / "plugins")
    steps = {
        name: {"ansible.builtin.include_role": {"name": role, "tasks_from": "validate"}, "vars": inputs}
        for name, (role, inputs) in ROLES.items()
    } | {name: {"foobar.webstack.validate_inputs": arguments} for name, arguments in TASKS.items()}
    tell = {"content": "{{ ansible_failed_result.msg }}", "mode": "0600"}
    play = {
        "hosts": "localhost", "gather_facts": False, "vars": {"ansible_facts": FACTS},
        "tasks": [
            {"block": [step], "rescue": [{"ansible.builtin.copy": {**tell, "dest": str(work / name)}}]}
            for name, step in steps.items()
        ],
    }  # fmt: skip
    (work / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    done = start(
        "ansible-playbook", "-i", "localhost,", "-c", "local", "play.yml", cwd=work,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_COLLECTIONS_PATH=str(work / "collections"),
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return {name: (work / name).read_text(encoding="utf-8") for name in steps}


def test_rules_wait_for_the_spec(said):
    assert "base_journal_max_days: must be 1 or more" in said["rules"] and "base_reboot_time: 'noon'" in said["rules"]
    assert "base_journal_max_days: 'many' is not a whole number" in said["spec"]
    assert "base_reboot_time" not in said["spec"]


def test_a_variable_that_the_role_does_not_have_is_refused_with_the_nearest_name(said):
    assert "base_journl_max_size: unknown variable; did you mean base_journal_max_size?" in said["unknown"]


def test_what_is_asked_of_the_controller_waits_for_inputs_of_the_right_form(said):
    assert "names no commit, or more than one, in the controller's clone /nowhere/shop" in said["clone"]
    for name, words in (("secret", "app_server_repository: "), ("null", "app_server_deploy_key_file: has no value")):
        assert words in said[name] and "names no commit" not in said[name] and SECRET not in said[name]


def test_rules_that_would_not_be_judged_are_refused(said):
    assert said["misspelt"].endswith("Invalid options for foobar.webstack.validate_inputs: rules_form")
    assert said["undefined"].endswith("rules_from: there is no variable web_rules")


def test_facts_that_the_play_has_are_kept_beside_those_that_the_task_gathers(monkeypatch, tmp_path):
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    (tmp_path / "web/meta").mkdir(parents=True)
    for name, content in (
        ("argument_specs", {"argument_specs": {"main": {"options": {}}}}),
        ("main", {"galaxy_info": {"platforms": SUPPORTED}}),
    ):
        (tmp_path / f"web/meta/{name}.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    words = trust_as_template("{{ ansible_facts['fqdn'] }} runs {{ ansible_facts['distribution'] }}")
    task_vars = {
        "role_path": str(tmp_path / "web"),
        "ansible_facts": {"fqdn": "web.example.com"},
        "__web_rules": [{"refuse": True, "say": words}],
    }
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args={"rules_from": "__web_rules"})
    plugin._templar = Templar(variables=task_vars)
    gathered = {f"ansible_{name}": value for name, value in FACTS.items()}
    plugin._execute_module = lambda **_options: {"ansible_facts": gathered}
    with pytest.raises(AnsibleActionFail, match=r"web\.example\.com runs Debian"):
        plugin.run(task_vars=task_vars)
