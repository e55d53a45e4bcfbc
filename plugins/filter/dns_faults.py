# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The records of role dns: what is wrong with them, and the one form in which they are published.

A value never goes into a zone as it was written: it is parsed, checked, and written anew in one form.
Not by dnspython: its parser also accepts comments, escapes and RFC 3597 data, and its errors do not say what to write.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import CONTROL, shown
from ansible_collections.foobar.webstack.plugins.plugin_utils import formats

Inputs = dict[str, Any]
Faults = Iterator[str]

NUMBER = re.compile(r"[0-9]{1,5}")
CAA = re.compile(r'([0-9]{1,3})\s+([a-z]+)\s+("?)([^"\\]*)\3')
CAA_TAGS = ("issue", "issuewild", "issuemail", "iodef", "contactemail", "contactphone")
# Types whose names may have underscores: names of services and keys, such as _dmarc. Names of hosts may not.
UNDERSCORE_ALLOWED = ("CNAME", "SRV", "TXT")
LONGEST_TTL = 604800  # a week; resolvers cap longer ones
LONGEST_TEXT = 4000  # bytes; a larger answer does not reach every resolver
KEY_BYTES = 16


class Refused(Exception):
    """Why a value cannot be published, as the end of a sentence that begins with it."""


def dns_faults(inputs: Inputs) -> list[str]:
    """Every fault in the role's inputs, each as `path.of.the[0].value: what is wrong and what is allowed`."""
    try:
        zone = _domain(str(inputs["dns_zone"]))
    except Refused as refused:
        return [f"dns_zone: '{shown(inputs['dns_zone'])}' {refused}"]
    authoritative = inputs["dns_publish"] == "authoritative"
    return [
        *_ttl_faults("dns_ttl", inputs["dns_ttl"]),
        *_record_faults(inputs["dns_records"] or [], zone),
        *(_server_faults(inputs, zone) if authoritative else _primary_faults(inputs)),
    ]


def dns_rrsets(inputs: Inputs) -> list[dict[str, Any]]:
    """The records, with every name in full and every value as a zone file takes it, in the order of the zone."""
    zone = _domain(str(inputs["dns_zone"]))
    rrsets = [
        {
            "name": _owner(str(record["name"]), zone, record["type"]),
            "type": record["type"],
            "ttl": int(record.get("ttl") or inputs["dns_ttl"]),
            "values": _values(record),
        }
        for record in inputs["dns_records"]
    ]
    if inputs["dns_publish"] == "authoritative":
        servers = [_domain(str(name)) for name in inputs["dns_nameservers"]]
        rrsets.append({"name": zone, "type": "NS", "ttl": int(inputs["dns_ttl"]), "values": servers})
    return sorted(rrsets, key=lambda rrset: (rrset["name"].split(".")[::-1], rrset["type"]))


def dns_mailbox(address: str) -> str:
    """A mail address as a zone names its contact, with a dot in the place of the @."""
    found = formats.MAIL.fullmatch(address)
    if not found:
        raise Refused("is not a mail address such as hostmaster@example.com")
    return found[1].replace(".", "\\.") + "." + _domain(found[2])


def _record_faults(records: list[dict[str, Any]], zone: str) -> Faults:
    places: dict[tuple[str, str], str] = {}
    for index, record in enumerate(records):
        path = f"dns_records[{index}]"
        if record.get("ttl") is not None:
            yield from _ttl_faults(f"{path}.ttl", record["ttl"])
        yield from _value_faults(path, record)
        try:
            owner = _owner(str(record["name"]), zone, record["type"])
        except Refused as refused:
            yield f"{path}.name: '{shown(record['name'])}' {refused}"
            continue
        if record["type"] == "NS" and owner == zone:
            yield f"{path}: the name servers of the zone itself are said in dns_nameservers, or by the primary"
        if record["type"] == "CNAME" and owner == zone:
            yield f"{path}: the zone itself cannot be a CNAME; give it the A and AAAA records of the server"
        if (owner, record["type"]) in places:
            yield (
                f"{path}: {owner} {record['type']} is {places[owner, record['type']]} already; "
                "put all of its values in one list"
            )
        places.setdefault((owner, record["type"]), path)
    for (owner, kind), path in places.items():
        others = [place for (name, other), place in places.items() if name == owner and other != kind]
        if kind == "CNAME" and others:
            yield f"{path}: {owner} is a CNAME, beside which nothing can stand; it stands beside {', '.join(others)}"


def _value_faults(path: str, record: dict[str, Any]) -> Faults:
    values = record["values"] or []
    if not values:
        yield f"{path}.values: empty; a record has at least one value"
    if record["type"] == "CNAME" and len(values) > 1:
        yield f"{path}.values: a CNAME leads to one name, not to {len(values)}"
    for index, value in enumerate(values):
        try:
            VALUES[record["type"]](str(value))
        except Refused as refused:
            yield f"{path}.values[{index}]: '{shown(value)}' {refused}"


def _server_faults(inputs: Inputs, zone: str) -> Faults:
    """Faults in the inputs of an authoritative zone."""
    if not inputs["dns_nameservers"]:
        yield "dns_nameservers: empty; a zone names at least one server, such as ns1.example.com"
    addressed = set()
    for record in inputs["dns_records"] or []:
        if record["type"] in ("A", "AAAA"):
            try:
                addressed.add(_owner(str(record["name"]), zone, record["type"]))
            except Refused:
                continue  # reported by _record_faults
    for index, name in enumerate(inputs["dns_nameservers"]):
        try:
            server = _domain(str(name))
        except Refused as refused:
            yield f"dns_nameservers[{index}]: '{shown(name)}' {refused}"
            continue
        if _within(server, zone) and server not in addressed:
            yield f"dns_nameservers[{index}]: {server} is in the zone, so dns_records must hold its A or AAAA record"
    try:
        dns_mailbox(str(inputs["dns_contact"]))
    except Refused as refused:
        yield f"dns_contact: '{shown(inputs['dns_contact'])}' {refused}"
    if not inputs["dns_listen"]:
        yield "dns_listen: empty; name at least one address of the host, or 0.0.0.0 for all"
    for index, address in enumerate(inputs["dns_listen"]):
        if not formats.is_address(address):
            yield f"dns_listen[{index}]: '{shown(address)}' is not an address such as 192.0.2.53, 0.0.0.0 or ::"


def _primary_faults(inputs: Inputs) -> Faults:
    """Faults in the inputs for updates at another server. No fault shows the secret."""
    primary = str(inputs["dns_primary"])
    if not formats.is_address(primary) and (fault := formats.domain_fault(primary)):
        yield f"dns_primary: '{shown(primary)}' {fault}; it is the server that takes updates of the zone"
    tsig = inputs["dns_tsig"] or {}
    key = str(tsig.get("name") or "")
    if fault := formats.domain_fault(key, underscore=True):
        yield f"dns_tsig.name: '{shown(key)}' {fault}; it is the key's name at the primary"
    secret = tsig.get("secret")
    if not secret:
        yield "dns_tsig.secret: not set; the primary takes updates with a key only. Keep it in the vault"
        return
    try:
        decoded = base64.b64decode(str(secret), validate=True)
    except (binascii.Error, ValueError):
        yield "dns_tsig.secret: not base64, as `tsig-keygen` and `keymgr -t` write it"
        return
    if len(decoded) < KEY_BYTES:
        yield f"dns_tsig.secret: a key of {len(decoded)} bytes can be guessed; it needs {KEY_BYTES} or more"


def _ttl_faults(path: str, ttl: Any) -> Faults:
    if not 1 <= int(ttl) <= LONGEST_TTL:
        yield f"{path}: {ttl} is not possible; for how long an answer may be kept is in seconds, 1 to {LONGEST_TTL}"


def _domain(text: str, *, underscore: bool = False) -> str:
    """A domain name in full and in small letters, with the dot at its end."""
    if fault := formats.domain_fault(text, underscore=underscore):
        raise Refused(fault)
    return f"{text.lower().removesuffix('.')}."


def _within(name: str, zone: str) -> bool:
    return f".{name}".endswith(f".{zone}")


def _owner(text: str, zone: str, kind: str) -> str:
    """The full name of a record: `@` is the zone; what does not end in the zone's name is within it."""
    if text == "@":
        return zone
    if text == "*":
        return f"*.{zone}"
    underscore = kind in UNDERSCORE_ALLOWED
    star, bare = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    name = _domain(bare, underscore=underscore)
    if _within(name, zone):
        return star + name
    if text.endswith("."):
        raise Refused(f"is not in the zone {zone}")
    return star + _domain(f"{bare}.{zone}", underscore=underscore)


def _target(text: str) -> str:
    """The name in a value. It must be in full: a short name would be relative to the zone."""
    if "." not in text.removesuffix("."):
        raise Refused("is not a name in full, such as www.example.com")
    return _domain(text, underscore=True)


def _host(text: str) -> str:
    _domain(text)  # no underscore
    return _target(text)


def _address4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise Refused("is not an IPv4 address such as 192.0.2.1") from None


def _address6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise Refused("is not an IPv6 address such as 2001:db8::1") from None
    if address.scope_id:
        raise Refused("has a zone of its own (behind the %), which means nothing to others")
    return str(address)


def _numbers(words: list[str]) -> list[str]:
    if not all(NUMBER.fullmatch(word) and int(word) <= 65535 for word in words):
        raise Refused("has a number that is not 0 to 65535")
    return [str(int(word)) for word in words]


def _mail(text: str) -> str:
    words = text.split()
    if len(words) != 2:
        raise Refused("is not a preference and a name, such as 10 mail.example.com")
    return " ".join([*_numbers(words[:1]), "." if words[1] == "." else _host(words[1])])


def _service(text: str) -> str:
    words = text.split()
    if len(words) != 4:
        raise Refused("is not priority, weight, port and name, such as 10 5 5060 sip.example.com")
    return " ".join([*_numbers(words[:3]), "." if words[3] == "." else _host(words[3])])


def _authority(text: str) -> str:
    found = None if CONTROL.search(text) or not text.isascii() else CAA.fullmatch(text)
    if not found or int(found[1]) > 255 or found[2] not in CAA_TAGS:
        raise Refused(
            f"""is not flags, tag and value, such as 0 issue "ca.example.net"; tags are {", ".join(CAA_TAGS)}"""
        )
    return f'{int(found[1])} {found[2]} "{found[4]}"'


def _text(text: str) -> str:
    """Text as quoted strings of at most 255 bytes each; quotes, backslashes and bytes beyond ASCII become \\DDD."""
    if CONTROL.search(text):
        raise Refused("holds a newline, a tab or another control character")
    data = text.encode()
    if len(data) > LONGEST_TEXT:
        raise Refused(f"has {len(data)} bytes; a TXT record has at most {LONGEST_TEXT}")
    return " ".join(_quoted(data[start : start + 255]) for start in range(0, max(len(data), 1), 255))


def _quoted(data: bytes) -> str:
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in data)
    return f'"{"".join(plain)}"'


VALUES: dict[str, Callable[[str], str]] = {
    "A": _address4,
    "AAAA": _address6,
    "CAA": _authority,
    "CNAME": _target,
    "MX": _mail,
    "NS": _host,
    "SRV": _service,
    "TXT": _text,
}


def _values(record: dict[str, Any]) -> list[str]:
    return sorted({VALUES[record["type"]](str(value)) for value in record["values"]})


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"dns_faults": dns_faults, "dns_rrsets": dns_rrsets, "dns_mailbox": dns_mailbox}
