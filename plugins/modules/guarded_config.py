# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the guarded_config action; the work is done in plugins/action/guarded_config.py."""

DOCUMENTATION = r"""
module: guarded_config
short_description: Change how people log in to a host, with an undo that starts by itself after a mistake
description:
  - Manages files and a service as M(foobar.webstack.service_config) does, if a change could cut the play's own connection,
    such as that of sshd or of a firewall.
  - Before a change, an undo is installed on the host. It starts by itself some seconds later, and also
    after a reboot. After the change a new connection is opened. If it works, the undo is disarmed; else the
    task fails, and the undo restores the host.
  - In O(check), C({user}) and C({client}) stand for the user of the play's ssh login and the address it comes from.
    Both are empty for another kind of connection, which such a change cannot cut.
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
    description: Whether to report only what would be refused, and change nothing.
    type: bool
    default: false
  admits:
    description: >-
      Connections that a firewall would accept, each with C(port), C(protocol) and C(from), addresses
      and networks, empty for all. The play's own connection must be one of them.
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
      From just before the change to the undo. The new connection must work within this time, also on a
      slow host.
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
