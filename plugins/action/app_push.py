# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_push: sends a commit from the controller's clone to the host, through one pipe."""

from __future__ import annotations

import secrets
import shlex
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils.clone import Clone


class ActionModule(ActionBase):
    """Packs the archive on the controller; no module is needed on the host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                **{name: {"type": "str", "required": True} for name in ("app", "repository", "version")},
                "signers": {"type": "list", "elements": "str", "default": []},
            },
        )
        clone = Clone(args["repository"])
        commit = clone.resolve(args["version"])
        clone.trust(commit, args["signers"])
        archive = f"/var/cache/{args['app']}-{commit}-{secrets.token_hex(4)}.tar"
        if not self._task.check_mode:
            self._send(clone.archive(commit), archive)
        # The change that unpacks the archive removes it.
        return {"changed": False, "commit": commit, "archive": archive}

    def _send(self, content: bytes, path: str) -> None:
        name = shlex.quote(path)
        receive = f"umask 077 && cat > {name} || {{ rm -f {name}; exit 1; }}"
        outcome = self._low_level_execute_command(receive, in_data=content)
        if outcome["rc"] != 0:
            words = outcome["stderr"].strip() or outcome["stdout"].strip()
            raise AnsibleActionFail(f"The commit could not be put on the host; what is live goes on serving.\n{words}")
