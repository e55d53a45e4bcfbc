# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What roles backup and archive refuse beyond their argument specs."""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import domain_fault, is_address, is_port

USER = re.compile(r"[a-z][a-z0-9-]{0,31}")
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")
PUBLIC = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]{3}) ([A-Za-z0-9+/]+={0,2})( [ -~]*)?")
PUBLIC_FORM = "one line such as 'ssh-ed25519 AAAA…'"
PRIVATE = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END OPENSSH PRIVATE KEY-----\n?")
REPOSITORY = re.compile(r"(/|(sftp|rest|s3|b2|azure|gs|swift|rclone):)\S+")
PASSWORD_WITH_SLASH = re.compile(r"://[^/@:]*:(?![0-9]*/)[^/@]*/.*@")
SCHEDULE = re.compile(r"[A-Za-z0-9*,./:~ -]+")
WITHIN = re.compile(r"(?=.)([0-9]+y)?([0-9]+m)?([0-9]+d)?([0-9]+h)?")
OWN_REPOSITORY = "/var/backups/webstack"
# What the database and its backups keep there changes while it is read; the units of the backups have a /tmp of their own.
NOT_TO_SAVE = (
    "/var/lib/mysql", "/var/lib/mysql-binlog", "/var/lib/webstack-scratch", "/var/lib/webstack-backup", "/tmp", "/var/tmp", "/proc",
    "/sys", "/dev", "/run",
)  # fmt: skip
PASSPHRASE_LENGTH = 16
PASSPHRASE_FORM = f"one line of {PASSPHRASE_LENGTH} characters or more, without blanks at its ends"
OPEN = b"openssh-key-v1\0\0\0\0\4none"  # how a key without a passphrase begins


def backup_faults(inputs: dict[str, Any]) -> list[str]:
    """Every fault in the inputs of role backup."""
    target = _target_faults(inputs["backup_target"]) if inputs["backup_target"] else ()
    return [*target, *_full_faults(inputs)]


def _full_faults(inputs: dict[str, Any]) -> Iterator[str]:
    address, passphrase = str(inputs["backup_repository"]), inputs["backup_passphrase"]
    if address == "target" and not inputs["backup_target"]:
        yield "backup_repository: 'target' is said, and there is no backup_target"
    elif address not in ("", "target") and not REPOSITORY.fullmatch(address):
        yield "backup_repository: is neither target, nor an absolute path, nor an address of restic's, such as sftp:keeper@backup.example.com:/srv/restic"
    elif PASSWORD_WITH_SLASH.search(address):
        yield "backup_repository: the password in it has a /, which ends the name of the server there; say it as %2F"
    if not passphrase:
        if not address.startswith("/") and (address or inputs["backup_target"]):
            yield "backup_passphrase: required where the backups leave this host, such as a secret of the vault; without it nobody can read them"
    elif not _is_passphrase(passphrase):
        yield f"backup_passphrase: is not {PASSPHRASE_FORM}"
    if not SCHEDULE.fullmatch(str(inputs["backup_schedule"])):
        yield f"backup_schedule: '{inputs['backup_schedule']}' is not a schedule such as *-*-* 03:00"
    if not SCHEDULE.fullmatch(str(inputs["backup_files_schedule"])):
        yield f"backup_files_schedule: '{inputs['backup_files_schedule']}' is not a schedule such as hourly"
    for path in inputs["backup_paths"]:
        yield from _path_faults(path, address if address.startswith("/") else OWN_REPOSITORY)
    if not 1 <= int(inputs["backup_log_days"]) <= 365:
        yield f"backup_log_days: {inputs['backup_log_days']} is not between 1 and 365"
    rule = {name: value for name, value in inputs["backup_keep"].items() if value is not None}
    if not rule:
        yield "backup_keep: keeps nothing; say, for example, {within: 30d}"
    for name, value in rule.items():
        if name == "within" and not WITHIN.fullmatch(str(value)):
            yield f"backup_keep.within: '{value}' is not a time such as 30d or 1y6m"
        if name != "within" and int(value) < 1:
            yield f"backup_keep.{name}: {value} is less than 1"


def _path_faults(path: str, repository: str) -> Iterator[str]:
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/" or "\n" in path:
        yield f"backup_paths: '{path}' is not the path of a folder, such as /srv/shop/shared"
        return
    for own in (*NOT_TO_SAVE, repository.rstrip("/")):
        if f"{own}/".startswith(f"{path}/") or path.startswith(f"{own}/"):
            yield f"backup_paths: '{path}' and {own} lie in one another, and what is in that is not to be saved as files"


def _target_faults(target: dict[str, Any]) -> Iterator[str]:
    for name in ("host", "key_file", "host_key"):
        if not target.get(name):
            yield f"backup_target.{name}: required where there is a target"
    host = str(target.get("host") or "localhost.localdomain")
    if not is_address(host) and domain_fault(host):
        yield f"backup_target.host: '{host}' is neither a name such as backup.example.com nor an address"
    if not USER.fullmatch(str(target.get("user", "webstack-archive"))):
        yield f"backup_target.user: '{target['user']}' is not the name of a user"
    if not is_port(target.get("port", 22)):
        yield f"backup_target.port: {target['port']} is not between 1 and 65535"
    if target.get("host_key") and not _is_public(str(target["host_key"])):
        yield f"backup_target.host_key: is not a public key, {PUBLIC_FORM}"


def backup_key_fault(key: str) -> str:
    """What is wrong with a private key, as the end of a sentence that begins with its file; empty when nothing is."""
    found = PRIVATE.fullmatch(key)
    content = _decoded(found[1]) if found else b""
    if not content.startswith(OPEN[:15]):
        return "is not a private key in OpenSSH's format, as `ssh-keygen -t ed25519` writes it"
    return "" if content.startswith(OPEN) else "has a passphrase, which nobody would be there to give"


def archive_faults(inputs: dict[str, Any]) -> list[str]:
    """Every fault in the inputs of role archive."""
    found = list(_host_faults(inputs["archive_hosts"]))
    if int(inputs["archive_keep_days"]) < 1:
        found.append(f"archive_keep_days: {inputs['archive_keep_days']} is less than 1")
    return found


def _host_faults(hosts: list[dict[str, Any]]) -> Iterator[str]:
    names: dict[str, int] = {}
    keys: dict[str, int] = {}
    for index, host in enumerate(hosts):
        path, name, key = f"archive_hosts[{index}]", str(host["name"]), str(host["key"])
        if not HOST.fullmatch(name) or ".." in name:
            yield f"{path}.name: '{name}' is not made of lower case letters, digits, '.' and '-', a letter or digit at both ends"
        if name in names:
            yield f"{path}.name: '{name}' stands in archive_hosts[{names[name]}] already"
        names.setdefault(name, index)
        if (passphrase := host.get("passphrase")) and not _is_passphrase(passphrase):
            yield f"{path}.passphrase: is not {PASSPHRASE_FORM}"
        if "PRIVATE" in key:
            yield f"{path}.key: is a private key; the public one belongs here, {PUBLIC_FORM}"
        elif not _is_public(key):
            yield f"{path}.key: is not a public key, {PUBLIC_FORM}"
        else:
            bare = key.split(" ")[1]
            if bare in keys:
                yield f"{path}.key: stands in archive_hosts[{keys[bare]}] already; with one key, one host could write as the other"
            keys.setdefault(bare, index)


def _is_passphrase(text: str) -> bool:
    return len(text) >= PASSPHRASE_LENGTH and len(text.splitlines()) == 1 and text == text.strip()


def _is_public(line: str) -> bool:
    """Whether it is a public key that says of itself what it is."""
    found = PUBLIC.fullmatch(line)
    return bool(found) and _decoded(found[2])[4:].startswith(found[1].encode())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"backup_faults": backup_faults, "backup_key_fault": backup_key_fault, "archive_faults": archive_faults}
