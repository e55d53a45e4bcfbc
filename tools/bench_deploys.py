"""What visitors notice of a deploy, a rollback, and of a plain restart of the same application under the same load."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benching import BUILD, PROJECT, SITE, address_of, inventory, sh

RATE = 100  # requests a second
QUIET_SECONDS = 4  # before and after each change


@dataclasses.dataclass(frozen=True)
class Change:
    """A change under load: from when to when, in seconds of the epoch; steps and their seconds where it has any."""

    name: str
    began: float
    ended: float
    phases: dict[str, float]
    flipped: float | None


@contextlib.contextmanager
def visitors() -> Iterator[dict[str, Any]]:
    """Load as long as the block lasts; afterwards the dictionary has what the visitors met."""
    met: dict[str, Any] = {}
    program = str(PROJECT / "molecule/deploy/files/visitors.py")
    address = address_of(SITE)
    process = subprocess.Popen(
        [sys.executable, program, address, str(RATE), "www.foobar.com", "/healthz"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield met
    finally:
        met.update(json.loads(process.communicate(timeout=60)[0]))


def guarded(playbook: str, name: str) -> Change:
    """A deploy or a rollback, as the host tells of it afterwards."""
    sh(f"ansible-playbook --inventory {inventory()} {playbook}")
    (line,) = [line for line in sh("tail -n 1 /var/lib/foobar/history", SITE).splitlines() if line]
    entry = json.loads(line)
    before_flip = list(entry["phases"].values())[: list(entry["phases"]).index("flip")]
    return Change(name, entry["since"], entry["ended"], entry["phases"], entry["since"] + sum(before_flip))


def restart() -> Change:
    began = time.time()
    slot = json.loads(sh("webstack-release foobar status --json", SITE))["slot"]
    sh(f"systemctl restart foobar@{slot}", SITE)
    return Change("systemctl restart", began, time.time(), {}, None)


def measure() -> tuple[list[Change], dict[str, Any]]:
    repository = PROJECT / ".cache/foobar.git"
    git = f"git -C {repository} -c user.name=bench -c user.email=bench@example.com"
    sh(f"{git} branch --force bench $({git} commit-tree main^{{tree}} -p main -m 'The same, once more')")
    changes = []
    with visitors() as met:
        for change in (
            lambda: guarded("playbooks/deploy.yml --extra-vars ref=bench", "deploy"),
            lambda: guarded("playbooks/rollback.yml", "rollback"),
            restart,
        ):
            time.sleep(QUIET_SECONDS)
            changes.append(change())
        time.sleep(QUIET_SECONDS)
    return changes, met


def share(waits: list[float], part: float) -> float:
    """The wait, in milliseconds, within which this part of the requests was answered."""
    return 1000 * sorted(waits)[min(int(len(waits) * part), len(waits) - 1)] if waits else 0.0


def table(changes: list[Change], met: dict[str, Any]) -> str:
    lines = [
        "",
        f"| under {RATE} requests a second | seconds | until visitors have it | failed | p50 ms | p99 ms | slowest ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for change in changes:
        within = range(int(change.began), int(change.ended) + 3)
        waits = [wait for second in within for wait in met["waits"].get(str(second), [])]
        failed = [failure for failure in met["failed"] if change.began <= failure["at"] <= change.ended + 3]
        until = f"{change.flipped - change.began:.1f}" if change.flipped else "-"
        lines.append(
            f"| {change.name} | {change.ended - change.began:.1f} | {until} | {len(failed)}"
            f" | {share(waits, 0.5):.1f} | {share(waits, 0.99):.1f} | {share(waits, 1):.1f} |"
        )
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in changes[0].phases.items())
    return (
        "\n".join(lines)
        + f"\n\nThe deploy's steps, in seconds: {steps}. To reach: a deploy ≤ 15, a rollback to visitors ≤ 2, none failed.\n"
    )


def picture(changes: list[Change], met: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seconds = sorted(int(second) for second in met["waits"])
    figure, axes = pyplot.subplots(figsize=(15, 4))
    for name, part, colour in (("slowest", 1, "#b0b0c0"), ("p99", 0.99, "#8f87e8"), ("p50", 0.5, "#4b3fd8")):
        waits = [share(met["waits"][str(second)], part) for second in seconds]
        axes.plot([second - seconds[0] for second in seconds], waits, label=name, color=colour)
    for change in changes:
        axes.axvspan(change.began - seconds[0], change.ended - seconds[0], color="#f2f1fb", zorder=0)
        axes.text(change.began - seconds[0], axes.get_ylim()[1], f" {change.name}", va="top")
        if change.flipped:
            axes.axvline(change.flipped - seconds[0], color="#d8503f", linestyle=":")
    for failure in met["failed"]:
        axes.axvline(failure["at"] - seconds[0], color="#d8503f", alpha=0.2)
    axes.set(
        title="What visitors wait for; dotted: the flip; red: a failed request",
        xlabel="seconds",
        ylabel="ms",
        yscale="log",
    )
    axes.legend(loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(BUILD / "bench-deploys.png", dpi=110)
