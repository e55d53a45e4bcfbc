"""Visitors of a site by HTTPS, who come at a steady rate whether or not they are answered, as visitors do."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PATIENCE = 5  # seconds after which a visitor has had no answer
KEPT = 20  # connections that are kept for further requests
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE


@dataclass
class Visitors:
    """Half of them by a connection of their own, the others by kept ones. A request that a kept connection did not take is sent again, as browsers do."""

    address: str
    name: str
    rate: int = 100  # a second
    # Each fifth leaves a number, where there is one to begin with; those that were acknowledged.
    begin: int | None = None
    acknowledged: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    began_at: list[str] = field(default_factory=list)  # of each of these, the time of day
    answers: collections.Counter[str] = field(default_factory=collections.Counter)  # by what the page says
    arrivals: collections.Counter[str] = field(
        default_factory=collections.Counter
    )  # the same, of new connections alone
    longest: float = 0  # seconds between two answers
    last: float = 0
    idle: list[Connection] = field(default_factory=list)
    over: bool = False

    @property
    def asked(self) -> int:
        return self.answers.total() + len(self.failures)

    async def one(self, number: int) -> None:
        connection, keep = None, number % 2 == 0
        left = self.begin + number if self.begin is not None and number % 10 < 2 else None
        request, began_at = self.request(left), time.strftime("%H:%M:%S")
        try:
            async with asyncio.timeout(PATIENCE):
                if keep and self.idle:
                    connection = self.idle.pop(0)
                    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                        return self.answered(await self.ask(connection, request), connection, left)
                    connection[1].close()
                connection = await asyncio.open_connection(self.address, 443, ssl=TLS, server_hostname=self.name)
                said = await self.ask(connection, request)
                self.arrivals[said] += 1
                self.answered(said, connection if keep else None, left)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.failures.append(f"{type(error).__name__} {error}".strip())
            self.began_at.append(began_at)
        finally:
            if connection and connection not in self.idle:
                connection[1].close()

    def request(self, left: int | None) -> str:
        """What a visitor sends who looks at the page, or leaves a number."""
        return f"GET {'/' if left is None else f'/write/{left}'} HTTP/1.1\r\nHost: {self.name}\r\n\r\n"

    async def ask(self, connection: Connection, request: str) -> str:
        reader, writer = connection
        writer.write(request.encode())
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.split()[1] not in ("200", "303"):  # the page, or where a form that was taken leads to
            raise ValueError(head.split("\r\n")[0])
        if "content-length:" in head:
            body = await reader.readexactly(int(head.split("content-length:")[1].split()[0]))
        else:  # in chunks, each with its length before and a line's end after it
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:size]
            await reader.readline()
        return body.decode().strip()

    def answered(self, said: str, kept: Connection | None, left: int | None) -> None:
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - (self.last or now)), now
        self.answers[said] += 1
        if left is not None:
            self.acknowledged.append(left)
        if kept and len(self.idle) < KEPT:
            self.idle.append(kept)

    async def come(self) -> None:
        begin, tasks = time.monotonic(), set()
        while not self.over:
            for number in range(len(tasks), int((time.monotonic() - begin) * self.rate)):
                tasks.add(asyncio.create_task(self.one(number)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        for connection in self.idle:
            connection[1].close()


@contextlib.contextmanager
def visiting(them: Visitors) -> Iterator[None]:
    """They come as long as the block lasts. Afterwards the last have been answered."""
    thread = threading.Thread(target=asyncio.run, args=[them.come()])
    thread.start()
    try:
        yield
    finally:
        them.over = True
        thread.join()


@contextlib.contextmanager
def visitors(address: str, name: str, begin: int | None = None) -> Iterator[Visitors]:
    """The same, and what they met is printed."""
    them = Visitors(address, name, begin=begin)
    try:
        with visiting(them):
            yield them
    finally:
        failed = dict(collections.Counter(them.failures))
        print(
            f"{them.asked} asked, {len(them.failures)} failed {failed} {them.began_at[:20]}, {dict(them.answers)}, "
            f"longest silence {them.longest:.1f} s"
        )
