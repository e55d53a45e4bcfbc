"""The demo's inventory: what it hears of its container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from loading import ROOT


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ("443/tcp -> 127.0.0.1:8444\n80/tcp -> 127.0.0.1:8080", '"nginx_https_port": 443'),
        ("80/tcp -> 127.0.0.1:8080", "run `make demo-destroy` (its entries go with it), then `make demo`"),
    ],
)
def test_a_container_of_before_https_is_told_apart(command, published, said):
    command("docker", f"echo '{published}'")
    ansible = Path(sys.executable).with_name("ansible")
    ask = ["--inventory", ROOT / "inventories/demo", "--module-name", "debug", "--args", "var=nginx_https_port"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "json",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",
    }
    argv = [ansible, *ask, "www.foobar.com"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert said in done.stdout
