# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asks a host once a run: later tasks with the same question get the registered answer."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from typing import Any

from ansible import constants

ASKED = "webstack_asked"  # in a registered result: the digest of the question


def ask_once(question: Any, task_vars: dict[str, Any], ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer that a registered result of this host holds, or else that of `ask`.

    Registered results end with the run: no cache of facts can answer for the host. `question` is all that the answer
    depends on.
    """
    # The question may hold passwords, and -v prints the digest. The name of Ansible's temporary folder, which is random
    # for each run, keeps passwords from being guessed from it.
    text = json.dumps(question, sort_keys=True, default=str).encode()
    key = hmac.new(constants.DEFAULT_LOCAL_TMP.encode(), text, "sha256").hexdigest()
    for value in list(task_vars.values()):
        if isinstance(value, dict) and value.get(ASKED) == key:
            return {name: item for name, item in value.items() if name not in ("warnings", "ansible_facts", "skipped")}
    answer = ask()
    return answer if answer.get("failed") else {**answer, ASKED: key}
