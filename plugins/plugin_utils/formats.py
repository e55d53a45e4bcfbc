# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The formats that more than one rule judges by. What one role alone takes stands with its rules."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

APPLICATION = re.compile(r"[a-z][a-z0-9-]{0,24}")  # a site and its application; users are named after it
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of an environment
MAIL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._%+-]*)@([^@]+)")  # the part behind the @ is a domain name
FILE_PATH = re.compile(r"/[A-Za-z0-9._~+,=:@%/-]*")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LABEL_OF_SERVICE = re.compile(r"_?[a-z0-9]([a-z0-9_-]*[a-z0-9])?")

PORTS = "ports are 1 to 65535"
NETWORKS = "it must be an address, or a network such as 192.0.2.0/24 or 2001:db8::/32 (no bits set behind the prefix)"


def domain_fault(name: str, *, wildcard: bool = False, underscore: bool = False) -> str:
    """What is wrong with a domain name, as the end of a sentence that begins with it; empty when nothing is."""
    bare = name.lower().removesuffix(".")
    if not bare:
        return "is empty; a domain name is like www.example.com"
    if re.search("[/:@]", bare):
        return "is an address or has a port; write the domain name alone, like www.example.com"
    if not bare.isascii():
        return "has letters beyond a to z; write it as the DNS does, beginning with xn--"
    if len(bare) > 253:
        return f"has {len(bare)} characters; a domain name has at most 253"
    for label in bare.removeprefix("*." if wildcard else "").split("."):
        if len(label) > 63:
            return f"has a part of {len(label)} characters; 63 are allowed between two dots"
        if "_" in label and not underscore:
            return "has an underscore, which names of hosts cannot have"
        if not (LABEL_OF_SERVICE if underscore else LABEL).fullmatch(label):
            return (
                "is not a domain name: between dots stand letters, digits and '-', which neither begins nor ends a part"
                + ("; only the whole first part may be '*'" if wildcard else "")
            )
    return ""


def is_address(value: Any) -> bool:
    try:
        ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return True


def is_network(value: Any) -> bool:
    """Whether it is a network, or an address, which is one of a single host."""
    try:
        ipaddress.ip_network(str(value))
    except ValueError:
        return False
    return True


def is_port(value: Any) -> bool:
    return bool(re.fullmatch("[0-9]{1,5}", str(value))) and 1 <= int(value) <= 65535


def is_file_path(text: str) -> bool:
    """Whether it is the full path of a file or folder that a configuration takes without quotes."""
    return bool(FILE_PATH.fullmatch(text)) and ".." not in PurePosixPath(text).parts


def least_faults(numbers: dict[str, Any], least: dict[str, int]) -> Iterator[str]:
    """Of each number in `least` that is lower than it says."""
    for name, bound in least.items():
        if int(numbers[name]) < bound:
            yield f"{name}: {numbers[name]} is not possible; it must be at least {bound}"


def _is_domain(text: str) -> bool:
    return text == text.lower().rstrip(".") and not domain_fault(text, wildcard=True)


def _is_mail(text: str) -> bool:
    found = MAIL.fullmatch(text)
    return bool(found) and not domain_fault(found[2])


# What a rule in YAML asks for by name.
NAMED = {"domain": _is_domain, "mail": _is_mail}
