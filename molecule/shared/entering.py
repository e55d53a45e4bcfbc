"""How to enter a container of this machine: nsenter takes 2 ms of processor time for a command, `docker exec` 50 and more.

As a program, it writes that down for Ansible: entering.py INVENTORY CONTAINER…
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from dataclasses import dataclass
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
        return (
            os.geteuid() == 0
            and container != ""
            and container in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        )
    except OSError:
        return False


@dataclass(frozen=True)
class Whereabouts:
    """Of a container; others after a reboot."""

    id: str
    pid: int
    address: str
    hour: int  # of the day, UTC, in which it was made


def whereabouts(*containers: str) -> dict[str, Whereabouts]:
    """Of each of the containers, by their names."""
    form = "{{.Id}} {{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}} {{.Created}}"
    argv = ["docker", "container", "inspect", "--format", form, *containers]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    lines = [line.split(" ") for line in said.splitlines()]
    return {
        name: Whereabouts(id_, int(pid), address, datetime.datetime.fromisoformat(made).hour)
        for name, (id_, pid, address, made) in zip(containers, lines, strict=True)
    }


def write_inventory(path: Path, *containers: str) -> dict[str, str]:
    """Writes an inventory beside molecule's own: which address each container has, and how Ansible enters it. Returns the addresses.

    `calm` is a schedule for what must not happen by itself during a test: half a day from when the containers were made.
    """
    hosts = whereabouts(*containers)
    entered = {
        name: {"ansible_connection": "container", "container_id": where.id, "container_pid": where.pid}
        for name, where in hosts.items()
        if enterable(where.id, where.pid)
    }
    addresses = {name: where.address for name, where in hosts.items()}
    calm = f"*-*-* {(next(iter(hosts.values())).hour + 12) % 24:02}:00"
    new = path.with_name(path.name + "~")  # a name that Ansible does not read
    new.write_text(
        json.dumps({"all": {"hosts": entered, "vars": {"addresses": addresses, "calm": calm}}}), encoding="utf-8"
    )
    new.replace(path)  # another run of the scenario may be reading it
    return addresses


if __name__ == "__main__":
    write_inventory(Path(sys.argv[1]), *sys.argv[2:])
