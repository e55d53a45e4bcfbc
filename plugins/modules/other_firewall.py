#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take over a host from another tool that keeps a firewall on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: other_firewall
short_description: Take over a host from another tool that keeps a firewall on it
description:
  - With O(step=begin), keeps a dated copy of the tool's settings and of the kernel's rules in C(/var/lib/webstack/copies), and
    says where. From then on M(foobar.webstack.listeners) names the tool among those that are being taken over.
  - With O(step=stop), which comes when other rules are in place, stops and disables the tool and removes its rules. Rules of
    container engines and of fail2ban stay.
  - Both may be repeated. C(shorewall) and C(ferm) cannot be taken over.
options:
  units:
    description: The tools' units.
    type: list
    elements: str
    choices: [ufw.service, firewalld.service, nftables.service, netfilter-persistent.service]
    required: true
  step:
    description: What to do.
    type: str
    choices: [begin, stop]
    required: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Access | Keep a copy of the other firewall
  foobar.webstack.other_firewall:
    units: [ufw.service]
    step: begin
"""

RETURN = r"""
copies:
  description: Where the copies are.
  type: list
  elements: str
  returned: with O(step=begin)
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils import firewalls

UNITS = ["ufw.service", "firewalld.service", "nftables.service", "netfilter-persistent.service"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "choices": UNITS, "required": True},
            "step": {"type": "str", "choices": ["begin", "stop"], "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    run, begun = module.run_command, firewalls.begun()
    # Examined again: the caller's knowledge of the host may be from before an earlier step.
    there = {*begun, *firewalls.kept(firewalls.units(run))}
    units = [unit for unit in module.params["units"] if unit in there]
    if module.params["step"] == "begin":
        copies = [] if module.check_mode else [firewalls.begin(run, unit) for unit in units]
        for unit, copy in zip(units, copies, strict=False):
            module.warn(f"what {unit} had on this host before this run, and the kernel's rules, are kept in {copy}")
        module.exit_json(changed=not set(units) <= set(begun), copies=copies)
    if not module.check_mode:
        for unit in units:
            firewalls.stop(run, unit)
    diff = {"before": "".join(f"{unit} keeps a firewall\n" for unit in units), "after": ""}
    module.exit_json(changed=bool(units), diff=diff)


if __name__ == "__main__":
    main()
