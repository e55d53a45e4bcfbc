"""What listens on a host, from what ss and systemd say."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from loading import load

SS = """\
udp UNCONN 0 0 0.0.0.0:68 0.0.0.0:* users:(("dhclient",pid=300,fd=9))
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=301,fd=13))
udp UNCONN 0 0 0.0.0.0:5353 0.0.0.0:* users:(("avahi-daemon",pid=303,fd=12))
udp UNCONN 0 0 [::]:51820 [::]:*
udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:* users:(("systemd-network",pid=302,fd=20))
tcp LISTEN 0 128 0.0.0.0:2222 0.0.0.0:* users:(("sshd",pid=77,fd=3))
tcp LISTEN 0 128 [::]:2222 [::]:* users:(("sshd",pid=77,fd=4))
tcp LISTEN 0 128 127.0.0.1:6010 0.0.0.0:* users:(("sshd",pid=90,fd=9))
tcp LISTEN 0 128 0.0.0.0:8888 0.0.0.0:* users:(("sshd",pid=90,fd=10))
tcp LISTEN 0 511 *:80 *:* users:(("nginx",pid=80,fd=6),("nginx",pid=79,fd=6))
tcp LISTEN 0 80 [::1]:3306 [::]:* users:(("mariadbd",pid=81,fd=6))
tcp LISTEN 0 80 [::ffff:127.0.0.1]:3307 *:* users:(("java",pid=82,fd=6))
tcp LISTEN 0 5 192.0.2.7:9100 0.0.0.0:*
"""
UNITS = """\
Id=ssh.service
LoadState=loaded
ActiveState={service}
MainPID=77

Id=ssh.socket
LoadState=loaded
ActiveState={socket}
Listen=0.0.0.0:22 (Stream)
Listen=[::]:2022 (Stream)

Id=webstack-firewall.service
LoadState={firewall}
ActiveState=inactive
MainPID=0
"""


@pytest.fixture
def asked(command, capsys, monkeypatch):
    module = load("plugins/modules/listeners.py")
    warnings: list[str] = []
    monkeypatch.setattr(module.os, "makedirs", lambda *_args, **_more: None)
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda _self, text: warnings.append(text))

    def ask(declared=(), service="active", socket="inactive", firewall="not-found", sshd=True) -> dict[str, Any]:
        command("ss", f"cat <<'END'\n{SS}END\n")
        units = UNITS.format(service=service, socket=socket, firewall=firewall)
        command("systemctl", f"cat <<'END'\n{units}END\n")
        path = command("sshd", "echo port 22; echo port 2222; echo ciphers x")
        if not sshd:
            path.unlink()
            real = module.AnsibleModule.get_bin_path
            monkeypatch.setattr(
                module.AnsibleModule,
                "get_bin_path",
                lambda self, name, **more: None if name == "sshd" else real(self, name, **more),
            )
        with patch_module_args({"declared": list(declared)}), pytest.raises(SystemExit):
            module.main()
        return {**json.loads(capsys.readouterr().out.splitlines()[-1]), "warnings": warnings}

    return ask


def test_what_others_can_see_and_nobody_has_declared_is_warned_of(asked):
    outcome = asked()
    assert outcome["undeclared"][:3] == ["tcp *:80 (nginx)", "tcp 0.0.0.0:8888 (sshd)", "tcp 192.0.2.7:9100"]
    assert outcome["changed"] is False
    assert len(outcome["warnings"]) == 5 and "base_listening_expected" in outcome["warnings"][0]


def test_what_is_declared_is_no_surprise(asked):
    outcome = asked(declared=["80/tcp", "9100/tcp", "8888/tcp", "51820/udp", "5353/udp"])
    assert outcome["undeclared"] == outcome["in_use"] == outcome["warnings"] == []


def test_what_one_may_have_come_in_by_is_in_use_and_other_udp_is_not(asked):
    outcome = asked(declared=["80/tcp", "8888/tcp"])
    assert outcome["undeclared"] == ["tcp 192.0.2.7:9100", "udp 0.0.0.0:5353 (avahi-daemon)", "udp [::]:51820"]
    assert outcome["in_use"] == ["tcp 192.0.2.7:9100", "udp [::]:51820"]


def test_the_same_port_of_another_protocol_is_not_declared(asked):
    assert "tcp *:80 (nginx)" in asked(declared=["80/udp"])["undeclared"]


def test_sshd_has_the_ports_on_which_it_listens_and_will_listen(asked):
    """Not those that it forwards for somebody who has logged in."""
    assert asked()["ssh_ports"] == [22, 2222]
    assert asked()["ssh_unit"] == "ssh.service"


def test_where_systemd_listens_for_sshd_its_ports_are_those_of_the_socket(asked):
    outcome = asked(service="inactive", socket="active")
    assert (outcome["ssh_unit"], outcome["ssh_ports"]) == ("", [22, 2022, 2222])


def test_a_host_without_sshd_has_no_way_in_by_ssh(asked):
    outcome = asked(sshd=False, service="inactive")
    assert (outcome["sshd"], outcome["ssh_unit"], outcome["ssh_ports"]) == (False, "", [])


def test_whether_there_is_a_firewall_of_ours_is_said(asked):
    assert asked(firewall="loaded")["firewall"] is True
    assert asked()["firewall"] is False


def test_a_host_without_ss_is_asked_of_its_kernel():
    module = load("plugins/modules/listeners.py")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (found,) = [one for one in module.of_kernel() if one.port == server.getsockname()[1] and one.protocol == "tcp"]
    assert (found.address, found.pid, found.is_local()) == ("127.0.0.1", str(os.getpid()), True)


# What somebody else has on the host


@pytest.fixture
def host(tmp_path, monkeypatch):
    """The module with a host's files below a folder."""
    module = load("plugins/modules/listeners.py")
    drop_ins = tmp_path / "sshd_config.d"
    drop_ins.mkdir()
    for name, place in (
        ("SSHD", "sshd_config"), ("SSHD_SHIPPED", "shipped"), ("SSHD_DROP_INS", "sshd_config.d"),
        ("SSHD_OURS", "sshd_config.d/00-webstack.conf"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, tmp_path / place)
    (tmp_path / "shipped").write_text("Include /etc/ssh/sshd_config.d/*.conf\nX11Forwarding yes\n")
    (tmp_path / "sshd_config").write_text("Include /etc/ssh/sshd_config.d/*.conf\nX11Forwarding yes\n")
    return module, tmp_path


OURS = "# mine\nPasswordAuthentication no\nPermitRootLogin no\nX11Forwarding no\nKexAlgorithms -diffie-hellman-*\n"


def test_settings_of_sshd_as_debian_ships_them_are_nobodys(host):
    module, _root = host
    assert module.overruled(OURS) == []


def test_settings_of_others_that_would_have_no_effect_are_named(host):
    module, root = host
    mine = root / "sshd_config.d/50-cloud-init.conf"
    mine.write_text(
        "passwordauthentication\tyes\nAllowUsers=ann\nX11Forwarding no\nMatch User bob\nPermitRootLogin yes\n"
    )
    with (root / "sshd_config").open("a") as handle:
        handle.write("PermitRootLogin yes\n# PasswordAuthentication yes\n")
    assert module.overruled(OURS) == [
        f"{mine}: passwordauthentication yes",
        f"{root / 'sshd_config'}: PermitRootLogin yes",
    ]


def test_settings_that_cut_nobody_are_no_matter_and_what_the_role_has_set_before_is_none(host):
    """Debian's images for clouds set how long a client may be silent."""
    module, root = host
    with (root / "sshd_config").open("a") as handle:
        handle.write("ClientAliveInterval 120\nAllowTcpForwarding yes\n")
    declared = OURS + "ClientAliveInterval 300\nAllowTcpForwarding no\n"
    assert module.overruled(declared) == [f"{root / 'sshd_config'}: AllowTcpForwarding yes"]
    (root / "sshd_config.d/00-webstack.conf").write_text(OURS)  # of a version that did not set it
    assert module.overruled(declared) == [f"{root / 'sshd_config'}: AllowTcpForwarding yes"]
    (root / "sshd_config.d/00-webstack.conf").write_text(declared)
    assert module.overruled(declared) == []
