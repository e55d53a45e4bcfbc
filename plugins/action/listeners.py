# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.listeners: runs the module once a run; later tasks with the same question get the registered answer."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils.questions import answer_of

ASKED = "webstack_asked"  # in a registered result: the question


class ActionModule(ActionBase):
    """The work is done by the module of this name."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args, variables = dict(self._task.args), task_vars or {}
        # Registered results end with the run: no cache of facts can answer for the host.
        for value in list(variables.values()):
            if isinstance(value, dict) and value.get(ASKED) == args:
                return {
                    name: item for name, item in value.items() if name not in ("warnings", "ansible_facts", "skipped")
                }
        answer = answer_of(self, "listeners", args, variables)
        return answer if answer.get("failed") else {**answer, ASKED: args}
