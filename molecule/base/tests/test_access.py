"""Role base: who comes in by ssh, what can be reached, and who is never locked out."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from scenario import each, names, playbook, until

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SSHD = "base : Access | Keys alone open a login by ssh"
FIREWALL = "base : Access | The firewall"
NO_FIREWALL = "base : Access | No firewall, where one was before"
HARDENING = "base : Configure | Kernel settings, and what root alone reads"
JOURNAL = "base : Configure | Security updates and the size of the journal"
DROP_IN = "/etc/ssh/sshd_config.d/00-webstack.conf"
RULES = "nft --stateless --terse list table inet webstack"
# Users and their keys.
ADMIN, OLDIE, ROOT = ("admin", "admin"), ("oldie", "oldie"), ("root", "admin")

# Asked of a port again and again, by somebody else, while the firewall is read anew.
VISITS = """
import sys, threading, time, urllib.request
failed, answers, end = [], [0], time.monotonic() + 6
def visit():
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(sys.argv[1], timeout=5).read()
            answers[0] += 1
        except Exception as error:
            failed.append(repr(error))
threads = [threading.Thread(target=visit) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert answers[0] > 10, answers
assert not failed, (answers, failed[:5])
"""
# How many of forty connections, asked for at once, come about.
KNOCKS = """
import socket, sys, time
knocks = [socket.socket() for _ in range(40)]
for knock in knocks:
    knock.setblocking(False)
    knock.connect_ex((sys.argv[1], 22))
time.sleep(0.5)
def open_(knock):
    try:
        return bool(knock.getpeername())
    except OSError:
        return False
print(sum(map(open_, knocks)))
"""
# As many clients as the firewall remembers.
CROWD = """
import subprocess
crowd = ", ".join(f"10.0.{n >> 8}.{n & 255}" for n in range(65535))
subprocess.run(["nft", "-f", "-"], input="add element inet webstack ssh_clients { " + crowd + " }", text=True, check=True)
"""
# A program that waits on a port of UDP.
VPN = """
import socket, time
waits = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
waits.bind(("", 51820))
time.sleep(600)
"""


@pytest.fixture(scope="session", autouse=True)
def undeclared_server():
    """Something that came after the firewall, and that nobody has declared."""
    for name in names():
        subprocess.run(["docker", "exec", name, "systemctl", "enable", "--quiet", "--now", "server@8082"], check=True)


def address(server):
    return server.check_output("hostname -I").split()[0]


def login(server, *options, user="admin", key="admin", command="true"):
    """The outcome of a login by ssh, as (code, what was said)."""
    argv = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-i", str(KEYS / key), *options,
            f"{user}@{address(server)}", command]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


def by_ssh(*arguments, servers, logins=(ADMIN, ADMIN), **more):
    """A run of a playbook by ssh, with a login for each host."""
    hosts = {
        server.backend.name: {
            "ansible_connection": "ssh", "ansible_host": address(server), "ansible_user": user, "ansible_become": user != "root",
            "ansible_ssh_private_key_file": str(KEYS / key),
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o IdentitiesOnly=yes",
        }
        for server, (user, key) in zip(servers, logins, strict=True)
    }  # fmt: skip
    inventory = KEYS / "by_ssh.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    return playbook("--inventory", str(inventory), "--limit", ",".join(hosts), *arguments, **more)


def reaches(client, server, port):
    """Whether a connection from one host to a port of another comes through."""
    ask = f"import socket; socket.create_connection(('{address(server)}', {port}), timeout=2)"
    return client.run(f'python3 -c "{ask}"').rc == 0


def other(server, servers):
    (found,) = [one for one in servers if one.backend.name != server.backend.name]
    return found


def on_each(servers, *names_of_tasks):
    """What a run says that changes these tasks on each host."""
    return sorted(f"{server.backend.name}: {task}" for server in servers for task in names_of_tasks)


# Who comes in by ssh


def test_a_key_opens_a_login_and_a_banner_greets(server):
    code, said = login(server, command="id -un")
    assert code == 0 and "admin" in said.splitlines(), said
    assert "For those who were invited. What is done here is recorded." in said


def test_a_password_does_not_even_where_it_is_right(server):
    code, said = login(
        server, "-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive"
    )
    assert code == 255 and "Permission denied (publickey)." in said


def test_root_does_not_come_in(server):
    code, said = login(server, user="root")
    assert code == 255 and "Permission denied (publickey)." in said


def test_old_algorithms_are_not_offered_and_new_ones_are(server):
    code, said = login(server, "-o", "KexAlgorithms=ecdh-sha2-nistp256,diffie-hellman-group14-sha256")
    assert code == 255 and "no matching key exchange method found" in said
    settings = dict(line.split(" ", 1) for line in server.check_output("sshd -T").splitlines())
    assert "sntrup761x25519-sha512@openssh.com" in settings["kexalgorithms"]
    assert ("mlkem768x25519-sha256" in settings["kexalgorithms"]) == ("debian13" in server.backend.name)
    assert all("-etm@" in name for name in settings["macs"].split(","))
    assert not re.search("cbc|arcfour|3des", settings["ciphers"])
    assert (settings["x11forwarding"], settings["requiredrsasize"]) == ("no", "2048")


def as_anybody(server, *options, command=(), said=None):
    """What a plain client is answered, which offers whatever keys its agent has."""
    argv = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            *options, f"admin@{address(server)}", *command]  # fmt: skip
    done = subprocess.run(argv, input=said, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def forwards(server):
    """What becomes of a request to be led on to a port of the host."""
    return as_anybody(server, "-i", str(KEYS / "admin"), "-W", "127.0.0.1:8082", said="GET / HTTP/1.0\r\n\r\n")


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """An agent that holds five keys which nobody knows, and then the right one."""
    said = subprocess.run(
        ["ssh-agent", "-a", str(tmp_path / "agent")], capture_output=True, text=True, check=True
    ).stdout
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    for number in range(5):
        key = tmp_path / f"key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        subprocess.run(["ssh-add", "-q", key], check=True)
    subprocess.run(["ssh-add", "-q", KEYS / "admin"], check=True)
    yield
    os.kill(int(re.search(r"SSH_AGENT_PID=(\d+)", said)[1]), 15)


def test_a_login_lends_its_keys_to_nobody_and_leads_nowhere_else(server, agent):
    """Five other keys are no reason to turn the sixth away."""
    asked = ["-o", "IdentityFile=none", "-o", "ForwardAgent=yes"]
    assert "agent=refused" in as_anybody(server, *asked, command=["echo agent=${SSH_AUTH_SOCK:-refused}"])
    assert "administratively prohibited" in forwards(server)


def test_the_key_on_a_curve_of_nist_is_not_offered_and_the_others_are(server):
    for name, offered in (("ecdsa-sha2-nistp256", False), ("ssh-ed25519", True), ("rsa-sha2-512", True)):
        code, said = login(server, "-o", f"HostKeyAlgorithms={name}")
        assert code == (0 if offered else 255), said
        assert ("no matching host key type found" in said) != offered


def test_a_shell_closes_behind_whoever_left_it(server):
    _code, said = login(server, command="bash -lc 'echo umask $(umask), core $(ulimit -Hc), idle $TMOUT'")
    assert "umask 0027, core 0, idle 900" in said, said


# Who would not come in any more


def without_settings(server):
    """sshd as Debian has it."""
    server.check_output(f"rm -f {DROP_IN}; systemctl reload ssh")


def test_settings_with_which_sshd_would_not_start_or_not_be_known_are_refused(converge):
    told = each(
        {"base_ssh_options": {"NoSuchOption": "ssh-dss"}},
        {"base_ssh_options": {"HostKeyAlgorithms": "sk-ssh-ed25519@openssh.com"}},
    )
    converge(**told).must_be_refused("Bad configuration option: NoSuchOption", "The host would show nobody a key")


def test_who_would_be_locked_out_is_refused_before_anything_changes(servers):
    """Each host meets one of two users in a dry run, and the other in earnest."""
    for server in servers:
        without_settings(server)
    for options, logins in ((["--check"], [OLDIE, ROOT]), ([], [ROOT, OLDIE])):
        by_ssh(*options, servers=servers, logins=logins).must_be_refused(
            "logs in as oldie, who would be locked out", "RSA of 2048 bits or more", "the live one is untouched",
            "logs in as root, whose login would be switched off", "base_ssh_root_login: true",
        )  # fmt: skip
        for server, (user, key) in zip(servers, logins, strict=True):
            assert not server.file(DROP_IN).exists
            assert login(server, user=user, key=key)[0] == 0


def test_root_comes_in_where_that_is_declared_and_settings_that_shut_the_play_out_undo_themselves(servers):
    """Root on one host. On the other a key from an authority: it cannot be judged before, and the new connection finds out."""
    of_root, of_authority = servers
    for server in servers:
        without_settings(server)
    of_authority.check_output(
        "cp /home/admin/.ssh/authorized_keys /etc/ssh/authority.pub;"
        " echo TrustedUserCAKeys /etc/ssh/authority.pub > /etc/ssh/sshd_config.d/50-authority.conf; systemctl reload ssh"
    )
    told = each({"base_ssh_root_login": True, "undo_seconds": 20}, {"base_ssh_root_login": False, "undo_seconds": 10})
    run = by_ssh(servers=servers, logins=[ROOT, OLDIE], **told)
    of_authority.check_output("rm /etc/ssh/sshd_config.d/50-authority.conf")
    run.must_fail(
        "The change of ssh.service does not let the play in again", "The host has undone the change by itself"
    )
    assert not of_authority.file(DROP_IN).exists
    assert login(of_authority, user="oldie", key="oldie")[0] == 0
    assert run.changed == on_each([of_root], SSHD)
    assert login(of_root, user="root")[0] == 0
    assert login(of_root, "-o", "PubkeyAuthentication=no", user="root")[0] == 255


def test_a_firewall_that_would_cut_the_connection_is_refused_and_what_another_file_says_first_is_named(servers):
    cut, overruled = servers
    without_settings(overruled)
    overruled.check_output("sed -i '1i PasswordAuthentication yes' /etc/ssh/sshd_config")
    try:
        for options in (["--check"], []):
            told = each({"base_ssh_from": ["192.0.2.0/24"]}, {"base_ssh_from": []})
            by_ssh(*options, servers=servers, **told).must_be_refused(
                "would cut the play's own connection", "to port 22: base_ssh_from does not name that address",
                "passwordauthentication would be yes, not no", "has the last word",
            )  # fmt: skip
    finally:
        overruled.check_output("sed -i 1d /etc/ssh/sshd_config")
    assert login(cut)[0] == 0


# What can be reached


def test_what_is_declared_can_be_reached_and_nothing_else(server, servers):
    client = other(server, servers)
    assert reaches(client, server, 8081)
    assert not reaches(client, server, 8082)
    assert server.check_output("curl -sf -o /dev/null -w '%{http_code}' http://127.0.0.1:8082/") == "200"


def test_whoever_knocks_too_often_waits_and_nobody_else(server, servers):
    client = other(server, servers)
    assert 29 <= int(client.check_output("python3 -c %s %s", KNOCKS, address(server))) <= 31
    assert login(server)[0] == 0


def test_who_fills_the_list_of_clients_locks_nobody_out(server, servers):
    server.check_output("nft flush set inet webstack ssh_clients; python3 -c %s", CROWD)
    try:
        assert int(other(server, servers).check_output("python3 -c %s %s", KNOCKS, address(server))) > 31
        assert login(server)[0] == 0
    finally:
        server.check_output("systemctl reload webstack-firewall")


def test_a_reload_under_load_loses_no_request(servers):
    visits = [
        subprocess.Popen(
            ["docker", "exec", other(server, servers).backend.name, "python3", "-c", VISITS, f"http://{address(server)}:8081/"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for server in servers
    ]  # fmt: skip
    for _time in range(10):
        for server in servers:
            server.check_output("systemctl reload webstack-firewall")
        time.sleep(0.4)
    for visit in visits:
        said, _nothing = visit.communicate(timeout=60)
        assert visit.returncode == 0, said


# What has changed behind the files, or never came to its end


def test_what_has_drifted_is_foreseen_and_repaired_exactly_and_a_run_by_ssh_stays_in(servers):
    """Both doors, what root alone reads, and a file with a line by hand; or a restart that a killed run left out."""
    first, second = servers
    for server in servers:
        without_settings(server)
        server.check_output(
            "chmod 755 /root; sed -i 's/^UMASK 027/UMASK 022/; s/^UID_MIN.*/UID_MIN 1234/' /etc/login.defs"
        )
    journal = "/etc/systemd/journald.conf.d/webstack.conf"
    first.check_output(f"echo SystemMaxUse=1K >> {journal}; systemctl disable webstack-firewall; nft flush ruleset")
    second.check_output(f"rm -r /run/webstack; touch {journal}; nft add rule inet webstack input tcp dport 8082 accept")
    invocation = "systemctl show --value --property InvocationID systemd-journald"
    before = second.check_output(invocation)

    for options in (["--check"], []):
        changed = by_ssh(*options, servers=servers).must_succeed().changed
        assert sorted(changed) == on_each(servers, SSHD, FIREWALL, HARDENING, JOURNAL)
    assert by_ssh(servers=servers).must_succeed().changed == []
    assert second.check_output(invocation) != before
    assert not reaches(first, second, 8082) and not reaches(second, first, 8082)
    for server in servers:
        assert login(server)[0] == 0
        assert server.service("webstack-firewall").is_enabled
        assert server.file("/root").mode == 0o700
        settings = server.check_output("grep -E '^(UMASK|UID_MIN)' /etc/login.defs").split()
        assert settings == ["UID_MIN", "1234", "UMASK", "027"], "its own lines alone are the role's"
        assert not server.file(journal).contains("SystemMaxUse=1K")
        nothing_is_armed(server)
        assert "undo" not in server.check_output("ls -R /etc/systemd/system")


def nothing_is_armed(server):
    assert server.run("systemctl list-units --all 'webstack-undo*' --no-legend").stdout == ""
    assert server.check_output("ls -A /var/lib/webstack/undo") == ""


# Mistakes


@pytest.mark.thorough
def test_a_firewall_that_does_cut_the_connection_undoes_itself(servers):
    before = [server.check_output(RULES) for server in servers]
    by_ssh(servers=servers, name="mistake.yml", undo_seconds=10).must_fail(
        "The change of webstack-firewall.service does not let the play in again",
        "The host has undone the change by itself",
    )
    assert [server.check_output(RULES) for server in servers] == before


def make_a_mistake_and_die(servers, **more):
    """The controller is gone as soon as both hosts have the mistake, and their modules have ended."""
    made = (
        f"! {RULES} | grep -q 8081 && [ /run/webstack/webstack-firewall.service.json -nt /etc/webstack/firewall.nft ]"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        by_ssh(
            servers=servers,
            name="mistake.yml",
            kill_when=lambda: all(server.run(made).rc == 0 for server in servers),
            **more,
        )


@pytest.mark.thorough
def test_neither_a_dead_controller_nor_a_reboot_keeps_a_mistake(converge, servers):
    """One host reboots, long before its time is over."""
    rebooted, waiting = servers
    before = [server.check_output(RULES) for server in servers]
    make_a_mistake_and_die(servers, **each({"undo_seconds": 300}, {"undo_seconds": 15}))
    words = waiting.check_output("systemd-analyze security --no-pager webstack-undo-webstack-firewall | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 3.0, words
    assert [server.check_output(RULES) == old for server, old in zip(servers, before, strict=True)] == [False, False]
    subprocess.run(["docker", "restart", rebooted.backend.name], check=True, capture_output=True)
    for server, rules in zip(servers, before, strict=True):
        until(lambda server=server, rules=rules: server.run(RULES).stdout.strip() == rules, 60)
        until(lambda server=server: login(server)[0] == 0, 60)
    # The files are those that were declared; that they were loaded, is known of a boot alone. Else they are once more.
    assert converge().must_succeed().changed == on_each([waiting], FIREWALL)
    assert converge("--check").must_succeed().changed == []


@pytest.mark.thorough
def test_what_a_killed_run_left_is_confirmed_by_the_next_though_nothing_differs(converge, servers):
    """The next one comes in by the engine, which no firewall cuts: to it the mistake is none. It stays until the next test."""
    make_a_mistake_and_die(servers, undo_seconds=90)
    for options in (["--check"], []):
        changed = converge(*options, name="mistake.yml").must_succeed().changed
        assert sorted(changed) == on_each(servers, "Shut everybody out")
    for server in servers:
        nothing_is_armed(server)
    assert converge(name="mistake.yml").must_succeed().changed == []


# What is declared otherwise


@pytest.mark.thorough
def test_another_declaration_replaces_the_one_before_and_leaves_the_rules_of_others_alone(converge, servers):
    """Others' rules as those of a container engine, which forwards; at last there is no firewall of the role's."""
    first, second = servers
    foreign = "nft list table ip engine; sysctl net.ipv4.ip_forward"
    for server in servers:
        server.check_output(
            "nft 'add table ip engine; add chain ip engine forward { type filter hook forward priority 0; policy accept; };"
            " add rule ip engine forward ip daddr 172.30.0.2 counter accept'"
        )
    engines = [server.check_output(foreign) for server in servers]
    maximum = "grep ^PASS_MAX_DAYS /etc/login.defs"
    before = [server.check_output(maximum) for server in servers]

    declared = converge(
        base_firewall_open=[{"port": 8081, "from": [address(second), "2001:db8::/32"]}],
        base_ssh_options={"AllowTcpForwarding": True, "HostKeyAlgorithms": "", "MaxAuthTries": "4"},
        base_ssh_root_login=True,
        base_login_options={"PASS_MAX_DAYS": "365"},
    ).must_succeed()
    assert sorted(declared.changed) == on_each(servers, SSHD, FIREWALL, HARDENING)
    assert reaches(second, first, 8081) and not reaches(first, second, 8081)
    for server in servers:
        assert "200 OK" in forwards(server)
        assert login(server, "-o", "HostKeyAlgorithms=ecdsa-sha2-nistp256")[0] == 0
        assert "maxauthtries 4" in server.check_output("sshd -T").splitlines()
        assert login(server, user="root")[0] == 0
        assert server.check_output(maximum).split() == ["PASS_MAX_DAYS", "365"]
        server.check_output("systemctl restart webstack-firewall")
    assert [server.check_output(foreign) for server in servers] == engines

    none = converge(base_firewall=False).must_succeed()
    assert sorted(none.changed) == on_each(servers, SSHD, NO_FIREWALL, HARDENING)
    assert reaches(first, second, 8082)
    assert converge(base_firewall=False).must_succeed().changed == []
    assert [server.check_output(maximum) for server in servers] == before, "the host's own setting is back"
    assert [server.check_output(foreign) for server in servers] == engines
    for server in servers:
        assert "configuration error" not in server.check_output("useradd --system probe 2>&1; userdel probe 2>&1")
        server.check_output("nft delete table ip engine")


@pytest.mark.thorough
def test_a_first_firewall_does_not_cut_off_what_is_in_use(converge, servers):
    """A server on one host. On the other that one is declared, and there is a program that waits on a port of UDP."""
    of_tcp, of_udp = servers
    for server in servers:
        server.check_output(
            "systemctl disable --quiet --now webstack-firewall; rm /etc/systemd/system/webstack-firewall.service;"
            " systemctl daemon-reload"
        )
    of_udp.check_output("systemd-run --quiet --unit vpn python3 -c %s", VPN)
    until(lambda: of_udp.run("ss -Hlnu sport = 51820").stdout)
    told = each({"base_listening_expected": []}, {"base_listening_expected": [{"port": 8082}]})
    converge(**told).must_be_refused(
        "base_firewall: would cut off tcp 0.0.0.0:8082 (python3). Declare each port in base_firewall_open",
        "would cut off udp 0.0.0.0:51820 (python3)",
        "here {port: 51820, protocol: udp};",
    )
    assert reaches(of_udp, of_tcp, 8082)
    of_udp.check_output("systemctl stop vpn")
    run = converge(base_listening_expected=[{"port": 8082}]).must_succeed()
    assert sorted(run.changed) == on_each(servers, FIREWALL)
    assert "is not declared" not in run.output
    assert not reaches(of_udp, of_tcp, 8082)


@pytest.mark.thorough
def test_rules_come_back_with_the_host_before_its_network_and_what_was_stopped_stays_so(converge, servers):
    """Nor does the next run find anything to change; what listens undeclared is told."""
    subprocess.run(["docker", "restart", *names()], check=True, capture_output=True)
    for server in servers:
        until(lambda server=server: login(server)[0] == 0, 60)
        order = server.check_output("systemctl show --value -p Before webstack-firewall")
        assert "network-pre.target" in order
    assert reaches(servers[0], servers[1], 8081) and not reaches(servers[0], servers[1], 8082)
    for server in servers:
        assert server.run("systemctl --failed --no-legend --plain").stdout == ""
        server.check_output("systemctl stop ssh")
    try:
        run = converge().must_succeed()
        assert {server.run("systemctl is-active ssh").stdout.strip() for server in servers} == {"inactive"}
    finally:
        for server in servers:
            server.check_output("systemctl start ssh")
    assert run.changed == []
    run.must_say("tcp 0.0.0.0:8082 (python3) listens to the network and is not declared")


def test_bad_inputs_are_refused_all_at_once_while_the_host_goes_on_answering(converge, servers):
    """By the role's rules, and by its spec, which is asked first."""
    converge(
        base_journal_max_size="10X",
        base_reboot_time="25:00",
        base_sysctl={"a b": True},
        base_firewall_open=[{"port": 65536, "from": ["192.0.2.1/24; accept"]}],
        base_ssh_from=["home"],
        base_ssh_new_connections=-1,
        base_login_banner="",
    ).must_be_refused(
        "base_journal_max_size: '10X' is not a size such as 500M or 2G",
        "base_reboot_time: '25:00' is not a time such as 04:30",
        "base_sysctl: a name is like net.core.somaxconn",
        "base_sysctl: a value is made of",
        "base_firewall_open[0].port: 65536 is not a port",
        "base_firewall_open[0].from[0]",
        "base_ssh_from[0]: 'home'",
        "base_ssh_new_connections: -1 is not possible",
        "base_login_banner: must be a text",
    )
    converge(base_firewall_open=[{"prot": 80}, {"port": "http"}], base_ssh_root_login="maybe").must_be_refused(
        "base_firewall_open.prot",
        "Supported parameters include: from, port, protocol",
        "'http'\" cannot be converted to an int",
        "'base_ssh_root_login'",
        "'maybe' is not a valid boolean",
    )
    for server in servers:
        assert login(server)[0] == 0
