# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the packages action; the work is done in plugins/action/packages.py."""

DOCUMENTATION = r"""
module: packages
short_description: Install Debian packages, quickly when there is nothing to install
description:
  - Asks dpkg first, which takes a tenth of a second, and calls C(apt-get) only for packages that
    are missing or half installed.
  - Completes an installation that was interrupted, refreshes package lists that are empty or more
    than an hour old, waits for apt's locks.
options:
  name:
    description: The packages.
    type: list
    elements: str
    required: true
  default_release:
    description: The suite to prefer, as in C(apt-get -t).
    type: str
  refresh:
    description: Refresh the package lists even when they are fresh, as after adding a source.
    type: bool
    default: false
  start:
    description: >-
      Whether services start as their packages are installed. Not where a role starts them by itself: for
      some seconds they would serve with the settings of the distribution, or fail to.
    type: bool
    default: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Install | nginx
  foobar.webstack.packages:
    name: [nginx, logrotate]
"""

RETURN = r"""
missing:
  description: The packages that were not (wholly) installed.
  type: list
  elements: str
  returned: always
"""
