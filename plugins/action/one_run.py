# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.one_run: allows one run at a time on a host; a second one waits.

The lock belongs to the run's ssh connection, or without ssh to its process on this machine. So the lock of a killed
run is free.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.foobar.webstack.plugins.plugin_utils.shell import complaint, run_script

# Ansible keeps an idle connection for 120 s after a run (ansible.cfg, ControlPersist).
WAIT_SECONDS = 130
PAUSE = 2
NOTE = "/run/webstack-run"
# $1 is this run, as JSON; $2 is the note of a run that has ended. Prints the note of the run that has the lock, or
# nothing if this run has it now. The first line of a note is sshd's process and its start time, or a dash; the rest is
# the run. Fields of /proc/PID/stat after the name: 2 is the parent, 20 the start time.
CLAIM = f"""
exec 9>{NOTE}.lock && flock --timeout 60 9 || exit 1
field() {{ sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f "$2"; }}
held=$(cat {NOTE} 2>/dev/null)
door=${{held%%
*}}
who=${{held#*
}}
if [ -n "$held" ] && [ "$who" != "$1" ] && [ "$held" != "$2" ]; then
  if [ "$door" = - ] || [ "$(field "${{door%:*}}" 20)" = "${{door#*:}}" ]; then printf '%s' "$held"; exit 0; fi
fi
pid=$$ door=-
while [ "${{pid:-0}}" -gt 1 ]; do
  case $(cat "/proc/$pid/comm") in sshd*) door=$pid:$(field "$pid" 20); break ;; esac
  pid=$(field "$pid" 2)
done
printf '%s\\n%s' "$door" "$1" > {NOTE}.new && mv {NOTE}.new {NOTE}
"""
# $1 is this run. The note of another run stays.
LET_GO = f"""
exec 9>{NOTE}.lock && flock 9 || exit 1
[ "$(sed 1d {NOTE} 2>/dev/null)" != "$1" ] || rm -f {NOTE}
"""


class ActionModule(ActionBase):
    """Uses shell scripts, which are faster than a module."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"over"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        if self._task.check_mode:  # a dry run disturbs nobody
            return {"changed": False}
        ours, over, told = identity(), "", False
        if boolean(self._task.args.get("over", False)):
            run_script(self, LET_GO, json.dumps(ours, sort_keys=True))
            return {"changed": False}
        deadline = time.monotonic() + WAIT_SECONDS
        while held := self._claim(ours, over):
            holder = read(held)
            if held != over and (is_same(holder, ours) or is_over(held, holder)):
                over = held
                continue
            words = f"{holder['by']} runs a playbook on this host since {holder['since']}"
            if time.monotonic() > deadline:
                raise AnsibleActionFail(
                    f"{words}; nothing was changed. Wait for its end (or, if it has ended, for that of its ssh connection), and run this again."
                )
            if not told:
                told = True
                Display().display(f"  {(task_vars or {}).get('inventory_hostname', '')} | waiting: {words}")
            time.sleep(PAUSE)
        return {"changed": False}

    def _claim(self, ours: dict[str, Any], over: str) -> str:
        outcome = run_script(self, CLAIM, json.dumps(ours, sort_keys=True), over)
        if outcome["rc"] != 0:
            raise AnsibleActionFail(f"Whether another run is at work on this host cannot be told: {complaint(outcome)}")
        return outcome["stdout"].strip()


def identity() -> dict[str, Any]:
    """Who runs this playbook, where, and as which process; the same for each task of a run."""
    pid = os.getppid()  # a task runs in a child of ansible-playbook
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # the user has no name, such as in some containers
        user = str(os.getuid())
    name, began = socket.gethostname(), started(pid)
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(_moment(began)))
    return {"by": f"{user}@{name}", "machine": f"{name} {uuid.getnode():x}", "pid": pid, "start": began, "since": since}


def started(pid: int) -> str:
    """Start time of a process of this machine, in clock ticks; empty if it has ended or if that is unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        return "" if fields[0] == "Z" else fields[19]  # Z: it has ended, and its parent has not noticed yet
    except (OSError, IndexError):
        return ""


def _moment(ticks: str) -> float:
    """Start time of a process in seconds since the epoch; the present time on a machine without /proc."""
    try:
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        return boot + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, StopIteration):
        return time.time()


def read(held: str) -> dict[str, Any]:
    try:
        known = json.loads(held.partition("\n")[2])
        return {key: known[key] for key in ("by", "since", "machine", "pid", "start")}
    except (ValueError, TypeError, KeyError) as error:
        raise AnsibleActionFail(
            f"Whether another run is at work on this host cannot be told: {NOTE} there cannot be read; remove it "
            "if nobody is at work"
        ) from error


def is_same(holder: dict[str, Any], ours: dict[str, Any]) -> bool:
    return all(holder[key] == ours[key] for key in ("machine", "pid", "start"))


def is_over(held: str, holder: dict[str, Any]) -> bool:
    """Whether a run is known to have ended, as far as this machine can tell."""
    if holder["machine"] != identity()["machine"]:
        # Without ssh (a dash), only the other machine knows whether its process runs: it is taken for ended.
        return held.startswith("-\n")
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it exists, but belongs to another user
        pass
    return started(int(holder["pid"])) != holder["start"]
