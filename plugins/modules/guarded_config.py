#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host's part of guarded_config: an undo that starts by itself unless it is called off."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guarded_config
short_description: Change how one comes into a host, such that a mistake undoes itself
description:
  - Keeps files and service as M(foobar.webstack.service_config) does, with the same options, for
    what could cut the play's own connection, such as the settings of sshd or a firewall.
  - Before a change, the host is given an undo that starts by itself some seconds later, and also
    after a reboot. After the change a new connection is opened; when it comes through, the undo is
    called off, else the task fails, and the host is as it was.
  - In O(check), C({user}) and C({client}) stand for who the play has logged in as by ssh, and from
    which address. Both are empty for another connection, which cannot be cut this way.
  - The work is done by an action on the controller, and by M(foobar.webstack.service_config).
options:
  unit:
    description: The systemd unit; empty where it does not run.
    type: str
    default: ""
  files:
    description: Every file of the configuration, as with M(foobar.webstack.service_config).
    type: list
    elements: dict
    required: true
  check:
    description: The service's own checker.
    type: list
    elements: str
    default: []
  probe:
    description: A command that passes as long as the service has what it was given.
    type: list
    elements: str
    default: []
  look:
    description: Whether only to see what would be refused, and to change nothing.
    type: bool
    default: false
  admits:
    description: >-
      What a firewall would let in, each entry with C(port), C(protocol) and C(from), the addresses
      and networks, empty for all. The play's own connection must be among it.
    type: list
    elements: dict
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      protocol:
        description: The protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
      from:
        description: Addresses and networks.
        type: list
        elements: str
        default: []
  undo_seconds:
    description: >-
      From just before the change to the undo. The new connection must come through in less, on a
      slow host too.
    type: int
    default: 40
author: The foobar web stack maintainers
"""

EXAMPLES = r"""
- name: Access | Keys alone
  foobar.webstack.guarded_config:
    unit: ssh.service
    files:
      - path: /etc/ssh/sshd_config.d/00-webstack.conf
        content: "{{ lookup('ansible.builtin.template', '00-webstack.conf.j2') }}"
        apply: reload
"""

RETURN = r"""
files_changed:
  description: Paths written or removed.
  type: list
  elements: str
  returned: always
action:
  description: What was done to the unit, one of none, start, reload, restart.
  type: str
  returned: always
"""

import os
import shlex
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

UNDO = Path("/var/lib/webstack/undo")
UNITS = Path("/etc/systemd/system")
SCRIPT = """\
# Puts back what stood before the last change of {unit}, which nobody has confirmed.
[ -d {folder}.undone ] || mv {folder} {folder}.undone || exit 0  # a reboot may have cut it short
cd {folder}.undone
{steps}
systemctl disable {undo}
rm -f {units}/{undo}
systemctl daemon-reload
rm -r {folder}.undone
echo 'The last change of {unit} was not confirmed: what stood before is back.'
"""
# At boot it comes before all that it may put back is read. Its sandbox must never be what stops it: no
# setting makes a namespace, which a host may refuse (user.max_mnt_namespaces), none hides a path, for
# files may be anywhere, and no call is refused that a program for files or systemctl may need.
SERVICE = """\
[Unit]
Description=Undo of an unconfirmed change of {unit}
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target webstack-firewall.service ssh.service ssh.socket

[Service]
Type=oneshot
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
    """The undo of one unit's change: copies of the files, a script, and a unit that a timer or the next boot starts."""

    def __init__(self, module: AnsibleModule, unit: str) -> None:
        self.module, self.unit = module, unit
        self.what = unit or "files"
        self.folder = UNDO / self.what
        self.name = f"webstack-undo-{self.what.removesuffix('.service')}"

    def systemctl(self, *argv: str) -> None:
        self.module.run_command(["systemctl", *argv], check_rc=True)

    def steps(self, paths: list[str]) -> str:
        """What brings the files back, of which copies stand in the folder, and then the unit."""
        running = bool(self.unit) and self.module.run_command(["systemctl", "is-active", self.unit])[0] == 0
        lines = [f"systemctl disable --now {shlex.quote(self.unit)}"] if self.unit and not running else []
        for number, path in enumerate(paths):
            if os.path.lexists(path):
                lines.append(f"cp -a --remove-destination {number} {shlex.quote(path)}")
            else:
                lines.append(f"rm -f {shlex.quote(path)}")
        lines.append("systemctl daemon-reload")
        if running:
            # Waited for, it would wait for the undo in turn, which at boot comes before the service.
            lines.append(f"systemctl --no-block try-reload-or-restart {shlex.quote(self.unit)}")
        return "\n".join(lines)

    def arm(self, paths: list[str], seconds: int) -> None:
        """What an earlier run left armed stays as it is: it holds what was confirmed last."""
        undo = f"{self.name}.service"
        if not self.folder.exists():
            fresh = self.folder.with_name(f".{self.what}.new")
            for left in (fresh, self.folder.with_name(f"{self.what}.undone")):
                shutil.rmtree(left, ignore_errors=True)
            fresh.mkdir(parents=True, mode=0o700)
            names = {"unit": self.what, "folder": self.folder, "undo": undo, "units": UNITS}
            (fresh / "undo").write_text(SCRIPT.format(steps=self.steps(paths), **names), encoding="utf-8")
            for number, path in enumerate(paths):
                if os.path.lexists(path):
                    self.module.run_command(["cp", "-a", path, str(fresh / str(number))], check_rc=True)
            (UNITS / undo).write_text(SERVICE.format(**names), encoding="utf-8")
            fresh.rename(self.folder)
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
        """False where the undo was the faster."""
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
