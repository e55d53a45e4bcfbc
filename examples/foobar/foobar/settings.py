"""The settings, which come from the environment and nowhere else."""

import os
from collections.abc import Mapping

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError


class SettingsError(Exception):
    """A setting is missing or unusable; the message names it and never shows its value."""


def required(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the variable's value; raises SettingsError when it is missing or empty."""
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"The environment variable {name} is not set.")
    return value


def database_url(environ: Mapping[str, str] = os.environ) -> URL:
    """Return DATABASE_URL, parsed; raises SettingsError when that is not possible."""
    try:
        url = make_url(required("DATABASE_URL", environ))
        url.get_dialect()
    except (ArgumentError, ValueError):
        # The original messages may quote a part of the URL, and so of the password.
        raise SettingsError(
            "The environment variable DATABASE_URL is not a database URL SQLAlchemy understands."
        ) from None
    return url
