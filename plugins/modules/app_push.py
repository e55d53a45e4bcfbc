# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the app_push action; the work is done in plugins/action/app_push.py."""

DOCUMENTATION = r"""
module: app_push
short_description: Put a commit of a clone on the controller on the host
description:
  - Packs the commit with C(git archive) on the controller and writes the archive on the host, where
    only root can read it. C(webstack-release) unpacks and removes it. Submodules that are checked out in the clone come with it.
options:
  app:
    description: The application's name.
    type: str
    required: true
  repository:
    description: Absolute path of the clone.
    type: str
    required: true
  version:
    description: Branch, tag or commit.
    type: str
    required: true
  signers:
    description: >-
      Lines of ssh's allowed_signers. If there are any, the commit, or the tag named by O(version), must
      have a good signature by one of them.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: The commit is looked for, and not sent.
  diff_mode:
    support: none
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ship | Send the commit to the host
  foobar.webstack.app_push:
    app: foobar
    repository: /home/me/foobar
    version: main
  register: sent
"""

RETURN = r"""
commit:
  description: The commit that the version names.
  type: str
  returned: success
archive:
  description: Where the archive is on the host; not written in check mode.
  type: str
  returned: success
"""
