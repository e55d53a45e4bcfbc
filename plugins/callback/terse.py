# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's default output, but the message of a failed task is printed once, and helper tasks of a loop over sites are hidden.

Ansible 2.19 and newer print a message twice: as an error with the playbook lines around the task, and as the result in
YAML. The lines help if a playbook is wrong, but not if an input is refused. -v shows everything.

A role that runs for each site takes three tasks of Ansible; only the line with the site's name is printed.
"""

from __future__ import annotations

DOCUMENTATION = """
name: terse
type: stdout
short_description: Ansible's default output, with the words of a failure once
description:
  - As P(ansible.builtin.default#callback), but a failed task of this collection, and one of
    M(ansible.builtin.assert), M(ansible.builtin.fail) or M(ansible.builtin.validate_argument_spec), is printed
    as its message alone. Included files, and facts that are set without a log, are not printed.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
author: The foobar web stack maintainers (!UNKNOWN)
"""

import gc
import textwrap
from typing import Any

from ansible import constants as C
from ansible.playbook.role_include import IncludeRole
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

SPEAK_FOR_THEMSELVES = (
    "foobar.webstack.",
    "ansible.builtin.assert",
    "ansible.builtin.fail",
    "ansible.builtin.validate_argument_spec",
)


class CallbackModule(Default):
    """Stdout callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "foobar.webstack.terse"

    def v2_playbook_on_play_start(self, play: Any) -> None:
        super().v2_playbook_on_play_start(play)
        # Each task is a fork of this process, and a garbage collection there would copy all that was loaded before it:
        # a tenth of the controller's time in a run with nothing to do.
        gc.collect()
        gc.freeze()

    def v2_runner_on_ok(self, result: Any) -> None:
        included = isinstance(result.task, TaskInclude) and not isinstance(result.task, IncludeRole)
        if self._display.verbosity > 0 or not (included or _tells_a_role(result.task)):
            super().v2_runner_on_ok(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if self._display.verbosity > 0:
            super().v2_playbook_on_include(included_file)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._display.verbosity > 0 or not (self._speaks(result) and result.result.get("_ansible_verbose_always")):
            super().v2_runner_item_on_ok(result)
            return
        self._say(result, "ok", C.COLOR_OK)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        if self._display.verbosity > 0 or not self._speaks(result):
            super().v2_runner_item_on_failed(result)
            return
        self._say(result, "fatal", C.COLOR_ERROR, " FAILED!")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if self._display.verbosity > 0 or not self._speaks(result):
            super().v2_runner_on_failed(result, ignore_errors)
            return
        if not (result.task.loop and result.result.get("results")):  # its items were printed already
            self._say(result, "fatal", C.COLOR_ERROR, " FAILED!")
        if ignore_errors:
            self._display.display("...ignoring", color=C.COLOR_SKIP)

    def _speaks(self, result: Any) -> bool:
        words = result.result.get("msg")
        return (
            str(result.task.action).startswith(SPEAK_FOR_THEMSELVES) and isinstance(words, str) and bool(words.strip())
        )

    def _say(self, result: Any, what: str, color: str, more: str = "") -> None:
        """The message of a task, with its host and loop item."""
        if self._last_task_banner != result.task._uuid:
            self._print_task_banner(result.task)
        self._handle_warnings(result.result)
        label = self._get_item_label(result.result)
        item = f" => (item={label})" if label is not None and "ansible_loop_var" in result.result else ""
        text = f"{what}: [{self.host_label(result)}]{item}{':' + more if more else ''}\n"
        failed = what == "fatal"
        self._display.display(
            text + textwrap.indent(result.result["msg"].strip(), "    "),
            color=color,
            stderr=failed and self.get_option("display_failed_stderr"),
        )


def _tells_a_role(task: Any) -> bool:
    """Whether a task only sets inputs for a role."""
    return str(task.action).endswith("set_fact") and bool(task.no_log)
