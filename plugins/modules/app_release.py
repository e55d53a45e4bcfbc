#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Call webstack-release on the host, with a check mode."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Change what is live of an application, or ask what is, by webstack-release on the host
description:
  - The work is done on the host by C(webstack-release), which the role app_server installs. A change
    (C(deploy), C(rollback), C(renew)) runs there as a unit of its own and goes on without the
    controller; the task shows what it says and ends with its verdict.
  - In check mode only C(plan) and C(status) run. A change reports that it would be one, unless it is the
    C(deploy) of a commit that was sent and is live already.
options:
  app:
    description: The application's name.
    type: str
    required: true
  step:
    description: What to do; C(follow) is for the action itself.
    type: str
    choices: [status, plan, deploy, rollback, renew, follow]
    required: true
  arguments:
    description: Of C(plan), the digests of what is declared and of the settings.
    type: list
    elements: str
    default: []
  request:
    description: >-
      Of C(deploy), C(version), C(declared), and for a commit that was sent C(commit) and C(archive);
      of C(rollback), C(release), by default the last verified one before the live one;
      of C(renew), C(warm), whether the slot before stays warm.
    type: dict
    default: {}
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
NOTHING_LIVE = {"ship": True, "ref": "", "renew": False, "release": "", "slot": None, "active": False}


def main() -> None:
    steps = ["status", "plan", "deploy", "rollback", "renew", "follow"]
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "step": {"type": "str", "required": True, "choices": steps},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "request": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    step, app = module.params["step"], module.params["app"]
    reads = step in ("status", "plan", "follow")
    installed = os.path.exists(TOOL) and os.path.exists(f"/etc/{app}/release.json")
    commit = module.params["request"].get("commit")
    if module.check_mode and not (installed and (reads or commit)):
        module.exit_json(changed=not reads, answer=NOTHING_LIVE)
    if step == "status" or (module.check_mode and not reads):
        command = ["status", "--json"]
    elif reads:
        command = [step, *module.params["arguments"], *(["--dry"] if step == "plan" and module.check_mode else [])]
    else:
        command = ["start", json.dumps({"kind": step, **module.params["request"]})]
    rc, out, err = module.run_command([TOOL, app, *command])
    if rc != 0:
        module.fail_json(msg=err.strip().removeprefix("webstack-release: ") or out.strip())
    answer = json.loads(out)
    if answer.get("held"):
        module.warn(
            f"{answer['held']}; it is declared and not brought back by itself: deploy it, or declare another version"
        )
    if answer.get("ref"):
        module.warn(f"release {answer['release']} is for another Python than this host's: its commit is built anew")
    would = module.check_mode and not reads
    known = {key: module.params["request"].get(key) for key in ("commit", "declared")}
    live = (
        would
        and known.items() <= answer.items()
        and all(answer[key] for key in ("release", "fits", "active", "settled"))
    )
    module.exit_json(changed=would and not live, answer=answer)


if __name__ == "__main__":
    main()
