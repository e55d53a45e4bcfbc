# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Inventories of versions before 0.2.0, which had no `sites`: what to write in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.foobar.webstack.plugins.plugin_utils.sites import LISTS

# Their variables, and the key that replaces each.
BEFORE = {
    "site_domain": "domain", "site_aliases": "aliases", "site_redirects": "redirects", "site_certificate": "certificate",
    "site_repository": "repository", "site_version": "version", "site_push": "push", "site_page_path": "page_path",
    "site_page_status": "page_status", "site_authority": "authority",
}  # fmt: skip
BEFORE_OF_HOST = {
    "site_public_address": "public_address", "site_address": "walk_address", "site_port": "walk_port",
    "site_firewall_open": "base_firewall_open", "site_dns_records": "dns_records",
}  # fmt: skip
BEFORE_OTHERS = (
    "site_name", "site_inventory", "site_secret_key", "site_database_password", "site_database_password_before",
    "site_shared_published",
)  # fmt: skip
BEFORE_WIRED = (
    "      entry: foobar.wsgi:application              # these four stood in wiring.yml; yours, if you have changed them there",
    "      static: foobar/static",
    "      static_command: python3 foobar/assets.py",
    "      migrate_command: alembic upgrade head",
)


def faults(variables: Mapping[str, Any], text: Callable[[str], str]) -> Iterator[str]:
    """The refusal of an inventory that sets such variables, with the lines to write. `text` gives what a variable says."""
    old = sorted(name for name in variables if name in (*BEFORE, *BEFORE_OF_HOST, *BEFORE_OTHERS))
    if not old:
        return
    name = text("site_name") or "<name>"
    lines = [f"  {new}: {text(before)}" for before, new in BEFORE.items() if before in variables]
    other = [
        f"{new}: (what {before} says{'; what the sites need is added' if new in LISTS else ''})"
        for before, new in BEFORE_OF_HOST.items()
        if before in variables
    ]
    if "site_inventory" in variables:  # was a part of the line
        kept_by = text("site_inventory")
        other.append(f'base_belongs_to: "{{{{ inventory_hostname }}}} in inventory {kept_by}"')
    yield "\n".join([
        f"{', '.join(old)}: all that is said of a site stands in one place now. In their place, write:",
        "    sites:",
        f"      {name}:",
        *(f"      {line}" for line in lines),
        "        app:",
        *(f"    {line}" for line in BEFORE_WIRED),
        '          secrets: {SECRET_KEY: "{{ vault_secret_key }}"}',
        '        database: {password: "{{ vault_database_password }}", scheme: mysql+pymysql}',
        *(f"    {line}" for line in other),
        "    docs/upgrading.md has more about it",
    ])  # fmt: skip
