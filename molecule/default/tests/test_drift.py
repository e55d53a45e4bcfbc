"""docs/drift.md: each row of its first table is tried, all at once, on each host."""

import pytest
from drift import ROWS, TEXT, looks, told
from scenario import names


def rows(server):
    """Those that this host has: one alone has a certificate, and serves the zone (molecule.yml)."""
    without = ("(with a target)", *(("(with TLS)", "(with DNS)") if "debian12" in server.backend.name else ()))
    return [row for row in ROWS if not row["what"].endswith(without)]


def test_every_row_of_the_table_is_read():
    table = TEXT.split("## Mended")[1].split("## Reported")[0]
    listed = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what |")]
    assert len(ROWS) == len(listed) > 20


@pytest.mark.thorough
def test_what_the_table_says_is_mended_is_mended_and_nothing_else(converge, servers):
    before = {server.backend.name: looks(server, rows(server)) for server in servers}
    for server in servers:
        for row in rows(server):
            server.check_output(row["by_hand"])
    drifted = {server.backend.name: looks(server, rows(server)) for server in servers}
    for name in names():
        same = [what for what, said in before[name].items() if drifted[name][what] == said]
        assert same == [], "these looks show nothing"
    expected = {(server.backend.name, row["role"], row["step"]) for server in servers for row in rows(server)}
    dry = converge("--check", "--diff").must_succeed()
    assert told(dry) == expected
    assert "-# by hand" in dry.output
    assert {server.backend.name: looks(server, rows(server)) for server in servers} == drifted
    assert told(converge().must_succeed()) == expected
    after = {server.backend.name: looks(server, rows(server)) for server in servers}
    for name in names():
        for what, said in after[name].items():
            assert said == before[name][what], f"{name}: {what}"
    assert converge().must_succeed().changed == []
