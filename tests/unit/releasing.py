"""An application of the release tool on a temporary tree: real sockets, and a systemctl that takes notes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loading import ROOT

sys.path.insert(0, str(ROOT / "roles/app_server/files"))
sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode  # no __pycache__ beside what is copied to hosts
from webstack_release import (  # noqa: E402
    asking,
    atomic,
    basics,
    build,
    change,
    cli,
    jobs,
    record,
    releases,
    repository,
    sandbox,
    slots,
    wheels,
)
from webstack_release.layout import Layout, other  # noqa: E402

sys.dont_write_bytecode = kept
__all__ = [
    "Layout",
    "asking",
    "atomic",
    "basics",
    "build",
    "change",
    "cli",
    "jobs",
    "other",
    "record",
    "releases",
    "repository",
    "sandbox",
    "slots",
    "wheels",
]

GOOD, NEXT = "20260101000000-aaaaaaaaaaaa", "20260102000000-bbbbbbbbbbbb"
SETTINGS = "the settings of now"
CONFIG = {
    "user": "app",
    "build_user": "app-build",
    "fetch_user": "app-fetch",
    "settings": SETTINGS,
    "repository": "https://git.example.com/app.git",
    "plugin": "python3",
    "modifier": 0,
    "entry": "app:application",
    "preload": False,
    "worker_data_mb": 0,
    "requirements": "requirements.txt",
    "static": "",
    "static_command": "",
    "migrate_command": "",
    "writable_paths": [],
    "readable_paths": [],
    "health_path": "/healthz",
    "health_reports_release": True,
    "health_answers": 3,
    "health_answer_seconds": 5,
    "health_seconds": 20,
    "drain_seconds": 0,
    "stop_seconds": 40,
    "keep": 3,
    "version": "main",
    "declared": "repo main",
    "push": False,
    "signers": [],
    "shared": [],
    "public_url": "",
    "watch_seconds": 0,
    "warm_seconds": 0,
    "notify_command": "",
    "folder": "",
    "pip_packages": [],
    "disk_mb": 0,
}
# A unit that systemd runs goes on: nothing here ends it.
SYSTEMD_RUN = r"""
case "$*" in *--wait*) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;; esac
cd "$SYSTEMD"
for word; do case $word in --unit=*) unit=${word#--unit=} ;; esac; done
[ ! -e "active-$unit" ] || { echo "Unit $unit was already loaded." >&2; exit 1; }
echo "run $unit" >> calls; : > "active-$unit"
"""


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch, command: Callable[[str, str], Path], tmp_path: Path) -> Iterator[Any]:
    """An application whose folders are all temporary, and whose users are all whoever runs the tests."""
    root = Path(tempfile.mkdtemp(prefix="ws-"))  # the path of a socket has 107 characters at most
    paths = Layout("app", root)
    users: list[tuple[str, str]] = []  # who ran what, in turn

    def run_as(
        self: Any, user: str, argv: list[str], *, writes: Any, seconds: float = 60, place: Path = Path("/"),
        settings: Any = (), stdin: Any = None, stdout: Any = None,
    ) -> str:  # fmt: skip
        users.append((user, next(word for word in argv if "=" not in word)))
        given = ["env", f"--chdir={place}", f"HOME={root}", "LANG=C.UTF-8", *argv]
        log = next((setting.split(":", 1)[1] for setting in settings if setting.startswith("StandardOutput=")), "")
        if log:
            given = ["sh", "-c", f'"$@" >> {log} 2>&1', "sh", *given]
        return basics.run(given, seconds=seconds, inner=argv, stdin=stdin, stdout=stdout)

    monkeypatch.setattr(sandbox.Sandbox, "run_as", run_as)
    monkeypatch.setattr(shutil, "chown", lambda *args: None)
    for module in (basics, slots):
        monkeypatch.setattr(module, "numbers", lambda owner, group: (os.getuid(), os.getgid()))
    me = str(os.getuid())
    monkeypatch.setattr(releases, "run", lambda argv: basics.run([me if word == "0" else word for word in argv]))
    mask = os.umask(0o022)
    for folder in (
        paths.config,
        paths.releases,
        paths.static,
        paths.fetch,
        paths.build,
        paths.socket("blue").parent,
        paths.marks,
    ):
        folder.mkdir(parents=True)
    (paths.config / "release.json").write_text(json.dumps(CONFIG))
    systemd = root / "systemd"
    systemd.mkdir()
    monkeypatch.setenv("SYSTEMD", str(systemd))
    command("systemd-run", SYSTEMD_RUN)

    def ldd(*paths: str) -> tuple[int, str, str]:
        return (
            0,
            "".join(f"{path}:\n\tlibpython3.so.1.0 => {library(root)} (0x00007f0000000000)\n" for path in paths),
            "",
        )

    # Asked some fifty times by a change: without a process each, unless a test puts one on PATH.
    fakes, really = {"systemctl": systemctl, "ldd": ldd}, subprocess.run

    def run(argv: list[Any], *more: Any, **options: Any) -> subprocess.CompletedProcess[Any]:
        if argv[0] not in fakes or (tmp_path / "bin" / argv[0]).exists():
            return really(argv, *more, check=options.pop("check", False), **options)
        return subprocess.CompletedProcess(argv, *fakes[argv[0]](*argv[1:]))

    monkeypatch.setattr(subprocess, "run", run)
    command("journalctl", f"cat {systemd}/journal 2>/dev/null || echo ImportError: no module named foobar")
    # What Debian's tmpfiles would do at each start.
    command("systemd-tmpfiles", f"ln -sfn {paths.live_link} {paths.public_link}")
    monkeypatch.setattr(cli, "Layout", lambda name: Layout(name, root))
    paths.public_link.parent.chmod(0o755)
    paths.socket("").parent.chmod(0o750)
    made = change.Application(paths)
    made.builder.make_folders()
    made.users, made.answering = users, []
    yield made
    for each in made.answering:
        each.close()
    os.umask(mask)
    shutil.rmtree(root)


def systemctl(verb: str, *words: str) -> tuple[int, str, str]:
    """Exit code, output and complaint. There is a file for each unit that is active, and for each that is enabled.

    `state` and `job` are files of those that are between two states.
    """
    name = words[-1] if words else ""
    active, enabled = mark("active", name), mark("enabled", name)
    if verb in ("start", "restart", "stop"):
        with open(Path(os.environ["SYSTEMD"], "calls"), "a", encoding="utf-8") as notes:
            notes.write(f"{verb} {name}\n")
    if verb == "start":
        if mark("broken", name).exists():
            return 1, "", f"Job for {name} failed.\n"
        mark("invocation", name).write_text(f"run {len(calls())}\n")
    if verb in ("start", "restart"):
        active.touch()
    if verb == "stop":
        active.unlink(missing_ok=True)
    if verb == "enable":
        enabled.touch()
    if verb == "disable":
        enabled.unlink(missing_ok=True)
    if verb in ("is-active", "is-enabled"):
        return int(not mark(verb.removeprefix("is-"), name).exists()), "", ""
    return 0, shown(*words) if verb == "show" else "", ""


def shown(*words: str) -> str:
    """What systemctl shows of units."""
    names = [word for word in words if not word.startswith("--")]
    (asked,) = (word.removeprefix("--property=").split(",") for word in words if word.startswith("--property="))
    blocks = []
    for name in names:
        known = {
            "ActiveState": "active"
            if mark("active", name).exists()
            else basics.read(mark("state", name)) or "inactive",
            "UnitFileState": "enabled" if mark("enabled", name).exists() else "disabled",
            "InvocationID": basics.read(mark("invocation", name)).strip(),
            "ExecMainStartTimestamp": basics.read(mark("started", name)).strip() or "@4000000000",
            **({"Job": "7"} if mark("job", name).exists() else {}),
        }
        told = {key: value for key, value in known.items() if key in asked}
        blocks.append("\n".join(value if "--value" in words else f"{key}={value}" for key, value in told.items()))
    return "\n\n".join(blocks) + "\n"


def a_release(application: Any, release: str, **known: Any) -> Path:
    place = application.paths.releases / release
    place.mkdir()
    made_of = {"commit": "c0ffee", "version": "main", "declared": "repo main", "static": "static", **known}
    application.paths.mark(release, "json").write_text(json.dumps(made_of))
    application.paths.mark(release, "verified").touch()
    return place


def bind(application: Any, slot: str, release: str, settings: str = SETTINGS) -> None:
    folder = application.paths.bound(slot)
    folder.mkdir(parents=True, exist_ok=True)
    files = slots.digest(folder)
    (folder / "slot").write_text(f"RELEASE={release}\nSLOT={slot}\nSETTINGS={settings}\nFILES={files}\n")


def make_live(application: Any, slot: str, release: str) -> None:
    """What a change that came to its end leaves."""
    bind(application, slot, release)
    (application.paths.bound(slot) / "started").write_text("run 0")
    Path(os.environ["SYSTEMD"], f"invocation-{application.paths.slot_unit(slot)}").write_text("run 0\n")
    atomic.link_atomically(application.paths.public_link, str(application.paths.live_link))
    atomic.link_atomically(application.paths.current, f"releases/{release}")
    atomic.link_atomically(application.paths.live_link, str(application.paths.socket(slot)))
    for state in ("active", "enabled"):
        unit(application, state, slot).touch()
    if not application.paths.socket(slot).exists():
        application.answering.append(Slot(application.paths.socket(slot), lambda _asked: says(release)))


def library(root: Path) -> Path:
    """What uWSGI's plugin is linked with."""
    return root / "libpython3.so.1.0"


def unit(application: Any, state: str, slot: str) -> Path:
    return mark(state, application.paths.slot_unit(slot))


def mark(state: str, name: str) -> Path:
    return Path(os.environ["SYSTEMD"], f"{state}-{name}")


def calls() -> list[str]:
    path = Path(os.environ["SYSTEMD"], "calls")
    return path.read_text().splitlines() if path.exists() else []


class Slot:
    """What answers on a slot's socket: `answer` gets the request's variables and returns all the bytes."""

    def __init__(self, path: Path, answer: Callable[[dict[str, str]], bytes]) -> None:
        self.answer, self.asked = answer, 0
        self.packets: list[bytes] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        path.chmod(0o666)  # as uWSGI does
        self.socket.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which must be gone before its number is used again
        self.thread.join(10)
        self.socket.close()

    def serve(self) -> None:
        while True:
            try:
                connection, _peer = self.socket.accept()
            except OSError:
                return
            with connection:
                head = connection.recv(4, socket.MSG_WAITALL)
                _modifier, size, _modifier2 = struct.unpack("<BHB", head)
                block = connection.recv(size, socket.MSG_WAITALL)
                self.packets.append(head + block)
                self.asked += 1
                with contextlib.suppress(OSError):  # who asked may have given up
                    connection.sendall(self.answer(variables(block)))


def variables(block: bytes) -> dict[str, str]:
    """The variables of a uwsgi packet, read by the protocol's own rules."""
    texts = []
    while block:
        (size,) = struct.unpack_from("<H", block)
        texts.append(block[2 : 2 + size].decode())
        block = block[2 + size :]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def says(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n\r\n{body}".encode()


@pytest.fixture
def slot(application: Any) -> Iterator[Callable[..., Slot]]:
    """Makes something answer on the socket of a slot."""
    made: list[Slot] = []

    def make(name: str, answer: Callable[[dict[str, str]], bytes]) -> Slot:
        made.append(Slot(application.paths.socket(name), answer))
        return made[-1]

    yield make
    for each in made:
        each.close()
