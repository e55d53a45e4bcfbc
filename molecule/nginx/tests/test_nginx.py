"""Role nginx: what visitors get, what survives, what is refused."""

import copy
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from scenario import PROJECT, each, playbook, until

TASK = "nginx : Configure | nginx, its sites, its unit and its logs"
SITES = yaml.safe_load(Path(__file__).parents[1].joinpath("converge.yml").read_text(encoding="utf-8"))[0]["vars"][
    "nginx_sites"
]
OF_PLAYBOOKS = {"www": {"domain": "www.example.com", "root": "/srv/www"}}  # for playbooks; the roles are told otherwise
MAINTENANCE = str(PROJECT / "playbooks/maintenance.yml")
CLOSED = 52  # what curl calls an empty reply

RELOADS_UNDER_LOAD = r"""
import http.client, subprocess, threading
answers, failures, done = [0], [], threading.Event()
def visit():
    while not done.is_set():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=5)
            connection.request("GET", "/load", headers={"Host": "www.example.com", "Connection": "close"})
            status = connection.getresponse().status
            if status != 200:
                failures.append(status)
            answers[0] += 1
        except Exception as error:
            failures.append(repr(error))
threads = [threading.Thread(target=visit) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(10):
    subprocess.run(["systemctl", "reload", "nginx"], check=True)
    done.wait(0.2)
done.set()
for thread in threads: thread.join()
assert answers[0] > 10, answers
assert not failures, (answers, failures[:5])
"""


# What becomes of visitors who send each a text and no more: "closed", "waits", or the status of an answer.
SLOW_VISITORS = r"""
import select, socket, sys, time
visitors = []
for text in sys.argv[1:]:
    visitors.append(socket.create_connection(("127.0.0.1", 80)))
    visitors[-1].sendall(text.replace("|", "\r\n").encode())
    time.sleep(0.1)
end = time.monotonic() + 10
while len(select.select(visitors, [], [], 0)[0]) < len(visitors) - 1 and time.monotonic() < end:
    time.sleep(0.1)
for visitor in visitors:
    said = visitor.recv(100) if select.select([visitor], [], [], 0)[0] else b"- waits"
    print(said.split()[1].decode() if said else "closed")
"""

SWITCHED_UNDER_LOAD = r"""
import http.client, sys, threading, time
from pathlib import Path
address, switch = sys.argv[1], Path("/var/lib/webstack/maintenance/www")
answers, failures, done = {200: 0, 503: 0}, [], threading.Event()
def visit(method, body):
    # One connection for all: the switch may close none.
    connection = http.client.HTTPConnection(address, 80, timeout=5)
    connection.connect()
    first = connection.sock
    while not done.is_set():
        try:
            connection.request(method, "/load", body=body, headers={"Host": "www.example.com"})
            answer = connection.getresponse()
            said = answer.read()
            right = {200: b"the application says", 503: b"Closed for maintenance"}
            if right[answer.status] not in said or connection.sock is not first:
                failures.append((answer.status, said[:80], connection.sock))
            answers[answer.status] += 1
        except Exception as error:
            failures.append(repr(error))
            connection.close()
        time.sleep(0.005)
kinds = [("GET", None), ("GET", None), ("POST", b"x" * 40000)]
threads = [threading.Thread(target=visit, args=kind) for kind in kinds]
for thread in threads: thread.start()
for _ in range(5):
    switch.touch(); done.wait(0.3)
    switch.unlink(); done.wait(0.3)
done.set()
for thread in threads: thread.join()
assert min(answers.values()) > 10, answers
assert not failures, (answers, failures[:5])
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


def get(server, path="/", host="www.example.com", options="", port=80, address="127.0.0.1"):
    out = server.check_output(f"curl -sS -i --max-time 10 -H 'Host: {host}' {options} http://{address}:{port}{path}")
    head, _blank, body = out.replace("\r\n", "\n").partition("\n\n")
    if " 100 " in head.splitlines()[0]:
        head, _blank, body = body.partition("\n\n")
    status, *lines = head.splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]), headers, body)


def serves(server):
    answer = get(server)
    return answer.status == 200 and "the application says GET /" in answer.body


def answers_at_all(server):
    return server.run("curl -sf --max-time 2 -o /dev/null -H 'Host: www.example.com' http://127.0.0.1/").rc == 0


def listening(server):
    return set(server.check_output("ss -Hltnp | grep nginx | awk '{print $4}'").split())


def sites(**changes):
    """The sites of converge.yml, the first of them changed."""
    changed = copy.deepcopy(SITES)
    changed[0].update(changes)
    return changed


def test_a_dry_run_of_a_converged_host_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


# What visitors get


def test_the_application_answers_by_name_and_alias(server):
    assert serves(server)
    for host in ("example.com", "WWW.example.com", "www.example.com:8080"):
        assert get(server, "/x?a=1", host=host).status == 200
    body = get(server, "/x?a=1", options="-H 'X-Forwarded-For: 192.0.2.1'", host="www.example.com:8080").body
    assert "QUERY_STRING=a=1" in body
    assert "HTTP_HOST=www.example.com:8080" in body
    assert "HTTP_X_FORWARDED_FOR=127.0.0.1 " in body


def test_unknown_names_are_refused_by_closing_the_connection(server):
    for host in ("other.example.org", "example.com.evil.example.org", "127.0.0.1", "files.example.com"):
        assert server.run(f"curl -s -H 'Host: {host}' http://127.0.0.1/").rc == CLOSED
    assert server.run("curl -s -g http://[::1]/").rc in (CLOSED, 7)  # 7: the container has no IPv6


def test_static_files_come_from_disk_with_their_headers(server):
    answer = get(server, "/static/site.css")
    assert (answer.status, answer.body) == (200, "body { color: black }")
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert get(server, "/robots.txt").headers["cache-control"] == "public, max-age=60"
    missing = get(server, "/static/missing.css")
    assert missing.status == 404
    assert "Page not found" in missing.body
    assert "cache-control" not in missing.headers


def test_hidden_files_and_parents_are_not_served(server):
    paths = ("/static/.git/config", "/static/%2egit/config", "/static../files/index.html", "/static/../files/.env")
    for path in paths:
        answer = get(server, path, options="--path-as-is")
        assert "a secret" not in answer.body
        assert "the file says" not in answer.body
    assert get(server, "/static/.git/config").status == 404
    assert get(server, "/.env", host="a.files.example.com").status == 404


def test_precompressed_files_and_compressed_pages(server):
    server.check_output("cd /srv/foobar/static && echo 'body { color: blue }' | gzip > site.css.gz")
    try:
        packed = get(server, "/static/site.css", options="-H 'Accept-Encoding: gzip' --compressed")
        assert packed.headers["content-encoding"] == "gzip"
        assert "blue" in packed.body
        assert "black" in get(server, "/static/site.css").body
    finally:
        server.check_output("rm /srv/foobar/static/site.css.gz")
    page = get(server, options="--compressed")
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["vary"] == "accept-encoding"
    assert "the application says" in page.body


def test_redirect_proxy_files_and_raw_directives(server):
    redirect = get(server, "/old?a=b%0d%0aX-Evil:1")
    assert (redirect.status, redirect.headers["location"]) == (308, "https://www.example.org/old?a=b%0d%0ax-evil:1")
    assert get(server, "/backend/").body == "the backend says hello"
    assert get(server, "/download/index.html").body == "the file says hello"
    assert get(server, "/raw/42.txt").body == "a raw 42"
    assert get(server, "/raw/42xtxt").body.startswith("the application says")
    assert get(server).headers["x-colour"] == "blue"
    assert get(server, host="a.files.example.com").body == "the file says hello"


def test_options_replace_the_roles_own_and_modules_of_packages_load(server):
    assert "server" not in get(server).headers


def test_a_body_that_is_too_large_is_refused(server):
    server.check_output("head -c 70000 /dev/zero > /tmp/body")
    assert get(server, "/upload", options="--data-binary @/tmp/body").status == 413
    assert get(server, "/upload", options="--data-binary x").status == 200


def test_a_proxy_in_front_may_speak_http_2(server):
    command = (
        "curl -sS --http2-prior-knowledge -o /dev/null -w '%{http_version} %{http_code}' -H 'Host: www.example.com'"
    )
    assert server.check_output(command + " http://127.0.0.1:8082/static/site.css") == "2 200"
    assert server.check_output(command.replace(" --http2-prior-knowledge", "") + " http://127.0.0.1/") == "1.1 200"
    assert server.run("curl -s --http2-prior-knowledge -H 'Host: other.example.org' http://127.0.0.1:8082/").rc != 0


def test_a_proxy_that_has_ended_tls_gets_the_page_as_one_over_https(server):
    said = get(server, "/x", host="shop.example.com", options="--http2-prior-knowledge", port=8082)
    assert said.status == 200 and "HTTPS=on wsgi.url_scheme=https" in said.body
    assert said.headers["strict-transport-security"] == SECURE["strict-transport-security"]
    assert "HTTPS=None wsgi.url_scheme=http " in get(server, "/x").body
    led = get(server, "/x", host="example.net", options="--http2-prior-knowledge", port=8082)
    assert (led.status, led.headers["location"]) == (301, "https://shop.example.com/x")


# A connection from 127.0.0.2 is one of a trusted proxy, and so is what came by way of 192.0.2.0/24.
BALANCER = "--interface 127.0.0.2"
OVER = {"1.1": (80, ""), "2": (8082, "--http2-prior-knowledge")}


def forwarded(addresses, scheme="https"):
    return f"-H 'X-Forwarded-For: {addresses}' -H 'X-Forwarded-Proto: {scheme}'"


@pytest.mark.parametrize("version", OVER)
def test_a_trusted_proxy_is_believed_who_the_visitor_is_and_what_it_speaks(server, version):
    port, how = OVER[version]
    path, lines = f"/from/{version}", "/var/log/nginx/access.log"
    # The first address is what the visitor has made up.
    told = f"{BALANCER} {how} {forwarded('203.0.113.9, 198.51.100.7, 192.0.2.1')}"
    said = get(server, path, host="shop.example.com", options=told, port=port)
    assert said.status == 200
    assert "HTTP_X_FORWARDED_FOR=198.51.100.7 REMOTE_ADDR=198.51.100.7" in said.body
    assert "HTTPS=on wsgi.url_scheme=https" in said.body
    assert said.headers["strict-transport-security"] == SECURE["strict-transport-security"]
    until(
        lambda: (
            f'client=198.51.100.7 host="shop.example.com" request="GET {path} ' in server.check_output(f"cat {lines}")
        )
    )
    plain = get(server, "/x", options=f"{BALANCER} {how} {forwarded('198.51.100.7', 'http')}", port=port)
    assert "HTTPS=None wsgi.url_scheme=http " in plain.body
    led = get(server, "/x", "shop.example.com", f"{BALANCER} {how} {forwarded('198.51.100.7', 'http')}", port=port)
    assert (led.status, led.headers["location"]) == (301, "https://shop.example.com/x")


@pytest.mark.parametrize("version", OVER)
def test_what_others_say_of_the_visitor_is_ignored(server, version):
    port, how = OVER[version]
    said = get(server, "/x", options=f"{how} {forwarded('127.0.0.1, 198.51.100.7', 'gopher')}", port=port)
    assert "HTTP_X_FORWARDED_FOR=127.0.0.1 REMOTE_ADDR=127.0.0.1" in said.body
    scheme = "https" if version == "2" else "http"  # that port says it by itself
    assert f"wsgi.url_scheme={scheme} " in said.body
    other = "http" if version == "2" else "https"
    told = get(server, "/x", options=f"{how} {forwarded('198.51.100.7', other)}", port=port)
    assert f"wsgi.url_scheme={scheme} " in told.body


@pytest.mark.parametrize("version", OVER)
def test_a_proxied_server_hears_of_the_visitor_what_a_trusted_proxy_says(server, version):
    port, how = OVER[version]
    words = "HTTP_X_FORWARDED_FOR={0} REMOTE_ADDR=127.0.0.1 HTTP_X_REAL_IP={0} HTTP_X_FORWARDED_PROTO={1} "
    told = f"{how} {forwarded('198.51.100.7')}"
    said = get(server, "/proxied", "shop.example.com", f"{BALANCER} {told}", port)
    assert words.format("198.51.100.7", "https") in said.body
    # What anybody else says is ignored. The port for HTTP/2 is for proxies that have ended TLS.
    said = get(server, "/proxied", "shop.example.com", told, port)
    assert said.status == 301 if version == "1.1" else words.format("127.0.0.1", "https") in said.body


def test_to_https_leads_all_but_what_a_trusted_proxy_says(server):
    shop, path = "shop.example.com", "/.well-known/acme-challenge/token"
    for options in ("", forwarded("198.51.100.7"), BALANCER, f"{BALANCER} {forwarded('198.51.100.7', 'https, http')}"):
        assert get(server, "/x", shop, options).status == 301, options
    for options in ("", f"{BALANCER} {forwarded('198.51.100.7', 'http')}", f"{BALANCER} {forwarded('198.51.100.7')}"):
        assert "the answer to a challenge" in get(server, path, shop, options).body, options


def test_rules_and_limits_are_of_the_visitor_behind_a_trusted_proxy(server):
    # Of the host's loopback it is the proxy that connects, and the visitor whom the rule knows.
    for address, status in (("127.0.0.1", 403), ("198.51.100.7", 200)):
        assert get(server, "/internal", options=f"{BALANCER} {forwarded(address)}").status == status
    visits = (
        "for i in $(seq 120); do curl -sS -o /dev/null -w '%{{http_code}}\\n' -H 'Host: shop.example.com' "
        f"{BALANCER} -H 'X-Forwarded-Proto: https' -H \"X-Forwarded-For: 198.51.100.{{}}\" "
        "http://127.0.0.1/static/site.css & done; wait"
    )
    assert set(server.check_output(visits.format("$i")).split()) == {"200"}
    assert set(server.check_output(visits.format("7")).split()) == {"200", "429"}


def test_a_header_that_is_too_large_is_refused(server):
    for host, size, status in (("small", 900, 200), ("small", 1500, 400), ("www", 1500, 200), ("www", 9000, 400)):
        answer = get(server, options=f"-H 'Cookie: a={'x' * size}'", host=f"{host}.example.com")
        assert answer.status == status, (host, size)


def test_slow_visitors_are_few_and_not_waited_for(server):
    body = "POST / HTTP/1.1|Host: {}.example.com|Content-Length: 9||"
    header = "GET / HTTP/1.1|Host: www.example.com|"
    texts = [body.format("small")] * 3 + [body.format("www"), header]
    said = server.check_output(f"python3 -c %s {'%s ' * len(texts)}", SLOW_VISITORS, *texts).split()
    assert said == ["closed", "closed", "429", "waits", "closed"]
    assert get(server, host="small.example.com").status == 200


def test_access_rules(server):
    assert get(server, "/internal").status == 403
    assert get(server, host="a.files.example.com").status == 200
    # The host's own address is not among those that are allowed.
    outside = server.check_output("hostname -I").split()[0]
    assert get(server, host="a.files.example.com", address=outside).status == 403
    assert get(server, "/internal", address=outside).status == 200


def test_a_site_has_an_error_page_of_its_own(server):
    missing = get(server, "/no-such-file", host="a.files.example.com")
    assert missing.status == 404
    assert "gone fishing" in missing.body and "nginx" not in missing.body


def test_error_pages_are_nginxs_own_and_never_replace_the_applications(server):
    for options in ("", "--data-binary x"):
        down = get(server, "/down", options=options)
        assert down.status == 502
        assert "We will be right back" in down.body
        assert down.headers["content-type"] == "text/html; charset=utf-8"
    theirs = get(server, "/no-article")
    assert theirs.status == 404
    assert "the application says" in theirs.body
    assert "the application says" in get(server, "/.well-known/x").body
    assert get(server, "/.error/404.html").status == 404


def test_static_files_are_served_while_the_application_is_down(server):
    server.check_output("systemctl stop application")
    try:
        assert get(server).status == 502
        assert get(server, "/static/site.css").status == 200
    finally:
        server.check_output("systemctl start application")
    until(lambda: answers_at_all(server))


def test_a_request_that_times_out_is_not_sent_again(server):
    server.check_output("rm -f /tmp/calls")
    assert get(server, "/hangs", options="--data-binary x").status == 504
    assert server.check_output("grep -c 'POST /hangs' /tmp/calls") == "1"
    for options in ("", "--head"):  # what was only to be read may be asked for again
        late = get(server, "/hangs", options=options)
        assert late.status == 503 and ("We will be right back" in late.body or options)


def test_the_counters_of_nginx_are_told_to_the_host_alone(server):
    port = "http://127.0.0.1:8099"
    assert "Active connections" in server.check_output(f"curl -sf {port}/status")
    assert server.run(f"curl -s --max-time 2 http://{own_address(server)}:8099/status").rc == 7


def test_a_flipped_link_needs_no_reload(server):
    server.check_output("ln -s nobody.sock /run/foobar/new && mv -T /run/foobar/new /run/foobar/live.sock")
    assert get(server).status == 502
    server.check_output("ln -s blue.sock /run/foobar/new && mv -T /run/foobar/new /run/foobar/live.sock")
    assert serves(server)


# Over TLS

SECURE = {
    "strict-transport-security": "max-age=63072000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-permitted-cross-domain-policies": "none",
    "referrer-policy": "strict-origin-when-cross-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def https(server, path="/", host="shop.example.com", options="", address="127.0.0.1"):
    """Status, and every header line, of an answer over TLS from a name whose certificate is trusted."""
    out = server.check_output(
        f"curl -sS -i --http1.1 --max-time 10 --cacert /etc/ssl/shop/fullchain.pem --resolve {host}:443:{address}"
        f" {options} https://{host}{path}"
    )
    status, *lines = out.replace("\r\n", "\n").partition("\n\n")[0].splitlines()
    return int(status.split()[1]), [line.split(": ", 1) for line in lines]


@pytest.mark.parametrize(
    ("address", "leads_to"),
    [
        ("http://shop.example.com/a?b=%2F", "https://shop.example.com/a?b=%2F"),
        ("http://example.net/a", "https://shop.example.com/a"),
        ("https://www.example.net/a", "https://shop.example.com/a"),
    ],
)
def test_the_sites_own_name_is_reached_in_one_step(server, address, leads_to):
    host = address.split("/")[2]
    said = server.check_output(
        f"curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}' --cacert /etc/ssl/shop/fullchain.pem"
        f" --resolve {host}:80:127.0.0.1 --resolve {host}:443:127.0.0.1 '{address}'"
    )
    assert said == f"301 {leads_to}"


def test_a_challenge_is_answered_over_http(server):
    for host in ("shop.example.com", "www.example.net"):
        path = "/.well-known/acme-challenge/token"
        assert get(server, path, host=host).body == "the answer to a challenge"
        assert get(server, f"{path}-of-another", host=host).status == 404


def test_a_challenge_is_answered_by_whichever_web_server_is_asked(converge, servers, restored):
    path = "/.well-known/acme-challenge/of-one-host"
    converge(
        nginx_challenge_peers="{{ addresses.values() | difference([addresses[inventory_hostname]]) }}"
    ).must_succeed()
    for one, other in (servers, servers[::-1]):
        one.check_output(f"echo 'the answer of one' > /srv/challenges{path}")
        try:
            for server in (one, other):
                until(lambda server=server: get(server, path, host="shop.example.com").body == "the answer of one")
        finally:
            one.check_output(f"rm /srv/challenges{path}")
        # Where they ask each other, nobody else is answered.
        assert one.check_output(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8096{path}") == "403"


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/", "", 200),
        ("/static/site.css", "", 200),
        ("/static/missing", "", 404),
        ("/.git/config", "", 404),
        ("/no-article", "", 404),
        ("/fails", "", 500),
        ("/down", "", 502),
        ("/", "-X TRACE", 405),
        ("/", "-F 'file=@/usr/bin/perl' -H 'Content-Length: 99999999'", 413),
    ],
)
def test_every_answer_has_each_secure_header_once(server, path, options, status):
    found, headers = https(server, path, options=options)
    assert found == status
    names = [name.lower() for name, _value in headers]
    for name, value in SECURE.items():
        assert [text for key, text in headers if key.lower() == name] == [value]
    assert (names.count("content-security-policy"), names.count("x-shop"), names.count("permissions-policy")) == (
        1,
        1,
        0,
    )


def test_who_is_led_elsewhere_gets_them_too(server):
    found, headers = https(server, host="www.example.net")
    assert found == 301
    assert [value for name, value in headers if name == "Strict-Transport-Security"] == ["max-age=63072000"]


@pytest.mark.parametrize("path", ["/own", "/own/file"])
def test_what_the_application_says_goes_before(server, path):
    """With a file that it has nginx send, too, when nginx itself forgets most headers."""
    status, headers = https(server, path)
    assert status == 200
    assert ("Cache-Control", "public, max-age=60") in map(tuple, headers) or path == "/own"
    own = {"x-frame-options": "SAMEORIGIN", "strict-transport-security": "max-age=5"}
    own["content-security-policy"] = "default-src *"
    for name, value in {**SECURE, **own}.items():
        # A page that may load what other sites offer is not kept from it by a header of nginx.
        expected = [value] if name != "cross-origin-embedder-policy" else []
        assert [text for key, text in headers if key.lower() == name] == expected
    assert "strict-transport-security" not in get(server).headers  # not over HTTP, where it has no meaning


def handshake(server, options):
    return server.run(f"openssl s_client -connect 127.0.0.1:443 {options} </dev/null 2>&1").stdout


def test_only_names_of_sites_get_a_certificate(server):
    assert "BEGIN CERTIFICATE" in handshake(server, "-servername shop.example.com")
    for options in ("-servername other.example.org", "-noservername", "-servername www.example.com"):
        said = handshake(server, options)
        assert "BEGIN CERTIFICATE" not in said and "unrecognized name" in said


def test_a_certificate_of_ours_opens_no_other_page(server):
    refused = server.run(
        "curl -s --cacert /etc/ssl/shop/fullchain.pem -H 'Host: other.example.org' "
        "--resolve shop.example.com:443:127.0.0.1 https://shop.example.com/"
    )
    assert refused.rc in (CLOSED, 92), refused.stdout  # 92: the same over HTTP/2


def test_tls_is_that_of_mozillas_intermediate_profile(server):
    name = "-servername shop.example.com"
    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in handshake(
        server, f"{name} -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    assert "Cipher is TLS_" in handshake(server, f"{name} -tls1_3")
    old = handshake(server, f"{name} -tls1_1 -cipher ALL:@SECLEVEL=0")
    assert "BEGIN CERTIFICATE" not in old and "alert protocol version" in old
    weak = handshake(server, f"{name} -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256:AES128-SHA")
    assert "alert handshake failure" in weak
    if server.system_info.release == "13":
        assert "X25519MLKEM768" in handshake(server, f"{name} -groups X25519MLKEM768")


def test_browsers_get_http_2(server):
    said = server.check_output(
        "curl -sS -o /dev/null -w '%{http_version}' --cacert /etc/ssl/shop/fullchain.pem"
        " --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/"
    )
    assert said == "2"


def test_one_address_cannot_take_all(server):
    loop = (
        "for i in $(seq 120); do curl -sS -o /dev/null -w '%{http_code}\\n' --cacert /etc/ssl/shop/fullchain.pem"
        " --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/static/site.css & done; wait"
    )
    said = server.check_output(loop).split()
    assert set(said) == {"200", "429"} and said.count("200") >= 40
    until(lambda: https(server)[0] == 200)
    assert serves(server)


# Under maintenance


def own_address(server):
    """Who asks there comes from outside, to nginx: from an address that is not loopback."""
    return server.check_output("hostname -I").split()[0]


def switch(state, *arguments):
    return playbook(*arguments, name=MAINTENANCE, state=state, sites=OF_PLAYBOOKS)


@pytest.fixture
def closed(servers):
    switches = "/var/lib/webstack/maintenance/www /var/lib/webstack/maintenance/shop"
    for server in servers:
        server.check_output(f"touch {switches}")
    yield
    for server in servers:
        server.check_output(f"rm {switches}")


def test_under_maintenance_visitors_get_the_page_and_static_files(server, closed):
    outside = own_address(server)
    for path, options in (
        ("/", ""), ("/x", "--data-binary x"), ("/upload", "--data-binary @/bin/bash"), ("/backend/", ""), ("/old", ""),
        ("/raw/42.txt", ""), ("/down", ""), ("/robots.txt%0a", ""), ("/static", ""), ("/.well-known/x", ""),
    ):  # fmt: skip
        answer = get(server, path, options=options, address=outside)
        assert answer.status == 503, path
        assert "Closed for maintenance" in answer.body
        assert answer.headers["retry-after"] == "120"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for path in ("/static/site.css", "/robots.txt", "/download/index.html"):
        assert get(server, path, address=outside).status == 200
    missing = get(server, "/static/missing.css", address=outside)
    assert missing.status == 404 and "Page not found" in missing.body
    assert get(server, "/.error/maintenance.html", address=outside).status == 404
    # Another site, and the host itself.
    assert get(server, host="small.example.com", address=outside).status == 200
    assert serves(server)


def test_under_maintenance_each_header_is_there_once_over_http_1_and_2(server, closed):
    outside = own_address(server)
    status, headers = https(server, address=outside)
    assert status == 503
    for name, value in {**SECURE, "retry-after": "120"}.items():
        assert [text for key, text in headers if key.lower() == name] == [value]
    for options in ("", "-F 'file=@/bin/bash'"):
        said = server.check_output(
            f"curl -sS --http2 -o /dev/null -w '%{{http_version}} %{{http_code}} %header{{retry-after}}' {options}"
            f" --cacert /etc/ssl/shop/fullchain.pem --resolve shop.example.com:443:{outside} https://shop.example.com/"
        )
        assert said == "2 503 120"
    assert get(server, "/.well-known/acme-challenge/token", host="shop.example.com", address=outside).status == 200
    led = get(server, "/a", host="example.net", address=outside)
    assert (led.status, led.headers["location"]) == (301, "https://shop.example.com/a")


def test_under_maintenance_chosen_addresses_see_the_site(server, closed):
    server.check_output("ip address add 203.0.113.7/32 dev lo")
    try:
        guest = get(server, options="--interface 203.0.113.7", address=own_address(server))
        assert "REMOTE_ADDR=203.0.113.7" in guest.body
    finally:
        server.check_output("ip address delete 203.0.113.7/32 dev lo")


def test_another_503_is_not_taken_for_maintenance(server):
    busy = server.check_output(
        "curl -sS -i --cacert /etc/ssl/shop/fullchain.pem --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/busy"
    )
    assert " 503" in busy.splitlines()[0] and "We will be right back" in busy
    assert "retry-after" not in busy.lower()


def test_maintenance_is_switched_once_and_without_touching_nginx(servers):
    """Each time one host has been switched before, and stays as it is."""
    place = "/var/lib/webstack/maintenance/www"

    def state(server):
        workers = "cat /proc/$(cat /run/nginx.pid)/task/*/children"
        return server.check_output(f"systemctl show --property StateChangeTimestamp,MainPID nginx; {workers}")

    def statuses():
        return [get(server, address=own_address(server)).status for server in servers]

    before = [state(server) for server in servers]
    one, other = servers
    assert len(switch("on", "--check").must_succeed().changed) == len(servers)
    assert statuses() == [200, 200]
    assert len(switch("on", "--limit", other.backend.name).must_succeed().changed) == 1
    since = other.check_output(f"stat --format %y {place}")
    assert statuses() == [200, 503]
    (changed,) = switch("on").must_succeed().changed
    assert changed.startswith(one.backend.name) and statuses() == [503, 503]
    assert other.check_output(f"stat --format %y {place}") == since
    assert len(switch("off", "--check").must_succeed().changed) == len(servers)
    assert statuses() == [503, 503]
    other.check_output(f"rm {place}")
    (changed,) = switch("off").must_succeed().changed
    assert changed.startswith(one.backend.name) and statuses() == [200, 200]
    assert [state(server) for server in servers] == before


def test_maintenance_under_load_loses_no_request_and_no_connection(server):
    server.check_output("python3 -c %s %s", SWITCHED_UNDER_LOAD, own_address(server))


def test_maintenance_is_refused_where_it_would_do_nothing(servers):
    told = each({"state": "maybe"}, {"state": True})
    playbook(name=MAINTENANCE, sites=OF_PLAYBOOKS, **told).must_be_refused(
        'state must be on or off, and is "maybe"', 'state must be on or off, and is "True"'
    )
    playbook(name=MAINTENANCE, sites=OF_PLAYBOOKS).must_be_refused('state must be on or off, and is ""')
    folder = "/var/lib/webstack/maintenance"
    for server in servers:
        server.check_output(f"mv {folder} {folder}.aside")
    try:
        switch("on").must_be_refused(f"{folder}/README is missing, so nginx does not look there; run site.yml first")
    finally:
        for server in servers:
            server.check_output(f"mv {folder}.aside {folder}")
    assert all(get(server, address=own_address(server)).status == 200 for server in servers)


# The host


def test_only_declared_ports_listen(server):
    ports = {f"{address}:{port}" for address in ("0.0.0.0", "[::]") for port in (80, 443, 8082)}
    assert listening(server) == {*ports, "127.0.0.1:8099"}


def test_the_status_is_for_the_host_itself(server):
    assert "Active connections" in server.check_output("curl -s http://127.0.0.1:8099/status")
    address = server.check_output("hostname -I").split()[0]
    assert server.run(f"curl -s --max-time 2 http://{address}:8099/status").rc == 7
    assert "Active connections" not in get(server, "/status").body


def test_a_request_leaves_one_line_with_its_times(server):
    get(server, "/logged?x=%22", options="-A 'a\"b'")
    until(lambda: server.run("grep -q /logged /var/log/nginx/access.log").rc == 0)  # written once a second
    line = server.check_output("grep '/logged' /var/log/nginx/access.log | tail -n 1")
    assert re.search(
        r'host="www.example.com" request="GET /logged\?x=%22 HTTP/1.1" status=200 bytes=\d+ request_time=\d+\.\d+ '
        r'upstream="unix:/run/foobar/live.sock" upstream_time="\d+\.\d+" upstream_status="200" .*agent="a\\x22b"$',
        line,
    )


def test_logs_are_rotated_and_written_on(server):
    server.check_output("rm -f /var/log/nginx/*.log.?* && logrotate -f /etc/logrotate.d/nginx")
    assert server.file("/var/log/nginx/access.log.1").exists
    get(server, "/after-rotation")
    until(lambda: server.run("grep -q /after-rotation /var/log/nginx/access.log").rc == 0)
    log = server.file("/var/log/nginx/access.log")
    assert (log.user, log.group, log.mode) == ("www-data", "adm", 0o640)


def test_nginx_is_sandboxed(server):
    if server.system_info.release == "13":
        exposure = server.check_output("systemd-analyze security nginx | tail -n 1")
        assert float(re.search(r"[0-9]+\.[0-9]", exposure)[0]) <= 3.0
    limits = server.check_output("cat /proc/$(cat /run/nginx.pid)/limits")
    assert re.search(r"Max open files +16384 +16384", limits)
    assert server.service("nginx").is_enabled


def test_nginx_lets_the_application_go_on(server):
    workers = server.check_output("grep -l 'nginx: [w]orker' /proc/[0-9]*/cmdline | cut -d/ -f3").split()
    assert workers
    for worker in workers:
        assert "SCHED_BATCH" in server.check_output(f"chrt -p {worker}")


def test_killed_processes_come_back(server):
    server.check_output("kill -9 $(cat /run/nginx.pid)")
    until(lambda: answers_at_all(server))
    # A run before may have replaced them a moment ago.
    server.check_output(
        "for i in $(seq 50); do w=$(grep -l 'nginx: [w]orker' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3);"
        ' [ -z "$w" ] || break; sleep 0.1; done; kill -9 $w'
    )
    until(lambda: answers_at_all(server))
    assert server.service("nginx").is_running


@pytest.mark.thorough
def test_a_full_disk_of_the_logs_does_not_stop_the_site(server):
    server.check_output("mount -t tmpfs -o size=64k,mode=0755 tmpfs /var/log/nginx && systemctl restart nginx")
    try:
        assert server.run("head -c 1M /dev/zero > /var/log/nginx/filler").rc != 0
        assert all(serves(server) for _time in range(10))
        assert get(server, "/static/site.css").status == 200
    finally:
        server.check_output("umount --lazy /var/log/nginx && systemctl restart nginx")
    assert serves(server)


def test_ten_reloads_under_load_lose_nothing(server):
    server.check_output("python3 -c %s", RELOADS_UNDER_LOAD)


# Repairs


def certificate(server):
    return handshake(server, "-servername shop.example.com").partition("-----BEGIN")[2].partition("-----END")[0]


def edit_by_hand(server):
    extra = "server { listen 80; server_name extra.example.com; return 200 extra; }"
    server.check_output("echo %s > /etc/nginx/sites/extra.conf", extra)
    server.check_output("echo '# mine' >> /etc/nginx/sites/www.conf; chmod 600 /etc/nginx/mime.types")
    server.check_output("mkdir /etc/nginx/more; touch /etc/nginx/more/x; systemctl reload nginx")
    until(lambda: server.run("curl -sf -H 'Host: extra.example.com' http://127.0.0.1/").rc == 0)


def closes(server, host):
    return server.run(f"curl -s -H 'Host: {host}' http://127.0.0.1/").rc == CLOSED


def assert_as_declared(server):
    """A worker of before a reload answers for some milliseconds more, and its own file says the digest of now as well."""
    until(lambda: closes(server, "extra.example.com"))
    assert not server.file("/etc/nginx/more").exists
    assert serves(server)


def leave_a_reload_out(server):
    """As a killed run does: the files are as declared, and nginx still runs with others."""
    server.check_output(
        "cd /etc/nginx/sites && cp -p www.conf /tmp/www.conf && sed -i 's/example.com;/example.com old.example.com;/' "
        "www.conf && systemctl reload nginx"
    )
    until(lambda: get(server, host="old.example.com").status == 200)
    server.check_output("cat /tmp/www.conf > /etc/nginx/sites/www.conf")


def test_what_has_drifted_is_foreseen_repaired_and_taken_back_from_the_running_nginx(converge, servers):
    """At first hand edits on one host and a new certificate on the other; then a reload that was left out, and hand edits."""
    old, new = servers
    all_of_them = sorted(f"{server.backend.name}: {TASK}" for server in servers)
    before = certificate(new)
    edit_by_hand(old)
    new.check_output("new-certificate")
    assert sorted(converge("--check").must_succeed().changed) == all_of_them
    assert sorted(converge().must_succeed().changed) == all_of_them
    assert_as_declared(old)
    until(lambda: certificate(new) != before)
    assert https(new)[0] == 200

    leave_a_reload_out(old)
    edit_by_hand(new)
    assert sorted(converge().must_succeed().changed) == all_of_them
    until(lambda: closes(old, "old.example.com"))
    for server in servers:
        assert_as_declared(server)


# Refusals


def test_broken_directives_fail_with_nginxs_words_each_time(converge, servers):
    def broken(directives):
        locations = [*SITES[0]["locations"], {"path": "/z", "kind": "raw", "raw": directives}]
        return {"nginx_sites": sites(locations=locations)}

    for _run in range(2):
        run = converge(**each(broken("gzip on;\nno_such_directive on;"), broken("} location /x {"))).must_fail(
            'unknown directive "no_such_directive"', 'unexpected "}"'
        )
        assert run.changed == []
        place, words = "/etc/nginx/snippets/www/location-2.conf", "goes on serving"
        assert run.output.count(place) >= len(servers) and run.output.count(words) >= len(servers), run.output
    assert all(serves(server) for server in servers)


def test_bad_inputs_are_refused_while_the_site_goes_on_answering(converge, servers):
    """By the role's rules on one host, by its spec on the other: tests/unit/test_nginx_faults.py has all that it refuses."""
    rules = {
        "nginx_http_port": 65536,
        "nginx_status_port": 65536,
        "nginx_tls_profile": "modern",
        "nginx_http3": True,
        "nginx_sites": [
            *sites(server_names=["example.com", "x; location /x {}"], default=True),
            {"name": "b", "server_names": ["ok.example.com", "EXAMPLE.com"], "default": True, "root": "/srv/x"},
        ],
    }
    spec = {
        "nginx_http_port": "http",
        "nginx_status_port": 8099,
        "nginx_tls_profile": "old",
        "nginx_http3": False,
        "nginx_sites": sites(servernames=["x"]),
    }
    converge(**each(rules, spec)).must_be_refused(
        "nginx_http_port: 65536 is not a port",
        "nginx_status_port: 65536 is nginx_http_port too",
        "nginx_sites[0].server_names[1]: 'x; location /x {}'",
        "nginx_sites[4].server_names[1]: 'example.com' of site 'b'",
        "site 'www' (nginx_sites[0]) already",
        "site 'b' (nginx_sites[4]) and site 'www' (nginx_sites[0]) cannot both answer unknown names",
        "nginx_http3: the nginx of Debian 12 does not have it",
        "argument 'nginx_http_port' is of type str",
        "nginx_tls_profile must be one of: intermediate, modern",
        "nginx_sites.servernames. Supported parameters include: access, body_size",
    )
    assert all(serves(server) for server in servers)


@pytest.mark.thorough
def test_neither_what_was_repaired_or_refused_nor_maintenance_nor_debians_package_anew_leaves_anything_to_do(
    converge, servers, closed
):
    for server in servers:
        server.check_output("DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --reinstall nginx nginx-common 2>&1")
    assert converge().must_succeed().changed == []
    for server in servers:
        assert get(server, address=own_address(server)).status == 503
        assert serves(server)


# Other ports, other sites


@pytest.mark.thorough
def test_a_port_that_is_taken_fails_and_the_old_configuration_is_back(converge, servers):
    """What nginx has refused in its reload, the next run reloads: that of the next test."""
    files = "cat /etc/nginx/nginx.conf /etc/nginx/s*/*.conf /etc/nginx/status.conf"
    before = [server.check_output(files) for server in servers]
    told = each(
        {"nginx_http_port": 8000, "nginx_status_port": 8099}, {"nginx_http_port": 80, "nginx_status_port": 8000}
    )
    # Asked before the first change; and where that question is left out, nginx finds it out in its reload.
    run = converge(**told).must_be_refused("(python3, process", "backend.service)")
    run.must_say(*(f"{name}: port 8000/tcp is held by" for name in ("nginx_http_port", "nginx_status_port")))
    run = converge("--tags", "nginx_configure", **told).must_fail("bind() to", "Address already in use")
    run.must_say("0.0.0.0:8000 failed", "127.0.0.1:8000 failed")
    assert run.output.count("The previous configuration is back") >= len(servers), run.output
    assert [server.check_output(files) for server in servers] == before
    assert all(serves(server) for server in servers)


def test_another_declaration_replaces_the_one_before(converge, servers, restored):
    """Sites that are no longer declared disappear, a default site answers all; the modern profile and HTTP/3; other ports."""
    only = {"name": "only", "server_names": ["only.example.com"], "default": True, "root": "/srv/foobar/files"}
    shop = next(site for site in SITES if site["name"] == "shop")
    shop = {key: shop[key] for key in ("name", "server_names", "certificate", "certificate_key")}
    converge(
        nginx_sites=[only, {**shop, "root": "/srv/foobar/files"}],
        nginx_tls_profile="modern", nginx_http3="{{ 'debian13' in inventory_hostname }}",
    ).must_succeed()  # fmt: skip
    for server in servers:
        for host in ("only.example.com", "www.example.com", "127.0.0.1"):
            assert get(server, host=host).body == "the file says hello"
        assert server.check_output("ls /etc/nginx/sites").split() == ["only.conf", "shop.conf"]
        assert server.check_output("ls /etc/nginx/snippets") == ""
        assert "Cipher is TLS_" in handshake(server, "-servername shop.example.com -tls1_3")
        refused = handshake(server, "-servername shop.example.com -tls1_2")
        assert "BEGIN CERTIFICATE" not in refused and "alert protocol version" in refused
    new = servers[1]
    assert new.check_output("ss -Hlnup | grep -c nginx") != "0"
    said = new.check_output(
        "curl -sS -o /dev/null -w '%{http_version}' --http3-only --cacert /etc/ssl/shop/fullchain.pem"
        " --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/"
    )
    assert said == "3"
    assert dict(https(new)[1])["Alt-Svc"] == 'h3=":443"; ma=86400'

    kept = {"name": "kept", "server_names": ["kept.example.com"], "body_size": 0, "extra": "return 204;"}
    converge(
        nginx_sites=[only, kept], nginx_http_port=8081, nginx_http2_port=0, nginx_ipv6=False, nginx_open_files=20000
    ).must_succeed()
    for server in servers:
        assert get(server, host="kept.example.com", port=8081).status == 204
        assert server.file("/etc/nginx/sites/kept.conf").contains("client_max_body_size 0;")
        assert listening(server) == {"0.0.0.0:8081", "127.0.0.1:8099"}
        assert "20000" in server.check_output("grep 'Max open files' /proc/$(cat /run/nginx.pid)/limits")
