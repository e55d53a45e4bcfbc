"""What every role, scenario and file of this tree has in common, so that who knows one knows all."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from loading import ROLES, ROOT, load
from starting import start

role_docs = load("tools/role-docs")
SUITES = {"bookworm", "trixie"}
each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)

# Templates whose files cannot hold a comment, or are no files.
UNMARKED = {
    "sandbox.j2": "a part of the units",
    "release.json.j2": "JSON has no comments",
    "check.sh.j2": "a command, not a file on the host",
}
# Who takes a secret without `no_log` on the task, and why it stays one.
KEEPS_SECRETS = {
    "foobar.webstack.validate_inputs": "never says a value of a secret (test_validate_inputs.py)",
    "foobar.webstack.app_release": "gets a digest of the settings, in which secrets are a part",
    "foobar.webstack.mysql_accounts": "takes the passwords apart, in a parameter that has no_log",
    "foobar.webstack.dns_records": "takes the key's secret apart, in a parameter that has no_log",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def tree() -> Iterator[Path]:
    """Every file of the project that git would take."""
    ignored = [".git/", *(ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    names = [pattern.rstrip("/") for pattern in ignored]
    for base, folders, files in os.walk(ROOT):
        here = Path(base).relative_to(ROOT)

        def wanted(name: str, here: Path = here) -> bool:
            return not any(fnmatch.fnmatch(name, pattern) or str(here / name) == pattern for pattern in names)

        folders[:] = filter(wanted, folders)
        yield from (Path(base, name) for name in files if wanted(name) and not Path(base, name).is_symlink())


def tasks_in(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Tasks, those within blocks included."""
    for item in items:
        yield item
        for part in ("block", "rescue", "always"):
            yield from tasks_in(item.get(part, []))


def role_tasks(role: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((role / "tasks").glob("*.yml")):
        for task in tasks_in(read(path)):
            yield path, task


def spec(role: Path) -> dict[str, Any]:
    return read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def walk(options: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        yield f"{path}{name}", option
        yield from walk(option.get("options", {}), f"{path}{name}.")


def test_there_are_roles_to_look_at():
    assert {"base", "dns", "certificate", "nginx", "app_server", "mysql"} <= {role.name for role in ROLES}


# Roles


@each_role
def test_a_role_is_a_fixed_set_of_files(role):
    for name in (
        "meta/main.yml",
        "meta/argument_specs.yml",
        "defaults/main.yml",
        "tasks/main.yml",
        "tasks/validate.yml",
        "README.md",
    ):
        assert (role / name).is_file(), name


@each_role
def test_a_role_says_where_it_runs(role):
    info = read(role / "meta/main.yml")["galaxy_info"]
    assert info["role_name"] == role.name
    assert [(item["name"], set(item["versions"])) for item in info["platforms"]] == [("Debian", SUITES)]


@each_role
def test_the_table_of_contents_holds_imports_and_tags_alone(role):
    first, *rest = read(role / "tasks/main.yml")
    tags = [role.name, f"{role.name}_validate"]
    # Included, since an import would have each of its tasks skipped by itself where a playbook has judged already.
    assert first["ansible.builtin.include_tasks"] == {"file": "validate.yml", "apply": {"tags": tags}}
    assert first["tags"] == tags and first["when"] == "webstack_preflight is not defined"
    steps = ["validate"]
    for task in rest:
        step = Path(task["ansible.builtin.import_tasks"]).stem
        assert set(task) == {"name", "ansible.builtin.import_tasks", "tags"}
        assert task["tags"] == [role.name, f"{role.name}_{step}"]
        steps.append(step)
    assert len(steps) == len(set(steps))


@each_role
def test_tags_stand_in_the_table_of_contents_only(role):
    assert [task["name"] for path, task in role_tasks(role) if path.name != "main.yml" and "tags" in task] == []


@each_role
def test_a_task_is_named_after_its_step(role):
    steps = {path.stem: path.stem for path in (role / "tasks").glob("*.yml") if path.name != "main.yml"}
    for path, task in role_tasks(role):  # a file that a step includes belongs to that step
        if path.name != "main.yml" and "ansible.builtin.include_tasks" in task:
            steps[Path(task["ansible.builtin.include_tasks"]).stem] = path.stem
    for path, task in role_tasks(role):
        if path.name == "main.yml" or ("block" in task and "name" not in task):
            continue
        assert re.match(rf"{steps[path.stem].capitalize()} \| \S", task["name"]), f"{path.name}: {task['name']}"


@each_role
def test_defaults_are_what_the_spec_says(role):
    defaults = read(role / "defaults/main.yml") or {}
    declared = {name: option["default"] for name, option in spec(role).items() if "default" in option}
    assert defaults == declared


@each_role
def test_what_is_required_has_no_default(role):
    both = [name for name, option in walk(spec(role)) if option.get("required") and "default" in option]
    assert both == []


@each_role
def test_every_input_has_a_type_and_a_description(role):
    for name, option in walk(spec(role)):
        assert option.get("type"), name
        assert option.get("description"), name
        assert option["type"] != "list" or option.get("elements"), name
        assert option.get("elements") != "dict" or option.get("options"), f"{name}: a misspelt key would pass"


@each_role
def test_inputs_and_internals_carry_the_roles_name(role):
    assert [name for name in spec(role) if not name.startswith(f"{role.name}_")] == []
    for path in (role / "vars").glob("*.yml"):
        assert [name for name in read(path) if not name.startswith(f"__{role.name}_")] == []
    registers = {task["register"] for _path, task in role_tasks(role) if "register" in task}
    assert [name for name in registers if not name.startswith(f"__{role.name}_")] == []


@each_role
def test_no_role_reads_what_belongs_to_another(role):
    others = [f"{other.name}_" for other in ROLES if other != role]
    pattern = re.compile(rf"\b(?:hostvars|groups)\b|(?<![\w.:/-])(?:__)?(?:{'|'.join(others)})\w+")
    for folder in ("tasks", "templates", "vars"):
        for path in (role / folder).glob("*"):
            text = re.sub(r"^\s*#.*$|foobar\.webstack\.\w+", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            code = " ".join(re.findall(r"{{.*?}}|{%.*?%}|^\s*when:.*$", text, flags=re.DOTALL | re.MULTILINE))
            assert pattern.findall(code) == [], path


@each_role
def test_a_template_says_that_it_is_managed(role):
    for path in (role / "templates").glob("*"):
        assert path.suffix == ".j2", path
        assert ("ansible_managed" in path.read_text(encoding="utf-8")) != (path.name in UNMARKED), path


@each_role
def test_a_secret_is_handed_over_by_tasks_that_do_not_log(role):
    secrets = {name.split(".")[0] for name, option in walk(spec(role)) if option.get("no_log")}
    internals = {name: str(value) for path in (role / "vars").glob("*.yml") for name, value in read(path).items()}
    for _name in internals:  # what is made of a secret is one
        secrets |= {
            name for name, value in internals.items() if any(re.search(rf"\b{word}\b", value) for word in secrets)
        }
    for path, task in role_tasks(role):
        if "block" in task or not any(re.search(rf"\b{word}\b", str(task)) for word in secrets):
            continue
        assert task.get("no_log") is True or set(task) & set(KEEPS_SECRETS), f"{path.name}: {task['name']}"


@pytest.mark.parametrize(("module", "parameter"), [("mysql_accounts", "passwords"), ("dns_records", "key_secret")])
def test_the_parameter_for_secrets_is_not_logged(module, parameter):
    source = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    assert re.search(rf'"{parameter}": \{{[^}}]*"no_log": True', source)


@each_role
def test_no_task_denies_its_changes(role):
    for path, task in role_tasks(role):
        question = task.get("ansible.builtin.raw", "").startswith("if test ")  # raw calls whatever it runs a change
        assert task.get("changed_when") is not False or question, f"{path.name}: {task['name']}"


def test_every_exception_is_still_one():
    assert set(UNMARKED) <= {path.name for role in ROLES for path in (role / "templates").glob("*")}


# Their READMEs


@each_role
def test_a_readme_is_what_the_roles_files_say(role):
    assert (role / "README.md").read_text(encoding="utf-8") == role_docs.readme(role), "run `make docs`"


def test_the_reference_of_sites_is_what_its_spec_says():
    assert (ROOT / "docs/sites.md").read_text(encoding="utf-8") == role_docs.sites_page(), "run `make docs`"


@each_role
def test_a_readme_names_every_input_and_leaves_no_markup(role):
    text = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name, _option in walk(spec(role)) if f"`{name.split('.')[-1]}`" not in text] == []
    assert re.findall(r"\b[CMOEVPBIUL]\([^)]*\)", text) == []


def test_a_stale_readme_is_named(tmp_path, monkeypatch, capsys):
    for name in ("meta/main.yml", "meta/argument_specs.yml", "defaults/main.yml", "tasks/main.yml"):
        path = tmp_path / "roles/base" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / "roles/base" / name).read_bytes())
    for name in ("meta/sites.yml", "docs/sites.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(role_docs, "ROOT", tmp_path)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(role_docs.sys, "argv", ["role-docs", *arguments])
        return role_docs.main()

    assert run("--check") == 1
    assert "roles/base/README.md" in capsys.readouterr().err
    assert not (tmp_path / "roles/base/README.md").exists()
    assert (run(), run("--check")) == (0, 0)
    with open(tmp_path / "roles/base/README.md", "a", encoding="utf-8") as readme:
        readme.write("by hand\n")
    assert run("--check") == 1


@pytest.mark.parametrize(
    ("markup", "markdown"),
    [
        ("C(a b), O(x=y), E(HOME), V(1), M(a.b.c)", "`a b`, `x=y`, `HOME`, `1`, `a.b.c`"),
        ("B(bold) I(slanted)", "**bold** *slanted*"),
        ("U(https://example.com) L(text, https://example.com)", "<https://example.com> [text](https://example.com)"),
        (["one\ntwo", "three"], "one two\n\nthree"),
        ("DNS(1) and COMIC(2)", "DNS(1) and COMIC(2)"),
    ],
)
def test_ansibles_markup_becomes_markdown(markup, markdown):
    assert role_docs.prose(markup) == markdown


# Scenarios


def names_of_tests(path: Path) -> list[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


@pytest.mark.parametrize("scenario", [role.name for role in ROLES] + ["default"])
def test_a_scenario_has_what_it_needs_to_fail(scenario):
    """Molecule's verifier passes a scenario that has no tests."""
    folder = ROOT / "molecule" / scenario
    assert (folder / "molecule.yml").is_file()
    assert (folder / "converge.yml").is_file()
    assert [name for path in folder.glob("tests/test_*.py") for name in names_of_tests(path)]
    assert {platform["image"] for platform in read(folder / "molecule.yml")["platforms"]} >= SUITES


# The whole tree


def code() -> list[Path]:
    folders = ("roles", "playbooks", "molecule", ".ci", ".github")
    top = [path for path in ROOT.iterdir() if path.suffix == ".yml" or path.name == "Makefile"]
    return [path for path in tree() if path.relative_to(ROOT).parts[0] in folders or path in top]


def test_nothing_hides_a_failure():
    hides = re.compile(r"ignore_errors:|\|\|\s*(true|:)(\s|$)|continue-on-error")
    assert [path for path in code() if hides.search(path.read_text(encoding="utf-8", errors="replace"))] == []


def test_no_play_searches_collections():
    """With `collections:`, a short name would mean another module wherever one of that name is installed."""
    keyword = re.compile(r"^\s*(- )?collections:", re.MULTILINE)
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in code()
        if path.suffix == ".yml" and path.name != "requirements.yml"
    }
    assert len(texts) > 20
    assert [path for path, text in texts.items() if keyword.search(text)] == []


def test_no_registry_is_named():
    """An address in the tree would win over the mirror that a site has configured."""
    hosts = [".".join(parts) for parts in (
        ("deb", "debian", "org"), ("security", "debian", "org"), ("pypi", "org"), ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"), ("galaxy", "ansible", "com"),
    )]  # fmt: skip
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tree()
        for host in hosts
        if host in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_no_path_of_anybodys_machine_is_named():
    places = ["/".join(("", "work", "")), "/".join(("", "root", ".pyenv")), "/".join(("", "tmp", "v3"))]
    found = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in tree()
        for place in places
        if re.search(rf"(?<![\w.$}}-]){re.escape(place)}", path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_tools_can_be_run():
    for path in (ROOT / "tools").iterdir():
        if path.is_file() and path.suffix != ".py":  # a part of one
            assert os.access(path, os.X_OK), path
            assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env "), path


def test_collections_are_declared_where_they_are_used_with_one_version():
    required = {item["name"]: item["version"] for item in read(ROOT / "requirements.yml")["collections"]}
    depended = read(ROOT / "galaxy.yml").get("dependencies") or {}

    def used(folders: tuple[str, ...]) -> set[str]:
        texts = (
            p.read_text(encoding="utf-8", errors="replace") for p in tree() if p.relative_to(ROOT).parts[0] in folders
        )
        names = re.findall(
            r"^\s*(?:- |ansible_connection: )?((?:community|ansible)\.\w+)\.\w+", "\n".join(texts), re.MULTILINE
        )
        return set(names) - {"ansible.builtin"}

    assert used(("roles", "plugins")) == set(depended)
    assert used(("roles", "plugins", "playbooks", "site.yml", "inventories")) == set(required)
    assert {name: required[name] for name in depended} == depended


def test_every_scenario_is_run_by_make_test_all():
    first, more = re.findall(r"scenarios\+?=\((\w[^)]*)\)", (ROOT / "tools/scenarios").read_text(encoding="utf-8"))
    assert sorted([*first.split(), *more.split()]) == sorted(
        path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")
    )


def test_hosted_ci_runs_the_same_scenarios_each_by_itself():
    jobs = read(ROOT / ".github/workflows/test.yml")["jobs"]
    assert sorted(jobs["scenario"]["strategy"]["matrix"]["scenario"]) == sorted(
        path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")
    )


def test_no_playbook_warns_of_groups_that_an_inventory_need_not_have(tmp_path):
    inventory = tmp_path / "hosts.yml"
    group = {"hosts": {"web1": {"ansible_connection": "local"}}}
    inventory.write_text(
        yaml.safe_dump({"all": {"children": dict.fromkeys(["webservers", "appservers", "dbservers"], group)}})
    )
    paths = sorted((ROOT / "playbooks").glob("*.yml"))
    argv = ["ansible-playbook", "--inventory", inventory, "--list-hosts", *paths]
    done = start(*argv, cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("playbook: ") == len(paths) and "WARNING" not in done.stdout


@pytest.mark.parametrize("role", ["nginx", "database_proxy", "load_balancer"])
def test_what_hosts_of_one_site_have_restarts_on_one_after_the_other(role):
    tasks = read(ROOT / "roles" / role / "tasks/configure.yml")
    calls = [task for task in tasks if "foobar.webstack.service_config" in task]
    assert calls and all("throttle" in task for task in calls)
