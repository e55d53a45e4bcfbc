"""Visitors who never stop coming, an open loop: visitors.py ADDRESS RATE [HOST PATH [reloads]], until its input is closed.

Every request is asked at its time, whether those before it were answered or not: half of them on a
new connection, half on kept ones; without a PATH, one in a hundred takes two seconds. Prints, as
JSON, how many there were, which failed, how long each waited, and which releases answered from when
to when.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field

TIMEOUT = 5  # seconds, beyond what was asked for
IDLE = 50  # seconds; nginx closes what was idle for 65, and who keeps a connection knows such a limit
HEAD = "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n"


@dataclass
class Tally:
    asked: int = 0
    failed: list = field(default_factory=list)
    seen: dict = field(default_factory=dict)  # release: [first, last] moment, seconds of the epoch
    waits: dict = field(default_factory=dict)  # second: how long the quick requests that ended in it took

    def note(self, began, path, status, body):
        now = time.time()
        self.asked += 1
        release = re.search(r"release\W+([\w-]+)", body)
        if status != 200 or not release:
            self.failed.append({"at": now, "waited": now - began, "path": path, "status": status, "body": body[:200]})
            return
        self.seen.setdefault(release[1], [began, now])[1] = now
        if not path.startswith("/sleep"):
            self.waits.setdefault(int(now), []).append(round(now - began, 4))


class Visitors:
    def __init__(self, address, host="www.example.com", path="", reloads=""):
        self.address, self.host, self.path = address, host, path
        # A reload of nginx closes idle connections; who meets that asks again on a new one, as browsers do (RFC 9112, 9.3.1).
        self.asks_again = bool(reloads)
        self.tally, self.kept = Tally(), []

    async def visit(self, number, again=False):
        path = self.path or ("/sleep?seconds=2" if number % 100 == 7 else "/")
        keep, began = number % 2 == 0 and not again, time.time()
        taken = self.take() if keep else None
        try:
            async with asyncio.timeout(TIMEOUT + (2 if path.startswith("/sleep") else 0)):
                reader, writer = taken or await asyncio.open_connection(self.address, 80)
                writer.write(
                    HEAD.format(host=self.host, path=path, connection="keep-alive" if keep else "close").encode()
                )
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = re.search(r"(?i)content-length: (\d+)", head)
                chunked = re.search(r"(?i)transfer-encoding: chunked", head)
                if size:
                    body = await reader.readexactly(int(size[1]))
                elif chunked:
                    body = await self.chunks(reader)
                else:
                    body = await reader.read()
                self.tally.note(began, path, int(head.split()[1]), body.decode(errors="replace"))
                if keep and (size or chunked) and not re.search(r"(?i)connection: close", head):
                    self.kept.append((time.monotonic(), (reader, writer)))
                else:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            closed = isinstance(error, ConnectionError) or (
                isinstance(error, asyncio.IncompleteReadError) and not error.partial
            )
            if self.asks_again and taken and closed:
                await self.visit(number, again=True)
                return
            self.tally.note(began, path, 0, repr(error))

    def take(self):
        """A kept connection, the last used one first; one that was idle for long is given up."""
        while self.kept:
            since, connection = self.kept.pop()
            if time.monotonic() - since < IDLE:
                return connection
            connection[1].close()
        return None

    async def chunks(self, reader):
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body

    async def come(self, rate):
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        visits, number, begin = set(), 0, time.monotonic()
        while not stop.done():
            while number < (time.monotonic() - begin) * rate:
                number += 1
                visit = asyncio.create_task(self.visit(number))
                visits.add(visit)
                visit.add_done_callback(visits.discard)
            await asyncio.sleep(0.002)
        await asyncio.gather(*visits)
        print(json.dumps(vars(self.tally)))


address, rate, *site = sys.argv[1:]
asyncio.run(Visitors(address, *site).come(float(rate)))
