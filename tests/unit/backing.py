"""The parts of webstack-backup, as on a host."""

from __future__ import annotations

import sys

from loading import ROOT

sys.path.insert(0, str(ROOT / "roles/backup/files"))
sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode  # no __pycache__ beside what is copied to hosts
from webstack_backup import (  # noqa: E402
    chain,
    cli,
    drill,
    dump,
    files,
    full,
    ledger,
    minute,
    moments,
    noted,
    placing,
    replay,
    repository,
    restore,
    scratch,
    sheet,
    state,
    vendor,
)
from webstack_backup.basics import Refused  # noqa: E402
from webstack_backup.vendor import Position  # noqa: E402

sys.dont_write_bytecode = kept
__all__ = [
    "Position",
    "Refused",
    "chain",
    "cli",
    "drill",
    "dump",
    "files",
    "full",
    "ledger",
    "minute",
    "moments",
    "noted",
    "placing",
    "replay",
    "repository",
    "restore",
    "scratch",
    "sheet",
    "state",
    "vendor",
]
