# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_release: starts a change on the host and shows how it goes, line by line."""

from __future__ import annotations

import getpass
import os
import socket
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "foobar.webstack.app_release"
# For which another change is waited for: one that was cut off on a controller comes to its end by itself.
BUSY_SECONDS = 30
CHANGES = ("deploy", "rollback", "renew")


class ActionModule(ActionBase):
    """The change goes on without us; we only look on."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        args = dict(self._task.args)
        if args.get("step") in CHANGES:
            args["request"] = {**(args.get("request") or {}), "by": f"{_user()}@{socket.gethostname()}"}
        outcome = self._call(args)
        if outcome.get("failed") or self._task.check_mode or args.get("step") not in CHANGES:
            return outcome
        deadline, told = time.monotonic() + BUSY_SECONDS, ""
        while busy := outcome["answer"].get("busy"):
            if time.monotonic() > deadline:
                return {"failed": True, "msg": busy}
            if busy != told:
                told = busy
                self._show(f"waiting: {busy}")
            time.sleep(1)
            outcome = self._call(args)
            if outcome.get("failed"):
                return outcome
        return self._follow(args["app"], outcome["answer"]["id"])

    def _call(self, args: dict[str, Any]) -> dict[str, Any]:
        return self._execute_module(MODULE, module_args=args, task_vars=self._vars)

    def _show(self, line: str) -> None:
        Display().display(f"  {self._vars.get('inventory_hostname', '')} | {line}")

    def _follow(self, app: str, identity: str) -> dict[str, Any]:
        seen = 0
        while True:
            outcome = self._call({"app": app, "step": "follow", "arguments": [identity, str(seen)]})
            if outcome.get("failed"):
                return outcome
            progress = outcome["answer"]
            seen += len(progress["lines"])
            for line in progress["lines"]:
                self._show(line)
            if progress["verdict"] in ("live", "unchanged"):
                return {"changed": progress["verdict"] == "live", "answer": progress}
            if progress["verdict"]:
                return {"failed": True, "changed": False, "msg": progress["reason"]}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in some containers
        return str(os.getuid())
