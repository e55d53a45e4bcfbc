"""docs/drift.md: the rows of its first table that a host with a target has."""

import pytest
from copies import on_one
from drift import ROWS, looks, told


@pytest.mark.thorough
@on_one
def test_what_the_table_says_is_mended(converge, host, has_full):
    rows = [row for row in ROWS if row["what"].endswith("(with a target)")]
    before = looks(host, rows)
    for row in rows:
        host.check_output(row["by_hand"])
    drifted = looks(host, rows)
    assert rows and [what for what, said in before.items() if drifted[what] == said] == []
    run = converge("--limit", host.backend.name).must_succeed()
    assert told(run) == {(host.backend.name, row["role"], row["step"]) for row in rows}
    assert looks(host, rows) == before
