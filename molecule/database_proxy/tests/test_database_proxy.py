"""Two hosts, each with an application's socket and a database: who gets through, where to, and what is met when the writer changes."""

from __future__ import annotations

import re
import shlex
import threading
import time

import pytest
import testinfra
from outage import SILENCE
from scenario import Host, names, playbook, until, whereabouts
from sessions import Session

CONFIG = "/etc/database-proxy/haproxy.cfg"
CLIENT = "mariadb --socket=/run/database/writer.sock --user=app --password=correct-horse-battery --skip-ssl --skip-column-names --batch"
# What the door says to somebody who connects to it, with or without TLS and a certificate: address, and the certificate's files.
KNOCK = """
import socket, ssl, sys
address, *files = sys.argv[1:]
link = socket.create_connection((address, 3307), timeout=10)
if files != ["plain"]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.load_verify_locations("/etc/ssl/database/authority.pem")
    if files:
        tls.load_cert_chain(*files)
try:
    link = link if files == ["plain"] else tls.wrap_socket(link)
    print(link.recv(200))
    print(link.getpeercert()["serialNumber"])
except OSError as error:
    print(type(error).__name__, error)
"""
STATISTICS = """
import socket
link = socket.socket(socket.AF_UNIX)
link.connect("/run/database-proxy/admin.sock")
link.sendall(b"show stat\\n")
print(link.makefile().read())
"""


def host_of(name: str) -> Host:
    return testinfra.get_host(f"docker://{name}")


def write_on(*writers: str) -> None:
    """These servers say from now on that they are the writer."""
    for name in names():
        host_of(name).check_output("touch /run/writer" if name in writers else "rm -f /run/writer")


def asked(host: Host, statement: str = "SELECT @@hostname") -> str:
    return host.check_output(f"{CLIENT} --execute={shlex.quote(statement)}")


@pytest.fixture(autouse=True)
def writer() -> str:
    """Before each test the first server writes, and both hosts know."""
    name = names()[0]
    write_on(name)
    for host in map(host_of, names()):
        until(lambda host=host: asked(host) == name)
    return name


def knock(host: Host, address: str, *files: str) -> str:
    return host.check_output(shlex.join(["python3", "-c", KNOCK, address, *files]))


def address_of(name: str) -> str:
    return whereabouts(name)[name].address


def test_both_hosts_reach_the_writer_as_a_client_on_its_own_host(servers):
    for name in reversed(names()):
        write_on(name)
        for host in servers:
            until(lambda host=host, name=name: asked(host) == name)
            assert asked(host, "SELECT CURRENT_USER(), USER()").split() == ["app@localhost"] * 2


def test_root_of_a_host_is_not_root_of_the_database(server):
    refused = server.run("mariadb --socket=/run/database/writer.sock --user=root --skip-ssl --execute='SELECT 1'")
    assert refused.rc != 0 and "Access denied for user 'root'@'localhost'" in refused.stderr


def test_only_a_host_of_the_authority_gets_through_the_door(servers):
    host = servers[1]
    strange = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=strange"
        " -keyout /tmp/strange.key -out /tmp/strange.pem"
    )
    host.check_output(strange)
    for address in map(address_of, names()):
        assert "mysql_native_password" in knock(
            host, address, "/etc/ssl/database/host.pem", "/etc/ssl/database/host.key"
        )
        for files in ([], ["plain"], ["/tmp/strange.pem", "/tmp/strange.key"]):
            said = knock(host, address, *files)
            assert "mysql" not in said and ("Error" in said or said.startswith("b''")), said


def test_nothing_else_of_the_database_is_reached_from_outside(server):
    lines = server.check_output("ss --listening --numeric --no-header --tcp --udp").splitlines()
    outside = {line.split()[4] for line in lines if "127.0.0.1" not in line}
    address = address_of(server.backend.name)
    assert outside == {f"{address}:3307", f"{address}:3308"}  # the second is the agent's


def test_debians_own_unit_starts_only_with_a_configuration_of_somebodys(server):
    server.check_output("systemctl start haproxy")
    assert server.run("systemctl is-active haproxy").stdout.strip() == "inactive"
    server.check_output(
        "cp /etc/haproxy/haproxy.cfg /tmp && echo '# mine' >>/etc/haproxy/haproxy.cfg && systemctl start haproxy"
    )
    try:
        assert server.run("systemctl is-active haproxy").stdout.strip() == "active"
    finally:
        server.check_output("cp /tmp/haproxy.cfg /etc/haproxy/haproxy.cfg && systemctl stop haproxy")


def test_when_the_writer_changes_the_sessions_of_the_one_before_end(servers, writer):
    other = names()[1]
    with Session(servers[0]) as local, Session(servers[1]) as remote:
        for session in (local, remote):
            session.asks()
            until(lambda session=session: session.said == ["connected", writer])
        write_on(other)
        for host in servers:
            until(lambda host=host: asked(host) == other)
        for session in (local, remote):
            until(lambda session=session: ended(session))


def ended(session: Session) -> bool:
    if session.process.poll() is None:
        session.asks()
    return "Lost connection" in session.said[-1] or "gone away" in session.said[-1]


def test_a_writer_that_is_about_to_hand_over_gets_nobody_new_and_those_who_are_there_go_on(servers, writer):
    other = names()[1]
    with Session(servers[1]) as before:
        before.asks()
        until(lambda: before.said == ["connected", writer])
        servers[0].check_output("touch /run/leaving")
        try:
            until(lambda: ready_on(servers[1]) == 0)
            with Session(servers[1]) as after:
                time.sleep(3)
                before.asks()
                until(lambda: before.said[2:] == [writer])
                assert after.said == []
                write_on(other)
                after.asks()
                until(lambda: after.said == ["connected", other])
            until(lambda: ended(before))
        finally:
            servers[0].check_output("rm /run/leaving")


def test_a_writer_that_falls_silent_loses_its_sessions_too(servers, writer):
    other = names()[1]
    host = servers[1]
    with Session(host) as session:
        session.asks()
        until(lambda: session.said == ["connected", writer])
        servers[0].check_output(SILENCE)
        try:
            host.check_output("touch /run/writer")
            # One who was on the way to it is refused, in HAProxy 3.0, too, and does not wait for good.
            met = host.run(f"timeout 30 {CLIENT} --execute='SELECT @@hostname'")
            assert "Lost connection" in met.stderr or met.stdout.strip() == other
            until(lambda: asked(host) == other)
            until(lambda: ended(session))
        finally:
            servers[0].check_output("nft delete table inet cut")


@pytest.mark.parametrize("several", [False, True])
def test_without_one_writer_connections_wait_and_not_for_good(servers, several):
    """Two that say so are as good as none: one of them is wrong."""
    write_on(*(names() if several else []))
    host = servers[0]
    until(lambda: ready_on(host) == len(names()) * several)
    with Session(host) as first:
        time.sleep(10)
        assert first.said == []
        with Session(host) as second:
            until(lambda: first.said)
            assert first.said[0].startswith("refused")
            assert second.said == []
            write_on(names()[1])
            second.asks()
            until(lambda: second.said == ["connected", names()[1]])


def ready_on(host: Host) -> int:
    """How many servers have said that they write, and go on to, when the host's proxy last asked each."""
    said = host.check_output(shlex.join(["python3", "-c", STATISTICS])).splitlines()
    return sum(bool(re.search(r",(\* )?L7OK,", row)) for row in said if row.startswith("writer,"))


def test_after_a_restart_nobody_is_led_to_a_server_that_does_not_write(servers):
    host = servers[0]
    write_on(names()[1])
    until(lambda: asked(host) == names()[1])
    for _time in range(5):
        host.check_output("systemctl restart database-proxy")
        assert asked(host) == names()[1]


def test_a_killed_proxy_comes_back(servers, writer):
    host = servers[1]
    host.check_output("systemctl kill --signal=KILL database-proxy")
    until(lambda: asked(host) == writer)


def test_a_reload_loses_no_connection_and_has_renewed_certificates(servers, writer):
    host = servers[1]
    files = ["/etc/ssl/database/host.pem", "/etc/ssl/database/host.key"]
    before = knock(host, address_of(writer), *files)
    playbook(name="prepare.yml").must_succeed()
    over, answers = threading.Event(), []

    def come() -> None:
        while not over.is_set():
            answers.append(host.run(f"{CLIENT} --execute='SELECT @@hostname'"))

    clients = [threading.Thread(target=come) for _client in range(4)]
    with Session(host) as session:
        session.asks()
        until(lambda: len(session.said) == 2)
        for client in clients:
            client.start()
        try:
            told = playbook("--tags=database_proxy").must_succeed()
            assert len([line for line in told.changed if "The proxy and its unit" in line]) == 2
        finally:
            over.set()
            for client in clients:
                client.join()
        session.asks()
        until(lambda: session.said == ["connected", writer, writer])
    assert knock(host, address_of(writer), *files) != before
    assert [answer for answer in answers if answer.rc] == [] and len(answers) > 20
    assert playbook("--tags=database_proxy").must_succeed().changed == []


def test_what_was_changed_by_hand_is_mended(server, writer):
    server.check_output(
        f"sed -i s/20s/1s/ {CONFIG} && systemctl stop database-proxy && echo >/etc/database-proxy/other.cfg"
    )
    foreseen = playbook("--check", "--tags=database_proxy").must_succeed().changed
    run = playbook("--tags=database_proxy").must_succeed()
    assert run.changed == foreseen and len(run.changed) == 1 and server.backend.name in run.changed[0]
    assert not server.file("/etc/database-proxy/other.cfg").exists
    until(lambda: asked(server) == writer)


def test_what_cannot_work_is_refused_and_the_proxy_goes_on(servers, writer):
    playbook("--tags=database_proxy", database_proxy_socket="").must_be_refused(
        "database_proxy_servers: of no use without"
    )
    playbook(
        "--tags=database_proxy", database_proxy_status_port=3308, database_proxy_socket="/run/writer.sock"
    ).must_be_refused(
        "database_proxy_status_port: 3308 is where servers are asked",
        "'/run/writer.sock' is not a file in /run/database",
    )
    servers[0].check_output("openssl ecparam -genkey -name prime256v1 -noout -out /tmp/other.key")
    servers[1].check_output("openssl ecparam -genkey -name prime256v1 -noout -out /tmp/other.key")
    playbook("--tags=database_proxy", database_proxy_key="/tmp/other.key").must_be_refused(
        "refuses the new configuration; the live one is untouched", "host.pem"
    )
    assert [asked(host) for host in servers] == [writer] * 2
