#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Call webstack-release on the host, with a check mode."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Call webstack-release on the host, with a check mode
description:
  - The steps of a release are made on the host by C(webstack-release), which the role app_server
    installs. This module runs one of them and passes on its answer or its complaint.
  - In check mode only C(plan) and C(status) run; every other step reports a change.
options:
  app:
    description: The application's name.
    type: str
    required: true
  step:
    description: The command.
    type: str
    choices: [status, plan, fetch, build, check, migrate, switch]
    required: true
  arguments:
    description: Its arguments.
    type: list
    elements: str
    default: []
author: The foobar web stack maintainers
"""

EXAMPLES = r"""
- name: Ship | See what is live
  foobar.webstack.app_release:
    app: foobar
    step: status
"""

RETURN = r"""
answer:
  description: What the command answered.
  type: dict
  returned: success
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

TOOL = "/usr/local/sbin/webstack-release"
NOTHING_LIVE = {"ship": True, "switch": False, "release": "", "slot": None, "active": False}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "step": {
                "type": "str",
                "required": True,
                "choices": ["status", "plan", "fetch", "build", "check", "migrate", "switch"],
            },
            "arguments": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    step, app = module.params["step"], module.params["app"]
    reads = step in ("status", "plan")
    if module.check_mode and (not reads or not os.path.exists(TOOL) or not os.path.exists(f"/etc/{app}/release.json")):
        module.exit_json(changed=not reads, answer=NOTHING_LIVE)
    rc, out, err = module.run_command([TOOL, app, step, *module.params["arguments"]])
    if rc != 0:
        module.fail_json(msg=err.strip() or out.strip())
    answer = json.loads(out)
    module.exit_json(changed=answer.pop("changed", False), answer=answer)


if __name__ == "__main__":
    main()
