# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.service_config: the module runs only where there is something to do."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils.questions import ask


class ActionModule(ActionBase):
    """The work is done by the module of this name."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args, variables = dict(self._task.args), task_vars or {}
        outlook = ask(self, "service_config", args, variables)
        if outlook and not outlook["changed"] and (outlook["noted"] or self._task.check_mode):
            return outlook
        return self._execute_module("foobar.webstack.service_config", module_args=args, task_vars=variables)
