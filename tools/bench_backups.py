"""What backups cost: the wait of a commit, a full backup under load, a restore, and a lost server on a new machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import statistics
import subprocess
import time
from collections.abc import Iterator

from bench_deploys import share
from benching import BUILD, SITE, TARGET, fresh, inventory, let_in, medians, sh, timed

TURNS = 3  # there and back
TURN_SECONDS = 3
QUIET_SECONDS = 4  # before and after each full backup
REPLAYED_SECONDS = 20  # of writing, which a restore replays
WRITERS = 4
# Seconds that each pauses between two commits. Without a pause all wait for the processor too, and with one for the disks alone.
LOADS = {"without a pause": 0.0, "with 10 ms between": 0.01}
MB = 100  # of rows, before the first full backup
WAYS = {"none": "not shipped", "asynchronous": "shipped", "acknowledged": "shipped and acknowledged"}
ARCHIVE = "/srv/webstack-backup/site"
SLOWEST_MS = 100  # that a commit may take during a full backup

# Each writer commits rows of 200 characters until the input ends. Then when each commit was begun, and
# what it took, in seconds; the clock is that of the machine, for all containers.
WRITER = f"""
import json, multiprocessing, secrets, sys, time, pymysql
stop = multiprocessing.Event()
def write(_number):
    waits = []
    with pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="root", autocommit=True) as connection, connection.cursor() as cursor:
        while not stop.is_set():
            begun = time.monotonic()
            cursor.execute("INSERT INTO bench.written (body) VALUES (%s)", secrets.token_hex(100))
            waits.append((begun, time.monotonic() - begun))
            time.sleep(float(sys.argv[1]))
    return waits
with multiprocessing.Pool({WRITERS}) as pool:
    waits = pool.map_async(write, range({WRITERS}), chunksize=1)
    sys.stdin.read()
    stop.set()
    json.dump(sum(waits.get(), []), sys.stdout)
"""


@dataclasses.dataclass(frozen=True)
class Commits:
    """Of one turn, or of all: a second, and what they waited, in milliseconds."""

    per_second: float
    p50: float
    p99: float
    slowest: float


@dataclasses.dataclass(frozen=True)
class Full:
    """A full backup: from when to when, by the machine's clock, and by how many bytes the repository at the target grew."""

    began: float
    ended: float
    data: float  # MB that were copied
    stored: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclasses.dataclass(frozen=True)
class Backups:
    """All that was measured; seconds where nothing else is said."""

    turns: dict[tuple[str, str], list[Commits]]  # of each load and way of shipping
    waits: list[tuple[float, float]]  # around the full backups: when a commit was begun, what it took
    fulls: list[Full]
    restore: float
    replayed: float  # MB of the log
    replay: float
    rebuild: float
    rows: int  # there before the server was lost, and after the rebuild


def sql(statement: str) -> str:
    return sh(f'mariadb -N -B -e "{statement}"', SITE).strip()


def size(folder: str, container: str) -> int:
    """Bytes on the disk, but for those of a log."""
    return int(sh(f"du --summarize --block-size=1 --exclude=log {folder}", container).split()[0])


@contextlib.contextmanager
def writers(pause: float = 0, container: str = SITE) -> Iterator[list[tuple[float, float]]]:
    """They write as long as the block lasts; afterwards the list has each commit."""
    waits: list[tuple[float, float]] = []
    process = subprocess.Popen(
        ["docker", "exec", "--interactive", container, "python3", "-c", WRITER, str(pause)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        yield waits
    finally:
        waits.extend(json.loads(process.communicate(timeout=60)[0]))


def commits(waits: list[tuple[float, float]]) -> Commits:
    took = [wait for _begun, wait in waits]
    begun = [begun for begun, _wait in waits]
    return Commits(len(waits) / (max(begun) - min(begun)), share(took, 0.5), share(took, 0.99), share(took, 1))


def ship(how: str) -> None:
    """Ships the log to the target or not, as site.yml has it done, but without a new start of the server."""
    acknowledged = how == "acknowledged"
    sh("systemctl stop webstack-binlog", SITE)  # its state goes with it
    sql(f"SET GLOBAL rpl_semi_sync_master_enabled = {int(acknowledged)}")
    if how == "none":
        return
    sh(
        f'sed -i \'s/"acknowledge": [a-z]*/"acknowledge": {str(acknowledged).lower()}/\' /etc/webstack-backup/config.json',
        SITE,
    )
    sh("systemctl start webstack-binlog", SITE)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = json.loads(sh("cat /run/webstack-binlog/state.json 2>/dev/null || echo {}", SITE))
        if state and state["shipped"] and not state["behind_bytes"] and state["acknowledged"] == acknowledged:
            return
        time.sleep(0.5)
    raise SystemExit(f"bench: the log is not shipped, {how}: {state}")


def turns() -> dict[tuple[str, str], list[Commits]]:
    """Each way of shipping in turns, so that a machine that gets slower meets all."""
    result: dict[tuple[str, str], list[Commits]] = {(load, way): [] for load in LOADS for way in WAYS}
    for way in [*WAYS, *reversed(WAYS)] * TURNS:
        ship(way)
        for load, pause in LOADS.items():
            with writers(pause) as waits:
                time.sleep(TURN_SECONDS)
            result[load, way].append(commits(waits))
    ship("acknowledged")
    return result


def full() -> Full:
    """As the timer takes it."""
    before, began = size(ARCHIVE, TARGET), time.monotonic()
    sh("systemctl start webstack-backup.service", SITE)
    ended = time.monotonic()
    *_older, data = re.findall(
        r"^([\d.]+) MB of data",
        sh("journalctl --sync; journalctl --unit webstack-backup --output cat", SITE),
        re.MULTILINE,
    )
    return Full(began, ended, float(data), size(ARCHIVE, TARGET) - before)


def restore(to: str) -> tuple[float, str]:
    """Beside the live server; its seconds, and its words."""
    said: list[str] = []
    seconds = timed(lambda: said.append(sh(f"webstack-backup restore --to {to}", SITE)))
    sh("webstack-backup end-scratch", SITE)
    return seconds, said[0]


def rebuild() -> tuple[float, int]:
    """Loses the server, and has it rebuilt on a bare machine: seconds, and rows that are there."""
    rows = sql("SELECT COUNT(*) FROM bench.written")
    fresh(SITE)
    let_in(SITE)
    # The inventory first: it asks the new machine for its address.
    command = f"ansible-playbook --inventory {inventory(backed_up=True)} playbooks/rebuild.yml --extra-vars from=backup"
    seconds = timed(lambda: sh(command))
    if (found := sql("SELECT COUNT(*) FROM bench.written")) != rows:
        raise SystemExit(f"bench: {rows} rows were written, and {found} are there after the rebuild")
    return seconds, int(rows)


def measure() -> Backups:
    for container in (SITE, TARGET):
        fresh(container)
        let_in(container)
    sh(f"ansible-playbook --inventory {inventory(backed_up=True)} site.yml")
    sql("CREATE DATABASE bench")
    for table in ("stock", "written"):
        sql(f"CREATE TABLE bench.{table} (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT)")
    random = ", ".join(["SHA2(RAND(), 512)"] * 8)  # hexadecimal: half of it can be compressed away
    for _megabyte in range(MB):
        sql(f"INSERT INTO bench.stock (body) SELECT CONCAT({random}) FROM bench.seq_1_to_1000")
    seen = turns()
    fulls = []
    with writers() as waits:
        for _number in range(2):
            time.sleep(QUIET_SECONDS)
            fulls.append(full())
        time.sleep(QUIET_SECONDS)
    alone, _said = restore("full")
    with writers():
        time.sleep(REPLAYED_SECONDS)
    _seconds, said = restore("latest")
    replayed, replay = re.search(r"replayed the log .*, ([\d.]+) MB, ([\d.]+) s", said).groups()
    return Backups(seen, waits, fulls, alone, float(replayed), float(replay), *rebuild())


def table(taken: Backups) -> str:
    lines = [
        "",
        f"| commits of {WRITERS} writers | a second | p50 ms | × not shipped | p99 ms | slowest ms | to reach |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    seen = {key: medians(turns) for key, turns in taken.turns.items()}
    rows = [
        (f"{load}, the log {WAYS[way]}", found, found.p50 / seen[load, "none"].p50, "≤ 2.00 ×" if way == "acknowledged" else "")
        for (load, way), found in seen.items()
    ]  # fmt: skip
    busy, *_ = LOADS
    named = dict(zip(("first", "second"), taken.fulls, strict=True))
    for name, one in named.items():
        found = commits([wait for wait in taken.waits if one.began <= wait[0] <= one.ended])
        rows.append(
            (
                f"{busy}, acknowledged, during the {name} full backup",
                found,
                found.p50 / seen[busy, "none"].p50,
                f"slowest ≤ {SLOWEST_MS}",
            )
        )
    lines += [
        f"| {name} | {found.per_second:,.0f} | {found.p50:.2f} | {ratio:.2f} | {found.p99:.1f} | {found.slowest:.0f} | {bound} |"
        for name, found, ratio, bound in rows
    ]
    data = taken.fulls[-1].data
    lines += [
        "",
        "| backups | seconds | seconds/100 MB | MB | MB/s | to reach |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {name} full backup of {one.data:.0f} MB, under that load; new at the target | {one.seconds:.1f}"
            f" | {100 * one.seconds / one.data:.1f} | {one.stored / 1e6:.1f} | | |"
            for name, one in named.items()
        ),
        f"| restore of the second, without the log | {taken.restore:.1f} | {100 * taken.restore / data:.1f} | | | |",
        f"| replay of the log after it | {taken.replay:.1f} | | {taken.replayed:.1f} | {taken.replayed / taken.replay:.1f} | ≥ 1.5 |",
        f"| a lost server on a bare machine: all that, its site, and a full backup | {taken.rebuild:.1f} | | | | |",
        "",
        f"Medians of {2 * TURNS} turns of {TURN_SECONDS} s; server, target and writers on one machine."
        f" The rebuilt server has all of {taken.rows:,} rows.",
    ]
    return "\n".join(lines) + "\n"


def picture(taken: Backups) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(15, 4), width_ratios=(1, 3))
    busy, *_ = LOADS
    names = {way: words.replace(" ", "\n") for way, words in WAYS.items()}
    for part, colour in (("p99", "#8f87e8"), ("p50", "#4b3fd8")):
        heights = [statistics.median(getattr(turn, part) for turn in taken.turns[busy, way]) for way in names]
        left.bar(list(names.values()), heights, label=part, color=colour)
    left.set(title="What a commit waits for", ylabel="ms")
    left.legend()
    origin = min(begun for begun, _wait in taken.waits)
    tenths: dict[int, list[float]] = {}
    for begun, wait in taken.waits:
        tenths.setdefault(int((begun - origin) * 10), []).append(wait)
    for name, part, colour in (("slowest", 1, "#b0b0c0"), ("p99", 0.99, "#8f87e8"), ("p50", 0.5, "#4b3fd8")):
        waits = [share(tenths[tenth], part) for tenth in sorted(tenths)]
        right.plot([tenth / 10 for tenth in sorted(tenths)], waits, label=name, color=colour)
    for name, one in zip(("first", "second"), taken.fulls, strict=True):
        right.axvspan(one.began - origin, one.ended - origin, color="#f2f1fb", zorder=0)
        right.text(one.began - origin, right.get_ylim()[1], f" {name} full backup", va="top")
    right.axhline(SLOWEST_MS, color="#d8503f", linestyle=":")
    right.set(title="The same in each tenth of a second, acknowledged", xlabel="seconds", ylabel="ms", yscale="log")
    right.legend(loc="upper right")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(BUILD / "bench-backups.png", dpi=110)
