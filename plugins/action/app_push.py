# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_push: a commit goes from the controller's clone to the host, in one pipe."""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


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
        commit = _resolve(args["repository"], args["version"])
        if args["signers"]:
            _trust(args["repository"], args["version"], commit, args["signers"])
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


def _resolve(repository: str, version: str) -> str:
    """The full commit of a branch, a tag or an abbreviated commit, if it names exactly one."""
    if not re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_./+-]*", version):
        raise AnsibleActionFail(f"'{version}' is not the name of a branch, a tag or a commit")
    _git(repository, "rev-parse", "--git-dir")
    kinds = {"branch": f"refs/heads/{version}", "tag": f"refs/tags/{version}"}
    if re.fullmatch(r"[0-9a-f]{7,40}", version):
        kinds["commit"] = version
    found = {}
    for kind, name in kinds.items():
        with contextlib.suppress(AnsibleActionFail):
            said = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            found[kind] = said.decode().strip()
    if not found:
        raise AnsibleActionFail(f"'{version}' is no branch, tag or commit of {repository}, on the controller")
    if len(set(found.values())) > 1:
        listed = ", ".join(f"the {kind} is {commit[:12]}" for kind, commit in found.items())
        raise AnsibleActionFail(f"'{version}' is ambiguous: {listed}. Give the commit.")
    return next(iter(found.values()))


def _trust(repository: str, version: str, commit: str, signers: list[str]) -> None:
    """Refuses a commit that none of the signers has signed, by itself or by the tag that was asked for."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as handle:
        handle.write("".join(f"{signer}\n" for signer in signers))
        handle.flush()
        # Signatures of another kind would be judged by whatever keys this user has.
        allowed = ["-c", f"gpg.ssh.allowedSignersFile={handle.name}"]
        allowed += ["-c", "gpg.program=/bin/false", "-c", "gpg.x509.program=/bin/false"]
        try:
            _git(repository, *allowed, "verify-commit", commit)
        except AnsibleActionFail as error:
            with contextlib.suppress(AnsibleActionFail):
                _git(repository, *allowed, "verify-tag", f"refs/tags/{version}")
                return
            raise AnsibleActionFail(
                f"commit {commit[:12]} is signed by none of app_server_signers; what is live goes on serving.\n{error}"
            ) from error


def _archive(repository: str, commit: str, prefix: str = "") -> bytes:
    """A tar of the commit, and of its submodules behind it."""
    tar = _git(repository, "archive", "--format=tar", f"--prefix={prefix}", commit)
    for line in _git(repository, "ls-tree", "-r", "-z", commit).decode().split("\0"):
        if line.startswith("160000 "):
            path = line.split("\t", 1)[1]
            if not Path(repository, path, ".git").exists():
                raise AnsibleActionFail(
                    f"the submodule {prefix}{path} is not checked out in {repository}: git submodule update --init --recursive"
                )
            tar += _archive(str(Path(repository, path)), line.split()[2], f"{prefix}{path}/")
    return tar
