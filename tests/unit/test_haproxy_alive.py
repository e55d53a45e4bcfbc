"""When a balancer may have the virtual addresses, by what HAProxy says of itself and of its servers."""

from __future__ import annotations

import os
import subprocess

import pytest
from loading import ROOT

TABLE = "Name: HAProxy\nVersion: 3.0.11\n\n# pxname,svname,status,check_status,\n"


@pytest.mark.parametrize(
    ("said", "may"),
    [
        (f"{TABLE}shop,web1,UP,L7OK,\nshop,web2,DOWN,L4TOUT,\nhttps,web1,UP,L4OK,\n", True),
        # Cut off from the others, whose addresses these are, too.
        (f"{TABLE}shop,web1,DOWN,L7TOUT,\nshop,web2,DOWN,* L4TOUT,\nhttps,web1,UP,L4OK,\n", False),
        # The others answer that they are not ready: it is not the network.
        (f"{TABLE}shop,web1,DOWN,L7TOUT,\nshop,web2,DOWN,L7STS,\n", True),
        (f"{TABLE}https,web1,UP,L4OK,\n", True),  # no site has a certificate
        ("", False),  # it does not answer
    ],
)
def test_a_balancer_that_reaches_nobody_and_is_not_ready_has_no_address(said, may, tmp_path):
    (tmp_path / "said").write_text(said, encoding="utf-8")
    socat = tmp_path / "socat"
    socat.write_text(f"#!/bin/sh\ncat {tmp_path}/said\n", encoding="utf-8")
    socat.chmod(0o755)
    argv = ["sh", ROOT / "roles/load_balancer/files/haproxy-alive", "web1"]
    done = subprocess.run(argv, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
    assert (done.returncode == 0) == may
