#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the configuration of one systemd unit as declared: staged, tested, swapped, and running."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_config
short_description: Keep a service's whole configuration as declared, and the service running with it
description:
  - Renders nothing itself. It takes the whole configuration of one service as a list of files,
    writes it to a staging place, lets the service's own checker test it there, swaps changed
    files in by renaming, and reloads or restarts the unit once, as the changed files need.
  - If the checker refuses, the live files and the running service are untouched. If the service
    does not accept the files after the swap, the old files are put back and the old state restored.
  - If the running service does not have the declared configuration, because a run was killed
    between swap and reload or because someone edited a file, that is noticed and mended, without a
    change to the files.
options:
  unit:
    description: The systemd unit. Without it only the files are kept.
    type: str
  files:
    description: Every file of the configuration.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The text, which ends in one newline whatever is given.
        type: str
        required: true
      mode:
        description: Octal permissions.
        type: str
        default: "0644"
      owner:
        description: User name.
        type: str
        default: root
      group:
        description: Group name.
        type: str
        default: root
      apply:
        description: What makes the running service take a change of this file.
        type: str
        choices: [none, reload, restart]
        default: restart
  owns:
    description: Folders that hold nothing but O(files). What else is found in them is removed.
    type: list
    elements: path
    default: []
  keeps:
    description: Glob patterns of paths under O(owns) that are left alone.
    type: list
    elements: str
    default: []
  folders:
    description: >-
      Folders of the service beside O(files), which are brought to this owner and mode where they are there. Those that hold
      O(files), the ones above, and O(owns) with all below need not be named: they belong to root, or to the owner of a file in
      them; nobody else writes into them, save the group of such a file, and any group where the set-group bit is set; and where
      a file is for everybody, everybody may enter, unless the folder is of another group than root's.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      mode:
        description: Octal permissions.
        type: str
        default: "0755"
      owner:
        description: User name.
        type: str
        default: root
      group:
        description: Group name.
        type: str
        default: root
  first_contact:
    description: >-
      Whether O(owns) may hold files of others when this host is met first. They are refused then, each by its name,
      or with O(take_over) a dated copy of the folder is kept in C(/var/lib/webstack/copies) before anything changes.
    type: bool
    default: false
  take_over:
    description: Whether folders that hold files of others are taken, see O(first_contact).
    type: bool
    default: false
  watch:
    description: Files that others write and that the service reads, by what makes it take a change.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      apply:
        description: What makes the running service take a change of this file.
        type: str
        choices: [reload, restart]
        default: restart
  check:
    description: >-
      The service's own checker as argument list. C({root}) stands for the staging place, in which
      every file has its full path. It passes with exit code 0.
    type: list
    elements: str
    default: []
  probe:
    description: >-
      A command that passes, with exit code 0, as long as the running service has what it was given.
      Where it does not, as when somebody has changed the service behind its files, the unit is reloaded.
    type: list
    elements: str
    default: []
  confirm:
    description: A question to the running service that proves that it has the new configuration.
    type: dict
    suboptions:
      url:
        description: An address on the host.
        type: str
        required: true
      text:
        description: The answer to expect.
        type: str
        required: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: The service's own checker runs. Where it is not installed yet, files are not checked.
  diff_mode:
    support: full
    details: A file that not everybody on the host may read is named, and not shown.
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Configure | Keep the journal within bounds
  foobar.webstack.service_config:
    unit: systemd-journald.service
    files:
      - path: /etc/systemd/journald.conf.d/webstack.conf
        content: "{{ lookup('ansible.builtin.template', 'journald.conf.j2') }}"
"""

RETURN = r"""
files_changed:
  description: Paths written or removed.
  type: list
  elements: str
  returned: always
folders_changed:
  description: Folders that got another owner or mode.
  type: list
  elements: str
  returned: always
action:
  description: What was done to the unit, one of none, start, reload, restart.
  type: str
  returned: always
copies:
  description: Where copies of what O(owns) held at the first contact are.
  type: list
  elements: str
  returned: when there are some
"""

import contextlib
import datetime
import fnmatch
import grp
import hashlib
import json
import os
import pwd
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils.ownership import is_ours, sign, strangers, take

STAMPS = Path("/run/webstack")  # gone after a reboot, as are the processes that it speaks of
UNIT_FOLDER = "/etc/systemd/system/"
CONFIRM_SECONDS = 10
STARTING_SECONDS = 15
PROPERTIES = "LoadState,ActiveState,InvocationID,ExecMainStartTimestamp,InactiveExitTimestamp,StateChangeTimestamp,ReloadResult,NeedDaemonReload,UnitFileState"


@dataclass(frozen=True)
class Entry:
    """A file as it is or shall be. Owners are names where the host knows them, else numbers."""

    content: bytes
    mode: int
    owner: str
    group: str
    changed_at: float = 0.0  # seconds since the epoch; not part of what is compared

    def same_as(self, other: Entry | None) -> bool:
        return other is not None and self.key() == other.key()

    def key(self) -> tuple[bytes, int, str, str]:
        return (self.content, self.mode, self.owner, self.group)


# What stood at a path: a file, the target of a link, or nothing.
Before = dict[str, "Entry | str | None"]


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def read(path: str) -> Entry | None:
    """The regular file at `path`; None where there is none (a link or a folder is not one)."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Entry(
        content, stat.S_IMODE(status.st_mode), user_name(status.st_uid), group_name(status.st_gid), status.st_ctime
    )


def user_id(name: str) -> int:
    return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def write(path: str, entry: Entry) -> None:
    """Replace `path` by `entry` in one rename, durable before it is visible."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(f"{path} is a folder, a file is wanted there")
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(entry.content)
            os.fchown(descriptor, user_id(entry.owner), group_id(entry.group))
            os.fchmod(descriptor, entry.mode)
            handle.flush()
            os.fsync(descriptor)
        os.replace(fresh, target)
    except BaseException:
        fresh.unlink(missing_ok=True)  # on a full disk, `restore` needs the room
        raise


def wanted_files(files: list[dict[str, Any]]) -> dict[str, Entry]:
    wanted = {}
    for item in files:
        content = item["content"].rstrip("\n") + "\n"
        wanted[item["path"]] = Entry(content.encode(), int(item["mode"], 8), item["owner"], item["group"])
    return wanted


def undeclared(owns: list[str], keeps: list[str], wanted: dict[str, Entry]) -> list[str]:
    """Paths below `owns` that nobody declared, files before the folders that held them."""
    parents = {str(parent) for path in wanted for parent in Path(path).parents}
    found = []
    for folder in owns:
        for base, folders, names in os.walk(folder, topdown=False):
            links = [name for name in folders if os.path.islink(os.path.join(base, name))]
            for name in names + links:
                found.append(os.path.join(base, name))
            if base != folder and base not in parents:
                found.append(base)
    kept = {path for path in found if any(fnmatch.fnmatch(path, pattern) for pattern in keeps)}
    kept |= {str(parent) for path in kept for parent in Path(path).parents}
    return [path for path in found if path not in wanted and path not in kept]


def owned_folders(owns: list[str], keeps: list[str]) -> list[str]:
    """The folders in `owns` and below, but none that others keep something in."""
    found = [base for folder in owns for base, _folders, _names in os.walk(folder)]
    return [base for base in found if not any(fnmatch.fnmatch(f"{base}/x", pattern) for pattern in keeps)]


@dataclass(frozen=True)
class Owned:
    """Whose a folder is, and its permissions."""

    user: int
    group: int
    mode: int

    def __str__(self) -> str:
        return f"{user_name(self.user)}:{group_name(self.group)} {self.mode:04o}"


def owned(path: str) -> Owned | None:
    """Of a folder; None where there is none, or a link."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Owned(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) if stat.S_ISDIR(status.st_mode) else None


def wrong_folders(
    folders: list[dict[str, Any]], owns: list[str], wanted: dict[str, Entry]
) -> dict[str, tuple[Owned, Owned]]:
    """Folders that others can change, or that keep out who may read what is in them: as they are, and as they shall be.

    Whoever may write into a folder may put another file in the place of one that is root's.
    """
    open_to_all = {str(Path(path).parent) for path, entry in wanted.items() if entry.mode & 0o004}
    minded = {str(parent) for path in wanted for parent in Path(path).parents} | set(owns)
    ours = (user_name(0), user_name(os.geteuid()))
    found = {}
    for path in sorted(minded):
        if now := owned(path):
            # What a service writes itself may be in a folder of its user's, or of its group's.
            below = [entry for name, entry in wanted.items() if name.startswith(path.rstrip("/") + "/")]
            group_writes = group_name(now.group) in {entry.group for entry in below} - {group_name(0)}
            # Debian makes /usr/local a group's on purpose, and /tmp everybody's; a package may keep a folder for its group.
            others = 0o002 if now.mode & stat.S_ISGID or group_writes else 0o022
            others = 0 if now.mode & stat.S_ISVTX else others
            opened = 0o755 if path in open_to_all and now.group in (0, os.getegid()) else 0
            keeps_user = user_name(now.user) in {*ours, *(entry.owner for entry in below)}
            right = Owned(now.user if keeps_user else 0, now.group, now.mode & ~others | opened)
            found[path] = (now, right)
    for item in folders:
        if now := owned(item["path"]):
            with contextlib.suppress(KeyError):  # in check mode, the user of a package that is still to come
                right = Owned(user_id(item["owner"]), group_id(item["group"]), int(item["mode"], 8))
                found[item["path"]] = (now, right)
    return {path: (now, right) for path, (now, right) in found.items() if now != right}


class Unit:
    """What systemd says of one unit. An absent unit (check mode on a bare host) is not running."""

    def __init__(self, module: AnsibleModule, name: str) -> None:
        self.module, self.name = module, name
        self.enabled_here = False  # by this run
        self.stamp_file = STAMPS / f"{name}.json"
        self.read_state()
        # Just after a boot it may be about to run: then there is nothing to start.
        deadline = time.monotonic() + STARTING_SECONDS
        while self.starting and time.monotonic() < deadline:
            time.sleep(0.2)
            self.read_state()

    def read_state(self) -> None:
        argv = ["systemctl", "show", "--timestamp=us+utc", f"--property={PROPERTIES}", self.name]
        _rc, out, _err = self.module.run_command(argv, environ_update={"LC_ALL": "C"})
        state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        self.exists = state.get("LoadState") == "loaded"
        self.running = state.get("ActiveState") in ("active", "reloading")
        self.starting = state.get("ActiveState") == "activating"
        self.invocation = state.get("InvocationID", "")
        self.needs_daemon_reload = state.get("NeedDaemonReload") == "yes"
        self.disabled = state.get("UnitFileState") == "disabled"
        # A timer has no main process; it has what was there when it began.
        started = state.get("ExecMainStartTimestamp") or state.get("InactiveExitTimestamp", "")
        self.started_at = _seconds(started)
        # Every reload is a change of state, whoever gave it, one that failed too.
        reloaded = state.get("ReloadResult", "success") == "success"
        self.state_changed_at = _seconds(state.get("StateChangeTimestamp", "")) if reloaded else 0.0

    def systemctl(self, *argv: str) -> str:
        """Runs systemctl; returns its complaint, empty when all is well."""
        rc, out, err = self.module.run_command(["systemctl", *argv])
        return "" if rc == 0 else (err or out).strip() or f"systemctl {' '.join(argv)}: exit code {rc}"

    def last_words(self) -> str:
        _rc, out, _err = self.module.run_command(
            ["journalctl", "--unit", self.name, "--lines", "15", "--no-pager", "--output", "cat"]
        )
        return out.strip()

    def stamp(self) -> dict[str, Any]:
        """What this process was last given, by this module; empty for any other process."""
        try:
            stamp = json.loads(self.stamp_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return stamp if stamp.get("invocation") == self.invocation else {}

    def write_stamp(self, digests: dict[str, str]) -> None:
        STAMPS.mkdir(mode=0o700, exist_ok=True)
        stamp = {"invocation": self.invocation, "time": time.time(), **digests}
        write(str(self.stamp_file), Entry(json.dumps(stamp).encode(), 0o600, "root", "root"))


def _seconds(timestamp: str) -> float:
    """Seconds since the epoch of systemd's `Mon 2026-01-05 10:11:12.123456 UTC`; 0 where there is none."""
    _weekday, _blank, moment_of_day = timestamp.partition(" ")  # strptime knows weekdays in its own locale only
    try:
        moment = datetime.datetime.strptime(moment_of_day, "%Y-%m-%d %H:%M:%S.%f UTC")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=datetime.UTC).timestamp()


class Configuration:
    """The declared files of one service beside the files on the disk."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.wanted = wanted_files(params["files"])
        self.apply = {item["path"]: item["apply"] for item in params["files"]}
        self.live = {path: read(path) for path in self.wanted}
        self.doomed = undeclared(params["owns"], params["keeps"], self.wanted)
        self.changed = [path for path, entry in self.wanted.items() if not entry.same_as(self.live[path])]
        # Who renews certificates often replaces a link.
        self.watched = {item["path"]: read(os.path.realpath(item["path"])) for item in params["watch"]}
        self.apply.update({item["path"]: item["apply"] for item in params["watch"] if item["apply"] == "restart"})
        self.reloaded = [item["path"] for item in params["watch"] if item["apply"] == "reload"]
        self.folders = owned_folders(params["owns"], params["keeps"])
        self.wrong_folders = wrong_folders(params["folders"], self.folders, self.wanted)

    def _paths(self, level: str) -> list[str]:
        return sorted(path for path, apply in self.apply.items() if apply == level)

    def digests(self) -> dict[str, str]:
        """One digest for what a restart loads, one for what a reload loads."""
        result = {}
        for level in ("restart", "reload"):
            digest = hashlib.sha256()
            for path in self._paths(level):
                entry = self.wanted.get(path) or self.watched.get(path)
                digest.update(repr((path, entry.key() if entry else None)).encode())
            result[level] = digest.hexdigest()
        return result

    def changed_at(self, level: str) -> float:
        """When the newest file of this level changed; infinite where one is about to."""
        if any(self.apply[path] == level for path in self.changed) or (level == "reload" and self.doomed):
            return float("inf")
        times = [
            entry.changed_at for path in self._paths(level) if (entry := self.live.get(path) or self.watched.get(path))
        ]
        # A file that was removed shows in its folder alone.
        times += [os.stat(folder).st_ctime for folder in self.folders if level == "reload"]
        return max(times, default=0.0)

    def reloaded_files_changed_at(self) -> float:
        """When the newest of the watched files that a reload loads changed, or the link to it."""
        times = [entry.changed_at for path in self.reloaded if (entry := self.watched[path])]
        times += [os.lstat(path).st_ctime for path in self.reloaded if os.path.lexists(path)]
        return max(times, default=0.0)

    def swap(self, before: Before) -> None:
        """Puts the declared files in place; notes in `before` what stood there, for `restore`.

        Folders first, and these stay: nothing that works needs them open to others.
        """
        for path, (_now, right) in self.wrong_folders.items():
            os.chown(path, right.user, right.group, follow_symlinks=False)
            os.chmod(path, right.mode)
        for path in self.changed:
            stood = link_target(path) or self.live[path]
            write(path, self.wanted[path])
            before[path] = stood
        for path in self.doomed:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                before[path] = link_target(path) or read(path)
                os.unlink(path)

    def diffs(self) -> list[dict[str, str]]:
        result = [
            {"before_header": path, "after_header": path, "before": f"# {now}\n", "after": f"# {right}\n"}
            for path, (now, right) in self.wrong_folders.items()
        ]
        for path in self.changed + self.doomed:
            before, after = read(path), self.wanted.get(path)
            result.append(
                {
                    "before_header": path,
                    "after_header": path,
                    "before": _shown(before),
                    "after": _shown(after),
                }
            )
        return result


def _shown(entry: Entry | None) -> str:
    if entry is None:
        return ""
    head = f"# {entry.owner}:{entry.group} {entry.mode:04o}\n"
    if not entry.mode & 0o004:
        return head + "# not shown: not everybody on the host may read it\n"
    return head + entry.content.decode(errors="replace")


def link_target(path: str) -> str | None:
    """Where a symbolic link leads; None for anything else."""
    return os.readlink(path) if os.path.islink(path) else None


def restore(before: Before) -> None:
    for path, entry in before.items():
        if isinstance(entry, Entry):
            write(path, entry)
            continue
        Path(path).unlink(missing_ok=True)
        if entry is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(entry, path)


def next_action(unit: Unit, config: Configuration, probe: list[str]) -> str:
    """What the unit needs so that the running process has the declared configuration.

    A process reads what a restart loads when it starts, and never again: if this module started
    it, the stamp says with what; otherwise it is right when it started after the last change.
    A reload may have been given by anybody at any time, so there the stamp must be the younger.
    What can be changed without a file, the probe finds out.
    """
    if not unit.running:
        return "start"
    stamp, digests = unit.stamp(), config.digests()
    if stamp.get("restart") != digests["restart"] and unit.started_at <= config.changed_at("restart"):
        return "restart"
    reload_at = config.changed_at("reload")
    stamped = stamp.get("reload") == digests["reload"] and stamp["time"] > reload_at
    if not stamped and unit.started_at <= reload_at:
        return "reload"
    # Who writes a watched file often gives the reload, too.
    if max(unit.started_at, unit.state_changed_at) <= config.reloaded_files_changed_at():
        return "reload"
    if probe and unit.module.run_command(probe)[0] != 0:
        return "reload"
    return "none"


def run_check(module: AnsibleModule, argv: list[str], config: Configuration) -> None:
    """Stages every file and runs the service's own checker on them; fails with its words."""
    if not argv:
        return
    checker = module.get_bin_path(argv[0], opt_dirs=["/usr/sbin", "/usr/local/sbin"])
    if module.check_mode and (checker is None or None in config.watched.values()):
        return  # of a run on a bare host, where the package and the watched files would have come first
    # Removed at once: without pipelining, the folder around it is a user's, who could not remove root's files.
    with tempfile.TemporaryDirectory(prefix="stage-", dir=module.tmpdir) as root:
        for path, entry in config.wanted.items():
            staged = Path(root, path.lstrip("/"))
            staged.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(entry.content)
        rc, out, err = module.run_command([checker or argv[0]] + [part.replace("{root}", root) for part in argv[1:]])
    if rc != 0:
        words = "\n".join(part.strip() for part in (out, err) if part.strip()).replace(root, "")
        module.fail_json(
            msg=f"{argv[0]} refuses the new configuration; the live one is untouched and goes on serving.\n{words}"
        )


def confirmed(confirm: dict[str, str] | None) -> bool:
    """Whether the running service gives the expected answer, within some seconds."""
    if confirm is None:
        return True
    # Not above: they take as long as all other imports together, and only a change needs them.
    import http.client
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + CONFIRM_SECONDS
    while time.monotonic() < deadline:
        try:
            with opener.open(confirm["url"], timeout=2) as answer:
                if answer.read(4096).decode(errors="replace").strip() == confirm["text"]:
                    return True
        except (OSError, http.client.HTTPException):  # another program may have the port, and its own words
            pass
        time.sleep(0.1)
    return False


def bring_up(unit: Unit, action: str, config_changed: list[str], confirm: dict[str, str] | None) -> str:
    """Makes the unit take the files on the disk; returns a complaint, empty when all is well."""
    if unit.needs_daemon_reload or any(path.startswith(UNIT_FOLDER) for path in config_changed):
        unit.systemctl("daemon-reload")
        unit.read_state()
    if unit.disabled:
        complaint = unit.systemctl("enable", unit.name)
        if complaint:
            return complaint
        unit.enabled_here = True
    if action == "none":
        return ""
    if action in ("start", "restart"):
        unit.systemctl("reset-failed", unit.name)  # fails for a unit that never failed
    complaint = unit.systemctl(action, unit.name)
    unit.read_state()
    if complaint or not unit.running:
        return complaint or f"{unit.name} stopped right after its {action}"
    if not confirmed(confirm):
        return f"{unit.name} runs, but not with the new configuration ({CONFIRM_SECONDS} s after its {action})"
    return ""


def untaken(module: AnsibleModule) -> dict[str, list[str]]:
    """The owned folders that are met for the first time, each with what others have in it; refused without a word."""
    params = module.params
    if not params["first_contact"]:
        return {}
    met = [folder for folder in params["owns"] if not is_ours(folder, params["unit"] or "")]
    found = {folder: strangers(folder, params["keeps"]) for folder in met}
    for folder, paths in found.items():
        if paths and not params["take_over"]:
            module.fail_json(
                msg=f"{folder} holds what somebody else has put there: {', '.join(paths)}. Nothing was changed."
            )
    return found


def take_folders(module: AnsibleModule, found: dict[str, list[str]]) -> list[str]:
    """Makes the owned folders this module's, before the first file in them changes; returns the copies."""
    copies = [take(folder, keep_copy=bool(paths)) for folder, paths in found.items()]
    if module.params["first_contact"]:
        for folder in module.params["owns"]:
            if not sign(folder).exists():  # a host of a version without signs
                take(folder, keep_copy=False)
    for copy in filter(None, copies):
        module.warn(f"what somebody else had put there before this run is kept in {copy}")
    return [copy for copy in copies if copy]


def apply(module: AnsibleModule, unit: Unit | None, config: Configuration, action: str) -> None:
    before: Before = {}
    try:
        config.swap(before)
    except (OSError, KeyError) as error:  # a full disk, a folder in the way, an unknown owner
        restore(before)
        module.fail_json(msg=f"The configuration could not be written, the old files are back: {error}")
    if unit is None:
        return
    was_running = unit.running
    complaint = bring_up(unit, action, list(before), module.params["confirm"])
    if complaint:
        words = unit.last_words()
        if unit.enabled_here and not was_running:
            unit.systemctl("disable", unit.name)  # while its file is there, or the link would be left
        restore(before)
        back = bring_up(unit, action if was_running else "none", list(before), None) if before else complaint
        state = (
            "The previous configuration is back, and the service runs with it."
            if was_running and not back
            else (f"{unit.name} does not run now." if before or not unit.running else "No file was changed.")
        )
        module.fail_json(msg=f"{complaint}\n{state}\nIts last words:\n{words}")
    unit.read_state()
    unit.write_stamp(config.digests())


def main() -> None:
    file_spec = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str", "required": True},
        "mode": {"type": "str", "default": "0644"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "apply": {"type": "str", "default": "restart", "choices": ["none", "reload", "restart"]},
    }
    folder_spec = {
        "path": {"type": "path", "required": True},
        "mode": {"type": "str", "default": "0755"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    watch_spec = {
        "path": {"type": "path", "required": True},
        "apply": {"type": "str", "default": "restart", "choices": ["reload", "restart"]},
    }
    confirm_spec = {"url": {"type": "str", "required": True}, "text": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str"},
            "files": {"type": "list", "elements": "dict", "required": True, "options": file_spec},
            "owns": {"type": "list", "elements": "path", "default": []},
            "keeps": {"type": "list", "elements": "str", "default": []},
            "folders": {"type": "list", "elements": "dict", "default": [], "options": folder_spec},
            "first_contact": {"type": "bool", "default": False},
            "take_over": {"type": "bool", "default": False},
            "watch": {"type": "list", "elements": "dict", "default": [], "options": watch_spec},
            "check": {"type": "list", "elements": "str", "default": []},
            "probe": {"type": "list", "elements": "str", "default": []},
            "confirm": {"type": "dict", "options": confirm_spec},
        },
        supports_check_mode=True,
    )
    params = module.params
    os.umask(0o022)  # folders that are made are for everybody to enter, whatever the host's habit
    met = untaken(module)
    config = Configuration(params)
    unit = Unit(module, params["unit"]) if params["unit"] else None
    action = next_action(unit, config, params["probe"]) if unit else "none"
    files_changed = config.changed + config.doomed
    result: dict[str, Any] = {
        "changed": bool(files_changed or config.wrong_folders or action != "none" or (unit and unit.disabled)),
        "files_changed": files_changed,
        "folders_changed": list(config.wrong_folders),
        "action": action,
    }
    if module._diff:
        result["diff"] = config.diffs()
    if files_changed or action != "none":
        run_check(module, params["check"], config)
    if not module.check_mode:
        if copies := take_folders(module, met):
            result["copies"] = copies
        if result["changed"]:
            apply(module, unit, config, action)
        elif unit and not unit.stamp():
            unit.write_stamp(config.digests())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
