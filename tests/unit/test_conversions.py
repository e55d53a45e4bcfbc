"""Wherever a role asks a boolean or counts with a number, it converts first.

Argument specs check types and convert nothing: `-e nginx_http3=false` is a text that is not empty, and so is true.
Each expression of the roles and of the playbooks is parsed, and each use of an input looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, nodes
from loading import ROLES, ROOT

# A use is of the right type after these; a default in between does no harm.
CONVERTS = {"bool": {"bool"}, "int": {"int", "float", "abs"}}
PASSES = {"default", "d", "mandatory"}


def inputs(role: Path, wanted: str) -> tuple[set[str], set[str]]:
    """The role's inputs of a type, and the keys of that type inside of others."""
    options = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"][
        "options"
    ]

    def keys(option: dict[str, Any]) -> Iterator[str]:
        for name, inner in option.get("options", {}).items():
            if inner["type"] == wanted:
                yield name
            yield from keys(inner)

    return (
        {name for name, option in options.items() if option["type"] == wanted},
        {name for option in options.values() for name in keys(option)},
    )


def expressions(path: Path) -> Iterator[str]:
    """Every template of a file, as text in which expressions stand in braces."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".j2":
        yield text
        return
    for document in yaml.load_all(text, Loader=yaml.BaseLoader):
        yield from _strings(document, "")


def _strings(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif key in ("when", "until", "changed_when", "failed_when", "that") and value and "{{" not in value:
        yield "{{ " + value + " }}"
    elif isinstance(value, str) and ("{{" in value or "{%" in value):
        yield value


def unconverted(text: str, names: set[str], keys: set[str], converts: set[str]) -> list[str]:
    """The names, and keys, whose truth or amount is asked for as they stand."""
    found: list[str] = []

    def visit(node: nodes.Node, asked: bool) -> None:
        if isinstance(node, nodes.Filter) and node.name in converts:
            asked = False
        elif isinstance(node, nodes.Filter) and node.name in PASSES:
            for other in node.args:
                visit(other, False)
        elif isinstance(node, nodes.Filter):
            asked = node.name == "ternary"
        elif isinstance(node, nodes.Test):
            asked = False
        elif isinstance(node, nodes.Name) and node.name in names and asked:
            found.append(node.name)
        elif isinstance(node, nodes.Getattr) and node.attr in keys and asked:
            found.append(f".{node.attr}")
        elif isinstance(node, (nodes.Call, nodes.Dict, nodes.List, nodes.Getattr, nodes.Getitem, nodes.Output)):
            asked = False
        if isinstance(node, (nodes.If, nodes.CondExpr)):
            visit(node.test, True)
            for child in node.iter_child_nodes(exclude=("test",)):
                visit(child, asked and isinstance(node, nodes.CondExpr))
        elif isinstance(node, nodes.For):
            if node.test:
                visit(node.test, True)
            for child in node.iter_child_nodes(exclude=("test",)):
                visit(child, False)
        elif isinstance(node, (nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.BinExpr)):
            for child in node.iter_child_nodes():
                visit(child, not isinstance(node, nodes.Concat))
        else:
            for child in node.iter_child_nodes():
                visit(child, asked)

    visit(Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]).parse(text), False)
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ 1 if on else 2 }}", ["on"]),
        ("{{ 1 if on | default(false) else 2 }}", ["on"]),
        ("{{ [on and 1] }}", ["on"]),
        ("{% if not site.on %}{% endif %}", [".on"]),
        ("{{ on | ternary(1, 2) }}", ["on"]),
        ("{{ 1 if on | bool else 2 }}", []),
        ("{{ on | default(false) | bool and true }}", []),
        ("{{ 1 if on is defined else 2 }}", []),
        ("{{ {'on': on} | faults }}", []),
    ],
)
def test_a_question_to_a_text_would_be_found(text, found):
    """Guards the test below."""
    assert unconverted(text, {"on"}, {"on"}, {"bool"}) == found


@pytest.mark.parametrize("wanted", sorted(CONVERTS))
@pytest.mark.parametrize("role", [role.name for role in ROLES])
def test_every_question_to_an_input_is_asked_of_a_value_of_its_type(role, wanted):
    folder = ROOT / "roles" / role
    names, keys = inputs(folder, wanted)
    own = {
        *folder.rglob("*.j2"),
        *(path for part in ("tasks", "vars", "defaults") for path in (folder / part).rglob("*.yml")),
    }
    shared = {*ROOT.glob("*.yml"), *(ROOT / "playbooks").rglob("*.yml")}
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in own | shared
        for text in expressions(path)
        for name in unconverted(text, names, keys if path in own else set(), CONVERTS[wanted])
    }
    assert found == set(), f"add | {wanted}"
