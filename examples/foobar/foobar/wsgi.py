"""The WSGI entry point: a server imports `application` from here."""

import sys

from foobar import create_app
from foobar.settings import SettingsError

try:
    application = create_app()
except SettingsError as error:
    # Ends the server's start with this one sentence instead of a traceback.
    sys.exit(f"foobar: {error}")
