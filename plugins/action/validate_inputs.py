# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.validate_inputs: a role's inputs against its own spec, on the controller."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase
from ansible.template import is_trusted_as_template
from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.refusals import (
    HIDDEN,
    collected,
    is_collected,
    refused,
    report,
)

SECRET_LENGTH = 16  # characters, at least
PLACEHOLDER = re.compile(r"change[-_ ]?me|replace[-_ ]?me|^<.*>$|^(x+|\*+|placeholder.*|password.*)$", re.IGNORECASE)
# What Ansible takes for a template, and a value that is nothing else, such as a lookup.
TEMPLATE = re.compile(r"\{[{%#]")
EXPRESSION = re.compile(r"\s*\{\{((?!\}\}).)*\}\}\s*", re.DOTALL)
SECRET_NAME = re.compile(r"vault_|.*(password|secret|token)")
UNDEFINED = re.compile(r"'(\w+)' is undefined")
NOT_SET = re.compile(r"(\w+): not set")


class ActionModule(ActionBase):
    """Role, spec and inputs are those of the role that calls it."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"rules", "rules_from", "collected"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        role_path = Path(self._vars.get("role_path") or "")
        who = f"Role {role_path.name}" if role_path.name else "The play"
        args = self._task.args
        if args.get("collected"):
            found = collected(self._vars)
            if found:
                raise AnsibleActionFail(report(found))
            return {"changed": False}
        if "rules" in args:
            return refused(who, [rule["say"] for rule in args["rules"] if rule["refuse"]], self._vars)
        if "rules_from" in args and args["rules_from"] not in self._vars:
            raise AnsibleActionFail(f"rules_from: there is no variable {args['rules_from']}")
        result: dict[str, Any] = {}
        faults = self._faults(role_path, result)
        return result if result.get("failed") else result | refused(who, faults, self._vars)

    def _faults(self, role_path: Path, result: dict[str, Any]) -> list[str]:
        """All that is wrong; facts that had to be gathered for it go to `result`."""
        facts = self._vars.get("ansible_facts", {})
        if role_path.name:
            faults = self._role_faults(role_path)
            if faults:
                return faults
            if not {"distribution", "memtotal_mb", "service_mgr", "virtualization_type"} <= set(facts):
                gathered = self._execute_module(
                    module_name="foobar.webstack.host_facts", module_args={}, task_vars=self._vars
                )
                if gathered.get("failed"):
                    result |= _explained(gathered)
                    return []
                result["ansible_facts"] = gathered["ansible_facts"]
                facts = facts | {
                    key.removeprefix("ansible_"): value for key, value in gathered["ansible_facts"].items()
                }
            try:
                _refuse_host(facts, _yaml(role_path / "meta/main.yml")["galaxy_info"]["platforms"])
            except AnsibleActionFail as error:
                if not is_collected(self._vars):
                    raise
                return [str(error)]
        elif faults := templates_in_secrets(self._vars, "vault_"):
            return faults
        if "rules_from" not in self._task.args:
            return []
        templar = self._templar.copy_with_new_env(available_variables={**self._vars, "ansible_facts": facts})
        try:
            broken = _broken(self._vars[self._task.args["rules_from"]], templar.template)
        except AnsibleError as error:
            return self._unworkable(self._task.args["rules_from"], True, error)
        return [fault + _misspelt(fault, self._vars) for fault in broken]

    def _role_faults(self, role_path: Path) -> list[str]:
        """What the spec of a role refuses in its inputs."""
        prefix = f"{role_path.name}_"
        options = _yaml(role_path / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        faults = [
            f"{name}: unknown variable{_nearest(name, options)}"
            for name in sorted(self._vars)
            if name.startswith(prefix) and name not in options
        ]
        inputs, judged = {}, dict(options)
        for name, option in options.items():
            if name not in self._vars:
                continue
            try:
                inputs[name] = _plain(self._templar.template(self._vars[name]))
            except AnsibleError as error:
                faults += self._unworkable(name, _holds_secrets(option), error)
                del judged[name]
        return list(dict.fromkeys(faults + _spec_faults(judged, inputs)))

    def _unworkable(self, name: str, secret: bool, error: AnsibleError) -> list[str]:
        """Why a template has no value. Ansible's words repeat a part of it, which may be a part of a secret."""
        faults = templates_in_secrets(self._vars) or self._failing_secrets()
        if faults:
            return faults
        missing = UNDEFINED.search(str(error))
        reported = [fault for found in collected(self._vars).values() for fault in found]
        if missing and is_collected(self._vars) and any(fault.startswith(f"{missing[1]}:") for fault in reported):
            return [HIDDEN]
        if secret and not (missing and missing[1].startswith(("site_", "vault_"))):
            return [
                f"{name}: a template in it, or in what it is made of, has no value (not shown, as it holds secrets)"
            ]
        return [f"{name}: {missing[0] if missing else error}"]

    def _failing_secrets(self) -> list[str]:
        """Secrets that are a template as a whole, and one that has no value."""
        faults = []
        for name, value in self._vars.items():
            if SECRET_NAME.match(name) and is_trusted_as_template(value) and EXPRESSION.fullmatch(value):
                try:
                    self._templar.template(value)
                except AnsibleError:
                    faults.append(
                        f"{name}: is a template without a value; if it is meant as text, write it as {name}: !unsafe '…'"
                    )
        return faults


def templates_in_secrets(variables: dict[str, Any], prefix: str = "") -> list[str]:
    """Secrets that hold what Ansible takes for a template, without saying them.

    One that is a template as a whole, such as a lookup, is meant so.
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


def _holds_secrets(option: dict[str, Any]) -> bool:
    return bool(option.get("no_log")) or any(map(_holds_secrets, option.get("options", {}).values()))


def _broken(rules: Any, template: Callable[[Any], Any]) -> list[str]:
    """What the rules refuse. One that is kept has nothing to say, so that is not worked out."""
    listed = template(rules) if isinstance(rules, str) else rules
    found = [template(rule) if isinstance(rule, str) else rule for rule in listed]
    return [template(rule["say"]) for rule in found if template(rule["refuse"])]


def _misspelt(fault: str, variables: dict[str, Any]) -> str:
    """Of a variable that is not set: what is set under a name like it."""
    missing = NOT_SET.match(fault)
    if not missing or missing[1] in variables:
        return ""
    family = missing[1].split("_")[0]
    close = difflib.get_close_matches(missing[1], [name for name in variables if name.startswith(family)], 1, 0.85)
    return f" (there is a {close[0]})" if close else ""


def _explained(gathered: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a fact gathering that failed, with what to do where that is known."""
    words = f"{gathered.get('module_stderr', '')}{gathered.get('msg', '')}"
    if re.search(r"sudo: (command )?not found", words):
        gathered["msg"] = (
            "The play becomes root through sudo, which this host lacks; nothing was changed. "
            "Install sudo there, or log in as root and set ansible_become: false in the inventory."
        )
    return gathered


def _yaml(path: Path) -> Any:
    return yaml_load(path.read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    """A copy in plain Python types: what the validator converts must not reach the caller."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _spec_faults(options: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    """All that the spec refuses in `inputs`. Secrets are judged here and hidden from Ansible's validator."""
    faults: list[str] = []
    hidden = _check_tree(options, inputs, "", faults)
    if not faults:
        outcome = ArgumentSpecValidator(_without_docs(options)).validate(hidden)
        faults += outcome.error_messages
    return faults


def _check_tree(options: dict[str, Any], values: dict[str, Any], path: str, faults: list[str]) -> dict[str, Any]:
    """Appends faults that Ansible words badly or misses; returns `values` with the secrets masked."""
    masked = dict(values)
    for key in values:
        if key not in options:
            faults.append(f"{path}{key}: unknown key{_nearest(key, options)} (known: {', '.join(sorted(options))})")
    for key, option in options.items():
        value = values.get(key)
        if value is None:
            if option.get("required"):
                faults.append(f"{path}{key}: required, but not set{_first_sentence(option)}")
            continue
        if option.get("no_log"):
            faults += (
                _secrets_faults(f"{path}{key}", value)
                if option.get("type") == "dict"
                else _secret_faults(f"{path}{key}", value)
            )
            masked[key] = {} if option.get("type") == "dict" else "masked"
        elif option.get("type") == "list" and not isinstance(value, list):
            # Ansible would take the text apart at its commas, the templates letter by letter.
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
    """What Ansible would take for a value of its type, while the role gets what was written."""
    if kind == "dict" and not isinstance(value, dict):  # a text such as A=b
        return [f"{path}: must be keys with a value each"]
    if kind in ("str", "path") and isinstance(value, (dict, list)):  # templates write it as Python does
        return [f"{path}: must be a string"]
    if kind in ("str", "path") and isinstance(value, float):  # 1.10 would be 1.1
        return [f"{path}: must be a string; put quotes around it (YAML has read it as the number {value})"]
    if kind == "bool" and str(value).lower() not in ("yes", "no", "true", "false"):
        return [f"{path}: '{shown(value)}' is neither true nor false"]
    if kind == "int" and not re.fullmatch("-?[0-9]+", str(value)):  # true, 1e2, 3.0
        return [f"{path}: '{shown(value)}' is not a whole number"]
    return []


def _check_nested(kind: str, options: dict[str, Any], value: Any, path: str, faults: list[str]) -> Any:
    """The same for a value with keys of its own. Of another type, it would crash Ansible's validator."""
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
    """What is wrong with each value of a dict of secrets, without saying it."""
    if not isinstance(value, dict):
        return [f"{path}: must be names with a secret each, in the form NAME: secret"]
    return [fault for key, item in value.items() for fault in _secret_faults(f"{path}.{key}", item)]


def _secret_faults(path: str, value: Any) -> list[str]:
    """What is wrong with a secret, without saying it."""
    faults = _text_faults(path, value)
    if faults:
        return faults
    if len(value) < SECRET_LENGTH:
        return [f"{path}: a secret has at least {SECRET_LENGTH} characters, this one has {len(value)}"]
    if PLACEHOLDER.search(value):
        return [f"{path}: still a placeholder; put a real secret in its place"]
    return []


def _text_faults(path: str, value: Any) -> list[str]:
    if not isinstance(value, str):
        kind = type(value).__name__.removeprefix("_AnsibleTagged").lower()  # Ansible's types note where a value stands
        return [f"{path}: must be a string; put quotes around it (YAML has read it as {kind})"]
    if re.search(r"[\x00-\x1f\x7f]", value):
        return [f"{path}: holds a newline, a tab or another control character"]
    return []


def _without_docs(options: dict[str, Any]) -> dict[str, Any]:
    """The spec as the validator takes it: it refuses the keys that only document."""
    spec = {}
    for name, option in options.items():
        spec[name] = {key: value for key, value in option.items() if key not in ("description", "version_added")}
        if "options" in option:
            spec[name]["options"] = _without_docs(option["options"])
    return spec


def _refuse_host(facts: dict[str, Any], platforms: list[dict[str, Any]]) -> None:
    """Refuses a host that is none of `platforms` (galaxy's names), or that does not run systemd."""
    supported = {platform["name"]: [str(version) for version in platform["versions"]] for platform in platforms}
    name = facts.get("distribution", "unknown")
    release = facts.get("distribution_release", "unknown")
    if release not in supported.get(name, []):
        wanted = "; ".join(f"{key} {', '.join(versions)}" for key, versions in supported.items())
        raise AnsibleActionFail(
            f"This host runs {name} {facts.get('distribution_version', '')} ({release}), which is not supported; "
            f"nothing was changed. Supported: {wanted}."
        )
    if facts.get("service_mgr") != "systemd":
        raise AnsibleActionFail(
            f"This host's init is {facts.get('service_mgr', 'unknown')}; systemd is needed. Nothing was changed."
        )
