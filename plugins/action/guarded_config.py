# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.guarded_config: a change that could lock the play out, confirmed by a new connection."""

from __future__ import annotations

import ipaddress
import itertools
import shlex
import time
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.module_utils.undo import UNDO
from ansible_collections.foobar.webstack.plugins.plugin_utils.questions import ask

UNDO_SECONDS = 40  # default; from just before the change to the undo
PATIENCE = 15  # seconds after the undo, in which the host must answer again
# Seconds between tries. sshd is away for a moment while it restarts, and since OpenSSH 9.8 it blocks a
# client that fails more often than once in five seconds.
PAUSES = (1, 5)
MODULE = "foobar.webstack.guarded_undo"


@dataclass(frozen=True)
class Login:
    """User, client address and port of the play's ssh login; empty for another kind of connection."""

    user: str = ""
    client: str = ""
    port: int = 0


class ActionModule(ActionBase):
    """If nothing has to be changed, it costs one short command more than service_config."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"unit", "files", "check", "probe", "look", "admits", "undo_seconds"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        if boolean(self._task.args.get("look", False)):
            self._task.check_mode = True
            return self._run() | {"changed": False}
        return self._run()

    def _run(self) -> dict[str, Any]:
        args = {name: value for name, value in self._task.args.items() if name != "look"}
        admits, check = args.pop("admits", None), args.pop("check", [])
        self._undo_seconds = int(args.pop("undo_seconds", UNDO_SECONDS))
        self._unit = args.get("unit", "")

        # Before the dry run: if the undo starts after that, its result is no longer true.
        self._was_armed = self._is_armed()
        outlook = self._keep(args, dry=True)
        if outlook.get("failed") or not (outlook["changed"] or self._was_armed):
            return outlook
        if not outlook["changed"]:
            outlook["changed"] = True  # the undo of a killed run is still armed, and will be disarmed
            return outlook if self._task.check_mode else self._confirm(outlook)
        self._refuse_unfinished()
        login = self._login()
        args["check"] = [part.replace("{user}", login.user).replace("{client}", login.client) for part in check]
        if not (login.client or self._was_armed or self._task.check_mode):
            return self._keep(args)  # this connection cannot be cut by the change
        outlook = self._keep(args, dry=True)
        if outlook.get("failed"):
            return outlook
        if admits is not None and login.client and not _admitted(login, admits):
            raise AnsibleActionFail(_cut(login, admits))
        if self._task.check_mode:
            return outlook
        return self._change(args, outlook)

    def _login(self) -> Login:
        """Without sudo, which removes SSH_CONNECTION from the environment."""
        said = self._low_level_execute_command('id -un; echo "$SSH_CONNECTION"', sudoable=False)
        user, *connection = said["stdout"].split()
        return Login(user, connection[0], int(connection[3])) if len(connection) == 4 else Login()

    def _is_armed(self) -> bool:
        folder = f"{UNDO}/{self._unit or 'files'}"
        return self._low_level_execute_command(f"test -e {shlex.quote(folder)}")["rc"] == 0

    def _refuse_unfinished(self) -> None:
        """Fails if an earlier undo is not finished: it has the only copies of the last confirmed files."""
        folder = f"{UNDO}/{self._unit or 'files'}.undone"
        if self._low_level_execute_command(f"test -e {shlex.quote(folder)}", sudoable=True)["rc"] == 0:
            raise AnsibleActionFail(
                f"An earlier change of {self._unit or 'files'} was not confirmed, and its undo is not finished: {folder} has the "
                "copies. Nothing was changed. The journal of its unit, webstack-undo-*, says what is in its way, such as a full disk."
            )

    def _keep(self, args: dict[str, Any], dry: bool = False) -> dict[str, Any]:
        given = {name: value for name, value in args.items() if value not in ("", [])}
        outlook = ask(self, "service_config", given, self._vars) if dry and "check" not in given else None
        if outlook and not outlook["changed"]:
            return outlook
        before, self._task.check_mode = self._task.check_mode, self._task.check_mode or dry
        try:
            return self._execute_module("foobar.webstack.service_config", module_args=given, task_vars=self._vars)
        finally:
            self._task.check_mode = before

    def _step(self, step: str, **more: Any) -> dict[str, Any]:
        args = {"step": step, "unit": self._unit, **more}
        return self._execute_module(MODULE, module_args=args, task_vars=self._vars)

    def _change(self, args: dict[str, Any], outlook: dict[str, Any]) -> dict[str, Any]:
        armed = self._step("arm", paths=outlook["files_changed"], seconds=self._undo_seconds)
        if armed.get("failed"):
            return armed
        outcome = self._keep(args)
        if outcome.get("failed"):
            if not self._was_armed:  # else the present files were never confirmed
                self._step("disarm")
            return outcome
        return self._confirm(outcome)

    def _confirm(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """Disarms the undo if a new connection works."""
        inside, trouble = self._come_in(self._undo_seconds + PATIENCE)
        confirmed = self._step("disarm") if inside else {"disarmed": False}
        if confirmed.get("failed"):
            return confirmed
        if confirmed["disarmed"]:
            return outcome
        raise AnsibleActionFail(
            f"The change of {self._unit or 'its files'} does not let the play in again: {trouble}\n"
            + (
                "The host has undone the change by itself, and a new connection comes through."
                if inside
                else "Nor does the host answer since, though it should have undone the change by itself. Look at its console."
            )
        )

    def _come_in(self, seconds: float) -> tuple[bool, str]:
        """Tries to open a new connection until one works; returns whether one did, and the last error before."""
        deadline = time.monotonic() + seconds
        trouble = f"it took more than {self._undo_seconds} seconds"
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            try:
                self._connection.reset()
                said = self._low_level_execute_command("echo in", sudoable=False)
                if said["stdout"].strip() == "in":
                    break
                trouble = said["stderr"].strip() or "no answer"
            except AnsibleConnectionFailure as error:
                trouble = str(error)
            if time.monotonic() > deadline:
                return False, trouble
            time.sleep(pause)
        return True, trouble


def _admitted(login: Login, admits: list[dict[str, Any]]) -> bool:
    client = ipaddress.ip_address(login.client.split("%")[0])
    client = getattr(client, "ipv4_mapped", None) or client
    return any(
        int(item["port"]) == login.port
        and (item.get("protocol") or "tcp") == "tcp"
        and (not item.get("from") or any(client in ipaddress.ip_network(source) for source in item["from"]))
        for item in admits
    )


def _cut(login: Login, admits: list[dict[str, Any]]) -> str:
    ports = sorted({int(item["port"]) for item in admits if (item.get("protocol") or "tcp") == "tcp"})
    which = (
        "base_ssh_from does not name that address"
        if login.port in ports
        else f"the ports that would be open are {', '.join(map(str, ports)) or 'none'}"
    )
    return (
        f"The firewall would cut the play's own connection, which comes from {login.client} to port {login.port}: {which}. "
        "Nothing was changed. Declare it in base_firewall_open or base_ssh_from, in the inventory or where the role is called."
    )
