"""A release goes live while visitors never stop coming, and a bad one meets none of them."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import testinfra
from scenario import INVENTORY, PROJECT, SCENARIO, Run, entered, names, playbook, until

RATE = 180  # requests a second
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
(NAME,) = names()


@pytest.fixture
def host(servers):
    return servers[0]


def address(host):
    return host.check_output("hostname -I").split()[0]


@contextlib.contextmanager
def visitors(host):
    """Load on the host as long as the block lasts; afterwards the result has what the visitors met."""
    result = SimpleNamespace()
    process = subprocess.Popen(
        [sys.executable, str(SCENARIO / "files/visitors.py"), address(host), str(RATE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    result.began = time.monotonic()
    try:
        yield result
    finally:
        said, _nothing = process.communicate(timeout=60)
    vars(result).update(json.loads(said))


WORKERS = "pgrep --parent $(cat /run/nginx.pid) | sort"


@pytest.fixture(scope="module")
def crowd():
    """Visitors who come from the first test that names them to the one that says `leave` and judges what they met."""
    host = testinfra.get_host(f"docker://{NAME}")
    with contextlib.ExitStack() as stack:
        nginx, since = host.check_output(WORKERS), time.time()
        met = stack.enter_context(visitors(host))
        met.nginx, met.since, met.leave = nginx, since, stack.close
        yield met


def status(host):
    return json.loads(host.check_output("webstack-release hello status --json"))


def history(host):
    return [json.loads(line) for line in host.check_output("cat /var/lib/hello/history").splitlines() if line]


def verified(host):
    return {entry["release"] for entry in history(host) if entry["verdict"] == "live"}


def deploy(ref):
    return playbook(name="deploy.yml", ref=ref)


def rollback(release=""):
    return playbook(name="rollback.yml", release=release)


# A playbook of its own takes seconds in which nothing happens on the host. These call there what it calls.


def begin(host, kind="rollback", ref=""):
    """Begins a change that goes on by itself; returns its id."""
    sent = {}
    if ref:
        git = ["git", "-C", str(EPHEMERAL / "hello")]
        commit = subprocess.run([*git, "rev-parse", ref], check=True, capture_output=True, text=True).stdout.strip()
        sent = {"version": ref, "commit": commit, "archive": f"/var/cache/hello-{commit}-{secrets.token_hex(4)}.tar"}
        with subprocess.Popen([*git, "archive", commit], stdout=subprocess.PIPE) as archive:
            receive = ["docker", "exec", "--interactive", NAME, "sh", "-c", f"umask 077 && cat > {sent['archive']}"]
            subprocess.run(receive, check=True, stdin=archive.stdout)
    request = json.dumps({"kind": kind, "by": "a-test", **sent})
    said = []
    # The unit of the change before may be on its way out.
    until(
        lambda: (
            said.append(json.loads(host.check_output("webstack-release hello start %s", request))) or "id" in said[-1]
        )
    )
    return said[-1]["id"]


def outcome(host, change):
    """What a change said, when it has ended."""
    said = []
    while True:
        progress = json.loads(host.check_output(f"webstack-release hello follow {change} {len(said)}"))
        said += progress["lines"]
        if progress["verdict"]:
            return Run(progress["verdict"] in ("live", "unchanged"), [], "\n".join([*said, progress["reason"]]))


def ship(host, ref):
    return outcome(host, begin(host, "deploy", ref))


def rollback_by_hand(host):
    return host.check_output("webstack-release hello rollback")


def not_live(host, *refs):
    """One of two names of commits, whichever is not live."""
    return refs[0] if status(host)["version"] != refs[0] else refs[1]


def as_it_should_be(host):
    """A verified release is live and answers, by the socket and by the door, and nobody holds the lock."""
    live = status(host)
    assert live["active"] and live["settings_current"] and live["committed"], live
    assert live["release"] in verified(host)
    assert live["release"] in host.check_output("curl -sf -H 'Host: www.example.com' http://127.0.0.1/healthz")
    until(lambda: host.run("systemctl is-active hello-deploy").stdout.strip() == "inactive", seconds=10)
    return live


# Under load, which is judged by test_of_all_these_changes_no_request_was_lost


@pytest.mark.usefixtures("crowd")
def test_there_is_a_way_back_however_often_one_goes_back(host):
    stayed = []

    def go_back(way):
        before = status(host)["release"]
        way()
        stayed.append(status(host)["release"])
        assert stayed[-1] != before

    deploy("better").must_succeed()
    ship(host, "main").must_succeed()
    go_back(lambda: rollback().must_succeed())
    for ref in ("main", "better"):
        ship(host, ref).must_succeed()
    go_back(lambda: rollback_by_hand(host))
    # A page from before a deploy still finds its assets.
    for ref in ("better", "other-assets"):
        ship(host, ref).must_succeed()
    for name in ("site.css", "other.css"):
        assert "color" in host.check_output(f"curl -sf -H 'Host: www.example.com' http://127.0.0.1/static/{name}")
    go_back(lambda: rollback_by_hand(host))
    # A second deploy waits, and is told for whom.
    first = begin(host, "deploy", "slow")
    until(lambda: in_phase(host, "check"))
    words = host.check_output("systemd-analyze security --no-pager hello-deploy | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 3.0, words
    second = deploy("better").must_succeed()
    outcome(host, first).must_succeed()
    second.must_say("waiting: another run changes hello now: deploy of slow by", "in its step")
    assert [entry["version"] for entry in history(host)[-2:]] == ["slow", "better"]
    assert as_it_should_be(host)["version"] == "better"
    go_back(lambda: rollback_by_hand(host))
    assert as_it_should_be(host)["version"] == "slow"
    # What was rolled back takes no place of what can be gone back to.
    rollback_by_hand(host)
    assert as_it_should_be(host)["release"] == stayed[-2]
    rollback(stayed[-1]).must_succeed()
    assert as_it_should_be(host)["release"] == stayed[-1]


def test_releases_share_what_is_theirs(host):
    live = status(host)["release"]
    assert host.check_output(f"readlink /srv/hello/releases/{live}/media") == "/srv/hello/shared/media"
    assert host.check_output(f"readlink /srv/hello/releases/{live}/told") == "/srv/hello/shared/told"
    assert host.file("/srv/hello/shared/media").user == host.file("/srv/hello/shared/told").user == "hello"


def test_whoever_wants_to_know_was_told(host):
    told = host.check_output("cat /srv/hello/shared/told").splitlines()
    assert "deploy live better" in told and "rollback live " in [
        f"{line} " if line.endswith("live") else line for line in told
    ]


def test_background_jobs_follow_the_verified_release(host):
    """Those of before the last change are gone, and no other release has got hold of them."""
    live = status(host)["release"]
    until(lambda: host.check_output("cat /srv/hello/shared/media/always") == live, seconds=5)
    host.check_output("rm -f /srv/hello/shared/media/once; systemctl start hello-job-once.service")
    assert host.check_output("cat /srv/hello/shared/media/once") == live
    assert host.file("/srv/hello/shared/media/once").user == "hello"
    assert "hello-job-once.timer" in host.check_output("systemctl list-timers --no-legend --no-pager")
    words = host.check_output("systemd-analyze security --no-pager hello-job-beat | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 2.0, words


def test_what_stops_the_warm_slot_is_sandboxed_and_can(host):
    words = host.check_output("systemd-analyze security --no-pager hello-cool | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 3.0, words
    warm = "green" if status(host)["slot"] == "blue" else "blue"
    host.check_output(f"systemctl is-active hello@{warm} && systemctl is-active hello-cool.timer")
    host.check_output("systemctl start hello-cool.service")
    until(lambda: host.run(f"systemctl is-active hello@{warm}").rc != 0)
    host.check_output("systemctl stop hello-cool.timer")
    as_it_should_be(host)


def test_background_jobs_that_somebody_stopped_come_back_and_nothing_else_changes_after_deploys(converge, host):
    units = ("hello-job-beat.service", "hello-job-once.timer")
    before = as_it_should_be(host)["release"]
    for unit in units:
        host.check_output(f"systemctl disable --quiet --now {unit}")
        assert not status(host)["committed"]
        host.check_output(f"systemctl enable --quiet --now {unit}")
        as_it_should_be(host)
    host.check_output(f"systemctl disable --quiet --now {' '.join(units)}")
    assert len(converge().must_succeed().changed) == 1
    assert as_it_should_be(host)["release"] == before
    for unit in units:
        host.check_output(f"systemctl is-enabled {unit}")
        until(lambda unit=unit: host.run(f"systemctl is-active {unit}").rc == 0)


def test_the_night_has_a_command_of_its_own(host):
    live = as_it_should_be(host)
    said = host.check_output("webstack-release hello status")
    assert f"hello: release {live['release']} in slot {live['slot']}" in said
    assert "verified" in said and "  rolled back by" in said
    back = host.check_output("webstack-release hello rollback")
    assert "right 3 times in a row" in back and "live: " in back
    assert as_it_should_be(host)["release"] != live["release"]
    assert host.run("webstack-release hello rollback 20200101000000-000000000000").rc == 1
    assert "rollback" in host.check_output("webstack-release hello history --last 1")


def test_a_dry_run_tells_that_a_deploy_would_change_something_and_changes_nothing(host):
    live = status(host)["version"]
    assert len(playbook("--check", name="deploy.yml", ref="other-assets").must_succeed().changed) == 1
    assert as_it_should_be(host)["version"] == live


def test_a_header_that_nginx_lets_in_reaches_the_application(host):
    """Four lines of 8 KB, and an address that the application gets in three forms."""
    lines = " ".join(f"-H 'X-Long-{number}: {'x' * 7900}'" for number in range(3))
    assert "release" in host.check_output(
        f"curl -sf -H 'Host: www.example.com' {lines} 'http://127.0.0.1/healthz?{'x' * 7900}'"
    )


# Scenario app_server tries those that are found when they are built.
HIDDEN = {
    "missing-dependency": ["no-such-package-by-far"],
    "hangs": ["/healthz did not answer within 2 s"],
    "hangs-at-start": ["was not right within 6 s: /healthz did not answer within 2 s"],
    "says-500": ["was not right within", "answered 500"],
    "wrong-id": ["without the id of the release"],
    "bad-migration": ["The migration failed", "migrated for", "the column is in the way"],
}


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("ref", HIDDEN)
def test_a_bad_release_meets_no_visitor(host, ref):
    before = as_it_should_be(host)["release"]
    (deploy(ref) if ref == "bad-migration" else ship(host, ref)).must_fail(*HIDDEN[ref])
    until(
        lambda: host.check_output("cat /srv/hello/shared/media/always") == before, seconds=5
    )  # it is written anew all the time
    assert as_it_should_be(host)["release"] == before


def running(name, **variables):
    """A run of a playbook that goes on meanwhile, with its processes in a group of their own."""
    entered()
    command = ["ansible-playbook", "--inventory", str(INVENTORY), str(SCENARIO / name)]
    command += ["--extra-vars", json.dumps(variables)]
    return subprocess.Popen(
        command, cwd=PROJECT, env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


KILL = "systemctl kill --kill-whom=main --signal=KILL hello-deploy"


def in_phase(host, phase):
    change = json.loads(host.run("cat /var/lib/hello/change.json").stdout or "{}")
    return change.get("phase") == phase and not change.get("verdict")


# A step that is too short to be hit is made longer, by what it calls.
SLOW = {"start": "/usr/bin/systemctl", "flip": "/usr/bin/systemd-tmpfiles"}


@contextlib.contextmanager
def slowly(host, phase):
    """Makes a step take some seconds, until the block ends or the host does."""
    if phase not in SLOW:
        yield
        return
    program = SLOW[phase]
    wrapper = f'#!/bin/sh\ncase $* in *daemon-reload*|*--create*) sleep 4;; esac\nexec {program}.real "$@"\n'
    host.check_output(f"cp {program} {program}.real")
    host.check_output("printf %%s %s > /opt/slow; chmod 755 /opt/slow", wrapper)
    host.check_output(f"mount --bind /opt/slow {program}")
    try:
        yield
    finally:
        host.run(f"umount --lazy {program}")


# Each step is cut off; that it makes no difference what cuts it off is told by tests/unit/test_release_change.py.


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("phase", ["build", "gate"])
def test_without_its_controller_the_host_goes_on_by_itself(host, phase):
    ref = not_live(host, "slow", "slower")
    run = running("deploy.yml", ref=ref)
    until(lambda: in_phase(host, phase))
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    until(lambda: history(host)[-1]["version"] == ref)
    assert as_it_should_be(host)["version"] == ref


@pytest.mark.thorough
@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("phase", ["check", "migrate", "flip", "watch"])
def test_a_deploy_that_is_killed_leaves_what_was_live(host, phase):
    before = as_it_should_be(host)["release"]
    with slowly(host, phase):
        change = begin(host, "deploy", not_live(host, "slow", "slower"))
        until(lambda: in_phase(host, phase))
        host.check_output(KILL)
        outcome(host, change).must_fail(f"it was cut off in the step {phase}")
    assert as_it_should_be(host)["release"] == before
    assert history(host)[-1]["verdict"] == "cut off"


@pytest.mark.thorough
@pytest.mark.usefixtures("crowd")
def test_a_rollback_that_is_killed_leaves_what_was_live(host):
    before = as_it_should_be(host)["release"]
    change = begin(host)
    until(lambda: in_phase(host, "watch"))
    host.check_output(KILL)
    assert not outcome(host, change).ok
    assert as_it_should_be(host)["release"] == before
    assert history(host)[-1]["verdict"] == "cut off"
    assert "was rolled back" not in host.check_output(f"webstack-release hello status | grep {before}")


@pytest.mark.thorough
@pytest.mark.usefixtures("crowd")
def test_a_deploy_waits_for_a_migration_that_outlived_its_change(host):
    ref = not_live(host, "better", "main")
    host.check_output("systemd-run --quiet --unit hello-migrate sleep 60")
    change = begin(host, "deploy", ref)
    until(lambda: in_phase(host, "wait"))
    host.check_output("systemctl stop hello-migrate")
    outcome(host, change).must_succeed().must_say("wait for the migration of the change before")
    assert as_it_should_be(host)["version"] == ref


def test_of_all_these_changes_no_request_was_lost(host, crowd):
    until(lambda: time.monotonic() - crowd.began > 20_200 / RATE, seconds=150)
    crowd.leave()
    assert crowd.failed[:3] == []
    assert crowd.asked >= 20_000
    # Visitors have met those, too, that were cut off after they went live.
    cut_off = {entry["release"] for entry in history(host) if re.search("in the step (flip|watch)", entry["reason"])}
    assert set(crowd.seen) <= verified(host) | cut_off
    live = [entry["kind"] for entry in history(host) if entry["since"] > crowd.since and entry["verdict"] == "live"]
    assert live.count("deploy") >= 10 and live.count("rollback") >= 5
    assert len(crowd.seen) >= 10
    assert host.check_output(WORKERS) == crowd.nginx, "it was not even reloaded"


# Bad ones that visitors meet

EXPOSED = {
    "turns-bad": ["reverted: Release"],
    "fails-visitors": ["requests; the one before failed 0.0 %"],
}


@pytest.mark.parametrize("ref", EXPOSED)
def test_a_release_that_turns_bad_is_sent_back(host, ref):
    before = as_it_should_be(host)["release"]
    with visitors(host) as met:
        ship(host, ref).must_fail(*EXPOSED[ref])
        time.sleep(1)
    last = history(host)[-1]
    assert last["verdict"] == "reverted"
    assert met.failed, "nobody has met it: the test has no teeth"
    moments = [failure["at"] for failure in met.failed]
    assert min(moments) > last["since"] and max(moments) < last["ended"]
    assert sum(last["phases"].values()) > max(moments) - min(moments), "a part of the change, not all of it"
    assert met.seen[before][1] > last["ended"]
    assert as_it_should_be(host)["release"] == before


SERVED = """
import sys; sys.path.insert(0, "/usr/local/lib/webstack")
from webstack_release import change, layout
slots = change.Application(layout.Layout("hello")).slots
print(slots.requests(slots.live()))
"""


@pytest.mark.thorough
def test_what_a_warm_release_did_well_before_does_not_outweigh_what_it_fails_now(host):
    """Gone back to, it fails one request in 25: of all that its slot has had, less than one in fifty."""
    worn_out = "/srv/hello/shared/media/worn-out"
    with visitors(host) as met:
        ship(host, "fails-some-later").must_succeed()
        until(lambda: int(host.check_output("python3 -c %s", SERVED)) > 1300)
        ship(host, not_live(host, "better", "main")).must_succeed()
        before = status(host)["release"]
        host.check_output(f"touch {worn_out}")
        try:
            said = host.run("webstack-release hello rollback")
        finally:
            host.check_output(f"rm {worn_out}")
    assert said.rc == 1 and "requests; the one before failed 0.0 %" in said.stdout, said
    assert "start" not in history(host)[-1]["phases"], "it was not warm any more: the test has no teeth"
    failed, asked = map(int, re.search(r"has failed (\d+) of (\d+) requests", said.stdout).groups())
    assert asked < 1300 and len(met.failed) >= failed
    assert {failure["body"] for failure in met.failed} == {"worn out"}
    assert as_it_should_be(host)["release"] == before


# Whatever ends the host, a verified release is live afterwards


def end(kill):
    """Ends the host, in order or not, and starts it again."""
    subprocess.run(["docker", *kill, NAME], check=True, capture_output=True)
    subprocess.run(["docker", "start", NAME], check=True, capture_output=True)


def is_back(host):
    until(lambda: host.run("curl -sf -H 'Host: www.example.com' http://127.0.0.1/healthz").rc == 0)
    until(lambda: host.run("systemctl is-active hello-deploy").rc != 0)


IN_ORDER = ["stop", "-t", "90"]
ENDS = [
    *((["kill"], phase) for phase in ("start", "gate", "flip", "watch")),
    (IN_ORDER, "migrate"),
    (IN_ORDER, "watch"),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("how", "phase"), ENDS, ids=[f"{how[0]}-{phase}" for how, phase in ENDS])
def test_a_deploy_that_a_reboot_cuts_off_leaves_what_was_live_and_whoever_wants_to_know_is_told(host, how, phase):
    before = as_it_should_be(host)["release"]
    host.check_output("truncate --size 0 /srv/hello/shared/told")
    ref = not_live(host, "slow", "slower")
    with slowly(host, phase):
        run = running("deploy.yml", ref=ref) if how is IN_ORDER else begin(host, "deploy", ref)
        until(lambda: in_phase(host, phase))
        end(how)
    if how is IN_ORDER:
        said, _nothing = run.communicate(timeout=60)
        assert run.returncode != 0, said
    is_back(host)
    until(lambda: history(host)[-1]["version"] == ref)
    assert as_it_should_be(host)["release"] == before
    # A host's processes end one after the other: the change may see the step that it waits for end first.
    verdict = history(host)[-1]["verdict"]
    assert verdict in ("cut off", "failed", "reverted")
    if verdict == "cut off" and how is not IN_ORDER:
        until(lambda: f"deploy cut off {ref}" in host.run("cat /srv/hello/shared/told").stdout)


@pytest.mark.thorough
def test_a_rollback_that_a_reboot_cuts_off_leaves_what_was_live(host):
    before = as_it_should_be(host)["release"]
    begin(host)
    until(lambda: in_phase(host, "watch"))
    end(["kill"])
    is_back(host)
    assert as_it_should_be(host)["release"] == before
    assert history(host)[-1]["verdict"] in ("cut off", "failed", "reverted")
    assert "was rolled back" not in host.check_output(f"webstack-release hello status | grep {before}")


# Other troubles


SWEEP = """
import sys; sys.path.insert(0, "/usr/local/lib/webstack")
from webstack_release import change, layout
change.Change(change.Application(layout.Layout("hello"))).sweep()
"""


@pytest.mark.thorough
def test_a_disk_that_fills_up_during_the_build_harms_nothing(host):
    folder = "/srv/hello/releases"
    host.check_output("python3 -c %s", SWEEP)  # which the deploy would begin with, and make room
    host.check_output(
        f"mount -t tmpfs -o size=40m,mode=755 full /mnt && cp -a {folder}/. /mnt && mount --move /mnt {folder}"
        f" && ! cat /dev/zero > {folder}/{status(host)['release']}/ballast 2>/dev/null"
    )
    before = status(host)["release"]
    try:
        ship(host, "main").must_fail("No space left on device")
        assert as_it_should_be(host)["release"] == before
        rollback_by_hand(host)
    finally:
        host.check_output(f"umount -l {folder}")
    rolled = as_it_should_be(host)
    ship(host, not_live(host, "main", "better")).must_succeed()
    assert as_it_should_be(host)["release"] != rolled["release"]


def test_without_the_repository_the_release_before_serves_and_going_back_needs_none(host):
    before = as_it_should_be(host)["release"]
    (EPHEMERAL / "hello").rename(EPHEMERAL / "gone")
    try:
        assert not deploy("main").ok
        assert as_it_should_be(host)["release"] == before
        rollback().must_succeed()
        assert as_it_should_be(host)["release"] != before
    finally:
        (EPHEMERAL / "gone").rename(EPHEMERAL / "hello")


def test_what_names_no_commit_is_refused(host):
    before = as_it_should_be(host)["release"]
    deploy("v1").must_be_refused("'v1' is ambiguous: the branch is")
    assert as_it_should_be(host)["release"] == before


def test_settings_that_do_not_work_never_reach_the_live_slot(converge, host):
    """Not even after a reboot: the live slot comes back with the settings that it was verified with."""
    before = as_it_should_be(host)["release"]
    converge(app_server_health_path="/nowhere", app_server_environment={"NEW": "1"}).must_fail("/nowhere answered 404")
    subprocess.run(["docker", "restart", NAME], check=True, capture_output=True)
    until(lambda: host.run("curl -sf -H 'Host: www.example.com' http://127.0.0.1/healthz").rc == 0)
    assert before in host.check_output("curl -sf -H 'Host: www.example.com' http://127.0.0.1/healthz")
    assert host.run(f"grep -q NEW /var/lib/hello/bound/{status(host)['slot']}/environment").rc != 0
    converge().must_succeed()
    assert converge().must_succeed().changed == []
    as_it_should_be(host)
