"""site.yml: the whole way, from a visitor's request to a row in the database and back."""

import concurrent.futures
import os
import re
import secrets
import shlex
import subprocess
import time
import uuid
from pathlib import Path

import pytest
import requests
from scenario import PROJECT, SCRATCH, names, playbook, until, watched

CANARY = "C4nary"  # a part of each secret in molecule.yml
AUTHORITY = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/authority/authority.pem"
WALK = str(PROJECT / "playbooks/verify.yml")


def domain(server):
    return "www.foobar.com" if "debian13" in server.backend.name else "old.foobar.com"


def secured(server):
    """Whether the host's site has a certificate (molecule.yml)."""
    return "debian13" in server.backend.name


class ByName(requests.adapters.HTTPAdapter):
    """Reaches a host by its address and expects the certificate of a name there."""

    def __init__(self, name):
        self.name = name
        super().__init__()

    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, server_hostname=self.name, assert_hostname=self.name, **options)


def visitor(server):
    """A session of somebody who typed the site's name, and trusts its authority."""
    session = requests.Session()
    session.headers["Host"] = domain(server)
    session.trust_env, session.verify = False, AUTHORITY
    session.mount("https://", ByName(domain(server)))
    return session, f"http{'s' if secured(server) else ''}://" + server.check_output("hostname -I").split()[0]


def get(server, path="/", **options):
    session, url = visitor(server)
    return session.get(url + path, timeout=10, **options)


def publish(server, title):
    """Adds an article as a browser would; returns the page that it leads to."""
    session, url = visitor(server)
    token = re.search(r'name="csrf" value="([^"]+)"', session.get(url, timeout=10).text)[1]
    cookies = {cookie.name: cookie.value for cookie in session.cookies}
    form = {"csrf": token, "author": "Zoë 🙂", "title": title, "body": "Text, <b>not</b> markup."}
    answer = session.post(f"{url}/articles", data=form, cookies=cookies, timeout=10, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    return session.get(url + answer.headers["Location"], timeout=10)


def sql(server, statement):
    return server.check_output(
        f"mariadb --default-character-set=utf8mb4 --batch --skip-column-names foobar --execute {shlex.quote(statement)}"
    )


def test_what_a_visitor_writes_is_in_the_database_and_on_the_page(server):
    title = f"Grüße, 世界 ✓ {uuid.uuid4()}"
    page = publish(server, title)
    assert title in page.text and "&lt;b&gt;not&lt;/b&gt;" in page.text
    assert title in get(server).text
    assert sql(server, f"select count(*) from articles where title = '{title}'") == "1"


def test_only_the_web_port_is_open(server):
    listening = server.check_output("ss --listening --numeric --no-header --tcp --udp")
    open_to_others = {
        line.split()[4] for line in listening.splitlines() if "127.0.0.1" not in line and "[::1]" not in line
    }
    ports = {"80", "443", "53"} if secured(server) else {"80"}
    assert {address.rsplit(":", 1)[1] for address in open_to_others} == ports


def test_other_names_lead_to_the_site_in_one_step(server):
    address = server.check_output("hostname -I").split()[0]
    own, other = domain(server), "foobar.com" if secured(server) else "older.foobar.com"
    scheme = "https" if secured(server) else "http"
    for name in (own, other) if secured(server) else (other,):
        answer = requests.get(f"http://{address}/a?b", headers={"Host": name}, timeout=5, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (301, f"{scheme}://{own}/a?b")


def test_the_names_of_the_site_are_in_the_zone(servers):
    old, new = servers
    address = new.check_output("hostname -I").split()[0]
    asked = "import dns.resolver, sys; r = dns.resolver.Resolver(configure=False); r.nameservers = [sys.argv[1]]; print(*r.resolve(sys.argv[2]))"
    for name, leads in (("www", address), ("", address), ("old", old.check_output("hostname -I").split()[0])):
        found = new.check_output("python3 -c %s %s %s", asked, address, f"{name}.foobar.com".lstrip("."))
        assert found == leads


def test_what_was_not_declared_cannot_be_reached(server):
    server.check_output("systemd-run --quiet --unit stranger python3 -m http.server 8123")
    address = server.check_output("hostname -I").split()[0]
    try:
        until(lambda: server.run("ss -Hltn | grep -q :8123").rc == 0)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{address}:8123/", timeout=3)
    finally:
        server.check_output("systemctl stop stranger")


def test_an_unknown_name_gets_no_page(server):
    session, url = visitor(server)
    session.headers["Host"] = "elsewhere.example.com"
    with pytest.raises(requests.ConnectionError):
        session.get(url, timeout=5)


def test_the_nine_steps_are_walked_in_order(servers):
    run = playbook(name=WALK).must_succeed()
    assert run.changed == []
    steps = re.findall(
        r"(\d)\. (the name|the address|nginx takes it|the site is known|static files|the socket|uWSGI|the code|the page)",
        run.output,
    )
    assert [number for number, _title in steps] == list("123456789") * len(servers)


@pytest.mark.parametrize(
    ("breaks", "mends", "step", "look"),
    [
        ("systemctl stop knot", "systemctl start knot", "1. the name", "systemctl status knot"),
        ("systemctl stop nginx", "systemctl start nginx", "2. the address", "systemctl status nginx"),
        ("mv /srv/foobar/static /srv/foobar/away", "mv /srv/foobar/away /srv/foobar/static", "5. static files", "app.static and nginx.static of the site"),
        ("systemctl stop foobar@*", "systemctl start foobar@$(basename $(readlink /var/lib/foobar/live.sock) .sock)",
         "6. the socket", "webstack-release foobar status"),
        ("mv /etc/foobar/release.json /root/", "mv /root/release.json /etc/foobar/", "7. uWSGI", "/etc/foobar/release.json"),
        ("systemctl stop mariadb", "systemctl start mariadb", "8. the code and its database", "journalctl -u 'foobar@*'"),
        ("cp -p /etc/nginx/sites/foobar.conf /root/; sed -i 's#location / {#location = / { return 418; } &#' /etc/nginx/sites/foobar.conf; "
         "systemctl reload nginx",
         "mv /root/foobar.conf /etc/nginx/sites/; systemctl reload nginx", "9. the page: 418", "/var/log/nginx/access.log"),
    ],
)  # fmt: skip
def test_a_broken_step_is_named_with_where_to_look(servers, breaks, mends, step, look):
    server = servers[-1]
    server.check_output(breaks)
    try:
        run = playbook("--limit", server.backend.name, name=WALK)
    finally:
        server.check_output(mends)
    run.must_fail(step, "broken. Look at:", look)
    until(lambda: get(server).status_code == 200)


def test_under_maintenance_everybody_is_told_so(servers):
    maintenance, status = (str(PROJECT / f"playbooks/{name}.yml") for name in ("maintenance", "status"))
    try:
        playbook(name=maintenance, state="on").must_succeed()
        for server in servers:
            page = get(server)
            assert (page.status_code, page.headers["Retry-After"]) == (503, "300")
        walked = playbook(name=WALK).must_succeed().must_say("under maintenance since 20")
        assert walked.output.count("9. the page: 503") == len(servers)
        told = playbook(name=status).must_succeed()
        assert told.output.count("maintenance: on since 20") == len(servers)
    finally:
        playbook(name=maintenance, state="off").must_succeed()
    assert [get(server).status_code for server in servers] == [200, 200]


def test_a_killed_database_comes_back_and_no_row_is_lost(server):
    for number in range(5):
        publish(server, f"before the kill {number}")
    server.check_output("systemctl kill --signal=KILL mariadb")
    until(lambda: get(server).status_code == 200)
    assert sql(server, "select count(distinct title) from articles where title like 'before the kill%'") == "5"


def test_without_a_database_static_files_are_served_and_pages_say_503(server):
    server.check_output("systemctl stop mariadb")
    try:
        started = time.monotonic()
        answer = get(server)
        assert answer.status_code == 503 and "Traceback" not in answer.text
        assert time.monotonic() - started < 10
        for _time in range(20):
            assert get(server, "/static/site.css").status_code == 200
    finally:
        server.check_output("systemctl start mariadb")
    until(lambda: get(server).status_code == 200)


def test_a_database_that_hangs_holds_no_visitor_for_ever_and_static_files_not_at_all(servers):
    """More visitors than workers wait for it, of whom each gives up after the 10 seconds of `get`."""
    for server in servers:
        server.check_output("systemctl kill --signal=STOP mariadb")
    try:
        with concurrent.futures.ThreadPoolExecutor(32) as visitors:
            waiting = {server: [visitors.submit(get, server) for _visitor in range(16)] for server in servers}
            for _time in range(20):
                assert {get(server, "/static/site.css").status_code for server in servers} == {200}
            met = [[answer.result() for answer in answers] for answers in waiting.values()]
    finally:
        for server in servers:
            server.check_output("systemctl kill --signal=CONT mariadb")
    for pages in met:
        assert {page.status_code for page in pages} == {503}
        assert [page for page in pages if "The site cannot answer just now." in page.text], "nginx gave up on none"
    for server in servers:
        until(lambda server=server: get(server).status_code == 200)


def test_browsers_keep_to_https_for_the_sites_name_and_not_for_localhost(servers):
    (server,) = filter(secured, servers)
    session, url = visitor(server)
    for host, strict in (("www.foobar.com", "max-age=63072000"), ("localhost", None)):
        answer = session.get(url, headers={"Host": host}, timeout=10)
        assert (answer.status_code, answer.headers.get("Strict-Transport-Security")) == (200, strict)


@pytest.mark.parametrize("unit", ["nginx", "foobar@*"])
def test_killed_daemons_come_back(server, unit):
    server.check_output(f"systemctl kill --kill-whom=main --signal=KILL '{unit}'")
    time.sleep(0.5)
    until(lambda: get(server).status_code == 200)


def test_bad_inputs_of_any_role_are_refused_before_anything_changes(converge, servers):
    converge(version="--help", aliases=["http://foo_bar"], mysql_vendor="postgres").must_be_refused(
        "sites.foobar.version: '--help'", "sites.foobar.aliases[0]", "mysql_vendor"
    )
    converge(password="hunter2", repository="", nginx_http_prot=80).must_be_refused(
        "a secret has at least 16 characters",
        "sites.foobar.repository: not set, or still a placeholder",
        "nginx_http_prot: unknown variable; did you mean nginx_http_port?",
    )
    for server in servers:
        assert get(server).status_code == 200


def test_the_placeholders_of_the_production_template_are_refused_at_once():
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "inventories/production", "site.yml"],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "has the address 8.8.8.8, which stands for yours" in said, said
    assert "changed=0" in said and "unreachable=0" in said


LOSE_NGINX_AND_THE_CODE = (
    "systemctl stop nginx 'foobar@*'; apt-get -qq purge -y nginx nginx-common >/dev/null 2>&1;"
    " rm -rf /etc/nginx /srv/foobar/releases /var/lib/foobar/live.sock /etc/sysctl.d/60-webstack.conf"
)


@pytest.mark.thorough
def test_an_unprivileged_user_with_sudo_over_ssh_will_do(servers, tmp_path):
    server = servers[-1]
    name = server.backend.name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    public = (tmp_path / "key.pub").read_text().strip()
    server.check_output(
        "apt-get -qq install -y --no-install-recommends openssh-server sudo >/dev/null 2>&1;"
        " id admin >/dev/null 2>&1 || useradd --create-home --shell /bin/bash admin; echo admin:typed | chpasswd;"
        " echo 'admin ALL=(ALL) ALL' > /etc/sudoers.d/admin; install -d -o admin -m 700 /home/admin/.ssh;"
        f" echo '{public}' > /home/admin/.ssh/authorized_keys; chown admin /home/admin/.ssh/authorized_keys;"
        " systemctl start ssh"
    )
    address = server.check_output("hostname -I").split()[0]
    variables = {
        "ansible_connection": "ssh", "ansible_host": address, "ansible_user": "admin",
        "ansible_become": True, "ansible_become_password": "typed",
        "ansible_ssh_private_key_file": str(tmp_path / "key"),
        # A shell on the host complains of the locale, in front of whatever it was to say.
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={tmp_path}/known_hosts -o StrictHostKeyChecking=accept-new"
        " -o SetEnv=LC_ALL=de_DE.UTF-8",
    }  # fmt: skip
    inventory = tmp_path / "ssh.yml"
    lines = "".join(f"          {key}: {value!r}\n" for key, value in variables.items())
    inventory.write_text(f"all:\n  hosts:\n    {name}:\n" + lines.replace("          ", "      "))
    playbook("--limit", name).must_succeed()  # the host has an ssh server now
    server.check_output(LOSE_NGINX_AND_THE_CODE)
    try:
        run = playbook("--limit", name, "--inventory", str(inventory)).must_succeed()
        assert any("Packages" in task or "nginx : Install" in task for task in run.changed), run.changed
        assert get(server).status_code == 200
        assert playbook("--limit", name, "--inventory", str(inventory)).must_succeed().changed == []
    finally:
        server.check_output("systemctl stop ssh")


@pytest.mark.thorough
def test_a_killed_run_is_made_up_for_by_the_next_and_after_a_reboot_nothing_has_to_change(converge, servers):
    """The configuration and the release are taken away, and the runs that bring them back are killed."""
    for server in servers:
        publish(server, "before the reboot")
    for seconds in (6, 12):
        for server in servers:
            server.check_output(LOSE_NGINX_AND_THE_CODE)
        with pytest.raises(subprocess.TimeoutExpired):
            playbook(kill_after=seconds)
    converge().must_succeed()
    assert [get(server).status_code for server in servers] == [200, 200]

    addresses = [server.check_output("hostname -I") for server in servers]
    for name in names():
        subprocess.run(["docker", "restart", name], check=True, capture_output=True)
    for server in servers:
        until(lambda server=server: "before the reboot" in get(server).text, seconds=60)
    if [server.check_output("hostname -I") for server in servers] != addresses:
        # The engine gives a container another address where somebody else took the one before.
        changed = converge("--tags", "dns").must_succeed().changed
        assert changed == [f"{names()[-1]}: dns : Serve | Knot DNS, its zone and its unit"]
    assert converge().must_succeed().changed == []


# Secrets, in whatever all these runs have left


SEARCHES = {
    "the journal": "journalctl --no-pager --output export | grep --text --fixed-strings -- {}",
    "the list of processes": "ps axww -o args | grep --fixed-strings -- {} | grep --invert-match grep",
    "what everybody may read": "find /etc /home /opt /root /run /srv /tmp /usr/local /var -type f -perm /004 -size -4096k"
    " -exec grep --fixed-strings --files-with-matches -- {} {{}} +",
    "temporary files": "grep --recursive --fixed-strings --files-with-matches -- {} /tmp /var/tmp /root/.ansible /home/*/.ansible",
}
CONTROLLER = {
    "temporary files of the controller": ["grep", "--recursive", "--fixed-strings", "--files-with-matches", "--", None, SCRATCH.name],
    # What git has, or would take; files that it ignores may hold the secrets of the demo.
    "the git tree": ["git", "-C", PROJECT, "grep", "--untracked", "--fixed-strings", "--files-with-matches", "-e", None],
}  # fmt: skip


def found_on(server, text):
    said = {place: server.run(command.format(shlex.quote(text))).stdout for place, command in SEARCHES.items()}
    return {place: where for place, where in said.items() if where}


def found_here(text):
    said = {
        place: subprocess.run(
            [text if part is None else part for part in argv], capture_output=True, text=True, check=False
        ).stdout
        for place, argv in CONTROLLER.items()
    }
    return {place: where for place, where in said.items() if where}


def test_secrets_show_up_nowhere(converge, servers):
    """Not after a run that fails on each host in a task that has secrets in hand, nor after the one that mends it."""
    fresh = secrets.token_hex(12)
    for server in servers:
        server.check_output("mv /etc/foobar/secrets /root/secrets && mkdir /etc/foobar/secrets")
        # In the way of a database, of which the server learns only when it makes it.
        server.check_output("case $(hostname) in *debian12*) touch /var/lib/mysql/blocked;; esac")
    blocked = "{{ [{'name': 'foobar'}] + ([{'name': 'blocked'}] if 'debian12' in inventory_hostname else []) }}"
    failed = converge(
        "-vvv", "--diff",
        password=f"C4nary'\" \\;#%$&<> :@/ {fresh}", secret_key=f"-=!~@*C4nary {fresh}",
        mysql_databases=blocked,
    )  # fmt: skip
    for server in servers:
        server.check_output("rmdir /etc/foobar/secrets && mv /root/secrets /etc/foobar/secrets")
        server.check_output("rm -f /var/lib/mysql/blocked")
    failed.must_fail("the server says", "/etc/foobar/secrets is a folder, a file is wanted there")
    tasks = [said.partition("]")[0] for said in failed.output.split("TASK [") if "fatal: [" in said]
    assert tasks == [
        "mysql : Accounts | Databases, users and what they may do",
        "app_server : Configure | Settings of the application",
    ]
    with watched(servers, CANARY, "cmdline") as met:
        mended = converge("-vvv", "--diff").must_succeed().must_say("user foobar@localhost: new password login")
    assert met == []
    for run in (failed, mended):
        assert CANARY not in run.output and fresh not in run.output
    assert [found_on(server, CANARY) for server in servers] == [{}] * len(servers)
    assert [found_on(server, fresh) for server in servers] == [{}] * len(servers)
    assert found_here(fresh) == {}
    assert list(found_here(CANARY)) == ["the git tree"]  # molecule.yml
    assert all(get(server).status_code == 200 for server in servers)


def test_the_search_for_secrets_would_find_one(server):
    planted = "planted-" + secrets.token_hex(12)
    here = [Path(SCRATCH.name, "leak"), PROJECT / "leak"]
    server.check_output(
        f"systemd-run --quiet --unit leak sh -c 'sleep 300; : {planted}'; install -D -m 600 /dev/null /root/.ansible/tmp/leak;"
        f" install -m 644 /dev/null /srv/leak; echo {planted} | tee /srv/leak /root/.ansible/tmp/leak"
    )
    for path in here:
        path.write_text(planted)
    try:
        assert list(found_on(server, planted)) == list(SEARCHES)
        assert list(found_here(planted)) == list(CONTROLLER)
        with watched([server], planted, "cmdline") as met:
            server.check_output("sleep 1")
        assert met != []
    finally:
        server.check_output("systemctl stop leak; rm /srv/leak /root/.ansible/tmp/leak")
        for path in here:
            path.unlink()
