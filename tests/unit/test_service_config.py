"""The module that keeps a service's files, on real files, with a systemd of one unit made of files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.foobar.webstack.plugins.module_utils import (
    ownership,
    service_change,
    systemd_unit,
)
from loading import load

# A service that refuses to start, and to reload, while its configuration says `broken`.
SYSTEMCTL = r"""
cd "$SYSTEMD"
[ "$1" = show ] || echo "$*" >> calls
read -r reads < reads
refuse() { echo "Job for $2 failed." >&2; exit 1; }
case $1 in
  show)
    for name in state invocation started begun changed reloaded needs_reload enabled reloadable; do read -r "$name" < "$name"; done
    echo "LoadState=loaded"
    echo "ActiveState=$state"
    echo "InvocationID=$invocation"
    echo "ExecMainStartTimestamp=$started"
    echo "InactiveExitTimestamp=$begun"
    echo "StateChangeTimestamp=$changed"
    echo "ReloadResult=$reloaded"
    echo "NeedDaemonReload=$needs_reload"
    echo "UnitFileState=$enabled"
    echo "CanReload=$reloadable" ;;
  start | restart)
    if grep -qs broken "$reads"; then echo failed > state; refuse "$@"; fi
    echo active > state
    LC_ALL=C date -u '+%a %Y-%m-%d %H:%M:%S.%6N UTC' | tee started changed > invocation ;;
  reload)
    if grep -qs broken "$reads"; then refuse "$@"; fi
    LC_ALL=C date -u '+%a %Y-%m-%d %H:%M:%S.%6N UTC' > changed ;;
  daemon-reload) echo no > needs_reload ;;
  enable) echo enabled > enabled ;;
  reset-failed) refuse "$@" ;;
esac
"""


class Service:
    """One service with a folder of configuration, and runs of the module on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], me: dict[str, str]) -> None:
        self.root, self.capsys, self.me = root, capsys, me
        self.etc = root / "etc"
        self.conf = self.etc / "app.conf"
        self.systemd = root / "systemd"
        self.systemd.mkdir()
        self.etc.mkdir()
        for name, value in {
            "state": "inactive", "invocation": "", "started": "", "begun": "", "changed": "",
            "reloaded": "success", "needs_reload": "no", "enabled": "enabled", "reloadable": "yes", "reads": str(self.conf),
        }.items():  # fmt: skip
            self.tell(name, value)
        self.module = load("plugins/modules/service_config.py")

    def tell(self, name: str, value: str) -> None:
        new = self.systemd / f"{name}.new"
        new.write_text(value, encoding="utf-8")
        new.replace(self.systemd / name)  # somebody may be asking

    def said(self, name: str) -> str:
        return (self.systemd / name).read_text(encoding="utf-8").strip()

    def calls(self) -> list[str]:
        """What systemctl was told since the last time, other than questions."""
        path = self.systemd / "calls"
        calls = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return calls

    def file(self, content: str = "colour = blue", path: Path | None = None, **more: Any) -> dict[str, Any]:
        return {"path": str(path or self.conf), "content": content, **self.me, **more}

    def run(
        self, *files: dict[str, Any], check_mode: bool = False, diff: bool = False, **params: Any
    ) -> dict[str, Any]:
        """What Ansible would get back; by default for the unit app.service."""
        arguments = {
            "unit": "app.service",
            "files": list(files),
            "_ansible_check_mode": check_mode,
            "_ansible_diff": diff,
            "_ansible_tmpdir": tempfile.mkdtemp(dir=self.root),
            **params,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        with patch_module_args(given), pytest.raises(SystemExit):
            self.module.main()
        return json.loads(self.capsys.readouterr().out.splitlines()[-1])

    def stamp(self) -> dict[str, Any]:
        return json.loads((self.root / "stamps/app.service.json").read_text(encoding="utf-8"))

    def forget(self) -> None:
        (self.root / "stamps/app.service.json").unlink()

    def touch(self, path: Path) -> None:
        """The file changes after the process has started, as the clock of the file system tells it."""
        time.sleep(0.02)
        os.utime(path)


@pytest.fixture
def service(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[str, str], Path],
    me: dict[str, str],
) -> Service:
    made = Service(tmp_path, capsys, me)
    command("systemctl", SYSTEMCTL)
    command("journalctl", 'echo "app.conf: I cannot read this"')
    command("checker", '! grep -rn refused "$1" || { echo "and more" >&2; exit 3; }')
    monkeypatch.setenv("SYSTEMD", str(made.systemd))
    monkeypatch.setattr(systemd_unit, "STAMPS", tmp_path / "stamps")
    return made


@pytest.fixture
def running(service: Service) -> Service:
    """The service after its first converge."""
    assert service.run(service.file())["action"] == "start"
    service.calls()
    return service


def test_a_timer_that_began_with_the_host_has_what_was_there_before(running):
    """It has no main process, of which the start could be told; and after a reboot no stamp."""
    running.forget()
    running.tell("begun", running.said("started"))
    running.tell("started", "")
    assert running.run(running.file())["action"] == "none"
    running.forget()
    running.touch(running.conf)
    assert running.run(running.file())["action"] == "restart"


# What happens to the files


def test_the_first_run_writes_the_files_and_starts_the_unit(service):
    outcome = service.run(service.file(mode="0640"))
    assert outcome["changed"] and outcome["files_changed"] == [str(service.conf)] and outcome["action"] == "start"
    assert service.conf.read_text() == "colour = blue\n"
    assert service.conf.stat().st_mode & 0o7777 == 0o640
    assert service.calls() == ["reset-failed app.service", "start app.service"]


def test_the_second_run_changes_nothing(running):
    inode = running.conf.stat().st_ino
    outcome = running.run(running.file())
    assert (outcome["changed"], outcome["files_changed"], outcome["action"]) == (False, [], "none")
    assert running.calls() == []
    assert running.conf.stat().st_ino == inode


def test_the_text_ends_in_one_newline_whatever_is_given(running):
    for content in ("colour = blue", "colour = blue\n", "colour = blue\n\n\n"):
        assert running.run(running.file(content))["changed"] is False


def test_a_mode_alone_is_a_change(running):
    assert running.run(running.file(mode="0600"))["files_changed"] == [str(running.conf)]
    assert running.conf.stat().st_mode & 0o7777 == 0o600


def test_folders_are_made_for_files(service):
    deep = service.etc / "a/b/c.conf"
    service.run(service.file(path=deep), unit=None)
    assert deep.read_text() == "colour = blue\n"


def test_a_link_is_replaced_by_a_file_and_its_target_left_alone(service):
    target = service.root / "elsewhere"
    target.write_text("mine")
    service.conf.symlink_to(target)
    assert service.run(service.file())["changed"]
    assert not service.conf.is_symlink()
    assert (service.conf.read_text(), target.read_text()) == ("colour = blue\n", "mine")


def test_what_nobody_declared_is_removed_with_its_folders(running):
    stray = running.etc / "old/deeper/stray.conf"
    stray.parent.mkdir(parents=True)
    stray.write_text("stray")
    (running.etc / "link").symlink_to("/nonexistent")
    outcome = running.run(running.file(), managed_folders=[str(running.etc)])
    assert set(outcome["files_changed"]) == {
        str(stray), str(stray.parent), str(stray.parent.parent), str(running.etc / "link"),
    }  # fmt: skip
    assert os.listdir(running.etc) == ["app.conf"]
    assert outcome["action"] == "reload"


def test_a_link_to_a_folder_is_removed_and_the_folder_left_alone(running):
    elsewhere = running.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (running.etc / "link").symlink_to(elsewhere)
    running.run(running.file(), managed_folders=[str(running.etc)])
    assert not (running.etc / "link").is_symlink()
    assert (elsewhere / "file").exists()


def test_what_is_kept_stays_with_the_folders_above_it(running):
    kept = running.etc / "modules/enabled/kept.conf"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (running.etc / "modules/stray").touch()
    (running.etc / "empty").mkdir()
    outcome = running.run(
        running.file(),
        managed_folders=[str(running.etc)],
        unmanaged_globs=[f"{running.etc}/modules/enabled/*", f"{running.etc}/empty"],
    )
    assert outcome["files_changed"] == [str(running.etc / "modules/stray")]
    assert kept.exists() and (running.etc / "empty").is_dir()


def test_a_folder_of_declared_files_is_no_stray(service):
    deep = service.etc / "sites/www.conf"
    service.run(service.file(path=deep), managed_folders=[str(service.etc)])
    assert service.run(service.file(path=deep), managed_folders=[str(service.etc)])["changed"] is False


def test_check_mode_says_all_and_writes_nothing(running):
    stray = running.etc / "stray"
    stray.touch()
    outcome = running.run(
        running.file("colour = red"), managed_folders=[str(running.etc)], check_mode=True, check=["checker", "{root}"]
    )
    assert outcome["changed"] and outcome["action"] == "restart"
    assert outcome["files_changed"] == [str(running.conf), str(stray)]
    assert (running.conf.read_text(), stray.exists(), running.calls()) == ("colour = blue\n", True, [])


def test_check_mode_on_a_bare_host_passes_without_the_checker(service):
    outcome = service.run(service.file(), check=["not-installed-yet", "{root}"], check_mode=True)
    assert outcome["changed"] and not outcome.get("failed")
    assert not service.conf.exists()


def test_the_diff_shows_text_owner_and_mode_before_and_after(running):
    (running.etc / "stray").write_text("stray\n")
    new = running.etc / "new.conf"
    files = [running.file("colour = red", mode="0600"), running.file("fresh", path=new)]
    diffs = {
        diff["after_header"]: diff
        for diff in running.run(*files, managed_folders=[str(running.etc)], check_mode=True, diff=True)["diff"]
    }
    who = f"{running.me['owner']}:{running.me['group']}"
    changed = diffs[str(running.conf)]
    assert changed["before"] == f"# {who} 0644\ncolour = blue\n"
    assert changed["after"] == f"# {who} 0600\n# not shown: not everybody on the host may read it\n"
    assert diffs[str(new)]["before"] == ""
    assert diffs[str(running.etc / "stray")]["before"].endswith("stray\n")
    assert diffs[str(running.etc / "stray")]["after"] == ""


# The checker


def test_a_refusal_of_the_checker_leaves_everything_as_it_was(running):
    stray = running.etc / "stray"
    stray.touch()
    outcome = running.run(
        running.file("refused = yes"), managed_folders=[str(running.etc)], check=["checker", "{root}"]
    )
    assert outcome["failed"]
    assert (running.conf.read_text(), stray.exists(), running.calls()) == ("colour = blue\n", True, [])


def test_the_checkers_words_come_through_with_the_paths_that_the_files_will_have(running):
    message = running.run(running.file("refused = yes"), check=["checker", "{root}"])["msg"]
    assert "checker refuses the new configuration; the live one is untouched" in message
    assert f"\n{running.conf}:1:refused = yes" in message
    assert "and more" in message


def test_a_refused_configuration_is_refused_again_by_the_next_run(running):
    for _run in range(2):
        assert running.run(running.file("refused = yes"), check=["checker", "{root}"])["failed"]


def test_the_checker_is_not_asked_when_there_is_nothing_to_do(running, command):
    command("checker", f"touch {running.root}/asked")
    running.run(running.file(), check=["checker", "{root}"])
    assert not (running.root / "asked").exists()
    running.run(running.file("colour = red"), check=["checker", "{root}"])
    assert (running.root / "asked").exists()


# A swap that fails


def test_a_folder_in_the_way_fails_and_the_old_files_are_back(running):
    blocked = running.etc / "blocked.conf"
    (blocked / "inside").mkdir(parents=True)
    outcome = running.run(running.file("colour = red"), running.file(path=blocked))
    assert outcome["failed"] and "the old files are back" in outcome["msg"] and str(blocked) in outcome["msg"]
    assert running.conf.read_text() == "colour = blue\n"
    assert running.calls() == []


def test_a_full_disk_fails_leaves_nothing_half_written_and_the_old_files_are_back(running, monkeypatch):
    real, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    outcome = running.run(running.file("colour = red"), running.file(path=running.etc / "second.conf"))
    assert outcome["failed"] and "No space left on device" in outcome["msg"]
    assert running.conf.read_text() == "colour = blue\n"
    assert os.listdir(running.etc) == ["app.conf"]


def test_an_unknown_owner_fails_and_leaves_nothing_behind(service):
    outcome = service.run(service.file(owner="no-such-user-here"))
    assert outcome["failed"] and "no-such-user-here" in outcome["msg"]
    assert os.listdir(service.etc) == []


def test_files_that_the_service_refuses_are_taken_back_and_it_runs_as_before(running):
    invocation = running.said("invocation")
    outcome = running.run(running.file("colour = broken"))
    assert outcome["failed"]
    assert "Job for app.service failed." in outcome["msg"]
    assert "The previous configuration is back, and the service runs with it." in outcome["msg"]
    assert "app.conf: I cannot read this" in outcome["msg"]
    assert running.conf.read_text() == "colour = blue\n"
    assert running.said("state") == "active" and running.said("invocation") != invocation
    assert running.run(running.file())["changed"] is False


def test_a_refused_reload_takes_back_links_and_strays_too(running):
    link, stray = running.etc / "site", running.etc / "stray"
    link.symlink_to("/somewhere/else")
    replaced = running.etc / "replaced"
    replaced.symlink_to("over/there")
    stray.write_text("stray\n")
    running.tell("reads", str(replaced))
    outcome = running.run(
        running.file(), running.file("broken", path=replaced, apply="reload"), managed_folders=[str(running.etc)]
    )
    assert outcome["failed"]
    assert os.readlink(link) == "/somewhere/else"
    assert os.readlink(replaced) == "over/there"
    assert stray.read_text() == "stray\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_an_owner_without_a_name_is_put_back(running):
    os.chown(running.conf, 54321, 54321)
    outcome = running.run(running.file("colour = broken"))
    assert outcome["failed"] and "previous configuration is back" in outcome["msg"]
    assert running.conf.stat().st_uid == running.conf.stat().st_gid == 54321


def test_a_service_that_was_down_and_stays_down_is_reported_so(service):
    outcome = service.run(service.file("colour = broken"))
    assert outcome["failed"] and "app.service does not run now." in outcome["msg"]
    assert not service.conf.exists()


def test_a_service_that_stops_right_after_its_restart_is_noticed(running, command):
    command("systemctl", SYSTEMCTL.replace("echo active > state", "echo failed > state"))
    outcome = running.run(running.file("colour = red"))
    assert outcome["failed"] and "app.service stopped right after its restart" in outcome["msg"]
    assert running.conf.read_text() == "colour = blue\n"


# What the unit needs


def test_a_change_does_to_the_unit_what_the_file_asks_for(running):
    extra = running.etc / "extra"
    for apply, content in (("none", "1"), ("reload", "2"), ("restart", "3")):
        outcome = running.run(running.file(), running.file(content, path=extra, apply=apply))
        assert (outcome["changed"], outcome["action"]) == (True, apply)
        assert running.run(running.file(), running.file(content, path=extra, apply=apply))["changed"] is False
    assert running.calls() == ["reload app.service", "reset-failed app.service", "restart app.service"]


def test_a_restart_makes_the_reload_needless(running):
    files = [running.file("colour = red"), running.file(path=running.etc / "extra", apply="reload")]
    assert running.run(*files)["action"] == "restart"
    assert running.run(*files)["action"] == "none"


def test_a_unit_that_was_stopped_is_started(running):
    running.tell("state", "inactive")
    assert running.run(running.file())["action"] == "start"


def test_without_a_stamp_a_process_younger_than_its_files_is_right(running):
    running.forget()
    outcome = running.run(running.file())
    assert (outcome["changed"], outcome["action"]) == (False, "none")
    assert running.stamp()["invocation"] == running.said("invocation")


@pytest.mark.parametrize("apply", ["restart", "reload"])
def test_without_a_stamp_a_process_older_than_its_files_takes_them(running, apply):
    running.run(running.file(apply=apply))
    running.forget()
    running.touch(running.conf)
    assert running.run(running.file(apply=apply))["action"] == apply
    assert running.run(running.file(apply=apply))["action"] == "none"


def test_the_stamp_of_another_process_is_worth_nothing(running):
    running.touch(running.conf)
    assert running.run(running.file())["action"] == "none"
    running.tell("invocation", "another")
    assert running.run(running.file())["action"] == "restart"


def test_a_run_killed_between_swap_and_restart_is_made_up_for(running):
    time.sleep(0.02)
    running.run(running.file("colour = red"), unit=None)
    outcome = running.run(running.file("colour = red"))
    assert (outcome["changed"], outcome["files_changed"], outcome["action"]) == (True, [], "restart")


def test_a_run_killed_between_a_removal_and_its_reload_is_made_up_for(running):
    owned = {"managed_folders": [str(running.etc)]}
    files = [running.file(), running.file(path=running.etc / "site", apply="reload")]
    running.run(*files, **owned)
    time.sleep(0.02)
    (running.etc / "site").unlink()
    assert running.run(running.file(), **owned)["action"] == "reload"
    assert running.run(running.file(), **owned)["action"] == "none"


def test_a_removal_further_down_is_made_up_for_unless_others_keep_that_folder(running):
    owned = {"managed_folders": [str(running.etc)], "unmanaged_globs": [str(running.etc / "kept/*")]}
    for folder in ("sites", "kept"):
        (running.etc / folder).mkdir()
    files = [running.file(), running.file(path=running.etc / "sites/mine", apply="reload")]
    (running.etc / "kept/theirs").touch()
    running.run(*files, **owned)
    for stray, action in (("sites/stray", "reload"), ("kept/other", "none")):
        time.sleep(0.02)
        (running.etc / stray).touch()
        (running.etc / stray).unlink()
        assert running.run(*files, **owned)["action"] == action
        assert running.run(*files, **owned)["action"] == "none"


def test_an_edit_that_the_process_never_read_is_undone_without_a_restart(running):
    running.conf.write_text("colour = black\n")
    outcome = running.run(running.file())
    assert (outcome["files_changed"], outcome["action"]) == ([str(running.conf)], "none")
    assert running.conf.read_text() == "colour = blue\n"


def test_an_edit_that_somebody_may_have_reloaded_is_undone_with_a_reload(running):
    running.run(running.file(apply="reload"))
    time.sleep(0.02)
    running.conf.write_text("colour = black\n")
    assert running.run(running.file(apply="reload"))["action"] == "reload"


def test_a_declared_file_that_was_removed_comes_back(running):
    running.run(running.file(apply="reload"))
    running.conf.unlink()
    outcome = running.run(running.file(apply="reload"))
    assert (outcome["action"], running.conf.exists()) == ("reload", True)


def test_a_watched_link_is_followed_to_what_it_leads_to(running):
    """As those of certificates are, which lead to another file after each renewal."""
    link, watch = running.root / "live.pem", [{"path": str(running.root / "live.pem"), "apply": "restart"}]
    for number in (1, 2):
        time.sleep(0.02)
        (running.root / f"{number}.pem").write_text(f"certificate {number}")
        link.unlink(missing_ok=True)
        link.symlink_to(f"{number}.pem")
        assert running.run(running.file(), watch=watch)["action"] == "restart"
        assert running.run(running.file(), watch=watch)["action"] == "none"


def test_a_watched_link_that_leads_to_an_older_file_is_followed(running):
    link = running.root / "live.pem"
    for number in (1, 2):
        (running.root / f"{number}.pem").write_text(f"certificate {number}")
    time.sleep(0.02)
    link.symlink_to("2.pem")
    watch = [{"path": str(link), "apply": "reload"}]
    assert running.run(running.file(), watch=watch)["action"] == "reload"
    time.sleep(0.02)
    link.unlink()
    link.symlink_to("1.pem")
    assert running.run(running.file(), watch=watch)["action"] == "reload"
    assert running.run(running.file(), watch=watch)["action"] == "none"


def test_who_renews_a_file_and_reloads_leaves_nothing_to_do(running):
    certificate = running.root / "certificate.pem"
    watch = [{"path": str(certificate), "apply": "reload"}]
    time.sleep(0.02)
    certificate.write_text("renewed")
    time.sleep(0.02)
    subprocess.run(["systemctl", "reload", "app.service"], check=True)
    assert running.run(running.file(), watch=watch)["changed"] is False
    running.tell("reloaded", "exit-code")
    assert running.run(running.file(), watch=watch, check_mode=True)["action"] == "reload"


def test_a_dry_run_does_not_miss_what_it_would_have_made(running):
    watch = [{"path": str(running.root / "not there yet"), "apply": "reload"}]
    broken = running.file("refused")
    assert running.run(broken, watch=watch, check=["checker", "{root}"], check_mode=True)["changed"]
    assert running.run(broken, watch=watch, check=["checker", "{root}"])["failed"]


def test_folders_that_are_made_are_open_to_all_whatever_the_umask(running):
    before = os.umask(0o077)
    try:
        running.run(running.file("text", path=running.etc / "pages/404.html"))
        assert (running.etc / "pages").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


@pytest.mark.parametrize("apply", ["restart", "reload"])
def test_a_file_that_others_write_is_watched(running, apply):
    certificate = running.root / "certificate.pem"
    watch = [{"path": str(certificate), "apply": apply}]
    assert running.run(running.file(), watch=watch)["action"] in ("none", "reload", "restart")
    time.sleep(0.02)
    certificate.write_text("first")
    assert running.run(running.file(), watch=watch)["action"] == apply
    assert running.run(running.file(), watch=watch)["action"] == "none"
    time.sleep(0.02)
    certificate.write_text("renewed")
    assert running.run(running.file(), watch=watch, check_mode=True)["action"] == apply
    assert running.run(running.file(), watch=watch)["action"] == apply
    assert certificate.read_text() == "renewed"


def test_a_service_that_was_changed_behind_its_files_is_found_out_by_a_probe(running, command):
    command("probe", f'test "$(cat {running.root}/loaded)" = "$1"')
    (running.root / "loaded").write_text("blue")
    probe = {"probe": ["probe", "blue"]}
    assert running.run(running.file(), **probe)["action"] == "none"
    (running.root / "loaded").write_text("black")
    assert running.run(running.file(), check_mode=True, **probe)["action"] == "reload"
    assert running.calls() == []
    assert running.run(running.file(), **probe)["action"] == "reload"
    assert running.calls() == ["reload app.service"]


def test_a_unit_that_cannot_reload_is_restarted(running, command):
    """Such as a timer, or a service without ExecReload."""
    running.tell("reloadable", "no")
    command("probe", f"test ! -e {running.root}/drifted")
    (running.root / "drifted").touch()
    outcome = running.run(running.file(), probe=["probe"])
    assert (outcome["action"], running.calls()) == ("restart", ["reset-failed app.service", "restart app.service"])
    outcome = running.run(running.file("colour = red", apply="reload"))
    assert (outcome["action"], running.calls()) == ("restart", ["reset-failed app.service", "restart app.service"])


def test_a_service_that_does_not_run_is_not_probed(service, command):
    command("probe", f"touch {service.root}/probed")
    assert service.run(service.file(), probe=["probe"])["action"] == "start"
    assert not (service.root / "probed").exists()


def test_a_unit_that_is_about_to_run_is_waited_for(running):
    running.tell("state", "activating")
    threading.Timer(0.5, lambda: running.tell("state", "active")).start()
    assert running.run(running.file())["changed"] is False
    assert running.calls() == []


def test_a_unit_that_never_comes_to_run_is_started(running, monkeypatch):
    monkeypatch.setattr(systemd_unit, "STARTING_SECONDS", 0.3)
    running.tell("state", "activating")
    assert running.run(running.file())["action"] == "start"


def test_a_unit_that_does_not_start_at_boot_is_enabled(running):
    running.tell("enabled", "disabled")
    assert running.run(running.file(), check_mode=True)["changed"]
    assert running.calls() == []
    assert running.run(running.file())["changed"]
    assert running.calls() == ["enable app.service"]
    assert running.run(running.file())["changed"] is False


def test_systemd_reads_units_again_before_it_restarts_them(running):
    running.tell("needs_reload", "yes")
    running.run(running.file("colour = red"))
    assert running.calls() == ["daemon-reload", "reset-failed app.service", "restart app.service"]


def test_without_a_unit_files_alone_are_kept(service):
    assert service.run(service.file(), unit=None)["action"] == "none"
    assert service.run(service.file(), unit=None)["changed"] is False
    assert service.calls() == []


def test_the_start_of_a_process_is_understood_in_any_locale():
    seconds = systemd_unit.seconds
    assert seconds("Mon 2026-01-05 10:11:12.250000 UTC") == 1767607872.25
    assert seconds("Mo 2026-01-05 10:11:12.250000 UTC") == 1767607872.25
    assert seconds("") == seconds("n/a") == 0.0


# What the running service says of itself


@pytest.fixture
def answering() -> Iterator[dict[str, str]]:
    """An HTTP server on the loopback address that says what `said` holds."""
    says = {"text": "old"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{says['text']}\n".encode())

        def log_message(self, *_words: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    says["url"] = f"http://127.0.0.1:{server.server_port}/"
    yield says
    server.shutdown()
    server.server_close()


def test_a_service_that_proves_its_configuration_is_believed(running, answering):
    answering["text"] = "new"
    outcome = running.run(running.file("colour = red"), confirm={"url": answering["url"], "text": "new"})
    assert outcome["changed"] and not outcome.get("failed")


def test_a_port_where_another_program_answers_in_its_own_words_brings_the_old_files_back(running, monkeypatch):
    """What it says is no HTTP at all, as with sshd or a database."""
    monkeypatch.setattr(service_change, "CONFIRM_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _peer = listener.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                        connection.recv(4096)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        outcome = running.run(running.file("colour = red"), confirm={"url": url, "text": "new"})
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, which must be gone before its number is used again
        thread.join(10)
    assert outcome["failed"] and "runs, but not with the new configuration" in outcome["msg"]
    assert running.conf.read_text() == "colour = blue\n"


def test_a_service_that_goes_on_with_the_old_configuration_is_found_out(running, answering, monkeypatch):
    monkeypatch.setattr(service_change, "CONFIRM_SECONDS", 0.3)
    outcome = running.run(running.file("colour = red"), confirm={"url": answering["url"], "text": "new"})
    assert outcome["failed"] and "runs, but not with the new configuration" in outcome["msg"]
    assert running.conf.read_text() == "colour = blue\n"


def test_a_first_start_that_fails_leaves_nothing_enabled(service):
    service.tell("enabled", "disabled")
    outcome = service.run(service.file("broken"))
    assert outcome["failed"] and not service.conf.exists()
    calls = service.calls()
    assert calls.index("enable app.service") < calls.index("disable app.service")


def test_a_service_that_ran_stays_enabled_when_its_new_configuration_is_refused(running):
    running.tell("enabled", "disabled")
    assert running.run(running.file("broken"))["failed"]
    assert "disable app.service" not in running.calls()


@pytest.mark.parametrize("content", ["colour = red", "refused"])
def test_what_was_staged_is_gone_whatever_the_checker_says(running, content):
    """Without pipelining the folder is a user's, who could not remove root's files."""
    running.run(running.file(content), check=["checker", "{root}"])
    assert list(running.root.glob("tmp*/*")) == []


# Folders that are met for the first time


@pytest.fixture
def owning(service, monkeypatch):
    """Runs of the module that owns a folder, on a host that it meets; dpkg knows no file of it."""
    for name, place in (("STATUS", "status"), ("TAKEN", "taken"), ("COPIES", "copies"), ("UNIT_FOLDER", "units")):
        monkeypatch.setattr(ownership, name, service.root / place)

    def run(**params):
        return service.run(service.file(), managed_folders=[str(service.etc)], first_contact=True, **params)

    return run


def test_files_of_others_are_refused_by_name_and_stay(service, owning):
    theirs = service.etc / "theirs.conf"
    theirs.write_text("years of work")
    outcome = owning()
    assert outcome["failed"] and str(theirs) in outcome["msg"] and "Nothing was changed" in outcome["msg"]
    assert theirs.read_text() == "years of work" and not service.conf.exists() and service.calls() == []


def test_with_the_word_they_are_taken_and_a_copy_is_said(service, owning):
    (service.etc / "theirs.conf").write_text("years of work")
    dry = owning(take_over=True, check_mode=True)
    assert dry["changed"] and (service.etc / "theirs.conf").exists() and not (service.root / "copies").exists()
    (copy,) = owning(take_over=True)["copies"]
    assert Path(copy, "theirs.conf").read_text() == "years of work"
    assert not (service.etc / "theirs.conf").exists()
    (service.etc / "by-hand.conf").write_text("drift")
    again = owning()
    assert again["files_changed"] == [str(service.etc / "by-hand.conf")] and "copies" not in again


def test_a_bare_host_is_taken_without_a_word_or_a_copy(service, owning):
    outcome = owning()
    assert outcome["changed"] and "copies" not in outcome and not (service.root / "copies").exists()


# Folders


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize(
    ("by_hand", "right"),
    [
        (0o777, 0o755),
        (0o775, 0o755),
        (0o757, 0o755),
        (0o700, 0o755),
        (0o2775, 0o2775),
        (0o2777, 0o2775),
        (0o1777, 0o1777),
    ],
)
def test_only_root_writes_into_the_folder_of_a_file_and_who_may_read_it_may_enter(service, by_hand, right):
    service.run(service.file())
    service.etc.chmod(by_hand)
    predicted = service.run(service.file(), check_mode=True, diff=True)
    assert mode(service.etc) == by_hand
    done = service.run(service.file())
    assert mode(service.etc) == right
    assert predicted["changed"] == done["changed"] == (by_hand != right)
    assert done["folders_changed"] == [str(service.etc)][: by_hand != right] and done["files_changed"] == []
    if done["changed"]:
        assert (
            predicted["diff"][0]["after_header"] == str(service.etc) and f"{right:04o}" in predicted["diff"][0]["after"]
        )
    assert not service.run(service.file())["changed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_a_services_own_files_stays_its_users_and_its_groups(service):
    """As of zones that a name server writes, and in which it has a file from here."""
    theirs = service.file(owner="nobody", group="nogroup")
    service.run(theirs)
    shutil.chown(service.etc, "nobody", "nogroup")
    service.etc.chmod(0o777)
    assert service.run(theirs)["folders_changed"] == [str(service.etc)]
    assert mode(service.etc) == 0o775 and service.etc.owner() == "nobody"
    assert service.run(service.file())["folders_changed"] == [str(service.etc)]
    assert mode(service.etc) == 0o755 and service.etc.owner() == "root"


def test_a_folder_of_files_that_are_roots_alone_may_be_closed(service):
    service.run(service.file(mode="0600"))
    service.etc.chmod(0o700)
    assert not service.run(service.file(mode="0600"))["changed"]


def test_the_folders_above_and_the_owned_ones_are_minded_too(service):
    above, below = service.etc / "a", service.etc / "a/b/c"
    given = {"managed_folders": [str(above)], "unit": None}
    deep = service.file(path=below / "app.conf")
    service.run(deep, **given)
    above.chmod(0o757)
    (above / "b").chmod(0o777)
    assert service.run(deep, **given)["folders_changed"] == [str(above), str(above / "b")]
    assert mode(above) == mode(above / "b") == 0o755


def test_a_folder_of_the_service_gets_its_mode_where_it_is_there(service, tmp_path):
    theirs = {"path": str(tmp_path / "keys"), "mode": "0750", **service.me}
    assert service.run(service.file(), folders=[theirs])["folders_changed"] == []
    (tmp_path / "keys").mkdir(mode=0o777)
    assert service.run(service.file(), folders=[theirs])["folders_changed"] == [theirs["path"]]
    assert mode(tmp_path / "keys") == 0o750
    stranger = {**theirs, "owner": "nobody-of-the-name"}
    assert service.run(service.file(), folders=[stranger])["folders_changed"] == []


def test_a_link_in_the_place_of_a_folder_is_not_followed(service, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o777)
    service.etc.joinpath("more").symlink_to(tmp_path / "elsewhere")
    service.run(service.file(path=service.etc / "more/app.conf"))
    assert mode(tmp_path / "elsewhere") == 0o777
