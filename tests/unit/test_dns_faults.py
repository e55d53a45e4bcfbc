"""What role dns refuses, and the form in which it publishes."""

from __future__ import annotations

from typing import Any

import pytest
from loading import load

module = load("plugins/filter/dns_faults.py")

SECRET = "bm90IHNlY3JldCwgYnV0IDMyIGJ5dGVzIGxvbmcuLi4="
GOOD: dict[str, Any] = {
    "dns_zone": "example.com",
    "dns_records": [{"name": "ns1", "type": "A", "values": ["192.0.2.53"]}],
    "dns_ttl": 3600,
    "dns_publish": "authoritative",
    "dns_nameservers": ["ns1.example.com"],
    "dns_contact": "hostmaster@example.com",
    "dns_listen": ["0.0.0.0", "::"],
    "dns_primary": "",
    "dns_tsig": {},
}
UPDATE = {"dns_publish": "update", "dns_primary": "192.0.2.53", "dns_tsig": {"name": "web", "secret": SECRET}}


def faults(**inputs: Any) -> list[str]:
    return module.dns_faults({**GOOD, **inputs})


def record_faults(*records: dict[str, Any]) -> list[str]:
    return faults(dns_records=[*GOOD["dns_records"], *records])


def value_faults(kind: str, value: Any) -> list[str]:
    return record_faults({"name": "www", "type": kind, "values": [value]})


def published(kind: str, *values: Any, name: str = "www", **inputs: Any) -> dict[str, Any]:
    records = [{"name": name, "type": kind, "values": list(values)}]
    (rrset,) = module.dns_rrsets({**GOOD, **UPDATE, "dns_records": records, **inputs})
    return rrset


def one(found: list[str], path: str, *words: str) -> None:
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: "), found
    assert all(word in found[0] for word in words), found


def test_a_zone_of_ones_own_and_updates_of_anothers_have_no_fault():
    assert faults() == []
    assert faults(**UPDATE) == []
    assert faults(**{**UPDATE, "dns_primary": "ns1.example.net"}) == []


@pytest.mark.parametrize(
    ("name", "kind", "full"),
    [
        ("@", "A", "example.com."),
        ("www", "A", "www.example.com."),
        ("WWW.Example.COM.", "A", "www.example.com."),
        ("www.example.com", "A", "www.example.com."),
        ("a.b", "A", "a.b.example.com."),
        ("*", "A", "*.example.com."),
        ("*.a", "A", "*.a.example.com."),
        ("_dmarc", "TXT", "_dmarc.example.com."),
        ("_acme-challenge.www", "CNAME", "_acme-challenge.www.example.com."),
        ("notexample.com", "A", "notexample.com.example.com."),
        ("a" * 63, "A", "a" * 63 + ".example.com."),
    ],
)
def test_names_are_written_in_full(name, kind, full):
    value = {"A": "192.0.2.1", "TXT": "x", "CNAME": "www.example.net"}[kind]
    assert record_faults({"name": name, "type": kind, "values": [value]}) == []
    assert published(kind, value, name=name)["name"] == full


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        (".", "empty"),
        ("http://www.example.com/", "write the domain name alone"),
        ("www:80", "write the domain name alone"),
        ("a_b", "underscore"),
        ("-a", "neither begins nor ends"),
        ("a-", "neither begins nor ends"),
        ("a..b", "neither begins nor ends"),
        ("a.*", "neither begins nor ends"),
        ("a" * 64, "63"),
        (".".join(["a" * 50] * 5), "253"),
        ("www.example.net.", "is not in the zone example.com."),
        ("bücher", "xn--"),
        ("www\n$INCLUDE /etc/passwd", "write the domain name alone"),
        ("www A 192.0.2.1", "neither begins nor ends"),
        ("$ORIGIN", "neither begins nor ends"),
        ("a\\", "neither begins nor ends"),
    ],
)
def test_names_refused(name, words):
    one(record_faults({"name": name, "type": "A", "values": ["192.0.2.1"]}), "dns_records[1].name", words)


@pytest.mark.parametrize("zone", ["", "http://example.com", "a_b.com", "-a.com", "a" * 64 + ".com", "example.com\nx"])
def test_zones_refused(zone):
    one(faults(dns_zone=zone), "dns_zone")


@pytest.mark.parametrize(
    ("kind", "value", "canonical"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0::1", "2001:db8::1"),
        ("CNAME", "Www.Example.NET", "www.example.net."),
        ("CNAME", "a._domainkey.example.net.", "a._domainkey.example.net."),
        ("MX", "010  mail.example.com", "10 mail.example.com."),
        ("MX", "0 .", "0 ."),
        ("SRV", "1 2 443 www.example.com", "1 2 443 www.example.com."),
        ("NS", "ns.example.net", "ns.example.net."),
        ("CAA", "0 issue ca.example.net", '0 issue "ca.example.net"'),
        ("CAA", '0 issue ";"', '0 issue ";"'),
        ("TXT", "", '""'),
        ("TXT", 5, '"5"'),
        ("TXT", "v=spf1 -all", '"v=spf1 -all"'),
        ("TXT", 'a"b\\c', '"a\\034b\\092c"'),
        ("TXT", "é", '"\\195\\169"'),
        ("TXT", "k" * 256, f'"{"k" * 255}" "k"'),
    ],
)
def test_values_are_written_in_one_form(kind, value, canonical):
    assert value_faults(kind, value) == []
    assert published(kind, value)["values"] == [canonical]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("A", "192.0.2.256", "IPv4"),
        ("A", "www.example.com", "IPv4"),
        ("A", "192.0.2.1\n@ A 192.0.2.2", "\\x0a"),
        ("AAAA", "192.0.2.1", "IPv6"),
        ("AAAA", "fe80::1%eth0", "zone of its own"),
        ("CNAME", "www", "in full"),
        ("CNAME", "@", "in full"),
        ("CNAME", "http://www.example.net", "domain name alone"),
        ("MX", "mail.example.com", "a preference and a name"),
        ("MX", "65536 mail.example.com", "65535"),
        ("MX", "10 ma_il.example.com", "underscore"),
        ("MX", "10 192.0.2.1 x", "a preference and a name"),
        ("SRV", "1 2 sip.example.com", "priority, weight, port"),
        ("NS", "-ns.example.net", "neither begins"),
        ("CAA", "0 isue ca.example.net", "issue, issuewild"),
        ("CAA", "256 issue ca.example.net", "issue, issuewild"),
        ("CAA", '0 issue "ca"; x', "issue, issuewild"),
        ("CAA", "0 issue a\nb", "issue, issuewild"),
        ("TXT", "a\nb", "control character"),
        ("TXT", "a\x00", "control character"),
        ("TXT", "k" * 4001, "4001 bytes"),
    ],
)
def test_values_refused(kind, value, words):
    one(value_faults(kind, value), "dns_records[1].values[0]", words)


@pytest.mark.parametrize("ttl", [0, -1, 604801, "604801"])
def test_times_refused(ttl):
    one(faults(dns_ttl=ttl), "dns_ttl", "1 to 604800")
    one(record_faults({"name": "a", "type": "A", "values": ["192.0.2.1"], "ttl": ttl}), "dns_records[1].ttl", "604800")


def test_the_time_of_a_record_goes_before_that_of_all():
    records = [{"name": "a", "type": "A", "values": ["192.0.2.1"], "ttl": ttl} for ttl in (None, 60, "61")]
    for record, ttl in zip(records, (3600, 60, 61), strict=True):
        (rrset,) = module.dns_rrsets({**GOOD, **UPDATE, "dns_records": [record]})
        assert rrset["ttl"] == ttl


def test_what_cannot_stand_together():
    alias = {"name": "www", "type": "CNAME", "values": ["a.example.net"]}
    host = {"name": "WWW.example.com.", "type": "A", "values": ["192.0.2.1"]}
    one(record_faults(host, alias), "dns_records[2]", "www.example.com. is a CNAME", "dns_records[1]")
    one(record_faults(host, {**host, "name": "www"}), "dns_records[2]", "is dns_records[1] already")
    one(record_faults({**alias, "values": ["a.example.net", "b.example.net"]}), "dns_records[1].values", "not to 2")
    one(record_faults({**alias, "name": "@"}), "dns_records[1]", "the zone itself cannot be a CNAME")
    one(record_faults({"name": "@", "type": "NS", "values": ["a.example.net"]}), "dns_records[1]", "dns_nameservers")
    one(record_faults({**host, "values": []}), "dns_records[1].values", "empty")


@pytest.mark.parametrize(
    ("inputs", "path", "words"),
    [
        ({"dns_nameservers": []}, "dns_nameservers", "at least one"),
        ({"dns_nameservers": ["ns2.example.com"]}, "dns_nameservers[0]", "A or AAAA"),
        ({"dns_nameservers": ["ns1.example.com", "n_s.example.net"]}, "dns_nameservers[1]", "underscore"),
        ({"dns_contact": "example.com"}, "dns_contact", "mail address"),
        ({"dns_contact": "a\n@example.com"}, "dns_contact", "mail address"),
        ({"dns_contact": "a@-"}, "dns_contact", "not a domain name"),
        ({"dns_listen": []}, "dns_listen", "at least one"),
        ({"dns_listen": ['127.0.0.1" ]\nx: y']}, "dns_listen[0]", "not an address"),
        ({**UPDATE, "dns_primary": ""}, "dns_primary", "empty"),
        ({**UPDATE, "dns_primary": "192.0.2.53:53"}, "dns_primary", "has a port"),
        ({**UPDATE, "dns_tsig": {"secret": SECRET}}, "dns_tsig.name", "empty"),
        ({**UPDATE, "dns_tsig": {"name": "web"}}, "dns_tsig.secret", "not set"),
        ({**UPDATE, "dns_tsig": {"name": "web", "secret": ""}}, "dns_tsig.secret", "not set"),
        ({**UPDATE, "dns_tsig": {"name": "web", "secret": "no base64, is it?"}}, "dns_tsig.secret", "not base64"),
        ({**UPDATE, "dns_tsig": {"name": "web", "secret": "c2hvcnQgb25lLi4="}}, "dns_tsig.secret", "11 bytes"),
    ],
)
def test_what_publishing_needs(inputs, path, words):
    found = faults(**inputs)
    one(found, path, words)
    secret = inputs.get("dns_tsig", {}).get("secret")
    assert not secret or secret not in found[0]


def test_all_faults_are_named_at_once():
    bad = {"name": "a_b", "type": "A", "values": ["x", "y"], "ttl": 0}
    assert len(faults(dns_records=[bad], dns_ttl=0, dns_nameservers=[], dns_listen=[])) == 7
