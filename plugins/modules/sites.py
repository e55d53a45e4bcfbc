# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of an action: it works out on the controller what the inventory's sites mean for a host."""

DOCUMENTATION = r"""
module: sites
short_description: What the inventory says of its sites, judged, and what each role is told of them
description:
  - Holds C(sites) of the inventory against C(meta/sites.yml), and works out the inputs of the roles from it. The reference
    of C(sites) is docs/sites.md.
  - What the inventory says of a role's input outside of C(sites) is the default of all sites, is added to what the sites
    need, or is refused with the place where to say it. Nothing is ignored.
  - Runs on the controller. With O(roles) or O(changes), the host is asked which version of this project keeps it. One that a newer
    version keeps is refused, and one of an older version until the variable C(upgraded_to) acknowledges the steps that are named.
    With O(roles), it is asked which applications it has, too, and where there are several, for its memory.
options:
  roles:
    description: Whether roles are told of the result. Secrets are read only then.
    type: bool
    default: false
  changes:
    description: >-
      Whether the play changes a host that was converged before. One that is kept for another inventory is refused. With O(roles)
      alone, role base asks for it.
    type: bool
    default: false
  choose:
    description: >-
      Which sites the play is for, as RV(chosen). C(app), the one with an application that the variable C(site) names, or the
      only one; C(one), the same of any site; C(all), the site that it names, or all; C(absent), the one that it names, which is
      to be absent.
    type: str
    choices: [app, one, all, absent]
  passwords:
    description: >-
      Which passwords of databases are valid. V(declared), as the inventory says; V(both), that of before or else the new one
      beside the new one; V(new), the new one alone.
    type: str
    choices: [declared, both, new]
    default: declared
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: It changes nothing.
  diff_mode:
    support: N/A
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Work out what the roles are told
  foobar.webstack.sites:
    roles: true
  register: webstack
"""

RETURN = r"""
host:
  description: Inputs of the roles that a host has once.
  type: dict
  returned: success
sites:
  description: Of each site the inputs of roles app_server and certificate, and what the walk is told.
  type: dict
  returned: success
apps:
  description: Names of the sites with an application.
  type: list
  elements: str
  returned: success
all:
  description: Names of the sites that are on the web.
  type: list
  elements: str
  returned: success
absent:
  description: Names of the sites that are to be taken off the web.
  type: list
  elements: str
  returned: success
chosen:
  description: Names of the sites that the play is for.
  type: list
  elements: str
  returned: with O(choose)
"""
