#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the configuration of one systemd unit as declared: staged, tested, swapped, and running."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Keep a service's whole configuration as declared, and the service running with it
description:
  - Takes the whole configuration of one service as a list of files, writes it to a staging folder, has
    the service's own checker test it there, replaces changed files by renaming, and reloads or
    restarts the unit once, as the changed files need.
  - If the checker refuses, the live files and the running service are untouched. If the service
    does not accept the files after the swap, the old files are put back and the old state restored.
  - If the running service does not have the declared configuration, because a run was killed before the
    reload or because someone edited a file, the unit is reloaded or restarted, also if no file
    has to be changed.
options:
  unit:
    description: The systemd unit. Without it only the files are kept.
    type: str
  files:
    description: Every file of the configuration.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The text, which ends in one newline whatever is given.
        type: str
        required: true
      mode:
        description: Octal permissions.
        type: str
        default: "0644"
      owner:
        description: User name.
        type: str
        default: root
      group:
        description: Group name.
        type: str
        default: root
      apply:
        description: What makes the running service take a change of this file.
        type: str
        choices: [none, reload, restart]
        default: restart
  managed_folders:
    description: Folders that hold nothing but O(files). Everything else in them is removed.
    type: list
    elements: path
    default: []
  unmanaged_globs:
    description: Glob patterns of paths below O(managed_folders) that are left as they are.
    type: list
    elements: str
    default: []
  folders:
    description: >-
      Other folders of the service. If they exist, they get this owner and mode. Folders of O(files), all folders above them,
      and O(managed_folders) with everything below are not listed here. They belong to root, or to the owner of a declared file
      in them. Only the owner may write into them, except the group of such a file, and any group if the set-group bit is set. If
      a declared file is readable for everybody, everybody may enter its folder, unless it has a group other than root's.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      mode:
        description: Octal permissions.
        type: str
        default: "0755"
      owner:
        description: User name.
        type: str
        default: root
      group:
        description: Group name.
        type: str
        default: root
  first_contact:
    description: >-
      Whether to look for files of others in O(managed_folders) before they are managed for the first time. Such files are
      refused by name, or with O(take_over) a dated copy of the folder is made in C(/var/lib/webstack/copies) before any change.
    type: bool
    default: false
  take_over:
    description: Whether folders with files of others are taken over, see O(first_contact).
    type: bool
    default: false
  watch:
    description: Files that other programs write and that the service reads, such as certificates.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      apply:
        description: What makes the running service take a change of this file.
        type: str
        choices: [reload, restart]
        default: restart
  check:
    description: >-
      The service's own checker, as a list of arguments. C({root}) stands for the staging folder, in which
      every file has its full path. Exit code 0 means that it accepts the files.
    type: list
    elements: str
    default: []
  probe:
    description: >-
      A command that exits with 0 as long as the running service has the configuration of its files.
      If it does not, such as after a change by hand that went past the files, the unit is reloaded.
    type: list
    elements: str
    default: []
  confirm:
    description: A request to the running service, whose answer proves that it has the new configuration.
    type: dict
    suboptions:
      url:
        description: An address on the host.
        type: str
        required: true
      text:
        description: The answer to expect.
        type: str
        required: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: The service's own checker runs. Where it is not installed yet, files are not checked.
  diff_mode:
    support: full
    details: A file that not everybody on the host may read is named, and not shown.
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Configure | Keep the journal within bounds
  foobar.webstack.service_config:
    unit: systemd-journald.service
    files:
      - path: /etc/systemd/journald.conf.d/webstack.conf
        content: "{{ lookup('ansible.builtin.template', 'journald.conf.j2') }}"
"""

RETURN = r"""
files_changed:
  description: Paths written or removed.
  type: list
  elements: str
  returned: always
folders_changed:
  description: Folders that got another owner or mode.
  type: list
  elements: str
  returned: always
action:
  description: What was done to the unit, one of none, start, reload, restart.
  type: str
  returned: always
noted:
  description: >-
    Whether the host had all notes of this module, which tell a later run what was done: whose the folders are, and with which
    files the process of the unit was started.
  type: bool
  returned: always
copies:
  description: Where copies of what O(managed_folders) held at the first contact are.
  type: list
  elements: str
  returned: when there are some
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils import ownership
from ansible_collections.foobar.webstack.plugins.module_utils.service_change import change, next_action, run_check
from ansible_collections.foobar.webstack.plugins.module_utils.service_files import Configuration
from ansible_collections.foobar.webstack.plugins.module_utils.systemd_unit import Unit


def files_of_others(module: AnsibleModule) -> dict[str, list[str]]:
    """The managed folders that are not a role's yet, each with the files of others in it.

    Fails where there are such files, unless O(take_over) allows it.
    """
    params = module.params
    if not params["first_contact"]:
        return {}
    unknown = [folder for folder in params["managed_folders"] if not ownership.is_ours(folder, params["unit"] or "")]
    found = {folder: ownership.strangers(folder, params["unmanaged_globs"]) for folder in unknown}
    for folder, paths in found.items():
        if paths and not params["take_over"]:
            module.fail_json(
                msg=f"{folder} holds what somebody else has put there: {', '.join(paths)}. Nothing was changed."
            )
    return found


def unsigned_folders(params: dict[str, Any]) -> list[str]:
    """The managed folders without a note of whose they are."""
    return [path for path in params["managed_folders"] if params["first_contact"] and not ownership.sign(path).exists()]


def take_folders(module: AnsibleModule, found: dict[str, list[str]]) -> list[str]:
    """Notes that the managed folders are a role's, before the first file in them changes; returns the copies."""
    copies = [ownership.take(folder, keep_copy=bool(paths)) for folder, paths in found.items()]
    for folder in unsigned_folders(module.params):  # the host was converged by a version that made no such notes
        ownership.take(folder, keep_copy=False)
    for copy in filter(None, copies):
        module.warn(f"what somebody else had put there before this run is kept in {copy}")
    return [copy for copy in copies if copy]


def main() -> None:
    file_spec = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "apply": {"type": "str", "default": "restart", "choices": ["none", "reload", "restart"]},
    }
    folder_spec = {
        "path": {"type": "path", "required": True},
        "mode": {"type": "str", "default": "0755"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    watch_spec = {
        "path": {"type": "path", "required": True},
        "apply": {"type": "str", "default": "restart", "choices": ["reload", "restart"]},
    }
    confirm_spec = {"url": {"type": "str", "required": True}, "text": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str"},
            "files": {"type": "list", "elements": "dict", "required": True, "options": file_spec},
            "managed_folders": {"type": "list", "elements": "path", "default": []},
            "unmanaged_globs": {"type": "list", "elements": "str", "default": []},
            "folders": {"type": "list", "elements": "dict", "default": [], "options": folder_spec},
            "first_contact": {"type": "bool", "default": False},
            "take_over": {"type": "bool", "default": False},
            "watch": {"type": "list", "elements": "dict", "default": [], "options": watch_spec},
            "check": {"type": "list", "elements": "str", "default": []},
            "probe": {"type": "list", "elements": "str", "default": []},
            "confirm": {"type": "dict", "options": confirm_spec},
        },
        supports_check_mode=True,
    )
    params = module.params
    os.umask(0o022)  # folders that are made can be entered by everybody, whatever the host's umask
    found = files_of_others(module)
    config = Configuration(params)
    unit = Unit(module, params["unit"]) if params["unit"] else None
    action = next_action(unit, config, params["probe"]) if unit else "none"
    files_changed = config.changed + config.to_remove
    unstamped = unit is not None and not unit.stamp()
    result: dict[str, Any] = {
        "changed": bool(files_changed or config.wrong_folders or action != "none" or (unit and unit.disabled)),
        "files_changed": files_changed,
        "folders_changed": list(config.wrong_folders),
        "action": action,
        "noted": not (unstamped or unsigned_folders(params)),
    }
    if module._diff:
        result["diff"] = config.diffs()
    if files_changed or action != "none":
        run_check(module, params["check"], config)
    if not module.check_mode:
        if copies := take_folders(module, found):
            result["copies"] = copies
        if result["changed"]:
            change(module, unit, config, action)
        elif unit and unstamped:
            unit.write_stamp(config.digests())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
