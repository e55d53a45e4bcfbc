#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host's part of guarded_config: an undo that starts by itself unless it is disarmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guarded_undo
short_description: Give a host an undo of a change, and call it off
description:
  - The part of M(foobar.webstack.guarded_config) that is done on the host, and of no use by itself.
options:
  unit:
    description: The systemd unit that is changed; empty where it does not run.
    type: str
    default: ""
  step:
    description: Whether to copy what is about to change and start the clock of the undo, or to call it off.
    type: str
    choices: [arm, disarm]
    required: true
  paths:
    description: Files that are about to change.
    type: list
    elements: path
    default: []
  seconds:
    description: From now to the undo.
    type: int
    default: 60
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Access | Give the host an undo
  foobar.webstack.guarded_undo:
    unit: ssh.service
    step: arm
    paths: [/etc/ssh/sshd_config.d/00-webstack.conf]
"""

RETURN = r"""
disarmed:
  description: Whether the undo was called off; not where it was the faster.
  type: bool
  returned: with O(step=disarm)
"""

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils import undo
from ansible_collections.foobar.webstack.plugins.module_utils.atomic import write_atomically

UNDO = Path(undo.UNDO)
UNITS = Path("/etc/systemd/system")
SCRIPT = """\
# Restores the files from before the last change of {unit}, which was not confirmed.
[ -d {folder}.undone ] || mv {folder} {folder}.undone || exit 0  # it may exist already: a reboot has cut off this script
cd {folder}.undone || exit 1
left=
# Each file in one rename: on a full disk, the present file and its copy stay.
back() {{ cp -a "$1" "$2.undone" && mv -fT "$2.undone" "$2" || {{ rm -f "$2.undone"; left="$left $2"; }}; }}
gone() {{ rm -f "$1" || left="$left $1"; }}
{steps}
if [ -n "$left" ]; then
  echo "The last change of {unit} was not confirmed, and could not be undone wholly. The copies in {folder}.undone stay; this is tried again. Missing:$left" >&2
  exit 1
fi
systemctl disable {undo}
rm -f {units}/{undo}
systemctl daemon-reload
rm -r {folder}.undone
echo 'The last change of {unit} was not confirmed: what stood before is back.'
"""
# At boot it runs before the services that read the restored files. Its sandbox must not make it fail: no setting
# needs a namespace, which a host may refuse (user.max_mnt_namespaces), none hides a path, because the files may be
# anywhere, and no system call is refused that file commands or systemctl may need.
SERVICE = """\
[Unit]
Description=Undo of an unconfirmed change of {unit}
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target webstack-firewall.service ssh.service ssh.socket
StartLimitIntervalSec=0

[Service]
Type=oneshot
# The reason of a failure, such as a full disk, may go away.
Restart=on-failure
RestartSec=10s
ExecStart=/bin/sh {folder}/undo
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER
NoNewPrivileges=yes
DevicePolicy=closed
IPAddressDeny=any
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @resources @swap
SystemCallErrorNumber=EPERM

[Install]
WantedBy=sysinit.target
"""


class Undo:
    """The undo of a unit's change: copies of the files, a script, and a unit that a timer or the next boot starts."""

    def __init__(self, module: AnsibleModule, unit: str) -> None:
        self.module, self.unit = module, unit
        self.what = unit or "files"
        self.folder = UNDO / self.what
        self.name = f"webstack-undo-{self.what.removesuffix('.service')}"

    def systemctl(self, *argv: str) -> None:
        self.module.run_command(["systemctl", *argv], check_rc=True)

    def is_running(self) -> bool:
        return bool(self.unit) and self.module.run_command(["systemctl", "is-active", self.unit])[0] == 0

    def script(self, known: dict[str, Any]) -> str:
        """The script that restores the files from the copies in the folder, and then the unit's state."""
        unit, running = shlex.quote(self.unit), known["running"]
        lines = [f"systemctl disable --now {unit}"] if self.unit and not running else []
        for number, path in enumerate(known["paths"]):
            lines.append(
                f"back {number} {shlex.quote(path)}" if number in known["copies"] else f"gone {shlex.quote(path)}"
            )
        lines.append("systemctl daemon-reload")
        if running:
            # --no-block, or this deadlocks at boot: the service is ordered after this undo.
            lines.append(f"systemctl --no-block try-reload-or-restart {unit}")
        names = {"unit": self.what, "folder": self.folder, "undo": f"{self.name}.service", "units": UNITS}
        return SCRIPT.format(steps="\n".join(lines), **names)

    def add(self, folder: Path, known: dict[str, Any], paths: list[str]) -> None:
        """Copies the present files at `paths` into the folder, and writes the script that restores them."""
        for path in paths:
            if path in known["paths"]:
                continue  # copied already, before an unconfirmed change
            number = len(known["paths"])
            if os.path.lexists(path):
                self.module.run_command(["cp", "-a", path, str(folder / str(number))], check_rc=True)
                known["copies"].append(number)
            known["paths"].append(path)
        for name, text in (("undo", self.script(known)), ("known.json", json.dumps(known))):
            write_atomically(folder / name, text)

    def arm(self, paths: list[str], seconds: int) -> None:
        """Starts the clock. An undo that an earlier run left armed has the last confirmed files: it is kept, and further files are added."""
        undo = f"{self.name}.service"
        unfinished = self.folder.with_name(f"{self.what}.undone")
        if unfinished.exists():
            self.module.fail_json(
                msg=f"An earlier change of {self.what} was not confirmed, and its undo is not finished: {unfinished} has the copies. "
                f"Nothing was changed. `systemctl status {undo}` says what is in its way, such as a full disk."
            )
        if not self.folder.exists():
            fresh = self.folder.with_name(f".{self.what}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True, mode=0o700)
            self.add(fresh, {"running": self.is_running(), "paths": [], "copies": []}, paths)
            names = {"unit": self.what, "folder": self.folder}
            (UNITS / undo).write_text(SERVICE.format(**names), encoding="utf-8")
            fresh.rename(self.folder)
        elif (self.folder / "known.json").exists():
            self.add(self.folder, json.loads((self.folder / "known.json").read_text(encoding="utf-8")), paths)
        os.sync()
        self.systemctl("daemon-reload")
        self.systemctl("enable", undo)
        self.module.run_command(["systemctl", "stop", f"{self.name}.timer"])  # of an earlier run
        self.module.run_command(
            [
                "systemd-run",
                "--quiet",
                f"--on-active={seconds}",
                "--timer-property=AccuracySec=100ms",
                f"--unit={undo}",
            ],
            check_rc=True,
        )

    def disarm(self) -> bool:
        """Returns False if the undo has started already."""
        confirmed = self.folder.with_name(f".{self.what}.confirmed")
        shutil.rmtree(confirmed, ignore_errors=True)
        try:
            self.folder.rename(confirmed)
        except FileNotFoundError:
            return False
        self.systemctl("stop", f"{self.name}.timer")
        self.systemctl("disable", f"{self.name}.service")
        (UNITS / f"{self.name}.service").unlink(missing_ok=True)
        self.systemctl("daemon-reload")
        shutil.rmtree(confirmed)
        return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "default": ""},
            "step": {"type": "str", "choices": ["arm", "disarm"], "required": True},
            "paths": {"type": "list", "elements": "path", "default": []},
            "seconds": {"type": "int", "default": 60},
        },
    )
    os.umask(0o022)
    undo = Undo(module, module.params["unit"])
    if module.params["step"] == "arm":
        undo.arm(module.params["paths"], module.params["seconds"])
        module.exit_json(changed=True)
    module.exit_json(changed=True, disarmed=undo.disarm())


if __name__ == "__main__":
    main()
