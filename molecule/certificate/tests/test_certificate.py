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
from scenario import each, names, until

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
WEB = [name for name in names() if "debian" in name]
DAY = datetime.timedelta(days=1)
NGINX = "nginx : Configure | nginx, its sites, its unit and its logs"
ORDER = "certificate : Order | Have the authority sign the certificate"

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


def files(old, new, **names_):
    """Extra variables that bring along the two pairs, each (chain, key), for site inner; `names_` tell of another.

    The second is that of Debian 13. They reach all calls of the role but acme's own inputs.
    """
    told = {}
    for label, (chain, key) in (("debian12", old), ("debian13", new)):
        paths = FOLDER / f"{label}.pem", FOLDER / f"{label}.key"
        paths[0].write_bytes(chain)
        paths[1].write_bytes(key)
        told[label] = {"certificate_file": str(paths[0]), "certificate_key_file": str(paths[1])}
    inner = {"certificate_name": "inner", "certificate_names": ["inner.example.com"]}
    return {"certificate_source": "files", **inner, **names_, **each(**told)}


def tasks(run, server=None):
    """What a run has changed, on one host or on all."""
    of = f"{server.backend.name}: " if server else ""
    return [line.split(": ", 1)[1] for line in run.changed if line.startswith(of)]


def serials(servers):
    return [served(server, outer(server)).serial_number for server in servers]


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


def contact(server):
    """The address that the authority itself has for the host's account."""
    said = server.check_output("certbot show_account --server https://authority.example.com:14000/dir 2>&1")
    return re.search(r"Email contact: (\S+)", said)[1]


def test_another_address_is_sent_to_the_authority_once(converge, servers):
    """And what the timer has renewed is not ordered again. The second address is that of the scenario again."""
    _old, new = servers
    before = serials(servers)
    assert [contact(server) for server in servers] == ["ops@example.com"] * 2
    assert tasks(converge("--check", certificate_acme_email="").must_succeed()) == [ORDER] * 2
    assert tasks(converge(certificate_acme_email="").must_succeed()) == [ORDER] * 2
    assert [contact(server) for server in servers] == ["none"] * 2
    told = each({"certificate_acme_email": ""}, {"certificate_acme_email": "ops@example.com"})
    assert converge(**told).must_succeed().changed == [f"{new.backend.name}: {ORDER}"]
    assert [contact(server) for server in servers] == ["none", "ops@example.com"]
    assert serials(servers) == before


@contextlib.contextmanager
def hosts_file(server, change):
    """The hosts file changed by sed, and as before afterwards."""
    server.check_output(f"cp /etc/hosts /root/hosts && sed '{change}' /root/hosts > /etc/hosts")
    try:
        yield
    finally:
        server.check_output("cat /root/hosts > /etc/hosts")


def forget(server):
    server.check_output(
        "rm -rf /etc/letsencrypt/renewal/outer.conf /etc/letsencrypt/live/outer /etc/letsencrypt/archive/outer /etc/ssl/outer"
    )


# For hosts_file.
OUT_OF_REACH = "s/^[0-9.]* authority/127.0.0.1 authority/"
ELSEWHERE = "s/^[0-9.]* \\(new\\|old\\).example.com/192.0.2.1 \\1.example.com/"
NOWHERE = "/new\\|old/d"
UNSIGNED = (
    "The authority https://authority.example.com:14000/dir has signed nothing for",
    "what was served before is served still",
)
STRAY = ("The authority was not asked", "certificate_addresses")


def test_an_authority_out_of_reach_or_that_would_look_elsewhere_leaves_what_is_served(converge, servers):
    """It is out of reach of one host, and then of the other; the names of the other lead elsewhere, or nowhere."""
    old, new = servers
    before = serials(servers)
    # Another authority than before, so that there is something to order.
    old.check_output(
        "sed -i 's#^server = .*#server = https://other.example.com/dir#' /etc/letsencrypt/renewal/outer.conf"
    )
    forget(new)
    with hosts_file(old, OUT_OF_REACH), hosts_file(new, ELSEWHERE):
        run = converge().must_fail(*UNSIGNED, *STRAY, "new.example.com leads to 192.0.2.1; this host is")
    assert run.output.count("certbot says") == 1, run.output
    assert serials(servers)[0] == before[0]
    # On a bare host, what signs itself is served until the names are right, and the authority is there.
    assert issuer(served(new, outer(new))) == "CN=placeholder"
    forget(old)
    with hosts_file(old, NOWHERE), hosts_file(new, OUT_OF_REACH):
        run = converge().must_fail(*UNSIGNED, *STRAY, "old.example.com is not in the DNS")
    assert run.output.count("certbot says") == 1, run.output
    for server in servers:
        assert issuer(served(server, outer(server))) == "CN=placeholder"
    run = converge().must_succeed()
    for server in servers:
        assert ORDER in tasks(run, server)
        until(lambda server=server: "Pebble" in issuer(served(server, outer(server))))
    assert not set(serials(servers)) & set(before)


def test_what_has_drifted_is_foreseen_and_mended_before_nginx_looks_and_one_near_its_end_is_signed_anew(
    converge, servers
):
    before = serials(servers)
    for server in servers:
        server.check_output("chmod 644 /etc/ssl/inner/key.pem; rm /etc/letsencrypt/renewal-hooks/deploy/outer")
    wanted = {
        "certificate : Place | The certificate and its key",
        "certificate : Install | What renews, and what follows",
    }
    run = converge("--check").must_succeed()
    for server in servers:
        assert wanted <= set(tasks(run, server)) <= wanted | {NGINX}
    # And as a killed run does: a certificate is the new one already, its key still the one before.
    for server in servers:
        server.check_output(
            "rm /etc/ssl/outer/key.pem && for name in inner outer; do"
            " openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /etc/ssl/$name/key.pem; done"
        )
        assert server.run("nginx -t").rc == 1
    signed = FOLDER / "authority/signed/inner.example.com.pem"
    first, (near, key) = signed.read_bytes(), brought(days=10)
    signed.write_bytes(pem(near))
    signed.with_suffix(".key").write_bytes(secret(key))
    converge().must_succeed()
    assert signed.read_bytes() not in (first, pem(near))
    in_300_days = datetime.datetime.now(datetime.UTC) + 300 * DAY
    for server in servers:
        assert server.file("/etc/ssl/inner/key.pem").mode == 0o600
        until(lambda server=server: served(server, "inner.example.com").not_valid_after_utc > in_300_days)
        assert page(server, "inner.example.com", "/root/inner.pem").stdout == "inner"
        assert page(server, outer(server), "/root/root.pem").stdout == "outer"
    # What the authority has signed is there still, and served again.
    assert serials(servers) == before


def test_a_dry_run_of_converged_hosts_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


# What is brought along

AUTHORITY_PAIR = brought("authority.example.net")


def test_what_is_brought_along_is_served_with_a_warning_near_its_end_and_its_key_is_shown_nowhere(converge, servers):
    """That of the second host is near it."""
    brought_along = [brought(days=days, signer=AUTHORITY_PAIR) for days in (90, 20)]
    pairs = [(pem(leaf, AUTHORITY_PAIR[0]), secret(key)) for leaf, key in brought_along]
    run = converge("-vvv", "--diff", **files(*pairs)).must_succeed()
    run.must_say("certificate_file: is valid for 19 more days")
    assert "is valid for 89 more days" not in run.output
    for server, (leaf, _key) in zip(servers, brought_along, strict=True):
        until(lambda server=server, leaf=leaf: served(server, "inner.example.com") == leaf)
    for _leaf, key in brought_along:
        for line in secret(key).decode().splitlines()[1:-1]:
            assert line not in run.output
            for server in servers:
                assert server.run(f"journalctl --no-pager | grep -qF -- '{line}'").rc == 1


def test_certbot_renews_no_longer_what_comes_from_elsewhere_now(converge, servers):
    """And takes it up again, with what the authority has signed, when it is to."""
    leaf, key = brought("new.example.com", signer=AUTHORITY_PAIR)
    pair = pem(leaf), secret(key)
    before = serials(servers)
    own = {"certificate_name": "outer", "certificate_names": ["new.example.com"]}
    run = converge("--skip-tags", "nginx", **files(pair, pair, **own)).must_succeed()
    assert tasks(run).count("certificate : Place | End the renewals by certbot") == len(servers)
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
        until(lambda server=server: page(server, "inner.example.com", "/root/inner.pem").stdout == "inner")
        assert "autorenew" not in server.file("/etc/letsencrypt/renewal/outer.conf").content_string
    assert serials(servers) == before


def test_after_all_this_and_a_reboot_nothing_has_to_change(converge, servers):
    """certbot's timer begins with the host; systemd tells no start of a process of it."""
    with contextlib.ExitStack() as stack:
        for server in servers:  # the engine writes a fresh hosts file when it starts a container
            stack.enter_context(hosts_file(server, ""))
            server.backend.run_local(f"docker restart {server.backend.name}")
    for server in servers:
        until(lambda server=server: "Pebble" in issuer(served(server, outer(server))))
    assert converge().must_succeed().changed == []


# Refusals


def test_a_certificate_that_no_browser_would_take_is_refused(converge, servers):
    """tests/unit/test_certificates.py has files that hold none at all."""
    leaf, key = brought(signer=AUTHORITY_PAIR)
    expired, _key = brought("x.example.com", days=-1, key=key)
    early, _key = brought(days=9, start=3, key=key)
    of_another = secret(ec.generate_private_key(ec.SECP256R1()))
    chains = pem(expired, AUTHORITY_PAIR[0]), pem(early, leaf)
    run = converge(**files((chains[0], of_another), (chains[1], secret(key, b"password")))).must_be_refused(
        "certificate_key_file: is the key of another certificate",
        "certificate_file: the certificate in place 2",
        "certificate_file: CN=x.example.com expired on",
        "is for x.example.com, and not for inner.example.com",
        "certificate_key_file: is encrypted",
        "certificate_file: CN=inner.example.com is valid only from",
    )
    for text in (of_another, secret(key), secret(key, b"password")):
        for line in text.decode().splitlines()[1:-1]:
            assert line not in run.output
    for server in servers:
        assert page(server, "inner.example.com", "/root/inner.pem").stdout == "inner"


def test_bad_inputs_are_refused(converge, servers):
    """By the rules of one source on one host, of another on the other; then a value that is no choice, and an unknown variable."""
    acme = {
        "certificate_source": "acme",
        "certificate_name": "private",
        "certificate_names": ["*.example.com", "a_b.example.com"],
        "certificate_file": "",
    }
    brought_along = {
        "certificate_source": "files",
        "certificate_name": "inner",
        "certificate_names": [],
        "certificate_file": "/a.pem",
    }
    converge(
        certificate_acme_directory="http://authority.example.com/dir",
        certificate_acme_email="me at home",
        certificate_acme_root="/srv/../etc",
        certificate_reload=["nginx; reboot"],
        **each(acme, brought_along),
    ).must_be_refused(
        "certificate_name: 'private' is not a name",
        "certificate_names: each is a domain name",
        "certificate_names: an authority signs neither",
        "certificate_acme_directory: 'http://",
        "certificate_acme_email: 'me at home'",
        "certificate_acme_root: '/srv/../etc'",
        "certificate_reload: each is a unit",
        "certificate_file, certificate_key_file: both are needed",
        "certificate_file, certificate_key_file: there is no file /a.pem on the controller",
        "certificate_names: empty",
    )
    told = each({"certificate_source": "magic"}, {"certificate_source": "acme"})
    converge(certificate_nam="x", **told).must_be_refused(
        "certificate_source must be one of: acme, files, private, got: magic",
        "certificate_nam: unknown variable; did you mean certificate_name",
    )
    for server in servers:
        assert served(server, outer(server))
