"""The form that adds an article: its token against forgery, and its rules."""

import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from flask import session

from foobar.db import NAME_LENGTH, TITLE_LENGTH

# In a form an emoji takes 12 bytes: the longest text must fit into REQUEST_BYTES.
BODY_LENGTH = 5_000
REQUEST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Field:
    """One input: its limit in characters, and the words for it."""

    label: str
    length: int
    missing: str
    lines: bool = False


FIELDS = {
    "author": Field("Your name", NAME_LENGTH, "Please tell us your name."),
    "title": Field("Title", TITLE_LENGTH, "Please give the article a title."),
    "body": Field("Text", BODY_LENGTH, "Please write a text.", lines=True),
}


def csrf_token() -> str:
    """Return the visitor's token; it lives in the signed session cookie."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    return session["csrf"]


def csrf_valid(form: Mapping[str, str]) -> bool:
    """Tell whether the form carries the token of the visitor's own session."""
    expected = session.get("csrf", "")
    sent = form.get("csrf", "")
    return bool(expected) and secrets.compare_digest(expected.encode(), sent.encode())


def clean(form: Mapping[str, str]) -> dict[str, str]:
    """Return the fields' texts in one Unicode form, without needless white space."""
    values = {}
    for name, field in FIELDS.items():
        text = unicodedata.normalize("NFC", form.get(name, "")).strip()
        values[name] = re.sub(r"\r\n?", "\n", text) if field.lines else " ".join(text.split())
    return values


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return a sentence for each field whose text is not acceptable; empty if all are."""
    found = {name: _problem(field, values[name]) for name, field in FIELDS.items()}
    return {name: sentence for name, sentence in found.items() if sentence}


def _problem(field: Field, text: str) -> str | None:
    kinds = {unicodedata.category(character) for character in re.sub(r"[\n\t]", "", text)}
    if all(kind in ("Cc", "Cf") or kind[0] == "Z" for kind in kinds):  # nothing to be seen
        return field.missing
    if len(text) > field.length:
        return f"Please use at most {field.length} characters here, not {len(text)}."
    if "Cc" in kinds:
        return "Please remove the control characters from this text."
    return None
