# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.validate_inputs: checks a role's inputs against its spec and its rules, on the controller."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.template import is_trusted_as_template
from ansible_collections.foobar.webstack.plugins.plugin_utils.refusals import (
    HIDDEN,
    collected,
    is_collected,
    refused,
    report,
)
from ansible_collections.foobar.webstack.plugins.plugin_utils.specs import (
    EXPRESSION,
    SECRET_NAME,
    nearest,
    plain,
    read_yaml,
    spec_faults,
    templates_in_secrets,
)

INPUTS = "role_inputs"  # the variable in which rules find all inputs of the role
UNDEFINED = re.compile(r"'(\w+)' is undefined")


class ActionModule(ActionBase):
    """Role, spec and inputs are those of the calling role."""

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
        if not role_path.name:
            raise AnsibleActionFail("Outside a role there are no inputs to judge, only rules; give them as rules")
        result: dict[str, Any] = {}
        faults = self._faults(role_path, result)
        if result.get("failed"):
            return result
        return result | refused(who, faults, self._vars)

    def _faults(self, role_path: Path, result: dict[str, Any]) -> list[str]:
        """All faults. Facts that are gathered for it are put into `result`."""
        faults, inputs = self._role_faults(role_path)
        if faults:
            return faults
        facts = self._vars.get("ansible_facts", {})
        if not {"distribution", "memtotal_mb", "service_mgr", "virtualization_type"} <= set(facts):
            gathered = self._execute_module(
                module_name="foobar.webstack.host_facts", module_args={}, task_vars=self._vars
            )
            if gathered.get("failed"):
                result |= _explained(gathered)
                return []
            result["ansible_facts"] = gathered["ansible_facts"]
            facts = facts | {key.removeprefix("ansible_"): value for key, value in gathered["ansible_facts"].items()}
        try:
            _refuse_host(facts, read_yaml(role_path / "meta/main.yml")["galaxy_info"]["platforms"])
        except AnsibleActionFail as error:
            if not is_collected(self._vars):
                raise
            return [str(error)]
        if "rules_from" not in self._task.args:
            return []
        known = {**self._vars, "ansible_facts": facts, INPUTS: inputs}
        templar = self._templar.copy_with_new_env(available_variables=known)
        try:
            return _broken(self._vars[self._task.args["rules_from"]], templar.template)
        except AnsibleError as error:
            return self._unworkable(self._task.args["rules_from"], True, error)

    def _role_faults(self, role_path: Path) -> tuple[list[str], dict[str, Any]]:
        """What the spec of a role refuses in its inputs; and these inputs, as its rules are given them."""
        prefix = f"{role_path.name}_"
        options = read_yaml(role_path / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        faults = [
            f"{name}: unknown variable{nearest(name, options)}"
            for name in sorted(self._vars)
            if name.startswith(prefix) and name not in options
        ]
        inputs, judged = {}, dict(options)
        for name, option in options.items():
            if name not in self._vars:
                continue
            try:
                inputs[name] = plain(self._templar.template(self._vars[name]))
            except AnsibleError as error:
                faults += self._unworkable(name, _holds_secrets(option), error)
                del judged[name]
        faults = list(dict.fromkeys(faults + spec_faults(judged, inputs)))
        flags = {name for name, value in inputs.items() if options[name].get("type") == "bool" and value is not None}
        return faults, inputs if faults else inputs | {name: boolean(inputs[name]) for name in flags}

    def _unworkable(self, name: str, secret: bool, error: AnsibleError) -> list[str]:
        """Why a template has no value. Ansible's message may quote a part of a secret, so it is not shown then."""
        faults = templates_in_secrets(self._vars) or self._failing_secrets()
        if faults:
            return faults
        missing = UNDEFINED.search(str(error))
        reported = [fault for found in collected(self._vars).values() for fault in found]
        if missing and is_collected(self._vars) and any(fault.startswith(f"{missing[1]}:") for fault in reported):
            return [HIDDEN]
        if secret and not (missing and missing[1].startswith("vault_")):
            return [
                f"{name}: a template in it, or in what it is made of, has no value (not shown, as it holds secrets)"
            ]
        return [f"{name}: {missing[0] if missing else error}"]

    def _failing_secrets(self) -> list[str]:
        """Faults for secrets that are one template, which fails."""
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


def _holds_secrets(option: dict[str, Any]) -> bool:
    return bool(option.get("no_log")) or any(map(_holds_secrets, option.get("options", {}).values()))


def _broken(rules: Any, template: Callable[[Any], Any]) -> list[str]:
    """The faults of the rules. `say` is evaluated only for a rule that refuses."""
    faults: list[str] = []
    for rule in template(rules) if isinstance(rules, str) else rules:
        found = template(rule) if isinstance(rule, str) else rule
        if isinstance(found, list):
            faults += found
        elif template(found["refuse"]):
            faults.append(template(found["say"]))
    return faults


def _explained(gathered: dict[str, Any]) -> dict[str, Any]:
    """The result of a failed fact gathering, with advice if the cause is known."""
    words = f"{gathered.get('module_stderr', '')}{gathered.get('msg', '')}"
    if re.search(r"sudo: (command )?not found", words):
        gathered["msg"] = (
            "The play becomes root through sudo, which this host lacks; nothing was changed. "
            "Install sudo there, or log in as root and set ansible_become: false in the inventory."
        )
    return gathered


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
