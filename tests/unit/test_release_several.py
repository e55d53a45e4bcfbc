"""What the release tool does on one of several hosts of a site: stage, migrate, switch, undo, and the wait for visitors."""

from __future__ import annotations

import pytest
from releasing import GOOD, NEXT, a_release, calls, change, cli, unit
from test_release_change import COMMIT, FAILED, again, as_before, carry_out, host, journal_of, must_be_live  # noqa: F401

NAME = f"20260203040506-{COMMIT[:12]}"
STAGE = {"kind": "stage", "moment": "20260203040506"}


def test_a_release_is_staged_and_migrated_and_switched_to_by_a_change_each(host):  # noqa: F811
    host.config.update(migrate_command=[["sh", "-c", "echo migrated >> media"]])
    staged = carry_out(host, STAGE)
    assert (staged.verdict, staged.release, staged.commit) == ("staged", NAME, COMMIT)
    assert "migrate" not in staged.phases and calls() == []
    as_before(host)
    migrated = carry_out(host, {"kind": "migrate", "release": NAME})
    assert (migrated.verdict, migrated.release) == ("migrated", NAME)
    as_before(host)
    assert carry_out(host, {"kind": "switch", "release": NAME}).verdict == "live"
    must_be_live(host, "green", NAME)
    place = host.releases.place(NAME)
    assert (place / "media").read_text() == "migrated\n", "once"


def test_without_a_command_nothing_is_migrated(host):  # noqa: F811
    carry_out(host, STAGE)
    assert carry_out(host, {"kind": "migrate", "release": NAME}).verdict == "unchanged"


def test_whoever_wants_to_know_is_told_of_what_is_live_alone(host):  # noqa: F811
    host.config.update(notify_command=[["sh", "-c", f"echo $KIND $VERDICT >> {host.paths.state}/told"]])
    carry_out(host, STAGE)
    assert not (host.paths.state / "told").exists()
    carry_out(host, {"kind": "switch", "release": NAME})
    assert (host.paths.state / "told").read_text() == "switch live\n"


def test_a_commit_has_the_name_that_it_has_on_other_hosts(host):  # noqa: F811
    known = carry_out(host, STAGE, names=[GOOD, f"20260101010101-{COMMIT[:12]}"])
    assert known.release == f"20260101010101-{COMMIT[:12]}"


def test_a_release_that_was_live_here_once_is_not_built_again(host, monkeypatch, tmp_path):  # noqa: F811
    a_release(host, NAME, commit=COMMIT)
    monkeypatch.setattr(host.builder, "build", None)
    archive = tmp_path / "archive.tar"
    archive.touch()
    known = carry_out(host, STAGE, names=[NAME], commit=COMMIT, archive=str(archive))
    assert (known.verdict, known.release) == ("staged", NAME)
    assert not archive.exists()


def test_what_is_live_already_is_not_staged(host):  # noqa: F811
    carry_out(host)
    assert carry_out(host, STAGE).verdict == "unchanged"
    # But a change that did not come to its end is completed by the switch.
    unit(host, "enabled", "green").unlink()
    known = carry_out(host, STAGE)
    assert (known.verdict, known.release) == ("staged", NEXT)
    assert carry_out(host, {"kind": "switch", "release": NEXT}).verdict == "live"
    assert again(host).status()["committed"]


@pytest.mark.parametrize("kind", ["migrate", "switch"])
def test_what_another_change_has_swept_away_is_refused(host, kind):  # noqa: F811
    carry_out(host, STAGE)
    host.releases.sweep([GOOD], 3)
    known = carry_out(host, {"kind": kind, "release": NAME})
    assert known.verdict == "failed" and "another change has come between; deploy it again" in known.reason
    as_before(host)


def test_a_host_that_goes_back_for_another_ships_the_same_again(host):  # noqa: F811
    """Unlike one on which somebody has rolled back: there a converge leaves it alone."""
    for kind, ships in (("undo", True), ("rollback", False)):
        host.config.update(declared="repo v2")
        carry_out(host, STAGE, names=[NAME])
        carry_out(host, {"kind": "switch", "release": NAME})
        known = carry_out(host, {"kind": kind, "release": GOOD})
        assert (known.verdict, known.release) == ("live", GOOD)
        assert again(host).plan("repo v2", host.config["settings"])["ship"] == ships
        assert host.releases.verified(NAME) == (kind == "rollback"), (
            "no way back leads to what another host has refused"
        )


def test_failures_of_both_releases_do_not_keep_a_host_from_going_back(host):  # noqa: F811
    carry_out(host, STAGE)
    carry_out(host, {"kind": "switch", "release": NAME})
    journal_of(*[FAILED] * 9)
    assert carry_out(host, {"kind": "undo", "release": GOOD}).verdict == "live"


def test_a_release_is_watched_once_there_are_visitors(host):  # noqa: F811
    """`admit` is what the controller says when the balancers send some again."""
    carry_out(host, STAGE)
    met: list[str] = []

    def sleep(_seconds: float) -> None:
        met.append(host.journal.record.phase)
        assert again(host).status()["drained"]
        if len(met) == 3:
            cli.main(["app", "admit"])

    change.Change(host, sleep=sleep).carry_out(
        {"kind": "switch", "id": "7", "by": "ann", "version": "main", "release": NAME, "drained": True}
    )
    assert met == ["admit"] * 3
    assert host.journal.record.verdict == "live" and not again(host).status()["drained"]


def test_nobody_waits_for_ever_for_a_controller_that_is_gone(host, monkeypatch):  # noqa: F811
    monkeypatch.setattr(change, "ADMIT_SECONDS", 0.05)
    carry_out(host, STAGE)
    assert carry_out(host, {"kind": "switch", "release": NAME, "drained": True}).verdict == "live"
    assert again(host).status()["drained"], "the next run sends visitors again"
