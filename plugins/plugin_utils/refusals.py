# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an action on the controller refuses: at once, or in one report with all that the play refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean

# A play that sets this variable judges everything first. Its last task reports what the others have found
# (validate_inputs with `collected`); they register their results, under whatever names.
COLLECT = "webstack_collect"
FAULTS = "webstack_faults"
HIDDEN = ""  # a fault that follows from another, which has been reported
INPUTS = "its inputs"
WHERE = "Set it in the inventory (inventories/<name>/group_vars/) or where the role is called."


def refused(who: str, faults: list[str], task_vars: dict[str, Any], what: str = INPUTS) -> dict[str, Any]:
    """The result of a task of `who` that has found `faults` in `what`.

    Raises AnsibleActionFail where there are some, unless the play collects them.
    """
    if not faults:
        return {"changed": False}
    headline = f"{who} refuses {what}"
    if not is_collected(task_vars):
        raise AnsibleActionFail(report({headline: faults}))
    return {"changed": False, FAULTS: {headline: faults}}


def is_collected(task_vars: dict[str, Any]) -> bool:
    return boolean(task_vars.get(COLLECT, False))


def report(found: dict[str, list[str]]) -> str:
    """One text for the operator, of all faults by their headline."""
    parts = [
        f"{headline}; nothing was changed.\n" + "".join(f"  - {fault}\n" for fault in faults)
        for headline, faults in found.items()
    ]
    return "".join([*parts, *([WHERE] if any(headline.endswith(INPUTS) for headline in found) else [])])


def collected(task_vars: dict[str, Any]) -> dict[str, list[str]]:
    """What registered results of this host hold, by headline."""
    found: dict[str, list[str]] = {}
    for headline, faults in _registered(task_vars):
        known = found.setdefault(headline, [])
        known += [fault for fault in faults if fault and fault not in known]
    return {headline: faults for headline, faults in found.items() if faults}


def _registered(task_vars: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for value in list(task_vars.values()):
        if isinstance(value, dict) and isinstance(value.get(FAULTS), dict):
            yield from ((str(headline), [str(fault) for fault in faults]) for headline, faults in value[FAULTS].items())
