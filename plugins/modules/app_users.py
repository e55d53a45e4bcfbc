#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have the system users of an application, and refuse a name that belongs to somebody else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_users
short_description: Have the system users of an application, all in one call
description:
  - Makes the system users that are missing, without a home, a shell or a password.
  - Fails, and changes nothing, where one of the names belongs to somebody else, who would be locked
    out, or where the distribution has a template unit of the application's name, which would be
    replaced.
options:
  app:
    description: The application's name.
    type: str
    required: true
  users:
    description: The users, each with a group of the same name.
    type: list
    elements: str
    required: true
author: The foobar web stack maintainers
"""

EXAMPLES = r"""
- name: Install | The users that run and build the application
  foobar.webstack.app_users:
    app: foobar
    users: [foobar, foobar-build]
"""

RETURN = r"""
made:
  description: The users that were missing.
  type: list
  elements: str
  returned: always
"""

import pwd
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
UNITS = "/usr/lib/systemd/system"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "users": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    app, users = module.params["app"], module.params["users"]
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for user in users:
        if user in known and (known[user].pw_dir, known[user].pw_shell) != (HOME, SHELL):
            module.fail_json(
                msg=f"app_server_name: '{app}' will not do, because this host has a user {user} who is somebody else's "
                f"(home {known[user].pw_dir}, shell {known[user].pw_shell}). Nothing was changed; choose another name."
            )
    if Path(UNITS, f"{app}@.service").exists():
        module.fail_json(
            msg=f"app_server_name: '{app}' will not do, because {UNITS}/{app}@.service is part of the system. "
            "Nothing was changed; choose another name."
        )
    missing = [user for user in users if user not in known]
    if not module.check_mode:
        for user in missing:
            how = f"useradd --system --user-group --no-create-home --home-dir {HOME} --shell {SHELL}"
            rc, _out, err = module.run_command([*how.split(), user])
            if rc != 0:
                module.fail_json(msg=f"The system user {user} could not be made: {err.strip()}")
    module.exit_json(changed=bool(missing), made=missing)


if __name__ == "__main__":
    main()
