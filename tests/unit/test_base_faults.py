"""The checks of role base's lists of ports and addresses."""

from __future__ import annotations

from typing import Any

import pytest
from loading import load

base_faults = load("plugins/filter/base_faults.py").base_faults
GOOD: dict[str, Any] = {
    "base_firewall_open": [],
    "base_listening_expected": [],
    "base_ssh_from": [],
    "base_firewall_vrrp_from": [],
}


def test_ports_and_addresses_of_both_families_have_no_fault():
    ports = [
        {"port": 80},
        {"port": "443", "protocol": "udp"},
        {"port": 65535, "from": ["192.0.2.1", "2001:db8::/32"]},
    ]
    assert (
        base_faults(
            {
                **GOOD,
                "base_firewall_open": ports,
                "base_listening_expected": ports,
                "base_ssh_from": ["::1", "10.0.0.0/8"],
            }
        )
        == []
    )


@pytest.mark.parametrize(
    ("inputs", "path", "words"),
    [
        (
            {"base_ssh_options": {"PasswordAuthentication": "yes"}},
            "base_ssh_options.PasswordAuthentication",
            "takes a key",
        ),
        ({"base_ssh_options": {"permitrootlogin": "yes"}}, "base_ssh_options.permitrootlogin", "base_ssh_root_login"),
        ({"base_ssh_options": {"Match": "User a"}}, "base_ssh_options.Match", "/etc/ssh/sshd_config.d"),
        ({"base_ssh_options": {"maxauthtries": 3}}, "base_ssh_options.maxauthtries", "write it as MaxAuthTries"),
        ({"base_ssh_options": {"Allow Users": "a"}}, "base_ssh_options.Allow Users", "not the name"),
        ({"base_ssh_options": {"AllowUsers": "a\nPermitRootLogin yes"}}, "base_ssh_options.AllowUsers", "one line"),
        ({"base_ssh_options": {"AllowUsers": None}}, "base_ssh_options.AllowUsers", "one line"),
        ({"base_ssh_options": {"AllowUsers": ["a", {"b": 1}]}}, "base_ssh_options.AllowUsers", "one line"),
        ({"base_login_options": {"umask": "027"}}, "base_login_options.umask", "not the name"),
        ({"base_login_options": {"X'; reboot; '": "1"}}, "base_login_options.X'; reboot; '", "not the name"),
        ({"base_login_options": {"UMASK": "0 27"}}, "base_login_options.UMASK", "one word"),
        ({"base_login_options": {"USERGROUPS_ENAB": True}}, "base_login_options.USERGROUPS_ENAB", "in quotes"),
        ({"base_blocked_modules": ["sctp", "a /bin/b"]}, "base_blocked_modules[1]", "kernel module"),
        ({"base_idle_shell_seconds": "-1"}, "base_idle_shell_seconds", "0 for never"),
    ],
)
def test_what_a_file_could_not_hold_is_refused(inputs, path, words):
    (fault,) = base_faults({**GOOD, "__base_ssh_options": {"MaxAuthTries": 6}, **inputs})
    assert fault.startswith(f"{path}: ") and words in fault


def test_options_as_one_writes_them_have_no_fault():
    assert base_faults({**GOOD, "__base_ssh_options": {"MaxAuthTries": 6}, "base_ssh_options": {
        "MaxAuthTries": "3", "AllowUsers": ["a", "b@192.0.2.1"], "UseDNS": False, "MACs": ""},
        "base_login_options": {"UMASK": "077", "PASS_MAX_DAYS": 365}, "base_blocked_modules": ["usb-storage"]}) == []  # fmt: skip


@pytest.mark.parametrize("name", ["base_firewall_open", "base_listening_expected"])
@pytest.mark.parametrize("port", [0, 65536, -1, "http", "80; accept", "1e3", ""])
def test_what_is_no_port_is_refused(name, port):
    (fault,) = base_faults({**GOOD, name: [{"port": 80}, {"port": port}]})
    assert fault == f"{name}[1].port: {port} is not a port; ports are 1 to 65535"


@pytest.mark.parametrize(
    "address", ["", "example.com", "192.0.2.1/24", "1.2.3", "::1; accept", "0.0.0.0/0 accept", "10.0.0.1-10.0.0.9", 7.5]
)
def test_what_is_no_address_is_refused(address):
    faults = base_faults(
        {
            "base_firewall_open": [{"port": 1, "from": ["::1", address]}],
            "base_listening_expected": [],
            "base_ssh_from": [address],
            "base_firewall_vrrp_from": ["::1", address],
        }
    )
    paths = ["base_firewall_open[0].from[1]", "base_ssh_from[0]", "base_firewall_vrrp_from[1]"]
    assert [fault.split(":")[0] for fault in faults] == paths
    assert all("it must be an address, or a network such as" in fault for fault in faults)
