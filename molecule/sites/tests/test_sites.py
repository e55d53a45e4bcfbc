"""Several sites on one host: each on its own, and none of them feels what is done to another."""

import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from scenario import PROJECT, each, playbook, until

VISITORS = PROJECT / "molecule/deploy/files/visitors.py"
RATE = 20  # requests a second, on each host
PAGES = {
    "shop": "shop</title>",  # of either release
    "blog": "<title>the blog</title>",
    "gallery": "<title>PHP</title> release 2",
    "docs": "<title>the documentation</title>",
    "chat": "<title>the chat</title> http",
}

WIKI = {
    "domain": "wiki.{{ zone }}", "certificate": "none", "repository": "{{ five.blog.repository }}", "push": True,
    "app": "{{ recipes.blog.app | combine(five.blog.app) }}",
    "database": {"password": "the database password of the wiki"},
}  # fmt: skip
GONE = {"state": "absent"}
GONE_WITH_ITS_DATABASE = {**GONE, "database": {}}


def zone(server):
    return "example" if "debian13" in server.backend.name else "test"


def get(server, site, path="/"):
    """The page of a site, as the host itself asks for it."""
    name, scheme, port = f"{site}.{zone(server)}", *(("https", 443) if site == "blog" else ("http", 80))
    return server.run(f"curl -skL --max-time 20 --connect-to ::127.0.0.1:{port} {scheme}://{name}{path}").stdout


def address(server):
    return server.check_output("hostname -I").split()[0]


def status(server, app):
    return json.loads(server.check_output(f"webstack-release {app} status --json"))


def run(name, *arguments, **variables):
    return playbook(*arguments, name=str(PROJECT / f"playbooks/{name}.yml"), **variables)


@contextlib.contextmanager
def visitors(servers):
    """Load on the shop of each host as long as the block lasts; none of it may fail."""
    running = [
        subprocess.Popen(
            [sys.executable, str(VISITORS), address(server), str(RATE), f"shop.{zone(server)}", "/health/", "reloads"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for server in servers
    ]  # fmt: skip
    try:
        yield
    finally:
        met = [SimpleNamespace(**json.loads(process.communicate(timeout=60)[0])) for process in running]
    assert [result.failed for result in met] == [[] for _server in servers]
    assert all(result.asked > RATE for result in met)


def all_answer(servers, *without):
    for server in servers:
        for site, words in PAGES.items():
            if site not in without:
                assert words in get(server, site), f"{site} of {server.backend.name}"


def test_all_five_sites_answer(servers):
    all_answer(servers)
    for server in servers:
        moved = server.check_output(
            f"curl -sk -o /dev/null -w '%{{redirect_url}}' --connect-to ::127.0.0.1:443 https://www.blog.{zone(server)}/a"
        )
        assert moved == f"https://blog.{zone(server)}/a"


def test_a_service_behind_nginx_speaks_websocket(server):
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET / HTTP/1.1\r\nHost: chat.{zone(server)}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    with socket.create_connection((address(server), 80), 10) as connection:
        connection.sendall(head.encode())
        answer = connection.makefile("rb")
        assert b" 101 " in answer.readline()
        while answer.readline().strip():
            pass
        for text in (b"hello", b"again"):
            mask = os.urandom(4)
            connection.sendall(
                bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
            )
            assert answer.read(2 + len(text)) == bytes([0x81, len(text)]) + text


def asked(server, options, path, site="shop"):
    """Status, headers and body of what a visitor asks, who keeps cookies."""
    out = server.check_output(
        f"curl -s -i --max-time 20 -b /tmp/cookies -c /tmp/cookies --connect-to ::127.0.0.1:80 {options} 'http://{site}.{zone(server)}{path}'"
    )
    head, _blank, body = out.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def form(server, options, path, site="shop"):
    """Sends a form of Django's, with the token that it has shown."""
    (token,) = re.findall('name="csrfmiddlewaretoken" value="(.*?)"', asked(server, "", path, site)[2])
    return asked(server, f"-H Expect: -F csrfmiddlewaretoken={token} {options}", path, site)


def test_django_has_a_login_static_files_and_a_job_and_keeps_uploads_over_a_deploy(servers):
    for server in servers:
        server.check_output(
            "webstack-release shop run -- env DJANGO_SUPERUSER_PASSWORD=of-ann "
            "python manage.py createsuperuser --noinput --username ann --email ann@example.com"
        )
        status_code, headers, _body = asked(server, "", "/")
        assert (status_code, headers["location"]) == (302, "/login/?next=/")
        (css,) = re.findall('href="(/static/shop/site.*?css)"', asked(server, "", "/login/")[2])
        status_code, headers, body = asked(server, "", css)
        assert (status_code, body, headers["content-type"]) == (
            200,
            "body { color: black }",
            "text/css; charset=utf-8",
        )
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["x-content-type-options"] == "nosniff"
        assert form(server, "-F username=ann -F password=of-ann", "/login/")[0] == 302
        server.check_output("head -c 2000000 /dev/zero > /tmp/picture.png")
        assert form(server, "-F file=@/tmp/picture.png", "/")[0] == 302
    run("deploy", site="shop", ref="next").must_succeed()
    for server in servers:
        page = asked(server, "", "/")[2]
        assert "<title>the next shop</title>" in page and 'href="/media/picture.png"' in page
        status_code, headers, _body = asked(server, "-o /dev/null -D -", "/media/picture.png")
        assert (status_code, headers["content-length"], headers["content-type"]) == (200, "2000000", "image/png")
        assert server.check_output("systemctl is-active shop-job-mails.timer") == "active"
        server.check_output("systemctl start shop-job-mails.service")
        assert "mails about 1 uploads" in server.check_output("journalctl -q -u shop-job-mails.service")


def test_php_runs_each_script_by_its_path_and_shows_the_source_of_none(server):
    root = f"/srv/gallery/releases/{status(server, 'gallery')['release']}/public"
    for path, script, more, query in (
        ("/", "/index.php", "", ""),
        ("/about.php?a=1", "/about.php", "", "a=1"),
        ("/about.php/team/%C3%A9", "/about.php", "/team/é", ""),
        ("/admin/", "/admin/index.php", "", ""),
        ("/admin/index.php", "/admin/index.php", "", ""),
        ("/2026/hello?x=1&y", "/index.php", "", "x=1&y"),
        ("/index.php/2026/hello", "/index.php", "/2026/hello", ""),
    ):
        told = (
            f" SCRIPT_NAME={script} PATH_INFO={more} PHP_SELF={script}{more} DOCUMENT_ROOT={root} QUERY_STRING={query}"
        )
        assert asked(server, "", path, "gallery")[2].endswith(told), path
    assert asked(server, "", "/admin", "gallery")[1]["location"].endswith("/admin/")
    assert asked(server, "", "/assets/site.css", "gallery")[2] == "body { color: black }"
    for name, text in (("picture.txt", "a picture"), ("evil.php", "<?php echo 'I am run';"), ("evil.PHP", "<?php ?>")):
        server.check_output(f"echo {text!r} > /srv/gallery/shared/public/uploads/{name}")
    assert asked(server, "", "/uploads/picture.txt", "gallery")[2] == "a picture"
    hidden = (
        "/uploads/evil.php",
        "/uploads/evil.PHP",
        "/uploads/evil.php/x",
        "/assets/old.inc",
        "/notes.txt",
        "/assets/../notes.txt",
    )
    for path in hidden:
        status_code, _headers, body = asked(server, "--path-as-is", path, "gallery")
        assert status_code == 403 and "The source" not in body and "I am run" not in body, (path, body)
    for path in (
        "/../told.php",
        "/..%2ftold.php",
        "/assets../about.php",
        "/about.php%00.css",
        "/uploads/picture.txt/x.php",
    ):
        body = asked(server, "--path-as-is", path, "gallery")[2]
        assert "The source" not in body and "<?php" not in body, path


def inside(server, app, code):
    """What a line of Python says that runs as an application, in its sandbox."""
    return server.run(f'webstack-release {app} run -- python3 -c "{code}"')


TRY = "import os, socket; {}"


@pytest.mark.parametrize(
    "path", ["/etc/shop/secrets", "/etc/shop/environment", "/srv/shop/current/shop/wsgi.py", "/var/lib/shop/history", "/srv/shop/shared"]
)  # fmt: skip
def test_an_application_cannot_read_what_is_anothers(server, path):
    assert server.run(f"ls -d {path}").rc == 0
    said = inside(
        server, "blog", f"import os; print(os.listdir('{path}') if os.path.isdir('{path}') else open('{path}').read())"
    )
    assert said.rc != 0 and ("Permission" in said.stderr or "No such file" in said.stderr), said.stdout + said.stderr


def test_an_application_cannot_talk_to_anothers_socket_nor_read_its_environment(server):
    said = inside(server, "blog", "import socket; socket.socket(socket.AF_UNIX).connect('/run/shop/live.sock')")
    assert said.rc != 0 and ("Permission" in said.stderr or "No such file" in said.stderr), said.stderr
    pid = server.check_output(f"systemctl show --property=MainPID --value shop@{status(server, 'shop')['slot']}")
    said = inside(server, "blog", f"print(open('/proc/{pid}/environ').read())")
    assert said.rc != 0 and "SECRET_KEY" not in said.stdout


def test_an_application_has_no_way_into_anothers_database(server):
    own = "MYSQL_PWD='the database password of the blog' mariadb --user=blog --batch --skip-column-names"
    assert server.check_output(f"{own} --execute 'show databases'").split() == ["blog", "information_schema"]
    assert server.run(f"{own} shop --execute 'select 1'").rc != 0
    assert "the database password of the shop" not in inside(server, "blog", "import os; print(os.environ)").stdout


def test_each_application_has_limits_and_a_log_of_its_own(server):
    for app in ("shop", "blog", "gallery"):
        unit = f"{app}@{status(server, app)['slot']}"
        said = server.check_output(f"systemctl show --property=User,MemoryMax,TasksMax {unit}")
        assert f"User={app}" in said
        assert server.check_output(f"journalctl -q -u {unit} -n 1")


def test_of_several_sites_one_has_to_be_named(servers):
    """tests/unit/test_sites.py has what is refused; here each playbook asks."""
    for name, variables in (("deploy", {"ref": "next"}), ("rollback", {}), ("rotate", {})):
        run(name, **variables).must_be_refused("say which, as make … SITE=")
    run("maintenance", state="on", **each({"site": ""}, {"site": "dogs"})).must_be_refused(
        "say which, as make … SITE=", "did you mean docs?"
    )
    all_answer(servers)


def lines_of_all(said, site, words):
    return re.findall(rf"(?m)^ *{site} .*{words}", said)


ON_THE_WEB = (("shop", "off"), ("blog", "until 20"), ("docs", "no application"), ("chat", "HTTP alone"))


def test_status_and_verify_tell_of_each_site():
    """Of one on the first host, of all on the other."""
    said = run("status", **each({"site": "gallery"}, {"site": ""})).must_succeed()
    said.must_say("gallery: release", "verified", "certificate: none, HTTP alone")
    for site, words in ON_THE_WEB:
        assert len(lines_of_all(said.output, site, words)) == 1, said.output
    said = run("verify", **each({"site": "blog"}, {"site": ""})).must_succeed()
    assert said.output.count("9. the page: 200") == 1 + 5


def test_a_site_that_needs_a_person_fails_the_status_of_all_and_the_others_are_told(servers):
    slot = f"gallery@{status(servers[0], 'gallery')['slot']}"
    servers[0].check_output(f"systemctl stop {slot}")
    try:
        said = run("status").must_fail("← see below", "gallery: ")
    finally:
        servers[0].check_output(f"systemctl start {slot}")
    for site, words in ON_THE_WEB:
        assert len(lines_of_all(said.output, site, words)) == len(servers), said.output
    until(lambda: PAGES["gallery"] in get(servers[0], "gallery"))


def test_one_site_is_closed_and_the_others_are_not(servers):
    """That `off` opens it is shown by scenario nginx."""
    run("maintenance", site="blog", state="on").must_succeed()
    all_answer(servers, "blog")
    for server in servers:  # the host itself is a guest, who sees the site
        argv = [
            "curl",
            "-sk",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--connect-to",
            f"::{address(server)}:443",
            f"https://blog.{zone(server)}/",
        ]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "503"
        server.check_output("rm /var/lib/webstack/maintenance/blog")
    all_answer(servers)


def test_what_is_deployed_of_one_site_is_felt_by_no_other(servers):
    """One host after the other: the first has a release that is good, the second one that is not."""
    first, second = servers
    before = [status(server, "shop")["release"] for server in servers]
    with visitors(servers):
        run("deploy", site="blog", **each({"ref": "next"}, {"ref": "broken"})).must_fail("broken on purpose")
        assert "the next blog" in get(first, "blog") and PAGES["blog"] in get(second, "blog")
        run("rollback", "--limit", first.backend.name, site="blog").must_succeed()
    assert [status(server, "shop")["release"] for server in servers] == before
    all_answer(servers)


def passwords(password, before):
    return {
        "blog": {
            "database": {
                "password": f"{password} password of the blog",
                "password_before": f"{before} password of the blog",
            }
        }
    }


def test_one_site_gets_new_secrets_and_the_others_keep_theirs(servers):
    """The password of one database changes, by way of both being valid. The next run changes it back."""
    was = [server.check_output("sha256sum /etc/shop/secrets /etc/gallery/secrets") for server in servers]
    with visitors(servers):
        run("rotate", site="blog", more=passwords("another", "the database")).must_succeed()
    login = "MYSQL_PWD='{} password of the {}' mariadb --user={} {} -e 'select 1'"
    for server in servers:
        assert server.run(login.format("another", "blog", "blog", "blog")).rc == 0
        assert server.run(login.format("the database", "blog", "blog", "blog")).rc != 0
        assert server.run(login.format("the database", "shop", "shop", "shop")).rc == 0
    assert [server.check_output("sha256sum /etc/shop/secrets /etc/gallery/secrets") for server in servers] == was


@pytest.mark.thorough
def test_a_site_comes_goes_and_comes_back_and_the_others_do_not_feel_it(converge, servers):
    """It comes back on the first host; on the second, where it stays away, that run changes nothing."""
    first, second = servers
    with visitors(servers):
        converge(more={"wiki": WIKI, **passwords("the database", "another")}).must_succeed()
        assert all("of wiki" in get(server, "wiki") for server in servers)
        gone = converge(more={"wiki": GONE, "docs": GONE}).must_succeed()
        assert {task.partition(": ")[2] for task in gone.changed} >= {
            "app_server : Retire | Stop the application and its jobs, and remove their units"
        }
        for server in servers:
            assert get(server, "wiki") == get(server, "docs") == ""
            assert server.check_output("systemctl list-units --all --plain --no-legend 'wiki*'") == ""
            assert server.check_output("ls -d /etc/wiki /etc/systemd/system/wiki* 2>/dev/null; echo") == ""
            assert server.run("test -d /srv/wiki/releases").rc == 0
            assert "wiki" in server.check_output("mariadb --batch -e 'show databases'")
        back = converge(**each({"more": {"wiki": WIKI}}, {"more": {"wiki": GONE, "docs": GONE}})).must_succeed()
        assert [task for task in back.changed if task.startswith(second.backend.name)] == []
        assert "of wiki" in get(first, "wiki") and status(first, "wiki")["release"]
    all_answer([first])
    all_answer([second], "docs")


@pytest.mark.thorough
def test_sites_that_clash_are_refused_with_both_names_and_an_application_that_nobody_declares_is_too(converge):
    """The wiki of the first host, which the test before has left there."""
    greedy = {name: {"app": {"worker_memory_mb": 2_000_000}} for name in ("blog", "gallery")}
    copy = {"copy": {"domain": "docs.{{ zone }}", "certificate": "none", "root": "/srv/docs"}}
    wrong = {"blog": {"nginx": {"body_size": "huge"}, "app": {"entry": "no module"}}}
    said = converge(**each({"more": {**copy, **wrong}}, {"more": greedy})).must_be_refused(
        "sites: this host runs the application wiki, which is not declared any more",
        "sites.copy: the name docs.", "is that of sites.docs already",
        "sites.blog.nginx.body_size", "sites.blog.app.entry",
        "sites: the workers of all applications", "and the host has",
    )  # fmt: skip
    assert re.search(r"need 8\d{6} MiB", said.output)


@pytest.mark.thorough
def test_what_is_left_of_a_site_is_handed_over_and_then_removed_and_nothing_else(converge, servers):
    """The wiki, which is on the web of the first host still; a database goes only where the entry has it."""
    first, second = servers
    absent = {"wiki": GONE_WITH_ITS_DATABASE}
    run("remove", "--limit", second.backend.name, site="docs", more={**absent, "docs": GONE}).must_succeed()
    assert second.run("test -f /srv/docs/index.html").rc == 0
    run("remove", **each({"site": "blog"}, {"site": "wikki"}), more=absent).must_be_refused(
        "site: blog is on the web; set sites.blog.state to absent", "site: sites has no wikki"
    )
    converge(more=absent).must_succeed()
    all_answer(servers)
    first.check_output(
        "echo kept > /srv/wiki/shared/kept; mariadb wiki -e 'create table kept (a int); insert into kept values (7)'"
    )
    with visitors(servers):
        said = run("remove", site="wiki", more=absent).must_succeed()
    copies = re.findall(r"/var/lib/webstack/copies/\S+-site-wiki", said.output)
    (copy,) = {path for path in copies if first.run(f"test -d {path}").rc == 0}
    assert "srv/wiki/shared/kept" in first.check_output(f"tar -tzf {copy}/files.tar.gz")
    assert "INSERT INTO `kept` VALUES" in first.check_output(f"zcat {copy}/database.sql.gz")
    for server in servers:
        assert server.run("ls -d /srv/wiki /var/lib/wiki /etc/wiki").stdout == ""
        assert server.run("getent passwd wiki wiki-build wiki-fetch").stdout == ""
        assert "wiki" not in server.check_output("mariadb --batch -e 'show databases; select user from mysql.user'")
    assert run("remove", site="wiki", more=absent).must_succeed().changed == []


@pytest.mark.thorough
def test_after_a_reboot_all_sites_serve(converge, servers):
    """Nor has a run anything to do after it, whether the entry of the site that was removed is still there or not."""
    for server in servers:
        subprocess.run(["docker", "restart", server.backend.name], check=True, capture_output=True)
    until(lambda: all_answer(servers) is None, seconds=90)
    assert converge(**each({"more": {"wiki": GONE_WITH_ITS_DATABASE}}, {"more": {}})).must_succeed().changed == []
