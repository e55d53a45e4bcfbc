# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hosts whose clocks differ by more than they may."""

from __future__ import annotations

from typing import Any

ALLOWED = 5.0  # seconds


def clocks_apart(hosts: list[dict[str, Any]]) -> str:
    """The fault; empty if there is none. `hosts` are their variables, with what M(foobar.webstack.sites) has returned.

    Each was asked at some moment within a span, so how far it is ahead is known within that span: what its length alone
    could explain is no difference.
    """
    ahead = {host["inventory_hostname"]: host["webstack"].get("ahead") for host in hosts}
    known = {name: span for name, span in ahead.items() if span}
    if not known:
        return ""
    last, first = (max(known, key=lambda name: known[name][0]), min(known, key=lambda name: known[name][1]))
    seconds = known[last][0] - known[first][1]
    if seconds <= ALLOWED:
        return ""
    return (
        f"the clock of {last} is {seconds:.0f} s ahead of that of {first}; up to {ALLOWED:.0f} s are allowed between the nodes of a "
        "database, since rows, certificates and logs have times. See `timedatectl` on both"
    )


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"clocks_apart": clocks_apart}
