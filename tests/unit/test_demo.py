"""The demo's inventory: what it hears of its container."""

from __future__ import annotations

import pytest
from loading import ROOT, load
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


def test_three_hosts_have_the_names_and_addresses_that_their_containers_get():
    hosts = load("tools/demo-hosts")
    words = "msg={{ [ansible_host, private_address, load_balancer_virtual_addresses[0]] | join(' ') }}"
    ask = ["--inventory", ROOT / "inventories/demo3", "--module-name", "debug", "--args", words]
    done = start("ansible", *ask, "all", cwd=ROOT, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
    for number in hosts.NUMBERS:
        place = f"{hosts.NETWORK}.{10 + int(number)}"
        assert f"msg: {hosts.NAME}-{number} {place} {hosts.ADDRESS}/24" in done.stdout, done.stdout + done.stderr


def test_a_visitor_of_three_hosts_reads_the_page_or_adds_an_article():
    hosts = load("tools/demo-hosts")
    them = hosts.Readers("10.0.0.10", "www.foobar.com", cookie="foobar=c", token="t")
    assert them.request(None).splitlines() == ["GET / HTTP/1.1", "Host: www.foobar.com", "Cookie: foobar=c", ""]
    head, _, body = them.request(7).partition("\r\n\r\n")
    assert head.startswith("POST /articles HTTP/1.1") and f"Content-Length: {len(body)}" in head
    assert "csrf=t" in body and "title=entry+7" in body


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "web1, web2, web3 is down; make demo HOSTS=3, first"),
        (["1", "3"], "web2 is down; make demo-heal HOST=2, first. Two of three must run"),
    ],
)
def test_no_host_is_ended_where_another_is_down(command, runs, said):
    hosts = load("tools/demo-hosts")
    command("docker", "printf '%s\\n' " + " ".join(f"{hosts.NAME}-{number}" for number in runs))
    done = start(ROOT / "tools/demo-hosts", "kill", "3", cwd=ROOT)
    assert done.returncode == 1 and f"demo: {said}" in done.stderr, done
    assert done.stdout == ""


def test_a_host_that_was_never_made_cannot_come_back(command):
    command("docker", "[ $2 = ls ] || exit 1")
    done = start(ROOT / "tools/demo-hosts", "heal", "2", cwd=ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "demo: there is no web2; make demo HOSTS=3, first"


def test_root_of_three_hosts_sees_whose_a_port_is(command, tmp_path):
    """A second run asks that of HAProxy's, which has become another user."""
    answers = '"image ls") echo made;; "container inspect") exit 1;; "exec "*) echo running;;'
    command("docker", f'echo "$@" >> {tmp_path}/asked\ncase "$1 $2" in {answers} esac')
    done = start(ROOT / "tools/demo-hosts", "up", cwd=ROOT)
    assert done.returncode == 0, done
    made = [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("run ")]
    assert len(made) == 3 and all("--cap-add=SYS_PTRACE" in line.split() for line in made)
