"""What roles backup and archive refuse."""

from __future__ import annotations

import base64
import re
import subprocess
from typing import Any

import pytest
import yaml
from loading import ROOT, load

module = load("plugins/filter/backup_faults.py")

PUBLIC = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32)).decode()
OTHER = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(31) + b"x").decode()
TARGET = {"host": "backup.example.com", "key_file": "/keys/www", "host_key": PUBLIC}
FULL = {
    "backup_target": {}, "backup_acknowledge": True, "backup_log_days": 7, "backup_repository": "/var/backups/webstack",
    "backup_passphrase": "a long passphrase", "backup_schedule": "*-*-* 03:00", "backup_keep": {"within": "30d", "daily": 14},
    "backup_paths": ["/srv/shop/shared"], "backup_files_schedule": "hourly",
}  # fmt: skip


def target_faults(**changed: Any) -> list[str]:
    return module.backup_faults({**FULL, "backup_target": {**TARGET, **changed}})


def full_faults(**changed: Any) -> list[str]:
    return module.backup_faults({**FULL, **changed})


def host_faults(*hosts: tuple[str, str]) -> list[str]:
    return module.archive_faults(
        {"archive_hosts": [{"name": name, "key": key} for name, key in hosts], "archive_keep_days": 30}
    )


def test_no_target_and_a_whole_one_are_taken():
    assert module.backup_faults(FULL) == []
    assert target_faults() == target_faults(host="2001:db8::7", user="keeper", port="2222") == []
    assert target_faults(host_key=f"{PUBLIC} root@backup") == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": ""}, "backup_target.host: required"),
        ({"key_file": ""}, "backup_target.key_file: required"),
        ({"host_key": ""}, "backup_target.host_key: required"),
        ({"host": "-oProxyCommand=id"}, "neither a name"),
        ({"host": "backup.example.com:22"}, "neither a name"),
        ({"user": "-l"}, "not the name of a user"),
        ({"user": "a@b"}, "not the name of a user"),
        ({"port": 0}, "backup_target.port: 0 is not between"),
        ({"host_key": "backup.example.com " + PUBLIC}, "not a public key"),
        ({"host_key": PUBLIC + "\n* " + PUBLIC}, "not a public key"),
        ({"host_key": PUBLIC.replace("ssh-ed25519 ", "ssh-rsa ")}, "not a public key"),
    ],
)
def test_a_target_that_cannot_be_reached_safely_is_refused(changed, words):
    assert words in " ".join(target_faults(**changed))


def test_hosts_with_a_name_and_a_key_each_are_taken():
    assert host_faults() == host_faults(("www.example.com", PUBLIC), ("db-2", OTHER + " a comment")) == []


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([("../etc", PUBLIC)], "archive_hosts[0].name"),
        ([("a..b", PUBLIC)], "archive_hosts[0].name"),
        ([("a b", PUBLIC)], "archive_hosts[0].name"),
        ([('x" ', PUBLIC)], "archive_hosts[0].name"),
        ([("A", PUBLIC)], "archive_hosts[0].name"),
        ([("a", PUBLIC), ("a", OTHER)], "archive_hosts[1].name: 'a' stands in archive_hosts[0] already"),
        ([("a", PUBLIC), ("b", PUBLIC + " again")], "archive_hosts[1].key: stands in archive_hosts[0] already"),
        ([("a", "-----BEGIN OPENSSH PRIVATE KEY-----")], "is a private key; the public one"),
        ([("a", 'command="sh" ' + PUBLIC)], "not a public key"),
        ([("a", PUBLIC + "\n" + OTHER)], "not a public key"),
        ([("a", "ssh-ed25519 AAAA")], "not a public key"),
    ],
)
def test_a_host_that_could_do_more_than_its_own_is_refused(hosts, words):
    assert words in " ".join(host_faults(*hosts))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-N", "", "-t", "ed25519"], ""),
        (["-N", "", "-t", "rsa"], ""),
        (["-N", "a passphrase", "-t", "ed25519"], "has a passphrase"),
        (["-N", "", "-t", "rsa", "-m", "PEM"], "not a private key in OpenSSH's format"),
    ],
)
def test_a_key_is_one_that_ssh_can_use_alone(tmp_path, arguments, words):
    subprocess.run(["ssh-keygen", "-q", "-f", tmp_path / "key", *arguments], check=True, stdin=subprocess.DEVNULL)
    found = module.backup_key_fault((tmp_path / "key").read_text(encoding="utf-8"))
    assert words in found and bool(found) == bool(words)


def test_what_is_no_key_is_refused():
    for text in ("", PUBLIC, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
        assert "not a private key" in module.backup_key_fault(text)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"backup_repository": "backups"}, "backup_repository: is neither"),
        ({"backup_repository": "sftp:a b"}, "backup_repository: is neither"),
        ({"backup_repository": "target"}, "backup_repository: 'target' is said, and there is no backup_target"),
        (
            {"backup_repository": "rest:https://web1:canary/part@backup.example.com/"},
            "backup_repository: the password in it has a /",
        ),
        ({"backup_passphrase": "too short"}, "backup_passphrase: is not one line"),
        ({"backup_passphrase": "two lines of it\nare too many"}, "backup_passphrase: is not one line"),
        ({"backup_passphrase": " a blank at its front"}, "backup_passphrase: is not one line"),
        (
            {"backup_repository": "sftp:keeper@backup.example.com:/srv", "backup_passphrase": ""},
            "backup_passphrase: required where the backups leave this host",
        ),
        ({"backup_schedule": "daily; reboot"}, "backup_schedule: "),
        ({"backup_files_schedule": ""}, "backup_files_schedule: '' is not a schedule"),
        ({"backup_paths": ["media"]}, "backup_paths: 'media' is not the path of a folder"),
        ({"backup_paths": ["/"]}, "backup_paths: '/' is not the path of a folder"),
        ({"backup_paths": ["/srv/../var"]}, "backup_paths: '/srv/../var' is not the path of a folder"),
        (
            {"backup_paths": ["/var/lib/mysql/shop"]},
            "backup_paths: '/var/lib/mysql/shop' and /var/lib/mysql lie in one another",
        ),
        (
            {"backup_paths": ["/var/backups"]},
            "backup_paths: '/var/backups' and /var/backups/webstack lie in one another",
        ),
        ({"backup_log_days": 0}, "backup_log_days: 0 is not between 1 and 365"),
        ({"backup_keep": {}}, "backup_keep: keeps nothing"),
        ({"backup_keep": {"within": "a while"}}, "backup_keep.within: 'a while'"),
        ({"backup_keep": {"daily": 0}}, "backup_keep.daily: 0 is less than 1"),
    ],
)
def test_full_backups_that_cannot_be(changed, words):
    found = full_faults(**changed)
    assert len(found) == 1 and found[0].startswith(words)
    assert (changed.get("backup_passphrase") or "canary") not in found[0]


def test_full_backups_that_can():
    assert (
        full_faults(backup_repository="s3:https://s3.example.com/b", backup_keep={"within": "1y6m", "yearly": "3"})
        == []
    )
    for address in ("https://web1:p%2F@ss@backup.example.com:8000/a@b/", "http://backup.example.com:8000/a@b"):
        assert full_faults(backup_repository=f"rest:{address}") == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"archive_keep_days": 0}, "archive_keep_days: 0 is less than 1"),
        (
            {"archive_hosts": [{"name": "www", "key": PUBLIC, "passphrase": "too short"}]},
            "archive_hosts[0].passphrase: is not one line",
        ),
    ],
)
def test_a_rule_that_cannot_be(changed, words):
    given = {"name": "www", "key": PUBLIC, "passphrase": "a long passphrase"}
    assert module.archive_faults({"archive_hosts": [given], "archive_keep_days": 30}) == []
    (found,) = module.archive_faults({"archive_hosts": [given], "archive_keep_days": 30, **changed})
    assert found.startswith(words)


def test_what_the_documentation_has_one_write_is_taken():
    """As it stands there, with whole keys; and backups can be thinned out at the target, too."""
    text = (ROOT / "docs/shipping.md").read_text(encoding="utf-8").replace("ssh-ed25519 AAAA…", PUBLIC)
    inventory, stand_alone = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[:2]
    plays = yaml.safe_load(stand_alone)
    roles = {role["role"]: role["vars"] for play in plays for role in play["roles"]}
    told = yaml.safe_load(inventory[inventory.index("# host_vars") :])
    for inputs in (told, {**roles["foobar.webstack.archive"], **roles["foobar.webstack.backup"]}):
        defaults = yaml.safe_load((ROOT / "roles/backup/defaults/main.yml").read_text(encoding="utf-8"))
        backup = {name: value for name, value in inputs.items() if name.startswith("backup_")}
        assert module.backup_faults({**defaults, **backup}) == []
        assert module.archive_faults({"archive_hosts": inputs["archive_hosts"], "archive_keep_days": 30}) == []
        assert [host["passphrase"] for host in inputs["archive_hosts"]] == [backup["backup_passphrase"]]
