"""Who listens on which port, as the kernel tells it."""

from __future__ import annotations

import os
import socket

import pytest
from loading import load

sockets = load("plugins/module_utils/sockets.py")
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0000 100\n"


@pytest.fixture
def proc(tmp_path):
    """A folder as /proc, with nginx in its unit, and a program that was started by hand."""
    (tmp_path / "net").mkdir()
    for table in ("tcp", "udp", "tcp6"):
        (tmp_path / "net" / table).write_text(HEAD)
    for pid, program, cgroup, inode in (
        (81, "nginx", "1:name=systemd:/docker/f97d/system.slice/nginx.service\n0::/", 11),
        (80, "nginx", "0::/system.slice/nginx.service\n", 11),
        (90, "python3", "0::/user.slice/user-0.slice/session-3.scope\n", 12),
    ):
        folder = tmp_path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(program + "\n")
        (folder / "cgroup").write_text(cgroup)
        os.symlink(f"socket:[{inode}]", folder / "fd/3")
    return tmp_path


def listen(proc, table="tcp", local="00000000:0050", state="0A", uid=0, inode=11):
    with open(proc / "net" / table, "a") as handle:
        handle.write(LINE.format(local=local, state=state, uid=uid, inode=inode))


def test_a_listener_is_named_with_its_program_and_unit(proc):
    listen(proc)
    listen(proc, local="0100007F:1F90", inode=12)
    assert [str(found) for found in sockets.listeners(proc)] == [
        "tcp 0.0.0.0:80 (nginx, process 80, nginx.service)",
        "tcp 127.0.0.1:8080 (python3, process 90, session-3.scope)",
    ]


def test_a_busy_program_that_closes_a_connection_meanwhile_is_named_too(proc, monkeypatch):
    listen(proc, inode=12)
    os.symlink("socket:[99]", proc / "90/fd/4")
    read = os.readlink

    def closed(path):
        if str(path).endswith("90/fd/4"):
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(sockets.os, "readlink", closed)
    assert [found.pid for found in sockets.listeners(proc)] == [90]


def test_connections_are_no_listeners(proc):
    listen(proc, state="01")
    listen(proc, table="udp", state="01")
    assert sockets.listeners(proc) == []


def test_addresses_of_ipv6_are_read_as_the_kernel_writes_them(proc):
    listen(proc, table="tcp6", local="B80D0120000000000000000001000000:0035")
    listen(proc, table="tcp6", local="0000000000000000FFFF00000100007F:0035")
    assert [str(found.address) for found in sockets.listeners(proc)] == ["2001:db8::1", "127.0.0.1"]


def test_a_program_that_cannot_be_seen_is_said_to_be_so(proc):
    listen(proc, inode=99)
    assert "a program that cannot be seen from here" in str(sockets.listeners(proc)[0])


def test_of_a_process_whose_files_are_hidden_the_user_tells(proc, monkeypatch):
    """Root of a container may not look into a process with capabilities that it does not have."""
    listen(proc, uid=os.geteuid(), inode=99)
    real = os.scandir

    def refuse(path):
        if str(path).endswith("80/fd"):
            raise PermissionError
        return real(path)

    monkeypatch.setattr(sockets.os, "scandir", refuse)
    assert sockets.listeners(proc)[0].unit == "nginx.service"


@pytest.mark.parametrize(
    ("held", "wanted", "in_the_way"),
    [
        ("0.0.0.0", "*", True), ("0.0.0.0", "192.0.2.7", True), ("0.0.0.0", "::1", False), ("::", "127.0.0.1", True),
        ("127.0.0.53", "0.0.0.0", True), ("127.0.0.53", "127.0.0.1", False), ("127.0.0.53", "::", False),
        ("::1", "::", True), ("127.0.0.1", "*", True), ("192.0.2.7", "192.0.2.7", True),
    ],
)  # fmt: skip
def test_addresses_get_in_each_others_way_as_bind_sees_it(held, wanted, in_the_way):
    listener = sockets.Listener("tcp", sockets.ipaddress.ip_address(held), 53)
    assert listener.overlaps(wanted) is in_the_way


def test_a_real_socket_is_found():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [one for one in sockets.listeners() if one.port == port and one.protocol == "tcp"]
        assert (str(found.address), found.pid) == ("127.0.0.1", os.getpid())
