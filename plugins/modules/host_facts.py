#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The few facts about a host that the roles use.

Not by ansible.builtin.setup: its subset for memory also looks at every disk and device, 0.3 s of 0.6 s in a container.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: The few facts about a host that the roles use
description:
  - Finds them as M(ansible.builtin.setup) does, with its own code and under its names, but does not
    look at every disk and device, which takes longer than all the rest.
extends_documentation_fragment: [action_common_attributes, action_common_attributes.facts]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  facts:
    support: full
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Know the host
  foobar.webstack.host_facts:
"""

RETURN = r"""
ansible_facts:
  description: Of the distribution, memory, processors, mounts (point and sizes), virtualization and service manager.
  type: dict
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.hardware.linux import LinuxHardware
from ansible.module_utils.facts.system.distribution import Distribution
from ansible.module_utils.facts.system.service_mgr import ServiceMgrFactCollector
from ansible.module_utils.facts.utils import get_mount_size
from ansible.module_utils.facts.virtual.linux import LinuxVirtual

DISKS = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}


def mounts() -> list[dict]:
    lines = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    points = {
        point for _device, point, kind, *_rest in lines if kind in DISKS
    }  # not network file systems, whose server may not answer
    return [{"mount": point, **get_mount_size(point)} for point in sorted(points)]


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    hardware = LinuxHardware(module)
    facts = {
        **Distribution(module).get_distribution_facts(),
        **LinuxVirtual(module).get_virtual_facts(),
        **hardware.get_memory_facts(),
        **hardware.get_cpu_facts(collected_facts={}),
        "mounts": mounts(),
    }
    known = {"ansible_distribution": facts["distribution"], "ansible_system": "Linux"}
    facts.update(ServiceMgrFactCollector().collect(module, known))
    module.exit_json(ansible_facts={f"ansible_{name}": value for name, value in facts.items()})


if __name__ == "__main__":
    main()
