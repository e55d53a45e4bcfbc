"""The demo's inventory: what it hears of its container."""

from __future__ import annotations

import pytest
from loading import ROOT
from starting import start


@pytest.mark.parametrize(
    ("published", "said"),
    [
        ("443/tcp -> 127.0.0.1:8444\n80/tcp -> 127.0.0.1:8080", '"nginx_https_port": 443'),
        ("80/tcp -> 127.0.0.1:8080", "run `make demo-destroy` (its entries go with it), then `make demo`"),
    ],
)
def test_a_container_of_before_https_is_told_apart(command, published, said):
    command("docker", f"echo '{published}'")
    ask = ["--inventory", ROOT / "inventories/demo", "--module-name", "debug", "--args", "var=nginx_https_port"]
    done = start(
        "ansible", *ask, "www.foobar.com", cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_STDOUT_CALLBACK="json", ANSIBLE_LOAD_CALLBACK_PLUGINS="true",
    )  # fmt: skip
    assert done.returncode == 0 and said in done.stdout, done.stderr
