# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the app_users action; the work is done in plugins/action/app_users.py."""

DOCUMENTATION = r"""
module: app_users
short_description: Have the system users of an application, all in one call
description:
  - Makes the system users that are missing, without a home, a shell or a password.
  - A user that was put into another group than those that are declared is taken out of it.
  - Fails, and changes nothing, where one of the names belongs to somebody else, who would be locked out.
options:
  users:
    description: The users, each with a group of the same name.
    type: list
    elements: str
    required: true
  groups:
    description: Further groups of the first of them; they exist.
    type: list
    elements: str
    default: []
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
- name: Install | The users that run and build the application
  foobar.webstack.app_users:
    users: [foobar, foobar-build]
"""

RETURN = r"""
made:
  description: The users that were missing.
  type: list
  elements: str
  returned: always
mended:
  description: The users that were in other groups than they should.
  type: list
  elements: str
  returned: always
"""
