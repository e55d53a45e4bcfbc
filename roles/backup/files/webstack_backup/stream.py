"""Ships the binary log of this host to the target, as it is written: webstack-binlog.service.

It reads the log as a replica does, through the server's socket, and hands it to a sink (sink.py) through ssh. It is a
semi-synchronous replica as soon as the target has nearly all: then a commit is done once the target has it on its disk.
While it is further behind it must not be one, or commits would wait for all that comes before them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from . import events, marks, state
from .basics import Refused, in_words, now
from .ledger import Entry, Ledger, ask, entry, local, take_over
from .server import Acknowledgement, Dump, Server, format_of, named_by_rotation
from .sink import FRAME, LEDGER, OFFSET
from .target import name_of, way

KEY = state.FOLDER / "key"  # the unit copies it there
GREETING_SECONDS = 60  # a target checks the last file of the log first
NEAR = 4 << 20  # bytes behind the server, below which commits may wait for what is on its way
AHEAD = 8 << 20  # bytes on their way to the sink, beyond which the server is not read
AHEAD_ENTRIES = 86400  # a day; the oldest counts, which says for how long the target is behind
AHEAD_OF_TARGET = (
    30  # seconds: lines that are further ahead of its clock are not sent; it would refuse them, and the log with them
)
RETRY = 1.0  # seconds between two tries
TICK = 0.1


def log(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


class Sink:
    """The session at the target."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        for stream in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(stream.fileno(), False)
        self.outgoing = bytearray()
        self.incoming = b""
        self.complaints = b""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()

    def send(self, kind: bytes, payload: bytes) -> None:
        self.outgoing += FRAME.pack(kind, len(payload)) + payload

    def push(self) -> None:
        """Writes what the pipe takes."""
        with contextlib.suppress(BrokenPipeError):  # its output says why
            while self.outgoing and (written := self.stdin.write(memoryview(self.outgoing)[: 1 << 18])):
                del self.outgoing[:written]

    def answers(self) -> Iterator[str]:
        """The lines that have come."""
        part = self.stdout.read(1 << 16)
        if part == b"":
            raise Refused(self.ended())
        self.incoming += part or b""
        *lines, self.incoming = self.incoming.split(b"\n")
        for line in lines:
            words = line.decode(errors="replace")
            if words.startswith("refused "):
                raise Refused(f"the target refuses: {words.removeprefix('refused ')}")
            yield words

    def listen(self) -> None:
        """Keeps the end of what ssh complains of."""
        self.complaints = (self.complaints + (self.stderr.read(1 << 16) or b""))[-2000:]

    def ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.listen()
        said = " ".join(self.complaints.decode(errors="replace").split())
        return f"the connection to the target has ended: {said or f'ssh exited with {self.process.returncode}'}"

    def greeting(self, meanwhile: Callable[[], None]) -> dict[str, Any]:
        """What the target has."""
        deadline = time.monotonic() + GREETING_SECONDS
        while time.monotonic() < deadline:
            meanwhile()
            ready = select.select([self.stdout, self.stderr], [], [], TICK)[0]
            if self.stderr in ready:
                self.listen()
            if self.stdout in ready:
                for line in self.answers():
                    return json.loads(line)
            elif self.process.poll() is not None:
                raise Refused(self.ended())
        raise Refused(f"the target does not say what it has within {GREETING_SECONDS} s")


def same_server(start: str) -> None:
    """A server that is started may begin another line, and this process could not read which: systemd starts it anew."""
    if (found := state.server_start()) and found != start:
        log("the database server has been started: so is this, to ask for the line of its log again")
        os._exit(0)


class Watch(threading.Thread):
    """Asks the server each second for the end of its log, in a thread: the answer may have to wait for a commit that
    waits for the acknowledgement that the streamer passes on."""

    def __init__(self, ledger: Ledger, start: str) -> None:
        super().__init__(daemon=True)
        self.ledger, self.start_of_server = ledger, start
        self.fault = ""
        self.latest: Entry | None = None
        self.known = threading.Event()
        self.asked = 0.0
        self.acknowledgement: Acknowledgement | None = None
        self.expires = 0
        self.sizes: dict[str, int] = {}
        self.shipped_file = ""
        # Ends of the log that the target had not reached when they were seen, the oldest first.
        self.ahead: deque[Entry] = deque()

    def run(self) -> None:
        while True:
            try:
                with Server() as server:
                    same_server(self.start_of_server)
                    self.follow(server)
            except (Refused, OSError) as error:
                self.fault = in_words(error)
            except Exception as error:
                log(f"a fault of this program: {error!r}")
                os._exit(1)  # systemd starts it again
            time.sleep(RETRY)

    def follow(self, server: Server) -> None:
        due = 0.0
        while True:
            for request in marks.requests():
                marks.answer(request, self.note(server, request.name))
            if time.monotonic() >= due:
                due = time.monotonic() + 1
                self.note(server)
                self.acknowledgement, self.expires = server.acknowledgement(), server.expires()
                if self.latest and self.shipped_file != self.latest.file:
                    self.sizes = server.files()
                self.fault = ""
            time.sleep(TICK)

    def note(self, server: Server, mark: str = "") -> Entry:
        found = self.ledger.add(ask(server.end_of_log, mark))
        if (not self.latest or self.latest.place != found.place) and len(self.ahead) < AHEAD_ENTRIES:
            self.ahead.append(found)
        self.latest, self.asked = found, time.monotonic()
        self.known.set()
        return found


class Stream:
    def __init__(self, config: dict[str, Any], line: str, start: str) -> None:
        self.config, self.line, self.start_of_server = config, line, start
        self.target = name_of(config["target"])
        take_over(line)
        self.ledger = Ledger(local(line))
        marks.MARKS.mkdir(exist_ok=True)
        self.watch = Watch(self.ledger, start)
        self.fault = "not connected yet"
        self.dump: Dump | None = None
        self.walk = events.Walk("", 0)  # what was handed to the sink
        self.shipped: tuple[str, int] | None = None  # what the target has acknowledged
        self.shipped_at = ""
        self.waiting: deque[tuple[str, int]] = deque()  # ends of commits that wait for the acknowledgement
        self.lines: deque[str] = deque()  # of the ledger, on their way
        self.lines_gone = self.questions = self.answered = 0
        self.questioned = 0.0
        self.line_shipped = self.held_back = ""
        before = state.read()
        self.acknowledged = False
        self.since = now()
        self.base = int(before.get("base", 0))
        self.told = 0.0

    # Towards the target

    def argv(self) -> list[str]:
        return [*way(self.config["target"], KEY), f"log {self.line}"]

    def session(self) -> None:
        sink = Sink(self.argv())
        try:
            self.begin(sink, sink.greeting(self.tell))
            self.fault = ""
            log(f"connected: {self.target} has {self.walk.name}:{self.walk.position}")
            while True:
                self.turn(sink)
                self.tick(sink)
        finally:
            sink.close()
            if self.dump:
                self.dump.close()
                self.dump = None

    def begin(self, sink: Sink, greeting: dict[str, Any]) -> None:
        """Goes on behind what the target has."""
        same_server(self.start_of_server)
        name, size = greeting["file"], greeting["size"]
        if name and size:
            self.refuse_another_log(name, bytes.fromhex(greeting["head"]))
            self.refuse_more_than_there_is(name, size)
            self.refuse_the_middle_of_an_event(name, size)
        if not name:
            with Server() as server:
                name = next(iter(server.files()))
            sink.send(b"F", name.encode())
        self.walk = events.Walk(name, size)
        self.shipped, self.shipped_at = ((name, size), now()) if size else (None, "")
        self.waiting.clear()
        self.lines.clear()
        self.lines_gone = self.questions = self.answered = 0
        self.line_shipped = greeting["ledger"]
        self.lead = -state.age(greeting["time"])  # seconds by which the target's clock is ahead of this one
        self.offset = self.ledger.after(greeting["ledger"])
        self.due = 0.0
        self.open(acknowledges=self.may_acknowledge())
        same_server(self.start_of_server)  # the one that the connection is to

    def refuse_another_log(self, name: str, head: bytes) -> None:
        """A log that was begun anew has files of the same names."""
        try:
            own = format_of(name)
        except Refused as error:
            with Server() as server:
                own_names = list(server.files())
            if name in own_names:
                raise
            raise Refused(
                f"a hole: the target has the log up to {name}, and this server has it from {own_names[0]} on. "
                "Nothing is shipped until you begin a new line (webstack-backup new-line) and make a full backup"
            ) from error
        if not events.same_file(own, head):
            raise Refused(
                f"{name} of this server is another than that at the target: the log was begun anew. "
                "Nothing is shipped until you begin a new line (webstack-backup new-line) and make a full backup"
            )

    def refuse_more_than_there_is(self, name: str, size: int) -> None:
        """Said in words before the server is asked for it: MariaDB 10.11 may never end such a thread, and then serves no other."""
        begun = time.monotonic()
        while (
            (latest := self.watch.latest)
            and latest.place < (events.number(name), size)
            and time.monotonic() < begun + 3
        ):
            if self.watch.asked > begun:
                raise Refused(
                    f"the target has the log up to {name}:{size}, and this server up to {latest.file}:{latest.position}: "
                    "somebody else has written there with this host's key, or this server has lost the end of its log. "
                    "Nothing is shipped until you begin a new line (webstack-backup new-line) and make a full backup"
                )
            self.tell()
            time.sleep(TICK)

    def refuse_the_middle_of_an_event(self, name: str, size: int) -> None:
        """Asked before the log is read from there: MariaDB 10.11 may never end such a thread."""
        with Server() as server:
            if not server.has_events_from(name, size):
                raise Refused(
                    f"the target has the log up to {name}:{size}, where no event of this server's log begins: somebody else has "
                    "written there with this host's key, or this server has lost the end of its log and written another. "
                    "Nothing is shipped until you begin a new line (webstack-backup new-line) and make a full backup"
                )

    @property
    def declared(self) -> bool:
        return bool(self.config["acknowledge"])

    def may_acknowledge(self) -> bool:
        """A server that does not wait, such as MySQL without its plugin, does not say either which events it would wait for."""
        found = self.watch.acknowledgement
        return self.declared and found is not None and found.enabled and self.is_near()

    @property
    def switches(self) -> bool:
        """Whether it is about to begin to acknowledge. The server takes all before the position where that begins as
        acknowledged: it is not read any further until the target has what was handed over."""
        return bool(self.dump and not self.dump.acknowledges and self.may_acknowledge())

    def is_near(self) -> bool:
        """Whether so little is missing that commits may wait for it."""
        latest = self.watch.latest
        if not latest or time.monotonic() - self.watch.asked > 3:
            return False
        place = (events.number(self.walk.name), self.walk.position + NEAR)
        return latest.place <= place

    def open(self, *, acknowledges: bool) -> None:
        if self.dump:
            self.dump.close()
        position = max(self.walk.position, len(events.MAGIC))
        # The protocol names positions below 4 GB; a larger file is read from its beginning, and what the target has is skipped.
        self.skip = 0 if position < 2**32 else position
        if self.skip:
            position = self.walk.position = len(events.MAGIC)
        self.dump = Dump(self.walk.name, position, acknowledges=acknowledges)

    # One turn of what is ready

    def turn(self, sink: Sink) -> None:
        assert self.dump
        readers = [sink.stdout, sink.stderr]
        if len(sink.outgoing) < AHEAD and not self.switches:
            readers.append(self.dump)
        ready, takes, _failed = select.select(readers, [sink.stdin] if sink.outgoing else [], [], TICK)
        if self.dump in ready:
            self.dump.receive()
            self.take(sink)
        if takes or sink.outgoing:
            sink.push()
        if sink.stderr in ready:
            sink.listen()
        if sink.stdout in ready:
            for answer in sink.answers():
                self.heed(answer)

    def take(self, sink: Sink) -> None:
        """Hands over the events that have come."""
        assert self.dump
        offset, data = self.walk.position, bytearray()

        def hand_over() -> None:
            nonlocal offset
            if data:
                sink.send(b"D", OFFSET.pack(offset) + data)
                data.clear()
            offset = self.walk.position

        for event, waits in self.dump.packets():
            found = events.header(event)
            if not found.in_file:
                if found.kind == events.FORMAT:
                    self.walk.learn(event)
                elif found.kind == events.ROTATE and (name := named_by_rotation(event)) != self.walk.name:
                    hand_over()
                    self.rotate(sink, name)
                    offset = 0
                continue
            if self.walk.position == 0:
                data += events.MAGIC
                self.walk.position = len(events.MAGIC)
            self.walk.step(event)
            if self.walk.position > self.skip:
                data += event
            else:
                offset = self.walk.position
            if waits:
                self.waiting.append((self.walk.name, self.walk.position))
        hand_over()

    def rotate(self, sink: Sink, name: str) -> None:
        if events.number(name) != events.number(self.walk.name) + 1:
            raise Refused(f"a hole: after {self.walk.name} this server goes on with {name}")
        self.walk, self.skip = events.Walk(name, 0), 0
        sink.send(b"F", name.encode())

    def heed(self, answer: str) -> None:
        """The target has all up to there on its disk: the server may tell who waits."""
        _ack, name, size, lines, answered = answer.split()
        self.shipped, self.shipped_at, self.answered = (name, int(size)), now(), int(answered)
        while self.lines_gone < int(lines):
            self.line_shipped = self.lines.popleft()
            self.lines_gone += 1
        reached = None
        while self.waiting and (events.number(self.waiting[0][0]), self.waiting[0][1]) <= self.place:
            reached = self.waiting.popleft()
        if reached and self.dump and self.dump.acknowledges:
            self.dump.acknowledge(*reached)

    # Each tenth of a second, and each second

    @property
    def place(self) -> tuple[int, int]:
        """Up to where the target has the log."""
        return (events.number(self.shipped[0]), self.shipped[1]) if self.shipped else (0, 0)

    def tick(self, sink: Sink) -> None:
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + TICK
        self.send_ledger(sink)
        if self.answered == self.questions and time.monotonic() > self.questioned + 1:
            sink.send(b"P", b"")
            self.questions += 1
            self.questioned = time.monotonic()
        if self.switches and self.shipped == (self.walk.name, self.walk.position):
            self.open(acknowledges=True)
        self.tell()

    def send_ledger(self, sink: Sink) -> None:
        """The lines that have been written since, each once the target has the log up to its position."""
        self.held_back = ""
        limit = now(self.lead + AHEAD_OF_TARGET)
        for line in self.ledger.read(self.offset):
            if LEDGER.fullmatch(line):  # a power cut may have torn one
                found = entry(line)
                if found.place > self.place:
                    break
                if found.after > limit:
                    self.held_back = (
                        f"the ledger of this host is at {line[:19]}Z, and it is {limit[:19]}Z at the target: moments are not known "
                        "there until then. If the clock of this host was wrong, begin a new line (webstack-backup new-line)"
                    )
                    break
                sink.send(b"L", line.encode())
                self.lines.append(line)
            self.offset += len(line.encode()) + 1
        if not self.lines:
            self.offset = self.ledger.trim(self.offset)

    def silence(self) -> float:
        """Seconds for which the target has not answered."""
        return time.monotonic() - self.questioned if self.questions > self.answered else 0.0

    def tell(self) -> None:
        """Writes the state, each second and with each change of the promise."""
        found = self.watch.acknowledgement
        silence = self.silence()
        late = silence > max(2.0, found.timeout_ms / 1000 if found else 0)
        holds = bool(
            self.dump
            and self.dump.acknowledges
            and found
            and found.enabled
            and found.waits
            and found.readers
            and not late
        )
        fault = self.fault or self.watch.fault
        if not fault and late:
            fault = f"the target has not answered for {silence:.0f} s"
        fault = fault or self.held_back
        if not fault and self.declared and found and not found.enabled:
            fault = "the database server does not wait for acknowledgements (mysql_acknowledge_timeout_ms is 0)"
        changed = holds != self.acknowledged
        if changed:
            self.acknowledged, self.since = holds, now()
        if not changed and time.monotonic() < self.told + 1:
            return
        self.told = time.monotonic()
        latest = self.watch.latest
        self.watch.shipped_file = self.shipped[0] if self.shipped else ""
        while self.watch.ahead and self.watch.ahead[0].place <= self.place:
            self.watch.ahead.popleft()
        if found and (found.unprotected < self.base or (holds and not self.watch.ahead)):
            self.base = found.unprotected if holds else 0
        content = {
            "time": now(),
            "line": self.line,
            "target": self.target,
            "fault": fault,
            "shipped": {"file": self.shipped[0], "position": self.shipped[1], "time": self.shipped_at} if self.shipped else None,
            "server": {"file": latest.file, "position": latest.position, "time": latest.before} if latest else None,
            "behind_bytes": self.behind_bytes(),
            "behind_seconds": state.age(self.watch.ahead[0].before) if self.watch.ahead else 0.0,
            "ledger": self.line_shipped,
            "declared": self.declared,
            "acknowledged": holds,
            "since": self.since,
            "timeout_ms": found.timeout_ms if found else None,
            "unprotected": found.unprotected - self.base if found else None,
            "base": self.base,
            "expires": self.watch.expires,
        }  # fmt: skip
        state.write(content)
        if changed:
            log("; ".join(state.overview(content)[0]))

    def behind_bytes(self) -> int:
        latest = self.watch.latest
        if not latest or latest.place <= self.place:
            return 0
        first, position = self.place
        between = [
            size for name, size in self.watch.sizes.items() if first <= events.number(name) < events.number(latest.file)
        ]
        return sum(between) + latest.position - position

    def forever(self) -> None:
        self.watch.start()
        self.watch.known.wait(RETRY)  # where the log ends: near enough, commits can wait from the start
        while True:
            try:
                self.session()
            except (Refused, OSError, ValueError) as error:
                words = in_words(error)
                if words != self.fault:
                    log(words)
                self.fault = words
            deadline = time.monotonic() + RETRY
            while time.monotonic() < deadline:
                self.tell()
                time.sleep(TICK)
