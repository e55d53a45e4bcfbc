"""The state machine of a change: every way to its verdict, every way to be cut off, and what is live afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releasing import (
    CONFIG,
    GOOD,
    NEXT,
    a_release,
    bind,
    calls,
    change,
    cli,
    jobs,
    make_live,
    mark,
    record,
    sandbox,
    says,
    slots,
    unit,
)

COMMIT = "b" * 40
DEPLOY = {"kind": "deploy", "id": "1", "by": "ann@laptop", "version": "main", "declared": "repo main"}


class Killed(BaseException):
    """Stands for what no program can catch."""


@pytest.fixture
def host(application: Any, slot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host on which GOOD is live in blue, and whose builds make NEXT at once."""
    application.host_says = {"blue": None, "green": None}  # what a slot answers instead of its release

    def answer(name: str) -> Callable[[Any], bytes]:
        def said(_asked: Any) -> bytes:
            if not unit(application, "active", name).exists():
                return b""
            instead = application.host_says[name]
            return instead() if instead else says(application.slots.release(name))

        return said

    for name in ("blue", "green"):
        slot(name, answer(name))
    (Path(os.environ["SYSTEMD"]) / "journal").write_text("")
    a_release(application, GOOD)
    make_live(application, "blue", GOOD)
    monkeypatch.setattr(application.repository, "fetch", lambda version: COMMIT)
    monkeypatch.setattr(application.repository, "archive", lambda commit: Path("/no/tar"))

    def build(commit: str, version: str, tar: Path, moment: str) -> str:
        release = f"{moment or NEXT.partition('-')[0]}-{commit[:12]}"
        a_release(application, release, commit=commit, version=version, declared=application.config["declared"])
        application.paths.mark(release, "verified").unlink()
        return release

    monkeypatch.setattr(application.builder, "build", build)
    monkeypatch.setattr(application.builder, "check", lambda release: None)
    run_as = sandbox.Sandbox.run_as

    def run_without_unit(*argv: Any, unit: str = "", **more: Any) -> str:
        return run_as(*argv, **more)

    monkeypatch.setattr(sandbox.Sandbox, "run_as", run_without_unit)
    monkeypatch.setattr(slots, "PAUSE", 0.005)
    application.config.update(health_seconds=0.5, migrate_seconds=60, shared_files=[])
    return application


def carry_out(app: Any, request: dict[str, Any] | None = None, **more: Any) -> record.Record:
    change.Change(app, sleep=lambda seconds: None).carry_out({**DEPLOY, **(request or {}), **more})
    return app.journal.record


def again(app: Any) -> Any:
    """The application as another process finds it."""
    return change.Application(app.paths)


def must_be_live(app: Any, slot_name: str, release: str) -> None:
    assert os.readlink(app.paths.live_link) == str(app.paths.socket(slot_name))
    assert os.readlink(app.paths.current) == f"releases/{release}"
    status = again(app).status()
    assert (status["slot"], status["release"], status["active"]) == (slot_name, release, True)


def as_before(app: Any) -> None:
    must_be_live(app, "blue", GOOD)
    assert again(app).status()["committed"]
    assert not unit(app, "active", "green").exists()


def journal_of(*lines: str) -> None:
    (Path(os.environ["SYSTEMD"]) / "journal").write_text("\n".join(lines) + "\n")


FAILED = "[pid: 7] 10.0.0.1 () {30 vars} GET / => generated 21 bytes in 1 msecs (HTTP/1.1 500) 2 headers"


# Deploy


def test_a_deploy_goes_to_the_idle_slot_and_stops_the_other_afterwards(host):
    known = carry_out(host)
    assert (known.verdict, known.release, known.commit, known.reason) == ("live", NEXT, COMMIT, "")
    assert calls() == ["stop app@green.service", "start app@green.service", "stop app@blue.service"]
    must_be_live(host, "green", NEXT)
    assert again(host).status()["committed"] and host.releases.verified(NEXT)
    assert list(known.phases) == ["fetch", "build", "check", "start", "gate", "flip", "watch", "drain"]


def test_the_slot_before_stays_warm_for_a_while(host):
    host.config["warm_seconds"] = 60
    assert carry_out(host).verdict == "live"
    assert calls()[-1] == "run app-cool.timer" and "stop app@blue.service" not in calls()
    assert unit(host, "active", "blue").exists() and not unit(host, "enabled", "blue").exists()
    assert again(host).status()["committed"]


def test_the_first_deploy_needs_nothing_that_was_there_before(host):
    host.paths.live_link.unlink()
    host.paths.current.unlink()
    shutil.rmtree(host.paths.bound("blue"))
    unit(host, "active", "blue").unlink()
    assert carry_out(host).verdict == "live"
    must_be_live(host, "blue", NEXT)
    assert again(host).status()["committed"]


def test_a_commit_that_is_live_and_was_never_verified_is_built(host):
    deployed(host)
    host.paths.mark(NEXT, "verified").unlink()
    assert "build" in carry_out(host).phases


def test_a_journal_that_cannot_be_read_hides_no_reason(host, command):
    command("journalctl", "case $* in *lines=25*) exit 1;; esac")
    host.host_says["green"] = lambda: says("ill", "500 Internal Server Error")
    known = carry_out(host)
    assert known.verdict == "failed" and "answered 500: ill" in known.reason
    as_before(host)


def test_a_commit_that_is_live_already_is_not_built(host, tmp_path):
    a_release(host, NEXT, commit=COMMIT)
    make_live(host, "blue", NEXT)
    tar = tmp_path / "tar"
    tar.touch()
    assert carry_out(host, commit=COMMIT, archive=str(tar)).verdict == "unchanged"
    assert carry_out(host).verdict == "unchanged"
    assert calls() == [] and not tar.exists()


def test_a_commit_that_is_live_is_not_built_because_something_of_it_stands_still(host):
    deployed(host)
    declare(host, mails_service="mails")
    known = carry_out(host)
    assert known.verdict == "live" and "build" not in known.phases
    assert again(host).status()["committed"]
    assert carry_out(host).verdict == "unchanged"


def test_the_tool_does_with_settings_that_an_older_role_has_written(host):
    old = {
        key: value
        for key, value in CONFIG.items()
        if key not in ("migrate_seconds", "shared_files", "preload", "worker_data_mb")
    }
    (host.paths.config / "release.json").write_text(json.dumps(old))
    config = again(host).config
    assert (config["migrate_seconds"], config["shared_files"], config["preload"]) == (3600, [], False)
    assert config["worker_data_mb"] == 0


def test_a_commit_that_is_live_is_built_again_when_the_way_to_build_changed(host):
    a_release(host, "20260101500000-bbbbbbbbbbbb", commit=COMMIT, declared="repo main, built otherwise")
    make_live(host, "blue", "20260101500000-bbbbbbbbbbbb")
    assert carry_out(host).verdict == "live"


def test_what_a_migration_says_is_told(host, monkeypatch):
    host.config["migrate_command"] = [["sh", "-c", "echo Running upgrade a to b"], ["echo", "and", "c"]]
    assert carry_out(host).verdict == "live"
    assert "  Running upgrade a to b" in host.journal.said() and "  and c" in host.journal.said()


def test_programs_of_the_host_know_of_a_migration_before_it_begins_and_one_that_fails_stops_it(host, tmp_path):
    """Backup notes the moment here, to which a restore can go back."""
    met = tmp_path / "met"
    host.config["migrate_command"] = [["sh", "-c", f"echo migrated >> {met}"]]
    folder = host.paths.before_migrations
    folder.mkdir(parents=True)
    program = folder / "mark"
    program.write_text("#!/bin/sh\necho no room >&2; exit 1\n")
    program.chmod(0o755)
    known = carry_out(host)
    assert known.verdict == "failed" and "Nothing was migrated" in known.reason and "no room" in known.reason
    as_before(host)
    program.write_text(f'#!/bin/sh\necho "$@" >> {met}\n')
    known = carry_out(host)
    assert known.verdict == "live"
    assert met.read_text() == f"{host.paths.app} {known.release}\nmigrated\n"


def test_a_migration_that_fails_leaves_what_was_live_and_says_how_far_it_came(host):
    fails = "echo Running upgrade a to b; echo the column is in the way >&2; exit 1"
    host.config["migrate_command"] = [["sh", "-c", fails], ["echo", "seeds"]]
    known = carry_out(host)
    assert known.verdict == "failed"
    assert "Running upgrade a to b\nthe column is in the way\nsh failed" in known.reason and "seeds" not in known.reason
    assert calls() == []
    as_before(host)


@pytest.fixture
def migrating(host: Any) -> Path:
    """A release in which a migration goes on, whose change was cut off."""
    mark("active", host.paths.migration_unit).touch()
    place = a_release(host, "20251231000000-dddddddddddd")
    host.paths.mark(place.name, "verified").unlink()
    return place


def test_a_deploy_waits_for_a_migration_that_outlived_its_change_and_sweeps_afterwards(host, migrating):
    def ends(_seconds: float) -> None:
        assert migrating.is_dir() and host.journal.record.phase == "wait"
        mark("active", host.paths.migration_unit).unlink()

    assert change.Change(host, sleep=ends).carry_out(DEPLOY)
    assert "wait for the migration of the change before" in host.journal.said() and not migrating.exists()


def test_what_was_sent_is_not_left_over_however_long_it_waited(host, migrating, tmp_path, monkeypatch):
    tar = tmp_path / "tar"
    tar.touch()
    os.utime(tar, (0, 0))
    mark("active", host.paths.migration_unit).unlink()
    ages: list[float] = []
    monkeypatch.setattr(change.Change, "sweep", lambda self: ages.append(time.time() - tar.stat().st_mtime))
    monkeypatch.setattr(host.builder, "build", lambda *_args: a_release(host, NEXT).name)
    carry_out(host, commit=COMMIT, archive=str(tar))
    assert ages[0] < 60


def test_a_migration_that_does_not_end_is_not_waited_for_for_ever(host, migrating):
    host.config["migrate_seconds"] = -60
    known = carry_out(host)
    assert (known.verdict, known.phases.keys()) == ("failed", {"fetch", "wait"})
    assert "the migration of the change before does not end; systemctl status app-migrate.service" in known.reason
    assert migrating.is_dir()
    as_before(host)


def test_whatever_else_changes_meanwhile_does_not_wait_and_leaves_a_migration_its_release(host, migrating):
    assert carry_out(host, kind="renew").verdict == "live"
    assert migrating.is_dir()


def test_a_slot_that_does_not_start_leaves_what_was_live(host):
    mark("broken", "app@green.service").touch()
    known = carry_out(host)
    assert known.verdict == "failed" and "Job for app@green.service failed" in known.reason
    as_before(host)


def test_a_release_that_fails_the_gate_changes_nothing_for_visitors(host):
    host.host_says["green"] = lambda: says("", "500 Oops")
    journal_of("ImportError: no module named foobar")
    known = carry_out(host)
    assert known.verdict == "failed" and not known.exposed
    assert "was not right within 0.5 s: /healthz answered 500" in known.reason
    assert "The last lines of app@green.service:\nImportError" in known.reason
    as_before(host)


def test_a_release_that_is_slow_to_answer_fails_the_gate(host):
    host.config["health_answer_seconds"] = 0.05
    host.host_says["green"] = lambda: time.sleep(0.2) or says(NEXT)
    known = carry_out(host)
    assert known.verdict == "failed" and "/healthz did not answer within 0.05 s" in known.reason
    as_before(host)


# The watch


def turns_bad(right: int) -> Callable[[], bytes]:
    """Right for so many answers, and then not."""
    left = [right]

    def said() -> bytes:
        left[0] -= 1
        return says(NEXT) if left[0] >= 0 else says("", "500 Oops")

    return said


def test_a_release_that_turns_bad_is_sent_back(host):
    host.config["watch_seconds"] = 5
    host.host_says["green"] = turns_bad(4)
    known = carry_out(host)
    assert known.verdict == "reverted"
    assert f"Release {NEXT} was right at first, and then not: /healthz answered 500" in known.reason
    as_before(host)
    assert not host.releases.verified(NEXT)


def test_one_wrong_answer_may_be_chance(host):
    answers = iter([says(NEXT)] * 3 + [says("", "500 Oops")])
    host.host_says["green"] = lambda: next(answers, says(NEXT))
    assert carry_out(host).verdict == "live"


def share(
    app: Any, monkeypatch: pytest.MonkeyPatch, requests: dict[str, int], failures: dict[str, int], earlier: int = 0
) -> None:
    """Lets slots have had requests since they went live, and some `earlier`; and failures since."""

    def count(counters: Path) -> int:
        live = counters.stem == app.slots.live()
        return earlier + (requests.get(counters.stem, 0) if live else 0)

    monkeypatch.setattr(slots, "requests_so_far", count)
    monkeypatch.setattr(app.slots, "failures", lambda name, since: failures.get(name, 0))


@pytest.mark.parametrize(
    ("requests", "failures", "verdict"),
    [
        ({"green": 100}, {"green": 10}, "reverted"),
        ({"green": 100}, {"green": 2}, "live"),
        ({"green": 1000}, {"green": 10}, "live"),
        ({"green": 0}, {"green": 3}, "reverted"),
        ({"green": 100, "blue": 0}, {"green": 20, "blue": 50}, "live"),
    ],
    ids=["a tenth", "two may be chance", "one in a hundred", "no counters", "both fail alike"],
)
def test_failures_of_visitors_are_counted(host, monkeypatch, requests, failures, verdict):
    share(host, monkeypatch, requests, failures)
    known = carry_out(host)
    assert known.verdict == verdict
    if verdict == "reverted":
        assert f"has failed {failures['green']} of {requests['green']} requests" in known.reason
        as_before(host)


def test_requests_from_before_the_flip_do_not_dilute_failures(host, monkeypatch):
    """A warm slot has had many, in its time."""
    deployed(host, warm=60)
    assert carry_out(host, kind="rollback").verdict == "live"
    share(host, monkeypatch, {"green": 400}, {"green": 300}, earlier=100_000)
    known = carry_out(host, kind="rollback", release=NEXT)
    # Who goes back to it has no failures to compare with here: there are none in the slot before.
    assert known.verdict == "reverted" and "has failed 300 of 400 requests" in known.reason
    must_be_live(host, "blue", GOOD)


def test_failures_of_what_a_slot_had_before_are_not_its_releases(host, monkeypatch):
    """Gone back from within a minute, a release is not thought to have failed what another one has in its slot."""
    deployed(host, warm=60)
    bound = host.paths.bound("green") / "slot"

    def failures(slot, since):
        return 300 if slot == "blue" else 50 * (since < time.time() - 45)

    for ago, verdict in ((30, "reverted"), (90, "live")):
        share(host, monkeypatch, {"blue": 400}, {})
        monkeypatch.setattr(host.slots, "failures", failures)
        os.utime(bound, 2 * (time.time() - ago,))
        assert carry_out(host, kind="rollback").verdict == verdict


def test_a_slot_that_has_started_anew_counts_from_nothing(host, monkeypatch):
    monkeypatch.setattr(slots, "requests_so_far", lambda counters: 7)
    assert host.slots.requests("green", 4) == 3 and host.slots.requests("green", 100) == 7


def test_failures_are_read_from_what_uwsgi_logs(host):
    killed = "DAMN ! worker 1 (pid: 7) MISTERIOUSLY killed by signal {} :( trying respawn ..."
    journal_of(
        FAILED, FAILED, "hello", "*** HARAKIRI ON WORKER 1 (pid: 7, try: 1) ***", "DAMN ! worker 1 (pid: 7) died"
    )
    assert host.slots.failures("green", 0) == 4
    journal_of(killed.format(11))
    assert host.slots.failures("green", 0) == 1
    # A worker that was too large and would not end: it had answered (worker_memory.py).
    journal_of(killed.format(14))
    assert host.slots.failures("green", 0) == 0


def test_requests_are_read_from_uwsgis_counters(host, slot):
    assert host.slots.requests("green") == 0
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.paths.counters("green")))
        listener.listen()

        def tell() -> None:
            connection, _peer = listener.accept()
            with connection:
                connection.sendall(json.dumps({"workers": [{"requests": 3}, {"requests": 4}]}).encode())

        threading.Thread(target=tell, daemon=True).start()
        assert host.slots.requests("green") == 7


def at_the_door(monkeypatch: pytest.MonkeyPatch, app: Any, *answers: tuple[int, str]) -> None:
    app.config["public_url"] = "https://www.example.com"
    said = list(answers)
    monkeypatch.setattr(change, "ask_at_the_door", lambda url, path, **_how: said.pop(0) if len(said) > 1 else said[0])


def test_the_public_address_has_to_answer_with_the_release(host, monkeypatch):
    at_the_door(monkeypatch, host, (200, GOOD), (502, ""), (200, NEXT))
    assert carry_out(host).verdict == "live"


def test_a_release_that_the_public_address_does_not_show_is_sent_back(host, monkeypatch):
    at_the_door(monkeypatch, host, (200, GOOD))
    known = carry_out(host)
    assert known.verdict == "reverted"
    assert f"https://www.example.com does not answer with release {NEXT}" in known.reason
    as_before(host)


def test_a_public_address_that_was_shut_before_is_no_judge(host, monkeypatch):
    at_the_door(monkeypatch, host, (503, "maintenance"))
    assert carry_out(host).verdict == "live"


def test_the_slot_before_is_started_again_when_it_died_meanwhile(host):
    host.config["watch_seconds"] = 5

    def dies_and_fails() -> bytes:
        unit(host, "active", "blue").unlink(missing_ok=True)
        return turns()

    turns = turns_bad(3)
    host.host_says["green"] = dies_and_fails
    assert carry_out(host).verdict == "reverted"
    assert "start app@blue.service" in calls()
    as_before(host)


def test_a_slot_before_that_does_not_start_again_is_pointed_to_all_the_same(host):
    """What was not verified serves nobody, though then nobody is served; and the way is free for what mends it."""
    host.config["watch_seconds"] = 5

    def dies_for_good() -> bytes:
        unit(host, "active", "blue").unlink(missing_ok=True)
        mark("broken", "app@blue.service").touch()
        return turns()

    turns = turns_bad(3)
    host.host_says["green"] = dies_for_good
    assert carry_out(host).verdict == "reverted"
    assert any("not done: systemctl failed" in line for line in host.journal.said())
    assert os.readlink(host.paths.live_link) == str(host.paths.socket("blue"))
    assert again(host).plan("repo main", host.config["settings"])["renew"]
    host.host_says["green"] = None
    host.config["watch_seconds"] = 0
    assert carry_out(host, kind="renew").verdict == "live"
    must_be_live(host, "green", GOOD)


def test_a_full_disk_does_not_keep_what_was_live_from_being_so_again(host):
    """What a change says cannot be written down then."""
    host.config["watch_seconds"] = 5
    turns = turns_bad(3)

    def dies_for_good_and_fills_the_disk() -> bytes:
        unit(host, "active", "blue").unlink(missing_ok=True)
        mark("broken", "app@blue.service").touch()
        if host.paths.progress.is_file():
            host.paths.progress.unlink()
            host.paths.progress.mkdir()
        return turns()

    host.host_says["green"] = dies_for_good_and_fills_the_disk
    assert carry_out(host).verdict == "reverted"
    assert os.readlink(host.paths.live_link) == str(host.paths.socket("blue"))


def test_a_record_of_another_version_of_the_tool_is_read(host):
    host.paths.change.write_text(json.dumps({"id": "1", "verdict": "live", "of another version": 1}))
    assert again(host).journal.record.verdict == "live"


# Going back


def deployed(app: Any, warm: int = 0) -> None:
    app.config["warm_seconds"] = warm
    assert carry_out(app).verdict == "live"
    Path(os.environ["SYSTEMD"], "calls").unlink()


def test_going_back_takes_no_start_while_the_slot_is_warm(host):
    deployed(host, warm=60)
    known = carry_out(host, kind="rollback", version="")
    assert (known.verdict, known.release) == ("live", GOOD)
    assert [call for call in calls() if call.startswith("start")] == []
    must_be_live(host, "blue", GOOD)


@pytest.mark.parametrize("fails", ["check", "cool_never", "killed", "gate"])
def test_no_slot_is_left_warm_without_the_timer_that_stops_it(host, monkeypatch, fails):
    deployed(host, warm=60)

    def broken(*_argv: Any, **_more: Any) -> None:
        if fails == "killed":
            raise Killed
        raise change.ReleaseError("no such luck")

    host.config.update(preload=True, settings="others")
    if fails == "check":
        monkeypatch.setattr(host.builder, "check", broken)
    if fails == "cool_never":
        monkeypatch.setattr(host.slots, "cool_never", broken)
    if fails == "gate":
        monkeypatch.setattr(host.slots, "gate", broken)
    if fails == "killed":
        monkeypatch.setattr(host.slots, "start", broken)
        with pytest.raises(Killed):
            carry_out(host, kind="renew")
        cli.recover("app")
    else:
        assert carry_out(host, kind="renew").verdict == "failed"
    must_be_live(host, "green", NEXT)
    assert unit(host, "active", "blue").exists() == (fails == "check")
    assert fails != "check" or again(host).slots.warm()


def test_a_slot_whose_timer_cannot_be_made_does_not_stay_warm(host, monkeypatch):
    def broken(_seconds: int) -> None:
        raise change.ReleaseError("Failed to start transient timer unit")

    monkeypatch.setattr(host.slots, "cool_later", broken)
    deployed(host, warm=60)
    assert not unit(host, "active", "blue").exists() and again(host).status()["committed"]


def test_going_back_starts_the_slot_that_was_stopped(host):
    deployed(host)
    assert carry_out(host, kind="rollback").verdict == "live"
    assert "start app@blue.service" in calls()
    must_be_live(host, "blue", GOOD)


def test_what_was_rolled_back_is_not_brought_back_by_a_converge(host):
    host.config["declared"] = "repo v2"
    deployed(host)
    assert carry_out(host, kind="rollback", by="bob@desk").verdict == "live"
    plan = again(host).plan("repo v2", host.config["settings"])
    assert not plan["ship"] and plan["rolled_back_declared"] == f"release {NEXT} was rolled back by bob@desk"
    assert again(host).plan("repo v3", host.config["settings"])["ship"]


def test_going_back_counts_by_what_is_written_and_not_by_a_clock_that_was_ahead(host):
    ahead = "20390101000000-cccccccccccc"
    a_release(host, ahead)
    host.paths.mark(GOOD, "json").write_text(json.dumps({**host.releases.record(GOOD), "number": 1}))
    deployed(host)
    host.paths.mark(NEXT, "json").write_text(json.dumps({**host.releases.record(NEXT), "number": 2}))
    assert carry_out(host, kind="rollback").verdict == "live"
    must_be_live(host, "blue", GOOD)
    assert host.releases.rejected(NEXT)
    assert carry_out(host, kind="rollback").verdict == "live"
    assert host.slots.release(host.slots.live()) == ahead and host.releases.rejected(GOOD)


def test_going_forward_to_a_kept_release_marks_nothing_and_clears_its_mark(host):
    deployed(host)
    assert carry_out(host, kind="rollback").verdict == "live"
    assert host.releases.rejected(NEXT)
    assert carry_out(host, kind="rollback", release=NEXT).verdict == "live"
    assert not host.releases.rejected(NEXT) and not host.releases.rejected(GOOD)


@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("", "there is no verified release before the live one"),
        ("20250101000000-cccccccccccc", f"there is no release '20250101000000-cccccccccccc' on this host; those that can be live are {GOOD}"),
        (GOOD, f"release {GOOD} is the live one"),
        (NEXT, f"release {NEXT} was never verified"),
    ],
)  # fmt: skip
def test_a_way_back_that_is_none_is_refused(host, release, words):
    if release == NEXT:
        a_release(host, NEXT)
        host.paths.mark(NEXT, "verified").unlink()
    known = carry_out(host, kind="rollback", release=release)
    assert known.verdict == "failed" and words in known.reason
    as_before(host)


def test_a_release_for_another_python_is_refused_to_who_goes_back(host):
    (a_release(host, NEXT) / ".venv/lib/python3.9").mkdir(parents=True)
    known = carry_out(host, kind="rollback", release=NEXT)
    assert known.verdict == "failed" and f"release {NEXT} was made for another Python" in known.reason
    as_before(host)


def test_a_commit_that_is_live_for_another_python_is_built_again(host):
    deployed(host)
    live = again(host).status()["release"]
    (host.paths.releases / live / ".venv/lib/python3.9").mkdir(parents=True)
    assert "build" in carry_out(host).phases, "and not 'unchanged'"


def test_going_back_is_not_barred_by_requests_that_fail_in_both(host, monkeypatch):
    deployed(host)
    share(host, monkeypatch, {"blue": 10}, {"blue": 10, "green": 10})
    assert carry_out(host, kind="rollback").verdict == "live"


# Settings


def test_a_renewal_takes_the_live_release_to_the_settings_of_now(host):
    host.config["settings"] = "others"
    (host.paths.config / "environment").write_text("NEW=1\n")
    assert carry_out(host, kind="renew").verdict == "live"
    must_be_live(host, "green", GOOD)
    assert (host.paths.bound("green") / "environment").read_text() == "NEW=1\n"


def test_a_slot_has_its_own_copy_of_what_it_reads_and_its_secrets_are_roots(host):
    names = {"uwsgi.ini": 0o644, "worker_memory.py": 0o644, "environment": 0o600, "secrets": 0o600}
    for name in names:
        (host.paths.config / name).write_text(f"{name} of now\n")
    carry_out(host)
    for name, mode in names.items():
        copy = host.paths.bound("green") / name
        assert (copy.read_text(), copy.stat().st_mode & 0o777) == (f"{name} of now\n", mode)


@pytest.mark.parametrize("warm", [True, False])
def test_the_slot_with_the_settings_of_before_stays_warm_unless_they_are_of_no_use(host, warm):
    host.config.update(settings="others", warm_seconds=600)
    assert carry_out(host, kind="renew", warm=warm).verdict == "live"
    must_be_live(host, "green", GOOD)
    assert unit(host, "active", "blue").exists() == warm
    assert again(host).slots.warm() == warm


def test_a_renewal_of_what_is_right_mends_without_a_start(host):
    unit(host, "active", "green").touch()
    host.paths.current.unlink()
    assert carry_out(host, kind="renew").verdict == "live"
    assert calls() == ["stop app@green.service"]
    as_before(host)


@pytest.mark.parametrize("trouble", ["mode", "folder", "code"])
def test_a_converge_brings_visitors_back_to_the_live_release(host, trouble):
    host.config["socket_group"] = "www-data"
    if trouble == "mode":
        host.paths.socket("blue").chmod(0o600)
    if trouble == "folder":
        host.paths.releases.chmod(0o777)
    if trouble == "code":
        (host.paths.releases / GOOD).chmod(0o775)
    assert again(host).plan("repo main", host.config["settings"])["renew"]
    assert carry_out(host, kind="renew").verdict == "live"
    # A socket is uWSGI's, so there is a fresh one; all else is mended where it is.
    must_be_live(host, "green" if trouble == "mode" else "blue", GOOD)
    assert again(host).status()["committed"] and not again(host).status()["trouble"]


def test_settings_that_do_not_work_are_not_what_the_live_slot_comes_back_with(host):
    (host.paths.config / "environment").write_text("BROKEN=1\n")
    host.config["settings"] = "broken"
    host.host_says["green"] = lambda: says("", "500 Oops")
    assert carry_out(host, kind="renew").verdict == "failed"
    assert not (host.paths.bound("blue") / "environment").exists()
    must_be_live(host, "blue", GOOD)


@pytest.mark.parametrize("kind", ["renew", "rollback"])
def test_code_that_its_workers_may_not_share_is_not_loaded_once_for_all_by_another_way(host, monkeypatch, kind):
    checked: list[str] = []

    def check(release: str) -> None:
        checked.append(release)
        raise change.ReleaseError("while it is loaded, it opens a socket")

    if kind == "rollback":
        assert carry_out(host).verdict == "live"
    before = again(host).status()["release"]
    host.config.update(settings="others", preload=True)
    monkeypatch.setattr(host.builder, "check", check)
    assert carry_out(host, kind=kind).verdict == "failed"
    assert checked == [GOOD] and again(host).status()["release"] == before
    host.config["preload"] = False
    assert carry_out(host, kind=kind).verdict == "live"
    assert checked == [GOOD]


def test_a_deploy_looks_once_whether_its_code_may_be_shared(host, monkeypatch):
    checked: list[str] = []
    monkeypatch.setattr(host.builder, "check", checked.append)
    host.config["preload"] = True
    assert carry_out(host).verdict == "live"
    assert checked == [NEXT]


def test_nothing_live_cannot_be_renewed(host):
    host.paths.live_link.unlink()
    known = carry_out(host, kind="renew")
    assert known.verdict == "failed" and "nothing is live on this host" in known.reason


# Cut off


PHASES = ["fetch", "build", "check", "migrate", "start", "gate", "flip", "watch"]


def cut_off(app: Any, monkeypatch: pytest.MonkeyPatch, phase: str, when: str) -> None:
    """Runs a deploy that is killed as a phase begins, or after all that it did."""
    app.config["migrate_command"] = [["true"]]
    enter = app.journal.enter

    def killing(name: str, line: str, **known: Any) -> None:
        if when == "after" and app.journal.record.phase == phase:
            raise Killed
        enter(name, line, **known)
        if when == "before" and name == phase:
            raise Killed

    monkeypatch.setattr(app.journal, "enter", killing)
    with pytest.raises(Killed):
        carry_out(app)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("phase", PHASES)
def test_whatever_cuts_a_deploy_off_what_was_live_is_live(host, monkeypatch, phase, when):
    cut_off(host, monkeypatch, phase, when)
    assert again(host).journal.record.open
    plan = again(host).plan("repo main", host.config["settings"])
    assert plan["renew"] or plan["ship"], "a converge would see to it"
    cli.recover("app")
    known = again(host).journal.record
    if (phase, when) == ("watch", "after"):
        assert known.verdict == "live"
        must_be_live(host, "green", NEXT)
    else:
        assert (known.verdict, known.reason) == ("cut off", f"it was cut off in the step {phase}")
        as_before(host)
    monkeypatch.undo()


@pytest.mark.parametrize("phase", ["start", "gate", "flip", "watch"])
def test_after_a_reboot_what_was_live_is_live_and_no_slot_is_touched(host, monkeypatch, phase):
    cut_off(host, monkeypatch, phase, "after" if phase == "flip" else "before")
    for name in ("blue", "green"):
        unit(host, "active", name).unlink(missing_ok=True)
    Path(os.environ["SYSTEMD"], "calls").unlink(missing_ok=True)
    assert cli.main(["app", "recover", "--boot"]) == 0
    assert calls() == []
    assert os.readlink(host.paths.live_link) == str(host.paths.socket("blue"))
    assert unit(host, "enabled", "blue").exists() and not unit(host, "enabled", "green").exists()
    assert again(host).journal.record.verdict == "cut off"


def test_who_wants_to_know_is_told_of_a_change_that_a_reboot_cut_off_and_nobody_waits_for_it(
    host, monkeypatch, command, tmp_path
):
    (host.paths.config / "release.json").write_text(json.dumps({**CONFIG, "notify_command": "tell"}))
    command("systemd-run", f'echo "$@" > {tmp_path}/asked')
    cut_off(host, monkeypatch, "gate", "before")
    assert cli.main(["app", "recover", "--boot"]) == 0
    asked = (tmp_path / "asked").read_text()
    for word in ("--no-block", "--unit=app-notify.service", "=After=network-online.target", " app notify 1\n"):
        assert word in asked
    seen: dict[str, str] = {}
    monkeypatch.setattr(sandbox.Sandbox, "telling", lambda self, argv, known: seen.update(known))
    again(host).journal.begin(record.Record(id="2", kind="rollback"))
    assert cli.main(["app", "notify", "1"]) == 0, "though there is a change after it by now"
    assert (seen["KIND"], seen["VERDICT"]) == ("deploy", "cut off")


def test_that_nobody_can_be_told_does_not_keep_a_host_from_starting(host, monkeypatch, command):
    (host.paths.config / "release.json").write_text(json.dumps({**CONFIG, "notify_command": "true"}))
    command("systemd-run", "exit 1")
    cut_off(host, monkeypatch, "gate", "before")
    assert cli.main(["app", "recover", "--boot"]) == 0
    assert again(host).journal.record.verdict == "cut off"


FINISH = ["accept", "boot", "point", "look_at", "withdraw", "follow", "sweep"]


@pytest.mark.parametrize("how", ["unit", "host"])
@pytest.mark.parametrize("step", FINISH)
def test_a_verified_release_that_is_cut_off_is_completed(host, monkeypatch, step, how):
    owner = next(one for one in (host.releases, host.slots, host.jobs) if hasattr(one, step))
    real = getattr(owner, step)

    def killing(*argv: Any) -> None:
        if host.journal.record.verified:
            raise Killed
        real(*argv)

    monkeypatch.setattr(owner, step, killing)
    with pytest.raises(Killed):
        carry_out(host)
    if how == "host":
        for name in ("blue", "green"):
            unit(host, "active", name).unlink(missing_ok=True)
    assert cli.main(["app", "recover", "--boot"] if how == "host" else ["app", "recover", "--ended"]) == 0
    must_be_live(host, "green", NEXT)
    assert unit(host, "enabled", "green").exists() and not unit(host, "enabled", "blue").exists()
    assert host.paths.live_bound.resolve() == host.paths.bound("green").resolve()
    assert again(host).journal.record.verdict == "live" and host.releases.verified(NEXT)


@pytest.mark.parametrize("step", ["accept", "boot", "look_at"])
def test_a_verified_release_that_cannot_be_committed_is_committed_by_the_next_run(host, monkeypatch, capsys, step):
    """Whatever the host starts with, and whatever else it believes, must not stay what it was."""
    owner = next(one for one in (host.releases, host.slots, host.jobs) if hasattr(one, step))
    real = getattr(owner, step)

    def broken(*argv: Any) -> None:
        if host.journal.record.verified:
            raise slots.ReleaseError("no space left on device")
        real(*argv)

    monkeypatch.setattr(owner, step, broken)
    with pytest.raises(slots.ReleaseError, match="is verified and serves, but its change is not complete"):
        carry_out(host)
    assert again(host).journal.record.open, "so nobody takes it for done"
    assert host.slots.live() == "green"
    assert cli.main(["app", "recover", "--ended"]) == 0
    must_be_live(host, "green", NEXT)
    assert unit(host, "enabled", "green").exists() and not unit(host, "enabled", "blue").exists()
    assert again(host).journal.record.verdict == "live"


@pytest.mark.parametrize("step", FINISH)
def test_a_rollback_that_is_cut_off_after_its_verdict_is_remembered(host, monkeypatch, step):
    """A converge must not bring back what was rolled back, however the rollback ended."""
    host.config["declared"] = "repo v2"
    deployed(host)
    owner = next(one for one in (host.releases, host.slots, host.jobs) if hasattr(one, step))

    real = getattr(owner, step)

    def killing(*argv: Any) -> None:
        if host.journal.record.verified and host.journal.record.kind == "rollback":
            raise Killed
        real(*argv)

    monkeypatch.setattr(owner, step, killing)
    with pytest.raises(Killed):
        carry_out(host, kind="rollback", by="bob@desk")
    assert cli.main(["app", "recover", "--ended"]) == 0
    must_be_live(host, "blue", GOOD)
    plan = again(host).plan("repo v2", host.config["settings"])
    assert not plan["ship"] and plan["rolled_back_declared"] == f"release {NEXT} was rolled back by bob@desk"


def test_of_what_is_left_to_do_for_a_verified_release_each_part_is_tried(host, monkeypatch):
    done = []
    for owner, name in ((host.jobs, "follow"), (host.releases, "withdraw"), (host.slots, "drain")):

        def broken(*_argv: Any, name: str = name) -> None:
            done.append(name)
            raise OSError(f"{name} fails")

        monkeypatch.setattr(owner, name, broken)
    monkeypatch.setattr(host.releases, "sweep", lambda *argv: done.append("sweep"))
    known = carry_out(host)
    assert (known.verdict, known.reason.splitlines()) == ("live", ["follow fails", "drain fails", "withdraw fails"])
    assert done[-4:] == ["follow", "drain", "withdraw", "sweep"]


def test_after_a_reboot_static_files_are_those_of_the_release_that_serves(host, monkeypatch):
    for release in (GOOD, NEXT):
        if release == NEXT:
            a_release(host, NEXT)
        (host.paths.releases / release / "static").mkdir()
        (host.paths.releases / release / "static/site.css").write_text(release)
    monkeypatch.setattr(host.builder, "build", lambda *argv: NEXT)
    cut_off(host, monkeypatch, "watch", "before")
    assert (host.paths.static / "site.css").read_text() == NEXT
    assert cli.main(["app", "recover", "--boot"]) == 0
    assert (host.paths.static / "site.css").read_text() == GOOD


@pytest.mark.parametrize(("ill", "verdict"), [(False, "live"), (True, "failed")])
def test_a_change_that_is_cut_off_at_its_verdict_has_one_line_in_the_history(host, monkeypatch, ill, verdict):
    if ill:
        host.host_says["green"] = lambda: says("ill", "500 Internal Server Error")
    note = host.journal.note

    def killing(**known: Any) -> None:
        if known.get("verdict"):
            raise Killed
        note(**known)

    monkeypatch.setattr(host.journal, "note", killing)
    with pytest.raises(Killed):
        carry_out(host)
    assert again(host).journal.record.open
    cli.recover("app")
    assert [entry["verdict"] for entry in again(host).journal.entries()] == [verdict]
    assert again(host).journal.record.verdict == verdict


def test_a_second_recovery_leaves_a_change_alone_that_began_meanwhile(host, monkeypatch):
    cut_off(host, monkeypatch, "gate", "before")
    late = change.Change(again(host))
    cli.recover("app")
    again(host).journal.begin(record.Record(id="2", kind="deploy"))
    late.recover()
    assert again(host).journal.record.id == "2" and again(host).journal.record.open


def test_a_first_release_that_was_not_verified_serves_nobody(host, monkeypatch):
    host.paths.live_link.unlink()
    host.paths.current.unlink()
    shutil.rmtree(host.paths.bound("blue"))
    cut_off(host, monkeypatch, "watch", "before")
    assert again(host).plan("repo main", host.config["settings"])["ship"], "seen without being mended, too"
    cli.recover("app")
    assert not host.paths.live_link.is_symlink() and not host.paths.current.is_symlink()
    assert again(host).plan("repo main", host.config["settings"])["ship"]


def test_the_next_deploy_after_one_that_was_cut_off_succeeds(host, monkeypatch):
    cut_off(host, monkeypatch, "watch", "before")
    shutil.rmtree(host.paths.releases / NEXT)
    cli.recover("app")
    monkeypatch.setattr(host.journal, "enter", record.Journal.enter.__get__(host.journal))
    assert carry_out(host).verdict == "live"


def test_a_change_that_goes_on_is_not_undone(host, monkeypatch):
    cut_off(host, monkeypatch, "watch", "before")
    mark("active", "app-deploy.service").touch()
    assert cli.main(["app", "recover", "--boot"]) == 0
    assert again(host).journal.record.open
    assert cli.main(["app", "recover", "--ended"]) == 0, "its unit says that it ends"
    as_before(host)


def test_whatever_goes_wrong_visitors_are_not_left_with_it(host, monkeypatch):
    monkeypatch.setattr(host.slots, "failures", lambda name, since: {}["no such thing"])
    known = carry_out(host)
    assert (known.verdict, known.reason.splitlines()[0]) == ("failed", "'no such thing'")
    as_before(host)


def test_trouble_after_the_verdict_sends_nothing_back(host, monkeypatch):
    def broken(slot_name: str) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(host.slots, "drain", broken)
    known = carry_out(host)
    assert (known.verdict, known.reason) == ("live", "no space left on device")
    must_be_live(host, "green", NEXT)


# What is kept


def test_static_files_of_the_release_before_can_still_be_asked_for(host):
    a_release(host, NEXT)
    for release, name in ((GOOD, "old.css"), (NEXT, "new.css")):
        place = host.paths.releases / release / "static"
        place.mkdir()
        (place / name).write_text(release)
        (place / "site.css").write_text(release)
        host.releases.publish(release)
    host.releases.withdraw()
    assert sorted(os.listdir(host.paths.static)) == ["new.css", "old.css", "site.css"]
    assert (host.paths.static / "site.css").read_text() == NEXT
    shutil.rmtree(host.paths.releases / GOOD)
    host.releases.withdraw()
    assert sorted(os.listdir(host.paths.static)) == ["new.css", "site.css"]


def test_a_release_has_its_static_files_where_they_were_when_it_was_built(host):
    a_release(host, NEXT, static="assets")
    for release, folder in ((GOOD, "static"), (NEXT, "assets")):
        (host.paths.releases / release / folder).mkdir()
        (host.paths.releases / release / folder / "site.css").write_text(release)
        host.releases.publish(release)
        assert (host.paths.static / "site.css").read_text() == release


def test_a_static_file_may_become_a_folder_and_a_folder_a_file(host):
    for release, name in ((GOOD, "a"), (NEXT, "a/b"), ("20260103000000-cccccccccccc", "a")):
        if release != GOOD:
            a_release(host, release)
        path = host.paths.releases / release / "static" / name
        path.parent.mkdir(parents=True)
        path.write_text(release)
        host.releases.publish(release)
        assert (host.paths.static / name).read_text() == release


def test_a_static_file_that_is_a_link_is_not_published(host):
    place = host.paths.releases / GOOD / "static"
    place.mkdir()
    (place / "shadow").symlink_to("/etc/passwd")
    host.releases.publish(GOOD)
    assert os.listdir(host.paths.static) == []


def test_every_change_leaves_a_line_and_a_torn_one_is_left_out(host, capsys):
    carry_out(host)
    carry_out(host, kind="rollback", version="")
    with open(host.paths.history, "a", encoding="utf-8") as handle:
        handle.write('{"kind": "dep')
    carry_out(host, kind="renew", version="")
    entries = again(host).journal.entries()
    assert [(entry["kind"], entry["by"], entry["verdict"]) for entry in entries] == [
        ("deploy", "ann@laptop", "live"), ("rollback", "ann@laptop", "live"), ("renew", "ann@laptop", "live"),
    ]  # fmt: skip
    assert host.paths.history.stat().st_mode & 0o777 == 0o600, "a reason may hold what the application logged"
    assert cli.main(["app", "history"]) == 0
    _renew, newer, oldest = capsys.readouterr().out.strip().splitlines()[-3:]
    assert f"rollback {GOOD} by ann@laptop: live in" in newer and "deploy main by ann@laptop: live in" in oldest


def test_whoever_wants_to_know_is_told(host, tmp_path):
    host.config["notify_command"] = [["sh", "-c", f'echo "$KIND $VERDICT $RELEASE by $BY" > {tmp_path}/told']]
    host.users.clear()
    carry_out(host)
    assert ("app", "sh") in host.users
    assert (tmp_path / "told").read_text() == f"deploy live {NEXT} by ann@laptop\n"
    host.config["notify_command"] = [["false"]]
    assert carry_out(host, kind="rollback").verdict == "live"
    assert any("app_server_notify_command: false failed" in line for line in host.journal.said())


def test_the_history_loses_its_older_half_when_it_has_grown(host, monkeypatch):
    carry_out(host)
    monkeypatch.setattr(record, "HISTORY_BYTES", 6 * host.paths.history.stat().st_size)
    for number in range(12):
        carry_out(host, id=str(number), kind="renew")
    kept = [entry["id"] for entry in again(host).journal.entries()]
    assert kept[-1] == "11" and 3 <= len(kept) <= 7
    assert kept == [str(number) for number in range(12 - len(kept), 12)], "the newest, in turn"
    assert host.paths.history.stat().st_mode & 0o777 == 0o600
    assert [entry["id"] for entry in again(host).journal.entries(2)] == ["10", "11"]


# What somebody, or a bad disk, has made of the files of state


GARBAGE = {
    "empty": b"",
    "torn": b'{"id": "1", "kind": "dep',
    "no text": b"\xff\xfe\0{",
    "a list": b"[1, 2]",
    "of other kinds": json.dumps({key: [1] for key in record.dataclasses.asdict(record.Record())}).encode(),
    "no dates": b'{"id": "1", "verdict": "live", "since": NaN, "phases": {"build": "long"}, "number": "x", "reason": "\\n"}',
    "deep": b"[" * 100_000,
}


READABLE = (GARBAGE["of other kinds"], GARBAGE["no dates"])  # as an object of JSON


# Which is tried where: all where a change looks first.
SPOILT = {
    "change": GARBAGE.keys(),
    "history": ["no text", "of other kinds", "no dates"],
    "mark of the live one": ["torn", "of other kinds", "no dates"],
    "mark of another": ["empty", "deep"],
    "bound": ["torn", "no text"],
    "started": ["no text"],
    "rejected": ["no text"],
}


@pytest.mark.parametrize(("what", "kind"), [(what, kind) for what, kinds in SPOILT.items() for kind in kinds])
def test_whatever_stands_in_a_file_of_state_the_tool_goes_on_from_what_the_disk_shows(host, capsys, what, kind):
    content = GARBAGE[kind]
    deployed(host)
    live, other_one = NEXT, GOOD
    path = {
        "change": host.paths.change,
        "history": host.paths.history,
        "mark of the live one": host.paths.mark(live, "json"),
        "mark of another": host.paths.mark(other_one, "json"),
        "bound": host.paths.bound("green") / "slot",
        "started": host.paths.bound("green") / "started",
        "rejected": host.paths.mark(other_one, "rejected"),
    }[what]
    path.write_bytes(content)
    for argv in (
        ["status"],
        ["status", "--json"],
        ["history"],
        ["recover"],
        ["plan", "repo main", host.config["settings"]],
    ):
        assert cli.main(["app", *argv]) == 0, argv
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    status = again(host).status()
    assert (status["slot"], status["release"]) == ("green", live)
    if what in ("bound", "mark of the live one", "mark of another") or (what == "change" and content not in READABLE):
        assert any(str(path) in line for line in status["damage"]) and f"{path} cannot be read" in said.out
    # A converge mends what it can.
    plan = again(host).plan("repo main", host.config["settings"])
    assert plan["ship"] == (what == "mark of the live one")
    if plan["renew"]:
        assert carry_out(again(host), kind="renew").verdict == "live"
        assert again(host).status()["committed"] and not again(host).status()["damage"]
    # And one can go back, unless it is just that one of which nothing is known.
    went = carry_out(again(host), kind="rollback", version="")
    barred = what == "mark of another" or (what == "rejected" and content)
    assert went.verdict == ("failed" if barred else "live"), went.reason
    assert "Error" not in went.reason


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_settings_that_cannot_be_read_are_named(host, capsys, content):
    (host.paths.config / "release.json").write_bytes(content)
    assert cli.main(["app", "status"]) == 1
    assert "release.json cannot be read, or is not JSON; a converge writes it anew" in capsys.readouterr().err


def test_a_setting_that_is_missing_is_named(host, capsys):
    (host.paths.config / "release.json").write_text(json.dumps({"version": "main"}))
    assert cli.main(["app", "status"]) == 1
    assert "release.json does not say 'static_command'; a converge writes it anew" in capsys.readouterr().err


def test_a_request_that_cannot_be_read_changes_nothing(host, capsys):
    request = host.paths.state / "request-1.json"
    request.write_text("{")
    assert cli.main(["app", "carry-out", str(request)]) == 1
    assert "what was asked for is not known; nothing was changed" in capsys.readouterr().err


def test_a_fault_of_the_tool_is_one_line_and_the_journal_has_the_rest(host, monkeypatch, capsys):
    logged: list[str] = []
    monkeypatch.setattr(cli.syslog, "syslog", lambda _priority, line: logged.append(line))
    monkeypatch.setattr(cli, "tell", lambda app, status: {}["no such thing"])
    assert cli.main(["app", "status"]) == 1
    said = capsys.readouterr().err
    assert (
        said.startswith("webstack-release: a fault of this tool, KeyError: 'no such thing'; journalctl")
        and said.count("\n") == 1
    )
    assert logged[0].startswith("Traceback") and any("test_release_change.py" in line for line in logged)


def test_who_stops_following_hears_that_the_change_goes_on(host, monkeypatch, capsys):
    def interrupted(*_argv: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "watch_it", interrupted)
    assert cli.main(["app", "renew"]) == 130
    assert "goes on by itself" in capsys.readouterr().err


def test_a_file_that_may_not_be_read_is_named(host, capsys, monkeypatch):
    def refused(path: Path, *_argv: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    assert cli.main(["app", "status"]) == 1
    assert f"webstack-release: {host.paths.config}/release.json: Permission denied" in capsys.readouterr().err


# A command of the application's own


UNIT = """
[Unit]
Description=app, slot %i

[Service]
Type=notify
User=app
EnvironmentFile=/var/lib/app/bound/%i/secrets
ExecStart=/usr/bin/uwsgi --ini a \\
    --ini b=c
LimitDATA=136M
UMask=0027
ProtectSystem=strict
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def by_hand(host: Any, command: Any, tmp_path: Path) -> Any:
    """A host on which systemd-run notes what it is told, a line a word, and runs what comes after its options."""
    host.paths.unit_folder.mkdir(parents=True, exist_ok=True)
    host.paths.unit_file.write_text(UNIT)
    command(
        "systemd-run", f'printf "%s\\n" "$@" > {tmp_path}/asked; while [ "$1" != -- ]; do shift; done; shift; exec "$@"'
    )
    host.asked = lambda: (tmp_path / "asked").read_text().splitlines()
    return host


def test_a_command_runs_as_the_live_slot_does_and_its_exit_code_is_passed_on(by_hand):
    assert cli.main(["app", "run", "--", "sh", "-c", "exit 7"]) == 7
    asked = by_hand.asked()
    settings = [word for word, before in zip(asked[1:], asked, strict=False) if before == "--property"]
    assert settings[:4] == [
        "User=app",
        "UMask=0027",
        "ProtectSystem=strict",
        "SystemCallFilter=~@privileged @resources",
    ]
    bound = by_hand.paths.bound("blue")
    assert [Path(setting.split("=")[1]) for setting in settings if setting.startswith("EnvironmentFile=")] == [
        bound / "environment", bound / "secrets", bound / "slot",
    ]  # fmt: skip
    assert f"WorkingDirectory={by_hand.paths.releases / GOOD}" in settings
    assert any(f"PATH={by_hand.paths.releases / GOOD}/.venv/bin:" in setting for setting in settings)
    assert "--pipe" in asked and "--pty" not in asked, "nobody is at a terminal here"
    assert asked[-5:] == ["/usr/bin/env", "--", "sh", "-c", "exit 7"]
    assert any(re.fullmatch(r"--unit=app-run-[0-9a-f]{6}\.service", word) for word in asked)


def test_the_words_of_a_command_are_its_own(by_hand):
    assert cli.main(["app", "run", "echo", "--ini", "$SECRET", "--"]) == 0
    assert by_hand.asked()[-4:] == ["echo", "--ini", "$$SECRET", "--"]


@pytest.mark.parametrize("argv", [[], ["--"], ["--", "A=b"]])
def test_no_command_shows_no_environment(by_hand, capsys, argv):
    assert cli.main(["app", "run", *argv]) == 1
    assert "say which command" in capsys.readouterr().err


def test_where_nothing_verified_is_live_there_is_nothing_to_run(by_hand, capsys):
    by_hand.paths.mark(GOOD, "verified").unlink()
    assert cli.main(["app", "run", "true"]) == 1
    assert "no verified release is live on this host" in capsys.readouterr().err


def test_a_unit_that_does_not_close_the_application_in_runs_nothing(by_hand, capsys):
    by_hand.paths.unit_file.write_text("[Service]\n")
    assert cli.main(["app", "run", "true"]) == 1
    assert "does not say how the application is closed in; a converge writes it anew" in capsys.readouterr().err


def test_who_runs_a_command_during_a_change_is_told_of_it(by_hand, capsys):
    by_hand.journal.begin(record.Record(id="2", kind="deploy", version="v2", by="bob@desk", phase="build"))
    mark("active", "app-deploy.service").touch()
    assert cli.main(["app", "run", "true"]) == 0
    assert "deploy of v2 by bob@desk since 1970-01-01" in capsys.readouterr().err


def test_a_signal_reaches_the_command_and_is_in_its_exit_code(by_hand, command, tmp_path):
    command(
        "systemd-run", f"echo $$ > {tmp_path}/pid; trap 'exit 0' USR1; kill -INT $PPID; while :; do sleep 0.1; done"
    )
    command("systemctl", f'echo "$@" >> {tmp_path}/told; case $1 in kill) kill -USR1 $(cat {tmp_path}/pid) ;; esac')
    assert cli.main(["app", "run", "sleep", "60"]) == 130
    assert re.search(r"^kill --signal=2 app-run-[0-9a-f]{6}\.service$", (tmp_path / "told").read_text(), re.MULTILINE)


# What a reboot would do


def test_a_live_release_for_another_python_is_told_to_be_gone_after_a_reboot(host, monkeypatch, capsys):
    (host.paths.releases / GOOD / ".venv/lib/python3.9").mkdir(parents=True)
    words = "it is served out of memory: it was built for another Python than this host's, so after a reboot"
    assert words in again(host).plan("repo main", host.config["settings"])["at_boot"]
    assert cli.main(["app", "status"]) == 0
    assert words in capsys.readouterr().out

    def broken(*_argv: Any) -> str:
        raise change.ReleaseError("requirements.txt (app_server_requirements) cannot be installed")

    monkeypatch.setattr(host.builder, "build", broken)
    known = carry_out(host)
    assert known.verdict == "failed" and known.reason.splitlines()[0].startswith("requirements.txt")
    assert f"Of what is live, {GOOD}: {words}" in known.reason


@pytest.mark.parametrize(
    ("turned", "words"),
    [
        (lambda app: unit(app, "enabled", "blue").unlink(), "app@blue.service does not start with the host"),
        (lambda app: (app.paths.bound("blue") / "slot").write_text(""), "after a reboot it does not start"),
        (lambda app: None, ""),
    ],
)
def test_what_a_reboot_would_do_is_told(host, turned, words):
    turned(host)
    said = again(host).status()["at_boot"]
    assert words in said and bool(words) == bool(said)


# Background jobs


def declare(app: Any, **units: str) -> None:
    app.paths.jobs.mkdir(exist_ok=True)
    app.paths.unit_folder.mkdir(parents=True, exist_ok=True)
    for path in app.paths.jobs.iterdir():
        path.unlink()
    for name, text in units.items():
        (app.paths.jobs / f"app-job-{name.replace('_', '.')}").write_text(text)


def test_background_jobs_follow_the_verified_release(host):
    declare(host, mails_service="mails", tidy_service="tidy", tidy_timer="at night")
    assert again(host).plan("repo main", host.config["settings"])["renew"], "jobs are declared and not there yet"
    assert carry_out(host).verdict == "live"
    assert host.paths.live_bound.resolve() == host.paths.bound("green").resolve()
    assert [call for call in calls() if call.startswith("restart")] == [
        "restart app-job-mails.service",
        "restart app-job-tidy.timer",
    ]
    assert again(host).status()["committed"]
    assert carry_out(host, kind="rollback").verdict == "live"
    assert host.paths.live_bound.resolve() == host.paths.bound("blue").resolve()


@pytest.mark.parametrize(
    ("turned", "well"),
    [
        (lambda name: mark("enabled", name).unlink(), False),
        (lambda name: mark("active", name).unlink(), False),
        (lambda name: between(name, "failed"), False),
        (lambda name: between(name, "activating"), True),
        (lambda name: between(name, "inactive", job=True), True),
    ],
    ids=["disabled", "stopped", "failed", "between two starts", "about to start"],
)
@pytest.mark.parametrize("name", ["app-job-mails.service", "app-job-tidy.timer"])
def test_a_background_job_that_somebody_stopped_comes_back(host, name, turned, well):
    declare(host, mails_service="mails", tidy_service="tidy", tidy_timer="at night")
    assert carry_out(host, kind="renew").verdict == "live"
    assert again(host).status()["committed"], "what a timer starts does not run"
    turned(name)
    assert again(host).status()["committed"] == well
    assert again(host).plan("repo main", host.config["settings"])["renew"] != well
    told = "\n".join(cli.tell(again(host), again(host).status()))
    assert (f"of its background jobs, {name} is stopped; a converge starts it" in told) != well
    assert "did not come to its end" not in told
    assert carry_out(host, kind="renew").verdict == "live"
    assert again(host).status()["committed"] and mark("active", name).exists() and mark("enabled", name).exists()


def between(name: str, state: str, job: bool = False) -> None:
    mark("active", name).unlink()
    mark("state", name).write_text(state)
    if job:
        mark("job", name).touch()


def test_background_jobs_never_run_a_release_that_is_not_verified(host):
    declare(host, mails_service="mails")
    host.host_says["green"] = turns_bad(4)
    host.config["watch_seconds"] = 5
    assert carry_out(host).verdict == "reverted"
    assert not host.paths.live_bound.exists() and not any(call.startswith("restart") for call in calls())


def test_jobs_that_a_run_has_written_and_not_told_systemd_of_are_told_of_by_the_next(host, monkeypatch, command):
    declare(host, mails_service="mails, otherwise")
    told = []
    run = jobs.run

    def killing(argv: list[str], **more: Any) -> str:
        told.append(argv[1])
        if argv[1] == "daemon-reload" and len(told) == 1:
            raise Killed
        return run(argv, **more)

    monkeypatch.setattr(jobs, "run", killing)
    with pytest.raises(Killed):
        host.jobs.follow()
    host.jobs.follow()
    assert told[1] == "daemon-reload"


def test_background_jobs_that_are_no_longer_declared_go(host):
    declare(host, mails_service="mails", tidy_service="tidy")
    assert carry_out(host, kind="renew").verdict == "live"
    declare(host, mails_service="mails, otherwise")
    assert again(host).plan("repo main", host.config["settings"])["renew"]
    assert carry_out(host, kind="renew").verdict == "live"
    assert host.jobs.installed() == {"app-job-mails.service": "mails, otherwise"}
    assert again(host).status()["committed"]


# The command line


def test_a_second_change_is_told_who_makes_the_first(host, monkeypatch):
    cut_off(host, monkeypatch, "build", "before")
    mark("active", "app-deploy.service").touch()
    with pytest.raises(change.ReleaseError) as failure:
        cli.start(again(host), {"kind": "renew"})
    assert "another run changes app now: deploy of main by ann@laptop since 2" in str(failure.value)
    assert "in its step build" in str(failure.value)


def test_a_change_runs_as_a_unit_and_one_that_was_cut_off_before_it_is_undone(host, monkeypatch):
    cut_off(host, monkeypatch, "watch", "before")
    identity = cli.start(again(host), {"kind": "renew", "by": "eve; rm -rf /"})
    assert "run app-deploy.service" in calls()
    as_before(host)
    request = json.loads((host.paths.state / f"request-{identity}.json").read_text())
    assert request["by"] == "everm-rf"
    assert (host.paths.state / f"request-{identity}.json").stat().st_mode & 0o777 == 0o600


def test_what_is_under_way_is_not_recovered_by_hand(host, monkeypatch, capsys):
    cut_off(host, monkeypatch, "build", "before")
    mark("active", "app-deploy.service").touch()
    assert cli.main(["app", "recover"]) == 1
    assert "another run changes app now: deploy of main by ann@laptop" in capsys.readouterr().err
    assert again(host).journal.record.open


def test_who_comes_a_moment_later_is_told_so_too(host, monkeypatch):
    mark("active", "app-deploy.service").touch()
    answers = iter([False, True])
    monkeypatch.setattr(change.Application, "busy", lambda self: next(answers))
    with pytest.raises(change.ReleaseError, match="another run changes app now"):
        cli.start(again(host), {"kind": "renew"})
    assert list(host.paths.state.glob("request-*")) == []


def test_a_full_disk_is_told_before_anything_is_built(host):
    host.config["disk_mb"] = 10**9
    with pytest.raises(change.ReleaseError, match=r"MB left; a release is only built with 1000000000 MB or more"):
        cli.start(host, {"kind": "deploy"})
    assert cli.start(host, {"kind": "rollback"}), "going back needs no space"


def test_progress_is_followed_line_by_line_to_the_verdict(host, capsys):
    carry_out(host)
    said = host.journal.said()
    progress = cli.follow(again(host), "1", 2)
    assert progress["lines"] == said[2:] and (progress["verdict"], progress["before"]) == ("live", GOOD)
    assert cli.main(["app", "follow", "1", str(len(said))]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["lines"] == []


def test_who_follows_a_change_that_others_came_after_hears_its_verdict(host):
    carry_out(host, id="1")
    carry_out(host, id="2", kind="rollback", version="")
    mark("active", "app-deploy.service").touch()  # and there is a third
    progress = cli.follow(again(host), "1", 0)
    assert (progress["lines"], progress["verdict"], progress["release"]) == ([], "live", NEXT)


def test_a_change_that_never_began_is_not_waited_for(host):
    with pytest.raises(change.ReleaseError, match="ended before it began"):
        cli.follow(again(host), "no such change", 0)


def test_who_follows_a_change_that_died_sees_it_undone(host, monkeypatch):
    cut_off(host, monkeypatch, "watch", "before")
    progress = cli.follow(again(host), "1", len(host.journal.said()))
    while not progress["verdict"]:
        progress = cli.follow(again(host), "1", 0)
    assert progress["verdict"] == "cut off"
    as_before(host)


def test_the_unit_carries_out_what_was_asked_for(host, monkeypatch):
    request = host.paths.state / "request-1.json"
    request.write_text(json.dumps({**DEPLOY, "kind": "rollback"}))
    assert cli.main(["app", "carry-out", str(request)]) == 1, "there is nothing to go back to"
    assert not request.exists()
    assert again(host).journal.record.verdict == "failed"


def test_a_warm_slot_is_stopped_in_the_end_but_not_while_a_change_may_use_it(host, monkeypatch):
    unit(host, "active", "green").touch()
    answers = iter([True, False])
    monkeypatch.setattr(cli, "PAUSE", 0)
    monkeypatch.setattr(change.Application, "busy", lambda self: calls() == [] and next(answers))
    assert cli.main(["app", "cool"]) == 0 and calls() == ["stop app@green.service"]


@pytest.mark.parametrize(("verdict", "code"), [("live", 0), ("unchanged", 0), ("reverted", 1), ("cut off", 1)])
def test_on_the_host_a_change_is_waited_for_and_its_verdict_is_the_exit_code(host, monkeypatch, capsys, verdict, code):
    busy = iter([True, True, False])

    def start(app: Any, request: dict[str, Any]) -> str:
        if next(busy):
            raise cli.Busy(app.paths)
        assert request == {"kind": "rollback", "release": GOOD}
        return "7"

    progress = iter([{"lines": ["one", "two"], "verdict": ""}, {"lines": ["three"], "verdict": verdict}])
    asked = []
    monkeypatch.setattr(cli, "start", start)
    monkeypatch.setattr(cli, "follow", lambda app, identity, after: asked.append((identity, after)) or next(progress))
    monkeypatch.setattr(cli.time, "sleep", lambda seconds: None)
    assert cli.main(["app", "rollback", GOOD]) == code
    waiting = "waiting: another run changes app now: it has just begun"
    assert capsys.readouterr().out.splitlines() == [waiting, "one", "two", "three"]
    assert asked == [("7", 0), ("7", 2)]


def test_on_the_host_a_change_that_others_never_let_begin_gives_up(host, monkeypatch, capsys):
    def start(app: Any, _request: dict[str, Any]) -> str:
        raise cli.Busy(app.paths)

    monkeypatch.setattr(cli, "start", start)
    monkeypatch.setattr(cli, "BUSY_SECONDS", 0)
    assert cli.main(["app", "renew"]) == 1
    assert "another run changes app now" in capsys.readouterr().err


def test_on_the_host_a_commit_that_only_a_controller_has_cannot_be_deployed(host, capsys):
    (host.paths.config / "release.json").write_text(json.dumps({**CONFIG, "push": True}))
    assert cli.main(["app", "deploy", "main"]) == 1
    assert "commits are sent from the controller here" in capsys.readouterr().err


def test_the_overview_names_a_release_that_is_being_watched(host, monkeypatch, capsys):
    cut_off(host, monkeypatch, "watch", "before")
    mark("active", "app-deploy.service").touch()
    assert cli.main(["app", "status"]) == 0
    out = capsys.readouterr().out
    assert f"app: release {NEXT} in slot green\n  it is not verified yet\n  now: deploy of main" in out


def test_the_overview_tells_what_is_live_what_can_be_and_what_was_done(host, capsys):
    host.config["warm_seconds"] = 60
    a_release(host, "20251231000000-dddddddddddd")
    host.paths.mark("20251231000000-dddddddddddd", "verified").unlink()
    carry_out(host)
    carry_out(host, kind="rollback", version="")
    mark("active", "app-deploy.service").touch()
    bind(host, "blue", GOOD, "others")
    assert cli.main(["app", "status"]) == 0
    out = capsys.readouterr().out[-2000:]
    assert f"app: release {GOOD} in slot blue" in out
    assert "it runs with settings or libraries of before" in out
    assert f"slot green is warm with {NEXT}" in out
    assert "  now: it has just begun" in out
    assert "its last change did not come to its end" not in out, "it goes on"
    assert f"* {GOOD}  commit c0ffee (main)  verified" in out
    assert f"  {NEXT}  commit {COMMIT[:12]} (main)  rolled back by ann@laptop" in out
    assert re.search(r"\n  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z+-]\S+  rollback ", out), "a time has its zone"
    assert "rollback" in out and "deploy main by ann@laptop: live in" in out


def test_an_error_is_one_message_and_no_traceback(capsys, host):
    (host.paths.config / "release.json").unlink()
    assert cli.main(["app", "status"]) == 1
    assert capsys.readouterr().err.startswith("webstack-release: no application app on this host")


def test_status_is_printed_as_json_for_programs(host, capsys):
    assert cli.main(["app", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slot"] == "blue"


def test_pushed_commits_are_deployed_from_the_controller(host, capsys):
    (host.paths.config / "release.json").write_text(json.dumps({**CONFIG, "push": True}))
    assert cli.main(["app", "deploy"]) == 1
    assert "sent from the controller" in capsys.readouterr().err


def test_the_digest_of_settings_tells_a_missing_file_from_an_empty_one(host, tmp_path):
    missing = slots.digest(tmp_path)
    (tmp_path / "secrets").touch()
    assert slots.digest(tmp_path) != missing
