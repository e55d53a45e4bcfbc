"""Role base: who comes in by ssh, what can be reached, and who is never locked out."""

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from scenario import names, playbook, until

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SSHD = "base : Access | Keys alone open a login by ssh"
FIREWALL = "base : Access | The firewall"
DROP_IN = "/etc/ssh/sshd_config.d/00-webstack.conf"
RULES = "nft --stateless --terse list table inet webstack"

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
assert answers[0] > 100, answers
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


def by_ssh(*arguments, servers, user="admin", key="admin", **more):
    """A run of a playbook by ssh, as somebody who is no root there."""
    hosts = {
        server.backend.name: {
            "ansible_connection": "ssh", "ansible_host": address(server), "ansible_user": user, "ansible_become": user != "root",
            "ansible_ssh_private_key_file": str(KEYS / key),
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o IdentitiesOnly=yes",
        }
        for server in servers
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


def tasks(run):
    return sorted({line.split(": ", 1)[1] for line in run.changed})


def back_to_normal(converge):
    """After an undo the files are those that were declared; that they were loaded, nobody knows, so they are once more."""
    assert tasks(converge().must_succeed()) == [FIREWALL]
    assert converge().must_succeed().changed == []


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


def test_options_of_sshd_are_the_inventorys_to_change(converge, servers, restored):
    options = {"AllowTcpForwarding": True, "HostKeyAlgorithms": "", "MaxAuthTries": "4"}
    assert tasks(converge(base_ssh_options=options).must_succeed()) == [SSHD]
    for server in servers:
        assert "200 OK" in forwards(server)
        assert login(server, "-o", "HostKeyAlgorithms=ecdsa-sha2-nistp256")[0] == 0
        assert "maxauthtries 4" in server.check_output("sshd -T").splitlines()
    for name, words in (
        ("NoSuchOption", "Bad configuration option: NoSuchOption"),
        ("HostKeyAlgorithms", "The host would show nobody a key"),
    ):
        converge(
            base_ssh_options={name: "ssh-dss" if name == "NoSuchOption" else "sk-ssh-ed25519@openssh.com"}
        ).must_be_refused(words)


def test_a_run_by_ssh_that_changes_both_doors_stays_in(servers):
    for server in servers:
        server.check_output(f"rm {DROP_IN}; systemctl reload ssh; systemctl disable --now webstack-firewall")
    dry = by_ssh("--check", servers=servers).must_succeed()
    assert tasks(dry) == [SSHD, FIREWALL]
    assert tasks(by_ssh(servers=servers).must_succeed()) == [SSHD, FIREWALL]
    assert by_ssh(servers=servers).must_succeed().changed == []
    for server in servers:
        assert login(server)[0] == 0
        assert server.run("systemctl list-units --all 'webstack-undo*' --no-legend").stdout == ""
        assert server.check_output("ls -A /var/lib/webstack/undo") == ""
        assert "undo" not in server.check_output("ls -R /etc/systemd/system")


def test_who_would_be_locked_out_is_refused_before_anything_changes(servers, restored):
    for server in servers:
        server.check_output(f"rm {DROP_IN}; systemctl reload ssh")
    for user, key, *words in (
        ("oldie", "oldie", "logs in as oldie, who would be locked out", "RSA of 2048 bits or more", "the live one is untouched"),
        ("root", "admin", "logs in as root, whose login would be switched off", "base_ssh_root_login: true"),
    ):  # fmt: skip
        for options in (["--check"], []):
            by_ssh(*options, servers=servers, user=user, key=key).must_be_refused(*words)
        for server in servers:
            assert not server.file(DROP_IN).exists
            assert login(server, user=user, key=key)[0] == 0


def test_root_with_a_key_comes_in_where_that_is_declared(servers, restored):
    for server in servers:
        server.check_output(f"rm {DROP_IN}; systemctl reload ssh")
    assert tasks(by_ssh(servers=servers, user="root", base_ssh_root_login=True).must_succeed()) == [SSHD]
    for server in servers:
        assert login(server, user="root")[0] == 0
        assert login(server, "-o", "PubkeyAuthentication=no", user="root")[0] == 255


def test_settings_of_sshd_that_shut_the_play_out_undo_themselves(servers, restored):
    """Keys from an authority cannot be judged before; the new connection finds out."""
    for server in servers:
        server.check_output(
            f"rm {DROP_IN}; cp /home/admin/.ssh/authorized_keys /etc/ssh/authority.pub;"
            " echo TrustedUserCAKeys /etc/ssh/authority.pub > /etc/ssh/sshd_config.d/50-authority.conf; systemctl reload ssh"
        )
    run = by_ssh(servers=servers, user="oldie", key="oldie")
    for server in servers:
        server.check_output("rm /etc/ssh/sshd_config.d/50-authority.conf")
    run.must_fail(
        "The change of ssh.service does not let the play in again", "The host has undone the change by itself"
    )
    for server in servers:
        assert not server.file(DROP_IN).exists
        assert login(server, user="oldie", key="oldie")[0] == 0


def test_what_another_file_says_first_is_named(converge, servers, restored):
    for server in servers:
        server.check_output(f"rm {DROP_IN}; sed -i '1i PasswordAuthentication yes' /etc/ssh/sshd_config")
    try:
        converge().must_be_refused("passwordauthentication would be yes, not no", "has the last word")
    finally:
        for server in servers:
            server.check_output("sed -i 1d /etc/ssh/sshd_config")


def test_an_ssh_server_that_was_stopped_is_not_started(converge, servers):
    for server in servers:
        server.check_output("systemctl stop ssh")
    try:
        assert converge().must_succeed().changed == []
        assert {server.run("systemctl is-active ssh").stdout.strip() for server in servers} == {"inactive"}
    finally:
        for server in servers:
            server.check_output("systemctl start ssh")


# What can be reached


def test_what_is_declared_can_be_reached_and_nothing_else(server, servers):
    client = other(server, servers)
    assert reaches(client, server, 8081)
    assert not reaches(client, server, 8082)
    assert server.check_output("curl -sf -o /dev/null -w '%{http_code}' http://127.0.0.1:8082/") == "200"


def test_what_listens_undeclared_is_told(converge):
    converge().must_succeed().must_say("tcp 0.0.0.0:8082 (python3) listens to the network and is not declared")
    assert "is not declared" not in converge(base_listening_expected=[{"port": 8082}]).must_succeed().output


def test_a_port_is_open_to_those_alone_who_are_named(converge, servers, restored):
    first, second = servers
    converge(base_firewall_open=[{"port": 8081, "from": [address(second), "2001:db8::/32"]}]).must_succeed()
    assert reaches(second, first, 8081)
    assert not reaches(first, second, 8081)


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


def test_a_reload_under_load_loses_no_request(server, servers):
    client, url = other(server, servers).backend.name, f"http://{address(server)}:8081/"
    visits = subprocess.Popen(
        ["docker", "exec", client, "python3", "-c", VISITS, url],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for _time in range(10):
        server.check_output("systemctl reload webstack-firewall")
        time.sleep(0.4)
    said, _nothing = visits.communicate(timeout=60)
    assert visits.returncode == 0, said


def test_rules_of_others_are_left_alone(converge, servers, restored):
    """As those of a container engine, which forwards."""
    foreign = "nft list table ip engine"
    for server in servers:
        server.check_output(
            "nft 'add table ip engine; add chain ip engine forward { type filter hook forward priority 0; policy accept; };"
            " add rule ip engine forward ip daddr 172.30.0.2 counter accept'"
        )
    before = [server.check_output(f"{foreign}; sysctl net.ipv4.ip_forward") for server in servers]
    assert tasks(converge(base_firewall_open=[{"port": 8083}]).must_succeed()) == [FIREWALL]
    for server in servers:
        server.check_output("systemctl restart webstack-firewall")
    assert [server.check_output(f"{foreign}; sysctl net.ipv4.ip_forward") for server in servers] == before
    for server in servers:
        server.check_output("nft delete table ip engine")


@pytest.mark.parametrize("harm", ["nft flush ruleset", "nft add rule inet webstack input tcp dport 8082 accept"])
def test_rules_changed_behind_the_files_are_repaired(converge, servers, harm):
    for server in servers:
        server.check_output(harm)
    assert tasks(converge("--check").must_succeed()) == [FIREWALL]
    assert tasks(converge().must_succeed()) == [FIREWALL]
    assert not reaches(servers[0], servers[1], 8082)
    assert converge().must_succeed().changed == []


def test_rules_come_back_with_the_host_before_its_network(converge, servers):
    for name in names():
        subprocess.run(["docker", "restart", name], check=True, capture_output=True)
    for server in servers:
        until(lambda server=server: login(server)[0] == 0, 60)
        order = server.check_output("systemctl show --value -p Before webstack-firewall")
        assert "network-pre.target" in order
    assert reaches(servers[0], servers[1], 8081) and not reaches(servers[0], servers[1], 8082)
    for server in servers:
        assert server.run("systemctl --failed --no-legend --plain").stdout == ""
    assert converge().must_succeed().changed == []


def test_without_the_firewall_everything_can_be_reached_again(converge, servers):
    assert tasks(converge(base_firewall=False).must_succeed()) == ["base : Access | No firewall, where one was before"]
    assert converge(base_firewall=False).must_succeed().changed == []
    assert reaches(servers[0], servers[1], 8082)
    assert tasks(converge().must_succeed()) == [FIREWALL]
    assert not reaches(servers[0], servers[1], 8082)


# Mistakes


def test_a_first_firewall_does_not_cut_off_what_is_in_use(converge, servers, restored):
    gone = "systemctl disable --now webstack-firewall; rm /etc/systemd/system/webstack-firewall.service; systemctl daemon-reload"
    for server in servers:
        server.check_output(gone)
    run = converge().must_fail(
        "base_firewall: would cut off tcp 0.0.0.0:8082 (python3). Declare each port in base_firewall_open"
    )
    assert run.changed == []
    assert reaches(servers[0], servers[1], 8082)
    for server in servers:
        server.check_output("systemd-run --quiet --unit vpn python3 -c %s", VPN)
    try:
        converge(base_listening_expected=[{"port": 8082}]).must_be_refused(
            "would cut off udp 0.0.0.0:51820 (python3)",
            "here {port: 51820, protocol: udp};",
        )
    finally:
        for server in servers:
            server.check_output("systemctl stop vpn")
    converge(base_listening_expected=[{"port": 8082}]).must_succeed()


def test_a_firewall_that_would_cut_the_connection_is_refused(servers):
    for options in (["--check"], []):
        by_ssh(*options, servers=servers, base_ssh_from=["192.0.2.0/24"]).must_be_refused(
            "would cut the play's own connection", "to port 22: base_ssh_from does not name that address"
        )
    for server in servers:
        assert login(server)[0] == 0


def test_a_firewall_that_does_cut_it_undoes_itself(converge, servers):
    before = [server.check_output(RULES) for server in servers]
    by_ssh(servers=servers, name="mistake.yml").must_fail(
        "The change of webstack-firewall.service does not let the play in again",
        "The host has undone the change by itself",
    )
    assert [server.check_output(RULES) for server in servers] == before
    back_to_normal(converge)


def test_neither_a_dead_controller_nor_a_reboot_keeps_a_mistake(converge, servers):
    before = [server.check_output(RULES) for server in servers]
    with contextlib.suppress(subprocess.TimeoutExpired):
        by_ssh(servers=servers, name="mistake.yml", kill_after=14)
    assert all("policy drop" in server.check_output(RULES) for server in servers)
    assert [server.check_output(RULES) for server in servers] != before, "the mistake was not made in time"
    words = servers[1].check_output("systemd-analyze security --no-pager webstack-undo-webstack-firewall | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 3.0, words
    subprocess.run(["docker", "restart", servers[0].backend.name], check=True, capture_output=True)
    until(lambda: servers[0].run(RULES).stdout.strip() == before[0], 30)
    until(lambda: servers[1].run(RULES).stdout.strip() == before[1], 60)
    for server in servers:
        until(lambda server=server: login(server)[0] == 0, 60)
    back_to_normal(converge)


def test_what_a_killed_run_left_is_confirmed_by_the_next_though_nothing_differs(converge, servers):
    """The next one comes in by the engine, which no firewall cuts: to it the mistake is none."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        by_ssh(servers=servers, name="mistake.yml", kill_after=14, undo_seconds=90)
    mistake = ["Shut everybody out"]
    assert tasks(converge("--check", name="mistake.yml").must_succeed()) == mistake
    assert tasks(converge(name="mistake.yml").must_succeed()) == mistake
    for server in servers:
        assert server.run("systemctl list-units --all 'webstack-undo*' --no-legend").stdout == ""
        assert server.check_output("ls -A /var/lib/webstack/undo") == ""
    assert converge(name="mistake.yml").must_succeed().changed == []
    back_to_normal(converge)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {
                "base_firewall_open": [{"port": 65536, "from": ["192.0.2.1/24; accept"]}],
                "base_ssh_from": ["home"],
                "base_ssh_new_connections": -1,
                "base_login_banner": "",
            },
            [
                "base_firewall_open[0].port: 65536 is not a port",
                "base_firewall_open[0].from[0]",
                "base_ssh_from[0]: 'home'",
                "base_ssh_new_connections: -1 is not possible",
                "base_login_banner: must be a text",
            ],
        ),
        (
            {"base_firewall_open": [{"prot": 80}, {"port": "http"}], "base_ssh_root_login": "maybe"},
            [
                "base_firewall_open.prot",
                "Supported parameters include: from, port, protocol",
                "http",
                "'base_ssh_root_login'",
                "'maybe' is not a valid boolean",
            ],
        ),
    ],
)
def test_bad_inputs_are_refused_while_the_host_goes_on_answering(converge, servers, inputs, words):
    converge(**inputs).must_be_refused(*words)
    for server in servers:
        assert login(server)[0] == 0
