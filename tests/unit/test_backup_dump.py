"""Which database or table is meant: their names may have dots, too."""

from __future__ import annotations

import pytest
from backing import Refused, dump

THERE = {"shop": ["old.orders", "users"], "shop.old": ["items", "orders"], "reports": []}


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("shop", ["shop"]),
        ("shop.users", ["shop", "users"]),
        ("shop.old", ["shop.old"]),
        ("shop.old.items", ["shop.old", "items"]),
        ("reports", ["reports"]),  # has views, routines or events alone
    ],
)
def test_what_is_meant(only: str, names: list[str]) -> None:
    assert dump.named(only, THERE, "binlog.000001:4") == names


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("shop.old.orders", "is the table old.orders of shop and the table orders of shop.old"),
        ("shop.gone", "not in the restored server, as of binlog.000001:4. There are: shop.old.orders, shop.users$"),
        ("gone", "There are: shop, shop.old, reports$"),
        ("", "There are: shop, shop.old, reports$"),
    ],
)
def test_what_is_refused(only: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        dump.named(only, THERE, "binlog.000001:4")
