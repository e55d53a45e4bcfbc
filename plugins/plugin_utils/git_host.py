# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a git host says to the host that is about to fetch from it: asked as the fetch will ask, before anything changes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleActionFail
from ansible_collections.foobar.webstack.plugins.module_utils.commits import Commits
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import VARIABLE
from ansible_collections.foobar.webstack.plugins.plugin_utils.shell import complaint

REACH_SECONDS = 5  # for an address
GIVE_UP_SECONDS = 20  # for all of them, and for their names
ANSWER_SECONDS = 15  # for the names of branches and tags
# Where the host has rules of its own for how a git host is reached, a connection to it proves nothing.
ROUTED = "grep -rqsiE '^[^#]*(proxy|insteadof|hostname)' /etc/gitconfig /etc/ssh/ssh_config /etc/ssh/ssh_config.d"
# So do those of the environment that the fetch is given.
ROUTING = re.compile(r"(https|all)_proxy|git_.*", re.IGNORECASE)
REACH = (
    "import socket, sys\n"
    "try:\n"
    f"    socket.create_connection((sys.argv[1], int(sys.argv[2])), {REACH_SECONDS}).close()\n"
    "except OSError as error:\n"
    "    sys.exit(str(error))\n"
)
NO_WAY, NO_ANSWER, NO_GIT = 3, 4, 5  # exit codes of the script
COMMIT = re.compile(r"[0-9a-f]{7,64}")
# What git, ssh and the well-known git hosts say, by what it is about.
STRANGER = re.compile(r"host key verification failed|remote host identification|host key is known", re.IGNORECASE)
NOTHING = re.compile(
    r"does not appear to be a git repository|(?<!command )not found|not be found|does not exist", re.IGNORECASE
)
DENIED = re.compile(
    r"denied|authentication failed|could not read (username|password)|returned error: 40[13]|load key", re.IGNORECASE
)
COMMON = re.compile(
    r"fatal: Could not read from remote|Please make sure you have|and the repository exists|Warning: |^\s*$"
)


@dataclass(frozen=True)
class Question:
    """All that the answer of a git host depends on."""

    app: str
    repository: str
    version: str
    key: str = ""
    known_hosts: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)  # that the fetch is given
    user: str = ""  # who fetches, where the host has that user

    def script(self) -> str:
        """For a shell on the host. It is the input of that shell, so that neither key nor environment is on a command line.

        A host without git is only asked whether it gets a connection.
        """
        name, port = address(self.repository)
        reach = f"timeout {GIVE_UP_SECONDS} python3 -c {shlex.quote(REACH)} {shlex.quote(name)} {port} </dev/null"
        known = f"{ROUTED} || ! command -v python3 >/dev/null"
        routed = any(ROUTING.fullmatch(name) for name in self.environment)
        programs = ["/usr/bin/git"] if self.repository.startswith("https://") else ["/usr/bin/git", "/usr/bin/ssh"]
        return "\n".join([
            "" if routed else f"{known} || {reach} || exit {NO_WAY}",
            *(f"[ -x {program} ] || exit {NO_GIT}" for program in programs),
            # Of memory, and gone when this shell ends: the key, and what git is to find in its environment.
            "umask 077; folder=$(mktemp -d /run/webstack-ask.XXXXXX) || exit",
            """trap 'rm -rf "$folder"' EXIT; trap 'exit 1' HUP INT TERM; cd "$folder" || exit""",
            f"printf '%s' {shlex.quote(self.key)} > key",
            f"printf '%s\\n' {shlex.join(['', *self.known_hosts])} > known_hosts",
            f"printf '%s\\n' {shlex.quote(self.ask())} > ask",
            f"chown -R {self.user}: ." if self.user else "",
            f"{self.as_user()}env -i HOME=/var/lib/{self.app}/fetch PATH=/usr/bin:/bin LANG=C.UTF-8 "
            f"timeout -k 2 {ANSWER_SECONDS} sh ask </dev/null",
            f"code=$?; [ $code != 124 ] || exit {NO_ANSWER}; exit $code",
        ])  # fmt: skip

    def as_user(self) -> str:
        return f"setpriv --reuid={self.user} --regid={self.user} --clear-groups " if self.user else ""

    def ask(self) -> str:
        """What webstack-release will run, in the environment that it will have (webstack_release/repository.py)."""
        given = [
            f"export {name}={shlex.quote(str(text))}"
            for name, text in self.environment.items()
            if VARIABLE.fullmatch(name)
        ]
        refs = [f"refs/heads/{self.version}", f"refs/tags/{self.version}", f"refs/tags/{self.version}^{{}}"]
        argv = ["git", "--git-dir=none", "ls-remote", "--quiet", "--", self.repository, *refs]
        return "\n".join([
            *given,
            # Root has settings and keys of its own, which the fetch will not have.
            "own=none; [ ! -e /etc/ssh/ssh_config ] || own=/etc/ssh/ssh_config",
            'export GIT_SSH_COMMAND="ssh -F $own -o BatchMode=yes -o ConnectTimeout=10 -o IdentitiesOnly=yes'
            " -o IdentityAgent=none -o IdentityFile=$PWD/key -o StrictHostKeyChecking=yes"
            ' -o UserKnownHostsFile=$PWD/known_hosts"',
            "export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=/bin/false",
            f"exec {shlex.join(argv)}",
        ])  # fmt: skip

    def faults(self, outcome: dict[str, Any], what: str) -> list[str]:
        """What the outcome of the script means. `what`: the input that names the version."""
        name, port = address(self.repository)
        # A proxy's address may have a password in it.
        said = re.sub(r"//[^/@\s:]+:[^/@\s]*@", "//…@", complaint(outcome))
        said = re.sub(r'"?/run/webstack-ask\.\w+/key"?', "the key", said)
        lines = [line for line in said.splitlines() if not COMMON.search(line)] or [f"exit code {outcome['rc']}"]
        if outcome["rc"] == NO_GIT:
            return []
        if outcome["rc"] == NO_WAY:
            words = lines[-1] if complaint(outcome) else f"nothing within {GIVE_UP_SECONDS} s"
            return [f"app_server_repository: the host does not reach {name}, port {port}: {words}"]
        if outcome["rc"] == NO_ANSWER:
            return [f"app_server_repository: {name} did not say within {ANSWER_SECONDS} s what {self.repository} holds"]
        if outcome["rc"] == 0:
            return self.missing(outcome["stdout"], what)
        for pattern, words in (
            (STRANGER, f"app_server_known_hosts: {name} shows a key that is none of those of its lines there"),
            (NOTHING, f"app_server_repository: {name} has no {self.repository}, or does not show it to this host"),
            (DENIED, self.denied(name)),
        ):  # fmt: skip
            if found := [line for line in lines if pattern.search(line)]:
                return [f"{words}: {found[0].strip()}"]
        return [f"app_server_repository: the host cannot read {self.repository}: {lines[-1].strip()}"]

    def denied(self, name: str) -> str:
        if self.repository.startswith("https://"):
            return (
                f"app_server_repository: {name} wants a password for {self.repository}, or has no such repository; over ssh, "
                "with app_server_deploy_key_file, none is needed"
            )
        return (
            f"app_server_deploy_key_file: {name} does not let this key in; is its public half a deploy key of "
            f"{self.repository}, and has it no passphrase?"
        )

    def missing(self, said: str, what: str) -> list[str]:
        """A fault where the version is no branch and no tag, or two things. Of a commit, a git host says nothing."""
        refs = {name: commit for commit, _tab, name in (line.partition("\t") for line in said.splitlines())}

        def git(*argv: str) -> str:
            ref = argv[-1].removesuffix("^{commit}")
            if ref not in refs:
                raise AnsibleActionFail(ref)
            return refs.get(f"{ref}^{{}}", refs[ref])  # of a tag with a message: the commit that it is of

        if COMMIT.fullmatch(self.version) and not refs:
            return []
        try:
            Commits(git, AnsibleActionFail, self.repository).resolve(self.version)
        except AnsibleActionFail as error:
            return [f"{what}: {error}"]
        return []


def address(repository: str) -> tuple[str, int]:
    """Host and port of a repository's URL."""
    if "://" not in repository:  # user@host:path
        return repository.partition(":")[0].rpartition("@")[2], 22
    url = urlsplit(repository)
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 22)
