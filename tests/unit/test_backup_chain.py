"""A stretch of the binary log: what is whole, and what is refused before it is replayed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from backing import Position, Refused, chain

A, B = "binlog.000001", "binlog.000002"
UUID = b"0123456789abcdef"


def event(place: int, kind: int, body: bytes, *, server: int = 7, flags: int = 0, when: int = 1_700_000_000) -> bytes:
    """One event as a server writes it at `place`, with its checksum."""
    length = 19 + len(body) + 4
    head = struct.pack("<IBIIIH", when, kind, server, length, place + length, flags & ~chain.IN_USE)
    crc = struct.pack("<I", zlib.crc32(head + body))
    return struct.pack("<IBIIIH", when, kind, server, length, place + length, flags) + body + crc


def log(path: Path, *events: tuple[int, bytes], in_use: bool = False, when: int = 1_700_000_000) -> list[int]:
    """Writes a file of the log; returns where each event begins, and where the last one ends."""
    data, places = b"\xfebin", []
    for kind, body in ((chain.FORMAT, b"\x04\x00" + bytes(90) + b"\x01"), *events):
        places.append(len(data))
        data += event(len(data), kind, body, flags=chain.IN_USE if in_use and kind == chain.FORMAT else 0, when=when)
    path.write_bytes(data)
    return [*places, len(data)]


def listed(*entries: tuple[int, int, int]) -> tuple[int, bytes]:
    """MariaDB's list of GTIDs: domain, server, number."""
    return chain.MARIADB_GTID_LIST, struct.pack("<I", len(entries)) + b"".join(
        struct.pack("<IIQ", *one) for one in entries
    )


def gtid(number: int) -> tuple[int, bytes]:
    """MariaDB's, in domain 0, of server 7."""
    return chain.MARIADB_GTID, struct.pack("<QIB", number, 0, 0) + bytes(6)


def previous(*ranges: tuple[int, int]) -> tuple[int, bytes]:
    """MySQL's, of one source."""
    packed = b"".join(struct.pack("<QQ", *one) for one in ranges)
    body = struct.pack("<Q16sQ", 1, UUID, len(ranges)) + packed if ranges else struct.pack("<Q", 0)
    return chain.PREVIOUS_GTIDS, body


def mysql_gtid(number: int) -> tuple[int, bytes]:
    return chain.GTID, b"\x01" + UUID + struct.pack("<Q", number) + bytes(18)


ROW, ROTATE, STOP = (23, b"a row"), (chain.ROTATE, struct.pack("<Q", 4) + B.encode()), (chain.STOP, b"")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two files that follow one another."""
    log(tmp_path / A, listed(), gtid(1), ROW, gtid(2), ROW, ROTATE)
    log(tmp_path / B, listed((0, 7, 2)), gtid(3), ROW, in_use=True)
    return tmp_path


def test_whole(two: Path) -> None:
    begin = log(two / A, listed(), gtid(1), ROW, gtid(2), ROW, ROTATE)
    whole = chain.judge(two, Position(A, begin[2]), None)
    sizes = [(two / name).stat().st_size for name in (A, B)]
    assert whole.files == [(two / A, sizes[0]), (two / B, sizes[1])]
    assert whole.stop == Position(B, sizes[1])
    assert whole.size == sum(sizes) - begin[2]
    assert whole.torn == 0


def test_until_a_position(two: Path) -> None:
    places = log(two / B, listed((0, 7, 2)), gtid(3), ROW, gtid(4), ROW, in_use=True)
    part = chain.judge(two, Position(A, 4), Position(B, places[4]))
    assert part.files[-1] == (two / B, places[4])
    assert chain.judge(two, Position(A, 4), Position(A, 4)).size == 0
    (two / B).unlink()  # what comes after is not needed
    with pytest.raises(Refused, match="before"):
        chain.judge(two, Position(A, 100), Position(A, 4))


def test_a_missing_file(tmp_path: Path) -> None:
    log(tmp_path / A, listed(), gtid(1), ROW, ROTATE)
    log(tmp_path / "binlog.000003", listed((0, 7, 5)), gtid(6), ROW)
    said = (
        "binlog.000002 is missing between binlog.000001 and binlog.000003: the log can be replayed until binlog.000001:"
    )
    with pytest.raises(Refused, match=said):
        chain.judge(tmp_path, Position(A, 4), None)
    with pytest.raises(
        Refused, match=r"000002, in which the full backup begins, is missing.*oldest file there is .*000001"
    ):
        chain.judge(tmp_path, Position(B, 4), None)


def test_the_newest_file_is_missing(two: Path) -> None:
    (two / "binlog.index").write_text("/x/binlog.000001\n/x/binlog.000002\n/x/binlog.000003\n")
    with pytest.raises(Refused, match=r"binlog.000003 is missing after binlog.000002"):
        chain.judge(two, Position(A, 4), None)
    chain.judge(two, Position(A, 4), Position(A, 4))
    with pytest.raises(Refused, match=r"binlog.000003 is missing after binlog.000002"):
        chain.judge(two, Position(A, 4), Position("binlog.000003", 4))


def test_a_file_of_the_same_number_from_another_time(two: Path) -> None:
    log(two / B, listed((0, 7, 3)), gtid(4), ROW)
    with pytest.raises(
        Refused, match=r"binlog.000002 does not go on where binlog.000001 ends.*until binlog.000001:\d+, 2023"
    ):
        chain.judge(two, Position(A, 4), None)


def test_a_log_that_was_begun_anew(two: Path) -> None:
    """As by RESET MASTER: at the beginning of a file, an event begins at the same place in each."""
    begin = log(two / B, listed((0, 7, 2)), in_use=True)[-1]
    begins = chain.head(two / B)
    log(two / B, listed((0, 7, 2)), gtid(3), ROW)
    assert chain.judge(two, Position(B, begin), None, None, begins).size > 0  # the in-use flag does not count
    log(two / B, listed((0, 7, 2)), gtid(3), ROW, when=1_700_000_900)
    with pytest.raises(Refused, match=r"binlog.000002 in .* is another one than that in which the full backup begins"):
        chain.judge(two, Position(B, begin), None, None, begins)


def test_the_last_file_is_cut_off(two: Path) -> None:
    places = log(two / B, listed((0, 7, 2)), gtid(3), ROW, gtid(4), ROW)
    whole = (two / B).read_bytes()
    (two / B).write_bytes(whole[:-3])
    with pytest.raises(
        Refused, match=f"binlog.000002 is cut off in the middle of an event: .* until binlog.000002:{places[-2]}"
    ):
        chain.judge(two, Position(A, 4), None)
    with pytest.raises(Refused, match=f"binlog.000002:{places[-1]} is not reached"):
        chain.judge(two, Position(A, 4), Position(B, places[-1]))
    assert chain.judge(two, Position(A, 4), Position(B, places[-3])).files[-1] == (two / B, places[-3])
    (two / B).write_bytes(whole[: places[-2]])  # at an event's end nothing is seen of it, but for who knows better
    with pytest.raises(
        Refused, match=f"the log had reached binlog.000002:{places[-1]}, but .* until binlog.000002:{places[-2]}"
    ):
        chain.judge(two, Position(A, 4), None, Position(B, places[-1]))


def test_a_file_that_the_server_writes_or_was_killed_in(two: Path) -> None:
    places = log(two / B, listed((0, 7, 2)), gtid(3), ROW, in_use=True)
    with open(two / B, "ab") as handle:
        handle.write(b"torn" * 9)
    torn = chain.judge(two, Position(A, 4), None)
    assert (torn.stop, torn.torn) == (Position(B, places[-1]), 36)
    log(two / "binlog.000003", listed((0, 7, 3)), gtid(4), ROW)
    assert chain.judge(two, Position(A, 4), None).files[1] == (two / B, places[-1])
    log(two / "binlog.000003", listed((0, 7, 4)), gtid(5), ROW)
    with pytest.raises(Refused, match="does not go on"):
        chain.judge(two, Position(A, 4), None)


def test_a_flipped_byte(two: Path) -> None:
    data = bytearray((two / A).read_bytes())
    data[-70] ^= 1
    (two / A).write_bytes(data)
    with pytest.raises(Refused, match=r"binlog.000001 is damaged at byte \d+"):
        chain.judge(two, Position(A, 4), None)


def test_positions_that_are_none(two: Path) -> None:
    with pytest.raises(Refused, match=r"no event begins at binlog.000001:5"):
        chain.judge(two, Position(A, 5), None)
    with pytest.raises(Refused, match=r"no event ends at binlog.000002:77"):
        chain.judge(two, Position(A, 4), Position(B, 77))


def test_mysql(tmp_path: Path) -> None:
    log(tmp_path / A, previous((1, 5)), mysql_gtid(7), ROW, mysql_gtid(5), ROW, ROTATE)
    log(tmp_path / B, previous((1, 6), (7, 8)), mysql_gtid(6), ROW, STOP)
    whole = chain.judge(tmp_path, Position(A, 4), None)
    assert len(whole.files) == 2
    assert chain.read(tmp_path / B).after == {UUID: [(1, 8)]}
    log(tmp_path / B, previous((1, 8)), mysql_gtid(8), ROW, STOP)
    with pytest.raises(Refused, match="does not go on"):
        chain.judge(tmp_path, Position(A, 4), None)


def test_gtids_with_tags_are_not_judged(tmp_path: Path) -> None:
    log(tmp_path / A, previous(), (chain.TAGGED_GTID, bytes(30)), ROW, ROTATE)
    log(tmp_path / B, (chain.PREVIOUS_GTIDS, bytes(7) + b"\x01" + bytes(30)), ROW, STOP)
    assert len(chain.judge(tmp_path, Position(A, 4), None).files) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has 0 bytes"),
        (b"text of some kind", "is no file of a binary log"),
        (b"\xfdbin" + bytes(99), "encrypted"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / A).write_bytes(content)
    with pytest.raises(Refused, match=said):
        chain.judge(tmp_path, Position(A, 4), None)


def test_position() -> None:
    assert Position.read("binlog.000012:4711") == Position("binlog.000012", 4711)
    assert Position.read("binlog.1000000:4").key > Position.read("binlog.999999:5").key
    for text in ("binlog.000012", "latest", "binlog:4", "binlog.000012:", "binlog.000012:-4", "../x.1:4"):
        with pytest.raises(Refused, match="is no position"):
            Position.read(text)
