"""Each test begins with a cluster that lacks nothing."""

import pytest
from cluster import holder, is_well, writer
from scenario import names, until


@pytest.fixture(autouse=True)
def all_well() -> None:
    for name in names():
        until(lambda name=name: is_well(name), seconds=120)
    until(lambda: holder() in names() and writer() in names())
