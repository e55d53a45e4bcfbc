# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible's default output, but what a failed task has to say stands there once.

Ansible 2.19 and newer print it twice: as an error with the lines of the playbook around the task, and as the
result. The lines matter where a playbook is wrong; a refusal of an input is wrong nowhere in it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

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
# Of Ansible's own look at a role's inputs: the whole spec, 7 kB of it, and its message once more.
LENGTHY = ("argument_spec_data", "validate_args_context", "argument_errors")


class CallbackModule(Default):
    """Stdout callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "foobar.webstack.terse"

    def _handle_exception(self, result: MutableMapping[str, Any], use_stderr: bool = False) -> None:
        task = getattr(self._current_task_result, "task", None)
        if task is not None and result.get("msg") and str(task.action).startswith(SPEAK_FOR_THEMSELVES):
            for name in ("exception", *LENGTHY):
                result.pop(name, None)
        super()._handle_exception(result, use_stderr)
