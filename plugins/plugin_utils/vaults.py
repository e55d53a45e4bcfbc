# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why an encrypted value cannot be read: Ansible's own words do not say that a password is wrong."""

from __future__ import annotations

HOW = "add --ask-vault-pass, or set ANSIBLE_VAULT_PASSWORD_FILE"


def vault_words(error: BaseException | None) -> str:
    """What to tell an operator about a value that Ansible cannot decrypt; empty for any other error."""
    words = ""
    while error is not None:
        words += f" {error}"
        error = error.__cause__
    if "Decryption failed" in words:
        return f"the password of the vault is wrong: it does not open this value; {HOW}"
    if "no vault secrets found" in words:
        return f"is encrypted, and no password of a vault was given; {HOW}"
    return ""
