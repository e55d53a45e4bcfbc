# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_users: a shell on the host lists the users, in a third of the time of a module."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils import app_accounts
from ansible_collections.foobar.webstack.plugins.plugin_utils.shell import complaint, run_script


class ActionModule(ActionBase):
    """Makes missing users, none if any name is somebody else's; removes them from groups that are not declared."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "users": {"type": "list", "elements": "str", "required": True},
                "groups": {"type": "list", "elements": "str", "default": []},
            },
        )
        users = args["users"]
        answer = run_script(self, app_accounts.question(users))["stdout"]
        passwd, _line, groups = answer.partition("---\n")
        accounts = app_accounts.read(users, passwd.splitlines(), groups.splitlines(), args["groups"])
        if accounts.strange:
            raise AnsibleActionFail(f"The system users could not be made: {'; '.join(accounts.strange)}")
        for command in [] if self._task.check_mode else accounts.make + accounts.mend:
            outcome = run_script(self, shlex.join(command))
            if outcome["rc"] != 0:
                raise AnsibleActionFail(
                    f"The system user {command[-1]} could not be made or mended: {complaint(outcome)}"
                )
        mended = list(dict.fromkeys(command[-1] for command in accounts.mend))
        return {"changed": accounts.due, "made": accounts.missing, "mended": mended}
