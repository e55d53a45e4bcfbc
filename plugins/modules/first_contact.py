#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look for files and programs of others on a host, before a role changes anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: first_contact
short_description: Refuse what somebody else has on a host, before anything changes
description:
  - Looks for files of others in folders that the calling role owns whole, and for programs of others on the ports
    that its service will listen on. Refuses each by its name.
  - Of a folder, files are not strange that a Debian package has brought and nobody has changed, and none is where
    the role has taken the folder before.
  - Folders are taken all the same with O(take_over). M(foobar.webstack.service_config) then keeps a copy. A program
    on a port is always refused.
  - Changes nothing.
options:
  unit:
    description: The service that the role keeps. Its own programs may hold the ports.
    type: str
    required: true
  folders:
    description: The folders that the role owns whole.
    type: list
    elements: path
    default: []
  unmanaged_globs:
    description: Glob patterns of paths below O(folders) that the role leaves alone.
    type: list
    elements: str
    default: []
  paths:
    description: Files elsewhere that nobody but an operator makes, and that would have no effect any more.
    type: list
    elements: path
    default: []
  ports:
    description: What the service will listen on.
    type: list
    elements: dict
    default: []
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
      address:
        description: The address of the host; C(*) stands for all.
        type: str
        default: "*"
      input:
        description: The input that sets the port.
        type: str
        required: true
      hands_over:
        description: Another unit whose programs may hold the port, which they share until the service has it.
        type: str
        default: ""
  take_over:
    description: Whether the folders become the role's, whoever has files in them.
    type: bool
    default: false
  word:
    description: The input that gives O(take_over).
    type: str
    required: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Validate | Refuse what is somebody else's
  foobar.webstack.first_contact:
    unit: nginx.service
    folders: [/etc/nginx]
    ports:
      - {port: 80, input: nginx_http_port}
    take_over: "{{ nginx_take_over | bool }}"
    word: nginx_take_over
"""

RETURN = r"""
refusals:
  description: What is somebody else's, a line each.
  type: list
  elements: str
  returned: always
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils.ownership import is_ours, strangers
from ansible_collections.foobar.webstack.plugins.module_utils.sockets import Listener, listeners

LISTED = 20  # names of files in one message


def refused_folders(params: dict[str, Any]) -> list[str]:
    """A message for each folder with files of others."""
    refusals = []
    for folder in params["folders"]:
        if is_ours(folder, params["unit"]):
            continue
        found = strangers(folder, params["unmanaged_globs"]) + [
            path for path in params["paths"] if os.path.lexists(path)
        ]
        if found:
            named = ", ".join(found[:LISTED])
            more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
            refusals.append(
                f"{folder} holds what somebody else has put there: {named}{more}. This role would own the folder whole. "
                f"Declare what you need of it as inputs, and run once with -e {params['word']}=true: a dated copy of "
                "the folder is kept, and its path is said"
            )
    return refusals


def refused_ports(params: dict[str, Any], found: list[Listener]) -> list[str]:
    """A message for each port that a program of another unit uses."""
    refusals = []
    for wanted in params["ports"]:
        held = [
            listener
            for listener in found
            if (listener.protocol, listener.port) == (wanted["protocol"], wanted["port"])
            and listener.unit not in (params["unit"], wanted["hands_over"])
            and listener.overlaps(wanted["address"])
        ]
        if held:
            refusals.append(
                f"{wanted['input']}: port {wanted['port']}/{wanted['protocol']} is held by {', '.join(map(str, held))}; "
                "stop and disable that program, or have the service listen elsewhere"
            )
    return list(dict.fromkeys(refusals))


def main() -> None:
    port_spec = {
        "port": {"type": "int", "required": True},
        "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
        "address": {"type": "str", "default": "*"},
        "input": {"type": "str", "required": True},
        "hands_over": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "folders": {"type": "list", "elements": "path", "default": []},
            "unmanaged_globs": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "list", "elements": "path", "default": []},
            "ports": {"type": "list", "elements": "dict", "default": [], "options": port_spec},
            "take_over": {"type": "bool", "default": False},
            "word": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    folders = [] if params["take_over"] else refused_folders(params)
    module.exit_json(changed=False, refusals=folders + refused_ports(params, listeners()))


if __name__ == "__main__":
    main()
