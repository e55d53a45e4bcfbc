# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A git clone on the controller: the commit of a name, its signature, its submodules, its archive."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible_collections.foobar.webstack.plugins.module_utils.commits import Commits


class Clone:
    """Queries of a clone. Errors are AnsibleActionFail, with a message for the operator."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.commits = Commits(self._said, AnsibleActionFail, f"{repository}, on the controller")

    def git(self, *argv: str) -> bytes:
        try:
            done = subprocess.run(["git", "-C", self.repository, *argv], capture_output=True, check=False)
        except FileNotFoundError as error:
            raise AnsibleActionFail("app_server_push needs git on the controller, which lacks it") from error
        if done.returncode != 0:
            command = next(word for word in argv if word[0] != "-" and "=" not in word)
            raise AnsibleActionFail(
                f"git {command} in {self.repository}, on the controller: {done.stderr.decode().strip()}"
            )
        return done.stdout

    def _said(self, *argv: str) -> str:
        return self.git(*argv).decode(errors="surrogateescape")

    def resolve(self, version: str) -> str:
        """The commit of a branch, tag or abbreviated commit."""
        self.git("rev-parse", "--git-dir")  # fails with git's message if this is no repository
        return self.commits.resolve(version)

    def trust(self, commit: str, signers: list[str]) -> None:
        """Refuses a commit that none of `signers` has signed; without signers, any is accepted."""
        if signers:
            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as known:
                known.write("".join(f"{signer}\n" for signer in signers))
                known.flush()
                self.commits.trust(commit, known.name)

    def parts(self, commit: str, prefix: str = "") -> Iterator[tuple[Clone, str, str]]:
        """Clone, commit and folder of the commit itself and of each submodule."""
        yield self, commit, prefix
        for path, part in self.commits.submodules(commit).items():
            if not Path(self.repository, path, ".git").exists():
                raise AnsibleActionFail(
                    f"the submodule {prefix}{path} is not checked out in {self.repository}: "
                    "git submodule update --init --recursive"
                )
            yield from Clone(str(Path(self.repository, path))).parts(part, f"{prefix}{path}/")

    def look_whole(self, commit: str) -> None:
        """Refuses a commit if a submodule is missing in the clone, or its commit is."""
        for clone, part, _prefix in self.parts(commit):
            clone.git("cat-file", "-e", f"{part}^{{commit}}")

    def archive(self, commit: str) -> bytes:
        """A tar archive of the commit and its submodules."""
        return b"".join(
            clone.git("archive", "--format=tar", f"--prefix={prefix}", part)
            for clone, part, prefix in self.parts(commit)
        )
