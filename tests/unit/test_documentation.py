"""What each plugin says of itself: `make sanity` asks more of it, and needs the network."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.plugins.action import ActionBase
from loading import ROOT, load

LICENCE = (
    "# Copyright the foobar web stack maintainers\n"
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)\n"
)
SUPPORT = ("full", "partial", "none", "N/A")
MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py"))
ACTIONS = sorted(path.stem for path in ROOT.glob("plugins/action/*.py"))
FILTERS = {
    f"filter/{name}": function
    for path in sorted(ROOT.glob("plugins/filter/*.py"))
    for name, function in load(f"plugins/filter/{path.name}").FilterModule().filters().items()
}
TESTS = {
    f"test/{name}": function
    for path in sorted(ROOT.glob("plugins/test/*.py"))
    for name, function in load(f"plugins/test/{path.name}").TestModule().tests().items()
}
IN_TEMPLATES = FILTERS | TESTS


class Taken(Exception):
    """The options that a module or an action takes."""


def take(*_self: Any, argument_spec: dict[str, Any], **_more: Any) -> None:
    raise Taken(argument_spec)


def documentation(name: str) -> dict[str, Any]:
    return yaml.safe_load(load(f"plugins/modules/{name}.py").DOCUMENTATION)


def plain(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """Options in one form, whether a documentation or an argument_spec has them."""
    return {
        name: (
            option.get("type", "str"),
            option.get("elements"),
            option.get("default"),
            bool(option.get("required")),
            [*(option.get("choices") or [])],
            plain(option.get(nested) or {}, nested),
        )
        for name, option in options.items()
    }


@pytest.mark.parametrize(
    "path",
    [path for kind in ("py", "yml") for path in sorted(ROOT.glob(f"plugins/*/*.{kind}"))],
    ids=lambda path: path.name,
)
def test_a_plugin_says_whose_it_is_and_under_which_licence(path: Path):
    assert re.match(f"(#!/usr/bin/python\n|---\n)?{re.escape(LICENCE)}", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documented_with_what_it_supports(name):
    module, said = load(f"plugins/modules/{name}.py"), documentation(name)
    assert said["module"] == name
    assert yaml.safe_load(module.EXAMPLES)
    assert module.RETURN
    attributes = said["attributes"]
    assert attributes["platform"]["platforms"] == "debian"
    assert {attributes[mode]["support"] for mode in ("check_mode", "diff_mode")} <= set(SUPPORT)
    text = inspect.getsource(module)
    if "AnsibleModule(" in text:
        assert (attributes["check_mode"]["support"] != "none") == ("supports_check_mode=True" in text)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_the_options_that_its_documentation_has(name, monkeypatch):
    """Where an action does the work, it is asked instead."""
    module, options = load(f"plugins/modules/{name}.py"), documentation(name).get("options", {})
    if hasattr(module, "main"):
        monkeypatch.setattr(module, "AnsibleModule", take)
        start = module.main
    else:
        assert name in ACTIONS, "nothing does the work"
        action = load(f"plugins/action/{name}.py").ActionModule
        if action._VALID_ARGS:
            assert set(action._VALID_ARGS) == set(options)
            return
        monkeypatch.setattr(ActionBase, "run", lambda *_args, **_options: {})
        monkeypatch.setattr(ActionBase, "validate_argument_spec", take)
        plugin = action.__new__(action)
        plugin._task = SimpleNamespace(args={}, check_mode=False)
        start = plugin.run
    with pytest.raises(Taken) as taken:
        start()
    assert plain(options, "suboptions") == plain(taken.value.args[0], "options")


def test_an_action_has_the_documentation_of_a_module():
    assert set(ACTIONS) <= set(MODULES)


def test_a_filter_is_documented_and_no_other():
    paths = (ROOT / "plugins").glob("*/*.yml")
    assert {f"{path.parent.name}/{path.stem}" for path in paths} == set(IN_TEMPLATES)


@pytest.mark.parametrize("plugin", IN_TEMPLATES)
def test_a_filter_or_test_takes_the_options_that_its_documentation_has(plugin):
    said, name = yaml.safe_load((ROOT / f"plugins/{plugin}.yml").read_text(encoding="utf-8")), Path(plugin).name
    assert said["DOCUMENTATION"]["name"] == name
    assert f"foobar.webstack.{name}" in said["EXAMPLES"] and yaml.safe_load(said["EXAMPLES"])
    assert said["RETURN"]["_value"]["type"]
    parameters = [*inspect.signature(IN_TEMPLATES[plugin]).parameters.values()]
    options = said["DOCUMENTATION"]["options"]
    assert [*options] == ["_input", *(parameter.name for parameter in parameters[1:])]
    required = {parameter.name for parameter in parameters[1:] if parameter.default is parameter.empty}
    assert {option for option, how in options.items() if how.get("required")} - {"_input"} == required


def test_a_fragment_has_sections_that_the_changelog_knows():
    known = {name for name, _title in yaml.safe_load((ROOT / "changelogs/config.yaml").read_text())["sections"]}
    for path in ROOT.glob("changelogs/fragments/*"):
        assert path.suffix == ".yml"
        for section, lines in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            assert section in known, path.name
            assert all(isinstance(line, str) for line in lines), path.name
