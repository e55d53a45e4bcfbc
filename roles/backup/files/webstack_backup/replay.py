"""Replays a stretch of the binary log into a scratch instance, with the vendor's own tools."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from .basics import Refused
from .chain import Chain
from .scratch import Scratch, private

REPLAY_SECONDS = 24 * 3600
ERROR = re.compile(r"ERROR \d+ \(\w+\)")
VALUE = re.compile(r"(entry|value:?|near) '(.*'(?= for | at line )|.*)")


def replay(chain: Chain, scratch: Scratch, work: Path) -> None:
    """`work` takes copies of files that are to be replayed in part."""
    *closed, last = chain.files
    files = [str(path if path.stat().st_size == end else _until(path, end, work)) for path, end in closed]
    # A copy in any case: the server may write more to the last one before it is read.
    files.append(str(_until(*last, work)))
    vendor = scratch.vendor
    # UTC: the tool takes and prints times of the zone that it finds in its environment.
    environment = {**os.environ, "TZ": "UTC"}
    reader = [vendor.binlog, "--no-defaults", "--disable-log-bin", f"--start-position={chain.start.offset}", *files]
    writer = [vendor.client, "--no-defaults", f"--socket={scratch.socket}", "--user=root"]
    writer += ["--binary-mode", "--max-allowed-packet=1G"]
    with tempfile.TemporaryFile() as read_words, tempfile.TemporaryFile() as write_words:
        source = subprocess.Popen(
            reader, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=read_words, env=environment
        )
        sink = subprocess.Popen(
            writer, stdin=source.stdout, stdout=subprocess.DEVNULL, stderr=write_words, env=environment
        )
        assert source.stdout
        source.stdout.close()  # or the reader would not notice that the writer has ended
        try:
            written, had = sink.wait(REPLAY_SECONDS), source.wait(60)
        except subprocess.TimeoutExpired:
            raise Refused(f"the replay of {len(files)} files of the log has not ended within its time") from None
        finally:
            for process in (sink, source):
                process.kill()
                process.wait()
        # The client ends with 0 where its input ends early: both have to have said that they are done.
        if written or had:
            said = [*in_public(_lines(write_words)), *_lines(read_words)]
            said = said or [f"{vendor.binlog} ended with {had}, {vendor.client} with {written}"]
            raise Refused(f"the replay of the log stopped: {'; '.join(said)[:2000]}")


def _lines(words: IO[bytes]) -> list[str]:
    words.seek(0)
    return [line for line in words.read().decode(errors="replace").splitlines() if line.strip()]


def in_public(said: list[str]) -> list[str]:
    """What the client says of an error, without the statement, which it prints as well, and without values: they are rows and passwords."""
    return [VALUE.sub(r"\1 '…'", line) for line in said if ERROR.match(line)]


def _until(path: Path, end: int, work: Path) -> Path:
    """A copy of its first `end` bytes: the tool reads one event past --stop-position, which may be torn."""
    copy = work / path.name
    with open(path, "rb") as source, open(copy, "wb", opener=private) as part:
        left = end
        while left:
            block = source.read(min(left, 1 << 20))
            if not block:
                raise Refused(f"{path} has become shorter than {end} bytes")
            part.write(block)
            left -= len(block)
    return copy
