# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.listeners: runs the module once a run; later tasks get the registered answer."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils.asking import ask_once


class ActionModule(ActionBase):
    """The work is done by the module of this name."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        args, variables = dict(self._task.args), task_vars or {}
        return ask_once(
            ["listeners", args],
            variables,
            lambda: self._execute_module("foobar.webstack.listeners", module_args=args, task_vars=variables),
        )
