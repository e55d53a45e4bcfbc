"""The judgement of sshd's settings: who would be locked out, and what has the last word."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from loading import load

DROP_IN = """\
# comment
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthenticationMethods publickey
KexAlgorithms -diffie-hellman-*
"""
# As `sshd -T` says it; the main file is what it was told to read.
SSHD = r"""
echo "$*" > "$SAID"
for last; do :; done
main=$(echo "$*" | sed 's/.*-f \([^ ]*\) .*/\1/')
folder=$(sed -n 's/^Include \(.*\)\*.conf$/\1/p' "$main")
echo "$folder" >> "$SAID"
if grep -qs nonsense "$folder"*.conf; then echo "Bad configuration option: nonsense" >&2; exit 255; fi
cat "$ANSWER"
"""
ANSWER = {
    "permitrootlogin": "no",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "authenticationmethods": "publickey",
    "authorizedkeysfile": ".ssh/authorized_keys /etc/keys/%u",
    "authorizedkeyscommand": "none",
    "trustedusercakeys": "none",
    "requiredrsasize": "2048",
}


@pytest.fixture
def host(tmp_path, monkeypatch, command, capsys):
    program = load("roles/base/files/sshd-check")
    etc, home = tmp_path / "etc/ssh", tmp_path / "home"
    (etc / "sshd_config.d").mkdir(parents=True)
    (home / ".ssh").mkdir(parents=True)
    stage = tmp_path / "stage"
    staged = stage / str(etc / "sshd_config.d/00-webstack.conf").lstrip("/")
    staged.parent.mkdir(parents=True)
    staged.write_text(DROP_IN, encoding="utf-8")
    main = etc / "sshd_config"
    main.write_text(f"Include {etc}/sshd_config.d/*.conf\nUsePAM yes\n", encoding="utf-8")
    sshd = command("sshd", SSHD)
    monkeypatch.setattr(program, "MAIN", main)
    monkeypatch.setattr(program, "FOLDER", str(etc / "sshd_config.d"))
    monkeypatch.setattr(program, "DROP_IN", str(etc / "sshd_config.d/00-webstack.conf"))
    monkeypatch.setattr(program.os, "makedirs", lambda *_args, **_more: None)
    real = program.which
    monkeypatch.setattr(program, "which", lambda name: str(sshd) if name == "sshd" else real(name))
    monkeypatch.setattr(
        program.pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 1000, 1000, "", str(home), "/bin/sh"))
    )
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("ANSWER", str(tmp_path / "answer"))

    def judge(user: str = "admin", client: str = "192.0.2.9", **answer: str) -> str:
        """What it complains of; empty when it passes."""
        lines = {**ANSWER, **answer}.items()
        (tmp_path / "answer").write_text("".join(f"{name} {value}\n" for name, value in lines), encoding="utf-8")
        monkeypatch.setattr(program.sys, "argv", ["sshd-check", str(stage), user, client])
        try:
            program.main()
        except SystemExit as refusal:
            return str(refusal.code)
        return ""

    return SimpleNamespace(
        judge=judge, etc=etc, main=main, staged=staged, keys=home / ".ssh/authorized_keys",
        said=lambda: (tmp_path / "said").read_text(encoding="utf-8").splitlines(),
    )  # fmt: skip


def key(folder: Path, kind: str = "ed25519", bits: int = 0) -> str:
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a comment (of mine)", "-f", str(folder / "key")]
    subprocess.run([*argv, *(["-b", str(bits)] if bits else [])], check=True)
    return (folder / "key.pub").read_text(encoding="utf-8")


def test_who_has_a_key_stays_in(host, tmp_path):
    host.keys.write_text('# keys\n\nno-pty,command="echo (RSA)" ' + key(tmp_path), encoding="utf-8")
    assert host.judge() == ""
    assert host.said()[0].endswith("-C user=admin,host=192.0.2.9,addr=192.0.2.9")


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "ssh-ed25519 broken\n"])
def test_who_has_none_would_be_locked_out(host, text):
    if text is not None:
        host.keys.write_text(text, encoding="utf-8")
    words = host.judge()
    assert "logs in as admin, who would be locked out" in words and f"{host.keys} or /etc/keys/admin" in words
    assert "ssh-copy-id" in words


@pytest.mark.parametrize(("bits", "passes"), [(1024, False), (2048, True)])
def test_an_rsa_key_must_be_long_enough(host, tmp_path, bits, passes):
    host.keys.write_text(key(tmp_path, "rsa", bits), encoding="utf-8")
    assert (host.judge() == "") == passes


def test_the_key_may_be_in_any_of_the_files(host, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "admin").write_text(key(tmp_path), encoding="utf-8")
    assert host.judge(authorizedkeysfile=f"{keys}/%u .ssh/authorized_keys2") == ""
    assert host.judge(authorizedkeysfile=f"{keys}/%U") != ""


@pytest.mark.parametrize("name", ["authorizedkeyscommand", "trustedusercakeys"])
def test_keys_that_come_from_elsewhere_cannot_be_judged(host, name):
    assert host.judge(**{name: "/usr/bin/keys"}) == ""


def test_root_is_not_locked_out_by_switching_root_off(host, tmp_path):
    host.keys.write_text(key(tmp_path), encoding="utf-8")
    words = host.judge(user="root")
    assert "set ansible_user" in words and "base_ssh_root_login: true" in words
    host.staged.write_text(DROP_IN.replace("PermitRootLogin no", "PermitRootLogin prohibit-password"), encoding="utf-8")
    assert host.judge(user="root", permitrootlogin="without-password") == ""


@pytest.mark.parametrize(("kind", "passes"), [("ed25519", True), ("rsa", True), ("ecdsa", False)])
def test_a_host_without_a_key_to_show_would_let_nobody_in(host, tmp_path, kind, passes):
    key(tmp_path, kind)
    words = host.judge(user="", hostkey=str(tmp_path / "key"), hostkeyalgorithms="ssh-ed25519,rsa-sha2-512")
    assert ("would show nobody a key" in words and "ssh-keygen -A" in words) != passes
    assert host.judge(user="", hostkey=str(tmp_path / "missing"), hostkeyalgorithms="ssh-ed25519") == ""


def test_nobody_is_asked_after_where_the_connection_is_another(host):
    assert host.judge(user="", client="") == ""


def test_what_another_file_has_decided_before_is_named(host):
    words = host.judge(passwordauthentication="yes", user="", client="")
    assert "passwordauthentication would be yes, not no" in words and "has the last word" in words


def test_a_main_file_that_does_not_read_the_folder_is_refused(host):
    host.main.write_text("UsePAM yes\n#Include /etc/ssh/sshd_config.d/*.conf\n", encoding="utf-8")
    assert "does not read" in host.judge()


def test_sshd_judges_the_whole_configuration_with_the_drop_in_to_come(host, tmp_path):
    host.keys.write_text(key(tmp_path), encoding="utf-8")
    (host.etc / "sshd_config.d/50-cloud.conf").write_text("X11Forwarding no\n", encoding="utf-8")
    (host.etc / "sshd_config.d/00-webstack.conf").write_text("nonsense of old\n", encoding="utf-8")
    assert host.judge() == ""
    assert host.said()[1] == f"{host.staged.parent}/"
    (host.etc / "sshd_config.d/60-mine.conf").write_text("nonsense\n", encoding="utf-8")
    assert "sshd says: Bad configuration option: nonsense" in host.judge()
