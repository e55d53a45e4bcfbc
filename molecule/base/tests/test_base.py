"""Role base: what every host needs before it serves anything."""

import re

import pytest
from scenario import each

INSTALL = "base : Install | Packages that every host needs"
FIREWALL = "base : Access | The firewall"
# Has a lock until somebody has tried to do what the lock is for.
HOLD = """
import fcntl, subprocess, sys, time
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
while subprocess.run(["pgrep", "--full", sys.argv[2]], stdout=subprocess.DEVNULL).returncode:
    time.sleep(0.02)
time.sleep(2)
"""


def test_packages_are_installed(server):
    for name in ("ca-certificates", "curl", "logrotate", "unattended-upgrades", "tree"):
        assert server.package(name).is_installed


def test_security_updates_would_install_themselves(server):
    settings = server.check_output("apt-config dump APT::Periodic")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'APT::Periodic::Update-Package-Lists "1";' in settings
    assert server.service("apt-daily-upgrade.timer").is_enabled
    assert (
        "security"
        in server.check_output("unattended-upgrade --dry-run --debug 2>&1 | grep -i 'allowed origins'").lower()
    )


@pytest.mark.parametrize("unit", ["webstack-firewall", "webstack-hardening"])
def test_the_roles_own_units_are_sandboxed(server, unit):
    words = server.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 3.0, words


def test_the_journal_is_bounded_and_survives_a_reboot(server):
    assert server.file("/var/log/journal").is_directory
    assert re.search(r"max 64(\.0)?M", server.check_output("journalctl --unit systemd-journald --no-pager"))


def test_kernel_settings_are_declared(server):
    for line in ("net.core.somaxconn = 4096", "kernel.core_pattern = |/bin/false"):
        assert line in server.file("/etc/sysctl.d/60-webstack.conf").content_string.splitlines()


def test_what_root_alone_reads_is_closed_for_others(server):
    closed = ("/etc/cron.daily", "/etc/ssh/sshd_config", "/root")
    said = server.run(f"su nobody -s /bin/sh -c 'cat {' '.join(closed)} 2>&1'").stdout
    assert said.count("Permission denied") == 3


def test_without_a_package_archive_nothing_has_to_change_and_a_missing_package_is_named(converge, servers):
    """At last the archive is there again for one host, which is told of a package that nobody has."""
    for server in servers:
        server.check_output(
            "printf 'Acquire::%s::Proxy \"http://127.0.0.1:9\";\\n' http https > /etc/apt/apt.conf.d/99gone"
            " && rm -rf /var/lib/apt/lists/*_*"
        )
    try:
        assert converge().must_succeed().changed == []
        servers[1].check_output("rm /etc/apt/apt.conf.d/99gone")
        told = each({"base_extra_packages": ["tree", "sl"]}, {"base_extra_packages": ["no-such-package-at-all"]})
        converge(**told).must_fail(
            "sl: not installed", "If the package archive is not reachable", "no-such-package-at-all", "apt says"
        )
    finally:
        for server in servers:
            server.check_output("rm -f /etc/apt/apt.conf.d/99gone")


def test_empty_package_lists_are_refreshed_and_apts_locks_waited_for(converge, servers):
    """The one is held until apt would refresh its lists, the other until it would install."""
    locks = {
        "lists": ("/var/lib/apt/lists/lock", "apt-[g]et .* update"),
        "dpkg": ("/var/lib/dpkg/lock-frontend", "apt-[g]et .* install"),
    }
    for server in servers:
        server.check_output("apt-get -qq purge -y tree; rm -rf /var/lib/apt/lists/*")
        for unit, (path, command) in locks.items():
            server.check_output(f"systemd-run --quiet --unit {unit} python3 -c %s %s %s", HOLD, path, command)
    converge().must_succeed()
    for server in servers:
        assert server.package("tree").is_installed
        assert all(server.run(f"systemctl is-active {unit}").rc != 0 for unit in locks)


def test_an_interrupted_installation_is_completed_and_a_firewall_that_was_stopped_is_started(converge, servers):
    for server in servers:
        server.check_output(
            "apt-get -qq purge -y tree; cd /tmp && apt-get -qq download tree && dpkg --unpack /tmp/tree_*.deb; rm /tmp/tree_*"
        )
        server.check_output("systemctl disable --quiet --now webstack-firewall")
    run = converge().must_succeed()
    assert sorted(run.changed) == sorted(
        f"{server.backend.name}: {task}" for server in servers for task in (INSTALL, FIREWALL)
    )
    for server in servers:
        assert server.package("tree").is_installed
        assert server.check_output("dpkg --audit") == ""
        assert server.service("webstack-firewall").is_enabled
