"""The repository: bare mirrors on this host, and archives of commits."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from .basics import ReleaseError, explained_as
from .commits import Commits
from .layout import Layout
from .sandbox import BUILD_SECONDS, Sandbox

GIT_SECONDS = 60  # limit for reaching the git host
FSCK_SECONDS = 300
MIRROR = "mirror.git"


class Repository:
    """Runs git as the fetching user."""

    def __init__(self, paths: Layout, config: dict[str, Any], sandbox: Sandbox) -> None:
        self.paths, self.config, self.sandbox = paths, config, sandbox

    def git(self, *argv: str, mirror: str = MIRROR, seconds: float = BUILD_SECONDS, **options: Any) -> str:
        """Runs git in a mirror. It never prompts, and trusts only pinned host keys."""
        ssh = (
            f"ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o IdentitiesOnly=yes"
            f" -o StrictHostKeyChecking=yes -o UserKnownHostsFile={self.paths.config}/known_hosts"
            f" -i {self.paths.config}/deploy_key"
        )
        command = [f"GIT_SSH_COMMAND={ssh}", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "git"]
        limits = ["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30"]
        command += [*limits, "--git-dir", str(self.paths.fetch / mirror), *argv]
        return self.sandbox.fetching(command, seconds=seconds, **options)

    def fetch(self, version: str) -> str:
        """Brings the mirror up to date; returns the commit that `version` names."""
        refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        with explained_as(
            f"The repository {self.config['repository']} could not be fetched; what is live goes on serving."
        ):
            self.update(MIRROR, self.config["repository"], "--prune", *refs)
        commit = self.resolve(version)
        if self.config["signers"]:
            self.commits().trust(commit, f"{self.paths.config}/signers")
        return commit

    def update(self, mirror: str, url: str, *refs: str) -> None:
        """Fetches into a mirror. A mirror that a power cut has damaged is made again."""
        # First with a short limit, to notice an unreachable host. The fetch itself may take long.
        self.git("ls-remote", "--quiet", "--heads", "--", url, mirror=mirror, seconds=GIT_SECONDS)
        for last in (False, True):
            if not (self.paths.fetch / mirror / "HEAD").exists():
                self.git("init", "--quiet", "--bare", mirror=mirror)
            try:
                self.git("fetch", "--quiet", "--no-tags", url, *refs, mirror=mirror)
                return
            except ReleaseError:
                if last or self.is_intact(mirror):
                    raise
                shutil.rmtree(self.paths.fetch / mirror)

    def is_intact(self, mirror: str) -> bool:
        """Whether a mirror is complete and has no lock of a killed git. If so, a failed fetch has another cause."""
        try:
            self.git("fsck", "--connectivity-only", "--no-dangling", mirror=mirror, seconds=FSCK_SECONDS)
        except ReleaseError:
            return False
        return not any((self.paths.fetch / mirror).rglob("*.lock"))

    def commits(self, mirror: str = MIRROR) -> Commits:
        return Commits(functools.partial(self.git, mirror=mirror), ReleaseError, self.config["repository"])

    def resolve(self, version: str) -> str:
        return self.commits().resolve(version)

    def archive(self, commit: str) -> Path:
        """A tar archive of the commit and its submodules, from the mirrors."""
        tar = self.paths.state / "export.tar"
        with open(tar, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as handle:
            self.git("archive", "--format=tar", commit, stdout=handle)
            self.add_submodules(handle, commit, MIRROR, self.config["repository"], "")
        return tar

    def add_submodules(self, handle: Any, commit: str, mirror: str, url: str, prefix: str) -> None:
        """Fetches the submodules of a commit, each into its own mirror, and adds them to the archive."""
        for path, module in self.submodules(commit, mirror).items():
            source = submodule_url(url, module["url"])
            name = f"module-{hashlib.sha256(source.encode()).hexdigest()[:16]}.git"
            with explained_as(f"The submodule {prefix}{path} could not be fetched from {source}."):
                self.update(name, source, module["commit"])
            self.git(
                "archive", "--format=tar", f"--prefix={prefix}{path}/", module["commit"], mirror=name, stdout=handle
            )
            self.add_submodules(handle, module["commit"], name, source, f"{prefix}{path}/")

    def submodules(self, commit: str, mirror: str) -> dict[str, dict[str, str]]:
        """Commit and URL of each submodule, by its path."""
        commits = self.commits(mirror).submodules(commit)
        if not commits:
            return {}
        said = self.git("config", "--blob", f"{commit}:.gitmodules", "--null", "--list", mirror=mirror)
        settings = dict(entry.split("\n", 1) for entry in said.split("\0") if "\n" in entry)
        paths = {path: key.removesuffix(".path") for key, path in settings.items() if key.endswith(".path")}
        missing = [path for path in commits if path not in paths or f"{paths[path]}.url" not in settings]
        if missing:
            raise ReleaseError(f"the commit's .gitmodules does not say where {', '.join(missing)} comes from")
        return {path: {"commit": commits[path], "url": settings[f"{paths[path]}.url"]} for path in commits}


def submodule_url(base: str, url: str) -> str:
    """The URL of a submodule. It may be relative to the URL of its repository."""
    if url.startswith(("./", "../")):
        base = base.rstrip("/") + "/"
        while url.startswith(("./", "../")):
            step, url = url.split("/", 1)
            if step == "..":
                base = re.sub(r"[^/:]*/$", "", base)  # the rest ends in a slash, or in the colon of user@host:path
        return base + url
    if not re.fullmatch(r"(https://|ssh://|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:)[A-Za-z0-9._~:/@+%-]+", url):
        raise ReleaseError(f"a submodule comes from '{url}', which is neither https://… nor ssh")
    return url
