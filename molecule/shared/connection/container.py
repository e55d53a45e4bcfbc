"""A connection to a container of this machine by nsenter, which takes a hundredth of the processor time of `docker exec`.

The collection's own plugin hands the controller's environment on, and goes by way of a file for what can be piped.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.community.docker.plugins.connection import nsenter
from entering import ENVIRONMENT, enterable, whereabouts

DOCUMENTATION = """
name: container
short_description: run tasks in a container of this machine
description: As P(community.docker.nsenter#connection).
options:
  container_id:
    description: The container's whole id.
    type: str
    required: true
    vars:
      - name: container_id
  nsenter_pid:
    description: The container's first process.
    type: int
    required: true
    vars:
      - name: container_pid
"""


class Connection(nsenter.Connection):
    transport = "container"
    has_pipelining = True

    def exec_command(self, cmd: Any, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        container = self.get_option("container_id")
        if not enterable(container, self.get_option("nsenter_pid")):  # it was started again since that was written down
            self.set_option("nsenter_pid", whereabouts(container)[container].pid)
            self._connected = False  # or it goes on with the number of before
            if not enterable(container, self.get_option("nsenter_pid")):
                raise AnsibleConnectionFailure(f"container {container} does not run")
        # A shell of this machine would run, here, what comes after a `;`.
        words = ["/bin/sh", "-c", cmd] if isinstance(cmd, str) else cmd
        return super().exec_command([*ENVIRONMENT, *words], in_data, sudoable)
