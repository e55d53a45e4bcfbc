# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.packages: dpkg answers what is installed, apt-get does the rest.

Not ansible.builtin.apt for the rest: it opens apt's cache in each call, where something is missing 0.7 s more (the first
time 4.7 s), and leaves to the caller what an interrupted dpkg and a failing package script need.
"""

from __future__ import annotations

import re
import shlex
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# One remote shell, three answers, separated by lines of dashes. dpkg-query exits 1 for an unknown package, hence
# the `;`. A file in dpkg's updates folder means that dpkg was interrupted.
QUERY = (
    "dpkg-query --show --showformat '${{binary:Package}} ${{db:Status-Status}}\\n' {names} 2>/dev/null; "
    "echo ---; ls -A /var/lib/dpkg/updates; "
    "echo ---; find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -print -quit; "
    "find /var/lib/apt/lists -maxdepth 0 -mmin -60"
)
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*[a-z0-9+]")  # apt removes a package whose name is followed by a minus
DPKG_FAILED = "dpkg returned an error code"
LOCK_WAIT = 300  # seconds for apt's locks: unattended upgrades may hold them for minutes
LOCK_PAUSE = 3  # seconds between two tries
LOCKED = re.compile(
    r"could not get lock|unable to (acquire|lock)|failed to lock|lock was locked|is locked", re.IGNORECASE
)
# No questions; configuration files that an operator has edited stay; one retry only of an archive that does not answer.
APT = (
    "apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
    f" -o DPkg::Lock::Timeout={LOCK_WAIT} -o Acquire::Retries=1"
)
UNATTENDED = "export LC_ALL=C DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical APT_LISTCHANGES_FRONTEND=none"
COMPLETE = "dpkg --force-confdef --force-confold --configure --pending"
# Without the option, apt reports success where a list could not be fetched.
REFRESH = f"{APT} -o APT::Update::Error-Mode=any update"


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
                "start": {"type": "bool", "default": True},
            },
        )
        # SYSTEMD_OFFLINE: systemctl, which packages' scripts call, enables units but starts none.
        self._exports = UNATTENDED if args["start"] else f"{UNATTENDED} SYSTEMD_OFFLINE=1"
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
            self._complete()
        if missing:
            self._install(missing, args, lists_fresh)
        return result

    def _state(self, names: list[str]) -> tuple[list[str], bool, bool]:
        """Which of `names` are not installed, whether dpkg was interrupted, whether apt's lists are fresh."""
        query = QUERY.format(names=" ".join(shlex.quote(name) for name in names))
        outcome = self._low_level_execute_command(query)
        parts = outcome["stdout"].replace("\r\n", "\n").split("---\n")
        if len(parts) != 3:
            words = outcome["stderr"].strip() or outcome["stdout"].strip()
            raise AnsibleActionFail(f"dpkg-query did not answer as expected: is this a Debian host? {words}")
        states: dict[str, str] = {}
        for line in parts[0].splitlines():
            package, _space, state = line.partition(" ")
            states[package.split(":")[0]] = state
        missing = [name for name in names if states.get(name) != "installed"]
        # A half-configured package, too, is what an interrupted dpkg leaves.
        interrupted = bool(parts[1].strip()) or any(
            states.get(name) in ("unpacked", "half-configured", "triggers-pending") for name in names
        )
        return missing, interrupted, len(parts[2].splitlines()) == 2

    def _install(self, missing: list[str], args: dict[str, Any], lists_fresh: bool) -> None:
        release = f"-t {shlex.quote(args['default_release'])} " if args["default_release"] else ""
        install = f"{APT} --no-install-recommends {release}install -- {' '.join(missing)}"
        if args["refresh"] or not lists_fresh:
            install = f"{REFRESH} && {install}"
        outcome = self._run_unlocked(install)
        if outcome["rc"] != 0 and DPKG_FAILED in outcome["stderr"]:
            # A package's script may fail for a temporary reason, such as a service that is slow to start.
            self._complete()
            outcome = self._run_unlocked(install)
        if outcome["rc"] != 0 and DPKG_FAILED in outcome["stderr"]:
            raise _script_failure(outcome)
        if outcome["rc"] != 0:
            raise AnsibleActionFail(
                f"{', '.join(missing)}: not installed. Nothing of this role was changed.\napt says: {_output(outcome)}\n"
                "If the package archive is not reachable from the host, look at its network, its DNS and "
                "/etc/apt/sources.list*; then run the play again."
            )

    def _complete(self) -> None:
        """Configures the packages that dpkg has unpacked but not configured, in this run or an interrupted one."""
        outcome = self._run_unlocked(COMPLETE)
        if outcome["rc"] != 0:
            raise _script_failure(outcome)

    def _run_unlocked(self, command: str) -> dict[str, Any]:
        """The outcome of a command, repeated while another program holds one of apt's locks.

        The shell reads it from standard input: no terminal that a script could ask on, and a proxy's password in the
        task's environment does not appear in the process list.
        """
        exports = f"{self._exports} {self._compute_environment_string()}"
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            outcome = self._low_level_execute_command(
                "sh", in_data=f"{exports}\n{{ {command}; }} </dev/null\n".encode()
            )
            if outcome["rc"] == 0 or not LOCKED.search(outcome["stderr"]) or time.monotonic() > deadline:
                return outcome
            time.sleep(LOCK_PAUSE)


def _script_failure(outcome: dict[str, Any]) -> AnsibleActionFail:
    return AnsibleActionFail(
        f"A package's own script fails.\ndpkg says: {_output(outcome)}\nOn the host, `dpkg --audit` names the package, "
        "and `journalctl -b -p warning` shows what its service said; then run the play again."
    )


def _output(outcome: dict[str, Any]) -> str:
    """The end of a command's output, standard error last."""
    return f"{outcome['stdout'][-1500:]}\n{outcome['stderr'][-3000:]}".strip()
