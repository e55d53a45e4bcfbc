# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_users: a shell on the host answers who is there, in a third of a module's time."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
UNITS = "/usr/lib/systemd/system"
MAKE = f"useradd --system --user-group --no-create-home --home-dir {HOME} --shell {SHELL}"


class ActionModule(ActionBase):
    """Makes what is missing, and nothing where a name is somebody else's."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "app": {"type": "str", "required": True},
                "users": {"type": "list", "elements": "str", "required": True},
            },
        )
        app, users = args["app"], args["users"]
        unit = f"{UNITS}/{app}@.service"
        names = " ".join(map(shlex.quote, users))
        # getent exits 2 where one of them is missing.
        answer = self._low_level_execute_command(f"getent passwd {names}; ls {shlex.quote(unit)} 2>/dev/null")["stdout"]
        if unit in answer.splitlines():
            raise _taken(app, f"{unit} is part of the system")
        known = {line.split(":")[0]: tuple(line.split(":")[-2:]) for line in answer.splitlines()}
        for user in users:
            home, shell = known.get(user, (HOME, SHELL))
            if (home, shell) != (HOME, SHELL):
                raise _taken(app, f"this host has a user {user} who is somebody else's (home {home}, shell {shell})")
        missing = [user for user in users if user not in known]
        for user in [] if self._task.check_mode else missing:
            outcome = self._low_level_execute_command(f"{MAKE} {shlex.quote(user)}")
            if outcome["rc"] != 0:
                words = outcome["stderr"].strip() or outcome["stdout"].strip()
                raise AnsibleActionFail(f"The system user {user} could not be made: {words}")
        return {"changed": bool(missing), "made": missing}


def _taken(app: str, why: str) -> AnsibleActionFail:
    return AnsibleActionFail(
        f"app_server_name: '{app}' will not do, because {why}. Nothing was changed; choose another name."
    )
