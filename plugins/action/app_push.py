# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_push: a commit goes from the controller's clone to the host, in one pipe."""

from __future__ import annotations

import secrets
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.module_utils.commits import Commits


class ActionModule(ActionBase):
    """Packs on the controller; needs no module on the host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                **{name: {"type": "str", "required": True} for name in ("app", "repository", "version")},
                "signers": {"type": "list", "elements": "str", "default": []},
            },
        )
        commits = _commits(args["repository"])
        commits.git("rev-parse", "--git-dir")  # says so where there is no repository
        commit = commits.resolve(args["version"])
        if args["signers"]:
            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as signers:
                signers.write("".join(f"{signer}\n" for signer in args["signers"]))
                signers.flush()
                commits.trust(commit, signers.name)
        archive = f"/var/cache/{args['app']}-{commit}-{secrets.token_hex(4)}.tar"
        if not self._task.check_mode:
            self._send(_archive(args["repository"], commit), archive)
        # It is gone when the change that it is for has unpacked it.
        return {"changed": False, "commit": commit, "archive": archive}

    def _send(self, content: bytes, path: str) -> None:
        name = shlex.quote(path)
        receive = f"umask 077 && cat > {name} || {{ rm -f {name}; exit 1; }}"
        outcome = self._low_level_execute_command(receive, in_data=content)
        if outcome["rc"] != 0:
            words = outcome["stderr"].strip() or outcome["stdout"].strip()
            raise AnsibleActionFail(f"The commit could not be put on the host; what is live goes on serving.\n{words}")


def _git(repository: str, *argv: str) -> bytes:
    done = subprocess.run(["git", "-C", repository, *argv], capture_output=True, check=False)
    if done.returncode != 0:
        raise AnsibleActionFail(
            f"git {next(word for word in argv if word[0] != '-' and '=' not in word)} in {repository}, on the controller: {done.stderr.decode().strip()}"
        )
    return done.stdout


def _commits(repository: str) -> Commits:
    def git(*argv: str) -> str:
        return _git(repository, *argv).decode(errors="surrogateescape")

    return Commits(git, AnsibleActionFail, f"{repository}, on the controller")


def _archive(repository: str, commit: str, prefix: str = "") -> bytes:
    """A tar of the commit, and of its submodules behind it."""
    tar = _git(repository, "archive", "--format=tar", f"--prefix={prefix}", commit)
    for path, part in _commits(repository).submodules(commit).items():
        if not Path(repository, path, ".git").exists():
            raise AnsibleActionFail(
                f"the submodule {prefix}{path} is not checked out in {repository}: git submodule update --init --recursive"
            )
        tar += _archive(str(Path(repository, path)), part, f"{prefix}{path}/")
    return tar
