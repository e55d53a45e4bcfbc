# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.mysql_accounts: with `ask`, what the module finds is refused as inputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils.questions import answer_of
from ansible_collections.foobar.webstack.plugins.plugin_utils.refusals import refused


class ActionModule(ActionBase):
    """The work is done in plugins/modules/mysql_accounts.py, on the host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args, variables = dict(self._task.args), task_vars or {}
        if not args.get("ask"):
            return self._execute_module("foobar.webstack.mysql_accounts", module_args=args, task_vars=variables)
        outcome = answer_of(self, "mysql_accounts", args, variables)
        if outcome.get("failed"):
            return outcome
        who = f"Role {Path(variables.get('role_path') or '').name}"
        return outcome | refused(who, outcome["refusals"], variables, "this host as it is")
