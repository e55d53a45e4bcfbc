"""How to enter a container of this machine: nsenter takes 2 ms of processor time for a command, `docker exec` 50 and more."""

from __future__ import annotations

import os
from pathlib import Path

# Not into its namespaces of users and of cgroups, which are this machine's.
NSENTER = ["nsenter", "--mount", "--uts", "--ipc", "--net", "--pid"]
# What `docker exec` gives a command; and a session of its own, so that what was begun on a host survives the controller.
ENVIRONMENT = [
    "setsid",
    "--wait",
    "env",
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "container=docker",
]


def enterable(container: str, pid: int) -> bool:
    """Whether this user can, and the process is the container's: that of an engine elsewhere is another one's here."""
    try:
        return os.geteuid() == 0 and container in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False
