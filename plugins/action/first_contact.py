# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.first_contact: asks the host, and refuses as validate_inputs does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils.questions import answer_of
from ansible_collections.foobar.webstack.plugins.plugin_utils.refusals import refused


class ActionModule(ActionBase):
    """If the host cannot answer, the task fails."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args, variables = dict(self._task.args), task_vars or {}
        outcome = answer_of(self, "first_contact", args, variables)
        if outcome.get("failed"):
            return outcome
        who = f"Role {Path(variables.get('role_path') or '').name}"
        return outcome | refused(who, outcome["refusals"], variables, "this host as it is")
