"""The parts of the release tool: on a temporary tree, with real git, real sockets, and a systemctl that takes notes."""

from __future__ import annotations

import ensurepip
import grp
import gzip
import hashlib
import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from releasing import (  # fmt: skip
    CONFIG,
    GOOD,
    NEXT,
    SETTINGS,
    Layout,
    a_release,
    asking,
    atomic,
    basics,
    bind,
    build,
    change,
    cli,
    library,
    make_live,
    other,
    record,
    repository,
    sandbox,
    says,
    slots,
    unit,
    wheels,
)

# Small parts


def test_there_is_always_another_slot():
    assert other("blue") == "green"
    assert other("green") == "blue"
    assert other(None) == "blue"


def test_run_returns_what_a_command_says():
    assert basics.run(["echo", "hello"]) == "hello\n"


def test_run_fails_with_the_words_of_the_command():
    with pytest.raises(basics.ReleaseError, match=r"sh failed:\nwhat went wrong\nand what it printed"):
        basics.run(["sh", "-c", "echo and what it printed; echo what went wrong >&2; exit 3"])


def test_run_gives_up_in_time():
    started = time.monotonic()
    with pytest.raises(basics.ReleaseError, match="sleep 60: no end after 0 s"):
        basics.run(["sleep", "60"], seconds=0.2)
    assert time.monotonic() - started < 10


def test_run_does_not_wait_for_somebody_to_type():
    assert basics.run(["cat"], seconds=10) == ""


def test_output_that_is_no_text_is_no_obstacle():
    assert basics.run(["printf", r"\377\376"]) == "��"


def test_a_link_is_replaced_in_one_step_and_left_overs_do_not_matter(tmp_path):
    link = tmp_path / "link"
    for target in ("first", "second"):
        (tmp_path / ".link.new").symlink_to("left over by a killed run")
        atomic.link_atomically(link, target)
        assert os.readlink(link) == target
    assert os.listdir(tmp_path) == ["link"]


def test_a_file_is_replaced_in_one_step_with_its_mode(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    atomic.write_atomically(path, "new", 0o600)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_that_a_repository_laid_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "..release.json.new").symlink_to(victim)
    atomic.write_atomically(tmp_path / ".release.json", "{}")
    assert victim.read_text() == "precious"
    assert (tmp_path / ".release.json").read_text() == "{}"


def test_an_application_that_the_host_does_not_have_is_named(tmp_path):
    with pytest.raises(basics.ReleaseError, match="no application shop on this host"):
        change.Application(Layout("shop", tmp_path))


# What is live, and what is to be done


def test_a_host_without_a_release_ships(application):
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["renew"], plan["slot"], plan["release"]) == (True, False, None, "")


def test_a_committed_host_has_nothing_to_do(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["renew"]) == (False, False)
    assert (plan["slot"], plan["release"], plan["active"], plan["committed"]) == ("green", GOOD, True, True)
    assert plan["commit"] == "c0ffee"


def test_a_changed_declaration_ships(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    plan = application.plan("repo v2", SETTINGS)
    assert (plan["ship"], plan["renew"]) == (True, False)


def test_a_live_release_that_vanished_from_the_disk_ships(application):
    shutil.rmtree(a_release(application, GOOD), ignore_errors=True)
    make_live(application, "green", GOOD)
    assert application.plan("repo main", SETTINGS)["ship"]


UNSETTLED = {
    "the live slot does not run": lambda app: unit(app, "active", "green").unlink(),
    "the live slot does not start at boot": lambda app: unit(app, "enabled", "green").unlink(),
    "the other slot runs": lambda app: unit(app, "active", "blue").touch(),
    "the other slot starts at boot": lambda app: unit(app, "enabled", "blue").touch(),
    "static files are another release's": lambda app: atomic.link_atomically(app.paths.current, f"releases/{NEXT}"),
    "static files are nobody's": lambda app: app.paths.current.unlink(),
    "the link to the live slot leads nowhere": lambda app: lead_live(app, "/nowhere/at-all.sock"),
    "the link to the live slot is gone": lambda app: lead_live(app, ""),
    "what the live slot is bound to is garbage": lambda app: (app.paths.bound("green") / "slot").write_bytes(
        b"\xff\0="
    ),
    "what the live slot is bound to is torn": lambda app: (app.paths.bound("green") / "slot").write_text("RELE"),
    "what became of the last change is torn": lambda app: app.paths.change.write_text('{"id": "1", "verd'),
    "nginx connects elsewhere": lambda app: atomic.link_atomically(app.paths.public_link, "/nowhere"),
    "the settings changed": lambda app: bind(app, "green", GOOD, "others"),
    "somebody edited what the slot is bound to": lambda app: (app.paths.bound("green") / "uwsgi.ini").write_text(
        "[uwsgi]"
    ),
    "the process came back before its file was mended": lambda app: came_back(app, 1),
    "a library was upgraded since it started": lambda app: upgraded(app, 1),
}


def take_orders(application: Any) -> None:
    ini = application.paths.bound("green") / "uwsgi.ini"
    ini.write_text(f"[uwsgi]\nmaster-fifo = {application.paths.public_link.parent}/slots/$(SLOT).fifo\n")
    bind(application, "green", GOOD)


# What keeps nginx from the live slot, or lets others at what it runs, however it came about; and the words for it.
TROUBLES = {
    "the socket is gone": (lambda app: app.paths.socket("green").unlink(), "green.sock is missing"),
    "the socket has another mode": (lambda app: app.paths.socket("green").chmod(0o640), "green.sock has the mode 0640, with which nginx may not connect"),
    "the socket is a file": (lambda app: (app.paths.socket("green").unlink(), app.paths.socket("green").touch()), "green.sock is no socket"),
    "nobody listens": (lambda app: app.answering.pop().close(), "green.service does not answer: Connection refused"),
    "it hangs": (lambda app: hang(app, 2), "app@green.service does not answer within 0.2 s"),
    "it ends connections": (lambda app: setattr(app.answering[0], "answer", lambda _asked: b""), "ends connections without an answer"),
    "its FIFO is gone": (take_orders, "green.fifo is missing, on which uWSGI takes orders"),
    "nginx may not enter the folder of sockets": (lambda app: app.paths.socket("").parent.chmod(0o700), "slots has the mode 0700 instead of 0750"),
    "nginx may not enter the folder above": (lambda app: app.paths.public_link.parent.chmod(0o700), "run/app has the mode 0700 instead of 0755"),
    "nginx may not follow the link on the disk": (lambda app: app.paths.state.chmod(0o700), "var/lib/app has the mode 0700 instead of 0755"),
    "others may write the code": (lambda app: (app.paths.releases / GOOD).chmod(0o777), f"{GOOD} can be changed by others than root"),
    "others may put releases there": (lambda app: app.paths.releases.chmod(0o1777), "releases has the mode 1777 instead of 0755"),
    "the mirror can be read by all": (lambda app: app.paths.fetch.chmod(0o755), "fetch has the mode 0755 instead of 0700"),
}  # fmt: skip


def hang(application: Any, seconds: float) -> None:
    config = application.paths.config / "release.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "health_answer_seconds": 0.2}))
    application.config["health_answer_seconds"] = 0.2
    application.answering[0].answer = lambda _asked: time.sleep(seconds) or says(GOOD)


@pytest.mark.parametrize(("disturb", "words"), TROUBLES.values(), ids=TROUBLES)
def test_what_keeps_visitors_from_the_live_release_is_noticed_and_told(application, disturb, words):
    config = application.paths.config / "release.json"
    config.write_text(json.dumps({**CONFIG, "socket_group": "www-data"}))
    application.config["socket_group"] = "www-data"
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    assert application.status()["trouble"] == []
    disturb(application)
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["renew"], plan["committed"]) == (False, True, False)
    (said,) = plan["trouble"]
    assert words in said
    assert f"  {said}; a converge mends that" in cli.tell(application, plan)


def test_one_slow_answer_is_no_hanging_slot(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    hang(application, 1.3)
    application.config["health_answer_seconds"] = 1  # the second question waits for the end of the first answer
    slow = application.answering[0].answer
    answers = iter([slow])

    def answer(asked: Any) -> bytes:
        return next(answers, lambda _asked: says("", "500 Oops"))(asked)

    application.answering[0].answer = answer
    assert application.status()["trouble"] == [], "and that it is ill is for others to say"


def lead_live(application: Any, to: str) -> None:
    """Somebody has turned the link to the live slot; what the verified one is bound to is another link."""
    atomic.link_atomically(application.paths.live_bound, str(application.paths.bound("green")))
    application.paths.live_link.unlink()
    if to:
        application.paths.live_link.symlink_to(to)


def upgraded(application: Any, started: float) -> None:
    """What dpkg does to a library under a process that started at a moment."""
    unit(application, "started", "green").write_text(f"@{started:.0f}\n")
    library(application.paths.root).touch()


def test_a_process_that_started_after_the_upgrade_is_right(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    upgraded(application, time.time() + 60)
    assert not application.plan("repo main", SETTINGS)["renew"]


def virtualenv(application: Any, release: str, python: str) -> None:
    (application.paths.releases / release / ".venv/lib" / python).mkdir(parents=True)


NOW = f"python3.{sys.version_info.minor}"


def test_an_upgrade_in_the_second_of_the_start_may_have_come_after_it(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    upgraded(application, int(time.time()))
    assert application.plan("repo main", SETTINGS)["renew"]


def test_a_clock_that_was_set_back_makes_nothing_new(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    upgraded(application, time.time() + 60)
    real = Path.stat

    def later(path: Path, **more: Any) -> Any:
        found = real(path, **more)
        return SimpleNamespace(st_ctime=time.time() + 3600) if path == library(application.paths.root) else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "stat", later)
        assert application.slots.current("green")


def test_in_the_midst_of_an_upgrade_what_runs_is_as_it_should_be(application, command):
    command("ldd", "echo 'ldd: no such file' >&2; exit 1")
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    assert not application.plan("repo main", SETTINGS)["renew"]


def test_a_release_for_another_python_is_made_anew_of_the_same_commit(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    virtualenv(application, GOOD, NOW)
    assert not application.plan("repo main", SETTINGS)["ship"]
    shutil.rmtree(application.paths.releases / GOOD / ".venv")
    virtualenv(application, GOOD, "python3.9")
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["ref"], plan["renew"]) == (True, "c0ffee", False)
    plan = application.plan("repo v2", SETTINGS)
    assert (plan["ship"], plan["ref"]) == (True, ""), "what is declared now is shipped"


def test_a_release_for_another_python_is_nothing_to_go_back_to(application):
    for name in (GOOD, NEXT):
        a_release(application, name)
    assert application.releases.before(NEXT) == GOOD
    virtualenv(application, GOOD, "python3.9")
    with pytest.raises(basics.ReleaseError, match=r"no verified release before the live one on this host$"):
        application.releases.before(NEXT)


def test_where_nothing_is_before_the_live_one_those_that_can_be_named_are_told(application):
    for name in (GOOD, NEXT):
        a_release(application, name)
    application.releases.reject(NEXT, f"release {NEXT} was rolled back by ann@laptop")
    with pytest.raises(basics.ReleaseError, match=rf"on this host; one that is named can be live: {NEXT}$"):
        application.releases.before(GOOD)


def test_releases_sort_by_what_is_written_of_them_and_not_by_the_clock_of_their_build(application):
    ahead = "20390101000000-cccccccccccc"
    a_release(application, ahead)  # of a version of this tool that wrote no numbers
    a_release(application, GOOD, number=application.releases.next_number())
    a_release(application, NEXT, number=application.releases.next_number())
    assert application.releases.names() == [ahead, GOOD, NEXT]
    assert application.releases.before(NEXT) == GOOD and application.releases.before(GOOD) == ahead


def test_where_nothing_is_known_of_the_live_release_the_last_one_is_the_one_before(application):
    for name in (GOOD, NEXT):
        a_release(application, name)
    application.paths.mark(NEXT, "json").write_text("{")
    assert application.releases.before(NEXT) == application.releases.before("") == GOOD
    application.paths.mark(GOOD, "json").write_bytes(b"\xff[")
    with pytest.raises(basics.ReleaseError, match="no verified release before the live one"):
        application.releases.before(NEXT)


def came_back(application: Any, started: float) -> None:
    """Systemd has started the slot's process anew, and the file it reads was written just now."""
    unit(application, "invocation", "green").write_text("run 1\n")
    unit(application, "started", "green").write_text(f"@{started:.0f}\n")
    (application.paths.bound("green") / "uwsgi.ini").write_text("[uwsgi]")
    bind(application, "green", GOOD)


def test_a_process_that_came_back_after_the_last_change_is_right(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    came_back(application, time.time() + 60)
    assert not application.plan("repo main", SETTINGS)["renew"]


def test_settings_that_are_not_on_the_host_yet_are_told_by_a_dry_run(application):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    assert application.plan("repo main", "the settings of tomorrow")["renew"]


@pytest.mark.parametrize("disturb", UNSETTLED.values(), ids=UNSETTLED)
def test_what_is_not_committed_is_switched_and_not_shipped(application, disturb):
    a_release(application, GOOD)
    make_live(application, "green", GOOD)
    disturb(application)
    plan = application.plan("repo main", SETTINGS)
    assert (plan["ship"], plan["renew"]) == (False, True)


def test_the_file_that_binds_a_slot_is_read_back_whole(application):
    bind(application, "blue", "r", "a=b")
    assert application.slots.bound("blue")["SETTINGS"] == "a=b" and application.slots.release("blue") == "r"
    assert application.slots.bound("green") == {}


# The question to a slot


def test_a_question_is_a_packet_of_the_uwsgi_protocol(application, slot):
    blue = slot("blue", lambda asked: says(json.dumps(asked)))
    status, body = asking.ask(application.paths.socket("blue"), "/über?a=1&b=2", 5)
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
    assert asking.ask(application.paths.socket("blue"), "/", 0) == outcome


def test_silence_is_bounded(application, slot):
    over = threading.Event()
    slot("blue", lambda asked: over.wait(30) and b"")
    started = time.monotonic()
    with pytest.raises(OSError):
        asking.ask(application.paths.socket("blue"), "/", 0, seconds=0.2)
    over.set()
    assert time.monotonic() - started < 5


def test_an_answer_that_trickles_is_bounded(application):
    """Each byte comes in time, the end never."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(application.paths.socket("blue")))
        listener.listen()

        def trickle() -> None:
            connection, _peer = listener.accept()
            with connection:
                for _byte in range(100):
                    time.sleep(0.1)
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        threading.Thread(target=trickle, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(OSError):
            asking.ask(application.paths.socket("blue"), "/", 0, seconds=0.4)
        assert time.monotonic() - started < 5


# The gate


def test_the_gate_wants_right_answers_in_a_row(application, slot):
    answers = iter([says(GOOD), says(GOOD), says("", "500 Oops"), *[says(GOOD)] * 3])
    blue = slot("blue", lambda asked: next(answers))
    unit(application, "active", "blue").touch()
    application.slots.gate("blue", GOOD)
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
    with pytest.raises(basics.ReleaseError, match=words):
        application.slots.gate("blue", GOOD)


def test_the_gate_does_not_wait_for_a_slot_that_is_dead(application):
    application.config["health_seconds"] = 60
    started = time.monotonic()
    with pytest.raises(basics.ReleaseError, match=f"Release {GOOD} does not start"):
        application.slots.gate("blue", GOOD)
    assert time.monotonic() - started < 10


def test_the_gate_waits_for_a_slot_that_is_slow_to_start(application, slot):
    application.config["health_seconds"] = 20
    unit(application, "active", "blue").touch()
    threading.Timer(0.3, lambda: slot("blue", lambda asked: says(GOOD))).start()
    application.slots.gate("blue", GOOD)


def test_an_application_that_does_not_name_its_release_may_be_let_in(application, slot):
    application.config["health_reports_release"] = False
    slot("blue", lambda asked: says("fine"))
    application.slots.gate("blue", GOOD)


# The disk


def test_the_oldest_releases_go_and_so_do_half_built_ones(application):
    names = [f"2026010{day}000000-{'a' * 12}" for day in range(1, 6)]
    for name in names:
        a_release(application, name)
    (application.paths.releases / "20260109000000-half").mkdir()
    a_release(application, "20260109000000-never-live")
    application.paths.mark("20260109000000-never-live", "verified").unlink()
    application.releases.sweep(
        [application.slots.release(name) for name in ("blue", "green")], application.config["keep"]
    )
    assert sorted(os.listdir(application.paths.releases)) == names[-3:]


def test_what_was_rolled_back_takes_no_place_of_what_can_be_gone_back_to(application):
    """Else some rollbacks in a row would leave nothing to go back to."""
    names = [f"2026010{day}000000-{'a' * 12}" for day in range(1, 10)]
    for name in names:
        a_release(application, name)
    for name in names[3:]:
        application.releases.reject(name, "it was rolled back")
    application.releases.sweep([names[-1]], 2)
    assert sorted(os.listdir(application.paths.releases)) == [*names[1:3], *names[-2:]]
    assert application.releases.before(names[-1]) == names[2]


def test_a_release_that_a_slot_is_bound_to_never_goes(application):
    names = [f"2026010{day}000000-{'a' * 12}" for day in range(1, 9)]
    for name in names:
        a_release(application, name)
    make_live(application, "green", names[0])
    bind(application, "blue", names[2])
    for keep in (3, 1):
        application.config["keep"] = keep
        application.releases.sweep(
            [application.slots.release(name) for name in ("blue", "green")], application.config["keep"]
        )
        assert sorted(os.listdir(application.paths.releases)) == sorted([names[0], names[2], *names[-keep:]])


def test_a_release_of_which_a_half_is_removed_is_none(application, monkeypatch):
    for name in (GOOD, NEXT):
        a_release(application, name)

    def killed(_place: Path) -> None:
        raise OSError("the power is cut")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(OSError, match="the power is cut"):
            application.releases.sweep([], 1)
    assert application.releases.names() == [NEXT] and not application.releases.verified(GOOD)


def test_what_who_gave_up_has_left_goes_when_nobody_waits_any_more(application):
    folders = (application.paths.archives.parent, application.paths.requests.parent)
    paths = [folder / name for folder in folders for name in ("app-c0ffee-1.tar", "request-1.json", "other.tar")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    change.Change(application).sweep()
    assert all(path.exists() for path in paths)
    for path in paths:
        os.utime(path, (0, 0))
    change.Change(application).sweep()
    assert [path.exists() for path in paths] == [False, True, True, True, False, True]


def test_static_files_are_copied_where_they_cannot_be_linked(application, monkeypatch):
    (a_release(application, GOOD) / "static").mkdir()
    (application.paths.releases / GOOD / "static/site.css").write_text("css")

    def other_disk(*_argv: Any) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    application.releases.publish(GOOD)
    assert (application.paths.static / "site.css").read_text() == "css"


@pytest.mark.parametrize("key", ["static_command", "migrate_command", "notify_command"])
def test_a_command_that_no_shell_would_take_is_named(application, key):
    (application.paths.config / "release.json").write_text(json.dumps({**CONFIG, key: "echo 'no end"}))
    with pytest.raises(basics.ReleaseError, match=f"app_server_{key}: No closing quotation"):
        change.Application(application.paths)


class Door(http.server.BaseHTTPRequestHandler):
    """What a site answers."""

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["Host"] == "www.example.com" else 421)
        self.end_headers()
        self.wfile.write(f"release {GOOD} {self.path}".encode())

    def log_message(self, *_argv: Any) -> None:
        pass


class BehindBalancers(Door):
    """One that takes no connection without the PROXY protocol."""

    def setup(self) -> None:
        super().setup()
        if self.rfile.readline() != b"PROXY UNKNOWN\r\n":
            self.finish()


def test_a_door_behind_load_balancers_is_asked_as_by_one_of_them():
    with http.server.HTTPServer(("127.0.0.1", 0), BehindBalancers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://www.example.com:{server.server_port}"
        said = asking.ask_at_the_door(url, "/healthz", proxy_protocol=True)
        assert said == (200, f"release {GOOD} /healthz")
        assert asking.ask_at_the_door(url, "/healthz")[0] == 0
        server.shutdown()


def test_the_door_is_asked_on_this_host_by_the_name_of_the_site():
    with http.server.HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://www.example.com:{server.server_port}"
        assert asking.ask_at_the_door(url, "/healthz") == (200, f"release {GOOD} /healthz")
        status, said = asking.ask_at_the_door(url.replace("http", "https", 1), "/healthz")
        assert status == 0 and "SSL" in said
        # This door does not know the PROXY protocol.
        assert asking.ask_at_the_door(url, "/healthz", proxy_protocol=True) != (200, f"release {GOOD} /healthz")
        server.shutdown()
    status, said = asking.ask_at_the_door(url, "/healthz")
    assert status == 0 and "refused" in said


def test_what_somebody_left_among_the_releases_does_not_stop_a_sweep(application):
    elsewhere = application.paths.home / "elsewhere"
    elsewhere.mkdir()
    (application.paths.releases / "notes.txt").touch()
    (application.paths.releases / "link").symlink_to(elsewhere)
    application.releases.sweep(
        [application.slots.release(name) for name in ("blue", "green")], application.config["keep"]
    )
    assert os.listdir(application.paths.releases) == []
    assert elsewhere.is_dir()


def test_what_pip_installs_is_compiled_since_nobody_can_write_there_afterwards(application, monkeypatch, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "pip-25.0-py3-none-any.whl").touch()
    monkeypatch.setattr(build, "PYTHON_WHEELS", wheels)
    (tmp_path / "requirements.txt").touch()
    module = tmp_path / ".venv/lib/module.py"

    def building(argv: list[str], place: Path, **_more: Any) -> str:
        if "venv" in argv:
            module.parent.mkdir(parents=True)
        if "install" in argv:
            assert "--no-compile" in argv, "once is enough"
            module.write_text("answer = 42\n")
        if "-c" in argv:
            subprocess.run([sys.executable, *argv[1:]], check=True)
        return ""

    monkeypatch.setattr(application.sandbox, "building", building)
    application.builder.make_virtualenv(tmp_path)
    assert list((module.parent / "__pycache__").glob("module.*.pyc"))


class Pip:
    """Does with wheels what pip would: `index` has them by their names, and `asked` what it was told."""

    def __init__(self, application: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.index: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.requirements = application.paths.home / "requirements.txt"
        self.application = application
        monkeypatch.setattr(application.sandbox, "building", self.building)

    def building(self, argv: list[str], place: Path, **more: Any) -> str:
        verb, options = argv[1], argv[2:]
        assert "--no-cache-dir" in options and "--cache-dir" not in options
        text = self.requirements.read_text()
        names = [line.split()[0] for line in text.splitlines()]
        if "--no-index" in options:
            links = Path(options[options.index("--find-links") + 1])
            found = {path.name: path.read_bytes() for path in links.iterdir()}
            self.asked.append("offline")
        else:
            found, links = self.index, None
            self.asked.append(verb)
        for name in names:
            if name not in found or (verb == "download" and not name.endswith(".whl")):
                raise basics.ReleaseError(f"no {name}")
            if "--require-hashes" in options and hashlib.sha256(found[name]).hexdigest() not in text:
                raise basics.ReleaseError("THESE PACKAGES DO NOT MATCH THE HASHES")
            if verb == "download":
                assert more["more"] == (application_fresh(self.application),)
                Path(options[options.index("--dest") + 1], name).write_bytes(found[name])
        return ""

    def install(self, **required: bytes) -> list[str]:
        """Has what is required installed, each pinned to its bytes; returns what pip was told."""
        self.asked.clear()
        lines = [
            f"{name.replace('_whl', '.whl')} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
            for name, content in required.items()
        ]
        self.requirements.write_text("".join(lines))
        self.application.builder.install(["pip"], [self.requirements], self.application.paths.home)
        assert not application_fresh(self.application).exists()
        return list(self.asked)


def application_fresh(application: Any) -> Path:
    return application.paths.wheels / ".fresh"


@pytest.fixture
def pip(application: Any, monkeypatch: pytest.MonkeyPatch) -> Pip:
    return Pip(application, monkeypatch)


def test_a_pinned_wheel_is_downloaded_once(pip):
    pip.index = {"a.whl": b"a", "b.whl": b"b"}
    assert pip.install(a_whl=b"a", b_whl=b"b") == ["download", "offline"]
    pip.index = {}
    assert pip.install(a_whl=b"a", b_whl=b"b") == ["offline"]
    pip.index = {"b.whl": b"c"}
    assert pip.install(a_whl=b"a", b_whl=b"b") == ["offline"]


def test_of_wheels_that_no_release_pins_any_more_none_stays(pip):
    pip.index = {"a.whl": b"a", "b.whl": b"b"}
    pip.install(a_whl=b"a")
    pip.install(b_whl=b"b")
    assert [path.name.partition("-")[2] for path in pip.application.paths.wheels.iterdir()] == ["b.whl"]


def test_what_has_no_wheel_is_built_by_each_build_and_what_is_wrong_is_said(pip):
    pip.index = {"a.whl": b"a", "source": b"s"}
    for _time in range(2):
        assert pip.install(a_whl=b"a", source=b"s") == ["download", "install"]
    with pytest.raises(basics.ReleaseError, match="DO NOT MATCH"):
        pip.install(a_whl=b"something else")
    assert list(pip.application.paths.wheels.iterdir()) == []


def test_what_is_not_pinned_is_downloaded_by_each_build(pip):
    pip.index = {"a.whl": b"a"}
    pip.requirements.write_text("a.whl\n")
    pip.application.builder.install(["pip"], [pip.requirements], pip.application.paths.home)
    assert pip.asked == ["install"] and list(pip.application.paths.wheels.iterdir()) == []


def test_a_build_leaves_nothing_for_the_next_one_but_what_that_pins_itself(application, tmp_path):
    """Under whatever name, and whatever else it lays there."""
    kept = wheels.Wheels(application.paths)
    wanted = {hashlib.sha256(content).hexdigest() for content in (b"good", b"secret")}
    fresh = kept.lay_out(wanted, "app-build")
    (tmp_path / "secret").write_bytes(b"secret")
    (fresh / "good-1.0-py3-none-any.whl").write_bytes(b"good")
    (fresh / "evil-1.0-py3-none-any.whl").write_bytes(b"evil")
    (fresh / "link-1.0-py3-none-any.whl").symlink_to(tmp_path / "secret")
    (fresh / "folder.whl").mkdir()
    os.mkfifo(fresh / "pipe.whl")
    (fresh / "good.txt").write_bytes(b"good")
    kept.keep(fresh, wanted)
    digest = hashlib.sha256(b"good").hexdigest()
    stored = application.paths.wheels / f"{digest}-good-1.0-py3-none-any.whl"
    assert {path for path in application.paths.wheels.iterdir() if path != fresh} == {stored}
    assert stored.stat().st_mode & 0o777 == 0o644
    assert os.listdir(kept.lay_out({"0" * 64}, "app-build")) == []
    assert os.listdir(kept.lay_out({digest}, "app-build")) == ["good-1.0-py3-none-any.whl"]


def test_what_a_commit_runs_can_write_its_release_and_nothing_that_stays(application, monkeypatch):
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(application.sandbox, "run_as", lambda user, argv, **options: given.append(options))
    application.sandbox.building(["make"], application.paths.releases / GOOD)
    assert given[0]["writes"] == [application.paths.releases / GOOD]
    assert {"CPUWeight=20", "Nice=10"} < {*given[0]["settings"]}, "visitors come first"
    (application.paths.build / "pip/wheels").mkdir(parents=True)
    (application.paths.build / "link").symlink_to("/etc")
    application.builder.make_folders()
    assert list(application.paths.build.iterdir()) == []


def test_text_files_get_a_compressed_copy_and_others_do_not(tmp_path):
    static = tmp_path / "assets/deep"
    static.mkdir(parents=True)
    for name, size in {"a.css": 600, "b.js": 100, "c.png": 600}.items():
        (static / name).write_bytes(b"x" * size)
    (static / "d.svg").symlink_to("a.css")
    build.compress_folder(tmp_path, "assets")
    assert sorted(os.listdir(static)) == ["a.css", "a.css.gz", "b.js", "c.png", "d.svg"]
    assert gzip.decompress((static / "a.css.gz").read_bytes()) == b"x" * 600
    first = (static / "a.css.gz").read_bytes()
    build.compress_folder(tmp_path, "assets")
    assert (static / "a.css.gz").read_bytes() == first, "the same text, the same bytes"


def test_a_compressed_copy_is_not_written_through_a_link_of_the_repository(tmp_path):
    release = tmp_path / "release"
    (release / "static").mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (release / "static/a.css").write_text("x" * 600)
    (release / "static/a.css.gz").symlink_to(victim)
    build.compress_folder(release, "static")
    assert victim.read_text() == "precious"
    assert not (release / "static/a.css.gz").is_symlink()


def test_a_folder_of_static_files_that_leads_out_of_the_release_is_refused(tmp_path):
    release, outside = tmp_path / "release", tmp_path / "outside"
    release.mkdir()
    outside.mkdir()
    (outside / "a.css").write_text("x" * 600)
    (release / "static").symlink_to(outside)
    with pytest.raises(basics.ReleaseError, match="no folder static"):
        build.compress_folder(release, "static")
    assert os.listdir(outside) == ["a.css"]


def test_folders_that_links_lead_to_are_not_compressed(tmp_path):
    release, outside = tmp_path / "release", tmp_path / "outside"
    (release / "static").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.css").write_text("x" * 600)
    (release / "static/more").symlink_to(outside)
    build.compress_folder(release, "static")
    assert os.listdir(outside) == ["a.css"]


def test_static_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(basics.ReleaseError, match="no folder assets for static files"):
        build.compress_folder(tmp_path, "assets")


def test_a_finished_release_belongs_to_root_and_links_are_not_followed(tmp_path, monkeypatch):
    release, victim = tmp_path / "release", tmp_path / "victim"
    (release / "folder").mkdir(parents=True)
    (release / "folder/file").touch()
    victim.touch(mode=0o600)
    (release / "link").symlink_to(victim)
    owned: dict[str, bool] = {}
    monkeypatch.setattr(
        build.os, "chown", lambda path, uid, gid, follow_symlinks: owned.update({path: follow_symlinks})
    )
    build.hand_to_root(release)
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
    monkeypatch.setattr(build.os, "chown", lambda *args, **options: None)
    build.hand_to_root(tmp_path)
    assert script.stat().st_mode & 0o777 == 0o755
    assert folder.stat().st_mode & 0o777 == 0o755


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
    application.repository.fetch("main")
    return application


@pytest.mark.parametrize(
    ("version", "commit"),
    [("main", "second"), ("v1", "first"), ("v2", "second"), ("feature/x+y", "first"), ("same", "first")],
)
def test_a_branch_or_a_tag_is_resolved_to_its_commit(mirror, upstream, version, commit):
    assert mirror.repository.resolve(version) == getattr(upstream, commit)


def test_a_commit_is_resolved_whole_or_abbreviated(mirror, upstream):
    for length in (7, 12, 40):
        assert mirror.repository.resolve(upstream.first[:length]) == upstream.first


def test_a_mirror_that_a_power_cut_has_left_unusable_is_made_anew(mirror, upstream):
    shutil.rmtree(mirror.paths.fetch / "mirror.git/objects")
    assert mirror.repository.fetch("main") == upstream.second


def test_a_mirror_with_the_lock_of_a_git_that_was_killed_is_made_anew(mirror, upstream):
    (mirror.paths.fetch / "mirror.git/refs/heads/main.lock").touch()
    upstream.git("branch", "--force", "locked", upstream.first)
    (mirror.paths.fetch / "mirror.git/refs/heads/locked.lock").touch()
    assert mirror.repository.fetch("locked") == upstream.first


def test_a_fetch_that_fails_for_another_reason_costs_no_mirror(mirror):
    """As a network that is cut does."""
    kept = mirror.paths.fetch / "mirror.git/kept"
    kept.touch()
    with pytest.raises(basics.ReleaseError, match="couldn't find remote ref"):
        mirror.repository.update("mirror.git", mirror.config["repository"], "+refs/heads/gone:refs/heads/gone")
    assert kept.exists()


def test_a_name_of_two_things_is_refused_with_both(mirror, upstream):
    with pytest.raises(basics.ReleaseError) as failure:
        mirror.repository.resolve("both")
    assert "'both' is ambiguous" in str(failure.value)
    assert f"the branch is {upstream.second[:12]}" in str(failure.value)
    assert f"the tag is {upstream.first[:12]}" in str(failure.value)


@pytest.mark.parametrize("version", ["no-such-branch", "HEAD", "0" * 40, "abcdef0"])
def test_what_does_not_exist_is_said_so(mirror, version):
    with pytest.raises(basics.ReleaseError, match=f"'{version}' is no branch, tag or commit of"):
        mirror.repository.resolve(version)


@pytest.mark.parametrize(
    "version", ["", "-x", "--upload-pack=touch x", "a b", "a\nb", "main^", "main~1", "@{1}", "$(id)", "a:b"]
)
def test_what_cannot_be_a_name_never_reaches_git(application, monkeypatch, version):
    monkeypatch.setattr(application.repository, "git", lambda *argv: pytest.fail(f"git {argv}"))
    with pytest.raises(basics.ReleaseError, match="is not the name of a branch, a tag or a commit"):
        application.repository.resolve(version)


def test_a_branch_that_moved_or_went_is_followed(mirror, upstream):
    upstream.git("branch", "moving", upstream.first)
    assert mirror.repository.fetch("moving") == upstream.first
    upstream.git("branch", "--force", "moving", upstream.second)
    assert mirror.repository.fetch("moving") == upstream.second
    upstream.git("branch", "--delete", "--force", "moving")
    with pytest.raises(basics.ReleaseError, match="is no branch"):
        mirror.repository.fetch("moving")


def test_a_repository_that_cannot_be_reached_is_named_with_gits_words(application, tmp_path):
    application.config["repository"] = str(tmp_path / "gone")
    with pytest.raises(basics.ReleaseError) as failure:
        application.repository.fetch("main")
    assert f"The repository {tmp_path / 'gone'} could not be fetched; what is live goes on serving." in str(
        failure.value
    )
    assert "git failed:\n" in str(failure.value)
    assert "does not appear to be a git repository" in str(failure.value)


# Signatures, and submodules


@pytest.fixture
def signers(mirror: Any, tmp_path: Path) -> Callable[..., str]:
    """Commits to the upstream repository, signed by a key of this name or by nobody."""

    def commit(path: Path, signer: str, known: str) -> str:
        for name in {signer, known} - {""}:
            if not (tmp_path / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
        how = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={tmp_path / signer}"] if signer else []
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        flag = ["-S"] if signer else ["--no-gpg-sign"]
        argv = ["git", *identity, *how, "commit", "--quiet", "--allow-empty", "--message", "x", *flag]
        subprocess.run(argv, cwd=path, check=True)
        kind, key = (tmp_path / f"{known}.pub").read_text().split()[:2]
        (mirror.paths.config / "signers").write_text(f"t@example.com {kind} {key}\n")
        mirror.config["signers"] = ["there are some"]
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=path, check=True, capture_output=True, text=True
        ).stdout.strip()

    return commit


@pytest.mark.parametrize(("signer", "known"), [("ann", "ann"), ("", "ann"), ("eve", "ann")])
def test_only_what_a_signer_has_signed_is_fetched(mirror, upstream, signers, signer, known):
    commit = signers(upstream.path, signer, known)
    if signer == known:
        assert mirror.repository.fetch("main") == commit
    else:
        with pytest.raises(basics.ReleaseError, match=f"commit {commit[:12]} is signed by none of app_server_signers"):
            mirror.repository.fetch("main")


@pytest.mark.parametrize(
    ("base", "url", "found"),
    [
        ("https://git.example.com/shop/web.git", "../part.git", "https://git.example.com/shop/part.git"),
        ("git@git.example.com:web.git", "../part.git", "git@git.example.com:part.git"),
        ("https://git.example.com/shop/web.git", "./part.git", "https://git.example.com/shop/web.git/part.git"),
        ("https://git.example.com/web.git", "ssh://git@git.example.org/part", "ssh://git@git.example.org/part"),
    ],
)
def test_a_submodule_is_found(base, url, found):
    assert repository.submodule_url(base, url) == found


@pytest.mark.parametrize(
    "url", ["/etc", "file:///etc", "ext::sh -c id", "--upload-pack=x", "http://git.example.com/x", ""]
)
def test_a_submodule_from_elsewhere_is_refused(url):
    with pytest.raises(basics.ReleaseError, match="neither https://… nor ssh"):
        repository.submodule_url("https://git.example.com/web.git", url)


def test_submodules_are_a_part_of_the_release(buildable, upstream):
    part = upstream.path.parent / "part"
    subprocess.run(["git", "clone", "--quiet", upstream.path, part], check=True)
    upstream.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "--", "../part", "lib/part")
    upstream.git("commit", "--quiet", "--message", "with a part")
    try:
        commit = buildable.repository.fetch("main")
        place = buildable.paths.releases / built(buildable, commit)
        assert (place / "lib/part/app.py").read_text() == (place / "app.py").read_text()
    finally:
        upstream.git("reset", "--quiet", "--hard", "HEAD~1")


# The build


@pytest.fixture
def buildable(mirror: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A mirror whose releases are built by whoever runs the tests, without a virtualenv."""
    mirror.config.update(plugin="psgi", shared_files=[])
    monkeypatch.setattr(build.os, "chown", lambda *args, **options: None)
    return mirror


def built(application: Any, commit: str) -> str:
    """A release of a commit, out of the mirror."""
    return application.builder.build(commit, "v1", application.repository.archive(commit))


def test_a_build_holds_the_commit_and_remembers_what_it_was_made_of(buildable, upstream):
    release = built(buildable, upstream.first)
    place = buildable.paths.releases / release
    assert release.endswith(f"-{upstream.first[:12]}")
    assert (place / "app.py").read_text() == "number = 1\n"
    record = buildable.releases.record(release)
    assert (record["commit"], record["version"], record["declared"]) == (upstream.first, "v1", "repo main")


def test_who_has_the_key_runs_git_alone_and_who_builds_has_no_key(buildable, upstream):
    buildable.config["static_command"] = [["make-assets"]]
    with pytest.raises(basics.ReleaseError):
        built(buildable, upstream.first)
    assert set(buildable.users) >= {("app-fetch", "git"), ("app-build", "tar"), ("app-build", "make-assets")}


def run_in_a_sandbox(monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[str]:
    """The command line by which the real one would be called."""
    seen: list[list[str]] = []
    monkeypatch.undo()
    monkeypatch.setattr(sandbox, "run", lambda argv, **_options: seen.append(argv) or "")
    sandbox.Sandbox(Layout("app"), CONFIG).run_as("app-build", ["make"], writes=[Path("/a b")], seconds=7, **options)
    return seen[0]


def test_what_a_step_starts_ends_with_it(monkeypatch):
    argv = run_in_a_sandbox(monkeypatch)
    assert argv[0] == "systemd-run" and argv[-2:] == ["/usr/bin/env", "make"]
    for setting in ("--pipe", "User=app-build", "RuntimeMaxSec=12", "ReadWritePaths=-/a b", "ProtectSystem=strict"):
        assert setting in argv


def test_what_writes_to_a_log_does_not_hang_on_who_asked(monkeypatch):
    assert "--pipe" not in run_in_a_sandbox(monkeypatch, settings=("StandardOutput=truncate:/log",))


def test_a_migration_has_its_own_limit_and_a_name_by_which_the_next_change_finds_it(application, monkeypatch):
    given: dict[str, Any] = {}
    application.config.update(migrate_seconds=7, migrate_command=[["true"]])
    monkeypatch.setattr(application.sandbox, "run_as", lambda user, argv, **options: given.update(options))
    application.builder.migrate(GOOD)
    assert (given["seconds"], given["unit"]) == (7, "app-migrate.service")
    assert "--unit=app-migrate.service" in run_in_a_sandbox(monkeypatch, unit=given["unit"])


def test_what_stops_the_warm_slot_is_closed_in(application, monkeypatch):
    seen: list[list[str]] = []
    monkeypatch.setattr(sandbox, "run", lambda argv, **_options: seen.append(argv) or "")
    application.slots.cool_later(60)
    (argv,) = seen
    assert {"--unit=app-cool.timer", "--on-active=60"} < set(argv) and argv[-2:] == ["app", "cool"]
    for setting in ("ProtectSystem=strict", "CapabilityBoundingSet=", "SystemCallFilter=@system-service"):
        assert f"--property={setting}" in argv


def test_what_nginx_publishes_is_handed_to_its_group_and_nothing_else_is(application, monkeypatch):
    application.config.update(shared=["media", "private"], shared_published=["media"], socket_group="www-data")
    handed: list[tuple[Path, str]] = []
    owned: list[tuple[Any, ...]] = []
    monkeypatch.setattr(shutil, "chown", lambda *args: owned.append(args))
    monkeypatch.setattr(application.sandbox, "publishing", lambda folder: handed.append(folder) or folder.chmod(0o2750))
    application.builder.make_folders()
    shared = application.paths.shared
    assert handed == [shared / "media"] and (shared / "private").stat().st_mode & 0o7777 == 0o750
    for _run in range(2):  # a change that has nothing to hand over does not go over all that is there
        application.builder.make_folders()
    assert handed == [shared / "media"]
    (shared / "media").chmod(0o750)
    assert application.builder.misplaced() == [f"{shared / 'media'} has the mode 0750 instead of 2750"]
    application.builder.make_folders()
    assert handed == 2 * [shared / "media"]


def test_all_that_is_in_a_published_folder_is_handed_over_and_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    media = tmp_path / "media"
    (media / "2026/11").mkdir(parents=True)
    (media / "2026").chmod(0o700)
    (media / "2026/11/a.png").write_text("")
    (media / "2026/11/a.png").chmod(0o600)
    (media / "link").symlink_to(secret)
    group = grp.getgrgid(os.getegid()).gr_name
    subprocess.run([sys.executable, "-c", sandbox.PUBLISH, str(media), group], check=True)
    modes = {
        name: (tmp_path / name).stat().st_mode & 0o7777
        for name in ("secret", "media", "media/2026", "media/2026/11/a.png")
    }
    assert modes == {"secret": 0o600, "media": 0o2750, "media/2026": 0o2750, "media/2026/11/a.png": 0o640}
    assert "RestrictSUIDSGID=no" in publishing_settings()


def publishing_settings() -> list[str]:
    """The last word on each setting of the unit that hands a folder over."""
    seen: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "run", lambda argv, **_options: seen.append(argv) or "")
        sandbox.Sandbox(Layout("app"), {**CONFIG, "socket_group": "www-data"}).publishing(Path("/srv/app/shared/media"))
    settings = dict(word.split("=", 1) for word in seen[0] if "=" in word and not word.startswith(("/", "\n")))
    assert settings["User"] == "app" and settings["SupplementaryGroups"] == "www-data"
    return [f"{name}={value}" for name, value in settings.items()]


def test_a_shared_file_is_made_once_and_linked(buildable, upstream):
    buildable.config["shared_files"] = ["notes", "count"]
    buildable.paths.shared.mkdir(exist_ok=True)
    (buildable.paths.shared / "count").write_text("42")
    for _time in range(2):
        buildable.builder.make_folders()
    place = buildable.paths.releases / built(buildable, upstream.first)
    assert os.readlink(place / "notes") == str(buildable.paths.shared / "notes")
    assert (place / "notes").read_text() == "" and (place / "count").read_text() == "42"
    assert (place / "notes").stat().st_mode & 0o777 == 0o640


def test_neither_a_folder_nor_a_file_of_the_commit_becomes_a_shared_file(buildable, upstream):
    buildable.config["shared_files"] = ["app.py"]
    with pytest.raises(basics.ReleaseError, match=r"the commit has a app.py of its own"):
        built(buildable, upstream.first)
    (buildable.paths.shared / "app.py").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        buildable.builder.make_folders()


def test_a_shared_folder_may_lie_deeper_in_the_release(buildable, upstream):
    buildable.config["shared"], before = ["var/up/loads"], os.umask(0o077)
    try:
        buildable.builder.make_folders()
        place = buildable.paths.releases / built(buildable, upstream.first)
    finally:
        os.umask(before)
    assert os.readlink(place / "var/up/loads") == str(buildable.paths.shared / "var/up/loads")
    assert [(buildable.paths.shared / path).stat().st_mode & 0o777 for path in ("var", "var/up")] == [0o755] * 2
    assert [(place / path).stat().st_mode & 0o777 for path in ("var", "var/up")] == [0o755] * 2


def test_no_link_of_the_commit_leads_a_shared_folder_elsewhere(application, tmp_path):
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "release"
    elsewhere.mkdir()
    place.mkdir()
    (place / "var").symlink_to(elsewhere)
    application.config["shared"] = ["var/uploads"]
    with pytest.raises(basics.ReleaseError, match="has a link where app_server_shared wants the folder of var/uploads"):
        application.builder.link_shared(place)
    assert os.listdir(elsewhere) == []


def archive_of(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / "tree" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(["tar", "-cf", folder / "push.tar", "-C", folder / "tree", *os.listdir(folder / "tree")], check=True)
    return folder / "push.tar"


def test_a_release_is_made_of_the_folder_that_has_the_code(buildable, tmp_path):
    buildable.config["folder"] = "services/shop/"
    archive = archive_of(
        tmp_path, top="t", services__shop__app="a", services__shop__sub__more="m", services__shopping="s"
    )
    place = buildable.paths.releases / buildable.builder.build("a" * 40, "main", archive)
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["app", "sub", "sub/more"]


def test_a_folder_that_the_commit_has_not_is_named(buildable, tmp_path):
    buildable.config["folder"] = "backend"
    with pytest.raises(basics.ReleaseError, match=r"app_server_folder: backend"):
        buildable.builder.build("a" * 40, "main", archive_of(tmp_path, top="t"))
    assert os.listdir(buildable.paths.releases) == []


@pytest.mark.parametrize(
    ("files", "requirements", "words"),
    [
        (["pyproject.toml"], ["requirements.txt"], ["has no requirements.txt", '"." stands for the project itself']),
        (["pyproject.toml", "uv.lock"], ["requirements.txt"], ["uv export --frozen --no-emit-project"]),
        (["pyproject.toml", "uv.lock"], [".[prod]"], ["would be ignored", 'is [requirements.txt, ".[prod]"]']),
        (["pyproject.toml", "poetry.lock"], ["."], ["poetry export -o requirements.txt"]),
        (["requirements.txt"], ["requirements.txt", "."], ["has no pyproject.toml"]),
        (["a.txt"], ["a.txt", "b/b.txt"], ["has no b/b.txt"]),
    ],
)
def test_what_pip_cannot_read_is_refused_with_what_to_do(application, tmp_path, files, requirements, words):
    for name in files:
        (tmp_path / name).touch()
    application.config["requirements"] = requirements
    with pytest.raises(basics.ReleaseError) as refusal:
        application.builder.make_virtualenv(tmp_path)
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_files_the_project_itself_and_further_packages_are_installed_in_this_order(application, monkeypatch, tmp_path):
    wheels_of_debian = tmp_path / "wheels"
    wheels_of_debian.mkdir()
    (wheels_of_debian / "pip-25.0-py3-none-any.whl").touch()
    monkeypatch.setattr(build, "PYTHON_WHEELS", wheels_of_debian)
    for name in ("a.txt", "b.txt", "pyproject.toml", "uv.lock"):
        (tmp_path / name).touch()
    told: list[list[str]] = []
    monkeypatch.setattr(application.sandbox, "building", lambda argv, place, **_more: told.append(argv) or "")
    application.config |= {"requirements": ["a.txt", ".[prod]", "b.txt"], "pip_packages": ["PyMySQL==1.1.1"]}
    application.builder.make_virtualenv(tmp_path)
    installed = [[word for word in argv[3:] if not word.startswith("--")] for argv in told if "install" in argv]
    assert installed == [[f"{tmp_path}/a.txt", f"{tmp_path}/b.txt"], [".[prod]"], ["PyMySQL==1.1.1"]]


@pytest.mark.parametrize(
    ("project", "words"),
    [
        ("", ""),
        ("[tool.ruff]", ""),
        ('[project]\nname = "a"', ""),
        ('[project]\nrequires-python = ">=3.9,<9"', ""),
        ('[project]\nrequires-python = ">=3.99"', "asks for Python >=3.99, and Debian's is 3."),
        ('[project]\nrequires-python = "==2.7.*"', "asks for Python ==2.7.*, and Debian's is 3."),
        ('[project]\nrequires-python = "newest"', "cannot be read: Invalid specifier"),
        ('[project]\nrequires-python = 3.11', "cannot be read"),
        ('project = "a"', "cannot be read"),
        ("[project", "cannot be read"),
    ],
)  # fmt: skip
def test_a_commit_for_another_python_is_refused_with_both_versions(tmp_path, project, words):
    (tmp_path / "pyproject.toml").write_text(project)
    # On Debian they lie where a host has them, elsewhere in Python's own folder.
    pip = next(
        wheel
        for folder in (build.PYTHON_WHEELS, Path(ensurepip.__file__).parent / "_bundled")
        for wheel in folder.glob("pip-*.whl")
    )
    run = subprocess.run([sys.executable, "-c", build.WANTED_PYTHON, str(pip)], cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
    assert (run.returncode == 0) == (not words) and words in run.stderr and "Traceback" not in run.stderr, run.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def create_app():\n    return print", ""),
        ("def create_app():\n    return 5", "is not callable"),
        ("def create_app(settings):\n    return print", "missing 1 required positional argument"),
    ],
)
def test_a_factory_is_called_before_anything_is_switched(tmp_path, code, words):
    (tmp_path / "shop.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-c", build.LOAD, "shop", "create_app()", "False"], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (run.returncode == 0) == (not words) and words in run.stderr


def test_a_build_that_fails_leaves_nothing(buildable, upstream):
    buildable.config["static_command"] = [["true"], ["sh", "-c", "echo no such compiler >&2; exit 1"], ["true"]]
    with pytest.raises(basics.ReleaseError, match="no such compiler"):
        built(buildable, upstream.first)
    assert os.listdir(buildable.paths.releases) == []


def test_static_files_are_compressed_only_when_nobody_else_can_interfere(buildable, upstream, monkeypatch):
    order = []
    monkeypatch.setattr(build, "hand_to_root", lambda place: order.append("root"))
    monkeypatch.setattr(build, "compress_folder", lambda place, static: order.append(static))
    buildable.config["static"] = "assets"
    built(buildable, upstream.first)
    assert order == ["root", "assets"]


def test_a_python_release_without_requirements_is_told_which_file_is_wanted(buildable, upstream):
    buildable.config["plugin"] = "python3"
    with pytest.raises(basics.ReleaseError, match=r"the commit has no requirements.txt.*app_server_requirements"):
        built(buildable, upstream.first)


@pytest.mark.parametrize("commit", ["main", "abc1234", "", "-" * 40, "../../../etc"])
def test_only_a_full_commit_is_built(buildable, commit):
    with pytest.raises(basics.ReleaseError, match="is not a full commit"):
        buildable.builder.build(commit, "v1", Path("/nowhere"))


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"


def test_pointers_of_git_lfs_are_refused_and_named(buildable, tmp_path):
    names = [f"static/{number}.png" for number in range(7)]
    for name in ("about-lfs.txt", "large.txt", *names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(POINTER)
    (tmp_path / "about-lfs.txt").write_text(f"A pointer is:\n{POINTER}")
    (tmp_path / "large.txt").write_text(POINTER + "x" * 2000)
    archive = tmp_path / "push.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "about-lfs.txt", "large.txt", "static"], check=True)
    with pytest.raises(basics.ReleaseError) as refusal:
        buildable.builder.build("a" * 40, "main", archive)
    said = str(refusal.value)
    assert f"{', '.join(names[:5])} and 2 more" in said and "git lfs install" in said and "app_server_push" in said
    assert "about-lfs" not in said and os.listdir(buildable.paths.releases) == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"Django==5.2  # caf\xc3\xa9", "Django==5.2  # café"),
        ("\ufeffDjango==5.2  # café".encode(), "Django==5.2  # café"),
        ("Django==5.2  # café".encode("utf-16"), "Django==5.2  # café"),
        ("\ufeffDjango==5.2  # café".encode("utf-16-be"), "Django==5.2  # café"),
        ("\ufeffDjango==5.2  # café".encode("utf-32-le"), "Django==5.2  # café"),
        (b"# -*- coding: cp1252 -*-\nDjango==5.2  # \x80", "# -*- coding: cp1252 -*-\nDjango==5.2  # €"),
        (b"Django==5.2  # caf\xe9", "Django==5.2  # café"),
        (b"# coding: utf-8\nDjango==5.2  # caf\xe9", "# coding: utf-8\nDjango==5.2  # café"),
    ],
)
def test_requirements_are_read_as_pip_reads_them(application, tmp_path, content, text):
    requirements = tmp_path / "requirements.txt"
    requirements.write_bytes(content)
    for _time in range(2):  # the second as pip, afterwards
        assert application.builder.readable(requirements, tmp_path).removeprefix("# coding: latin-1\n") == text


def test_an_encoding_that_nobody_knows_is_named(application, tmp_path):
    (tmp_path / "requirements.txt").write_bytes(b"# coding: klingon\n")
    with pytest.raises(
        basics.ReleaseError, match=r"requirements.txt \(app_server_requirements\): unknown enc.*klingon"
    ):
        application.builder.readable(tmp_path / "requirements.txt", tmp_path)


def test_an_archive_of_the_controller_is_unpacked_and_removed(buildable, upstream, tmp_path):
    archive = tmp_path / "push.tar"
    upstream.git("archive", "--format=tar", f"--output={archive}", upstream.second)
    release = buildable.builder.build(upstream.second, "main", archive)
    assert (buildable.paths.releases / release / "app.py").read_text() == "number = 2\n"
    assert not archive.exists()


ENTRIES = {
    "connects to nothing": ("", ""),
    "connects and lets go": ("import socket; socket.socketpair()", ""),
    "opens a connection": ("import socket; kept = socket.socketpair()", "it opens a socket"),
    "starts a thread": ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", r"it starts a thread \(Thread-1 "),
}  # fmt: skip


def test_what_makes_static_files_runs_as_a_migration_does_but_for_secrets(application, monkeypatch):
    given: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(application.sandbox, "run_as", lambda user, argv, **options: given.update({user: options}))
    application.sandbox.making(GOOD, ["python", "manage.py", "collectstatic"])
    application.sandbox.serving(GOOD, ["python", "manage.py", "migrate"])
    making, serving = given["app-build"], given["app"]
    assert making["place"] == serving["place"] == application.paths.releases / GOOD
    secrets = f"EnvironmentFile=-{application.paths.config}/secrets"
    assert {*serving["settings"]} - {*making["settings"]} == {secrets}
    # The last word for a variable counts, and a file's before all others.
    files = [setting for setting in making["settings"] if setting.startswith("EnvironmentFile=")]
    assert [Path(file).name for file in files] == ["environment", "build_environment"]
    paths = [setting for setting in making["settings"] if setting.startswith("Environment=")]
    assert f" PATH={application.paths.releases / GOOD}/.venv/bin:/usr/bin:/bin " in paths[-1]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("", []),
        ([], []),
        ("make 'a b'", [["make", "a b"]]),
        (["make a", "", "make b"], [["make", "a"], ["make", "b"]]),
    ],
)
@pytest.mark.parametrize("key", ["static_command", "migrate_command", "notify_command"])
def test_a_command_may_be_several(application, key, declared, words):
    (application.paths.config / "release.json").write_text(json.dumps({**CONFIG, key: declared}))
    assert change.Application(application.paths).config[key] == words


def test_no_variable_is_put_into_a_command(monkeypatch):
    """The environment holds secrets, and every user of the host sees command lines."""
    seen: list[list[str]] = []
    monkeypatch.setattr(sandbox, "run", lambda argv, **_options: seen.append(argv) or "")
    sandbox.Sandbox(Layout("app"), CONFIG).run_as("app", ["login", "$PASSWORD"], writes=[])
    assert seen[0][-2:] == ["login", "$$PASSWORD"]


@pytest.mark.parametrize("what", ENTRIES)
def test_code_that_workers_would_share_a_connection_or_a_thread_of_is_refused(application, monkeypatch, what):
    lines, words = ENTRIES[what]
    place = application.paths.releases / GOOD
    place.mkdir()
    (place / "app.py").write_text(f"{lines}\ndef application(environ, start_response): ...\n")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    application.builder.check(GOOD)
    application.config["preload"] = True
    if not words:
        application.builder.check(GOOD)
    else:
        with pytest.raises(
            basics.ReleaseError,
            match=rf"once for all workers \(app_server_preload\)(.|\n)*{words}.*; set app_server_preload to false, or",
        ):
            application.builder.check(GOOD)


def test_code_is_looked_at_with_the_memory_that_a_worker_gets(application, monkeypatch):
    given: dict[str, Any] = {}
    monkeypatch.setattr(application.sandbox, "run_as", lambda user, argv, **options: given.update(options))
    application.builder.check(GOOD)
    assert not any(setting.startswith("LimitDATA=") for setting in given["settings"])
    application.config["worker_data_mb"] = 136
    application.builder.check(GOOD)
    assert "LimitDATA=136M" in given["settings"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("raise MemoryError", "it needs more memory than a worker gets (app_server_worker_memory_mb)"),
        ("import sys; raise SystemExit(repr(sys.argv))", "['-c']"),  # it is not told what it is looked at for
    ],
)
def test_code_that_does_not_load_says_why(application, lines, words):
    place = application.paths.releases / GOOD
    place.mkdir()
    (place / "app.py").write_text(f"{lines}\n")
    with pytest.raises(basics.ReleaseError, match=r"cannot be imported; nothing was switched\.") as refusal:
        application.builder.check(GOOD)
    assert words in str(refusal.value)


# What a fresh look at upgrades and odd cases found


def test_an_application_of_an_older_version_keeps_its_shared_folders_and_its_file_of_tmpfiles(application, tmp_path):
    """The tool on a host is newer than what a second application was last configured with."""
    application.config.update(shared=["media"], shared_published=None)
    assert [folder[3] for folder in application.builder.shared_folders()] == [0o755]
    place = application.paths.root / "etc/tmpfiles.d"
    place.mkdir(parents=True, exist_ok=True)
    for path in place.iterdir():
        path.unlink()
    assert application.paths.tmpfiles().name == "webstack-app.conf"
    (place / "app.conf").touch()
    assert application.paths.tmpfiles().name == "app.conf"
    (place / "webstack-app.conf").touch()
    assert application.paths.tmpfiles().name == "webstack-app.conf"


@pytest.mark.parametrize(
    ("mode", "least", "right"),
    [(0o750, True, True), (0o770, True, True), (0o2770, True, True), (0o755, True, False), (0o700, True, False),
     (0o770, False, False)],
)  # fmt: skip
def test_an_application_may_open_its_own_folder_further_to_itself(tmp_path, monkeypatch, mode, least, right):
    monkeypatch.setattr(basics, "numbers", lambda _owner, _group: (tmp_path.stat().st_uid, tmp_path.stat().st_gid))
    tmp_path.chmod(mode)
    assert (basics.misplaced(tmp_path, "app", "app", 0o750, least=least) == "") is right


def test_secrets_that_others_can_read_are_noticed(application, monkeypatch):
    monkeypatch.setattr(slots, "numbers", lambda _owner, _group: (os.geteuid(), os.getegid()))
    folder = application.paths.bound("blue")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("environment", "secrets"):
        (folder / name).write_text("")
        (folder / name).chmod(0o600)
    assert application.slots.readable_secrets("blue") == []
    (folder / "secrets").chmod(0o644)
    assert application.slots.readable_secrets("blue") == [
        f"{folder / 'secrets'} can be read or changed by others than it should"
    ]


def test_what_a_migration_prints_need_not_be_text(application):
    journal = record.Journal(application.paths)
    journal.begin(record.Record(id="1", kind="deploy"))
    journal.say("gr\udcfc\udcdfe")  # bytes of Latin-1, as they are read
    assert journal.said() == ["gr\ufffd\ufffde"]


def test_one_name_of_a_wheel_may_have_two_digests(application, monkeypatch):
    monkeypatch.setattr(shutil, "chown", lambda *_args: None)
    place = application.paths.wheels
    place.mkdir(parents=True, exist_ok=True)
    for digest in ("a" * 64, "b" * 64):
        (place / f"{digest}-app-1.0-py3-none-any.whl").write_text(digest)
    fresh = wheels.Wheels(application.paths).lay_out({"a" * 64, "b" * 64}, "app-build")
    assert [path.name for path in fresh.iterdir()] == ["app-1.0-py3-none-any.whl"]
