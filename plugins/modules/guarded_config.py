# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the guarded_config action; the work is done in plugins/action/guarded_config.py."""

DOCUMENTATION = r"""
module: guarded_config
short_description: Change how one comes into a host, such that a mistake undoes itself
description:
  - Keeps files and service as M(foobar.webstack.service_config) does, for what could cut the play's own connection,
    such as the settings of sshd or a firewall.
  - Before a change, the host is given an undo that starts by itself some seconds later, and also
    after a reboot. After the change a new connection is opened; when it comes through, the undo is
    called off, else the task fails, and the host is as it was.
  - In O(check), C({user}) and C({client}) stand for who the play has logged in as by ssh, and from
    which address. Both are empty for another connection, which cannot be cut this way.
  - The work is done by an action on the controller, M(foobar.webstack.service_config) and M(foobar.webstack.guarded_undo).
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
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: No new connection is opened.
  diff_mode:
    support: full
    details: A file that not everybody on the host may read is named, and not shown.
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
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
