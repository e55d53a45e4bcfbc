# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The formats of plugin_utils/formats.py, for rules in YAML."""

from __future__ import annotations

from typing import Any

from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import NAMED


def has_format(value: Any, name: str) -> bool:
    return NAMED[name](str(value))


class TestModule:
    """Ansible's entry."""

    def tests(self) -> dict[str, Any]:
        return {"format": has_format}
