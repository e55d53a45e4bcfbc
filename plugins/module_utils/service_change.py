# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A change of a service's configuration: what the unit needs, the check before, the change, and the way back."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils.host_files import Before, restore
from ansible_collections.foobar.webstack.plugins.module_utils.service_files import Configuration
from ansible_collections.foobar.webstack.plugins.module_utils.systemd_unit import Unit

UNIT_FOLDER = "/etc/systemd/system/"
CONFIRM_SECONDS = 10


def next_action(unit: Unit, config: Configuration, probe: list[str]) -> str:
    """What the unit needs so that the running process has the declared configuration.

    Files of level restart are read once, at the start. If this module started the process, the
    stamp says with which files; any other process is right if it started after the last change.
    A reload can come from anybody at any time, so for files of level reload the stamp must also be
    newer than the last change. The probe finds changes that were made without a file.
    A unit that cannot reload, such as a timer, is restarted instead.
    """
    reload = "reload" if unit.can_reload else "restart"
    if not unit.running:
        return "start"
    stamp, digests = unit.stamp(), config.digests()
    if stamp.get("restart") != digests["restart"] and unit.started_at <= config.changed_at("restart"):
        return "restart"
    reload_at = config.changed_at("reload")
    stamped = stamp.get("reload") == digests["reload"] and stamp["time"] > reload_at
    if not stamped and unit.started_at <= reload_at:
        return reload
    # The program that renews a watched file often reloads the unit itself.
    if max(unit.started_at, unit.state_changed_at) <= config.watched_changed_at():
        return reload
    if probe and unit.module.run_command(probe)[0] != 0:
        return reload
    return "none"


def run_check(module: AnsibleModule, argv: list[str], config: Configuration) -> None:
    """Stages every file and runs the service's own checker on them; fails with its words."""
    if not argv:
        return
    checker = module.get_bin_path(argv[0], opt_dirs=["/usr/sbin", "/usr/local/sbin"])
    if module.check_mode and (checker is None or None in config.watched.values()):
        return  # a new host: the real run would have installed the package and made the watched files before
    # Removed here: without pipelining Ansible removes its own folder as the login user, who may not remove root's files.
    with tempfile.TemporaryDirectory(prefix="stage-", dir=module.tmpdir) as root:
        for path, file in config.declared.items():
            staged = Path(root, path.lstrip("/"))
            staged.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(file.content)
        rc, out, err = module.run_command([checker or argv[0]] + [part.replace("{root}", root) for part in argv[1:]])
    if rc != 0:
        words = "\n".join(part.strip() for part in (out, err) if part.strip()).replace(root, "")
        module.fail_json(
            msg=f"{argv[0]} refuses the new configuration; the live one is untouched and goes on serving.\n{words}"
        )


def change(module: AnsibleModule, unit: Unit | None, config: Configuration, action: str) -> None:
    """Swaps the files in and makes the unit take them. On failure the old files are restored, and the module fails."""
    before: Before = {}
    try:
        config.swap(before)
    except (OSError, KeyError) as error:  # a full disk, a folder in the way, an unknown owner
        restore(before)
        module.fail_json(msg=f"The configuration could not be written, the old files are back: {error}")
    if unit is None:
        return
    was_running = unit.running
    complaint = bring_up(unit, action, list(before), module.params["confirm"])
    if complaint:
        words = unit.last_words()
        if unit.enabled_here and not was_running:
            unit.systemctl("disable", unit.name)  # before its file is removed, or the link of `enable` stays
        restore(before)
        back = bring_up(unit, action if was_running else "none", list(before), None) if before else complaint
        if was_running and not back:
            state = "The previous configuration is back, and the service runs with it."
        elif before or not unit.running:
            state = f"{unit.name} does not run now."
        else:
            state = "No file was changed."
        module.fail_json(msg=f"{complaint}\n{state}\nIts last words:\n{words}")
    unit.read_state()
    unit.write_stamp(config.digests())


def bring_up(unit: Unit, action: str, paths: list[str], confirm: dict[str, str] | None) -> str:
    """Makes the unit take the files on the disk, of which `paths` changed; returns a complaint, empty on success."""
    if unit.needs_daemon_reload or any(path.startswith(UNIT_FOLDER) for path in paths):
        unit.systemctl("daemon-reload")
        unit.read_state()
    if unit.disabled:
        complaint = unit.systemctl("enable", unit.name)
        if complaint:
            return complaint
        unit.enabled_here = True
    if action == "none":
        return ""
    if action in ("start", "restart"):
        unit.systemctl("reset-failed", unit.name)  # fails for a unit that never failed
    complaint = unit.systemctl(action, unit.name)
    unit.read_state()
    if complaint or not unit.running:
        return complaint or f"{unit.name} stopped right after its {action}"
    if not confirmed(confirm):
        return f"{unit.name} runs, but not with the new configuration ({CONFIRM_SECONDS} s after its {action})"
    return ""


def confirmed(confirm: dict[str, Any] | None) -> bool:
    """Whether the running service gives the expected answer within CONFIRM_SECONDS."""
    if confirm is None:
        return True
    # Imported here: these two take as long as all other imports together, and only a change needs them.
    import http.client
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + CONFIRM_SECONDS
    while time.monotonic() < deadline:
        try:
            with opener.open(confirm["url"], timeout=2) as answer:
                if answer.read(4096).decode(errors="replace").strip() == confirm["text"]:
                    return True
        except (OSError, http.client.HTTPException):  # another program may have the port and speak another protocol
            pass
        time.sleep(0.1)
    return False
