"""What the servers store of a password, and how a grant is undone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "plugins/modules/mysql_accounts.py"
spec = importlib.util.spec_from_file_location("mysql_accounts", SOURCE)
module = importlib.util.module_from_spec(spec)
sys.modules["mysql_accounts"] = module
spec.loader.exec_module(module)

SALT = "twenty bytes of salt"


def test_the_native_hash_is_the_servers():
    assert module.native_hash("mypass") == "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"


@pytest.mark.parametrize(
    ("rounds", "salt", "password", "digest"),
    [  # the specification's own, then what glibc makes of others
        (5000, "saltstring", "Hello world!", "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        (10000, "saltstringsaltst", "Hello world!", "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
        (
            77777,
            "short",
            "we have a short salt string but not a short password",
            "JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
        ),
        (1000, "16characterssalt", "ünï", "zSL/3/bj4uKEB5/ZL3VFWWAA0m0Ku4kN1y9aaIbKrJ3"),
    ],
)
def test_sha256_crypt_is_the_specifications(rounds, salt, password, digest):
    assert module.sha256_crypt(password.encode(), salt.encode(), rounds) == digest


def test_a_stored_password_is_recognised_whatever_its_rounds():
    for rounds, head in ((5000, "$A$005$"), (10000, "$A$00A$")):
        stored = module.caching_hash("right", SALT, rounds)
        assert stored.startswith(head + SALT) and len(stored) == 70
        assert module.caching_match("right", stored)
        assert not module.caching_match("wrong", stored)
    assert not module.caching_match("right", "")
    assert not module.caching_match("right", "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED")


def test_a_name_is_no_pattern():
    assert module.grant_pattern("a_b%c-d") == r"a\_b\%c-d"


@pytest.mark.parametrize(
    ("line", "statements"),
    [
        ("GRANT USAGE ON *.* TO `a`@`%`", []),
        ("GRANT USAGE ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*F00'", []),
        (r"GRANT SELECT ON `x\_y`.* TO `a`@`%` WITH GRANT OPTION", []),
        ("SET DEFAULT ROLE `r` FOR `a`@`%`", []),
        (
            "GRANT PROCESS, FILE ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*F00'",
            ["REVOKE PROCESS, FILE ON *.* FROM me"],
        ),
        ("GRANT SELECT (`n`) ON `x`.`t` TO `a`@`%`", ["REVOKE SELECT (`n`) ON `x`.`t` FROM me"]),
        (
            "GRANT EXECUTE ON PROCEDURE `x`.`p` TO `a`@`%` WITH GRANT OPTION",
            ["REVOKE EXECUTE ON PROCEDURE `x`.`p` FROM me", "REVOKE GRANT OPTION ON PROCEDURE `x`.`p` FROM me"],
        ),
        ("GRANT `role`@`%` TO `a`@`%`", ["REVOKE `role`@`%` FROM me"]),
    ],
)
def test_a_line_of_show_grants_is_undone(line, statements):
    assert module.to_revoke(line, "me") == statements


def test_the_only_way_in_is_told_from_one_of_several():
    debians_root = module.Login("mysql_native_password", "invalid", True, (("unix_socket", ""),))
    assert debians_root.only("unix_socket")
    assert not module.Login("mysql_native_password", "*F00", True, (("unix_socket", ""),)).only("unix_socket")
    assert not module.Login("mysql_native_password", "invalid").only("unix_socket")


def test_the_right_to_grant_is_taken_back_where_nothing_else_is_granted():
    line = "GRANT USAGE ON *.* TO `app`@`localhost` WITH GRANT OPTION"
    assert module.to_revoke(line, "me") == ["REVOKE GRANT OPTION ON *.* FROM me"]
