"""Role certificate: signed by an authority, by one's own, or brought along; renewed, and refused."""

import contextlib
import datetime
import os
import re
from pathlib import Path

import pytest
import testinfra
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from scenario import names, until

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
WEB = [name for name in names() if "debian" in name]
DAY = datetime.timedelta(days=1)
NGINX = "nginx : Configure | nginx, its sites, its unit and its logs"

LOAD = r"""
import http.client, ssl, subprocess, sys, threading
context = ssl._create_unverified_context()
answers, failures, done = [0], [], threading.Event()
def visit():
    while not done.wait(0.01):
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", timeout=5, context=context)
            connection.sock = context.wrap_socket(__import__("socket").create_connection(("127.0.0.1", 443), 5), server_hostname=sys.argv[1])
            connection.request("GET", "/", headers={"Host": sys.argv[1], "Connection": "close"})
            if connection.getresponse().status != 200:
                failures.append("status")
            answers[0] += 1
        except Exception as error:
            failures.append(repr(error))
threads = [threading.Thread(target=visit) for _ in range(2)]
for thread in threads: thread.start()
outcome = subprocess.run(sys.argv[2:])
done.wait(1)
done.set()
for thread in threads: thread.join()
assert outcome.returncode == 0
assert answers[0] > 50 and not failures, (answers, failures[:5])
"""


@pytest.fixture
def servers():
    return [testinfra.get_host(f"docker://{name}") for name in WEB]


@pytest.fixture(params=WEB)
def web(request):
    return testinfra.get_host(f"docker://{request.param}")


def outer(server):
    return "new.example.com" if "debian13" in server.backend.name else "old.example.com"


def served(server, name):
    """The certificate that nginx shows for a name."""
    said = server.check_output(f"openssl s_client -connect 127.0.0.1:443 -servername {name} </dev/null 2>/dev/null")
    return x509.load_pem_x509_certificate(re.search(r"-----BEGIN.*?-----END[^\n]+", said, re.DOTALL)[0].encode())


def issuer(certificate):
    return certificate.issuer.rfc4514_string()


def page(server, name, trusted):
    return server.run(f"curl -sS --cacert {trusted} --resolve {name}:443:127.0.0.1 https://{name}/")


def brought(subject="inner.example.com", days=90, key=None, signer=None, start=0):
    """A certificate as somebody would bring it: (certificate, key)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(signer[0].subject if signer else name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + min(start, days - 1) * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .sign(signer[1] if signer else key, hashes.SHA256())
    )
    return certificate, key


def pem(*certificates):
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def secret(key, password=None):
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def files(chain, key):
    """Extra variables that bring a chain and a key along. They reach all calls of the role but acme's own inputs."""
    (FOLDER / "chain.pem").write_bytes(chain)
    (FOLDER / "key.pem").write_bytes(key)
    return {
        "certificate_source": "files",
        "certificate_name": "inner",
        "certificate_names": ["inner.example.com"],
        "certificate_file": str(FOLDER / "chain.pem"),
        "certificate_key_file": str(FOLDER / "key.pem"),
    }


def test_a_dry_run_of_converged_hosts_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


def test_the_authority_has_signed_what_is_served(web):
    certificate = served(web, outer(web))
    assert "Pebble" in issuer(certificate)
    web.check_output("curl -sk https://authority.example.com:15000/roots/0 -o /root/root.pem")
    assert page(web, outer(web), "/root/root.pem").stdout == "outer"


def test_ones_own_authority_has_signed_what_is_served_and_its_key_is_not_here(web):
    web.check_output("echo %s > /root/inner.pem", (FOLDER / "authority/authority.pem").read_text(encoding="utf-8"))
    assert page(web, "inner.example.com", "/root/inner.pem").stdout == "inner"
    assert page(web, "inner.example.com", "/etc/ssl/certs/ca-certificates.crt").rc == 60
    key = (FOLDER / "authority/authority.key").read_text(encoding="utf-8").splitlines()[1]
    assert web.run(f"grep -rlF -- '{key}' /etc /var/lib /root").stdout == ""
    assert (FOLDER / "authority/authority.key").stat().st_mode & 0o077 == 0


def test_keys_are_for_root_alone(web):
    for name in ("outer", "inner"):
        found = web.check_output(f"stat -Lc '%U %a' /etc/ssl/{name}/key.pem")
        assert found == "root 600"


def test_a_renewal_by_the_timer_is_served_at_once_and_loses_no_request(web):
    assert web.service("certbot.timer").is_enabled and web.service("certbot.timer").is_running
    before = served(web, outer(web)).serial_number
    web.check_output(
        "sed -i 's/^.*renew_before_expiry.*/renew_before_expiry = 9999 days/' /etc/letsencrypt/renewal/outer.conf"
    )
    web.check_output("python3 -c %s %s systemctl start certbot.service", LOAD, outer(web))
    until(lambda: served(web, outer(web)).serial_number != before)
    assert web.service("nginx").is_running


def test_after_renewals_nothing_is_ordered(converge):
    assert converge().must_succeed().changed == []


def contact(server):
    """The address that the authority itself has for the host's account."""
    said = server.check_output("certbot show_account --server https://authority.example.com:14000/dir 2>&1")
    return re.search(r"Email contact: (\S+)", said)[1]


@pytest.mark.parametrize(("email", "told"), [("", "none"), ("ops@example.com", "ops@example.com")])
def test_another_address_is_sent_to_the_authority_once(converge, servers, email, told):
    """The second address is that of the scenario again."""
    order = "certificate : Order | Have the authority sign the certificate"
    before = [(contact(server), served(server, outer(server)).serial_number) for server in servers]
    assert told not in [address for address, _serial in before]
    assert len(converge("--check", certificate_acme_email=email).must_succeed().changed) == len(servers)
    run = converge(certificate_acme_email=email).must_succeed()
    assert [line.split(": ", 1)[1] for line in run.changed] == [order] * len(servers)
    assert [(contact(server), served(server, outer(server)).serial_number) for server in servers] == [
        (told, serial) for _address, serial in before
    ]
    assert converge(certificate_acme_email=email).must_succeed().changed == []


@contextlib.contextmanager
def hosts_file(servers, change):
    """The hosts files changed by sed, and as before afterwards."""
    for server in servers:
        server.check_output(f"cp /etc/hosts /root/hosts && sed '{change}' /root/hosts > /etc/hosts")
    try:
        yield
    finally:
        for server in servers:
            server.check_output("cat /root/hosts > /etc/hosts")


def forget(servers):
    for server in servers:
        server.check_output(
            "rm -rf /etc/letsencrypt/renewal/outer.conf /etc/letsencrypt/live/outer /etc/letsencrypt/archive/outer /etc/ssl/outer"
        )


def test_an_authority_out_of_reach_leaves_what_is_served(converge, servers):
    before = [served(server, outer(server)).serial_number for server in servers]
    for server in servers:  # another authority than before, so that there is something to order
        server.check_output(
            "sed -i 's#^server = .*#server = https://other.example.com/dir#' /etc/letsencrypt/renewal/outer.conf"
        )
    with hosts_file(servers, "s/^[0-9.]* authority/127.0.0.1 authority/"):
        converge().must_fail(
            "The authority https://authority.example.com:14000/dir has signed nothing for",
            "what was served before is served still",
        )
    assert [served(server, outer(server)).serial_number for server in servers] == before
    run = converge().must_succeed()
    assert "certificate : Order | Have the authority sign the certificate" in {
        line.split(": ", 1)[1] for line in run.changed
    }
    assert [served(server, outer(server)).serial_number for server in servers] != before
    assert converge().must_succeed().changed == []


def test_an_authority_is_not_asked_for_a_name_that_leads_elsewhere(converge, servers):
    forget(servers)
    with hosts_file(servers, "s/^[0-9.]* \\(new\\|old\\).example.com/192.0.2.1 \\1.example.com/"):
        run = converge().must_fail(
            "leads to 192.0.2.1; this host is", "The authority was not asked", "certificate_addresses"
        )
        assert "certbot says" not in run.output
        # On a bare host, what signs itself is served until the names are right.
        for server in servers:
            assert issuer(served(server, outer(server))) == "CN=placeholder"
    with hosts_file(servers, "/new\\|old/d"):
        converge().must_fail("is not in the DNS")
    converge().must_succeed()
    for server in servers:
        until(lambda server=server: "Pebble" in issuer(served(server, outer(server))))
    assert converge().must_succeed().changed == []


def test_one_near_its_end_is_signed_anew(converge, servers):
    certificate, key = brought(days=10)
    before = (FOLDER / "authority/signed/inner.example.com.pem").read_bytes()
    (FOLDER / "authority/signed/inner.example.com.pem").write_bytes(pem(certificate))
    (FOLDER / "authority/signed/inner.example.com.key").write_bytes(secret(key))
    converge().must_succeed()
    assert (FOLDER / "authority/signed/inner.example.com.pem").read_bytes() not in (before, pem(certificate))
    for server in servers:
        until(
            lambda server=server: (
                served(server, "inner.example.com").not_valid_after_utc
                > datetime.datetime.now(datetime.UTC) + 300 * DAY
            )
        )


def test_hand_edits_are_repaired_exactly(converge, servers):
    for server in servers:
        server.check_output("chmod 644 /etc/ssl/inner/key.pem; rm /etc/letsencrypt/renewal-hooks/deploy/outer")
    wanted = {
        "certificate : Place | The certificate and its key",
        "certificate : Install | What renews, and what follows",
    }
    run = converge("--check").must_succeed()
    assert wanted <= {line.split(": ", 1)[1] for line in run.changed} <= wanted | {NGINX}
    converge().must_succeed()
    for server in servers:
        assert server.file("/etc/ssl/inner/key.pem").mode == 0o600
    assert converge().must_succeed().changed == []


def test_after_a_reboot_nothing_has_to_change(converge, servers):
    """certbot's timer begins with the host; systemd tells no start of a process of it."""
    with hosts_file(servers, ""):  # the engine writes a fresh one when it starts a container
        for server in servers:
            server.backend.run_local(f"docker restart {server.backend.name}")
    for server in servers:
        until(lambda server=server: "Pebble" in issuer(served(server, outer(server))))
    assert converge().must_succeed().changed == []


def test_a_pair_that_a_killed_run_left_is_mended_before_nginx_looks(converge, servers):
    """The certificate is the new one already, the key still the one before."""
    before = [served(server, outer(server)).serial_number for server in servers]
    for server in servers:
        server.check_output(
            "rm /etc/ssl/outer/key.pem && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /etc/ssl/outer/key.pem"
        )
        server.check_output(
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /etc/ssl/inner/key.pem"
        )
        assert server.run("nginx -t").rc == 1
    converge().must_succeed()
    for server in servers:
        until(lambda server=server: page(server, "inner.example.com", "/root/inner.pem").stdout == "inner")
        assert page(server, outer(server), "/root/root.pem").stdout == "outer"
    # What the authority has signed is there still, and served again.
    assert [served(server, outer(server)).serial_number for server in servers] == before
    assert converge().must_succeed().changed == []


# What is brought along


@pytest.fixture
def only_files(converge):
    """Runs the scenario's play with all its certificates brought along, in check mode: nothing is ordered."""
    return lambda chain, key: converge("--check", **files(chain, key))


def test_a_good_certificate_is_taken(only_files):
    root = brought("authority.example.net")
    leaf, key = brought(signer=root)
    assert "more days" not in only_files(pem(leaf, root[0]), secret(key)).must_succeed().output


def test_one_that_ends_soon_is_warned_of(only_files):
    leaf, key = brought(days=20)
    only_files(pem(leaf), secret(key)).must_succeed().must_say("certificate_file: is valid for 19 more days")


AUTHORITY_PAIR = brought("authority.example.net")
LEAF, LEAF_KEY = brought(signer=AUTHORITY_PAIR)


@pytest.mark.parametrize(
    ("chain", "key", "words"),
    [
        (
            pem(LEAF),
            secret(ec.generate_private_key(ec.SECP256R1())),
            "certificate_key_file: is the key of another certificate",
        ),
        (pem(LEAF), secret(LEAF_KEY, b"password"), "certificate_key_file: is encrypted"),
        (pem(LEAF), b"no key", "certificate_key_file: holds no private key"),
        (b"no certificate", secret(LEAF_KEY), "certificate_file: holds no certificate"),
        (pem(LEAF, brought("else.example.net")[0]), secret(LEAF_KEY), "certificate_file: the certificate in place 2"),
        (pem(brought(days=-1, key=LEAF_KEY)[0]), secret(LEAF_KEY), "certificate_file: CN=inner.example.com expired on"),
        (
            pem(brought(days=9, start=3, key=LEAF_KEY)[0]),
            secret(LEAF_KEY),
            "certificate_file: CN=inner.example.com is valid only from",
        ),
        (
            pem(brought("x.example.com", key=LEAF_KEY)[0]),
            secret(LEAF_KEY),
            "is for x.example.com, and not for inner.example.com",
        ),
    ],
)
def test_a_certificate_that_no_browser_would_take_is_refused(only_files, servers, chain, key, words):
    run = only_files(chain, key)
    run.must_be_refused(words)
    for line in secret(LEAF_KEY).decode().splitlines()[1:-1]:
        assert line not in run.output
    for server in servers:
        assert page(server, "inner.example.com", "/root/inner.pem").stdout == "inner"


def test_what_is_brought_along_is_served_and_its_key_is_shown_nowhere(converge, servers):
    leaf, key = brought(signer=AUTHORITY_PAIR)
    run = converge("-vvv", "--diff", **files(pem(leaf, AUTHORITY_PAIR[0]), secret(key))).must_succeed()
    for server in servers:
        until(lambda server=server: issuer(served(server, "inner.example.com")) == "CN=authority.example.net")
    for line in secret(key).decode().splitlines()[1:-1]:
        assert line not in run.output
        for server in servers:
            assert server.run(f"journalctl --no-pager | grep -qF -- '{line}'").rc == 1
    converge().must_succeed()
    for server in servers:
        until(lambda server=server: page(server, "inner.example.com", "/root/inner.pem").stdout == "inner")


def test_certbot_renews_no_longer_what_comes_from_elsewhere_now(converge, servers):
    """And takes it up again, with what the authority has signed, when it is to."""
    leaf, key = brought("new.example.com", signer=AUTHORITY_PAIR)
    own = {"certificate_name": "outer", "certificate_names": ["new.example.com"]}
    before = [served(server, outer(server)).serial_number for server in servers]
    run = converge("--skip-tags", "nginx", **files(pem(leaf), secret(key)) | own)
    ended = "certificate : Place | End the renewals by certbot"
    assert [line.split(": ", 1)[1] for line in run.must_succeed().changed].count(ended) == len(servers)
    hook = "/etc/letsencrypt/renewal-hooks/deploy/outer"
    for server in servers:
        assert not server.file(hook).exists
        due = "sed -i 's/^.*renew_before_expiry.*/renew_before_expiry = %s days/' /etc/letsencrypt/renewal/outer.conf"
        server.check_output(due % 9999)
        assert "No renewals were attempted" in server.check_output("certbot renew 2>&1")
        server.check_output(due % 30)
    converge().must_succeed()
    for server in servers:
        assert server.file(hook).exists
        until(lambda server=server: "Pebble" in issuer(served(server, outer(server))))
        assert "autorenew" not in server.file("/etc/letsencrypt/renewal/outer.conf").content_string
    assert [served(server, outer(server)).serial_number for server in servers] == before
    assert converge().must_succeed().changed == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            {
                "certificate_name": "private",
                "certificate_names": ["*.example.com", "a_b.example.com"],
                "certificate_acme_directory": "http://authority.example.com/dir",
                "certificate_acme_email": "me at home",
                "certificate_acme_root": "/srv/../etc",
                "certificate_reload": ["nginx; reboot"],
            },
            [
                "certificate_name: 'private' is not a name",
                "certificate_names: each is a domain name",
                "certificate_names: an authority signs neither",
                "certificate_acme_directory: 'http://",
                "certificate_acme_email: 'me at home'",
                "certificate_acme_root: '/srv/../etc'",
                "certificate_reload: each is a unit",
            ],
        ),
        (
            {"certificate_source": "files", "certificate_names": []},
            ["certificate_file, certificate_key_file: both are needed", "certificate_names: empty"],
        ),
        (
            {"certificate_source": "files", "certificate_file": "/a.pem", "certificate_key_file": "/a.key"},
            ["there is no file /a.pem, /a.key on the controller"],
        ),
        ({"certificate_source": "magic"}, ["certificate_source"]),
        ({"certificate_nam": "x"}, ["certificate_nam: unknown variable; did you mean certificate_name"]),
    ],
)
def test_bad_inputs_are_refused(converge, servers, inputs, words):
    converge(**inputs).must_be_refused(*words)
    for server in servers:
        assert served(server, outer(server))
