"""The command line, for operators and for the action app_release."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import syslog
import time
import traceback
from pathlib import Path
from typing import Any

from .asking import ask
from .basics import ReleaseError, in_words, is_running, read_object, succeeds
from .change import Application, Change
from .layout import TOOL, Layout, other
from .record import Journal
from .sandbox import run_as_unit

BUSY_SECONDS = 30  # to wait for another change
FOLLOW_SECONDS = 5  # `follow` waits so long for new output
PAUSE = 0.1


class Busy(ReleaseError):
    """Another change is running."""

    def __init__(self, paths: Layout) -> None:
        super().__init__(f"another run changes {paths.app} now: {describe(Journal(paths))}")


def start(app: Application, request: dict[str, Any]) -> str:
    """Starts a change as a unit of its own, which survives the end of the caller; returns its id."""
    paths = app.paths
    if app.busy():
        raise Busy(paths)
    recover(paths.app)
    free_megabytes = shutil.disk_usage(paths.home if paths.home.exists() else "/").free // 2**20
    if request["kind"] in ("deploy", "stage") and free_megabytes < app.config["disk_mb"]:
        raise ReleaseError(
            f"{paths.home} has {free_megabytes} MB left; a release is only built with {app.config['disk_mb']} MB or more"
        )
    identity = f"{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}-{secrets.token_hex(3)}"
    for place in (paths.home, paths.state):
        place.mkdir(parents=True, exist_ok=True)
    path = paths.state / f"request-{identity}.json"
    with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as handle:
        json.dump({**request, "id": identity, "by": re.sub(r"[^\w.@+-]", "", request.get("by") or whoever())}, handle)
    # Paths of releases, slots and units. Everything else is done by other units.
    places = (paths.home, paths.state, paths.public_link.parent, paths.unit_folder, Path("/var/cache"))
    settings = (
        f"ExecStopPost={TOOL} {paths.app} recover --ended", "TimeoutStopSec=300",
        *(f"ReadWritePaths=-{place}" for place in places),
        "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER",
    )  # fmt: skip
    try:
        run_as_unit(paths, ["--service-type=exec", f"--unit={paths.deploy_unit}"], ["carry-out", str(path)], *settings)
    except ReleaseError as error:
        path.unlink(missing_ok=True)
        if app.busy():  # another change was started at the same moment
            raise Busy(paths) from error
        raise
    return identity


def whoever() -> str:
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    return f"{user}@{socket.gethostname()}"


def describe(journal: Journal) -> str:
    """A running change in one line: what, by whom, since when, which step."""
    record = journal.record
    if not record.open:
        return "it has just begun"
    what = f"{record.kind} of {record.version}" if record.version else record.kind
    return f"{what} by {record.by} since {moment(record.since)}, in its step {record.phase}"


def follow(app: Application, identity: str, after: int) -> dict[str, Any]:
    """Output of a change after its first `after` lines, and the verdict. Waits up to FOLLOW_SECONDS if there is nothing new."""
    deadline = time.monotonic() + FOLLOW_SECONDS
    while True:
        running = app.busy()
        journal = Journal(app.paths)
        lines = journal.said()[after:] if journal.record.id == identity else []
        record = journal.of(identity)
        if lines or record.verdict or time.monotonic() > deadline:
            known = {key: getattr(record, key) for key in ("verdict", "reason", "release", "phase", "phases")}
            return {"lines": lines, "before": record.before_release, **known}
        if not running:
            if not record.id:
                raise ReleaseError(
                    f"the change has ended before it began; journalctl -u {app.paths.deploy_unit} tells more"
                )
            recover(app.paths.app)
        time.sleep(PAUSE)


def carry_out(app: Application, path: Path) -> int:
    request = read_object(path)
    if not request:
        raise ReleaseError(f"{path} cannot be read, so what was asked for is not known; nothing was changed")
    path.unlink()
    return 0 if Change(app).carry_out(request) else 1


def recover(name: str, *, ended: bool = False, boot: bool = False) -> None:
    """Completes or undoes a change that was cut off. `ended`: called by the unit of the change as it ends."""
    app = Application(Layout(name))
    if app.journal.record.open and (ended or not app.busy()):
        (Change(app).recover_at_boot if boot else Change(app).recover)()


def cool(app: Application) -> None:
    """Stops the slot that was kept warm. Waits for a running change, which stops this process if it needs the slot."""
    while app.busy():
        time.sleep(10 * PAUSE)
    live = app.slots.live()
    if live:
        app.slots.drain(other(live))


def retire(app: Application) -> None:
    """Stops the application and its jobs, and removes their units. Releases, shared files and history stay."""
    if app.busy():
        raise Busy(app.paths)
    app.jobs.leave()
    app.slots.leave()


def run_by_hand(app: Application, argv: list[str]) -> int:
    """Runs one of the application's own commands as the live release; returns its exit code."""
    argv = argv[1:] if argv[:1] == ["--"] else argv
    if all("=" in word for word in argv):  # no command: `env` would print the environment with its secrets
        raise ReleaseError("say which command: webstack-release APP run -- COMMAND [ARGUMENT…]")
    slot = app.slots.live()
    release = app.slots.release(slot)
    if slot is None or not app.releases.verified(release):
        raise ReleaseError("no verified release is live on this host, whose command could be run: deploy one first")
    if app.busy():
        print(
            f"another run changes {app.paths.app} now: {describe(app.journal)}; this is of {release}", file=sys.stderr
        )
    unit = app.paths.command_unit(secrets.token_hex(3))
    terminal = os.isatty(0) and os.isatty(1)
    command = app.sandbox.by_hand(unit, slot, release, argv, terminal=terminal, who=whoever())
    asked: list[int] = []  # received signals, perhaps before the unit exists
    sent: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        # Without a terminal, Ctrl-C must not reach systemd-run: it would end, and the command would not.
        process = subprocess.Popen(command, process_group=None if terminal else 0)
        while (code := process.poll()) is None:
            if len(asked) > len(sent) and succeeds(["systemctl", "kill", f"--signal={asked[len(sent)]:d}", unit]):
                sent.append(asked[len(sent)])
            time.sleep(PAUSE)
    finally:
        if outlived := is_running(unit):  # systemd-run was killed, or the terminal is gone
            succeeds(["systemctl", "stop", unit])
        for number, handler in before.items():
            signal.signal(number, handler)
    if sent and (code == 0 or outlived):  # systemd reports 0 for a service that one of these signals ends
        return 128 + sent[0]
    return code if code >= 0 else 128 - code


def watch_it(app: Application, request: dict[str, Any]) -> int:
    """Starts a change and prints its output to the end."""
    deadline, told = time.monotonic() + BUSY_SECONDS, ""
    while True:
        try:
            identity, seen = start(app, request), 0
            break
        except Busy as busy:
            if time.monotonic() > deadline:
                raise
            if str(busy) != told:
                told = str(busy)
                print(f"waiting: {told}", flush=True)
            time.sleep(1)
    while True:
        progress = follow(app, identity, seen)
        seen += len(progress["lines"])
        for line in progress["lines"]:
            print(line, flush=True)
        if progress["verdict"]:
            return 0 if progress["verdict"] in ("live", "unchanged") else 1


# Output for operators


def moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def wrong(app: Application, status: dict[str, Any]) -> list[str]:
    """Faults that need a person or a converge."""
    live, busy = status["slot"], app.busy()
    if not live:
        return [] if busy else ["nothing is live"]
    lines = [line for line in (*status["damage"], status["at_boot"]) if line]
    lines += [f"{line}; a converge mends that" for line in status["trouble"]]
    if not status["active"]:
        lines.append(f"{app.paths.slot_unit(live)} does not run")
    elif not status["settings_current"] and status["matches_host_python"]:
        lines.append("it runs with settings or libraries of before; a converge mends that")
    if not status["release"] and not busy:
        lines.append("it is not verified")
    if status["drained"] and not busy:
        lines.append(
            "load balancers may send no visitors to this host, since a run was cut off; the next deploy has them do so"
        )
    if not status["committed"] and not status["trouble"] and (off := app.jobs.off()):
        lines.append(f"of its background jobs, {', '.join(off)} is stopped; a converge starts it")
    elif not (busy or status["committed"] or status["trouble"] or status["damage"]):
        lines.append("its last change did not come to its end, or was undone in part; a converge mends that")
    return lines


def ways_back(app: Application, status: dict[str, Any]) -> dict[str, Any]:
    """Which release a rollback would make live, empty for none, and all that it can be told to."""
    before = ""
    with contextlib.suppress(ReleaseError):
        before = app.releases.before(status["release"])
    return {"before": before, "verified": [name for name in app.releases.names() if app.releases.verified(name)]}


def tell(app: Application, status: dict[str, Any]) -> list[str]:
    """What is live, which releases there are, and the last changes."""
    live = status["slot"]
    lines = [
        f"{app.paths.app}: " + (f"release {app.slots.release(live)} in slot {live}" if live else "nothing is live")
    ]
    busy = app.busy()
    if live:
        lines += [f"  {line}" for line in wrong(app, status)]
        if not status["release"] and busy:
            lines.append("  it is not verified yet")
        if status["warm"]:
            idle = other(live)
            lines.append(f"  slot {idle} is warm with {app.slots.release(idle)}")
    if busy:
        lines.append(f"  now: {describe(app.journal)}")
    lines.append("releases:")
    for name in reversed(app.releases.names()):
        record = app.releases.record(name)
        rejected = app.releases.rejected(name).removeprefix(f"release {name} was ")
        verdict = rejected or ("verified" if app.releases.verified(name) else "never verified")
        mark = "*" if name == status["release"] else " "
        commit, version = str(record.get("commit", "?"))[:12], record.get("version") or "-"
        lines.append(f"{mark} {name}  commit {commit} ({version})  {verdict}")
    lines.append("changes:")
    lines += [f"  {line}" for line in history(app, 5)]
    return lines


def history(app: Application, last: int) -> list[str]:
    """One line for each change, the newest first."""
    torn = len(app.journal.lines()) - len(app.journal.entries())
    note = [f"({torn} of {app.paths.history} cannot be read)"] if torn else []
    return note + [
        " ".join(filter(None, [f"{moment(entry['since'])} ", entry["kind"], entry["version"] or entry["release"]]))
        + f" by {entry['by']}: {entry['verdict']}"
        f" in {sum(entry['phases'].values()):.1f} s"
        + (f" ({entry['reason'].splitlines()[0]})" if entry["reason"].strip() else "")
        for entry in reversed(app.journal.entries(last))
    ]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="webstack-release", description="Ships releases of an application on this host."
    )
    parser.add_argument("app", help="the application's name")
    known = "{status,history,deploy,rollback,renew,run,ask}"
    commands = parser.add_subparsers(dest="command", required=True, metavar=known)
    commands.add_parser("status", help="what is live, what can be, what was done").add_argument(
        "--json", action="store_true"
    )
    commands.add_parser("history", help="who changed what, when, and how it went").add_argument(
        "--last", type=int, default=50
    )
    deploy = commands.add_parser("deploy", help="make a branch, a tag or a commit live")
    deploy.add_argument("version", nargs="?", default="", help="default: the one that the inventory declares")
    back = commands.add_parser("rollback", help="make an older release live")
    back.add_argument("release", nargs="?", default="", help="default: the last verified one before the live one")
    commands.add_parser("renew", help="give the live release the settings of now")
    own = commands.add_parser("run", help="one of the application's own commands: run -- COMMAND [ARGUMENT…]")
    own.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    commands.add_parser("ask", help="GET a path from the live slot").add_argument("path")
    # Called by the action app_release, by systemd and by the tool itself.
    commands.add_parser("notify").add_argument("id")
    plan = commands.add_parser("plan")
    plan.add_argument("declared")
    plan.add_argument("settings")
    plan.add_argument("--dry", action="store_true")
    commands.add_parser("start").add_argument("request", type=json.loads)
    progress = commands.add_parser("follow")
    progress.add_argument("id")
    progress.add_argument("after", type=int)
    commands.add_parser("carry-out").add_argument("path", type=Path)
    recovery = commands.add_parser("recover")
    recovery.add_argument("--ended", action="store_true")
    recovery.add_argument("--boot", action="store_true")
    commands.add_parser("admit")
    commands.add_parser("cool")
    commands.add_parser("retire")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    os.umask(0o022)
    sys.stdout.reconfigure(errors="replace")  # a damaged file may hold bytes that are not valid UTF-8
    try:
        app = Application(Layout(options.app))
        match options.command:
            case "status":
                status = app.status()
                overview = tell(app, status)
                print(
                    json.dumps({**status, **ways_back(app, status), "overview": overview, "wrong": wrong(app, status)})
                    if options.json
                    else "\n".join(overview)
                )
            case "history":
                print("\n".join(history(app, options.last)))
            case "deploy":
                config = app.config
                version = options.version or config["version"]
                if config["push"]:
                    raise ReleaseError("commits are sent from the controller here (app_server_push): deploy from there")
                return watch_it(app, {"kind": "deploy", "version": version})
            case "rollback":
                return watch_it(app, {"kind": "rollback", "release": options.release})
            case "renew":
                return watch_it(app, {"kind": "renew"})
            case "run":
                return run_by_hand(app, options.argv)
            case "ask":
                url, modifier = app.config["public_url"], app.config["modifier"]
                code, body = ask(app.paths.live_link, options.path, modifier, seconds=60, url=url)
                print(json.dumps({"status": code, "body": body}))
            case "plan":
                if not options.dry:
                    recover(options.app)
                    app = Application(Layout(options.app))
                print(json.dumps(app.plan(options.declared, options.settings)))
            case "start":
                try:
                    print(json.dumps({"id": start(app, options.request)}))
                except Busy as busy:
                    print(json.dumps({"busy": str(busy)}))
            case "follow":
                print(json.dumps(follow(app, options.id, options.after)))
            case "carry-out":
                return carry_out(app, options.path)
            case "recover":
                if not (options.ended or options.boot) and app.busy():
                    raise Busy(app.paths)
                recover(options.app, ended=options.ended, boot=options.boot)
            case "admit":
                app.paths.drained.unlink(missing_ok=True)
                print(json.dumps({}))
            case "cool":
                cool(app)
            case "retire":
                retire(app)
            case "notify":
                Change(app).notify(app.journal.of(options.id))
    except (ReleaseError, OSError) as error:
        print(f"webstack-release: {in_words(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("webstack-release: a change that was begun goes on by itself; status tells how", file=sys.stderr)
        return 130
    except Exception as error:  # a bug of this tool: the traceback goes to syslog, not to the operator
        syslog.openlog("webstack-release", facility=syslog.LOG_DAEMON)
        for line in traceback.format_exc().splitlines():
            syslog.syslog(syslog.LOG_ERR, line)
        what = f"{type(error).__name__}: {error}"
        print(
            f"webstack-release: a fault of this tool, {what}; journalctl -t webstack-release has it whole",
            file=sys.stderr,
        )
        return 1
    return 0
