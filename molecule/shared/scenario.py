"""Fixtures of the scenarios' tests: the hosts, and runs of the scenario's own playbook on them.

Molecule loads this as a pytest plugin (.config/molecule/config.yml).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import testinfra.backend.docker
import yaml
from entering import ENVIRONMENT, NSENTER, Whereabouts, enterable, whereabouts, write_inventory

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
INVENTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory"
RUN_SECONDS = 600  # a run that takes longer hangs
# Where the runs have their temporary files, and the facts about the hosts: these stay the same, so
# the first run asks and the others remember. (Molecule's own runs, before the tests, ask each time.)
SCRATCH = tempfile.TemporaryDirectory(prefix="scenario-")
Host = testinfra.host.Host


@dataclass(frozen=True)
class Run:
    """The outcome of one ansible-playbook run over all hosts of the scenario."""

    ok: bool
    changed: list[str]  # "host: task" of every task that changed something
    output: str  # what an operator would have seen

    def must_succeed(self) -> Run:
        assert self.ok, self.output
        return self

    def must_be_refused(self, *words: str) -> Run:
        """It failed, changed nothing, and said every one of `words` (line breaks do not count)."""
        assert not self.ok, f"expected a refusal:\n{self.output}"
        assert self.changed == [], self.output
        return self.must_say(*words)

    def must_fail(self, *words: str) -> Run:
        """It failed and said every one of `words`."""
        assert not self.ok, f"expected a failure:\n{self.output}"
        return self.must_say(*words)

    def must_say(self, *words: str) -> Run:
        flat = " ".join(self.output.split())
        missing = [word for word in words if " ".join(word.split()) not in flat]
        assert not missing, f"not said: {missing}\n{self.output}"
        return self


def names() -> list[str]:
    """The hosts of the scenario, which are containers of the same name."""
    platforms = yaml.safe_load((INVENTORY / "ansible_inventory.yml").read_text(encoding="utf-8"))
    return sorted(platforms["all"]["hosts"])


class Container(testinfra.backend.docker.DockerBackend):
    """testinfra's, but it enters the container where it can."""

    now = Whereabouts("", 0, "", 0)

    def run(self, command: str, *args: str, **options: Any) -> testinfra.backend.base.CommandResult:
        # After a reboot, the number of its process may be that of any other on this machine.
        if not enterable(self.now.id, self.now.pid):
            self.now = whereabouts(self.name)[self.name]
        if self.user or not enterable(self.now.id, self.now.pid):
            return super().run(command, *args, **options)
        words = [*NSENTER, f"--target={self.now.pid}", *ENVIRONMENT, "/bin/sh", "-c", self.get_command(command, *args)]
        return self.run_local(" ".join(["%s"] * len(words)), *words)


testinfra.backend.BACKENDS["docker"] = f"{__name__}.Container"


def until(question: Callable[[], Any], seconds: float = 60) -> None:
    """Waits for `question` to be true; that it cannot be asked, or answered, counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        said: Any = ""
        try:
            if question():
                return
        except (AssertionError, OSError, ValueError) as error:
            said = error
        assert time.monotonic() < deadline, f"not within {seconds} s: {said}"
        time.sleep(0.1)


def at_once(work: Callable[[Host], Any], hosts: list[Host]) -> list[Any]:
    """What `work` returns for each host, all at the same time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, hosts))


# Until its input ends, it looks into files of all processes.
WATCH = """
import glob, select, sys
secret, met = sys.stdin.buffer.readline().strip(), set()
while not select.select([sys.stdin], [], [], 0.03)[0]:
    for path in (path for name in sys.argv[1:] for path in glob.glob("/proc/[0-9]*/" + name)):
        try:
            with open(path, "rb") as handle:
                text = handle.read()
        except OSError:
            continue
        if secret in text:
            met.add(text.replace(bytes(1), b" "))
print(*met)
"""


@contextlib.contextmanager
def watched(servers: list[Host], secret: str, *files: str) -> Iterator[list[str]]:
    """Looks into all processes of the hosts as long as the block lasts; afterwards the list has those with the secret.

    `files` are of /proc: cmdline, environ.
    """
    met: list[str] = []
    watchers = [
        subprocess.Popen(
            ["docker", "exec", "--interactive", server.backend.name, "python3", "-c", WATCH, *files],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for server in servers
    ]  # fmt: skip
    try:
        for watcher in watchers:
            watcher.stdin.write(secret + "\n")
            watcher.stdin.flush()
        yield met
    finally:
        met += [said for watcher in watchers if (said := watcher.communicate(timeout=60)[0].strip())]
    assert all(watcher.returncode == 0 for watcher in watchers)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `server` runs once for each host of the scenario."""
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", names(), indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: it takes long, and is left to THOROUGH=true")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is thorough. Of a test that runs on several hosts, one is taken, another for each test."""
    if os.environ.get("THOROUGH") == "true":
        return
    hosts = set(names())
    same: dict[str, list[pytest.Item]] = {}
    for item in items:
        given = getattr(item, "callspec", None)
        on = [value for value in given.params.values() if isinstance(value, str) and value in hosts] if given else []
        if not item.get_closest_marker("thorough"):
            same.setdefault(item.nodeid.replace(on[0], "") if on else item.nodeid, []).append(item)
    taken = {tests[zlib.crc32(key.encode()) % len(tests)] for key, tests in same.items()}
    config.hook.pytest_deselected(items=[item for item in items if item not in taken])
    items[:] = [item for item in items if item in taken]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host(f"docker://{request.param}")


@pytest.fixture
def servers() -> list[Host]:
    return [testinfra.get_host(f"docker://{name}") for name in names()]


def entered() -> dict[str, str]:
    """Writes down how Ansible enters the hosts now, which may have been rebooted; returns their addresses."""
    return write_inventory(INVENTORY / "ways.json", *names())


def playbook(
    *arguments: str,
    name: str = "converge.yml",
    inventory: Path = INVENTORY,
    kill_after: float = RUN_SECONDS,
    kill_when: Callable[[], bool] = lambda: False,
    niceness: int = 0,
    **variables: Any,
) -> Run:
    """Runs a playbook of the scenario with extra variables; arguments such as --check go through.

    With `niceness` 19 it takes the time that the hosts leave, as if it ran on another machine: all containers together
    have the weight of one process of this one.
    After `kill_after` seconds, or when that is true, the run is killed, and subprocess.TimeoutExpired raised.
    """
    recap = Path(tempfile.mkstemp(prefix="changed-", dir=SCRATCH.name)[1])  # another run may go on at the same time
    addresses = entered()
    command = ["nice", "-n", str(niceness)]
    command += ["ansible-playbook", "--inventory", str(inventory), str(SCENARIO / name), *arguments]
    command += ["--extra-vars", json.dumps({"addresses": addresses, **variables})]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
        "TMPDIR": SCRATCH.name,
        "ANSIBLE_LOCAL_TEMP": SCRATCH.name,
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": SCRATCH.name + "/facts",
        "ANSIBLE_CONNECTION_PLUGINS": str(PROJECT / "molecule/shared/connection"),
        "ANSIBLE_CALLBACK_PLUGINS": str(PROJECT / "molecule/shared/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "changed_tasks",
        "CHANGED_TASKS_FILE": str(recap),
        "ANSIBLE_FORCE_COLOR": "false",
    }
    run = subprocess.Popen(
        command, env=environment, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + kill_after
    while True:
        try:
            out, err = run.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline and not kill_when():
                continue
            os.killpg(run.pid, signal.SIGKILL)  # with the processes of its tasks
            run.communicate()
            raise subprocess.TimeoutExpired(command, kill_after) from None
    changed = recap.read_text(encoding="utf-8").splitlines()
    return Run(run.returncode == 0, changed, out + err)


def each(debian12: dict[str, Any], debian13: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    """Variables of a run that are others on each host; the same names for all. A host's own name says which it is."""
    by_host = {"debian12": debian12, "debian13": debian13, **others}
    assert all(values.keys() == debian12.keys() for values in by_host.values())
    one = "{{{{ by_host[inventory_hostname.split('-')[1]]['{}'] }}}}"
    return {"by_host": by_host, **{name: one.format(name) for name in debian12}}


@pytest.fixture
def converge() -> Callable[..., Run]:
    return playbook


@pytest.fixture
def restored() -> Iterator[None]:
    """For tests that disturb the hosts: afterwards they are converged again, and quiet."""
    yield
    playbook().must_succeed()
