"""Loaded by uWSGI into each worker of a Python application: replaces a worker that uses too much memory.

`reload-on-rss` of uWSGI does the same, but checks after every request before it closes the connection, which costs 3 to
5 % of the requests a second of a small page. Here the visitor has the answer before the check.

Single-threaded workers only: with threads, uWSGI 2.0.21's SIGHUP handler joins threads that need the GIL, which this thread
holds: a deadlock.
"""

import os
import signal
import time

import uwsgi

LIMIT_MB = int(uwsgi.opt["worker-memory-mb"])
MERCY = max(1, int(uwsgi.opt["worker-reload-mercy"]))  # seconds; alarm(0) would set no alarm
PAGE = os.sysconf("SC_PAGE_SIZE")
# Seconds before a worker's first check, and between two. Without the first pause, workers of an application that is too
# large from the start would be replaced all the time, and the site would be down instead of slow.
FIRST, PAUSE = 10, 1

next_look = 0.0


def look() -> None:
    """After a request: ends a worker that is too large. uWSGI's master starts another."""
    global next_look
    now = time.monotonic()
    if not next_look:
        next_look = now + FIRST
    if now < next_look:
        return
    next_look = now + PAUSE
    # The second number is the resident size in pages (proc_pid_statm(5)).
    with open("/proc/self/statm", "rb", buffering=0) as statm:
        resident_mb = int(statm.read().split()[1]) * PAGE // 2**20
    if resident_mb > LIMIT_MB:
        uwsgi.log(f"worker {uwsgi.worker_id()} has {resident_mb} MiB of memory, more than {LIMIT_MB}: it is replaced")
        # The SIGHUP handler waits for threads of the application, which may never end. SIGALRM kills the worker then.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(MERCY)
        os.kill(os.getpid(), signal.SIGHUP)


uwsgi.after_req_hook = look
