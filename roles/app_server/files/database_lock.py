#!/usr/bin/env python3
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a job on one of the hosts that share a database, by a lock in it. The server ends the lock with its connection.

database-lock wait NAME COMMAND…   waits for the lock, and ends when it is lost
database-lock try NAME COMMAND…    does nothing where another host has the lock, or had it a moment ago
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pymysql

# All hosts begin a schedule at the same moment, as far as their clocks are right: for so long the lock is held at least.
SAME_MOMENT_SECONDS = 10.0
LOOK_SECONDS = 1.0
WAIT_SECONDS = 5
# Without an answer for so long, the lock is taken for lost: sooner than the server ends a connection whose host is gone.
ANSWER_SECONDS = 8
# The way to the database holds connections for 20 s while no server takes writes.
CONNECT_SECONDS = 25


class Lock:
    def __init__(self, name: str) -> None:
        self.name = name
        self.connection = pymysql.connect(
            unix_socket=os.environ["DB_SOCKET"], user=os.environ["DB_USER"], password=os.environ["DB_PASSWORD"],
            connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, write_timeout=ANSWER_SECONDS,
        )  # fmt: skip

    def says(self, expression: str, *values: object) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT {expression}", (self.name, *values))
            return cursor.fetchone() == (1,)

    def take(self, seconds: int) -> bool:
        return self.says("GET_LOCK(%s, %s)", seconds)

    def holds(self) -> bool:
        return self.says("IS_USED_LOCK(%s) = CONNECTION_ID()")


def main(how: str, name: str, command: list[str]) -> int:
    lock = Lock(name)
    if how == "try":
        if not lock.take(0):
            return 0
    else:
        while not lock.take(WAIT_SECONDS):
            pass
    begun, job = time.monotonic(), subprocess.Popen(command)
    # systemd tells the job too, which may finish what it does; nobody else begins before.
    signal.signal(signal.SIGTERM, lambda *_: None)
    while True:
        try:
            status = job.wait(LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if not lock.holds():
                print(f"the lock {name} is lost: another host may run the job now", file=sys.stderr)
                return 1  # systemd ends the job
    if how == "try":
        time.sleep(max(0.0, begun + SAME_MOMENT_SECONDS - time.monotonic()))
    if status < 0:  # ended by a signal, which is no failure for systemd where it has sent that
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except (pymysql.MySQLError, OSError) as error:
        sys.exit(f"{sys.argv[2]}: {error}")
