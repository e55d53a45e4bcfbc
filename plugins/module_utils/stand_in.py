# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Stands in for ansible.module_utils.basic on a host: see plugin_utils/questions.py, which sends this file and calls answer().

A module that needs more than is here ends with an exception, and then it runs as modules do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

ANSWER = "webstack answer: "
TYPES = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict}
SYSTEM = ("/sbin", "/usr/sbin", "/usr/local/sbin")
asked: dict[str, Any] = {}  # what the controller sent


class Unsure(Exception):
    """Ansible's own AnsibleModule must judge this."""


class AnsibleModule:
    """As the class of this name, but it takes no argument that would have to be converted, and changes nothing."""

    def __init__(
        self,
        argument_spec: dict[str, Any],
        supports_check_mode: bool,
        required_together: list[tuple[str, ...]] | None = None,
    ) -> None:
        self.check_mode = supports_check_mode
        self._diff = asked["diff"]
        self.no_log_values: set[str] = set()
        self.warnings: list[str] = []
        self.params = self._taken(argument_spec, asked["arguments"])
        for names in required_together or []:
            if len({self.params[name] is None for name in names}) > 1:
                raise Unsure(f"of {names} some are missing")

    def _taken(self, spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with defaults."""
        if unknown := set(given) - set(spec):
            raise Unsure(f"unknown: {unknown}")
        taken = {}
        for name, option in spec.items():
            if name in given:
                taken[name] = self._judged(option, given[name])
                if option.get("no_log"):
                    self.no_log_values |= {str(value) for value in _leaves(taken[name])} - {""}
            elif option.get("required"):
                raise Unsure(f"{name} is missing")
            else:
                taken[name] = option.get("default")
        return taken

    def _judged(self, option: dict[str, Any], value: Any) -> Any:
        kind = option.get("type", "str")
        if type(value) is not TYPES[kind] or (kind == "path" and ("$" in value or value.startswith("~"))):
            raise Unsure(f"to be converted: {value!r} is no {kind}")
        if "choices" in option and value not in option["choices"]:
            raise Unsure(f"{value!r} is not among {option['choices']}")
        if kind == "list":
            element = {"type": option.get("elements", "str"), "options": option.get("options")}
            return [self._judged(element, item) for item in value]
        if kind == "dict" and option.get("options"):
            return self._taken(option["options"], value)
        return value

    def run_command(
        self, args: list[str], check_rc: bool = False, environ_update: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        done = subprocess.run(
            args,
            env={**os.environ, **(environ_update or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=check_rc,
        )
        return (
            done.returncode,
            done.stdout.decode(errors="surrogateescape"),
            done.stderr.decode(errors="surrogateescape"),
        )

    def get_bin_path(self, name: str, opt_dirs: list[str] | None = None) -> str | None:
        for folder in [*(opt_dirs or []), *os.environ.get("PATH", "").split(":"), *SYSTEM]:
            path = os.path.join(folder, name)
            if folder and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        return None

    def warn(self, words: str) -> None:
        self.warnings.append(words)

    def fail_json(self, msg: str, **_result: Any) -> None:
        raise Unsure(msg)

    def exit_json(self, **result: Any) -> None:
        if self.warnings:
            result["warnings"] = self.warnings
        texts = [str(value) for value in _leaves(result)]
        if any(secret in text for secret in self.no_log_values for text in texts):
            raise Unsure("Ansible masks secrets in what a module answers")
        print(ANSWER + json.dumps(result))
        sys.exit(0)


def _leaves(value: Any) -> list[Any]:
    """The keys and values in a value that are no dict and no list."""
    if isinstance(value, dict):
        return [*value, *(leaf for item in value.values() for leaf in _leaves(item))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


class Sent:
    """Imports what was sent. A name that ends in a dot is a package."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        package = f"{name}." in self.sources
        return ModuleSpec(name, self, is_package=package) if package or name in self.sources else None

    def create_module(self, _spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self.sources.get(module.__name__, ""), module.__name__, "exec"), module.__dict__)


def answer(sources: dict[str, str], module: str, arguments: dict[str, Any], diff: bool) -> None:
    """Runs a module in check mode."""
    asked.update(arguments=arguments, diff=diff)
    sys.meta_path.insert(0, Sent(sources))
    sys.modules["ansible.module_utils.basic"] = sys.modules["__main__"]
    import_module(module).main()
