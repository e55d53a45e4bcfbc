"""Makes a static file, as the build user: with what the virtualenv has, the settings, and nothing secret."""

import os
import pathlib

import itsdangerous

lines = [itsdangerous.__name__, os.environ["GREETING"], os.environ.get("TOKEN", "nothing secret")]
pathlib.Path("static/made.txt").write_text("\n".join(lines) + "\n")
