"""The rows of docs/drift.md, and what a run tells of them."""

import re

from scenario import PROJECT

ROW = re.compile(
    r"^\| (?P<what>[^|]+?) \| `(?P<by_hand>[^`]+)` \| `(?P<look>[^`]+)` \| (?P<role>\w+) : (?P<step>\w+) \|$"
)
TEXT = (PROJECT / "docs/drift.md").read_text(encoding="utf-8")
ROWS = [found.groupdict() for found in map(ROW.match, TEXT.splitlines()) if found]


def looks(server, rows):
    return {row["what"]: server.run(row["look"]).stdout for row in rows}


def told(run):
    """Host, role and step of each change."""
    return {
        (found[1], found[2], found[3]) for line in run.changed if (found := re.match(r"(\S+): (\w+) : (\w+) \|", line))
    }
