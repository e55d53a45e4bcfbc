# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's default output, but what a failed task has to say stands there once, as it was written.

Ansible 2.19 and newer print it twice: as an error with the lines of the playbook around the task, and as the result, in
YAML. The lines matter where a playbook is wrong; a refusal of an input is wrong nowhere in it. -v brings all of it back.
"""

from __future__ import annotations

import textwrap
from typing import Any

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: terse
type: stdout
short_description: Ansible's default output, with the words of a failure once
description:
  - As P(ansible.builtin.default#callback), but a failed task of this collection, and one of
    M(ansible.builtin.assert), M(ansible.builtin.fail) or M(ansible.builtin.validate_argument_spec), is printed
    as its message alone.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
"""

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

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        words = result.result.get("msg")
        speaks = str(result.task.action).startswith(SPEAK_FOR_THEMSELVES) and isinstance(words, str) and words.strip()
        if not speaks or result.task.loop or self._display.verbosity > 0:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        if self._last_task_banner != result.task._uuid:
            self._print_task_banner(result.task)
        self._handle_warnings(result.result)
        text = f"fatal: [{self.host_label(result)}]: FAILED!\n{textwrap.indent(words.strip(), '    ')}"
        self._display.display(text, color=C.COLOR_ERROR, stderr=self.get_option("display_failed_stderr"))
        if ignore_errors:
            self._display.display("...ignoring", color=C.COLOR_SKIP)
