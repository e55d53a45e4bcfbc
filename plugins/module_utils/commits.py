# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which commit a name means, who has signed it, and its submodules.

The controller uses it for its clone (plugins/action/app_push.py). On hosts it is a part of webstack-release, which
uses it for its mirror and has no Ansible. Standard library only.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_./+-]*")


@dataclass(frozen=True)
class Commits:
    """Queries of one repository."""

    git: Callable[..., str]  # runs a git command there and returns its output
    refusal: type[Exception]  # raised by `git` if git fails, and by this class
    source: str  # name of the repository for error messages

    def resolve(self, version: str) -> str:
        """The full commit of a branch, a tag or an abbreviated commit, if it names exactly one."""
        if not NAME.fullmatch(version):
            raise self.refusal(f"'{version}' is not the name of a branch, a tag or a commit")
        kinds = {"branch": f"refs/heads/{version}", "tag": f"refs/tags/{version}"}
        if re.fullmatch(r"[0-9a-f]{7,64}", version):
            kinds["commit"] = version
        found = {}
        for kind, name in kinds.items():
            with contextlib.suppress(self.refusal):
                said = self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
                found[kind] = said.strip()
        if not found:
            raise self.refusal(f"'{version}' is no branch, tag or commit of {self.source}")
        if len(set(found.values())) > 1:
            listed = ", ".join(f"the {kind} is {commit[:12]}" for kind, commit in found.items())
            raise self.refusal(f"'{version}' is ambiguous: {listed}. Give the commit.")
        return next(iter(found.values()))

    def trust(self, commit: str, signers: str) -> None:
        """Refuses a commit unless a key of the file `signers` has signed it, or a tag of it."""
        settings = ["-c", f"gpg.ssh.allowedSignersFile={signers}"]
        # Accept no other kind of signature: git would verify it with keys of the user's keyring.
        settings += ["-c", "gpg.program=/bin/false", "-c", "gpg.x509.program=/bin/false"]
        try:
            self.git(*settings, "verify-commit", commit)
        except self.refusal as error:
            for tag in self.git("for-each-ref", f"--points-at={commit}", "--format=%(refname)", "refs/tags").split():
                with contextlib.suppress(self.refusal):
                    self.git(*settings, "verify-tag", tag)
                    return
            raise self.refusal(
                f"commit {commit[:12]} is signed by none of app_server_signers; what is live goes on serving.\n{error}"
            ) from error

    def submodules(self, commit: str) -> dict[str, str]:
        """The commit of each submodule, by its path."""
        listed = self.git("ls-tree", "-r", "-z", commit).split("\0")
        return {line.split("\t", 1)[1]: line.split()[2] for line in listed if line.startswith("160000 ")}
