"""The formats that rules share. What a rule makes of them is in the test of its role."""

from __future__ import annotations

import pytest
from loading import load

has_format = load("plugins/test/format.py").has_format


@pytest.mark.parametrize("text", ["www.example.com", "*.example.com", "localhost", "xn--bcher-kva.example", "a" * 63])
def test_a_domain_in_small_letters(text):
    assert has_format(text, "domain")


@pytest.mark.parametrize(
    "text",
    ["", "*", "Www.example.com", "example.com.", "a_b.example.com", "-a.example.com", "a" * 64, "a..b", "a.*", "a\n"],
)
def test_what_is_no_domain_in_small_letters(text):
    assert not has_format(text, "domain")


@pytest.mark.parametrize("text", ["ops@example.com", "o.p+s%x@mail.example.com", "1@localhost"])
def test_a_mail_address(text):
    assert has_format(text, "mail")


@pytest.mark.parametrize(
    "text", ["", "ops", "me at home", "@example.com", "a@b@c", "a@-", "a b@example.com", "a@example.com\n"]
)
def test_what_is_no_mail_address(text):
    assert not has_format(text, "mail")
