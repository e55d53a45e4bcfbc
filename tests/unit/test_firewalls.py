"""Another tool's firewall: how it is known, what keeps it from being taken over, and what of others stays."""

from __future__ import annotations

import hashlib
import subprocess

import pytest
from loading import load


@pytest.fixture
def firewalls(tmp_path, monkeypatch):
    """The module, with a host's files below a folder."""
    module = load("plugins/module_utils/firewalls.py")
    for name, place in (
        ("UFW", "ufw/ufw.conf"), ("UFW_DEFAULTS", "default-ufw"), ("NFTABLES", "nftables.conf"), ("IPTABLES", "iptables"),
        ("FIREWALLD_DIRECT", "direct.xml"), ("COPIES", "copies"), ("TAKEN", "taken"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, tmp_path / place)
    for folder in ("ufw", "iptables"):
        (tmp_path / folder).mkdir()
    shipped = {str(tmp_path / "nftables.conf"): hashlib.md5(b"shipped").hexdigest()}
    monkeypatch.setattr(module, "conffiles", lambda _folder: shipped)
    return module


ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "disabled"}
AT_BOOT = {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "enabled"}
ABSENT = {"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": ""}


@pytest.mark.parametrize(
    ("unit", "state", "files", "keeps"),
    [
        ("firewalld.service", ACTIVE, {}, True),
        ("firewalld.service", AT_BOOT, {}, True),
        ("firewalld.service", ABSENT, {}, False),
        ("netfilter-persistent.service", ACTIVE, {}, True),
        ("ferm.service", ACTIVE, {}, True),
        ("ufw.service", ACTIVE, {"ufw/ufw.conf": "ENABLED=no\n"}, False),
        ("ufw.service", ACTIVE, {"ufw/ufw.conf": "# ENABLED=yes or no\nENABLED=yes\n"}, True),
        # As `ufw enable` leaves it, until the next boot.
        ("ufw.service", AT_BOOT | {"UnitFileState": "enabled"}, {"ufw/ufw.conf": "ENABLED=yes\n"}, True),
        ("ufw.service", ABSENT, {"ufw/ufw.conf": "ENABLED=yes\n"}, False),
        ("nftables.service", ACTIVE, {"nftables.conf": "shipped"}, False),
        ("nftables.service", ACTIVE, {"nftables.conf": "table inet mine {}"}, True),
        ("nftables.service", AT_BOOT, {"nftables.conf": "table inet mine {}"}, True),
        ("nftables.service", ACTIVE, {}, True),
    ],
)
def test_a_firewall_of_another_tool_is_known(firewalls, tmp_path, unit, state, files, keeps):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert firewalls.kept({unit: state}) == ([unit] if keeps else [])


NAT = "*nat\n:POSTROUTING ACCEPT [0:0]\n{}\nCOMMIT\n*filter\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("-A POSTROUTING -o eth0 -j MASQUERADE", "translates addresses ({path}: -A POSTROUTING -o eth0 -j MASQUERADE)"),
        ("-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", ""),
        ("-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER", ""),
        ("-A DOCKER ! -i br-0123456789ab -p tcp --dport 80 -j DNAT --to-destination 172.18.0.2:80", ""),
    ],
)
def test_what_translates_addresses_is_not_taken_over_but_for_what_an_engine_has_made(firewalls, tmp_path, rule, why):
    for unit, name in (("netfilter-persistent.service", "iptables/rules.v4"), ("ufw.service", "ufw/before.rules")):
        path = tmp_path / name
        path.write_text(NAT.format(rule))
        assert firewalls.why_not(None, unit) == why.format(path=path)


def test_what_would_clear_the_rules_of_everybody_is_not_taken_over(firewalls, tmp_path):
    assert "clears the rules of everybody" in firewalls.why_not(None, "ferm.service")
    assert firewalls.why_not(None, "ufw.service") == ""
    (tmp_path / "default-ufw").write_text("# MANAGE_BUILTINS=yes\nMANAGE_BUILTINS=yes\n")
    assert "MANAGE_BUILTINS" in firewalls.why_not(None, "ufw.service")


def test_what_nftables_declares_is_read_with_what_it_includes(firewalls, tmp_path):
    (tmp_path / "nftables.conf").write_text(
        'flush ruleset\n# table ip no { chain no { } }\n  include "more/*.nft"\n'
        "table inet filter { chain input { type filter hook input priority 0; }; chain output {\n}; }\n"
        "delete table inet webstack\nadd chain inet other c-1\nadd rule inet other c-1 accept\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.nft").write_text('table theirs\nadd chain theirs x { policy drop; }\ninclude "nftables.conf"\n')
    settings = firewalls.nftables_settings()
    assert firewalls.declared_tables(settings) == [("inet", "filter"), ("ip", "theirs")]
    assert firewalls.declared_chains(settings) == {"input", "output", "c-1", "x"}


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ({"chain": {"name": "input"}}, ""),
        ({"chain": {"name": "theirs"}}, "shares table ip filter with somebody else, whose chain theirs is in it"),
        ({"chain": {"name": "DOCKER"}}, "shares table ip filter with somebody else, whose chain DOCKER is in it"),
        ({"rule": {"chain": "input", "expr": [{"match": {}}, {"accept": None}]}}, ""),
        ({"rule": {"chain": "input", "expr": [{"redirect": {"port": 22}}]}}, "translates addresses (table ip filter, chain input)"),
        ({"rule": {"chain": "input", "expr": [{"xt": {"type": "target", "name": "DNAT"}}]}}, "translates addresses (table ip filter, chain input)"),
    ],
)  # fmt: skip
def test_tables_that_somebody_shares_or_that_translate_stay(firewalls, tmp_path, command, listed, why):
    # A ruleset that was saved as a whole declares the chains of the engine, too.
    (tmp_path / "nftables.conf").write_text("table ip filter { chain input { }\n chain DOCKER { }\n }\n")
    item = str({"nftables": [{"metainfo": {}}, listed]}).replace("'", '"').replace("None", "null")
    command("nft", f"""[ "$1" = -j ] && echo '{item}' || echo 'table ip filter'\n""")
    assert firewalls.why_not(run, "nftables.service") == why


def run(argv, check_rc=False, data=None):
    done = subprocess.run(argv, input=data, capture_output=True, text=True, check=check_rc)
    return done.returncode, done.stdout, done.stderr


def test_rules_of_engines_and_of_fail2ban_stay_where_all_else_is_opened(firewalls):
    rules = (
        "-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT DROP\n-N f2b-sshd\n-A INPUT -i lo -j ACCEPT\n"
        "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n"
        '-A INPUT -p tcp --dport 80 -m comment --comment "of mine, not -j f2b-" -j ACCEPT\n'
        "-A INPUT -i virbr0 -p udp --dport 53 -j ACCEPT\n-A FORWARD -j DOCKER\n-A OUTPUT -j MINE\n"
    )
    assert firewalls.opened(rules).splitlines() == [
        "*filter", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", "-F INPUT", "-F OUTPUT",
        "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
        "-A INPUT -i virbr0 -p udp --dport 53 -j ACCEPT",
        "COMMIT",
    ]  # fmt: skip


def test_a_takeover_that_was_cut_short_goes_on_with_the_copy_that_it_has(firewalls, tmp_path, command):
    for name in ("nft", "iptables-save", "ip6tables-save"):
        command(name, "echo rules of $0\n")
    (tmp_path / "ufw/ufw.conf").write_text("ENABLED=yes\n")
    firewalls.TOOLS["ufw.service"] = (str(tmp_path / "ufw"), str(tmp_path / "not-there"))
    copy = firewalls.begin(run, "ufw.service")
    assert firewalls.begun() == ["ufw.service"]
    (kept,) = (tmp_path / "copies").iterdir()
    assert str(kept) == copy and (tmp_path / "copies").stat().st_mode & 0o777 == kept.stat().st_mode & 0o777 == 0o700
    assert (kept / str(tmp_path)[1:] / "ufw/ufw.conf").read_text() == "ENABLED=yes\n"
    assert "rules of" in (kept / "ruleset.nft").read_text()
    (tmp_path / "ufw/ufw.conf").write_text("ENABLED=no\n")  # as the tool's own word leaves it
    assert firewalls.begin(run, "ufw.service") == copy
    assert list((tmp_path / "copies").iterdir()) == [kept]
