# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.app_preflight: asks early what would refuse the application after other changes.

One shell on the host answers, and a second one only where the host is about to fetch something.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.plugin_utils import app_accounts
from ansible_collections.foobar.webstack.plugins.plugin_utils.clone import Clone
from ansible_collections.foobar.webstack.plugins.plugin_utils.git_host import Question
from ansible_collections.foobar.webstack.plugins.plugin_utils.refusals import refused
from ansible_collections.foobar.webstack.plugins.plugin_utils.shell import run_script

# Names of folders in /etc, /srv, /run and /var/lib of Debian, or of packages that may be installed later.
FOLDERS = frozenset((
    "alternatives", "apache2", "apparmor", "avahi", "bind", "binfmt", "ca-certificates", "certbot", "chrony", "clamav",
    "cloud", "containerd", "credentials", "credstore", "cups", "dbus", "dhcp", "docker", "dovecot", "emacs", "environment",
    "exim4", "fail2ban", "firewalld", "fonts", "fstab", "git", "gitlab-runner", "grafana", "group", "grub", "gshadow",
    "gss", "haproxy", "hostname", "hosts", "init", "initramfs-tools", "initctl", "inputrc", "iproute2", "issue", "jenkins",
    "keepalived", "kernel", "knot", "letsencrypt", "log", "logcheck", "logrotate", "lvm", "lynis", "machine-id", "magic",
    "mailcap", "memcached", "misc", "modules", "monit", "motd", "mount", "mtab", "munin", "netconfig", "netplan", "network",
    "networkmanager", "networks", "nftables", "nscd", "openvpn", "opt", "pam", "passwd", "perl", "php", "pki", "polkit-1",
    "postfix", "postgresql", "postgresql-common", "ppp", "private", "profile", "prometheus", "protocols", "python",
    "python3", "rabbitmq", "redis", "resolvconf", "rmt", "rpc", "rsyslog", "runit", "samba", "sasl2", "screen", "security",
    "selinux", "services", "setrans", "shadow", "shells", "shm", "skel", "snmp", "sshd", "stunnel", "subgid", "subuid",
    "sudo", "supervisor", "sv", "sysctl", "sysstat", "terminfo", "texmf", "tomcat10", "tor", "ucf", "udev", "udisks2",
    "ufw", "unattended-upgrades", "user", "utmp", "varnish", "vim", "wireguard", "xattr", "xdg", "xml", "zabbix", "zsh",
))  # fmt: skip
# Names of Debian's template units: an application's slots are instances of <name>@.service.
UNITS = frozenset((
    "autovt", "awstats", "capsule", "container-getty", "dhcpcd", "e2scrub", "getty", "haproxy", "ifup", "iscsi",
    "lvm2-pvscan", "mariadb", "mdadm-grow-continue", "memcached", "modprobe", "mysql", "openvpn", "openvpn-client",
    "openvpn-server", "pg-basebackup", "pg-dump", "pg-receivewal", "postgresql", "quotaon", "redis-sentinel",
    "redis-server", "serial-getty", "ssh", "sshd", "stunnel", "user", "user-runtime-dir", "uwsgi-app", "wg-quick",
    "wpa-supplicant", "xfs-scrub",
))  # fmt: skip
UNIT_FOLDERS = ("/usr/lib/systemd/system", "/usr/local/lib/systemd/system")
OWN_UNITS = "/etc/systemd/system"
# Transient units of a change, which have no file, unlike an application's template unit.
TRANSIENT = ("-deploy.service", "-migrate.service", "-notify.service", "-cool.service", "-cool.timer")


@dataclass
class Host:
    """What a host has under an application's name."""

    accounts: app_accounts.Accounts
    has_user: bool
    configured: bool  # a release.json is there
    units: list[str]  # units of this name that are not this role's
    places: list[str]  # folders of this name; this role's if it made the users
    left: list[str]  # paths that this role made and that are no longer declared
    declared: dict[str, str]  # the declaration of each release, by its name
    live: str
    rejected: list[str]
    groups: list[str]  # those of the wanted ones that exist
    packages: list[str]  # those of the wanted ones that are installed
    mounted: bool  # whether something is mounted where its releases share files

    def will_ship(self, declared: str) -> bool:
        """Whether a converge of this declaration ships code; the same rule as `plan` of webstack-release."""
        if self.declared.get(self.live) == declared:
            return False
        same = sorted(name for name, text in self.declared.items() if text == declared)
        return not (self.live and same and same[-1] in self.rejected)


class ActionModule(ActionBase):
    """Refuses; changes nothing."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                **{name: {"type": "str", "required": True} for name in ("app", "repository", "version", "declared")},
                "users": {"type": "list", "elements": "str", "required": True},
                "signers": {"type": "list", "elements": "str", "default": []},
                "groups": {"type": "list", "elements": "str", "default": []},
                "shared_storage": {"type": "bool", "default": False},
                "packages": {"type": "list", "elements": "str", "default": []},
                "known_hosts": {"type": "list", "elements": "str", "default": []},
                "environment": {"type": "dict", "default": {}},
                "ref": {"type": "str", "default": ""},
                "code": {"type": "bool", "default": True},
                "push": {"type": "bool", "default": False},
                "key": {"type": "str", "default": ""},
                "before": {"type": "dict", "default": {}},
            },
        )
        app = args["app"]
        said = run_script(self, question(app, args["users"], args["groups"], args["packages"]))["stdout"]
        host = read(app, args["users"], args["groups"], said)
        faults = [f"app_server_name: '{app}' will not do, because {why}" for why in strangers(app, host)]
        faults += group_faults(host, args["groups"], args["packages"])
        if args["shared_storage"] and not host.mounted:
            faults.append(
                f"app_server_shared_storage: nothing is mounted on /srv/{app}/shared of this host, whose files would be its own; "
                "mount the storage there that all hosts share, by /etc/fstab say"
            )
        ships = args["code"] and (bool(args["ref"]) or host.will_ship(args["declared"]))
        if args["push"] and args["code"]:
            faults += clone_faults(args, ships)
        elif ships and not args["push"]:
            faults += self._git_host_faults(args, host)
        left = [path for path in host.left if not (args["key"] and path.endswith("/deploy_key"))]
        answer = {"users_due": host.accounts.due, "left": left, "ships": ships}
        return {"apps": {**args["before"], app: answer}} | refused(
            "Role app_server", faults, task_vars or {}, "this host as it is"
        )

    def _git_host_faults(self, args: dict[str, Any], host: Host) -> list[str]:
        """Errors that a fetch on the host would have."""
        fetcher = args["users"][-1]
        question = Question(
            app=args["app"], repository=args["repository"], version=args["ref"] or args["version"], key=self._key(args["key"]),
            known_hosts=args["known_hosts"], environment=args["environment"],
            user="" if fetcher in host.accounts.missing else fetcher,
        )  # fmt: skip
        return question.faults(run_script(self, question.script()), input_of_version(args))

    def _key(self, path: str) -> str:
        """The text of the deploy key that the role copies to the host."""
        if not path:
            return ""
        return self._loader.get_text_file_contents(self._find_needle("files", path))


def question(app: str, users: list[str], groups: list[str], packages: list[str]) -> str:
    """A shell script that prints what the host has under the name. Lines of dashes separate the answers."""
    units = [f"{folder}/{app}{kind}" for folder in UNIT_FOLDERS for kind in ("@.service", *TRANSIENT, "-job-*")]
    units += [f"{OWN_UNITS}/{app}{kind}" for kind in TRANSIENT]
    places = " ".join(places_of(app))
    old = f"/etc/tmpfiles.d/{app}.conf"
    marks = f"/var/lib/{app}/releases"
    storage = f"/srv/{app}/shared"
    # dpkg is asked only if groups are declared: a package may create them.
    known = ""
    if groups:
        listed = (
            f"dpkg-query --show --showformat '${{db:Status-Status}} ${{Package}}\\n' {shlex.join(packages)} 2>/dev/null"
        )
        known = f"getent group {shlex.join(groups)}; {listed if packages else ':'}"
    return "\n".join([
        app_accounts.question(users), "echo ---",
        f"ls -d {' '.join(units)} 2>/dev/null", "echo ---",
        # An empty folder may be used. One that is a mount point has a lost+found; storage may be mounted before the first run.
        f"storage=; if mountpoint --quiet {storage}; then storage={storage}; fi",
        f"for place in {places}; do",
        '  if [ ! -d "$place" ]; then ls -d "$place" 2>/dev/null',
        '  elif [ -n "$(find "$place/" -mindepth 1 -maxdepth 1 ! -name lost+found ! -path "$storage" -print -quit)" ]; then echo "$place"; fi',
        "done", "echo ---",
        f"grep -lsF 'run/{app}/live.sock' {old}", f"ls -d /etc/{app}/deploy_key /etc/{app}/release.json 2>/dev/null",
        'if [ "$storage" ]; then echo mounted; fi', "echo ---",
        known, "echo ---",
        f"readlink /srv/{app}/current", f"ls -d {marks}/*.rejected 2>/dev/null", f"grep -Hs . {marks}/*.json",
    ])  # fmt: skip


def places_of(app: str) -> list[str]:
    return [
        *(f"{parent}/{app}" for parent in ("/etc", "/srv", "/run", "/var/lib")),
        f"/etc/tmpfiles.d/webstack-{app}.conf", f"{OWN_UNITS}/{app}@.service",
    ]  # fmt: skip


def read(app: str, users: list[str], further: list[str], said: str) -> Host:
    """Parses the output of the script."""
    parts = [part.splitlines() for part in re.split(r"(?m)^---\n", said)]
    if len(parts) != 7:
        raise AnsibleActionFail(
            f"The host could not be asked what it has of {app}; nothing was changed.\n{said.strip()}"
        )
    passwd, groups, units, places, ours, brought, releases = parts
    live, rejected, declared = "", [], {}
    for line in releases:
        if line.endswith(".rejected"):
            rejected.append(line.rpartition("/")[2].removesuffix(".rejected"))
        elif line.startswith("/"):
            path, _colon, text = line.partition(":")
            declared[path.rpartition("/")[2].removesuffix(".json")] = _declared(text)
        else:
            live = line.rpartition("/")[2]
    return Host(
        accounts=app_accounts.read(users, passwd, groups, further),
        has_user=any(line.startswith(f"{app}:") for line in passwd),
        configured=f"/etc/{app}/release.json" in ours,
        units=units, places=places, mounted="mounted" in ours,
        left=[path for path in ours if path.startswith("/") and not path.endswith(".json")],
        declared=declared, live=live, rejected=rejected,
        groups=[line.partition(":")[0] for line in brought if ":" in line],
        packages=[line.removeprefix("installed ") for line in brought if line.startswith("installed ")],
    )  # fmt: skip


def _declared(text: str) -> str:
    try:
        return str(json.loads(text).get("declared", ""))
    except (ValueError, AttributeError):
        return ""  # cut off by a crash, so it describes no release


def strangers(app: str, host: Host) -> list[str]:
    """Why the name cannot be used on this host; empty if it can."""
    found = [f"{path} is part of the system" for path in host.units] + host.accounts.strange
    # This role has used the name before if its settings exist, or all three users.
    ours = host.configured or (host.has_user and host.accounts.missing == [])
    if ours or found:
        return found
    if host.has_user:
        return [f"this host has a user {app} who is somebody else's"]
    if host.places:
        return [f"{', '.join(host.places)} on this host is somebody else's: move it away, or choose another name"]
    if app in UNITS or app.startswith("systemd-"):
        return [f"{app}@.service is part of the system"]
    return [f"/etc/{app} or /var/lib/{app} is part of the system"] if app in FOLDERS else []


def group_faults(host: Host, groups: list[str], packages: list[str]) -> list[str]:
    """Faults for groups that do not exist. A package that is still to be installed may create them, so then there are none."""
    if set(packages) - set(host.packages):
        return []
    brings = (
        "of app_server_packages, which are all installed, none has made it"
        if packages
        else "app_server_packages is empty"
    )
    return [
        f"app_server_groups: there is no group '{group}' on this host, and {brings}. Name the package that makes it in "
        f"app_server_packages, make it first (groupadd --system {group}), or take it out of app_server_groups"
        for group in groups if group not in host.groups
    ]  # fmt: skip


def input_of_version(args: dict[str, Any]) -> str:
    return "app_server_ref" if args["ref"] else "app_server_version"


def clone_faults(args: dict[str, Any], ships: bool) -> list[str]:
    """What is wrong with the commit that app_push would send from the controller's clone, asked before any change."""
    clone, version = Clone(args["repository"]), args["ref"] or args["version"]
    what = f"{input_of_version(args)}: '{version}'"
    try:
        commit = clone.resolve(version)
    except AnsibleActionFail as error:
        return [
            f"{what} names no commit, or more than one, in the controller's clone {args['repository']} "
            f"(app_server_repository): {error}"
        ]
    # A commit that is live was checked when it was sent.
    try:
        if ships:
            clone.trust(commit, args["signers"])
            clone.look_whole(commit)
    except AnsibleActionFail as error:
        return [f"{what} cannot be sent: {error}"]
    return []
