# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why an encrypted value cannot be read: Ansible's own words do not say that a password is wrong."""

from __future__ import annotations

from typing import Any

from ansible.template import accept_args_markers, get_first_marker_arg

HOW = "add --ask-vault-pass, or set ANSIBLE_VAULT_PASSWORD_FILE"


@accept_args_markers
def vault_fault(value: Any) -> str:
    """What to tell an operator about a value; empty where it can be read, or is not set at all."""
    marker = get_first_marker_arg((value,), {})
    if marker is None:
        return ""
    try:
        marker.trip()
    except Exception as error:  # of a type that is Ansible's own; what is wrong with the value caused it
        words = str(error.__cause__ or "")
        if "no vault secrets found" in words:
            return f"is encrypted, and no password of a vault was given; {HOW}"
        if "Decryption failed" in words:
            return f"the password of the vault is wrong: it does not open this value; {HOW}"
    return ""


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {"vault_fault": vault_fault}
