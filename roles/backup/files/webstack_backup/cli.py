"""webstack-backup COMMAND."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time

from . import drill, dump, files, full, live, marks, minute, purge, restore, restored, sheet, state
from .atomic import write_atomically
from .basics import Refused, config, in_words, read_object, run
from .ledger import FOLDER, line_in
from .lines import DATA, LOG, new_id

UNSHIPPED = [
    "Shipping: no target is declared (backup_target): what was committed since the last backup is lost with this host"
]


def line() -> str:
    """The line of this host's log: its id goes with the log, or with this host where the log has none."""
    given, own = state.FOLDER / "line", FOLDER / "line"
    if not given.exists() and not own.exists():
        write_atomically(own, f"{new_id()}\n")
    return line_in(given if given.exists() else own)


def take_line() -> int:
    """Root's part of a start of webstack-binlog.service, which may not look into the folder of the log itself."""
    # First: a server that starts meanwhile, and may begin another line, is another one.
    write_atomically(state.START, state.server_start())
    try:
        write_atomically(state.FOLDER / "line", f"{line_in(LOG / 'line')}\n")
    except FileNotFoundError:
        (state.FOLDER / "line").unlink(missing_ok=True)
    return 0


def new_line() -> int:
    """What the target has stays there, and is not gone on with: for a log that was begun anew, or lost a part."""
    beside = LOG / "line"
    path = beside if beside.exists() else FOLDER / "line"
    write_atomically(path, f"{new_id()}\n")
    run(["systemctl", "restart", "webstack-binlog.service"], seconds=60)
    print(f"a new line is begun: {line()}; make a full backup now, which it can be restored from")
    return 0


def stream() -> int:
    from .stream import Stream  # needs PyMySQL, which the other commands do not

    Stream(config(), line(), state.START.read_text(encoding="utf-8")).forever()
    return 0


def status(*, as_json: bool) -> int:
    found = state.read() if config()["target"] else {}
    shipping = (
        state.overview(found)
        if config()["target"]
        else minute.overview()
        if minute.is_elsewhere()
        else (UNSHIPPED, True)
    )
    parts = [
        restored.overview(),
        shipping,
        full.overview(),
        files.overview(full.paths(), read_object(full.CONFIG).get("files_schedule", "hourly")),
        full.place(),
        drill.overview(),
        state.room(LOG if LOG.exists() else DATA),
    ]
    lines = [line for said, _good in parts for line in said]
    wrong = [line for said, good in parts if not good for line in said]
    print(json.dumps({**found, "overview": lines, "wrong": wrong}) if as_json else "\n".join(lines))
    return 1 if wrong else 0


def mark(name: str) -> int:
    """Prints the line of the ledger; waits for the target to have it, as long as it is there."""
    if not config()["target"]:
        print(minute.note(marks.checked(name))[1])
        return 0
    entry = marks.take(name)
    deadline = time.monotonic() + marks.SECONDS
    while (found := state.read()) and not found["fault"] and time.monotonic() < deadline:
        if found["ledger"] >= str(entry):
            print(entry)
            return 0
        time.sleep(0.1)
    print(entry)
    print(f"webstack-backup: the mark {name} is on this host only, until the target has it", file=sys.stderr)
    return 0


def end(*_: object) -> None:
    """An end on request runs what removes copies, and stops servers of their own."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit("webstack-backup: ended on request")


def copies(options: argparse.Namespace) -> int:
    if options.command != "go-live":  # which goes on after a kill
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
    match options.command:
        case "full":
            said = full.full()
        case "files":
            said = files.between(full.repository(), full.paths())
        case "restore":
            said = restore.restore(options.to, options.log, reuse=options.reuse, only=options.files)
        case "log":
            said = minute.save()
        case "purge":
            said = purge.purge()
        case "sheet":
            said = sheet.sheet()
        case "drill":
            said = drill.drill()
        case "check":
            said = drill.check()
        case "dump":
            said = dump.dump(options.only, files=options.files)
        case "go-live":
            said = live.go_live(options.confirm)
        case "end-scratch":
            said = restore.end_scratch()
        case _:
            raise AssertionError(f"no such command: {options.command}")
    for words in said:
        print(words)
    return 0


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="webstack-backup", description="Backups of the database of this host.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    found = commands.add_parser("status", help="what is where, and which promise holds now; 1 if one does not")
    found.add_argument("--json", action="store_true")
    named = commands.add_parser("mark", help="give this moment of the log a name, to restore to")
    named.add_argument("name")
    commands.add_parser(
        "new-line", help="go on in a new line of the log, where the one at the target cannot be continued"
    )
    commands.add_parser("full", help="take a full backup now (webstack-backup.timer does)")
    commands.add_parser("files", help="save the folders beside the database now (webstack-backup-files.timer does)")
    commands.add_parser(
        "log", help="without a target: note where the log ends, and save it in a repository on another machine"
    )
    found = commands.add_parser("restore", help="restore into a scratch server of its own; the live one stays as it is")
    found.add_argument(
        "--to",
        default="latest",
        help="latest (the default), full, a time with its zone (2026-11-23 10:15:00Z), a mark (before:RELEASE), a position (binlog.000012:4711)",
    )
    found.add_argument("--reuse", action="store_true", help="a restored server of the same --to that runs will do")
    found.add_argument(
        "--log",
        choices=["here", "target", "repository"],
        help="where the log is read from; by default here, if it is that of the newest full",
    )
    found.add_argument(
        "--files",
        metavar="PATH",
        help="of the folders beside the database, what is at PATH alone; by default all of them, and none with an empty PATH",
    )
    found = commands.add_parser("dump", help="write a database, or a table, of that server into a file")
    found.add_argument("only", metavar="DATABASE[.TABLE]")
    found.add_argument("--files", action="store_true", help="keep the files that were restored as well")
    found = commands.add_parser("go-live", help="make that server's data the live ones; those of before are kept")
    found.add_argument("--confirm", default="", metavar="HOST", help="the name of this host, as in the inventory")
    commands.add_parser("end-scratch", help="stop that server, and remove its data")
    commands.add_parser(
        "sheet", help="what is where, and how to restore it without this tool: to print, and keep elsewhere"
    )
    commands.add_parser("purge", help="remove files of the log that the target has, and that are older than declared")
    commands.add_parser(
        "drill", help="restore the newest full and all of the log, as a proof (webstack-drill.timer does)"
    )
    commands.add_parser("check", help="read a seventh of the repository (webstack-backup-check.timer does)")
    commands.add_parser("stream", help="ship the binary log (webstack-binlog.service does)")
    commands.add_parser("take-line", help="read which line of the log this is, for that")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    # A server has to pass through the folders that are made. Files that root alone reads have their mode.
    os.umask(0o022)
    try:
        match options.command:
            case "status":
                return status(as_json=options.json)
            case "mark":
                return mark(options.name)
            case "new-line":
                return new_line()
            case "stream":
                return stream()
            case "take-line":
                return take_line()
            case _:
                return copies(options)
    except (Refused, OSError) as error:
        print(f"webstack-backup: {in_words(error)}", file=sys.stderr)
        return 1
