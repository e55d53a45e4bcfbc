# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How actions refuse: at once, or collected, so that a play reports everything that it refuses together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean

# In a play that sets this variable, tasks register their faults, under any name, and do not fail. The last task fails
# with all of them (validate_inputs with `collected`).
COLLECT = "webstack_collect"
FAULTS = "webstack_faults"
CARRIED = "webstack_faults_before"  # faults of earlier tasks; a task in a loop overwrites its registered result
# Variables: the registered result of foobar.webstack.sites, and the site that a role is called for.
WEBSTACK, SITE = "webstack", "webstack_site"
HIDDEN = ""  # stands for a fault that only follows from another one
INPUTS = "its inputs"
WHERE = "Set it in the inventory (inventories/<name>/group_vars/) or where the role is called."


def refused(who: str, faults: list[str], task_vars: dict[str, Any], what: str = INPUTS) -> dict[str, Any]:
    """The result of a task of `who` that has found `faults` in `what`.

    Raises AnsibleActionFail where there are some, unless the play collects them.
    """
    faults = [where_it_stands(fault, task_vars) for fault in faults]
    headline = f"{who} refuses {what}"
    if is_collected(task_vars):
        before = collected(task_vars)
        found = {FAULTS: {headline: faults}} if faults else {}
        return {"changed": False, **found, **({CARRIED: before} if before else {})}
    if faults:
        raise AnsibleActionFail(report({headline: faults}))
    return {"changed": False}


def where_it_stands(fault: str, task_vars: dict[str, Any]) -> str:
    """A fault with the inventory's names: inputs that come from `sites` are called by their place there."""
    told = task_vars.get(WEBSTACK)
    if not isinstance(told, dict):
        return fault
    site = told.get("sites", {}).get(task_vars.get(SITE), {})
    places = {**told.get("places", {}), **site.get("places", {})}
    fault = re.sub(r"\b(app_server|certificate)_[a-z_]+\b", lambda found: places.get(found[0], found[0]), fault)
    return re.sub(
        r"\b((?:nginx_sites|mysql_users|mysql_databases)\[\d+\])((?:\.server_names\[\d+\]|\.\w+)?)",
        lambda found: _of_site(places[found[1]], found[2]) if found[1] in places else found[0],
        fault,
    )


def _of_site(place: str, key: str) -> str:
    """The place in an entry of `sites` of a key of a role's input."""
    if named := re.fullmatch(r"\.server_names\[(\d+)\]", key):
        number = int(named[1])
        return f"{place}.aliases[{number - 1}]" if number else f"{place}.domain"
    if key in (".server_names", ".redirect_names"):
        return f"{place}.{'domain' if key == '.server_names' else 'redirects'}"
    if key in (".certificate", ".certificate_key", ".name") or place.endswith(".database") or not key:
        return f"{place}{key}"
    return f"{place}.nginx{key}"


def is_collected(task_vars: dict[str, Any]) -> bool:
    return boolean(task_vars.get(COLLECT, False))


def report(found: dict[str, list[str]]) -> str:
    """The message for the operator: all faults, by headline."""
    parts = [
        f"{headline}; nothing was changed.\n" + "".join(f"  - {fault}\n" for fault in faults)
        for headline, faults in found.items()
    ]
    return "".join([*parts, *([WHERE] if any(headline.endswith(INPUTS) for headline in found) else [])])


def collected(task_vars: dict[str, Any]) -> dict[str, list[str]]:
    """The faults in registered results of this host, by headline."""
    found: dict[str, list[str]] = {}
    for headline, faults in _registered(task_vars):
        known = found.setdefault(headline, [])
        known += [fault for fault in faults if fault and fault not in known]
    return {headline: faults for headline, faults in found.items() if faults}


def _registered(task_vars: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for value in list(task_vars.values()):
        for key in (CARRIED, FAULTS):
            if isinstance(value, dict) and isinstance(value.get(key), dict):
                yield from (
                    (str(headline), [str(fault) for fault in faults]) for headline, faults in value[key].items()
                )
