"""Writes "host: task" for every task that changed something, for the assertions of the tests."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changed_tasks
type: aggregate
short_description: note the tasks that changed something
description: Appends a line for each to the file that CHANGED_TASKS_FILE names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changed_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        outcome = getattr(result, "result", None) or result._result
        if outcome.get("changed"):
            host = getattr(result, "host", None) or result._host
            task = getattr(result, "task", None) or result._task
            with open(os.environ["CHANGED_TASKS_FILE"], "a", encoding="utf-8") as log:
                log.write(f"{host.get_name()}: {task.get_name()}\n")
