"""Clients of the databases, by the applications' socket."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

# A line is a statement. Answered is a line: the first value, or why there is none.
SESSION = """
import sys, pymysql
try:
    session = pymysql.connect(unix_socket="/run/database/writer.sock", user="app", password="correct-horse-battery", connect_timeout=40)
    print("connected", flush=True)
    for line in sys.stdin:
        with session.cursor() as cursor:
            cursor.execute(line)
            print(cursor.fetchone()[0], flush=True)
except pymysql.Error as error:
    print("refused", error, flush=True)
"""


class Session:
    """A connection from a host; as a context, it is closed in the end."""

    def __init__(self, host: Any) -> None:
        argv = ["docker", "exec", "--interactive", host.backend.name, "python3", "-c", SESSION]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        for line in self.process.stdout:
            self.said.append(line.strip())

    def asks(self, statement: str = "SELECT @@hostname") -> None:
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.thread.join()
