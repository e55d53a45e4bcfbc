"""Role base: what every host needs before it serves anything."""

import re

import pytest

MODES = "base : Configure | Kernel settings, and what root alone reads"
JOURNAL = "base : Configure | Security updates and the size of the journal"


def test_a_dry_run_of_a_converged_host_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


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


def test_drift_is_repaired_exactly(converge, servers):
    """What root alone reads is readable for others; a file has a line by hand."""
    closed = ("/etc/cron.daily", "/etc/ssh/sshd_config", "/root")
    for server in servers:
        assert (
            server.run(f"su nobody -s /bin/sh -c 'cat {' '.join(closed)} 2>&1'").stdout.count("Permission denied") == 3
        )
        server.check_output("sed -i 's/^UMASK 027/UMASK 022/; s/^UID_MIN.*/UID_MIN 1234/' /etc/login.defs")
        server.check_output("chmod 755 /root; echo SystemMaxUse=1K >> /etc/systemd/journald.conf.d/webstack.conf")
    for options in (["--check"], []):
        changed = sorted(line.split(": ", 1)[1] for line in converge(*options).must_succeed().changed)
        assert changed == [MODES] * len(servers) + [JOURNAL] * len(servers)
    for server in servers:
        assert server.file("/root").mode == 0o700
        settings = server.check_output("grep -E '^(UMASK|UID_MIN)' /etc/login.defs").split()
        assert settings == ["UID_MIN", "1234", "UMASK", "027"], "its own lines alone are the role's"
        assert not server.file("/etc/systemd/journald.conf.d/webstack.conf").contains("SystemMaxUse=1K")
    assert converge().must_succeed().changed == []


def test_a_restart_that_a_killed_run_left_out_is_made_up_for(converge, servers):
    def invocations():
        return [server.check_output("systemctl show --value -p InvocationID systemd-journald") for server in servers]

    before = invocations()
    for server in servers:
        server.check_output("rm -r /run/webstack; touch /etc/systemd/journald.conf.d/webstack.conf")
    converge().must_succeed()
    assert all(new != old for new, old in zip(invocations(), before, strict=True))


def test_empty_package_lists_are_refreshed(converge, servers):
    for server in servers:
        server.check_output("apt-get -qq purge -y tree; rm -rf /var/lib/apt/lists/*")
    converge().must_succeed()
    assert all(server.package("tree").is_installed for server in servers)


def test_an_interrupted_installation_is_completed(converge, servers):
    for server in servers:
        server.check_output(
            "apt-get -qq purge -y tree; cd /tmp && apt-get -qq download tree && dpkg --unpack /tmp/tree_*.deb; rm /tmp/tree_*"
        )
    converge().must_succeed()
    for server in servers:
        assert server.package("tree").is_installed
        assert server.check_output("dpkg --audit") == ""


def test_apts_locks_are_waited_for(converge, servers):
    """The one is held while apt would refresh its lists, the other until apt would install."""
    holds = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(int(sys.argv[2]))"
    locks = {"lists": ("/var/lib/apt/lists/lock", 12), "dpkg": ("/var/lib/dpkg/lock-frontend", 24)}
    for server in servers:
        server.check_output("apt-get -qq purge -y tree; rm -rf /var/lib/apt/lists/*_*")
        for unit, (path, seconds) in locks.items():
            server.check_output(f"systemd-run --quiet --unit {unit} python3 -c %s {path} {seconds}", holds)
    converge().must_succeed()
    for server in servers:
        assert server.package("tree").is_installed
        assert all(server.run(f"systemctl is-active {unit}").rc != 0 for unit in locks)


def test_without_a_package_archive_nothing_has_to_change_and_a_missing_package_is_named(converge, servers):
    for server in servers:
        server.check_output(
            "printf 'Acquire::%s::Proxy \"http://127.0.0.1:9\";\\n' http https > /etc/apt/apt.conf.d/99gone"
            " && rm -rf /var/lib/apt/lists/*_*"
        )
    try:
        assert converge().must_succeed().changed == []
        converge(base_extra_packages=["tree", "sl"]).must_fail(
            "sl: not installed", "If the package archive is not reachable"
        )
    finally:
        for server in servers:
            server.check_output("rm /etc/apt/apt.conf.d/99gone")
    assert converge().must_succeed().changed == []


def test_bad_inputs_are_refused_all_at_once(converge):
    converge(base_journal_max_size="10X", base_reboot_time="25:00", base_sysctl={"a b": True}).must_be_refused(
        "base_journal_max_size: '10X' is not a size such as 500M or 2G",
        "base_reboot_time: '25:00' is not a time such as 04:30",
        "base_sysctl: a name is like net.core.somaxconn",
        "base_sysctl: a value is made of",
    )


def test_a_setting_of_logins_that_is_no_longer_declared_gives_way_to_the_hosts_own(converge, servers):
    def maximum():
        return [server.check_output("grep ^PASS_MAX_DAYS /etc/login.defs").split() for server in servers]

    before = maximum()
    converge(base_login_options={"PASS_MAX_DAYS": "365"}).must_succeed()
    assert maximum() == [["PASS_MAX_DAYS", "365"]] * len(servers)
    converge().must_succeed()
    assert maximum() == before
    for server in servers:
        assert "configuration error" not in server.check_output("useradd --system probe 2>&1; userdel probe 2>&1")


def test_a_misspelt_input_is_refused_with_the_nearest_name(converge):
    converge(base_journl_max_size="10M").must_be_refused(
        "base_journl_max_size: unknown variable; did you mean base_journal_max_size?"
    )


def test_an_unknown_package_fails_with_apts_words(converge):
    converge(base_extra_packages=["no-such-package-at-all"]).must_fail("no-such-package-at-all", "apt says")
