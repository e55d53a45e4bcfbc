"""What several hosts cost, and what visitors meet when one dies: one host, three equal ones, and three web servers beside these."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
import zlib

from bench_backups import WRITERS, Commits, commits, writers
from benching import (
    BUILD,
    LOAD,
    PREFIX,
    PRIVATE,
    PROJECT,
    WRK,
    Rate,
    changes,
    example,
    let_in,
    load,
    medians,
    must_be_nothing,
    sh,
    timed,
    way_to,
)

sys.path.insert(0, str(PROJECT / "molecule/shared"))
from outage import SILENCE
from visitors import Visitors, visiting

SIZES = (1, 3, 6)
NETWORK = f"{PREFIX}-several"
PLACE = f"10.89.{zlib.crc32(PREFIX.encode()) % 256}"
VIRTUAL = f"{PLACE}.10"
HOSTS = [f"{NETWORK}-{number}" for number in range(1, max(SIZES) + 1)]
ROUNDS = int(os.environ.get("ROUNDS", "3"))
LOADS = {"static file": "/static/site.css", "dynamic page": "/"}
CONNECTIONS = 32
TURN_SECONDS = 3
BEFORE_SECONDS, DEAD_SECONDS, AFTER_SECONDS = 5, 20, 30


@dataclasses.dataclass(frozen=True)
class Size:
    """So many hosts: seconds of a converge with nothing to change and of a deploy, one a round."""

    quiet: list[float]
    deploy: list[float]


@dataclasses.dataclass(frozen=True)
class Outage:
    """Seconds since the visitors began to come: of each answer, and when the host died and was started again."""

    answers: list[float]
    died: float
    back: float
    asked: int
    failed: int
    longest: float


@dataclasses.dataclass(frozen=True)
class Several:
    sizes: dict[int, Size]
    rates: dict[str, dict[str, Rate]]  # of each load: by how visitors come
    commits: dict[int, Commits]  # of each number of database nodes
    outage: Outage


def host(number: int) -> str:
    return HOSTS[number - 1]


def address(number: int) -> str:
    return f"{PLACE}.{10 + number}"


def up(name: str, place: str) -> None:
    # As on a server, root sees whose a port is, also where the program has become another user since.
    sh(f"tools/container up {name} trixie --network={NETWORK} --ip={place} --cap-add=SYS_PTRACE")


def down() -> None:
    sh(
        f"tools/container down {' '.join(HOSTS)} {LOAD}; ! docker network inspect {NETWORK} >/dev/null 2>&1 || docker network rm {NETWORK}"
    )


def inventory(size: int) -> str:
    """The first three are balancer, web server and database each, the others web servers. One alone has no balancer."""
    web = {
        host(number): {**way_to(address(number)), "private_address": address(number)} for number in range(1, size + 1)
    }
    three = dict(list(web.items())[:3])
    groups = {"webservers": web, "appservers": web, "dbservers": three}
    values = {"sites": {"foobar": example(PRIVATE)}, "nginx_client_connections": 0, "nginx_client_requests": 0}
    if size > 1:
        groups["loadbalancers"] = three
        values |= {
            "load_balancer_virtual_addresses": [f"{VIRTUAL}/24"],
            "cluster_authority_folder": str(BUILD / "bench-cluster-authority"),
            "walk_address": VIRTUAL,
        }
    else:
        values["walk_address"] = address(1)
    path = BUILD / "bench-several-inventory.json"  # always the same: by its name, a host knows whose it is
    path.write_text(
        json.dumps({"all": {"vars": values, "children": {group: {"hosts": hosts} for group, hosts in groups.items()}}}),
        encoding="utf-8",
    )
    return str(path)


def play(size: int, playbook: str, *more: str, quiet: bool = False) -> float:
    """Its seconds. One that is `quiet` must have nothing to change."""
    command = " ".join(["ansible-playbook --inventory", inventory(size), playbook, *more])
    out: list[str] = []
    taken = timed(lambda: out.append(sh(command)))
    if quiet:
        must_be_nothing(changes(out[0]))
    return taken


def size_of(size: int) -> Size:
    """Of hosts that have all they need."""
    git = f"git -C {PROJECT}/.cache/foobar.git -c user.name=bench -c user.email=bench@example.com"
    quiet, deploy = [], []
    for number in range(ROUNDS):
        quiet.append(play(size, "site.yml", quiet=True))
        sh(f"{git} branch --force several $({git} commit-tree main^{{tree}} -p main -m 'The same, {size} {number}')")
        deploy.append(play(size, "playbooks/deploy.yml", "--extra-vars ref=several"))
    play(size, "playbooks/deploy.yml", "--extra-vars ref=main")
    return Size(quiet, deploy)


def rates() -> dict[str, list[Rate]]:
    taken: dict[str, list[Rate]] = {name: [] for name in LOADS}
    for _round in range(ROUNDS + 1):
        for name, path in LOADS.items():
            taken[name].append(load(f"https://www.foobar.com{path}", CONNECTIONS))
    return {name: medians(seen[1:]) for name, seen in taken.items()}  # the first was to warm


def lead_to(place: str) -> None:
    sh(
        f"grep -v www.foobar.com /etc/hosts > /tmp/hosts; echo {place} www.foobar.com >> /tmp/hosts; cat /tmp/hosts > /etc/hosts",
        LOAD,
    )


def balance(what: str, *numbers: int) -> None:
    """Drains web servers on all balancers, or has them ready again."""
    for balancer in (1, 2, 3):
        for number in numbers:
            sh(f"webstack-balance {what} {host(number)}", host(balancer))


def writer() -> int:
    name = sh("mariadb -N -B -e 'SELECT name FROM webstack.writer'", host(1)).strip()
    return HOSTS.index(name) + 1


def committed(number: int) -> Commits:
    """By the node itself, so that a commit's way is that to the other nodes alone."""
    sh(
        "mariadb -e 'CREATE DATABASE IF NOT EXISTS bench; CREATE OR REPLACE TABLE bench.written (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT)'",
        host(number),
    )
    taken = []
    for _round in range(ROUNDS):
        with writers(container=host(number)) as waits:
            time.sleep(TURN_SECONDS)
        taken.append(commits(waits))
    return medians(taken)


@dataclasses.dataclass
class Noted(Visitors):
    began: float = dataclasses.field(default_factory=time.monotonic)
    answers_at: list[float] = dataclasses.field(default_factory=list)

    def answered(self, *said) -> None:
        super().answered(*said)
        self.answers_at.append(time.monotonic() - self.began)


def outage() -> Outage:
    """The host that takes the writes dies, and is started again. Every page asks the database."""
    victim = host(writer())
    them = Noted(VIRTUAL, "www.foobar.com")
    with visiting(them):
        time.sleep(BEFORE_SECONDS)
        died = time.monotonic() - them.began
        sh(SILENCE, victim)
        sh(f"docker kill {victim}")
        time.sleep(DEAD_SECONDS)
        back = time.monotonic() - them.began
        sh(f"docker start {victim}")
        time.sleep(AFTER_SECONDS)
    return Outage(them.answers_at, died, back, them.asked, len(them.failures), them.longest)


def measure() -> Several:
    down()
    sh(f"docker network create --subnet={PLACE}.0/24 --aux-address=virtual={VIRTUAL} {NETWORK}")
    up(LOAD, f"{PLACE}.9")
    sh(WRK, LOAD)
    sizes, seen, took, there = {}, {}, {}, 0
    for size in SIZES:
        for number in range(there + 1, size + 1):
            up(host(number), address(number))
            let_in(host(number))
        play(size, "site.yml" if size != 3 else "playbooks/grow.yml")
        there = size
        sizes[size] = size_of(size)
        if size == 1:
            lead_to(address(1))
            seen["one host"] = rates()
            took[1] = committed(1)
        if size == 3:
            lead_to(VIRTUAL)
            seen["three, by the balancer"] = rates()
            balance("drain", 2, 3)
            seen["one of them, by the balancer"] = rates()
            balance("ready", 2, 3)
            took[3] = committed(writer())
            met = outage()
    down()
    return Several(sizes, {name: {way: rate[name] for way, rate in seen.items()} for name in LOADS}, took, met)


def table(taken: Several) -> str:
    one = taken.sizes[1]
    quiet, deploy = statistics.median(one.quiet), statistics.median(one.deploy)
    lines = [
        "",
        "| hosts | site.yml, nothing to change | × one | a deploy | × one | to reach |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for size, seen in taken.sizes.items():
        nothing, shipped = statistics.median(seen.quiet), statistics.median(seen.deploy)
        bound = "nothing to change ≤ 2.00 ×" if size == max(SIZES) else ""
        lines.append(
            f"| {size} | {nothing:.1f} s | {nothing / quiet:.2f} | {shipped:.1f} s | {shipped / deploy:.2f} | {bound} |"
        )
    lines += [
        "",
        f"| by HTTPS, {CONNECTIONS} connections | good answers/s | × one host | failed | p50 ms | p99 ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, ways in taken.rates.items():
        alone = next(iter(ways.values())).per_second
        for way, rate in ways.items():
            lines.append(
                f"| {name}, {way} | {rate.per_second:,.0f} | {rate.per_second / alone:.2f} | {rate.failed:.1f} % | {rate.p50:.1f} | {rate.p99:.1f} |"
            )
    lines += ["", f"| commits of {WRITERS} writers | a second | p50 ms | p99 ms |", "|---|---:|---:|---:|"]
    for nodes, seen in taken.commits.items():
        lines.append(
            f"| {nodes} node{'s' if nodes > 1 else ''} | {seen.per_second:,.0f} | {seen.p50:.2f} | {seen.p99:.2f} |"
        )
    met = taken.outage
    lines += [
        "",
        f"All hosts share the {os.cpu_count()} cores of one machine: several of them serve no more than one there, and what is compared is the cost.",
        f"The host that took the writes died under 100 requests a second: {met.failed} of {met.asked:,} failed, the longest silence was {met.longest:.1f} s.",
    ]
    return "\n".join(lines) + "\n"


def picture(taken: Several) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    met = taken.outage
    tenths = [0] * (int(10 * (met.back + AFTER_SECONDS)) + 1)
    for answer in met.answers:
        if int(10 * answer) < len(tenths):
            tenths[int(10 * answer)] += 10
    figure, axes = pyplot.subplots(figsize=(15, 4))
    axes.plot([number / 10 for number in range(len(tenths))], tenths, color="#4b3fd8")
    for at, words in ((met.died, "the writer's host dies"), (met.back, "it is started again")):
        axes.axvline(at, color="#d8503f", linestyle=":")
        axes.text(at, axes.get_ylim()[1], f" {words}", va="top")
    axes.set(
        title="Answers a second, of 100 requests a second to three hosts", xlabel="seconds", ylabel="answers a second"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(BUILD / "bench-several.png", dpi=110)
