# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an operator is told what is wrong."""

from __future__ import annotations

import re
from typing import Any

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def shown(value: Any) -> str:
    """A value for a message: one line of bounded length."""
    text = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def controller_lacks(package: str, release: str, debian: str) -> str:
    """What an operator is told where the controller has no such Python package."""
    return (
        f"the Python of ansible-playbook, on the controller, lacks the package {package}, release {release} or newer; "
        f"install it there, as with `pip install '{package}>={release}'` (or apt-get install {debian})"
    )
