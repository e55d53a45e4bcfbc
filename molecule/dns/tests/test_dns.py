"""Role dns: what name servers answer, what survives, what is refused."""

import contextlib
import copy
import re
import time
from pathlib import Path

import pytest
import testinfra
import yaml
from scenario import each, names, until

INSTALL = "dns : Install | What serves the zone, and what asks"
SERVE = "dns : Serve | Knot DNS, its zone and its unit"
PUBLISH = "dns : Publish | The records, asked back from the name servers"
PLAYS = yaml.safe_load(Path(__file__).parents[1].joinpath("converge.yml").read_text(encoding="utf-8"))
SERVED, KEPT = PLAYS[0]["vars"]["served"], PLAYS[1]["vars"]["kept"]
SECRET = yaml.safe_load(Path(__file__).parents[1].joinpath("molecule.yml").read_text(encoding="utf-8"))["provisioner"][
    "inventory"
]["group_vars"]["all"]["key_secret"]
LOG = "/var/log/knot/queries.dnstap"
WWW = "www.example.com. 300 A {}"
WRONG_SECRET = "YW5vdGhlciBjNG5hcnksIGFsc28gMzIgYnl0ZXMgbG9uZw=="
HOSTS = [name for name in names() if "primary" not in name]

# Prints the code, the flags and the values of one answer; a value of text as it was before it was quoted.
ASK = r"""
import sys, dns.flags, dns.message, dns.query, dns.rcode, dns.rdatatype
server, name, kind, way, *options = sys.argv[1:]
message = dns.message.make_query(name, kind, want_dnssec="dnssec" in options)
if "chaos" in options:
    message.question[0].rdclass = 3
answer = dns.query.tcp(message, server, timeout=3) if way == "tcp" else dns.query.udp_with_fallback(message, server, timeout=3)[0]
print(dns.rcode.to_text(answer.rcode()), dns.flags.to_text(answer.flags))
for rrset in answer.answer or answer.authority:
    for rdata in rrset:
        text = b"".join(rdata.strings).decode() if rrset.rdtype == dns.rdatatype.TXT else rdata.to_text()
        print(rrset.name, rrset.ttl, dns.rdatatype.to_text(rrset.rdtype), text)
"""
# A burst of questions, as in another's name; prints how many were answered in full.
FLOOD = r"""
import socket, sys, dns.message
message = dns.message.make_query(sys.argv[2], "SOA").to_wire()
answers = []
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
    flood.connect((sys.argv[1], 53))
    for number in range(3000):
        flood.send(message)
        flood.settimeout(0.0005 if number < 2999 else 1)
        try:
            answers.append(dns.message.from_wire(flood.recv(4096)))
        except TimeoutError:
            pass
print(len([answer for answer in answers if answer.answer]))
"""


def host(name):
    return testinfra.get_host(f"docker://{name}")


@pytest.fixture(params=HOSTS)
def nameserver(request):
    return host(request.param)


@pytest.fixture
def servers():
    return [host(name) for name in HOSTS]


@pytest.fixture
def primary():
    return host(next(name for name in names() if "primary" in name))


def address(of):
    return of.check_output("hostname -I").split()[0]


def ask(asked, name, kind="A", way="udp", at="127.0.0.1", options=""):
    """The code and flags of an answer, and its records, each `name ttl type value`."""
    head, *records = asked.check_output(f"python3 -c %s {at} {name} {kind} {way} {options}", ASK).splitlines()
    return head, records


def answers(server, address="192.0.2.1"):
    head, records = ask(server, "www.example.com")
    return head.startswith("NOERROR") and records == [WWW.format(address)]


@contextlib.contextmanager
def lost(server, *addresses):
    """What the server sends there is lost on the way, as at a firewall."""
    for to in addresses:
        server.check_output(f"ip neighbour replace {to} lladdr 02:00:00:00:00:01 nud permanent dev eth0")
    try:
        yield
    finally:
        for to in addresses:
            server.check_output(f"ip neighbour delete {to} dev eth0")


def tasks(run):
    return [line.split(": ", 1)[1] for line in run.changed]


def serial(asked, zone="example.com"):
    return int(ask(asked, zone, "SOA")[1][0].split()[5])


def served(**changes):
    """The records of converge.yml, that of www changed."""
    changed = copy.deepcopy(SERVED)
    changed[3].update(changes)
    return changed


def only_served(converge, *arguments, **variables):
    """A run of the first play, for the zone that is served here."""
    return converge("--skip-tags", "update", *arguments, **variables)


def only_kept(converge, *arguments, **variables):
    """A run of the second, for the zone of the primary."""
    return converge("--tags", "update", *arguments, **variables)


def kept(**changes):
    """The records of converge.yml that the primary is told, the first changed."""
    changed = copy.deepcopy(KEPT)
    changed[0].update(changes)
    return changed


@pytest.fixture
def primary_restored(primary):
    """What the tests changed at the primary goes; the next run tells it anew what is declared."""
    yield
    # Stopped, since rndc writes zone files after it has answered.
    primary.check_output(
        "systemctl stop named && cp /root/example.net.zone /var/lib/bind/ && rm -f /var/lib/bind/example.net.zone.jnl"
        " && systemctl start named"
    )
    until(lambda: ask(primary, "example.net", "SOA")[1])


@pytest.fixture(scope="module", autouse=True)
def zone_of_the_primary():
    """A copy of it as the first run has left it."""
    asked = host(next(name for name in names() if "primary" in name))
    asked.check_output(
        "rndc sync -clean example.net && systemctl stop named && cp /var/lib/bind/example.net.zone /root/ && systemctl start named"
    )
    until(lambda: ask(asked, "example.net", "SOA")[1])


# The zone that is served here


@pytest.mark.parametrize("way", ["udp", "tcp"])
def test_every_type_is_answered_with_authority(nameserver, way):
    for name, kind, records in (
        ("example.com", "A", ["example.com. 3600 A 192.0.2.1"]),
        ("www.example.com", "AAAA", ["www.example.com. 3600 AAAA 2001:db8::1"]),
        ("example.com", "MX", ["example.com. 3600 MX 10 mx.example.org.", "example.com. 3600 MX 20 mx.example.net."]),
        ("example.com", "NS", ["example.com. 3600 NS ns1.example.com.", "example.com. 3600 NS ns2.example.com."]),
        ("_sip._tcp.example.com", "SRV", ["_sip._tcp.example.com. 3600 SRV 10 5 5060 sip.example.net."]),
        ("long._domainkey.example.com", "TXT", [f"long._domainkey.example.com. 3600 TXT {'k' * 600}"]),
    ):
        head, found = ask(nameserver, name, kind, way)
        assert head.startswith("NOERROR") and " AA" in head, (name, head)
        assert sorted(found) == sorted(records)
    assert ask(nameserver, "anything.example.com")[1] == [
        "anything.example.com. 3600 CNAME www.example.com.",
        "www.example.com. 300 A 192.0.2.1",
    ]
    assert ask(nameserver, "a.sub.example.com")[1] == ["sub.example.com. 3600 NS ns.example.net."]


def test_a_hostile_text_is_a_text(nameserver):
    (text, policy) = sorted(ask(nameserver, "hostile.example.com", "TXT")[1])
    assert text == 'hostile.example.com. 3600 TXT a" b\\ ; $INCLUDE /etc/shadow ü ) ('
    assert policy.endswith("TXT v=spf1 -all")


def test_nothing_but_its_own_zone_is_answered(nameserver):
    head, records = ask(nameserver, "www.example.org")
    assert head.startswith("REFUSED") and "RA" not in head.split()
    assert records == []
    assert ask(nameserver, "version.bind", "TXT", options="chaos")[0].startswith("REFUSED")
    assert ask(nameserver, "id.server", "TXT", options="chaos")[0].startswith("REFUSED")
    assert ask(nameserver, "example.com", "AXFR", "tcp")[0].startswith("NOTAUTH")


def test_it_listens_on_port_53_alone(nameserver):
    sockets = {line.split()[4] for line in nameserver.check_output("ss -Hlntu").splitlines()}
    assert sockets == {"0.0.0.0:53", "[::]:53"}


def test_a_flood_is_answered_in_part_and_a_resolver_gets_through(servers, primary):
    one, other = servers
    # The primary of the other zone has no limit: there the same burst is answered.
    assert int(other.check_output("python3 -c %s %s example.net", FLOOD, address(primary))) > 2000
    assert int(other.check_output("python3 -c %s %s example.com", FLOOD, address(one))) < 1500
    assert ask(other, "www.example.com", way="tcp", at=address(one))[1] == ["www.example.com. 300 A 192.0.2.1"]
    assert answers(one)


def test_knot_is_sandboxed_and_comes_back(nameserver):
    if nameserver.system_info.release == "13":
        exposure = nameserver.check_output("systemd-analyze security knot | tail -n 1")
        assert float(re.search(r"[0-9]+\.[0-9]", exposure)[0]) <= 3.0
    assert nameserver.service("knot").is_enabled
    assert nameserver.check_output("stat -c %U /proc/$(systemctl show --value -p MainPID knot)") == "knot"
    assert nameserver.run("setpriv --reuid=knot --regid=knot --clear-groups touch /etc/knot/knot.conf").rc != 0
    nameserver.check_output("kill -9 $(systemctl show --value -p MainPID knot)")
    until(lambda: nameserver.run("python3 -c %s 127.0.0.1 example.com SOA udp", ASK).rc == 0, seconds=5)
    assert answers(nameserver)


@pytest.fixture
def resolver():
    """Lets a host ask another server as its resolver: resolver(host, address)."""
    asked = []

    def set_to(server, of):
        asked.append(server)
        server.check_output("cp /etc/resolv.conf /root/ && echo nameserver %s > /etc/resolv.conf", of)

    yield set_to
    for server in asked:
        server.check_output("cat /root/resolv.conf > /etc/resolv.conf")


# From here on each test takes the zone as the one before has left it, and declares another, or that of converge.yml again.


def test_a_signed_zone_has_signatures(converge, servers):
    for server in servers:
        assert {line.split()[2] for line in ask(server, "example.com", "DNSKEY")[1]} == {"SOA"}
        # A reload alone does not raise the serial.
        before = serial(server)
        server.check_output("systemctl reload knot")
        assert serial(server) == before
    only_served(converge, dns_dnssec=True).must_succeed()
    for server in servers:
        keys = ask(server, "example.com", "DNSKEY")[1]
        assert {line.split()[3] for line in keys} == {"256", "257"}
        kinds = {line.split()[2] for line in ask(server, "www.example.com", options="dnssec")[1]}
        assert kinds == {"A", "RRSIG"}
        assert server.check_output("keymgr example.com ds").startswith("example.com. DS ")
        assert server.file("/var/lib/knot/keys").mode & 0o007 == 0


def test_another_declaration_replaces_the_one_before_with_a_higher_serial(converge, servers, resolver):
    """No signatures, fewer records, and others: each host is the other's resolver, and has another version of the zone."""
    fewer = [record for record in served() if record["name"] not in ("*", "hostile")]
    before = [serial(server) for server in servers]
    told = {}
    for number, (server, other) in enumerate((servers, servers[::-1])):
        resolver(server, address(other))
        www = {**served()[3], "values": [f"192.0.2.{number + 2}"]}
        told[f"debian{12 + number}"] = {
            "served": [*fewer[:3], www, *fewer[4:]],
            "dns_nameservers": [f"ns{number + 1}.example.com"],
        }
    run = only_served(converge, **each(**told)).must_succeed()
    assert tasks(run) == [SERVE] * len(servers)
    for own, other in ((1, 2), (2, 1)):
        run.must_say(
            f"example.com. NS is ns{other}.example.com. for another 3600 s, declared is ns{own}.example.com.;",
            f"www.example.com. A is 192.0.2.{other + 1} for another 300 s, declared is 192.0.2.{own + 1}",
        )
    changed = [serial(server) for server in servers]
    for number, server in enumerate(servers):
        assert changed[number] > before[number]
        assert ask(server, "www.example.com", options="dnssec")[1] == [WWW.format(f"192.0.2.{number + 2}")]
        for name, kind in (("hostile", "TXT"), ("anything", "A")):
            assert ask(server, f"{name}.example.com", kind)[0].startswith("NXDOMAIN")
        server.check_output("systemctl restart knot")
        until(lambda server=server: server.run("python3 -c %s 127.0.0.1 example.com SOA udp", ASK).rc == 0)
    assert [serial(server) for server in servers] == changed


# The log of questions


def logged(server):
    """What was asked according to the log, each with its type, who asked, and how. The reload has Knot write it all."""
    server.check_output("systemctl reload knot")
    entry = r"QUESTION SECTION:\n;; (\S+)\s+IN\s+(\S+)\n.*?\n;; From (\S+)@\d+\((UDP|TCP)\)"
    return re.findall(entry, server.check_output(f"kdig -G {LOG}.1 +qr"), re.DOTALL)


def test_questions_are_logged_with_who_asked_while_that_is_switched_on(converge, servers):
    for server in servers:
        assert not server.file(LOG).exists
    dry = converge("--check", dns_query_log=True).must_succeed()
    assert set(tasks(dry)) == {INSTALL, SERVE}
    converge("--tags", "dns", dns_query_log=True).must_succeed()
    for server, other in (servers, servers[::-1]):
        ask(other, "www.example.com", "AAAA", at=address(server))
        ask(other, "nobody-has.example.org", "MX", "tcp", at=address(server))
        found = logged(server)
        assert ("www.example.com.", "AAAA", address(other), "UDP") in found
        assert ("nobody-has.example.org.", "MX", address(other), "TCP") in found
        assert server.file("/var/log/knot").mode == 0o750 and server.file(LOG).mode & 0o007 == 0


def test_a_run_with_nothing_to_change_leaves_all_serials_and_warns_of_who_does_not_have_the_records(
    converge, servers, primary, resolver
):
    """The name servers do not hear each other. Of the resolvers, one sees example.net alone, and the other is not asked."""
    old, new = servers
    resolver(old, address(primary))
    resolver(new, "127.0.0.1")
    before = [*map(serial, servers), serial(primary, "example.net")]
    with lost(new, address(old)):
        run = converge(dns_query_log=True, **each({"dns_ask_resolver": True}, {"dns_ask_resolver": False}))
    assert run.must_succeed().changed == []
    assert [*map(serial, servers), serial(primary, "example.net")] == before
    run.must_say(
        f"ns1.example.com. ({address(old)}) does not answer",
        f"ns2.example.com. ({address(new)}) does not answer",
        "resolver does not see all of example.com. as declared: it does not answer",
    )
    assert "resolver does not see all of example.net." not in " ".join(run.output.split())


def test_the_log_is_kept_for_a_day_and_nothing_is_logged_when_it_is_off_again(converge, servers):
    """A change of the zone, and the night, leave the log whole."""
    for server in servers:
        ask(server, "before.example.com", "AAAA")
    converge("--tags", "dns_serve", dns_query_log=True, served=served(values=["192.0.2.2"])).must_succeed()
    for server in servers:
        assert "before.example.com" in server.check_output(f"kdig -G {LOG}.1 +qr")
        ask(server, "by-day.example.com", "AAAA")
        server.check_output("logrotate --force /etc/logrotate.d/knot")
        text = server.check_output(f"kdig -G {LOG}.1 +qr")
        assert "by-day.example.com" in text and "before.example.com" not in text
        assert set(server.check_output("ls /var/log/knot").split()) == {"queries.dnstap", "queries.dnstap.1"}
    converge("--tags", "dns").must_succeed()
    for server in servers:
        before = server.check_output("find /var/log/knot -type f -printf '%p %s %T@\n' | sort")
        ask(server, "www.example.com")
        server.check_output("systemctl reload knot && systemctl restart knot")
        assert server.check_output("find /var/log/knot -type f -printf '%p %s %T@\n' | sort") == before
        server.check_output("rm -r /var/log/knot")


# Refusals


def test_bad_inputs_are_refused_while_the_zone_goes_on_being_answered(converge, servers):
    """By the role's rules on one host, by its spec on the other: tests/unit/test_dns_faults.py has all that it refuses."""
    rules = {
        "served": [
            *SERVED,
            {"name": "www", "type": "CNAME", "values": ["www.example.org"]},
            {"name": "a_b", "type": "A", "values": ["192.0.2.1"], "ttl": 0},
            {"name": "x", "type": "TXT", "values": ['a"\n$INCLUDE /etc/shadow']},
        ],
        "dns_publish": "authoritative",
    }
    spec = {
        "served": [
            {"name": "x", "type": "SPF", "values": ["x"]},
            {"name": "x", "type": "A", "value": ["x"]},
            {"name": "x", "type": "A", "values": ["x"], "ttl": "1h"},
        ],
        "dns_publish": "maybe",
    }
    converge(**each(rules, spec)).must_be_refused(
        "dns_records[12]: www.example.com. is a CNAME, beside which nothing can stand",
        "dns_records[13].name: 'a_b' has an underscore",
        "dns_records[13].ttl: 0 is not possible",
        "dns_records[14].values[0]: 'a\"\\x0a$INCLUDE /etc/shadow' holds a newline",
        "must be one of: A, AAAA, CAA, CNAME, MX, NS, SRV, TXT, got: SPF",
        "dns_records.value. Supported parameters include: name, ttl",
        "argument 'ttl' is of type str found in 'dns_records'. and we were unable to convert to int: \"'1h'\"",
        "dns_publish must be one of: authoritative, update, got: maybe",
    )
    assert all(answers(server) for server in servers)


def test_an_address_that_the_host_does_not_have_is_refused(converge, servers):
    before = [server.check_output("cat /etc/knot/knot.conf") for server in servers]
    run = only_served(converge, dns_listen=["192.0.2.77"])
    run.must_be_refused("dns_listen: 192.0.2.77 is no address of this host")
    assert run.output.count("192.0.2.77 is no address") >= len(servers), run.output
    assert [server.check_output("cat /etc/knot/knot.conf") for server in servers] == before
    for server in servers:
        until(lambda server=server: answers(server))


# Repairs


def edit_by_hand(server):
    server.check_output("echo 'mine.example.com. 60 A 192.0.2.7' >> /etc/knot/zones/example.com.zone")
    server.check_output("echo '# mine' >> /etc/knot/knot.conf; touch /etc/knot/more; systemctl reload knot")
    until(lambda: ask(server, "mine.example.com")[1] == ["mine.example.com. 60 A 192.0.2.7"], seconds=5)


def leave_a_reload_out(server):
    """As a killed run does: the file is as declared, and Knot still has another zone."""
    server.check_output(
        "cd /etc/knot/zones && cp -p example.com.zone /tmp/ && sed -i 's/300 A 192.0.2.1$/300 A 192.0.2.66/' "
        "example.com.zone && systemctl reload knot"
    )
    until(lambda: answers(server, "192.0.2.66"))
    server.check_output("cat /tmp/example.com.zone > /etc/knot/zones/example.com.zone")


def test_what_has_drifted_is_foreseen_repaired_and_put_back_once(converge, servers, primary):
    """Hand edits on one host, a reload that was left out on the other, and the other way round; and a record at the primary."""
    old, new = servers
    edit_by_hand(old)
    leave_a_reload_out(new)
    primary.check_output(
        "printf 'server 127.0.0.1\nzone example.net\nupdate delete www.example.net. A\nsend\n' | "
        f"nsupdate -y hmac-sha256:webserver:{SECRET}"
    )
    assert ask(primary, "www.example.net")[1][0].split()[2] == "SOA"
    before = serial(primary, "example.net")
    assert sorted(tasks(converge("--check").must_succeed())) == sorted([SERVE, PUBLISH] * len(servers))
    assert serial(primary, "example.net") == before
    # Both hosts at once: one is the first, and the other finds it done or is overtaken and looks again.
    changed = tasks(converge().must_succeed())
    assert set(changed) == {SERVE, PUBLISH} and changed.count(SERVE) == len(servers)
    assert ask(primary, "www.example.net")[1] == ["www.example.net. 3600 A 192.0.2.1"]
    assert serial(primary, "example.net") == before + 1

    leave_a_reload_out(old)
    edit_by_hand(new)
    assert tasks(converge().must_succeed()) == [SERVE] * len(servers)
    assert serial(primary, "example.net") == before + 1
    for server in servers:
        assert ask(server, "mine.example.com")[1][0].split()[2] == "CNAME"
        assert not server.file("/etc/knot/more").exists
        until(lambda server=server: answers(server))


def test_a_dry_run_of_converged_hosts_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


def test_an_answer_that_nobody_declared_fails_the_run_with_both_values(converge, servers):
    """Knot's own control can change the zone behind the file's back. The other name server of the zone notices, too."""
    _old, new = servers
    new.check_output(
        "knotc zone-begin example.com && knotc zone-unset example.com www A && "
        "knotc zone-set example.com www 300 A 192.0.2.66 && knotc zone-commit example.com"
    )
    try:
        run = converge("--tags", "dns").must_fail()
    finally:
        new.check_output("systemctl restart knot")
    for label in ("127.0.0.1", f"ns2.example.com. ({address(new)})"):
        run.must_say(f"{label}: www.example.com. A is 192.0.2.66, declared is 192.0.2.1")
    until(lambda: answers(new))


# The zone of another


def test_the_primary_has_the_declared_records_and_all_others_still(primary):
    assert ask(primary, "www.example.net")[1] == ["www.example.net. 3600 A 192.0.2.1"]
    assert ask(primary, "www.example.net", "TXT")[1] == ['www.example.net. 60 TXT of the web server; "quoted"']
    assert ask(primary, "old.example.net")[1] == ["old.example.net. 600 A 192.0.2.9"]
    assert len(ask(primary, "two.example.net")[1]) == 2


def test_a_record_that_points_elsewhere_stops_the_run_unless_that_is_meant_and_the_secret_is_said_nowhere(
    converge, primary, servers, primary_restored
):
    """Beside a CNAME nothing is put, and a wildcard is no record."""
    _old, new = servers
    before = serial(primary, "example.net")
    elsewhere = [*kept(name="two", values=["192.0.2.1"]), *kept(name="a.wild")[:1]]
    words = ("two.example.net. A is 192.0.2.8, 192.0.2.9, declared is 192.0.2.1", "dns_replace=true")
    beside = [*kept(name="alias"), {"name": "old", "type": "CNAME", "values": ["www.example.org"]}]
    refused, replaced = {"kept": elsewhere, "dns_replace": False}, {"kept": elsewhere, "dns_replace": True}
    only_kept(converge, **each(refused, {"kept": beside, "dns_replace": True})).must_be_refused(
        *words,
        "alias.example.net. is a CNAME that leads to old.example.net., beside which no A can stand; remove that at the primary first",
        "old.example.net. has records of other types, beside which no CNAME can stand; remove that at the primary first",
    )
    dry = only_kept(converge, "--check", "--diff", **each(refused, replaced)).must_fail(*words)
    assert dry.changed == [f"{new.backend.name}: {PUBLISH}"]
    dry.must_say("-two.example.net. 600 IN A 192.0.2.8", "+two.example.net. 3600 IN A 192.0.2.1")
    assert serial(primary, "example.net") == before
    assert ask(primary, "alias.example.net")[1][0] == "alias.example.net. 600 CNAME old.example.net."

    watch = "while sleep 0.02; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; done > /tmp/processes"
    for server in servers:
        server.check_output("systemd-run --quiet --unit watcher sh -c %s", watch)
    try:
        run = only_kept(converge, "-vvv", "--diff", **replaced).must_succeed()
    finally:
        for server in servers:
            server.check_output("systemctl stop watcher")
    assert set(tasks(run)) == {PUBLISH}
    assert ask(primary, "two.example.net")[1] == ["two.example.net. 3600 A 192.0.2.1"]
    assert ask(primary, "a.wild.example.net")[1] == ["a.wild.example.net. 3600 A 192.0.2.1"]
    assert ask(primary, "b.wild.example.net")[1] == ["b.wild.example.net. 600 A 192.0.2.10"]
    assert SECRET not in run.output
    for server in servers:
        assert server.run("grep -aqF %s /tmp/processes", SECRET).rc == 1
        assert server.run("journalctl --no-pager | grep -qF %s", SECRET).rc == 1
        assert server.run("grep -rqF %s /etc /var/lib /root /run --exclude-dir=journal", SECRET).rc == 1
        assert server.run("grep -aqF python3 /tmp/processes").rc == 0
    assert only_kept(converge, kept=elsewhere).must_succeed().changed == []


RIGHT = {
    "zone": "example.net",
    "primary": "{{ hostvars[groups['primaries'][0]].address }}",
    "key_name": "webserver",
    "key_secret": SECRET,
}


# Each pair is one run: the first is told to Debian 12, the second to Debian 13.
@pytest.mark.parametrize(
    ("debian12", "debian13", "words"),
    [
        (
            {"zone": "example.edu"},
            {"zone": "example.org"},
            ["does not serve example.edu.", "REFUSED", "does not take updates of this zone"],
        ),
        (
            {"key_name": "stranger"},
            {"key_secret": WRONG_SECRET},
            ["does not know the key stranger.", "has another secret for the key webserver."],
        ),
        (
            {"primary": "127.0.0.9"},
            {"primary": "no-such-primary.example.invalid"},
            [
                "127.0.0.9 does not serve example.net.: it answers REFUSED",
                "The address of no-such-primary.example.invalid is not found",
            ],
        ),
        (
            {"key_secret": "not base64, is it?"},
            {"key_secret": "REPLACE_ME_REPLACE_ME"},
            ["dns_tsig.secret: not base64", "dns_tsig.secret: still a placeholder"],
        ),
    ],
    ids=["zone", "key", "server", "input"],
)
def test_a_primary_that_does_not_take_the_update_is_said_with_the_reason(converge, primary, debian12, debian13, words):
    before = serial(primary, "example.net")
    run = only_kept(converge, "-vvv", "--diff", kept=kept(name="new"), **each(RIGHT | debian12, RIGHT | debian13))
    run.must_be_refused(*words)
    assert serial(primary, "example.net") == before
    for secret in (SECRET, WRONG_SECRET, "not base64, is it?"):
        assert secret not in run.output


def test_a_primary_behind_a_firewall_fails_within_a_minute(converge, primary, servers):
    with lost(primary, *map(address, servers)):
        begin = time.monotonic()
        run = only_kept(converge)
        assert time.monotonic() - begin < 60
    run.must_be_refused("does not answer", "does its firewall let this host reach port 53")


def test_knot_goes_when_another_server_has_taken_the_zone_over(converge, servers, primary):
    """example.net, first served here, then kept at the primary. The keys stay, for who goes back."""
    moved = {"dns_zone": "example.net", "dns_records": KEPT, "dns_nameservers": ["ns1.example.org"]}
    only_served(converge, **moved).must_succeed()
    for server in servers:
        assert ask(server, "www.example.net")[1] == ["www.example.net. 3600 A 192.0.2.1"]
    stop, remove = (
        f"dns : Publish | {task}"
        for task in ("Stop Knot DNS, now that another server has the zone", "Remove its configuration")
    )
    run = only_kept(converge).must_succeed()
    assert set(tasks(run)) == {stop, remove}
    for server in servers:
        assert not server.service("knot").is_running and not server.service("knot").is_enabled
        assert (
            server.run("ls -A /etc/knot/knot.conf /etc/knot/zones/* /etc/systemd/system/knot.service.d/*").stdout == ""
        )
        assert server.file("/var/lib/knot").exists
    assert ask(primary, "www.example.net")[1] == ["www.example.net. 3600 A 192.0.2.1"]
    assert only_kept(converge).must_succeed().changed == []
