# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the app_release action; the work is done in plugins/action/app_release.py."""

DOCUMENTATION = r"""
module: app_release
short_description: Change what is live of an application, or ask what is, by webstack-release on the host
description:
  - The work is done on the host by C(webstack-release), which the role app_server installs. A change
    (all that is not C(plan) or C(status)) runs there as a unit of its own and goes on without the
    controller; the task shows what it says and ends with its verdict.
  - In check mode only C(plan) and C(status) run. A change reports that it would be one, unless it is the
    C(deploy) of a commit that was sent and is live already.
options:
  app:
    description: The application's name.
    type: str
    required: true
  step:
    description: What to do.
    type: str
    choices: [status, plan, deploy, stage, migrate, switch, rollback, undo, renew, admit]
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
      With several hosts, the steps of a deploy are C(stage), as C(deploy), with C(moment), the first part of the release's
      name, and C(names), those of live releases of other hosts; C(migrate), on one of them, and C(switch), on one after the
      other, with C(release); and C(undo), which goes back to C(release) because of another host. With C(drained), a change
      stops before the release is watched, and goes on by C(admit), of which the request is the answer.
    type: dict
    default: {}
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: partial
    details: See the description; whether a release would prove itself is not known.
  diff_mode:
    support: none
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
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
