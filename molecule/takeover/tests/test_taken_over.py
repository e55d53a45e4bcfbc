"""With the words given, the hosts are taken over: a copy of what was theirs is there, and the site serves."""

import re
import socket

import pytest
import testinfra
from entering import whereabouts
from scenario import PROJECT, names, playbook
from test_refused import untouched

WORDS = {"nginx_take_over": True, "dns_take_over": True, "base_take_over": True, "mysql_take_over": True}
# Files by their content, and links by where they lead.
LISTED = r"find . -type f -exec sha256sum {} + | sort; find . -type l -printf '%p %l\n' | sort"

# Of Debian 12 by ufw, which others reach at 8080, and of Debian 13 by nftables.service. Neither lets a visitor in.
TOOLS = {"debian12": "ufw", "debian13": "nftables"}
SETTINGS = {"ufw": "/etc/ufw", "nftables": "/etc/nftables.conf"}
UFW = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get -qq install -y --no-install-recommends ufw >/dev/null 2>&1; "
    "ufw allow 22/tcp; ufw allow 8080/tcp; ufw deny 80/tcp; ufw --force enable; "
    "iptables -N f2b-sshd; iptables -I INPUT -p tcp --dport 22 -j f2b-sshd"
)
NFTABLES = """cat >/etc/nftables.conf <<'END'
flush ruleset
table inet theirs {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established accept
    tcp dport { 22, 8080 } accept
  }
}
END
systemctl enable --now nftables 2>&1"""
# What a container engine and fail2ban have in the kernel.
ENGINE = """nft -f - <<'END'
table ip nat {
  chain DOCKER { tcp dport 8081 dnat to 172.30.0.2:80; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; ip saddr 172.30.0.0/16 masquerade; }
}
END
systemd-run --quiet --unit=theirs-8080 python3 -m http.server 8080"""
SURVIVES = "nft --stateless list table ip nat; ! command -v iptables >/dev/null || iptables -S | grep f2b"
RULES = "nft --stateless list ruleset; systemctl is-enabled nftables; cat /etc/ufw/ufw.conf 2>/dev/null"


def tool(server):
    return next(name for host, name in TOOLS.items() if host in server.backend.name)


def is_open(server, port):
    try:
        socket.create_connection(
            (whereabouts(server.backend.name)[server.backend.name].address, port), timeout=2
        ).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module", autouse=True)
def _firewalls_of_others():
    for server in [testinfra.get_host(f"docker://{name}") for name in names()]:
        server.check_output({"ufw": UFW, "nftables": NFTABLES}[tool(server)])
        server.check_output(ENGINE)


def page(server):
    secure = "debian13" in server.backend.name
    url = "https://www.foobar.com" if secure else "http://old.foobar.com"
    port = 443 if secure else 80
    return server.check_output(f"curl -sk --connect-to ::127.0.0.1:{port} {url}/")


def test_all_that_somebody_else_has_is_refused_at_once_by_its_name_and_stays(converge, servers):
    before = [server.run(RULES).stdout for server in servers]
    with untouched(servers):
        run = converge()
    run.must_be_refused(
        "Role nginx refuses this host as it is; nothing was changed.",
        "/etc/nginx/sites-available/theirs,",
        "/etc/nginx/sites-enabled/theirs (leads to ../sites-available/theirs)",
        "/etc/nginx/snippets/theirs.conf",
        "-e nginx_take_over=true",
        "Role dns refuses this host as it is",
        "/etc/knot/knot.conf (changed by hand)",
        "-e dns_take_over=true",
        "/etc/ssh/sshd_config.d/50-theirs.conf: PasswordAuthentication yes",
        "base_firewall: ufw.service keeps a firewall on this host already",
        "base_firewall: nftables.service keeps a firewall on this host already",
        "-e base_take_over=true",
    )
    assert "sites-enabled/default" not in run.output and "X11Forwarding" not in run.output
    assert all(f"{name} " in run.output for name in names())
    # Nor does the word cut off what others reach, or do anything in a dry run.
    converge(**WORDS).must_be_refused("base_firewall: would cut off tcp 0.0.0.0:8080 (python3)")
    foreseen = converge("--check", base_listening_expected=[{"port": 8080}], **WORDS).must_succeed().changed
    assert len([task for task in foreseen if task.endswith("Access | Stop another tool's firewall")]) == len(servers)
    assert [server.run(RULES).stdout for server in servers] == before
    assert all(is_open(server, 8080) and not is_open(server, 80) for server in servers)


def test_what_was_theirs_is_copied_and_the_site_serves(converge, servers):
    before = {server.backend.name: server.check_output(f"cd /etc/nginx && {LISTED}") for server in servers}
    survives = [server.check_output(SURVIVES) for server in servers]
    run = converge(base_listening_expected=[{"port": 8080}], **WORDS).must_succeed()
    for server in servers:
        found = re.findall(r"/var/lib/webstack/copies/\S+-etc-nginx", run.output)
        copy = next(path for path in found if server.run(f"test -d {path}").rc == 0)
        kept = server.check_output(f"cd {copy} && {LISTED}")
        assert kept == before[server.backend.name]
        assert server.check_output("stat -c %a /var/lib/webstack/copies") == "700"
        assert server.run("test -e /etc/nginx/sites-available/theirs").rc != 0
        assert "foobar.com" in page(server)
        (copy,) = re.findall(rf"/var/lib/webstack/copies/\S+-{tool(server)}\b", run.output)
        assert server.run(f"cmp {copy}/ruleset.nft /dev/null").rc == 1
        assert server.check_output(f"stat -c %a {copy}") == "700"
        assert server.file(f"{copy}{SETTINGS[tool(server)]}").exists
        assert is_open(server, 80) and not is_open(server, 8080)
    assert [server.check_output(SURVIVES) for server in servers] == survives
    gone = (
        "nft list tables | grep theirs; grep ENABLED=yes /etc/ufw/ufw.conf; "
        f"systemctl is-enabled {' '.join(TOOLS.values())} | grep enabled; systemctl is-active {' '.join(TOOLS.values())} | grep -x active"
    )
    assert [server.run(gone).stdout for server in servers] == [""] * len(servers)


def test_a_takeover_that_was_cut_short_is_finished_without_the_word(converge, servers):
    """As a run leaves the host that was killed before it stopped the tool: the mark, and both firewalls."""
    copies = [server.check_output("ls /var/lib/webstack/copies") for server in servers]
    for server in servers:
        server.check_output(
            f"echo $(ls -d /var/lib/webstack/copies/*-{tool(server)}) >/var/lib/webstack/taken/{tool(server)}.service.unfinished; "
            + {"ufw": "ufw --force enable", "nftables": "sed -i '/flush/d' /etc/nftables.conf; systemctl enable --now nftables 2>&1"}[tool(server)]
        )  # fmt: skip
        assert not is_open(server, 80)
    run = converge(base_listening_expected=[{"port": 8080}]).must_succeed()
    assert [task.partition(": ")[2] for task in run.changed] == ["base : Access | Stop another tool's firewall"] * 2
    assert all(is_open(server, 80) for server in servers)
    assert [server.check_output("ls /var/lib/webstack/copies") for server in servers] == copies
    for server in servers:
        server.check_output("systemctl stop theirs-8080")


def test_afterwards_the_host_is_ours_and_the_words_are_needed_no_more(converge, servers):
    assert converge().must_succeed().changed == []
    # tests/unit/test_sites.py shows that every playbook that changes something asks.
    run = playbook(name=str(PROJECT / "playbooks/deploy.yml"), kept_by="elsewhere")
    run.must_be_refused("in inventory takeover", "in inventory elsewhere")
    for server in servers:
        assert "foobar.com" in page(server)
