"""A change of the live release, from its first step to the verdict: deploy, rollback, renew.

The rule: when a change has ended, for whatever reason, only a verified release serves. Each step is
written to the disk before it is done, so that `recover` can undo it.
"""

from __future__ import annotations

import os
import shlex
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .asking import ask_at_the_door
from .basics import ReleaseError, explained_as, in_words, is_damaged, is_running, read_object, run
from .build import Builder, hand_to_root
from .jobs import Jobs
from .layout import SLOTS, Layout, other
from .record import Journal, Record
from .releases import Releases
from .repository import Repository
from .sandbox import Sandbox, run_as_unit
from .slots import Slots

LOOK_SECONDS = 0.5  # between two checks of a release that is watched
COUNT_SECONDS = 1  # between two counts of its failures
# A watched release is undone if at least FAILURES_SEEN requests fail, and more than twice the share of the previous
# release plus SHARE_ALLOWED. Both, because one failure of few requests is a large share.
FAILURES_SEEN = 3
SHARE_ALLOWED = 0.02
BACK_SECONDS = 60  # before a rollback: the failures that are its reason
DOOR_TRIES = 5
SILENT = ("unchanged", "staged", "migrated")  # verdicts without a change of what is live
# Defaults for release.json of older versions of the role.
LATER: dict[str, Any] = {
    "migrate_seconds": 3600, "shared_files": [], "preload": False, "worker_data_mb": 0, "socket_group": "",
    "shared_published": None, "folder": "", "pip_packages": [],
}  # fmt: skip
ADMIT_SECONDS = 20  # to wait for visitors; a controller that was cut off sends none
LEFT_OVER_SECONDS = 3600  # older archives and requests belong to changes that never began


class Config(dict[str, Any]):
    """The content of release.json, which the role writes."""

    def __missing__(self, key: str) -> Any:
        raise ReleaseError(f"release.json does not say '{key}'; a converge writes it anew. What is live serves on.")


class Application:
    """One application on this host, with its parts."""

    def __init__(self, paths: Layout) -> None:
        self.paths = paths
        path = paths.config / "release.json"
        try:
            path.open("rb").close()
        except FileNotFoundError as error:
            raise ReleaseError(f"no application {paths.app} on this host: {error.filename} is missing") from error
        if is_damaged(path):
            raise ReleaseError(
                f"{path} cannot be read, or is not JSON; a converge writes it anew. What is live serves on."
            )
        self.config = Config({**LATER, **read_object(path)})
        for key in ("static_command", "migrate_command", "notify_command"):
            self.config[key] = commands(f"app_server_{key}", self.config[key])
        if isinstance(self.config["requirements"], str):  # written by an older version of the role
            self.config["requirements"] = [self.config["requirements"]]
        self.releases = Releases(paths)
        self.slots = Slots(paths, self.config)
        self.jobs = Jobs(paths)
        self.journal = Journal(paths)
        self.sandbox = Sandbox(paths, self.config)
        self.repository = Repository(paths, self.config, self.sandbox)
        self.builder = Builder(paths, self.config, self.sandbox)

    def busy(self) -> bool:
        """Whether a change is running. Its unit is the lock, and systemd releases it even after a crash."""
        return is_running(self.paths.deploy_unit)

    def status(self, settings: str = "") -> dict[str, Any]:
        """What is live. `settings` is the digest of the wanted settings, by default those on the host."""
        slot = self.slots.live()
        release = self.slots.release(slot)
        record = self.releases.record(release)
        verified = self.releases.verified(release)
        trouble = self.trouble(slot)
        return {
            "slot": slot,
            "release": release if verified else "",
            "active": self.slots.active(slot),
            "settings_current": self.slots.current(slot, settings),
            "committed": self.is_committed(slot)
            and not (trouble or self.journal.damage)
            and not (self.journal.record.open and not self.busy()),
            "warm": self.slots.warm(),
            "matches_host_python": verified and self.releases.matches_host_python(release),
            "trouble": trouble,
            "damage": self.damage(slot),
            "at_boot": self.at_boot(slot, release) if verified else "",
            "drained": self.paths.drained.exists(),
            **{key: record.get(key) for key in ("commit", "repository", "version", "declared")},
        }

    def damage(self, slot: str | None) -> list[str]:
        """State files that cannot be parsed. The tool continues without them."""
        lost = [
            f"{self.paths.mark(name, 'json')} cannot be read, so {name} is no release to go back to"
            for name in self.releases.damaged()
        ]
        return [*filter(None, (self.journal.damage, self.slots.damage(slot))), *lost]

    def at_boot(self, slot: str | None, release: str) -> str:
        """Why the host would not serve after a reboot what is live; empty if it would."""
        if slot is None or not release:
            return ""
        if not self.releases.place(release).is_dir():
            return f"after a reboot it is not served any more: {self.releases.place(release)} is missing"
        if not self.releases.matches_host_python(release):
            return (
                "it is served out of memory: it was built for another Python than this host's, so after a reboot, or if its "
                "process ends, visitors get 502 until its commit has been built anew"
            )
        if self.slots.damage(slot):
            return "after a reboot it does not start"
        if not self.slots.enabled(slot):
            return f"after a reboot it is not served: {self.paths.slot_unit(slot)} does not start with the host"
        return ""

    def is_committed(self, slot: str | None) -> bool:
        """Whether the change that made a slot live is complete: links, boot, jobs."""
        return slot is not None and self.slots.is_committed(slot) and self.jobs.is_committed(slot)

    def trouble(self, slot: str | None) -> list[str]:
        """Faults of the live release that a converge repairs: owners, modes, a socket that nginx cannot use."""
        release = self.slots.release(slot)
        if not self.releases.verified(release):
            return []
        return [*self.slots.trouble(slot), *filter(None, [self.releases.tampered(release)]), *self.builder.misplaced()]

    def plan(self, declared: str, settings: str) -> dict[str, Any]:
        """What a converge has to do: `ship` code, or `renew` the live release with new settings.

        Code is shipped if nothing is live, and if the declaration has changed since the live release
        was built. New commits of a declared branch are not shipped: only a deploy does that. A
        declaration that somebody has rolled back is not shipped either: `rolled_back_declared` says who.

        A live release for another Python than the host's is built again, from the same commit: `ref`.
        """
        status = self.status(settings)
        rolled_back = ""
        if status["release"] and status["declared"] != declared:
            same = [name for name in self.releases.names() if self.releases.record(name).get("declared") == declared]
            rolled_back = self.releases.rejected(same[-1]) if same else ""
        ship = not status["release"] or (status["declared"] != declared and not rolled_back)
        ref = "" if ship or status["matches_host_python"] else status["commit"]
        ship = ship or bool(ref)
        renew = not ship and not (status["active"] and status["settings_current"] and status["committed"])
        return {**status, "ship": ship, "ref": ref, "renew": renew, "rolled_back_declared": rolled_back}


def commands(name: str, declared: str | list[str]) -> list[list[str]]:
    """The words of each command. An input may be one command or a list of them."""
    try:
        each = [shlex.split(text) for text in ([declared] if isinstance(declared, str) else declared)]
    except ValueError as error:
        raise ReleaseError(f"{name}: {error}") from error
    return [words for words in each if words]


class Change:
    """Carries one change out; runs as the unit `Layout.deploy_unit`."""

    def __init__(self, app: Application, sleep: Callable[[float], None] = time.sleep) -> None:
        self.app, self.paths, self.config = app, app.paths, app.config
        self.slots, self.releases, self.journal = app.slots, app.releases, app.journal
        self.sleep = sleep
        self.checked = ""  # the release that has been imported
        self.not_undone: list[str] = []  # errors of steps that a change can end without

    def carry_out(self, request: dict[str, Any]) -> bool:
        """Runs a change to its verdict; returns whether what was wanted is live."""
        asked = {key: request.get(key, "") for key in ("id", "kind", "by", "version")}
        live = self.slots.live() or ""
        before = {
            "before_slot": live,
            "before_release": self.slots.release(live),
            "before_requests": self.slots.requests(live),
        }
        self.journal.begin(Record(**asked, since=time.time(), **before))
        steps = {
            "deploy": self.deploy, "stage": self.stage, "migrate": self.migrate, "switch": self.switch_to_staged,
            "rollback": self.rollback, "undo": self.rollback, "renew": self.renew,
        }  # fmt: skip
        try:
            if request.get("drained"):
                self.paths.drained.touch()
            verdict = steps[request["kind"]](request)
        except Exception as error:  # whatever it is, the change is undone
            if self.journal.record.verified:
                raise  # `recover` completes it, and tries again if that fails
            if not isinstance(error, (ReleaseError, OSError)):
                traceback.print_exc()  # a bug of this tool; the output goes to the journal
            self.fail(in_words(error))
        else:
            self.journal.write_verdict(verdict, "\n".join(self.not_undone))
        if self.journal.record.verdict not in SILENT:
            self.notify(self.journal.record)
        return self.journal.record.verdict in ("live", *SILENT)

    # The kinds of changes. Each returns the verdict, or raises an error

    def deploy(self, request: dict[str, Any]) -> str:
        """Builds a release of a commit, unless it is live already, and makes it live."""
        commit = self.fetch(request)
        if live := self.live_already(request, commit):
            if live["whole"]:
                return "unchanged"
            self.switch(live["release"])  # repairs links, boot and jobs
            return "live"
        release = self.build(request, commit)
        self.migrate({"release": release})
        self.switch(release)
        return "live"

    def stage(self, request: dict[str, Any]) -> str:
        """Of a deploy to several hosts, what all of them do at the same time."""
        commit = self.fetch(request)
        live = self.live_already(request, commit)
        if not live:
            self.build(request, commit)
        return "unchanged" if live and live["whole"] else "staged"

    def migrate(self, request: dict[str, Any]) -> str:
        """Of a deploy to several hosts, what one of them does for all."""
        release = self.staged(request)
        if not self.config["migrate_command"]:
            return "unchanged"
        self.journal.enter("migrate", "migrate the database")
        self.announce_migration(release)
        for line in self.app.builder.migrate(release):
            self.journal.say(f"  {line}")
        return "migrated"

    def switch_to_staged(self, request: dict[str, Any]) -> str:
        """Of a deploy to several hosts, what they do one after the other."""
        self.switch(self.staged(request))
        return "live"

    def rollback(self, request: dict[str, Any]) -> str:
        """Makes an older verified release live, and marks the present one, so that a converge does not ship it again."""
        live = self.app.status()["release"]
        release = request.get("release") or self.releases.before(live)
        if release in self.releases.damaged():
            raise ReleaseError(
                f"{self.paths.mark(release, 'json')} cannot be read; deploy the commit of {release} instead"
            )
        if not self.releases.record(release):
            kept = ", ".join(name for name in self.releases.names() if self.releases.verified(name))
            raise ReleaseError(
                f"there is no release '{release}' on this host; those that can be live are {kept or 'none'}"
            )
        if not self.releases.verified(release):
            raise ReleaseError(f"release {release} was never verified; deploy its commit instead")
        if release == live:
            raise ReleaseError(f"release {release} is the live one")
        self.journal.note(release=release, commit=self.releases.record(release)["commit"])
        self.switch(release)
        return "live"

    def renew(self, request: dict[str, Any]) -> str:
        """Restarts the live release in the other slot with the declared settings, and repairs folders, links and jobs.

        `warm` is false if the old settings, such as a password, will stop working: then the old slot is not kept running.
        """
        self.journal.note(warm=request.get("warm", True))
        self.app.builder.make_folders()
        release = self.app.status()["release"]
        if not release:
            raise ReleaseError("nothing is live on this host: deploy a release first")
        self.journal.note(release=release)
        self.switch(release)
        return "live"

    # Their steps

    def fetch(self, request: dict[str, Any]) -> str:
        """Brings a commit to the host; returns its full name."""
        self.app.builder.make_folders()
        if request.get("archive"):
            return str(request["commit"])
        version = request["version"]
        self.journal.enter("fetch", f"fetch {version} of {self.config['repository']}")
        return self.app.repository.fetch(version)

    def live_already(self, request: dict[str, Any], commit: str) -> dict[str, Any]:
        """The status if the commit is live, with `whole`, whether nothing of it needs a repair; else empty."""
        live = self.app.status()
        same = live["commit"] == commit and live["declared"] == self.config["declared"]
        if not (same and live["matches_host_python"] and live["active"]):
            return {}
        if request.get("archive"):
            Path(request["archive"]).unlink(missing_ok=True)
        self.journal.note(commit=commit, release=live["release"])
        self.journal.say(f"{request['version']} is commit {commit[:12]}, which is live already")
        return {**live, "whole": self.app.is_committed(live["slot"]) and not live["trouble"]}

    def build(self, request: dict[str, Any], commit: str) -> str:
        """Builds a release of a commit, and imports it. With several hosts, all give it the same name.

        `moment` is the first part of a new name, and `names` are those that other hosts have given to live releases: one of
        the same commit is taken.
        """
        self.await_migration()
        tar, version = request.get("archive"), request["version"]
        if tar:
            os.utime(tar)  # it may be older than LEFT_OVER_SECONDS, and `sweep` would remove it
        self.journal.enter("build", f"build a release of commit {commit[:12]}", commit=commit)
        release = next((name for name in request.get("names", []) if name.endswith(f"-{commit[:12]}")), "")
        moment = release.partition("-")[0] or request.get("moment", "")
        self.sweep()
        archive = Path(tar) if tar else self.app.repository.archive(commit)
        if self.releases.verified(release):  # it was live here once
            archive.unlink()
        else:
            release = self.app.builder.build(commit, version, archive, moment)
        self.journal.note(release=release)
        self.check(release)
        return release

    def staged(self, request: dict[str, Any]) -> str:
        """The release that a change before has built."""
        release = request["release"]
        record = self.releases.record(release)
        if not record or not self.releases.place(release).is_dir():
            raise ReleaseError(
                f"release {release} is not on this host any more: another change has come between; deploy it again"
            )
        self.journal.note(release=release, commit=record["commit"])
        return release

    def announce_migration(self, release: str) -> None:
        """Runs the host's programs that must know of a migration before it begins, as root: each gets application and release.

        In a unit of their own: what this one may write is the application's.
        """
        if self.paths.before_migrations.is_dir():
            argv = ["run-parts", "--exit-on-error", f"--arg={self.paths.app}", f"--arg={release}"]
            argv.append(str(self.paths.before_migrations))
            with explained_as("Nothing was migrated, since a program that is run before it failed."):
                run(["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--", *argv], inner=argv)

    def await_migration(self) -> None:
        """Waits for a migration that runs longer than the change that started it: two must not overlap, and it needs its release."""
        unit = self.paths.migration_unit
        deadline = time.monotonic() + self.config["migrate_seconds"] + 30  # systemd ends it earlier
        if is_running(unit):
            self.journal.enter("wait", "wait for the migration of the change before")
        while is_running(unit):
            if time.monotonic() > deadline:
                raise ReleaseError(f"the migration of the change before does not end; systemctl status {unit} shows it")
            self.sleep(LOOK_SECONDS)

    def check(self, release: str) -> None:
        self.journal.enter("check", f"import {self.config['entry']} of {release}")
        self.app.builder.check(release)
        self.checked = release

    def switch(self, release: str) -> None:
        """Makes a release live, and verified: in its slot if it runs already, else in the idle slot."""
        if not self.releases.matches_host_python(release):
            raise ReleaseError(f"release {release} was made for another Python; deploy its commit instead")
        changed = self.releases.tampered(release)
        if changed:
            self.journal.say(f"{changed}: it is root's again. What is in it has not been compared with the commit")
            hand_to_root(self.releases.place(release))
        live = self.slots.live()
        slot = other(live)
        # Its import check may have been done without preloading: repeat it, unless it runs already.
        if self.config["preload"] and self.checked != release and not self.has_started(release):
            self.check(release)
        # Record the slot before its stop timer is removed, so that `undo` can stop it if this change is cut off.
        self.journal.note(slot=slot)
        self.slots.cool_never()
        if live and self.serves(live, release):
            slot = live
            self.releases.publish(release)
        else:
            self.try_out(release, live, slot)
        # From here on, a change that is cut off is completed, not undone.
        self.journal.note(slot=slot, release=release, verified=True)
        self.commit()
        self.cleanup()
        self.journal.say(f"live: {release} in slot {slot}, before: {self.journal.record.before_release or 'nothing'}")

    def try_out(self, release: str, live: str | None, slot: str) -> None:
        """Starts the release in the idle slot, asks it there, lets visitors in, and watches it."""
        if not self.serves(slot, release):
            self.journal.enter("start", f"start {release} in slot {slot}", slot=slot)
            self.slots.start(slot, release)
        self.journal.enter("gate", f"ask slot {slot} for {self.config['health_path']}", slot=slot)
        slowest = self.slots.gate(slot, release)
        self.journal.say(f"  right {self.config['health_answers']} times in a row, within {slowest} ms")
        usual = self.usual_share(live) if live else 0.0
        door = self.at_the_door(self.journal.record.before_release)
        if self.config["public_url"] and live and not door:
            self.journal.say(
                f"  {self.config['public_url']} does not show the release before, so it is no judge of this one"
            )
        # On the disk before the first visitor can meet the release.
        self.journal.enter("flip", f"slot {slot} goes live", exposed=True)
        self.releases.publish(release)
        flipped, before = time.time(), self.slots.requests(slot)
        self.slots.point(slot, release)
        self.watch(slot, release, flipped, before, usual, door)

    def serves(self, slot: str, release: str) -> bool:
        """Whether a slot runs a release with the declared settings, and answers nginx."""
        runs = self.slots.release(slot) == release and self.slots.active(slot) and self.slots.current(slot)
        return runs and not self.slots.trouble(slot)

    def has_started(self, release: str) -> bool:
        return any(self.serves(slot, release) for slot in SLOTS)

    def watch(self, slot: str, release: str, flipped: float, before: int, usual: float, door: bool) -> None:
        """Watches a live release for some seconds; raises ReleaseError if it does worse than the previous one.

        `before`: number of requests of its slot before it went live. A slot that was warm has had many.
        """
        # A first release is not watched: there is nothing to go back to, and no visitor yet.
        seconds = self.config["watch_seconds"] if self.journal.record.before_slot else 0
        self.journal.enter("watch", f"watch it for {seconds} s")
        if door and not any(self.at_the_door(release) or self.sleep(LOOK_SECONDS) for _try in range(DOOR_TRIES)):
            raise ReleaseError(f"{self.config['public_url']} does not answer with release {release}: {self.door_said}")
        if self.paths.drained.exists():
            self.await_visitors()
        ends, count_at, wrong = time.monotonic() + seconds, 0.0, 0
        while True:
            right, words = self.slots.healthy(slot, release)
            wrong = 0 if right else wrong + 1
            if wrong == 2:  # one wrong answer may be chance
                raise ReleaseError(f"Release {release} was right at first, and then not: {words}")
            over = time.monotonic() >= ends
            if over or time.monotonic() >= count_at:
                failed, asked = self.slots.failures(slot, flipped), self.slots.requests(slot, before)
                if failed >= FAILURES_SEEN and failed / max(asked, failed) > 2 * usual + SHARE_ALLOWED:
                    raise ReleaseError(
                        f"Release {release} has failed {failed} of {asked} requests; the one before failed {100 * usual:.1f} %"
                    )
                count_at = time.monotonic() + COUNT_SECONDS
            if over and not wrong:
                self.journal.say(f"  {asked} requests, {failed} failed")
                return
            self.sleep(LOOK_SECONDS)

    def await_visitors(self) -> None:
        """Waits until the balancers send visitors again: a release that nobody uses needs no watching."""
        self.journal.enter("admit", "wait for visitors")
        deadline = time.monotonic() + ADMIT_SECONDS
        while self.paths.drained.exists() and time.monotonic() < deadline:
            self.sleep(LOOK_SECONDS)

    def usual_share(self, slot: str) -> float:
        """Failure share of the previous slot since the change began.

        For a rollback it counts as 100 %: failures common to both releases must not block going back.
        """
        record = self.journal.record
        back = record.kind in ("rollback", "undo")
        # Not from before the slot had this release.
        since = max(record.since - (BACK_SECONDS if back else 0), self.slots.bound_at(slot))
        failed = self.slots.failures(slot, since)
        if failed < FAILURES_SEEN:
            return 0.0
        return 1.0 if back else failed / max(self.slots.requests(slot, record.before_requests), failed)

    def at_the_door(self, release: str) -> bool:
        """Whether the public address answers with a release. If it did not before the change, it is not used afterwards."""
        url, path = self.config["public_url"], self.config["health_path"]
        if not url or not release:
            return False
        status, body = ask_at_the_door(url, path, proxy_protocol=self.config.get("public_proxy_protocol", False))
        right, self.door_said = self.slots.judge(path, status, body, release)
        return right

    def commit(self) -> None:
        """Makes the verified release the one that is live, starts at boot and is run by background jobs."""
        record = self.journal.record
        with explained_as(
            f"release {record.release} is verified and serves, but its change is not complete; the next run completes it:"
        ):
            self.releases.accept(record.release)
            is_older = self.releases.age(record.release) < self.releases.age(record.before_release)
            if record.kind == "rollback" and is_older:
                why = f"release {record.before_release} was rolled back by {record.by or 'somebody'}"
                self.releases.reject(record.before_release, why)
            if record.kind == "undo" and is_older:  # another host has refused it
                self.paths.mark(record.before_release, "verified").unlink(missing_ok=True)
            self.slots.boot(record.slot)
            self.slots.point(record.slot, record.release)
            self.app.jobs.look_at(record.slot)

    def cleanup(self) -> None:
        """Steps that a verified release serves without: jobs, the slot before, old files."""
        for step in (self.app.jobs.follow, self.leave_slot_before, self.releases.withdraw, self.sweep):
            self.attempt(step)

    def leave_slot_before(self) -> None:
        """Keeps the previous slot running for a rollback, or stops it."""
        record = self.journal.record
        before = other(record.slot)
        if not self.slots.active(before):
            return
        if self.config["warm_seconds"] and record.warm and before == record.before_slot:
            try:
                self.slots.cool_later(self.config["warm_seconds"])
                return
            except ReleaseError as error:  # without its timer it would never stop
                self.journal.say(f"slot {before} cannot be kept warm: {error}")
        self.journal.enter("drain", f"stop slot {before}")
        self.slots.drain(before)

    def fail(self, why: str) -> None:
        """Undoes a change that failed, and writes its verdict."""
        record = self.journal.record
        self.undo()
        if record.slot:
            words = self.slots.last_words(record.slot)
            why += f"\nThe last lines of {self.paths.slot_unit(record.slot)}:\n{words}" if words else ""
        at_boot = self.app.at_boot(record.before_slot or None, record.before_release)
        if at_boot:
            why += f"\nOf what is live, {record.before_release}: {at_boot}."
        verdict = "reverted" if record.exposed else "failed"
        self.journal.say(f"{verdict}: {why}")
        self.journal.say(
            f"live: {record.before_release} in slot {record.before_slot}, as before"
            if record.before_slot
            else "nothing is live"
        )
        self.journal.write_verdict(verdict, why)

    def undo(self) -> None:
        """Makes the previous slot live again, and stops the one that was tried."""
        record = self.journal.record
        before = record.before_slot or None
        if record.exposed:
            if before and not self.slots.active(before):
                self.attempt(lambda: self.slots.resume(before))
            self.slots.point(before, record.before_release)
            self.attempt(lambda: self.releases.publish(record.before_release))
        if record.slot and record.slot != before:
            self.attempt(lambda: (self.slots.drain if record.exposed else self.slots.stop)(record.slot))

    def attempt(self, step: Callable[[], None]) -> None:
        """Does a step that a change can end without; notes the error if it fails."""
        try:
            step()
        except Exception as error:  # whatever it is, the next steps are done
            self.not_undone.append(in_words(error))
            self.journal.say(f"not done: {self.not_undone[-1]}")

    def recover(self) -> None:
        """Completes a change that was cut off if its release is verified, else undoes it."""
        if self.journal.record.verified:
            self.commit()
            self.cleanup()
        else:
            self.undo()
        known = Journal(self.paths).record
        if known.id != self.journal.record.id or not known.open:
            return  # done meanwhile by the `recover` of a slot that was started just now
        self.write_verdict_of_cut_off()
        self.notify(self.journal.record)

    def recover_at_boot(self) -> None:
        """The same at boot, when systemd starts the slots itself: one that was not verified is not started."""
        record = self.journal.record
        if record.verified:
            self.commit()
            run(["systemctl", "start", "--no-block", self.paths.slot_unit(record.slot)])
        elif record.exposed:
            self.slots.point(record.before_slot or None, record.before_release)
            self.attempt(lambda: self.releases.publish(record.before_release))
        self.write_verdict_of_cut_off()
        if self.config["notify_command"]:
            # In a unit of its own, after the network is up: the boot does not wait for it.
            unit = ["--no-block", f"--unit={self.paths.notice_unit}"]
            network = [f"{kind}=network-online.target" for kind in ("Wants", "After")]
            command = ["notify", record.id]
            self.attempt(lambda: run_as_unit(self.paths, unit, command, *network, "CapabilityBoundingSet="))

    def write_verdict_of_cut_off(self) -> None:
        """The verdict of a change that was cut off, after it was completed or undone."""
        phase, verified = self.journal.record.phase, self.journal.record.verified
        why = f"it was cut off in the step {phase}" if phase else "it was cut off"
        self.journal.say(f"{why}: {'it was verified, and is live' if verified else 'what was live before is live'}")
        self.journal.write_verdict("live" if verified else "cut off", why)

    def sweep(self) -> None:
        if is_running(self.paths.migration_unit):
            return  # it needs its release, which would be removed; a later change does this
        needed = [self.slots.release(slot) for slot in SLOTS]
        self.releases.sweep(needed, self.config["keep"])
        for pattern in (
            self.paths.archives,
            self.paths.requests,
        ):  # left by a controller that gave up before its change began
            for path in pattern.parent.glob(pattern.name):
                if path.stat().st_mtime < time.time() - LEFT_OVER_SECONDS:
                    path.unlink()

    def notify(self, record: Record) -> None:
        """Runs notify_command with the result of a change. If it fails, the result stays."""
        if not self.config["notify_command"]:
            return
        known = {
            "APP": self.paths.app, "KIND": record.kind, "VERDICT": record.verdict, "VERSION": record.version,
            "RELEASE": record.release, "BY": record.by, "REASON": record.reason.splitlines()[0] if record.reason else "",
        }  # fmt: skip
        try:
            for command in self.config["notify_command"]:
                self.app.sandbox.telling(command, known)
        except ReleaseError as error:
            self.journal.say(f"app_server_notify_command: {error}")
