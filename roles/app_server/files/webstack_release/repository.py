"""The repository: a bare mirror on this host, or an archive that the controller has sent."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from .basics import ReleaseError
from .layout import Layout
from .sandbox import BUILD_SECONDS, Sandbox

GIT_SECONDS = 60  # an unreachable git host fails within this


class Repository:
    """What git has to do, as the fetching user."""

    def __init__(self, at: Layout, config: dict[str, Any], sandbox: Sandbox) -> None:
        self.at, self.config, self.sandbox = at, config, sandbox

    def git(self, *argv: str, seconds: float = BUILD_SECONDS, **options: Any) -> str:
        """Git in the mirror: never prompts, trusts only pinned host keys."""
        ssh = (
            f"ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o IdentitiesOnly=yes"
            f" -o StrictHostKeyChecking=yes -o UserKnownHostsFile={self.at.config}/known_hosts"
            f" -i {self.at.config}/deploy_key"
        )
        command = [f"GIT_SSH_COMMAND={ssh}", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "git"]
        limits = ["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30"]
        command += [*limits, "--git-dir", str(self.at.fetch / "mirror.git"), *argv]
        return self.sandbox.fetching(command, seconds=seconds, **options)

    def fetch(self, version: str) -> str:
        """Brings the mirror up to date; returns the commit that `version` names."""
        if not (self.at.fetch / "mirror.git/HEAD").exists():
            self.git("init", "--quiet", "--bare")
        refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        try:
            # A host that does not answer is found out soon; a first fetch may be long.
            self.git("ls-remote", "--quiet", "--heads", "--", self.config["repository"], seconds=GIT_SECONDS)
            self.git("fetch", "--quiet", "--prune", "--no-tags", "--", self.config["repository"], *refs)
        except ReleaseError as error:
            raise ReleaseError(
                f"The repository {self.config['repository']} could not be fetched; what is live goes on serving.\n{error}"
            ) from error
        return self.resolve(version)

    def resolve(self, version: str) -> str:
        """The full commit of a branch, a tag or an abbreviated commit, if it names exactly one."""
        if not re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z_./+-]*", version):
            raise ReleaseError(f"'{version}' is not the name of a branch, a tag or a commit")
        kinds = {"branch": f"refs/heads/{version}", "tag": f"refs/tags/{version}"}
        if re.fullmatch(r"[0-9a-f]{7,40}", version):
            kinds["commit"] = version
        found = {}
        for kind, name in kinds.items():
            with contextlib.suppress(ReleaseError):
                found[kind] = self.git(
                    "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
                ).strip()
        if not found:
            raise ReleaseError(f"'{version}' is no branch, tag or commit of {self.config['repository']}")
        if len(set(found.values())) > 1:
            listed = ", ".join(f"the {kind} is {commit[:12]}" for kind, commit in found.items())
            raise ReleaseError(f"'{version}' is ambiguous: {listed}. Give the commit.")
        return next(iter(found.values()))

    def archive(self, commit: str) -> Path:
        """A tar of the commit, out of the mirror."""
        tar = self.at.state / "export.tar"
        with open(tar, "wb") as handle:
            self.git("archive", "--format=tar", commit, stdout=handle)
        return tar
