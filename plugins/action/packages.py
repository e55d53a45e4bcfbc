# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.packages: dpkg answers what is installed, the apt module does the rest."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# One remote shell, three answers, parted by lines that hold only dashes. dpkg-query exits 1 for a
# package that it never heard of, hence the `;`. An entry in dpkg's updates folder is a run cut short.
QUERY = (
    "dpkg-query --show --showformat '${{binary:Package}} ${{db:Status-Status}}\\n' {names} 2>/dev/null; "
    "echo ---; ls -A /var/lib/dpkg/updates; "
    "echo ---; find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -print -quit; "
    "find /var/lib/apt/lists -maxdepth 0 -mmin -60"
)
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")
COMPLETE = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure --pending"
BROKE_OFF = "dpkg returned an error code"
LOCK_WAIT = 300  # seconds for apt's locks: unattended upgrades may hold them for minutes
LOCK_PAUSE = 3  # seconds between two tries
LOCKED = re.compile(
    r"could not get lock|unable to (acquire|lock)|failed to lock|lock was locked|is locked", re.IGNORECASE
)
FETCH_TRIES = 2  # an archive that cannot be reached is said soon


class ActionModule(ActionBase):
    """Runs on the controller; needs no module on the host when all packages are there."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "name": {"type": "list", "elements": "str", "required": True},
                "default_release": {"type": "str"},
                "refresh": {"type": "bool", "default": False},
            },
        )
        names = list(dict.fromkeys(args["name"]))
        for name in names:
            if not PACKAGE_NAME.fullmatch(name):
                raise AnsibleActionFail(f"'{name}' is not the name of a Debian package")

        missing, interrupted, lists_fresh = self._state(names)
        result: dict[str, Any] = {"changed": bool(missing or interrupted), "missing": missing}
        if self._task.diff and missing:
            result["diff"] = {"before": "", "after": "".join(f"{name}\n" for name in missing)}
        if self._task.check_mode or not result["changed"]:
            return result

        if interrupted:
            self._answer(COMPLETE, _patiently(lambda: self._low_level_execute_command(COMPLETE)))
        if missing:
            result.update(self._install(missing, args, lists_fresh, task_vars))
        return result

    def _state(self, names: list[str]) -> tuple[list[str], bool, bool]:
        """What is missing of `names`, whether dpkg was interrupted, whether apt's lists are fresh."""
        query = QUERY.format(names=" ".join(shlex.quote(name) for name in names))
        parts = self._command(query).split("---\n")
        if len(parts) != 3:
            raise AnsibleActionFail("dpkg-query did not answer as expected: is this a Debian host?")
        states: dict[str, str] = {}
        for line in parts[0].splitlines():
            package, _space, state = line.partition(" ")
            states[package.split(":")[0]] = state
        missing = [name for name in names if states.get(name) != "installed"]
        # Half-configured packages count as interrupted too, wherever the run was cut.
        interrupted = bool(parts[1].strip()) or any(
            states.get(name) in ("unpacked", "half-configured", "triggers-pending") for name in names
        )
        return missing, interrupted, len(parts[2].splitlines()) == 2

    def _install(
        self, missing: list[str], args: dict[str, Any], lists_fresh: bool, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        apt = {
            "name": missing,
            "state": "present",
            "install_recommends": False,
            "update_cache": args["refresh"] or not lists_fresh,
            "update_cache_retries": FETCH_TRIES,
            "lock_timeout": LOCK_WAIT,
        }
        outcome: dict[str, Any] = {}
        if args["default_release"]:
            # apt refuses the name of a release that its lists do not hold yet: refresh them first.
            if apt.pop("update_cache"):
                outcome = self._apt({"update_cache": True, "update_cache_retries": FETCH_TRIES}, task_vars)
            apt["default_release"] = args["default_release"]
        if not outcome.get("failed"):
            outcome = self._apt(apt, task_vars)
            if outcome.get("failed") and BROKE_OFF in str(outcome.get("msg")):
                # The script of a package may fail for a passing reason, such as a service slow to start.
                _patiently(lambda: self._low_level_execute_command(COMPLETE))
                outcome = self._apt(apt, task_vars)
        if outcome.get("failed"):
            words = str(outcome.get("msg", "nothing"))
            advice = (
                "A package's own script failed, twice. On the host, `dpkg --audit` names the package, and "
                "`journalctl -b -p warning` shows what its service said; then run the play again."
                if BROKE_OFF in words
                else "Nothing of this role was changed. If the package archive is not reachable from the host, look at its "
                "network, its DNS and /etc/apt/sources.list*; then run the play again."
            )
            raise AnsibleActionFail(f"{', '.join(missing)}: not installed.\napt says: {words}\n{advice}")
        return {"changed": True, "stdout": outcome.get("stdout", "")}

    def _apt(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Apt's own `lock_timeout` is for dpkg's lock alone, and not for that of the package lists."""
        return _patiently(
            lambda: self._execute_module(module_name="ansible.builtin.apt", module_args=args, task_vars=task_vars)
        )

    def _command(self, command: str) -> str:
        return self._answer(command, self._low_level_execute_command(command))

    def _answer(self, command: str, outcome: dict[str, Any]) -> str:
        if outcome["rc"] not in (0, 1):
            raise AnsibleActionFail(f"{command}: {outcome['stderr'] or outcome['stdout']}")
        # Over ssh with a password for sudo the answer comes through a terminal, which ends lines its own way.
        return outcome["stdout"].replace("\r\n", "\n")


def _patiently(attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The outcome of an attempt, repeated while another program holds one of apt's locks."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        outcome = attempt()
        words = " ".join(str(outcome.get(key, "")) for key in ("msg", "stderr", "stdout"))
        failed = outcome.get("failed") or outcome.get("rc")
        if not failed or not LOCKED.search(words) or time.monotonic() > deadline:
            return outcome
        time.sleep(LOCK_PAUSE)
