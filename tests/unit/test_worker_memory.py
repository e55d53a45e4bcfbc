"""What a worker does when it looks at its own memory. That uWSGI replaces it is the scenario's (molecule/app_server)."""

from __future__ import annotations

import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from loading import load

HELD = bytearray(32 * 2**20)  # so that a process of the tests has more than that


class Worker:
    """The module as uWSGI loads it, in a worker whose clock the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit_mb: int, mercy: bytes = b"30") -> None:
        options = {"worker-memory-mb": str(limit_mb).encode(), "worker-reload-mercy": mercy}
        self.said: list[str] = []
        uwsgi = SimpleNamespace(opt=options, worker_id=lambda: 2, log=self.said.append)
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        self.module = load("roles/app_server/files/worker_memory.py")
        self.hook = uwsgi.after_req_hook
        self.did: list[Any] = []
        self.now = 1000.0
        monkeypatch.setattr(self.module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(self.module.os, "kill", lambda _pid, number: self.did.append(number))
        monkeypatch.setattr(self.module.signal, "alarm", self.did.append)

    def answers(self, after: float) -> list[Any]:
        """What one more request, so many seconds after the last, made the worker do."""
        self.now += after
        self.did.clear()
        self.hook()
        return list(self.did)


@pytest.mark.parametrize(("mercy", "seconds"), [(b"30", 30), (b"0", 1)])
def test_a_worker_that_is_too_large_ends_and_does_not_wait_for_ever(monkeypatch, mercy, seconds):
    before = signal.getsignal(signal.SIGALRM)
    worker = Worker(monkeypatch, limit_mb=16, mercy=mercy)
    try:
        assert worker.answers(0) == []
        assert worker.answers(10) == [seconds, signal.SIGHUP]
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)
    (said,) = worker.said
    assert said.startswith("worker 2 has ") and said.endswith(" MiB of memory, more than 16: it is replaced")


def test_a_worker_within_its_limit_goes_on(monkeypatch):
    worker = Worker(monkeypatch, limit_mb=2**20)
    assert [worker.answers(11) for _request in range(5)] == [[]] * 5
    assert worker.said == []


def test_a_new_worker_has_ten_seconds_and_looks_once_a_second_from_then_on(monkeypatch):
    worker = Worker(monkeypatch, limit_mb=2**20)
    opened: list[float] = []
    real = open
    monkeypatch.setattr(
        worker.module, "open", lambda *given, **more: opened.append(worker.now) or real(*given, **more), raising=False
    )
    for _request in range(240):
        worker.answers(0.0625)  # a fraction that sums without an error
    # The first request was at 1000.0625.
    assert opened == [1010.0625, 1011.0625, 1012.0625, 1013.0625, 1014.0625]
