"""Loaded by uWSGI into each worker of a Python application: one that has grown too large is replaced.

`reload-on-rss` of uWSGI does the same, but looks after every request before it closes the connection, which costs a
small page 3 to 5 % of its requests a second. Here the visitor has the answer before the worker looks.

For workers of one thread: to end others, uWSGI 2.0.21 waits in its signal handler for threads that wait for the
interpreter, which the one that has sent the signal keeps.
"""

import os
import signal
import sys
import time

import uwsgi

LIMIT_MB = int(uwsgi.opt["worker-memory-mb"])
PAGE = os.sysconf("SC_PAGE_SIZE")

looked = 0.0


def look() -> None:
    """Once a second at most, after a request; a worker that gets SIGHUP ends, and uWSGI's master starts another."""
    global looked
    now = time.monotonic()
    if now - looked < 1:
        return
    looked = now
    # Pages: all that is mapped, then what of it is in memory, and more (proc_pid_statm(5)).
    with open("/proc/self/statm", "rb", buffering=0) as statm:
        resident_mb = int(statm.read().split()[1]) * PAGE // 2**20
    if resident_mb > LIMIT_MB:
        print(
            f"worker {uwsgi.worker_id()} has {resident_mb} MiB of memory, more than {LIMIT_MB}: it is replaced",
            file=sys.stderr,
        )
        os.kill(os.getpid(), signal.SIGHUP)


uwsgi.after_req_hook = look
