# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which version of this project has changed a host last, and what an operator must do before this one does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.faults import shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.specs import read_yaml

VERSIONS: dict[str, dict[str, Any]] = read_yaml(Path(__file__).parents[2] / "meta/versions.yml")  # newest first
THIS, FIRST = next(iter(VERSIONS)), list(VERSIONS)[-1]  # the first left no record
RECORD = "/etc/webstack/version"  # role base writes it, before any other role changes anything
WORD = "upgraded_to"


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def faults(host: str, recorded: str, word: str, hint: str = "") -> Iterator[str]:
    """Why this version may not change a host that the version `recorded` has changed last.

    `word` is the inventory's, that the steps up to a version are done; `hint` is added where it is missing.
    """
    if word and word not in VERSIONS:
        yield f"{WORD}: {shown(word)} is no version that this tree knows ({', '.join(VERSIONS)})"
        word = ""
    if not re.fullmatch(r"\d+(\.\d+)*", recorded):
        yield f"ansible_host: {RECORD} on {host} holds {shown(recorded)}, which is no version; write the right one there"
        return
    if _order(recorded) > _order(THIS):
        yield (
            f"ansible_host: {host} is kept by version {recorded} of this project, and this is {THIS}, which would undo a part "
            f"of what that one has made. Use {recorded}, or a newer one"
        )
    done = max(recorded, word or FIRST, key=_order)
    steps = [
        f"\n      {version}: {step}"
        for version in reversed(VERSIONS)
        for step in VERSIONS[version].get("steps", [])
        if _order(version) > _order(done)
    ]
    if steps:
        yield (
            f"{WORD}: {host} is kept by version {recorded} of this project, and this is {THIS}, before which something is to be "
            f"done:{''.join(steps)}\n    When it is done, say {WORD}: {THIS} in the inventory{hint}; docs/upgrading.md has more "
            "about it"
        )
