# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the app_preflight action; the work is done in plugins/action/app_preflight.py."""

DOCUMENTATION = r"""
module: app_preflight
short_description: Ask host and repository early for what would refuse an application later
description:
  - Changes nothing. Fails where the application's name is taken on the host (by a user, a group, a unit, or a
    folder in C(/etc), C(/srv), C(/run) or C(/var/lib) that role app_server did not make), or by Debian.
  - With O(push), it fails where the controller's clone has no such commit, or more than one; and, where something
    is about to be shipped, where no signer has signed it or a submodule is not checked out.
  - Without, and where something is about to be shipped, it fails where the host gets no connection to the git host.
    That is not asked where a proxy, or a setting for git or ssh on the host, leads another way.
  - Where the host has git already, and ssh where that is needed, it asks the git host as the fetch will, and fails where that
    shows another host key, refuses the deploy key, or has no such repository, branch or tag.
  - It fails where the host lacks one of O(groups), and all of O(packages) are installed.
options:
  app:
    description: The application's name.
    type: str
    required: true
  users:
    description: Its system users, the one that serves first.
    type: list
    elements: str
    required: true
  groups:
    description: Further groups of the first of them.
    type: list
    elements: str
    default: []
  packages:
    description: Packages of the application's that are installed before its users are made, and may bring groups.
    type: list
    elements: str
    default: []
  repository:
    description: The repository's address, or with O(push) the path of a clone on the controller.
    type: str
    required: true
  version:
    description: The branch, tag or commit that is declared.
    type: str
    required: true
  ref:
    description: What is shipped instead.
    type: str
    default: ""
  declared:
    description: What a release remembers of the declaration; another one ships.
    type: str
    required: true
  code:
    description: Whether the play may ship code. Where it does not, no repository is asked.
    type: bool
    default: true
  shared_storage:
    description: Whether storage must be mounted where its releases share files.
    type: bool
    default: false
  push:
    description: Whether the controller sends the commit.
    type: bool
    default: false
  signers:
    description: Lines of ssh's allowed_signers.
    type: list
    elements: str
    default: []
  key:
    description: Path of the deploy key on the controller; empty where none is declared.
    type: str
    default: ""
  known_hosts:
    description: Lines of ssh's known_hosts.
    type: list
    elements: str
    default: []
  environment:
    description: Environment that git will have, such as a proxy.
    type: dict
    default: {}
  before:
    description: The answers of earlier applications of the host, as RV(apps) of their result.
    type: dict
    default: {}
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Validate | Ask host and repository for what would refuse the application later
  foobar.webstack.app_preflight:
    app: foobar
    users: [foobar, foobar-build, foobar-fetch]
    repository: https://git.example.com/foobar.git
    version: main
    declared: https://git.example.com/foobar.git main 0123456789ab
  register: host
"""

RETURN = r"""
apps:
  description: The answer of each application, by its name, those of O(before) included.
  type: dict
  returned: success
  contains:
    users_due:
      description: Whether a user is missing, or in other groups than it should.
      type: bool
    left:
      description: Files that an earlier declaration, or an earlier version of the role, has left.
      type: list
      elements: str
    ships:
      description: Whether code is about to be shipped.
      type: bool
"""
