# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an argument spec refuses, in words for an operator: a role's inputs, or an entry of `sites`."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.template import is_trusted_as_template
from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown

SECRET_LENGTH = 16  # characters, at least
PLACEHOLDER = re.compile(r"change[-_ ]?me|replace[-_ ]?me|^<.*>$|^(x+|\*+|placeholder.*|password.*)$", re.IGNORECASE)

# The begin of a template, and a value that is one expression, such as a lookup.
TEMPLATE = re.compile(r"\{[{%#]")
EXPRESSION = re.compile(r"\s*\{\{((?!\}\}).)*\}\}\s*", re.DOTALL)
SECRET_NAME = re.compile(r"vault_|.*(password|secret|token)")


def read_yaml(path: Path) -> Any:
    return yaml_load(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """A copy in plain Python types, because Ansible's validator converts values in place."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def nearest(name: str, known: Any) -> str:
    """For a complaint about an unknown name: the known one that is closest."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def similar(missing: str, variables: Any, cutoff: float = 0.85) -> str:
    """For a complaint about a variable that is not set: the one of a similar name that is set."""
    close = difflib.get_close_matches(missing, [name for name in variables if isinstance(name, str)], 1, cutoff)
    return f" (there is a {close[0]})" if close else ""


def spec_faults(options: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    """All faults of `inputs`. Secrets are checked here and masked for Ansible's validator, which would print them."""
    faults: list[str] = []
    hidden = _check_tree(options, inputs, "", faults)
    if not faults:
        outcome = ArgumentSpecValidator(_without_docs(options)).validate(hidden)
        faults += outcome.error_messages
    return faults


def _check_tree(options: dict[str, Any], values: dict[str, Any], path: str, faults: list[str]) -> dict[str, Any]:
    """Appends faults that Ansible misses or words badly; returns `values` with masked secrets."""
    masked = dict(values)
    for key in values:
        if key not in options:
            faults.append(f"{path}{key}: unknown key{nearest(key, options)} (known: {', '.join(sorted(options))})")
    for key, option in options.items():
        value = values.get(key)
        if value is None:
            if option.get("required"):
                faults.append(f"{path}{key}: required, but not set{_first_sentence(option)}")
            continue
        if option.get("no_log"):
            if value == "" and option.get("default") == "":  # one that may be left out
                continue
            faults += (
                _secrets_faults(f"{path}{key}", value)
                if option.get("type") == "dict"
                else _secret_faults(f"{path}{key}", value)
            )
            masked[key] = {} if option.get("type") == "dict" else "masked"
        elif option.get("type") == "list" and not isinstance(value, list):
            # Ansible's validator would split a string at commas; the role's templates would loop over its letters.
            faults.append(f"{path}{key}: must be a list")
        elif "options" in option:
            masked[key] = _check_nested(option["type"], option["options"], value, f"{path}{key}", faults)
        elif option.get("type") == "list":
            kind = option.get("elements", "raw")
            faults += [
                fault for place, item in enumerate(value) for fault in _type_faults(f"{path}{key}[{place}]", kind, item)
            ]
        else:
            faults += _type_faults(f"{path}{key}", option.get("type", "str"), value)
    return masked


def _type_faults(path: str, kind: str, value: Any) -> list[str]:
    """Values that Ansible's validator would convert; the role would get the unconverted value."""
    if kind == "dict" and not isinstance(value, dict):  # Ansible would convert a string such as A=b
        return [f"{path}: must be keys with a value each"]
    if kind in ("str", "path") and isinstance(value, (dict, list)):  # a template would print it as Python code
        return [f"{path}: must be a string"]
    if kind in ("str", "path") and isinstance(value, float):  # YAML reads 1.10 as 1.1
        return [f"{path}: must be a string; put quotes around it (YAML has read it as the number {value})"]
    if kind == "bool" and str(value).lower() not in ("yes", "no", "true", "false"):
        return [f"{path}: '{shown(value)}' is neither true nor false"]
    if kind == "int" and not re.fullmatch("-?[0-9]+", str(value)):  # such as true, 1e2, 3.0
        return [f"{path}: '{shown(value)}' is not a whole number"]
    return []


def _check_nested(kind: str, options: dict[str, Any], value: Any, path: str, faults: list[str]) -> Any:
    """The same for a nested value. A value of another type would crash Ansible's validator."""
    if kind == "list":
        return [_check_nested("dict", options, item, f"{path}[{index}]", faults) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return _check_tree(options, value, f"{path}.", faults)
    faults.append(f"{path}: must be keys with a value each (known: {', '.join(sorted(options))})")
    return value


def _first_sentence(option: dict[str, Any]) -> str:
    description = option.get("description", "")
    text = description[0] if isinstance(description, list) else description
    return f" ({text.split('. ')[0].rstrip('.')})" if text else ""


def _secrets_faults(path: str, value: Any) -> list[str]:
    """Faults of a dict of secrets. No message holds a value."""
    if not isinstance(value, dict):
        return [f"{path}: must be names with a secret each, in the form NAME: secret"]
    return [fault for key, item in value.items() for fault in _secret_faults(f"{path}.{key}", item)]


def _secret_faults(path: str, value: Any) -> list[str]:
    """Faults of a secret. No message holds its value."""
    faults = _text_faults(path, value)
    if faults:
        return faults
    if not value:
        return [f"{path}: not set, or empty; a secret"]
    if len(value) < SECRET_LENGTH:
        return [f"{path}: a secret has at least {SECRET_LENGTH} characters, this one has {len(value)}"]
    if PLACEHOLDER.search(value):
        return [f"{path}: still a placeholder; put a real secret in its place"]
    return []


def _text_faults(path: str, value: Any) -> list[str]:
    if not isinstance(value, str):
        kind = type(value).__name__.removeprefix("_AnsibleTagged").lower()  # Ansible wraps types to know lines
        return [f"{path}: must be a string; put quotes around it (YAML has read it as {kind})"]
    if re.search(r"[\x00-\x1f\x7f]", value):
        return [f"{path}: holds a newline, a tab or another control character"]
    return []


def _without_docs(options: dict[str, Any]) -> dict[str, Any]:
    """The spec without documentation, which Ansible's validator refuses."""
    spec = {}
    for name, option in options.items():
        spec[name] = {key: value for key, value in option.items() if key not in ("description", "version_added")}
        if "options" in option:
            spec[name]["options"] = _without_docs(option["options"])
    return spec


def templates_in_secrets(variables: dict[str, Any], prefix: str = "") -> list[str]:
    """Faults for secrets with template characters. No message holds a value.

    A secret that is one expression, such as a lookup, is accepted.
    """
    return [
        f"{name}: holds '{{{{', '{{%' or '{{#', which Ansible takes for a template; write it as {name}: !unsafe '…'"
        for name, value in variables.items()
        if name.startswith(prefix)
        and SECRET_NAME.match(name)
        and is_trusted_as_template(value)
        and TEMPLATE.search(value)
        and not EXPRESSION.fullmatch(value)
    ]
