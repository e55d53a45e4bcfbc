"""Loaded by uWSGI into each worker of a Python application: one that has grown too large is replaced.

`reload-on-rss` of uWSGI does the same, but looks after every request before it closes the connection, which costs a
small page 3 to 5 % of its requests a second. Here the visitor has the answer before the worker looks.

Single-threaded workers only: with threads, uWSGI 2.0.21's SIGHUP handler joins threads that need the GIL, which this thread
holds: a deadlock.
"""

import os
import signal
import time

import uwsgi

LIMIT_MB = int(uwsgi.opt["worker-memory-mb"])
MERCY = max(1, int(uwsgi.opt["worker-reload-mercy"]))  # seconds; an alarm of 0 would be none
PAGE = os.sysconf("SC_PAGE_SIZE")
# Seconds before a worker's first look, and between two. As with uWSGI, a worker has some time: an application that is
# too large from the start is slow then, and not down.
FIRST, PAUSE = 10, 1

next_look = 0.0


def look() -> None:
    """After a request: has a worker that is too large end, and uWSGI's master starts another."""
    global next_look
    now = time.monotonic()
    if not next_look:
        next_look = now + FIRST
    if now < next_look:
        return
    next_look = now + PAUSE
    # Pages: all that is mapped, then what of it is in memory, and more (proc_pid_statm(5)).
    with open("/proc/self/statm", "rb", buffering=0) as statm:
        resident_mb = int(statm.read().split()[1]) * PAGE // 2**20
    if resident_mb > LIMIT_MB:
        uwsgi.log(f"worker {uwsgi.worker_id()} has {resident_mb} MiB of memory, more than {LIMIT_MB}: it is replaced")
        # It waits for threads of the application, which may have no end.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(MERCY)
        os.kill(os.getpid(), signal.SIGHUP)


uwsgi.after_req_hook = look
