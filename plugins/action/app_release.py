# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_release: has webstack-release do it on the host, and shows how it goes, line by line.

A shell calls it there: a module would take three times as long, and be asked again and again while a change goes on.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.foobar.webstack.plugins.plugin_utils.shell import complaint, run_script

TOOL = "/usr/local/sbin/webstack-release"
# To wait for another change. One whose controller was cut off ends by itself.
BUSY_SECONDS = 30
QUESTIONS = ("status", "plan")
CHANGES = ("deploy", "stage", "migrate", "switch", "rollback", "undo", "renew", "admit")
VERDICTS = {
    "live": True,
    "staged": True,
    "migrated": True,
    "unchanged": False,
}  # of a change without a fault: whether it changed anything
# Keys of the answers of older versions of the tool: a host has its version until the next converge.
KEYS_BEFORE = {"fits": "matches_host_python", "held": "rolled_back_declared", "settled": "committed"}
# The answer of a host without the tool.
NOTHING_LIVE = {"ship": True, "ref": "", "renew": False, "release": "", "slot": None, "active": False}


class ActionModule(ActionBase):
    """Starts a change, which runs as a unit of the host, and prints its output."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._host = (task_vars or {}).get("inventory_hostname", "")
        _result, args = self.validate_argument_spec(
            argument_spec={
                "app": {"type": "str", "required": True},
                "step": {"type": "str", "required": True, "choices": [*QUESTIONS, *CHANGES]},
                "arguments": {"type": "list", "elements": "str", "default": []},
                "request": {"type": "dict", "default": {}},
            },
        )
        self._app = args["app"]
        if self._task.check_mode and not self._installed():
            return {"changed": args["step"] in CHANGES, "answer": NOTHING_LIVE}
        if args["step"] == "status":
            try:
                return {"changed": False, "answer": self._call("status", "--json")}
            except AnsibleActionFail as error:  # returned, since failed_when is not asked about what is raised
                return {"failed": True, "changed": False, "msg": str(error)}
        if args["step"] == "plan":
            return self._plan(args["arguments"])
        if self._task.check_mode:
            return {"changed": not self._is_live(args["request"]), "answer": NOTHING_LIVE}
        if args["step"] == "admit":
            self._call("admit")
            return (
                self._follow(args["request"], list(args["request"]["seen"]))
                if args["request"].get("id")
                else {"changed": False}
            )
        return self._change({"kind": args["step"], **args["request"], "by": f"{_user()}@{socket.gethostname()}"})

    def _installed(self) -> bool:
        files = (TOOL, f"/etc/{self._app}/release.json")
        question = " && ".join(f"test -e {shlex.quote(path)}" for path in files)
        return run_script(self, question)["rc"] == 0

    def _call(self, *argv: str) -> dict[str, Any]:
        """The tool's answer, in its last line; lines before it tell of a change that was cut off and is completed now."""
        outcome = run_script(self, shlex.join([TOOL, self._app, *argv]))
        if outcome["rc"] == 127:
            raise AnsibleActionFail(f"{TOOL} is not on this host; make site puts it there")
        if outcome["rc"] != 0:
            words = complaint(outcome)
            raise AnsibleActionFail(words.removeprefix("webstack-release: "))
        answer = json.loads(outcome["stdout"].splitlines()[-1])
        return {KEYS_BEFORE.get(key, key): value for key, value in answer.items()}

    def _plan(self, declared: list[str]) -> dict[str, Any]:
        answer = self._call("plan", *declared, *(["--dry"] if self._task.check_mode else []))
        warnings = []
        if answer.get("rolled_back_declared"):
            warnings.append(
                f"{answer['rolled_back_declared']}; it is declared and not brought back by itself: deploy it, or declare another version"
            )
        if answer.get("ref"):
            warnings.append(
                f"release {answer['release']} is for another Python than this host's: its commit is built anew"
            )
        if answer.get("at_boot"):
            warnings.append(f"release {answer['release']} is live: {answer['at_boot']}")
        warnings += answer.get("damage", [])
        return {"changed": False, "answer": answer, "warnings": warnings}

    def _is_live(self, request: dict[str, Any]) -> bool:
        """Whether the commit of a request is live already, without faults."""
        if not request.get("commit"):
            return False
        live = self._call("status", "--json")
        same = all(live.get(key) == request.get(key) for key in ("commit", "declared"))
        return same and all(live.get(key) for key in ("release", "matches_host_python", "active", "committed"))

    def _change(self, request: dict[str, Any]) -> dict[str, Any]:
        deadline, told = time.monotonic() + BUSY_SECONDS, ""
        while busy := (answer := self._call("start", json.dumps(request))).get("busy"):
            if time.monotonic() > deadline:
                raise AnsibleActionFail(busy)
            if busy != told:
                told = busy
                self._show(f"waiting: {busy}")
            time.sleep(1)
        return self._follow({**request, "id": answer["id"]}, [], until="admit" if request.get("drained") else "")

    def _follow(self, request: dict[str, Any], seen: list[str], until: str = "") -> dict[str, Any]:
        """Shows the output of a change to its verdict, or until it has come to the phase `until`."""
        while True:
            progress = self._call("follow", request["id"], str(len(seen)))
            seen += progress["lines"]
            for line in progress["lines"]:
                self._show(line)
            if progress["verdict"] in VERDICTS:
                return {"changed": VERDICTS[progress["verdict"]], "answer": progress}
            if progress["verdict"]:
                return {"failed": True, "changed": False, "msg": _reason(request["kind"], progress, seen)}
            if until and progress["phase"] == until:
                return {"changed": True, "answer": {**progress, **request, "seen": seen}}

    def _show(self, line: str) -> None:
        Display().display(f"  {self._host} | {line}")


def _reason(kind: str, progress: dict[str, Any], seen: list[str]) -> str:
    """Why a change failed; short if the output has said it already, because Ansible prints the message twice."""
    first = next(iter(progress["reason"].splitlines()), "")
    if first and any(first in line for line in seen):
        ended = progress["verdict"] if progress["verdict"] == "failed" else f"was {progress['verdict']}"
        return f"The {kind} {ended}; the lines above say why."
    return progress["reason"]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user has no name, such as in some containers
        return str(os.getuid())
