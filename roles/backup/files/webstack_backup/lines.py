"""The line of the log: its id goes with the log, and one that begins anew has a new one."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

LOG, DATA = Path("/var/lib/mysql-binlog"), Path("/var/lib/mysql")


def new_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
