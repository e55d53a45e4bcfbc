# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The system users of an application: the question to a host, and the commands that its answer asks for.

Not by systemd-sysusers: it takes no user out of a group, and accepts a user of that name that is somebody else's.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

HOME, SHELL = "/nonexistent", "/usr/sbin/nologin"
MAKE = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", HOME, "--shell", SHELL]


def question(users: list[str]) -> str:
    """A script for the host, with two answers, separated by a line of dashes. getent exits 2 where a name is missing."""
    names = " ".join(map(shlex.quote, users))
    of_a_group = "|".join(users)
    return (
        f"getent passwd {names}; echo ---; getent group {names}; "
        f"grep -E {shlex.quote(f'^[^:]*:[^:]*:[^:]*:(.*,)?({of_a_group})(,.*)?$')} /etc/group"
    )


@dataclass
class Accounts:
    """The state of an application's users on a host."""

    missing: list[str] = field(default_factory=list)
    make: list[list[str]] = field(default_factory=list)  # commands
    # Names that are somebody else's on this host, as messages for the operator.
    strange: list[str] = field(default_factory=list)
    # Commands that put a user into its own and the declared groups, and take it out of all others.
    mend: list[list[str]] = field(default_factory=list)

    @property
    def due(self) -> bool:
        return bool(self.missing or self.mend)


def read(users: list[str], passwd: list[str], groups: list[str], further: list[str]) -> Accounts:
    """Reads the two answers to `question`. The first user belongs in the groups `further`, the others in none."""
    known = {entry[0]: entry for line in passwd if len(entry := line.split(":")) == 7}
    of_group = {entry[0]: entry for line in groups if len(entry := line.split(":")) == 4}
    accounts = Accounts()
    for user in users:
        wanted = further if user == users[0] else []
        if user not in known:
            if user in of_group:
                accounts.strange.append(f"this host has a group {user} and no user of that name")
            # The application's own user is made last, so that where it exists, the others do, too.
            accounts.missing.insert(0, user)
            accounts.make.insert(0, [*MAKE, "--groups", ",".join(wanted), user] if wanted else [*MAKE, user])
            continue
        _name, _password, _uid, gid, _gecos, home, shell = known[user]
        if (home, shell) != (HOME, SHELL):
            accounts.strange.append(f"this host has a user {user} who is somebody else's (home {home}, shell {shell})")
            continue
        is_in = {name for name, entry in of_group.items() if user in entry[3].split(",")} - {user}
        if user not in of_group:
            accounts.mend.append(["groupadd", "--system", user])
        if user not in of_group or gid != of_group[user][2] or is_in != set(wanted):
            accounts.mend.append(["usermod", "--gid", user, "--groups", ",".join(wanted), user])
    return accounts
