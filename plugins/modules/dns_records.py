#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have records answered as declared: change them at a primary (RFC 2136), and ask them back.

On the host, not on the controller: it asks on the loopback too, and a primary's firewall may let in the host alone.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: dns_records
short_description: Have records answered as declared by the name servers of a zone
description:
  - With a key, first asks the primary what it has, refuses where that differs, and then sends one
    signed update (RFC 2136) for all records. The update holds only if the records are still what
    was asked, and it is taken wholly or not at all. Records that are not in O(rrsets) stay.
  - Then, with or without a key, asks for every record at O(servers), at each name server that the
    zone names, and, with O(resolver), at the host's own resolver. A wrong answer of a name server is a failure. A name
    server that is silent and a resolver that still has an older answer are warned of.
  - In check mode nothing is changed and nothing asked back.
requirements: [python3-dnspython]
options:
  zone:
    description: The zone's name in full.
    type: str
    required: true
  rrsets:
    description: The records, all values of a name and a type together, names in full.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name in full.
        type: str
        required: true
      type:
        description: The type.
        type: str
        required: true
      ttl:
        description: For how many seconds an answer may be kept.
        type: int
        required: true
      values:
        description: The values, as a zone file has them.
        type: list
        elements: str
        required: true
  servers:
    description: Addresses or names of servers that must have the zone; with a key, the primary alone.
    type: list
    elements: str
    required: true
  key_name:
    description: The name of the TSIG key, if records are to be changed.
    type: str
  key_algorithm:
    description: Its algorithm.
    type: str
    default: hmac-sha256
  key_secret:
    description: Its secret, in base64.
    type: str
  replace:
    description: Whether a record that has other values is changed instead of refused.
    type: bool
    default: false
  resolver:
    description: Whether the host's own resolver is asked, too.
    type: bool
    default: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: partial
    details: The primary is asked what it has. No name server is asked back.
  diff_mode:
    support: full
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Publish | Tell the primary
  foobar.webstack.dns_records:
    zone: example.com.
    rrsets:
      - {name: www.example.com., type: A, ttl: 3600, values: [192.0.2.1]}
    servers: [192.0.2.53]
    key_name: webserver
    key_secret: "{{ vault_dns_secret }}"
"""

RETURN = r"""
changes:
  description: What was changed at the primary, or would be, one line each.
  type: list
  elements: str
  returned: always
"""

import errno
import socket
import time
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils import names

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.opcode
    import dns.query
    import dns.rcode
    import dns.rdataclass
    import dns.rdatatype
    import dns.resolver
    import dns.rrset
    import dns.tsig
    import dns.update
except ImportError:
    dns = None

COPY_SECONDS = 15  # in which secondaries must have copied a change
SHOWN = 3  # differences in a warning
TRIES = 3  # while somebody else changes the same records
UNREACHABLE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH)  # as on a host without IPv6


class Failure(Exception):
    """A failure, with the message for the operator."""


class Silent(Failure):
    """A server did not answer."""


class Conflict(Exception):
    """The primary refused the update: its records have changed since they were read."""


class Server:
    """One server, by one of its addresses."""

    def __init__(self, address: str, name: str = "") -> None:
        self.address = address
        self.label = f"{name} ({address})" if name and name != address else address

    def send(self, message: Any) -> Any:
        """The server's answer: to an update over TCP, to a question over UDP first, as resolvers ask."""
        try:
            if message.opcode() == dns.opcode.UPDATE:
                return dns.query.tcp(message, self.address, timeout=names.SECONDS)
            return names.send(message, self.address)
        except (dns.exception.Timeout, OSError, EOFError) as error:
            if getattr(error, "errno", None) in UNREACHABLE:
                raise
            reason = f"nothing within {names.SECONDS} s" if isinstance(error, dns.exception.Timeout) else str(error)
            raise Silent(
                f"{self.label} does not answer ({reason}). Is it up, and does its firewall let this host reach port 53, "
                "UDP and TCP?"
            ) from None

    def ask(self, name: Any, kind: Any) -> Any:
        """Its own records of a name and a type: without recursion."""
        question = dns.message.make_query(name, kind)
        question.flags &= ~dns.flags.RD
        try:
            answer = self.send(question)
        except dns.exception.DNSException as error:
            raise Failure(f"{self.label} answers what cannot be read: {error}") from None
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise Failure(f"{self.label} does not serve {name}: it answers {dns.rcode.to_text(answer.rcode())}")
        return answer

    def must_have(self, zone: Any) -> None:
        answer = self.ask(zone, dns.rdatatype.SOA)
        if not answer.flags & dns.flags.AA or not found(answer, zone, dns.rdatatype.SOA):
            raise Failure(f"{self.label} is not authoritative for {zone}")

    def update(self, message: Any, key: Any) -> bool:
        """Sends an update; False if a condition in it does not hold."""
        message.use_tsig(key)
        unknown = f"{self.label} does not know the key {key.name}, or does not take updates of this zone with it"
        try:
            answer = self.send(message)
        except dns.tsig.PeerBadTime:
            raise Failure(f"The clocks of this host and of {self.label} are more than minutes apart") from None
        except (dns.tsig.PeerBadSignature, dns.tsig.BadSignature):
            raise Failure(f"{self.label} has another secret for the key {key.name}; look at dns_tsig") from None
        except dns.exception.DNSException:
            raise Failure(f"{unknown}; look at dns_tsig") from None
        code = answer.rcode()
        if code in (dns.rcode.REFUSED, dns.rcode.NOTAUTH):
            raise Failure(f"{unknown}: {dns.rcode.to_text(code)}")
        holds = code not in (dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN)
        if (holds and code != dns.rcode.NOERROR) or not answer.had_tsig:
            raise Failure(f"{self.label} does not carry out the update: {dns.rcode.to_text(code)}")
        return holds


def found(answer: Any, name: Any, kind: Any) -> Any:
    """The records of a name in an answer. Those of a delegated name are in the authority or additional section."""
    for section in (answer.answer, answer.authority, answer.additional):
        rrset = answer.get_rrset(section, name, dns.rdataclass.IN, kind)
        if rrset:
            return rrset
    return None


def values(rrset: Any) -> set[Any]:
    """The values for a comparison. How a long text is cut into strings makes no difference."""
    return {b"".join(rdata.strings) if rdata.rdtype == dns.rdatatype.TXT else rdata for rdata in rrset or ()}


def same(one: Any, other: Any) -> bool:
    return one is not None and values(one) == values(other) and one.ttl == other.ttl


def shown(rrset: Any) -> str:
    texts = sorted(rdata.to_text() for rdata in rrset or ())
    return ", ".join(text if len(text) <= 80 else f"{text[:77]}..." for text in texts) or "not there"


def lines(rrset: Any) -> str:
    return "".join(f"{line}\n" for line in sorted(rrset.to_text().splitlines())) if rrset else ""


# Changing


class Plan:
    """The changes that bring a primary to the declared records."""

    def __init__(self, primary: Server, zone: Any, key: Any) -> None:
        self.primary, self.zone, self.key = primary, zone, key
        self.changes: list[tuple[Any, Any]] = []  # the records as they are (or None), as they shall be
        self.refused: list[str] = []

    def make(self, wanted: list[Any], replace: bool) -> None:
        for rrset in wanted:
            answer = self.primary.ask(rrset.name, rrset.rdtype)
            current = found(answer, rrset.name, rrset.rdtype)
            if same(current, rrset):
                continue
            if current and not self._stands(rrset.name, rrset.rdtype):
                current = None  # the answer came from a wildcard
            elif current:  # another host may have put it there since, where a wildcard answered before
                answer = self.primary.ask(rrset.name, rrset.rdtype)
                current = found(answer, rrset.name, rrset.rdtype)
                if same(current, rrset):
                    continue
            if self._in_the_way(rrset, current, answer):
                continue
            if current and values(current) != values(rrset) and not replace:
                self.refused.append(
                    f"{name_and_type(rrset)} is {shown(current)}, declared is {shown(rrset)}; -e dns_replace=true replaces it"
                )
            else:
                self.changes.append((current, rrset))

    def _stands(self, name: Any, *kind: Any) -> bool:
        """Whether the zone itself has the name (and type), no wildcard: asked by an update that has only a condition."""
        question = dns.update.UpdateMessage(self.zone)
        question.absent(name, *kind)
        return not self.primary.update(question, self.key)

    def _in_the_way(self, rrset: Any, current: Any, answer: Any) -> bool:
        """Refuses records beside a CNAME: a server would silently ignore that update."""
        other = ""
        if rrset.rdtype == dns.rdatatype.CNAME:
            if not current and self._stands(rrset.name):
                other = "has records of other types"
        else:
            cname = answer.get_rrset(answer.answer, rrset.name, dns.rdataclass.IN, dns.rdatatype.CNAME)
            if cname and self._stands(rrset.name, dns.rdatatype.CNAME):
                other = f"is a CNAME that leads to {shown(cname)}"
        if other:
            kind = dns.rdatatype.to_text(rrset.rdtype)
            self.refused.append(
                f"{rrset.name} {other}, beside which no {kind} can stand; remove that at the primary first"
            )
        return bool(other)

    def carry_out(self) -> None:
        message = dns.update.UpdateMessage(self.zone)
        for current, rrset in self.changes:
            if current:
                message.present(rrset.name, *current)
            else:
                message.absent(rrset.name, rrset.rdtype)
            message.replace(rrset.name, rrset)
        if not self.primary.update(message, self.key):
            raise Conflict


def reachable(servers: list[Server], zone: Any) -> Server:
    """The first of a server's addresses that answers; it must have the zone."""
    reasons = []
    for server in servers:
        try:
            server.must_have(zone)
            return server
        except Silent as silent:
            reasons.append(str(silent))
        except OSError as error:
            reasons.append(f"{server.label} cannot be reached from this host: {error.strerror}")
    raise Failure("\n".join(reasons))


def change(module: AnsibleModule, primary: Server, zone: Any, key: Any, wanted: list[Any]) -> list[tuple[Any, Any]]:
    """Changes the records that differ at the primary; returns them as (before, after)."""
    for _try in range(TRIES):
        plan = Plan(primary, zone, key)
        plan.make(wanted, module.params["replace"])
        if plan.refused:
            raise Failure(
                f"{primary.label} has other records than those declared:\n"
                + "".join(f"  - {line}\n" for line in plan.refused).rstrip()
            )
        if module.check_mode or not plan.changes:
            return plan.changes
        try:
            plan.carry_out()
            return plan.changes
        except Conflict:
            continue
    raise Failure(f"Somebody else keeps changing these records at {primary.label}; run the play again")


def name_and_type(rrset: Any) -> str:
    return f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)}"


# Asking back


def differences(server: Server, wanted: Iterable[Any]) -> list[str]:
    result = []
    for rrset in wanted:
        got = found(server.ask(rrset.name, rrset.rdtype), rrset.name, rrset.rdtype)
        if same(got, rrset):
            continue
        words = (shown(got), shown(rrset))
        if got and values(got) == values(rrset):
            words = (f"kept for {got.ttl} s", f"{rrset.ttl} s")
        result.append(f"{server.label}: {name_and_type(rrset)} is {words[0]}, declared is {words[1]}")
    return result


def other_servers(server: Server, zone: Any, known: set[str]) -> list[Server]:
    """The zone's NS, each of their addresses, without those in `known`."""
    result = []
    for name in [rdata.target for rdata in found(server.ask(zone, dns.rdatatype.NS), zone, dns.rdatatype.NS) or ()]:
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            try:
                if name.is_subdomain(zone):
                    addresses = found(server.ask(name, kind), name, kind) or ()
                else:
                    addresses = dns.resolver.resolve(name, kind, lifetime=names.SECONDS, search=False)
            except dns.exception.DNSException:  # no address of this kind, or no answer of the resolver
                continue
            result += [Server(item.address, str(name)) for item in addresses if item.address not in known]
    return result


def lasting_differences(server: Server, zone: Any, wanted: list[Any]) -> list[str]:
    """What a server still answers wrongly after COPY_SECONDS, in which a secondary should have copied the zone."""
    deadline = time.monotonic() + COPY_SECONDS
    while True:
        try:
            server.must_have(zone)
            wrong = differences(server, wanted)
        except Silent:
            raise
        except Failure as failure:
            wrong = [str(failure)]
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(1)


def ask_back(module: AnsibleModule, required: list[Server], zone: Any, wanted: list[Any]) -> None:
    """Fails where a name server answers wrongly; warns where one does not answer, or the resolver has old records."""
    wrong: list[str] = []
    reached = []
    for server in required:
        try:
            wrong += lasting_differences(server, zone, wanted)
            reached.append(server)
        except OSError:  # an address family that the host does not have
            continue
    if not reached:
        raise Failure(f"None of {', '.join(server.label for server in required)} can be reached from this host")
    for server in [] if wrong else other_servers(reached[0], zone, {server.address for server in required}):
        try:
            wrong += lasting_differences(server, zone, wanted)
        except OSError:
            continue
        except Silent as silent:
            module.warn(f"{silent} It is not known whether it has the records of {zone}")
    if wrong:
        raise Failure(
            "The records are not answered as declared:\n" + "".join(f"  - {line}\n" for line in wrong).rstrip()
        )
    behind = resolver_differences(wanted) if module.params["resolver"] else []
    if behind:
        more = f"; and {len(behind) - SHOWN} more" if len(behind) > SHOWN else ""
        module.warn(f"This host's resolver does not see all of {zone} as declared: {'; '.join(behind[:SHOWN])}{more}")


def resolver_differences(wanted: Iterable[Any]) -> list[str]:
    """The old records that this host's resolver still has in its cache, and for how long."""
    result = []
    try:
        resolver = dns.resolver.Resolver()
        for rrset in wanted:
            try:
                got = resolver.resolve(
                    rrset.name, rrset.rdtype, raise_on_no_answer=False, lifetime=names.SECONDS, search=False
                ).rrset
            except dns.resolver.NXDOMAIN:
                got = None
            if values(got) != values(rrset):
                until = f" for another {got.ttl} s" if got else ""
                result.append(f"{name_and_type(rrset)} is {shown(got)}{until}, declared is {shown(rrset)}")
    except dns.exception.DNSException as error:
        result.append(f"it does not answer ({error})")
    return result


def resolved_servers(servers: list[str]) -> list[Server]:
    """Each address of each server."""
    result = []
    for name in servers:
        try:
            addresses = [item[4][0] for item in socket.getaddrinfo(name, 53, type=socket.SOCK_STREAM)]
        except socket.gaierror as error:
            raise Failure(f"The address of {name} is not found: {error.strerror}") from None
        result += [Server(address, name) for address in addresses]
    return result


def main() -> None:
    rrset_spec = {
        "name": {"type": "str", "required": True},
        "type": {"type": "str", "required": True},
        "ttl": {"type": "int", "required": True},
        "values": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "zone": {"type": "str", "required": True},
            "rrsets": {"type": "list", "elements": "dict", "required": True, "options": rrset_spec},
            "servers": {"type": "list", "elements": "str", "required": True},
            "key_name": {"type": "str", "no_log": False},
            "key_algorithm": {"type": "str", "default": "hmac-sha256", "no_log": False},
            "key_secret": {"type": "str", "no_log": True},
            "replace": {"type": "bool", "default": False},
            "resolver": {"type": "bool", "default": True},
        },
        required_together=[("key_name", "key_secret")],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode and not params["key_name"]:
        finish(module, [])
    if dns is None:
        if not module.check_mode:
            module.fail_json(msg="python3-dnspython is missing on this host.")
        module.warn("python3-dnspython is not there yet: the primary was not asked, every record counts as a change.")
        module.exit_json(changed=True, changes=[f"{item['name']} {item['type']}" for item in params["rrsets"]])
    changes: list[tuple[Any, Any]] = []
    try:
        zone = dns.name.from_text(params["zone"])
        wanted = [
            dns.rrset.from_text_list(item["name"], item["ttl"], dns.rdataclass.IN, item["type"], item["values"])
            for item in params["rrsets"]
        ]
        servers = resolved_servers(params["servers"])
        if params["key_name"]:
            key = dns.tsig.Key(params["key_name"], params["key_secret"], params["key_algorithm"])
            servers = [reachable(servers, zone)]
            changes = change(module, servers[0], zone, key, wanted)
        if not module.check_mode:
            ask_back(module, servers, zone, wanted)
    except (Failure, ValueError, dns.exception.DNSException) as failure:
        done = (
            "These records were changed before:\n" + "".join(lines(after) for _b, after in changes) if changes else ""
        )
        module.fail_json(msg=f"{failure}\n{done or 'No record was changed.'}", changed=bool(changes))
    finish(module, changes)


def finish(module: AnsibleModule, changes: list[tuple[Any, Any]]) -> None:
    result: dict[str, Any] = {
        "changed": bool(changes),
        "changes": [
            f"{name_and_type(after)}: {shown(before)} → {shown(after)} ({after.ttl} s)" for before, after in changes
        ],
    }
    if module._diff and changes:
        result["diff"] = [{"before": lines(before), "after": lines(after)} for before, after in changes]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
