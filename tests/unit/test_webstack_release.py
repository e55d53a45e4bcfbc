"""The release tool: on a temporary tree, with real git, real sockets, and a systemctl that takes notes."""

from __future__ import annotations

import contextlib
import gzip
import json
import multiprocessing
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loading import load

tool = load("roles/app_server/files/webstack-release")
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
    "requirements": "requirements.txt",
    "static": "",
    "static_command": [],
    "migrate_command": [],
    "writable_paths": [],
    "health_path": "/healthz",
    "health_reports_release": True,
    "health_answers": 3,
    "health_seconds": 20,
    "drain_seconds": 0,
    "stop_seconds": 40,
    "keep": 3,
}
# One file for each unit that is active, and for each that is enabled.
SYSTEMCTL = r"""
cd "$SYSTEMD"
for last; do :; done
case $1 in
  is-active) [ -e "active-$last" ] ;;
  is-enabled) [ -e "enabled-$last" ] ;;
  start) echo "start $last" >> calls; : > "active-$last"; echo "run $(wc -l < calls)" > "invocation-$last" ;;
  show) [ "$3" = --value ] && exec cat "invocation-$last"
    echo "InvocationID=$(cat "invocation-$last")"; echo "ExecMainStartTimestamp=$(cat "started-$last" 2>/dev/null)" ;;
  stop) echo "stop $last" >> calls; rm -f "active-$last" ;;
  enable) : > "enabled-$last" ;;
  disable) rm -f "enabled-$last" ;;
esac
"""


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[[str, str], Path]) -> Iterator[Any]:
    """An application whose folders are all temporary, and whose builder is whoever runs the tests."""
    run_folder = Path(tempfile.mkdtemp(prefix="ws-"))  # the path of a socket has 107 characters at most

    class Layout(tool.Layout):
        config = property(lambda self: tmp_path / "etc")
        home = property(lambda self: tmp_path / "srv")
        state = property(lambda self: tmp_path / "state")

        public_link = property(lambda self: run_folder / "live.sock")

        def socket(self, slot: str) -> Path:
            return run_folder / f"{slot}.sock"

    class Application(tool.Application):
        def __init__(self, app: str) -> None:
            super().__init__(app)
            self.users: list[tuple[str, str]] = []  # who ran what, in turn

        def settle(self) -> None:
            for folder in (self.at.releases, self.at.state / "slots", self.at.fetch, self.at.build):
                folder.mkdir(parents=True, exist_ok=True)

        def as_user(
            self, user: str, argv: list[str], *, writes: Any, seconds: float = 60, place: Path = Path("/"),
            settings: Any = (), stdin: Any = None, stdout: Any = None,
        ) -> str:  # fmt: skip
            self.users.append((user, next(word for word in argv if "=" not in word)))
            command = ["env", f"--chdir={place}", f"HOME={tmp_path}", "LANG=C.UTF-8", *argv]
            return tool.run(command, seconds=seconds, inner=argv, stdin=stdin, stdout=stdout)

    monkeypatch.setattr(tool, "Layout", Layout)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/release.json").write_text(json.dumps(CONFIG))
    systemd = tmp_path / "systemd"
    systemd.mkdir()
    monkeypatch.setenv("SYSTEMD", str(systemd))
    command("systemctl", SYSTEMCTL)
    command("journalctl", "echo ImportError: no module named foobar")
    # What Debian's tmpfiles would do at each start.
    command("systemd-tmpfiles", f"ln -sfn {tmp_path}/state/live.sock {run_folder}/live.sock")
    made = Application("app")
    made.settle()
    yield made
    shutil.rmtree(run_folder)


def a_release(application: Any, release: str, **record: str) -> Path:
    place = application.at.releases / release
    place.mkdir()
    (place / ".release.json").write_text(json.dumps({"commit": "c0ffee", "declared": "repo main", **record}))
    (place / ".verified").touch()
    return place


def make_live(application: Any, slot: str, release: str) -> None:
    """What a switch that came to its end leaves."""
    application.at.slot_file(slot).write_text(f"RELEASE={release}\nSLOT={slot}\nSETTINGS={SETTINGS}\n")
    application.at.stamp(slot).write_text("run 0")
    Path(os.environ["SYSTEMD"], f"invocation-{application.at.unit(slot)}").write_text("run 0\n")
    tool.link_atomically(application.at.public_link, str(application.at.live_link))
    tool.link_atomically(application.at.current, f"releases/{release}")
    tool.link_atomically(application.at.live_link, str(application.at.socket(slot)))
    for state in ("active", "enabled"):
        unit(application, state, slot).touch()


def unit(application: Any, state: str, slot: str) -> Path:
    return Path(os.environ["SYSTEMD"], f"{state}-{application.at.unit(slot)}")


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
        made.append(Slot(application.at.socket(name), answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


# Small parts


def test_there_is_always_another_slot():
    assert tool.idle("blue") == "green"
    assert tool.idle("green") == "blue"
    assert tool.idle(None) == "blue"


def test_run_returns_what_a_command_says():
    assert tool.run(["echo", "hello"]) == "hello\n"


def test_run_fails_with_the_words_of_the_command():
    with pytest.raises(tool.ReleaseError, match=r"sh failed:\nwhat went wrong\nand what it printed"):
        tool.run(["sh", "-c", "echo and what it printed; echo what went wrong >&2; exit 3"])


def test_run_gives_up_in_time():
    started = time.monotonic()
    with pytest.raises(tool.ReleaseError, match="sleep 60: no end after 0 s"):
        tool.run(["sleep", "60"], seconds=0.2)
    assert time.monotonic() - started < 10


def test_run_does_not_wait_for_somebody_to_type():
    assert tool.run(["cat"], seconds=10) == ""


def test_output_that_is_no_text_is_no_obstacle():
    assert tool.run(["printf", r"\377\376"]) == "��"


def test_a_link_is_replaced_in_one_step_and_left_overs_do_not_matter(tmp_path):
    link = tmp_path / "link"
    for target in ("first", "second"):
        (tmp_path / ".link.new").symlink_to("left over by a killed run")
        tool.link_atomically(link, target)
        assert os.readlink(link) == target
    assert os.listdir(tmp_path) == ["link"]


def test_a_file_is_replaced_in_one_step_with_its_mode(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    tool.write_atomically(path, "new", 0o600)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_that_a_repository_laid_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "..release.json.new").symlink_to(victim)
    tool.write_atomically(tmp_path / ".release.json", "{}")
    assert victim.read_text() == "precious"
    assert (tmp_path / ".release.json").read_text() == "{}"


def test_an_application_that_the_host_does_not_have_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tool.Layout, "config", property(lambda self: tmp_path / self.app))
    with pytest.raises(tool.ReleaseError, match="no application shop on this host"):
        tool.Application("shop")


# What is live, and what is to be done


def test_a_host_without_a_release_ships(application):
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["switch"], plan["slot"], plan["release"]) == (True, False, None, "")


def test_a_settled_host_has_nothing_to_do(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["switch"]) == (False, False)
    assert (plan["slot"], plan["release"], plan["active"], plan["settled"]) == ("green", GOOD, True, True)
    assert plan["commit"] == "c0ffee"


def test_a_changed_declaration_ships(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    plan = application.plan("repo v2", SETTINGS)
    assert (plan["ship"], plan["switch"]) == (True, False)


def test_a_live_release_that_vanished_from_the_disk_ships(application):
    shutil.rmtree(a_release(application, GOOD), ignore_errors=True)
    make_live(application, "green", GOOD)
    assert application.plan("repo main", SETTINGS)["ship"]


UNSETTLED = {
    "the live slot does not run": lambda app: unit(app, "active", "green").unlink(),
    "the live slot does not start at boot": lambda app: unit(app, "enabled", "green").unlink(),
    "the other slot runs": lambda app: unit(app, "active", "blue").touch(),
    "the other slot starts at boot": lambda app: unit(app, "enabled", "blue").touch(),
    "static files are another release's": lambda app: tool.link_atomically(app.at.current, f"releases/{NEXT}"),
    "static files are nobody's": lambda app: app.at.current.unlink(),
    "nginx connects elsewhere": lambda app: tool.link_atomically(app.at.public_link, "/nowhere"),
    "the settings changed": lambda app: app.at.slot_file("green").write_text(f"RELEASE={GOOD}\nSETTINGS=others\n"),
    "the process came back before its file was mended": lambda app: came_back(app, 1),
}


def came_back(application: Any, started: float) -> None:
    """Systemd has started the slot's process anew, and the file it reads was written just now."""
    Path(os.environ["SYSTEMD"], f"invocation-{application.at.unit('green')}").write_text("run 1\n")
    Path(os.environ["SYSTEMD"], f"started-{application.at.unit('green')}").write_text(f"@{started:.0f}\n")
    (application.at.config / "uwsgi.ini").write_text("[uwsgi]")


def test_a_process_that_came_back_after_the_last_change_is_right(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    came_back(application, time.time() + 60)
    assert not application.plan("repo main", SETTINGS)["switch"]


def test_settings_that_are_not_on_the_host_yet_are_told_by_a_dry_run(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    assert application.plan("repo main", "the settings of tomorrow")["switch"]


@pytest.mark.parametrize("disturb", UNSETTLED.values(), ids=UNSETTLED)
def test_what_is_not_settled_is_switched_and_not_shipped(application, disturb):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    disturb(application)
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["switch"]) == (False, True)


def test_the_file_that_binds_a_slot_is_read_back_whole(application):
    application.at.slot_file("blue").write_text("RELEASE=r\nSETTINGS=a=b\n")
    assert application.slot("blue") == {"RELEASE": "r", "SETTINGS": "a=b"}
    assert application.slot("green") == {}


# The question to a slot


def test_a_question_is_a_packet_of_the_uwsgi_protocol(application, slot):
    blue = slot("blue", lambda asked: says(json.dumps(asked)))
    status, body = tool.ask(application.at.socket("blue"), "/über?a=1&b=2", 5)
    asked = json.loads(body)
    assert status == 200
    assert (asked["REQUEST_METHOD"], asked["REQUEST_URI"]) == ("GET", "/über?a=1&b=2")
    assert (asked["PATH_INFO"], asked["QUERY_STRING"]) == ("/über", "a=1&b=2")
    modifier1, size, modifier2 = struct.unpack("<BHB", blue.packets[0][:4])
    assert (modifier1, modifier2, size) == (5, 0, len(blue.packets[0]) - 4)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (says("", "500 Internal Server Error"), (500, "")),
        (says("a\r\n\r\nb"), (200, "a\r\n\r\nb")),
        (b"HTTP/1.0 200 OK\r\n\r\n\xff", (200, "�")),
        (b"", (0, "")),
        (b"garbage", (0, "")),
    ],
)
def test_an_answer_is_taken_apart(application, slot, answer, outcome):
    slot("blue", lambda asked: answer)
    assert tool.ask(application.at.socket("blue"), "/", 0) == outcome


def test_silence_is_bounded(application, slot):
    over = threading.Event()
    slot("blue", lambda asked: over.wait(30) and b"")
    started = time.monotonic()
    with pytest.raises(OSError):
        tool.ask(application.at.socket("blue"), "/", 0, seconds=0.2)
    over.set()
    assert time.monotonic() - started < 5


def test_an_answer_that_trickles_is_bounded(application):
    """Each byte comes in time, the end never."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(application.at.socket("blue")))
        listener.listen()

        def trickle() -> None:
            connection, _peer = listener.accept()
            with connection:
                for _ in range(100):
                    time.sleep(0.1)
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        threading.Thread(target=trickle, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(OSError):
            tool.ask(application.at.socket("blue"), "/", 0, seconds=0.4)
        assert time.monotonic() - started < 5


# The gate


def test_the_gate_wants_right_answers_in_a_row(application, slot):
    answers = iter([says(GOOD), says(GOOD), says("", "500 Oops"), *[says(GOOD)] * 3])
    blue = slot("blue", lambda asked: next(answers))
    unit(application, "active", "blue").touch()
    application.gate("blue", GOOD)
    assert blue.asked == 6


GATED = {
    "another release": (says(f"I am {NEXT}"), "/healthz answered 200 without the id of the release: I am"),
    "an error": (says("no database", "503 Service Unavailable"), "/healthz answered 503: no database"),
    "nothing": (b"", "/healthz answered 0"),
}


@pytest.mark.parametrize(("answer", "words"), GATED.values(), ids=GATED)
def test_the_gate_stays_shut_for(application, slot, answer, words):
    slot("blue", lambda asked: answer)
    unit(application, "active", "blue").touch()
    application.config["health_seconds"] = 0.3
    with pytest.raises(tool.ReleaseError, match=words):
        application.gate("blue", GOOD)


def test_the_gate_does_not_wait_for_a_slot_that_is_dead(application):
    application.config["health_seconds"] = 60
    started = time.monotonic()
    with pytest.raises(tool.ReleaseError, match=f"Release {GOOD} does not start"):
        application.gate("blue", GOOD)
    assert time.monotonic() - started < 10


def test_the_gate_waits_for_a_slot_that_is_slow_to_start(application, slot):
    application.config["health_seconds"] = 20
    unit(application, "active", "blue").touch()
    threading.Timer(0.3, lambda: slot("blue", lambda asked: says(GOOD))).start()
    application.gate("blue", GOOD)


def test_an_application_that_does_not_name_its_release_may_be_let_in(application, slot):
    application.config["health_reports_release"] = False
    slot("blue", lambda asked: says("fine"))
    application.gate("blue", GOOD)


# The switch


def serving_what_it_is_bound_to(application: Any, name: str) -> Callable[[dict[str, str]], bytes]:
    return lambda asked: says(application.slot(name)["RELEASE"])


def test_a_switch_goes_to_the_idle_slot_and_stops_the_other_afterwards(application, slot):
    a_release(application, GOOD)
    a_release(application, NEXT)
    make_live(application, "blue", GOOD)
    slot("green", serving_what_it_is_bound_to(application, "green"))
    assert application.switch(NEXT) == {"changed": True, "release": NEXT, "slot": "green"}
    assert calls() == ["stop app@green.service", "start app@green.service", "stop app@blue.service"]
    assert os.readlink(application.at.live_link) == str(application.at.socket("green"))
    assert os.readlink(application.at.current) == f"releases/{NEXT}"
    assert application.status()["settled"]


def test_the_first_switch_needs_nothing_that_was_there_before(application, slot):
    a_release(application, GOOD)
    slot("blue", serving_what_it_is_bound_to(application, "blue"))
    assert application.switch(GOOD)["slot"] == "blue"
    assert application.status()["settled"]


def test_a_switch_without_a_name_takes_the_live_release_to_the_settings_of_now(application, slot):
    a_release(application, GOOD)
    make_live(application, "blue", GOOD)
    application.config["settings"] = "others"
    slot("green", serving_what_it_is_bound_to(application, "green"))
    assert application.switch("")["release"] == GOOD
    assert application.status()["settings_current"]


def test_a_switch_to_what_is_live_mends_without_a_restart(application):
    a_release(application, GOOD)
    make_live(application, "blue", GOOD)
    unit(application, "active", "green").touch()
    application.at.current.unlink()
    assert application.switch(GOOD)["slot"] == "blue"
    assert calls() == ["stop app@green.service"]
    assert application.status()["settled"]


def test_a_release_that_fails_the_gate_changes_nothing_for_visitors(application, slot):
    a_release(application, GOOD)
    a_release(application, NEXT)
    make_live(application, "blue", GOOD)
    slot("green", lambda asked: says("", "500 Oops"))
    application.config["health_seconds"] = 0.5
    with pytest.raises(tool.ReleaseError) as failure:
        application.switch(NEXT)
    assert "Nothing was switched." in str(failure.value)
    assert "ImportError: no module named foobar" in str(failure.value)
    assert os.readlink(application.at.live_link) == str(application.at.socket("blue"))
    assert application.status()["settled"] and application.status()["release"] == GOOD
    assert calls()[-1] == "stop app@green.service"


@pytest.mark.parametrize("release", ["", "no-such-release"])
def test_a_switch_to_a_release_that_is_not_there_is_refused_in_words(application, release):
    with pytest.raises(tool.ReleaseError, match=f"there is no release '{release}' on this host"):
        application.switch(release)
    assert calls() == []


# The disk


def test_the_oldest_releases_go_and_so_do_half_built_ones(application):
    names = [f"2026010{day}000000-{'a' * 12}" for day in range(1, 6)]
    for name in names:
        a_release(application, name)
    (application.at.releases / "20260109000000-half").mkdir()
    (a_release(application, "20260109000000-never-live") / ".verified").unlink()
    application.sweep()
    assert sorted(os.listdir(application.at.releases)) == names[-3:]


def test_a_release_that_a_slot_is_bound_to_never_goes(application):
    names = [f"2026010{day}000000-{'a' * 12}" for day in range(1, 9)]
    for name in names:
        a_release(application, name)
    make_live(application, "green", names[0])
    application.at.slot_file("blue").write_text(f"RELEASE={names[2]}\n")
    for keep in (3, 1):
        application.config["keep"] = keep
        application.sweep()
        assert sorted(os.listdir(application.at.releases)) == sorted([names[0], names[2], *names[-keep:]])


def test_what_somebody_left_among_the_releases_does_not_stop_a_sweep(application):
    elsewhere = application.at.home / "elsewhere"
    elsewhere.mkdir()
    (application.at.releases / "notes.txt").touch()
    (application.at.releases / "link").symlink_to(elsewhere)
    application.sweep()
    assert os.listdir(application.at.releases) == []
    assert elsewhere.is_dir()


def test_text_files_get_a_compressed_copy_and_others_do_not(tmp_path):
    static = tmp_path / "assets/deep"
    static.mkdir(parents=True)
    for name, size in {"a.css": 600, "b.js": 100, "c.png": 600}.items():
        (static / name).write_bytes(b"x" * size)
    (static / "d.svg").symlink_to("a.css")
    tool.compress_folder(tmp_path, "assets")
    assert sorted(os.listdir(static)) == ["a.css", "a.css.gz", "b.js", "c.png", "d.svg"]
    assert gzip.decompress((static / "a.css.gz").read_bytes()) == b"x" * 600
    first = (static / "a.css.gz").read_bytes()
    tool.compress_folder(tmp_path, "assets")
    assert (static / "a.css.gz").read_bytes() == first, "the same text, the same bytes"


def test_a_compressed_copy_is_not_written_through_a_link_of_the_repository(tmp_path):
    release = tmp_path / "release"
    (release / "static").mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (release / "static/a.css").write_text("x" * 600)
    (release / "static/a.css.gz").symlink_to(victim)
    tool.compress_folder(release, "static")
    assert victim.read_text() == "precious"
    assert not (release / "static/a.css.gz").is_symlink()


def test_a_folder_of_static_files_that_leads_out_of_the_release_is_refused(tmp_path):
    release, outside = tmp_path / "release", tmp_path / "outside"
    release.mkdir()
    outside.mkdir()
    (outside / "a.css").write_text("x" * 600)
    (release / "static").symlink_to(outside)
    with pytest.raises(tool.ReleaseError, match="no folder static"):
        tool.compress_folder(release, "static")
    assert os.listdir(outside) == ["a.css"]


def test_folders_that_links_lead_to_are_not_compressed(tmp_path):
    release, outside = tmp_path / "release", tmp_path / "outside"
    (release / "static").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.css").write_text("x" * 600)
    (release / "static/more").symlink_to(outside)
    tool.compress_folder(release, "static")
    assert os.listdir(outside) == ["a.css"]


def test_static_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(tool.ReleaseError, match="no folder assets for static files"):
        tool.compress_folder(tmp_path, "assets")


def test_a_finished_release_belongs_to_root_and_links_are_not_followed(tmp_path, monkeypatch):
    release, victim = tmp_path / "release", tmp_path / "victim"
    (release / "folder").mkdir(parents=True)
    (release / "folder/file").touch()
    victim.touch(mode=0o600)
    (release / "link").symlink_to(victim)
    owned: dict[str, bool] = {}
    monkeypatch.setattr(tool.os, "chown", lambda path, uid, gid, follow_symlinks: owned.update({path: follow_symlinks}))
    tool.hand_to_root(release)
    assert {os.path.normpath(path) for path in owned} == {
        str(release), str(release / "folder"), str(release / "folder/file"), str(release / "link"),
    }  # fmt: skip
    assert not any(owned.values())
    assert victim.stat().st_mode & 0o777 == 0o600


def test_nobody_but_root_can_write_in_a_finished_release(tmp_path, monkeypatch):
    script, folder = tmp_path / "script", tmp_path / "folder"
    script.touch()
    folder.mkdir()
    script.chmod(0o777)
    folder.chmod(0o775)
    monkeypatch.setattr(tool.os, "chown", lambda *args, **options: None)
    tool.hand_to_root(tmp_path)
    assert script.stat().st_mode & 0o777 == 0o755
    assert folder.stat().st_mode & 0o777 == 0o755


# One change at a time


def test_a_second_run_is_told_who_holds_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "LOCK_SECONDS", 0)
    monkeypatch.setattr(tool.sys, "argv", ["webstack-release", "app", "build"])
    app = str(tmp_path / "app")
    with tool.only_one(app), pytest.raises(tool.ReleaseError) as failure, tool.only_one(app):
        pass
    assert f"process {os.getpid()} (build) since 2" in str(failure.value)


def test_the_lock_ends_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(tool.sys, "argv", ["webstack-release", "app", "switch"])
    app = str(tmp_path / "app")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), tool.only_one(app):
            raise ZeroDivisionError
    assert (tmp_path / "app/lock").read_text().count("process") == 1


def test_a_second_run_waits_for_one_that_comes_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tool.sys, "argv", ["webstack-release", "app", "build"])
    app, held = str(tmp_path / "app"), threading.Event()

    def hold() -> None:
        with tool.only_one(app):
            held.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    with tool.only_one(app):
        pass
    holder.join()


def test_the_lock_ends_with_a_process_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "LOCK_SECONDS", 0)
    monkeypatch.setattr(tool.sys, "argv", ["webstack-release", "app", "build"])
    app, held = str(tmp_path / "app"), multiprocessing.get_context("fork").Event()

    def hold() -> None:
        with tool.only_one(app):
            held.set()
            time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=hold)
    process.start()
    assert held.wait(10)
    with pytest.raises(tool.ReleaseError), tool.only_one(app):
        pass
    process.kill()
    process.join()
    with tool.only_one(app):
        pass


# The repository


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A repository with a branch, a tag, a name that is both, and a branch that moved on."""
    path = tmp_path_factory.mktemp("upstream")

    def git(*argv: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
        return subprocess.run(
            ["git", *identity, *argv], cwd=path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    commits = []
    for number in (1, 2):
        (path / "app.py").write_text(f"number = {number}\n")
        git("add", "app.py")
        git("commit", "--quiet", "--message", str(number))
        commits.append(git("rev-parse", "HEAD"))
    first, second = commits
    git("tag", "v1", first)
    git("tag", "--annotate", "--message", "second", "v2", second)
    git("tag", "both", first)
    git("branch", "both", second)
    git("tag", "same", first)
    git("branch", "same", first)
    git("branch", "feature/x+y", first)
    return SimpleNamespace(path=path, git=git, first=first, second=second)


@pytest.fixture
def mirror(application: Any, upstream: SimpleNamespace) -> Any:
    application.config["repository"] = str(upstream.path)
    application.fetch("main")
    return application


@pytest.mark.parametrize(
    ("version", "commit"),
    [("main", "second"), ("v1", "first"), ("v2", "second"), ("feature/x+y", "first"), ("same", "first")],
)
def test_a_branch_or_a_tag_is_resolved_to_its_commit(mirror, upstream, version, commit):
    assert mirror.resolve(version) == getattr(upstream, commit)


def test_a_commit_is_resolved_whole_or_abbreviated(mirror, upstream):
    for length in (7, 12, 40):
        assert mirror.resolve(upstream.first[:length]) == upstream.first


def test_a_name_of_two_things_is_refused_with_both(mirror, upstream):
    with pytest.raises(tool.ReleaseError) as failure:
        mirror.resolve("both")
    assert "'both' is ambiguous" in str(failure.value)
    assert f"the branch is {upstream.second[:12]}" in str(failure.value)
    assert f"the tag is {upstream.first[:12]}" in str(failure.value)


@pytest.mark.parametrize("version", ["no-such-branch", "HEAD", "0" * 40, "abcdef0"])
def test_what_does_not_exist_is_said_so(mirror, version):
    with pytest.raises(tool.ReleaseError, match=f"'{version}' is no branch, tag or commit of"):
        mirror.resolve(version)


@pytest.mark.parametrize(
    "version", ["", "-x", "--upload-pack=touch x", "a b", "a\nb", "main^", "main~1", "@{1}", "$(id)", "a:b"]
)
def test_what_cannot_be_a_name_never_reaches_git(application, monkeypatch, version):
    monkeypatch.setattr(application, "git", lambda *argv: pytest.fail(f"git {argv}"))
    with pytest.raises(tool.ReleaseError, match="is not the name of a branch, a tag or a commit"):
        application.resolve(version)


def test_a_branch_that_moved_or_went_is_followed(mirror, upstream):
    upstream.git("branch", "moving", upstream.first)
    assert mirror.fetch("moving")["commit"] == upstream.first
    upstream.git("branch", "--force", "moving", upstream.second)
    assert mirror.fetch("moving")["commit"] == upstream.second
    upstream.git("branch", "--delete", "--force", "moving")
    with pytest.raises(tool.ReleaseError, match="is no branch"):
        mirror.fetch("moving")


def test_a_repository_that_cannot_be_reached_is_named_with_gits_words(application, tmp_path):
    application.config["repository"] = str(tmp_path / "gone")
    with pytest.raises(tool.ReleaseError) as failure:
        application.fetch("main")
    assert f"The repository {tmp_path / 'gone'} could not be fetched; what is live goes on serving." in str(
        failure.value
    )
    assert "git failed:\n" in str(failure.value)
    assert "does not appear to be a git repository" in str(failure.value)


# The build


@pytest.fixture
def buildable(mirror: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A mirror whose releases are built by whoever runs the tests, without a virtualenv."""
    mirror.config["plugin"] = "psgi"
    monkeypatch.setattr(tool.shutil, "chown", lambda *args: None)
    monkeypatch.setattr(tool.os, "chown", lambda *args, **options: None)
    return mirror


def test_a_build_holds_the_commit_and_remembers_what_it_was_made_of(buildable, upstream):
    release = buildable.build(upstream.first, "v1", "repo v1", None)["release"]
    place = buildable.at.releases / release
    assert release.endswith(f"-{upstream.first[:12]}")
    assert (place / "app.py").read_text() == "number = 1\n"
    record = buildable.record(release)
    assert (record["commit"], record["version"], record["declared"]) == (upstream.first, "v1", "repo v1")


def test_who_has_the_key_runs_git_alone_and_who_builds_has_no_key(buildable, upstream):
    buildable.config["static_command"] = ["make-assets"]
    with pytest.raises(tool.ReleaseError):
        buildable.build(upstream.first, "v1", "repo v1", None)
    assert set(buildable.users) == {("app-fetch", "git"), ("app-build", "tar"), ("app-build", "make-assets")}


def test_what_a_step_starts_ends_with_it(application, monkeypatch):
    seen: list[list[str]] = []
    monkeypatch.setattr(tool, "run", lambda argv, **_options: seen.append(argv) or "")
    tool.Application.as_user(application, "app-build", ["make"], writes=[Path("/a b")], seconds=7)
    (argv,) = seen
    assert argv[0] == "systemd-run" and argv[-2:] == ["/usr/bin/env", "make"]
    for setting in ("User=app-build", "RuntimeMaxSec=12", "ReadWritePaths=-/a b", "ProtectSystem=strict"):
        assert setting in argv


def test_a_build_that_fails_leaves_nothing(buildable, upstream):
    buildable.config["static_command"] = ["sh", "-c", "echo no such compiler >&2; exit 1"]
    with pytest.raises(tool.ReleaseError, match="no such compiler"):
        buildable.build(upstream.first, "v1", "repo v1", None)
    assert os.listdir(buildable.at.releases) == []


def test_static_files_are_compressed_only_when_nobody_else_can_interfere(buildable, upstream, monkeypatch):
    order = []
    monkeypatch.setattr(tool, "hand_to_root", lambda place: order.append("root"))
    monkeypatch.setattr(tool, "compress_folder", lambda place, static: order.append(static))
    buildable.config["static"] = "assets"
    buildable.build(upstream.first, "v1", "repo v1", None)
    assert order == ["root", "assets"]


def test_a_python_release_without_requirements_is_told_which_file_is_wanted(buildable, upstream):
    buildable.config["plugin"] = "python3"
    with pytest.raises(tool.ReleaseError, match=r"the commit has no requirements.txt.*app_server_requirements"):
        buildable.build(upstream.first, "v1", "repo v1", None)


@pytest.mark.parametrize("commit", ["main", "abc1234", "", "-" * 40, "../../../etc"])
def test_only_a_full_commit_is_built(buildable, commit):
    with pytest.raises(tool.ReleaseError, match="is not a full commit"):
        buildable.build(commit, "v1", "repo v1", None)


def test_an_archive_of_the_controller_is_unpacked_and_removed(buildable, upstream, tmp_path):
    archive = tmp_path / "push.tar"
    upstream.git("archive", "--format=tar", f"--output={archive}", upstream.second)
    release = buildable.build(upstream.second, "main", "pushed main", str(archive))["release"]
    assert (buildable.at.releases / release / "app.py").read_text() == "number = 2\n"
    assert not archive.exists()


# The command line


def test_an_error_is_one_message_and_no_traceback(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tool.Layout, "config", property(lambda self: tmp_path))
    monkeypatch.setattr(tool.sys, "argv", ["webstack-release", "app", "status"])
    assert tool.main() == 1
    assert capsys.readouterr().err.startswith("webstack-release: no application app on this host")


def test_status_is_printed_as_json(application, capsys, monkeypatch):
    monkeypatch.setattr(tool.sys, "argv", ["webstack-release", "app", "status"])
    assert tool.main() == 0
    assert json.loads(capsys.readouterr().out)["slot"] is None
