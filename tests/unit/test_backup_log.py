"""webstack-backup: the binary log's events, the sink that takes them, the ledger."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest
from loading import ROOT
from logs import event, format_description, log_file
from webstack_backup import basics, cli, events, ledger, marks, moments, purge, sink, state, stream
from webstack_backup.basics import Refused

LINE = "20261128T190000Z-4f3a9c"
LEDGER_LINE = "2026-11-28T19:00:01.000000Z binlog.000001 47 2026-11-28T19:00:01.000200Z"


# Events


def test_a_whole_file_is_walked_to_its_end():
    data = log_file(b"one", b"two")
    assert events.whole(memoryview(data), "binlog.000001") == len(data)


@pytest.mark.parametrize("cut", [1, 4, 20, 30])
def test_a_torn_tail_ends_at_the_last_whole_event(cut):
    whole = log_file(b"one")
    data = log_file(b"one", b"another event")
    assert events.whole(memoryview(data[:-cut]), "binlog.000001") == len(whole)


def test_zeros_behind_the_last_event_are_no_event():
    data = log_file(b"one")
    assert events.whole(memoryview(data + bytes(4096)), "binlog.000001") == len(data)


def test_without_a_whole_format_description_nothing_is_whole():
    assert [events.whole(memoryview(log_file()[:size]), "binlog.000001") for size in (0, 3, 4, 23, 60)] == [0] * 5


def walked(*found: bytes) -> events.Walk:
    walk = events.Walk("binlog.000001", 4)
    for one in found:
        walk.step(one)
    return walk


def test_an_event_that_belongs_elsewhere_is_a_hole():
    first = format_description()
    with pytest.raises(Refused, match=f"binlog.000001, position {4 + len(first)}: a hole"):
        walked(first, event(4 + len(first) + 50, b"x"))


def test_within_a_transaction_newer_servers_leave_the_position_out():
    first = format_description()
    inner = event(4 + len(first), b"x", end=0)
    last = 4 + len(first) + len(inner)
    assert walked(first, inner, event(last, b"y")).position == last + len(event(last, b"y"))
    with pytest.raises(Refused, match="a hole"):
        walked(first, inner, event(last + 1, b"y"))


def test_an_event_with_a_flipped_bit_is_refused():
    first = format_description()
    data = bytearray(event(4 + len(first), b"some text"))
    data[22] ^= 1
    with pytest.raises(Refused, match="checksum"):
        walked(first, bytes(data))


def test_an_event_is_refused_where_the_format_is_not_known():
    with pytest.raises(Refused, match="format description"):
        walked(event(4, b"x"))


def test_the_in_use_flag_does_not_count():
    data = bytearray(log_file(b"one"))
    data[21] |= events.IN_USE
    assert events.whole(memoryview(data), "binlog.000001") == len(data)
    assert events.same_file(events.first_event(data), format_description())


def test_a_file_that_was_begun_at_another_moment_is_another():
    assert not events.same_file(format_description(1700000000), format_description(1700000001))


def test_what_a_server_makes_up_for_its_reader_is_in_no_file():
    made_up = (
        event(4, b"x", flags=events.ARTIFICIAL),
        event(4, b"x", kind=events.HEARTBEAT),
        event(4, b"x", kind=events.FORMAT, end=0),
    )
    assert [events.header(one).in_file for one in made_up] == [False] * 3
    assert events.header(event(4, b"x")).in_file


# The sink


class Session:
    """backup-sink as sshd starts it, on a folder of the test."""

    def __init__(self, root, command=f"log {LINE}", host="www.example.com"):
        root.mkdir(exist_ok=True)
        library = root.parent / "library"
        if not library.exists():
            shutil.copytree(ROOT / "roles/archive/files/webstack_archive", library / "webstack_archive")
            # The folder and the library are where the role puts them; here they are the test's.
            program = (ROOT / "roles/archive/files/backup-sink").read_text(encoding="utf-8")
            program = program.replace("/usr/local/lib/webstack", str(library))
            program = program.replace(
                "sys.exit(main())",
                f"import pathlib, webstack_archive.sink as s\ns.ROOT = pathlib.Path({str(root)!r})\nsys.exit(main())",
            )
            (library / "backup-sink").write_text(program, encoding="utf-8")
        self.folder = root / host / "log" / LINE
        self.process = subprocess.Popen(
            [sys.executable, library / "backup-sink", host],
            env={**os.environ, "SSH_ORIGINAL_COMMAND": command, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def greeting(self):
        return json.loads(self.process.stdout.readline())

    def send(self, *messages):
        for kind, payload in messages:
            self.process.stdin.write(sink.FRAME.pack(kind, len(payload)) + payload)
        self.process.stdin.flush()
        return self

    def answer(self):
        return self.process.stdout.readline().decode().strip()

    def end(self):
        """What it said, until its end."""
        out, err = self.process.communicate(timeout=20)
        return out.decode(), err.decode(), self.process.returncode


def begun(name="binlog.000001"):
    return b"F", name.encode()


def data(offset, content):
    return b"D", sink.OFFSET.pack(offset) + content


@pytest.fixture
def root(tmp_path):
    return tmp_path / "srv"


def filled(root, *bodies):
    """A sink that has a file of the log."""
    content = log_file(*bodies)
    session = Session(root)
    session.greeting()
    session.send(begun(), data(0, content))
    answers = []
    while not answers or answers[-1].split()[2] != str(len(content)):
        answers.append(session.answer())
    session.end()
    return content


def test_what_is_acknowledged_is_there_and_where_it_goes_on_is_said(root):
    content = filled(root, b"one", b"two")
    session = Session(root)
    said = session.greeting()
    assert (session.folder / "binlog.000001").read_bytes() == content
    assert (said["file"], said["size"]) == ("binlog.000001", len(content))
    assert bytes.fromhex(said["head"]) == format_description()
    more = event(len(content), b"three")
    assert session.send(data(len(content), more)).answer() == f"ack binlog.000001 {len(content + more)} 0 0"
    session.end()
    assert (session.folder / "binlog.000001").read_bytes() == content + more


def test_a_torn_tail_is_cut(root):
    content = filled(root, b"one")
    path = Session(root, "list").folder / "binlog.000001"
    path.write_bytes(content + event(len(content), b"a long event")[:-7])
    session = Session(root)
    assert session.greeting()["size"] == len(content) == path.stat().st_size
    session.end()


def test_what_is_said_to_be_there_is_on_the_disk(root, monkeypatch):
    """A session that was killed may have written events that it never synced."""
    content = filled(root, b"one")
    folder = root / "www.example.com" / "log" / LINE
    path = folder / "binlog.000001"
    path.write_bytes(content + event(len(content), b"two"))
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.readlink(f"/proc/self/fd/{descriptor}")))
    archive = sink.Archive(folder)
    assert archive.size == path.stat().st_size > len(content)
    assert {str(path), str(folder / "ledger")} <= synced


def test_what_was_acknowledged_is_never_cut(root):
    content = filled(root, b"one", b"two", b"three")
    path = Session(root, "list").folder / "binlog.000001"
    path.write_bytes(content[:-10])
    out, err, code = Session(root).end()
    assert code == 1 and f"{len(content)} bytes were acknowledged" in out and "damaged at the target" in err
    assert path.read_bytes() == content[:-10]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([begun("binlog.000003")], "a hole: binlog.000003 does not come after binlog.000001"),
        ([begun("binlog.000001")], "a hole: binlog.000001 does not come after binlog.000001"),
        ([data(9999, b"x")], "a hole: binlog.000001 has"),
        ([data(0, log_file())], "a hole: binlog.000001 has"),
        ([begun("../../x")], "is not the name of a file"),
        ([(b"L", b"what anybody writes")], "no line of a ledger"),
        ([(b"L", LEDGER_LINE.encode() + b"\n" + LEDGER_LINE.encode())], "no line of a ledger"),
        ([(b"Z", b"")], "no message"),
        ([begun("binlog.000002"), data(0, b"no binary log at all")], "no binary log"),
    ],
)
def test_what_does_not_belong_at_the_end_is_refused(root, messages, words):
    content = filled(root, b"one")
    session = Session(root)
    session.greeting()
    session.send(*messages)
    out, _err, code = session.end()
    assert code == 1
    assert out.splitlines()[-1].startswith("refused ") and words in out
    assert (session.folder / "binlog.000001").read_bytes() == content


def test_a_part_of_a_batch_that_is_no_event_leaves_nothing_of_the_batch(root):
    content = filled(root, b"one")
    session = Session(root)
    session.greeting()
    good = event(len(content), b"two")
    session.send(data(len(content), good + b"rubbish"))
    out, _err, _code = session.end()
    assert "no whole event" in out
    assert (session.folder / "binlog.000001").read_bytes() == content


def test_a_disk_without_room_is_said_and_leaves_nothing_torn(root):
    content = filled(root, b"one")
    session = Session(root)
    session.greeting()
    # What a process may write stands in for what a disk has room for.
    resource.prlimit(session.process.pid, resource.RLIMIT_FSIZE, (len(content) + 5000,) * 2)
    session.send(data(len(content), event(len(content), bytes(20000))))
    out, _err, code = session.end()
    assert code == 1 and out.startswith("refused ") and "binlog.000001: File too large" in out
    assert (session.folder / "binlog.000001").read_bytes() == content


def test_a_missing_file_in_the_middle_is_said(root):
    filled(root, b"one")
    folder = Session(root, "list").folder
    (folder / "binlog.000003").write_bytes(log_file())
    assert "between binlog.000001 and binlog.000003 are missing" in Session(root).end()[0]


def test_the_ledger_is_kept_and_a_torn_line_is_cut(root):
    filled(root)
    session = Session(root)
    session.greeting()
    assert session.send((b"L", LEDGER_LINE.encode()), (b"P", b"")).answer().split()[3:] in (["1", "0"], ["1", "1"])
    session.end()
    path = session.folder / "ledger"
    assert path.read_text() == LEDGER_LINE + "\n"
    path.write_text(LEDGER_LINE + "\n" + LEDGER_LINE[:20])
    session = Session(root)
    assert session.greeting()["ledger"] == LEDGER_LINE
    session.end()
    assert path.read_text() == LEDGER_LINE + "\n"


def ledger_line(before, after=None, position=47):
    return f"{before} binlog.000001 {position} {after or before}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (ledger_line("9999-01-01T00:00:00.000000Z"), "which clock is wrong?"),
        (ledger_line("2026-11-28T19:00:02.000000Z", "9999-01-01T00:00:00.000200Z"), "which clock is wrong?"),
        (LEDGER_LINE.replace("19:00:01", "19:00:00"), "does not come after that of 2026-11-28T19:00:01"),
        (ledger_line("2026-11-28T19:00:02.000000Z", "2026-11-28T19:00:01.000200Z"), "does not come after"),
        (ledger_line("2026-11-28T19:00:02.000000Z", position=9999), "tells of binlog.000001:9999, which the log here"),
        (ledger_line("2026-11-28T19:00:02.000000Z").replace("001 47", "002 4"), "tells of binlog.000002:4, which"),
        (ledger_line("2026-11-28T19:00:02.000000Z", position=46), "tells of binlog.000001:46, which the log here"),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_ledger_goes_on_and_not_into_the_future(root, line, words, again):
    """Or whoever holds the key could have the host's own lines left out, as long as it likes, or a restore refused."""
    filled(root)
    session = Session(root)
    session.greeting()
    session.send((b"L", LEDGER_LINE.encode()))
    if again:  # it is known after the session, too
        session.end()
        session = Session(root)
        session.greeting()
    session.send((b"L", line.encode()))
    out, _err, code = session.end()
    assert code == 1 and words in out
    assert (session.folder / "ledger").read_text() == LEDGER_LINE + "\n"


def test_a_line_of_now_and_one_of_the_same_moment_are_taken(root):
    content = filled(root)
    session = Session(root)
    moment = session.greeting()["time"]
    assert moment <= basics.now()
    session.send(*[(b"L", ledger_line(moment, position=position).encode()) for position in (47, len(content))])
    session.end()
    assert len((session.folder / "ledger").read_text().splitlines()) == 2


def test_a_file_begins_only_after_one_that_has_something(root):
    """Or a stolen key could make files until the disk has room for no more names."""
    session = Session(root)
    session.greeting()
    session.send(begun("binlog.000001"), begun("binlog.000002"))
    assert "binlog.000001 has nothing in it" in session.end()[0]


def test_the_host_that_has_filled_the_disk_is_refused_and_the_others_go_on(root, monkeypatch):
    """Each leaves free a part of what it has there itself, in all its lines."""
    content = filled(root, b"one")
    (root / "www.example.com" / "log" / LINE / "ledger").write_text("")
    other = root / "www.example.com" / "log" / "20260101T000000Z-4f3a9c"
    other.mkdir()
    with (other / "binlog.000001").open("wb") as large:
        large.truncate(2000_000)  # what it has, by its size
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: SimpleNamespace(f_bavail=99, f_frsize=1000))
    archive = sink.Archive(root / "www.example.com" / "log" / LINE)
    with pytest.raises(
        Refused, match=r"no room: 99000 bytes are free there, and one 20th of this log's 2000[0-9]{3} stays free"
    ):
        archive.append(len(content), memoryview(event(len(content), b"two")))
    with pytest.raises(Refused, match="no room"):
        archive.note(LEDGER_LINE)
    assert archive.size == len(content) and (root / "www.example.com" / "log" / LINE / "ledger").read_text() == ""
    small = sink.Archive(root / "db.example.com" / "log" / LINE)
    small.begin("binlog.000001")
    small.append(0, memoryview(log_file(b"one")))
    small.note(LEDGER_LINE)


def test_a_new_session_ends_the_one_before(root):
    first = Session(root)
    first.greeting()
    second = Session(root)
    second.greeting()
    first.process.wait(5)
    second.send(begun(), data(0, log_file()))
    assert second.answer().startswith("ack binlog.000001")
    second.end()


def test_a_file_is_given_back_from_any_byte_on(root):
    content = filled(root, b"one", b"two")
    command = f"read {LINE} binlog.000001 100"
    process = Session(root, command).process
    assert process.communicate(timeout=20)[0] == content[100:]
    assert json.loads(Session(root, "list").end()[0]) == {LINE: {"binlog.000001": len(content), "ledger": 0}}


@pytest.mark.parametrize(
    "command",
    [
        "", "sh", "rm -rf /", "internal-sftp", "/usr/lib/openssh/sftp-server", "scp -t /", f"log {LINE} x", "log ../../etc", "log .",
        f"log {LINE};id", f"log {LINE}\n", f"read {LINE} ../../x 0", f"read {LINE} lock 0", f"read {LINE} acknowledged 0",
        f"read {LINE} binlog.000001 -1", f"read {LINE} binlog.000001/../ledger 0", "read .. ledger 0", "list x", "LIST", "log\t" + LINE,
        f"log  {LINE}", "log ２０261128T190000Z-4f3a9c", f"read {LINE} binlog.٠٠٠٠٠١ 0",
    ],
)  # fmt: skip
def test_everything_else_is_refused(root, command):
    out, err, code = Session(root, command).end()
    assert code == 1 and "nothing else" in err
    assert out == "" or out.startswith("refused ")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("host", ["..", ".", "a/b", "", "A", "a..b"])
def test_a_host_is_a_folder_of_its_own(root, host):
    _out, err, code = Session(root, "list", host).end()
    assert code == 1 and "called with something else" in err


# The streamer


class Replay:
    """A server that sends these events."""

    acknowledges = False

    def __init__(self, *found):
        self.found = found

    def packets(self):
        return ((one, False) for one in self.found)


class Sent(list):
    """A sink that takes notes."""

    def send(self, kind, payload):
        self.append((kind, payload))


def test_of_a_file_beyond_4_gb_the_part_that_the_target_has_is_read_again_and_not_sent_again():
    """The protocol cannot name a position there, so the server sends the file from its beginning."""
    shipping, there = stream.Stream.__new__(stream.Stream), Sent()
    content = log_file(b"one", b"two")
    first = format_description()
    one = event(4 + len(first), b"one")
    has = 4 + len(first) + len(one)
    shipping.walk, shipping.skip, shipping.waiting = events.Walk("binlog.000001", 4), has, None
    shipping.dump = Replay(first, one, event(has, b"two"))
    shipping.take(there)
    assert there == [(b"D", sink.OFFSET.pack(has) + content[has:])]


def test_a_server_that_leaves_out_a_file_is_refused():
    shipping = stream.Stream.__new__(stream.Stream)
    shipping.walk = events.Walk("binlog.000001", 4)
    with pytest.raises(Refused, match=r"a hole: after binlog.000001 this server goes on with binlog.000003"):
        shipping.rotate(Sent(), "binlog.000003")


@pytest.mark.parametrize(("enabled", "near"), [(True, True), (True, False), (False, True), (None, True)])
def test_only_a_server_that_waits_is_told_that_it_is_acknowledged(monkeypatch, enabled, near):
    """MySQL without its plugin sends events without the two bytes that say whether somebody waits."""
    shipping = stream.Stream.__new__(stream.Stream)
    shipping.config = {"acknowledge": True}
    found = None if enabled is None else SimpleNamespace(enabled=enabled)
    shipping.watch = SimpleNamespace(acknowledgement=found)
    monkeypatch.setattr(stream.Stream, "is_near", lambda _self: near)
    assert shipping.may_acknowledge() is (enabled is True and near)


def switching(monkeypatch, shipped):
    """A streamer that has handed over the log up to 700, and is near enough for commits to wait."""
    monkeypatch.setattr(stream.Stream, "may_acknowledge", lambda _self: True)
    monkeypatch.setattr(stream.Stream, "tell", lambda _self: None)
    shipping = stream.Stream.__new__(stream.Stream)
    shipping.walk, shipping.shipped, shipping.due = events.Walk("binlog.000002", 700), shipped, 0
    shipping.questions = shipping.answered = shipping.lead = 0
    shipping.questioned = time.monotonic()
    shipping.ledger, shipping.lines, shipping.offset = (
        SimpleNamespace(read=lambda _offset: [], trim=lambda offset: offset),
        [],
        0,
    )
    shipping.opened = []
    monkeypatch.setattr(stream.Stream, "open", lambda self, **how: self.opened.append(how))
    return shipping


@pytest.mark.parametrize(
    ("shipped", "opened"),
    [
        (("binlog.000002", 699), []),
        (("binlog.000001", 700), []),
        (None, []),
        (("binlog.000002", 700), [{"acknowledges": True}]),
    ],
)
def test_it_begins_to_acknowledge_once_the_target_has_what_was_handed_over(monkeypatch, shipped, opened):
    """The server takes everything before the position where that begins as acknowledged."""
    shipping = switching(monkeypatch, shipped)
    shipping.dump = SimpleNamespace(acknowledges=False)
    shipping.tick(Sent())
    assert shipping.opened == opened


def test_until_then_the_server_is_not_read(monkeypatch):
    """Or what was handed over would go on growing."""
    shipping = switching(monkeypatch, ("binlog.000002", 699))
    server, ours = socket.socketpair()
    server.send(b"an event")
    received = []
    shipping.dump = SimpleNamespace(
        acknowledges=False, fileno=ours.fileno, receive=lambda: received.append(ours.recv(99))
    )
    monkeypatch.setattr(stream.Stream, "take", lambda _self, _sink: None)
    there = stream.Sink(["cat"])
    try:
        shipping.turn(there)
        assert received == []
        shipping.dump.acknowledges = True
        shipping.turn(there)
        assert received == [b"an event"]
    finally:
        there.close()


def test_a_server_that_was_started_since_is_another(monkeypatch, tmp_path):
    """It may have begun another line. While there is none, or it has just been killed, the fault is told in words."""
    monkeypatch.setattr(state, "SOCKET", tmp_path / "mysqld.sock")
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    assert state.server_start() == ""
    (tmp_path / "mysqld.sock").touch()
    start = state.server_start()
    stream.same_server(start)
    (tmp_path / "mysqld.sock").unlink()
    stream.same_server(start)
    assert ended == []
    (tmp_path / "other").touch()
    os.utime(tmp_path / "other", (1, 1))
    (tmp_path / "other").rename(tmp_path / "mysqld.sock")
    stream.same_server(start)
    stream.same_server("")
    assert ended == [0, 0]


@pytest.mark.parametrize(
    ("latest", "asked", "refused"),
    [(4711, 9e9, False), (5000, 0, False), (4000, 9e9, True)],
)
def test_more_than_the_server_has_is_refused_once_it_was_asked_again(monkeypatch, latest, asked, refused):
    """What the server was asked before may be older than what the target has."""
    monkeypatch.setattr(stream.Stream, "tell", lambda _self: None)
    shipping = stream.Stream.__new__(stream.Stream)
    shipping.watch = SimpleNamespace(latest=entry(1, latest), asked=asked)
    if refused:
        with pytest.raises(
            Refused, match=r"up to binlog.000001:4711, and this server up to binlog.000001:4000: somebody else"
        ):
            shipping.refuse_more_than_there_is("binlog.000001", 4711)
    else:
        shipping.refuse_more_than_there_is("binlog.000001", 4711)


def test_root_takes_an_id_and_no_other_file_from_the_servers_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "LOG", tmp_path / "log")
    monkeypatch.setattr(state, "FOLDER", tmp_path / "run")
    monkeypatch.setattr(state, "START", tmp_path / "run" / "server")
    for folder in ("log", "run"):
        (tmp_path / folder).mkdir()
    given, taken = tmp_path / "log" / "line", tmp_path / "run" / "line"
    given.write_text(f"{LINE}\n")
    cli.take_line()
    assert taken.read_text() == f"{LINE}\n"
    given.unlink()
    cli.take_line()
    assert not taken.exists()
    secret = tmp_path / "shadow"
    secret.write_text(f"{LINE}\n")
    given.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        cli.take_line()
    given.unlink()
    given.write_text("root:$y$secret\n")
    with pytest.raises(Refused, match="does not hold the id of a line") as told:
        cli.take_line()
    assert "secret" not in str(told.value) and not taken.exists()


# The ledger


def entry(second, position, mark="", file="binlog.000001"):
    moment = f"2026-11-28T19:00:{second:02d}.000000Z"
    return ledger.Entry(moment, file, position, moment, mark)


def test_a_line_of_the_ledger_is_read_as_it_was_written():
    one = entry(7, 4711, "before:20261128-1")
    assert ledger.entry(str(one)) == one
    assert sink.LEDGER.fullmatch(str(one))
    with pytest.raises(Refused, match="no line"):
        ledger.entry("2026-11-28 binlog.000001 4")


def test_the_first_and_the_last_line_of_a_quiet_time_are_kept(tmp_path):
    book = ledger.Ledger(tmp_path / "ledger")
    for second, position in enumerate([100, 100, 100, 200, 200, 300]):
        book.add(entry(second, position))
    assert [(line[17:19], line.split()[2]) for line in book.read(0)] == [
        ("00", "100"), ("02", "100"), ("03", "200"), ("04", "200"), ("05", "300"),
    ]  # fmt: skip


def test_a_mark_is_written_in_a_quiet_time_too(tmp_path):
    book = ledger.Ledger(tmp_path / "ledger")
    book.add(entry(1, 100))
    book.add(entry(2, 100, "before:x"))
    assert book.read(0)[-1] == str(entry(2, 100, "before:x"))


def test_the_target_is_sent_what_comes_after_its_last_line(tmp_path):
    book = ledger.Ledger(tmp_path / "ledger")
    for second in range(1, 5):
        book.add(entry(second, second))
    assert book.read(book.after(str(entry(2, 2)))) == [str(entry(3, 3)), str(entry(4, 4))]
    assert book.read(book.after(str(entry(4, 4)))) == []
    assert len(book.read(book.after(""))) == 4
    # One that is not in the local copy, which begins later.
    assert book.read(book.after(str(entry(0, 0)))) == [str(entry(second, second)) for second in range(1, 5)]


def test_a_torn_line_of_the_local_copy_is_dropped(tmp_path):
    (tmp_path / "ledger").write_text(f"{entry(1, 1)}\n{str(entry(2, 2))[:30]}")
    assert ledger.Ledger(tmp_path / "ledger").read(0) == [str(entry(1, 1))]


def test_the_local_copy_is_cut_at_a_line_once_the_target_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "KEEP", 300)
    book = ledger.Ledger(tmp_path / "ledger")
    for second in range(10):
        book.add(entry(second, second))
    size = (tmp_path / "ledger").stat().st_size
    offset = book.trim(size)
    assert offset == (tmp_path / "ledger").stat().st_size < size
    book.add(entry(10, 10))
    assert book.read(offset) == [str(entry(10, 10))]
    assert book.read(0)[0].startswith("2026-11-28T19:00:")


def test_times_never_go_back_though_the_clock_does(tmp_path):
    """The target takes lines in order only, and looks for what it has not by the time."""
    book = ledger.Ledger(tmp_path / "ledger")
    book.add(entry(30, 100))
    assert book.add(entry(10, 200, "before:x")) == replace(entry(30, 200), mark="before:x")
    assert ledger.Ledger(tmp_path / "ledger").add(entry(20, 300)) == entry(30, 300)
    book.add(entry(40, 400))
    assert [(one.before[17:19], one.position) for one in ledger.entries(tmp_path / "ledger")] == [
        ("30", 100), ("30", 200), ("30", 300), ("40", 400),
    ]  # fmt: skip


def test_lines_that_are_ahead_of_the_targets_clock_wait_and_the_log_goes_on(tmp_path):
    """The target would refuse them, and the session with them."""
    shipping, there = stream.Stream.__new__(stream.Stream), Sent()
    shipping.ledger, shipping.lines, shipping.offset = ledger.Ledger(tmp_path / "ledger"), deque(), 0
    shipping.shipped = ("binlog.000001", 5000)
    for ahead in (-9, 40):
        moment = basics.now(ahead)
        shipping.ledger.add(ledger.Entry(moment, "binlog.000001", 4711 + ahead, moment))
    shipping.lead = 0
    shipping.send_ledger(there)
    assert len(there) == 1 and "new-line" in shipping.held_back
    shipping.lead = 60  # the target's clock is ahead of this one
    shipping.send_ledger(there)
    assert len(there) == 2 and shipping.held_back == ""


def test_a_line_of_the_ledger_goes_to_the_target_after_what_it_tells_of(tmp_path):
    """Or a host that is killed in between leaves a ledger there that tells of more than the log has."""
    shipping, there = stream.Stream.__new__(stream.Stream), Sent()
    shipping.ledger, shipping.lines, shipping.offset, shipping.lead = ledger.Ledger(tmp_path / "ledger"), deque(), 0, 0
    for second, position in enumerate((100, 200, 300)):
        shipping.ledger.add(entry(second, position))
    gone = []
    for shipped in (None, ("binlog.000001", 100), ("binlog.000001", 299), ("binlog.000002", 0)):
        shipping.shipped = shipped
        shipping.send_ledger(there)
        gone.append(len(there))
    assert gone == [0, 1, 2, 3]


def test_each_line_of_the_log_has_a_ledger_of_its_own(tmp_path):
    """A moment of before a new line is a position of the other log."""
    other = "20261128T200000Z-4f3a9c"
    ledger.Ledger(ledger.local(LINE, tmp_path)).add(entry(1, 4711))
    ledger.Ledger(ledger.local(other, tmp_path)).add(entry(2, 400))
    assert moments.entries(LINE, tmp_path) == [entry(1, 4711)]
    assert moments.entries(other, tmp_path) == [entry(2, 400)]
    with pytest.raises(Refused, match="the ledger begins at 2026-11-28 19:00:02"):
        moments.wanted("2026-11-28 19:00:01Z", moments.entries(other, tmp_path), None)


def test_of_a_ledger_of_all_lines_what_came_since_the_present_one_began_goes_on(tmp_path):
    line = "20261128T190002Z-4f3a9c"
    (tmp_path / "ledger").write_text("".join(f"{entry(second, second)}\n" for second in range(5)))
    ledger.take_over(line, tmp_path)
    assert moments.entries(line, tmp_path) == [entry(second, second) for second in (2, 3, 4)]
    assert not (tmp_path / "ledger").exists()
    ledger.take_over(line, tmp_path)


def test_a_line_for_which_there_was_no_room_leaves_no_part_of_itself(tmp_path):
    """In a process of its own: what it may write stands in for what the disk has room for."""
    path = tmp_path / "ledger"
    ledger.Ledger(path).add(entry(1, 1))
    program = f"""if True:
        import resource, signal, sys
        sys.path.insert(0, {str(ROOT / "roles/backup/files")!r})
        from pathlib import Path
        from webstack_backup import ledger
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        book = ledger.Ledger(Path({str(path)!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 30}, resource.RLIM_INFINITY))
        try:
            book.add(ledger.entry({str(entry(2, 2))!r}))
        except OSError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        book.add(ledger.entry({str(entry(3, 3))!r}))
    """
    done = subprocess.run([sys.executable, "-B", "-c", program], capture_output=True, text=True, check=True)
    assert "No space left on device" in done.stdout
    assert path.read_text() == f"{entry(1, 1)}\n{entry(3, 3)}\n"


def test_a_torn_line_in_the_middle_is_left_out(tmp_path):
    ledger.Ledger(ledger.local(LINE, tmp_path))
    text = f"{entry(1, 1)}\n{str(entry(2, 2))[:40]}{entry(3, 3)}\n{entry(4, 4)}\n"
    ledger.local(LINE, tmp_path).write_text(text)
    assert moments.entries(LINE, tmp_path) == [entry(1, 1), entry(4, 4)]
    shipping, there = stream.Stream.__new__(stream.Stream), Sent()
    shipping.lead, shipping.shipped = 0, ("binlog.000001", 5000)
    shipping.ledger, shipping.lines, shipping.offset, shipping.due = (
        ledger.Ledger(ledger.local(LINE, tmp_path)),
        deque(),
        0,
        0,
    )
    shipping.send_ledger(there)
    assert there == [(b"L", str(one).encode()) for one in (entry(1, 1), entry(4, 4))]
    assert shipping.offset == len(text)


# Marks


def test_a_mark_that_nobody_waits_for_any_more_is_not_taken(tmp_path):
    stale = tmp_path / "a.wanted"
    stale.write_text("before:x")
    os.utime(stale, (time.time() - 60, time.time() - 60))
    fresh = tmp_path / "b.wanted"
    fresh.write_text("before:y")
    assert [request.name for request in marks.requests(tmp_path)] == ["before:y"]
    assert not stale.exists()


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 201, "ü"])
def test_a_mark_with_a_name_that_would_break_the_ledger_is_refused(tmp_path, name):
    with pytest.raises(Refused, match="a mark is named"):
        marks.take(name, tmp_path)


@pytest.mark.parametrize("name", ["latest", "full", "app.1:2", "2026-release"])
def test_a_mark_with_a_name_that_means_another_moment_is_refused(tmp_path, name):
    with pytest.raises(Refused, match=f"--to {name} is"):
        marks.take(name, tmp_path)


# What the streamer's user could put in its own folders, where root reads


@pytest.fixture
def planted(tmp_path):
    """A link to what root alone reads, and a pipe that nobody writes to."""
    secret = tmp_path / "secret"
    secret.write_text(f"{LEDGER_LINE}\n{LINE}\n")

    def plant(path, kind):
        path.parent.mkdir(exist_ok=True)
        if kind == "link":
            path.symlink_to(secret)
        else:
            os.mkfifo(path)
        return path

    return plant


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("read", [ledger.entries, ledger.line_in])
def test_root_reads_neither_a_link_nor_a_pipe_that_the_streamers_user_has_put_there(planted, tmp_path, kind, read):
    with pytest.raises((Refused, OSError)):
        read(planted(tmp_path / "theirs", kind))


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_state_that_is_no_file_is_no_state(planted, tmp_path, kind):
    (tmp_path / "secret").write_text('{"line": "x"}')
    assert state.read(planted(tmp_path / "state.json", kind)) == {}


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_answer_to_a_mark_is_a_file(planted, tmp_path, monkeypatch, kind):
    (tmp_path / "secret").write_text("root:$y$j9T$HASH:20000:0:99999:7:::\n")
    monkeypatch.setattr(marks.secrets, "token_hex", lambda _bytes: "1")
    (tmp_path / "marks").mkdir()
    planted(tmp_path / "marks/1.taken", kind)
    with pytest.raises((Refused, OSError)) as refused:
        marks.take("before:x", tmp_path / "marks")
    assert "HASH" not in str(refused.value) and list((tmp_path / "marks").iterdir()) == []


def test_a_file_that_memory_might_not_hold_is_refused(tmp_path):
    (tmp_path / "large").write_text("x" * 101)
    with pytest.raises(Refused, match="more than 100 bytes"):
        basics.read_text(tmp_path / "large", 100)


@pytest.mark.parametrize("to", ["folder", "secret"])
def test_the_copy_of_the_key_is_written_to_nowhere_else(tmp_path, to):
    unit = (ROOT / "roles/backup/templates/webstack-binlog.service.j2").read_text(encoding="utf-8")
    (line,) = [one.partition("=+")[2] for one in unit.splitlines() if one.startswith("ExecStartPre=+/usr/bin/install ")]
    (tmp_path / "key").write_text("a key")
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").write_text("a secret")
    copy = tmp_path / "run/key"
    copy.parent.mkdir()
    copy.symlink_to(tmp_path / to)
    words = {"/etc/webstack-backup/key": str(tmp_path / "key"), "/run/webstack-binlog/key": str(copy)}
    argv = [words.get(word, word) for word in line.split() if not word.startswith("--owner=")]
    subprocess.run(argv, check=True)
    assert copy.read_text() == "a key" and not copy.is_symlink()
    assert list((tmp_path / "folder").iterdir()) == [] and (tmp_path / "secret").read_text() == "a secret"


# What may be removed of the log


@pytest.mark.parametrize(
    ("there", "wholly"),
    [
        ({1: 10, 2: 20, 3: 30, 4: 5}, [1, 2, 3]),
        ({1: 10, 2: 20, 3: 30}, [1, 2]),  # the streamer goes on with the last one
        ({1: 10, 2: 19, 3: 30, 4: 5}, [1, 3]),  # a part is not enough
        ({2: 20, 3: 30, 4: 5}, [2, 3]),
        ({}, []),
    ],
)
def test_of_the_log_what_is_wholly_at_the_target_may_be_removed(tmp_path, there, wholly):
    names = [f"binlog.{number:06}" for number in (1, 2, 3, 4)]
    for index, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes((10, 20, 30, 40)[index]))
    listed = {"ledger": 4711, **{f"binlog.{number:06}": size for number, size in there.items()}}
    assert [name for name in names if purge._at_target(listed, tmp_path)(name)] == [
        names[number - 1] for number in wholly
    ]


# Words


def now(**changed):
    return {
        "time": basics.now(),
        "line": LINE, "target": "webstack-archive@backup.example.com", "fault": "",
        "shipped": {"file": "binlog.000012", "position": 4711, "time": "2026-11-28T19:00:00.000000Z"},
        "behind_bytes": 0, "behind_seconds": 0.0, "declared": True, "acknowledged": True,
        "since": "2026-11-28T10:02:11.000000Z", "timeout_ms": 2000, "unprotected": 0, **changed,
    }  # fmt: skip


def test_a_kept_promise_is_told():
    lines, good = state.overview(now())
    assert good
    assert "has the log up to binlog.000012:4711, complete" in lines[0]
    assert (
        lines[1]
        == "Commits are acknowledged by the target since 2026-11-28 10:02:11 UTC; each waits for it, 2000 ms at most"
    )


def test_commits_without_protection_are_counted():
    lines, good = state.overview(now(acknowledged=False, unprotected=361, fault="ssh: no route to host"))
    assert not good
    assert "Fault: ssh: no route to host" in lines
    assert "NOT acknowledged since 2026-11-28 10:02:11 UTC: 361 commits are only on this host" in lines[-1]


def test_asynchronous_shipping_says_what_a_lost_host_loses():
    lines, good = state.overview(now(declared=False, acknowledged=False, behind_bytes=5000, behind_seconds=2.4))
    assert good
    assert "2 s and 5000 bytes behind" in lines[0]
    assert "is lost with this host" in lines[-1]


@pytest.mark.parametrize("found", [{}, now(time="2026-11-28T10:00:00.000000Z")])
def test_a_streamer_that_does_not_run_is_told(found):
    lines, good = state.overview(found)
    assert not good and "no sign of webstack-binlog.service" in lines[0]


def test_a_server_that_removes_its_log_by_age_is_told():
    assert "removes its log after 7 days" in "\n".join(state.overview(now(expires=7 * 86400))[0])
    assert "removes" not in "\n".join(state.overview(now(expires=0))[0])


@pytest.mark.parametrize(
    ("free", "total", "enough"), [(5, 40, True), (3, 40, False), (11, 2000, True), (9, 2000, False)]
)
def test_a_disk_of_the_log_that_fills_is_told_early(monkeypatch, tmp_path, free, total, enough):
    found = SimpleNamespace(free=free << 30, total=total << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: found)
    (words,), good = state.room(tmp_path)
    assert good is enough and ("every commit waits" in words) is not enough
    assert f"{found.free / 1e9:.1f} GB of {found.total / 1e9:.1f} GB are free" in words
