# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asks the host what a module of this collection would change, in half the time of a module.

Ansible packs a module with a hundred kilobytes of its own code, which the host compiles anew in each call: 0.09 s of 0.17 s.
So the module is sent with module_utils/stand_in.py in place of that code, and runs in check mode. What that cannot answer, or
what is to be changed, is left to the module as Ansible runs it.
"""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path
from typing import Any

from ansible import constants
from ansible_collections.foobar.webstack.plugins.module_utils.stand_in import ANSWER

PLUGINS = Path(__file__).resolve().parents[1]
PACKAGE = "ansible_collections.foobar.webstack.plugins"


def ask(action: Any, module: str, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any] | None:
    """What the module answers in check mode; None where it must be run to know."""
    try:
        given = json.dumps([f"{PACKAGE}.modules.{module}", args, bool(action._task.diff)])
    except TypeError:
        return None
    program = f"{_stand_in()}\nanswer({_sources(module)!r}, *json.loads({given!r}))\n"
    interpreter = constants.config.get_config_value("INTERPRETER_PYTHON", variables=task_vars)
    python = "/usr/bin/python3" if interpreter.startswith("auto") else interpreter
    command = f"{action._compute_environment_string()} {shlex.quote(python)} -".strip()
    outcome = action._low_level_execute_command(command, in_data=program.encode())
    _before, answered, rest = outcome["stdout"].rpartition(ANSWER)
    return json.loads(rest.partition("\n")[0]) if outcome["rc"] == 0 and answered else None


def answer_of(action: Any, module: str, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    """What a module that changes nothing answers, however it has to be run for that."""
    return ask(action, module, args, task_vars) or action._execute_module(
        module_name=f"foobar.webstack.{module}", module_args=args, task_vars=task_vars
    )


@functools.cache
def _stand_in() -> str:
    return (PLUGINS / "module_utils/stand_in.py").read_text(encoding="utf-8")


def _sources(module: str) -> dict[str, str]:
    """The module and all that it may import, by their full names; see stand_in.Sent."""
    packages = [*_above(f"{PACKAGE}.modules."), *_above(f"{PACKAGE}.module_utils."), *_above("ansible.module_utils.")]
    paths = [PLUGINS / f"modules/{module}.py", *PLUGINS.glob("module_utils/*.py")]
    return dict.fromkeys(packages, "") | {
        f"{PACKAGE}.{path.parent.name}.{path.stem}": path.read_text(encoding="utf-8") for path in paths
    }


def _above(package: str) -> list[str]:
    """A package, written with a dot behind it, and those that it is in."""
    return [package[: at + 1] for at, letter in enumerate(package) if letter == "."]
