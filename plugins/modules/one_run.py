# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the one_run action; the work is done in plugins/action/one_run.py."""

DOCUMENTATION = r"""
module: one_run
short_description: Be the only run that changes a host
description:
  - Waits while another run of a playbook that uses this module is at work on the host, and fails, with who runs and
    since when, if that takes longer than two minutes.
  - A run holds a host from this task on for as long as its ssh connection lasts, which Ansible keeps for up to two
    minutes after a run; the next run from the same machine does not wait for that. Nothing is left of a run that was
    killed. Over other connections, such as a container's, only runs from one machine know of each other.
  - Changes nothing but a note in C(/run); in check mode it does nothing.
options:
  over:
    description: Whether the run is over, and the host free for the next.
    type: bool
    default: false
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: none
    details: It does nothing, and waits for nobody.
  diff_mode:
    support: N/A
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Preflight | Wait for another run on the host
  foobar.webstack.one_run:
"""

RETURN = r"""# """
