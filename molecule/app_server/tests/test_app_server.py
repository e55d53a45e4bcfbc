"""Role app_server: code in releases, served out of slots, out of reach of the user that runs it."""

import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from scenario import at_once, each, until, watched

EPHEMERAL = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
TOKEN = "C4nary'\" \\;#%$&<>`:@/=!~* sixteen"
OTHER = "An0therCanary-of-sixteen"
SSH = "ssh://git@localhost/home/git/hello"
ANOTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + 43 * "A"


def ask(server, path, app="hello"):
    """What the live slot answers, as status and text."""
    answer = json.loads(server.check_output(f"webstack-release {app} ask {shlex.quote(path)}"))
    return answer["status"], answer["body"]


def status(server, app="hello"):
    return json.loads(server.check_output(f"webstack-release {app} status --json"))


def versions(debian12, debian13):
    return each({"app_server_version": debian12}, {"app_server_version": debian13})


def must_serve(server, release):
    assert status(server)["release"] == release
    assert ask(server, "/healthz") == (200, f"release {release}")


def over_ssh(servers, **changes):
    """Variables that fetch over ssh from the server itself, with the right keys."""
    keys = {server.check_output("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") for server in servers}
    return {
        "app_server_push": False,
        "app_server_repository": SSH,
        "app_server_deploy_key_file": f"{EPHEMERAL}/deploy_key",
        "app_server_known_hosts": [f"localhost {key}" for key in sorted(keys)],
        **changes,
    }


def only_hello(converge, *arguments, **variables):
    return converge("--skip-tags", "others", *arguments, **variables)


def test_the_application_answers_with_its_release(server):
    live = status(server)
    assert live["active"] and live["settings_current"] and live["committed"]
    must_serve(server, live["release"])
    assert ask(server, "/version") == (200, "itsdangerous")


def test_applications_in_other_languages_answer(server):
    release = status(server, "hello-perl")["release"]
    assert ask(server, "/", "hello-perl") == (200, f"hello from perl, release {release}")
    release = status(server, "hello-php")["release"]
    answer, text = ask(server, "/x?y=1", "hello-php")
    assert (answer, text.strip()) == (200, f"hello from php, release {release} at /x")


def test_code_of_a_folder_is_served_from_a_factory_with_all_that_was_asked_for(server):
    release = status(server, "hello-shop")["release"]
    said = f"hello from a factory, release {release} a=1 colorama itsdangerous markupsafe firstsecond"
    assert ask(server, "/x?a=1", "hello-shop") == (200, said)
    place = f"/srv/hello-shop/releases/{release}"
    assert server.file(f"{place}/pyproject.toml").exists and not server.file(f"{place}/hello.py").exists
    # A folder of what all releases share may lie deeper; the application writes there.
    assert server.check_output(f"readlink -f {place}/var/uploads") == "/srv/hello-shop/shared/var/uploads"
    owners = server.check_output("stat -c '%U %a' /srv/hello-shop/shared/var /srv/hello-shop/shared/var/uploads")
    assert owners.splitlines() == ["root 755", "hello-shop 750"]


def test_php_has_its_settings_beside_the_roles_own(server):
    said = server.check_output("cat /etc/hello-php/uwsgi.ini").splitlines()
    assert {f"php-set = {setting}" for setting in ("pcre.jit=0", "memory_limit=96M", "display_errors=Off")} <= {*said}


AS_NGINX_ASKS = r"""
import socket, struct
told = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/x?y=1", "PATH_INFO": "/x", "QUERY_STRING": "show=DOCUMENT_ROOT", "DOCUMENT_ROOT": "/no/such/folder"}
block = b"".join(struct.pack("<H", len(text)) + text.encode() for pair in told.items() for text in pair)
with socket.socket(socket.AF_UNIX) as nginx:
    nginx.connect("/run/hello-php/live.sock")
    nginx.sendall(struct.pack("<BHB", 14, len(block), 0) + block)
    said = b""
    while part := nginx.recv(65536):
        said += part
print(said.decode())
"""


def test_php_has_the_releases_folder_for_its_document_root(server):
    said = server.check_output("python3 -c %s", AS_NGINX_ASKS)
    release = status(server, "hello-php")["release"]
    assert f"in /srv/hello-php/releases/{release}" in said


def test_settings_and_secrets_arrive_unchanged(server):
    assert ask(server, "/environment?name=TOKEN") == (200, TOKEN)
    assert ask(server, "/environment?name=GREETING") == (200, "grüße, $HOME `id` \\ \"'%n")


def test_secrets_are_roots_alone(server):
    secrets = server.file("/etc/hello/secrets")
    assert (secrets.mode, secrets.user) == (0o600, "root")
    assert server.run(f"ps axww | grep -vF grep | grep -F {shlex.quote(TOKEN[:8])}").rc == 1


def test_the_application_cannot_write_its_code(server):
    assert ask(server, "/write")[1].startswith("refused")
    home = f"/srv/hello/releases/{status(server)['release']}"
    assert server.run(f"setpriv --reuid hello --clear-groups --regid hello touch {home}/hello.py").rc != 0
    assert server.run(f"setpriv --reuid hello-build --clear-groups --regid hello-build touch {home}/hello.py").rc != 0
    assert server.check_output(f"find {home} ! -user root -o ! -type l -perm /022") == ""


def test_nothing_but_the_web_server_may_connect(server):
    assert "uwsgi" not in server.check_output("ss --listening --tcp --udp --processes")
    slot = status(server)["slot"]
    code = f"import socket; socket.socket(socket.AF_UNIX).connect('/run/hello/slots/{slot}.sock')"
    reached = "setpriv --reuid {0} --regid {0} --clear-groups python3 -c " + shlex.quote(code)
    assert server.run(reached.format("www-data")).rc == 0
    assert server.run(reached.format("hello-perl")).rc != 0


def test_the_unit_is_sandboxed(server):
    slot = status(server)["slot"]
    words = server.check_output(f"systemd-analyze security --no-pager hello@{slot} | tail -n 1")
    assert float(words.split(": ")[1].split()[0]) <= 2.0, words


def test_static_files_are_made_with_the_virtualenv_and_the_settings_and_without_secrets(server):
    made = server.file("/srv/hello/current/static/made.txt").content_string.splitlines()
    assert made == ["itsdangerous", "grüße, $HOME `id` \\ \"'%n", "nothing secret"]


def as_web_server(server, command):
    return server.run(f"setpriv --reuid www-data --regid www-data --clear-groups {command}")


def test_nginx_reads_what_the_application_puts_into_a_published_folder_and_no_other(server):
    """In folders that it makes there, too; as the application does, without the right to set the bit that does it."""
    for folder in ("media", "private"):
        code = f"import os; os.makedirs('{folder}/a/b', exist_ok=True); open('{folder}/a/b/c', 'w').write('a picture')"
        server.check_output(f"webstack-release hello run -- python -c {shlex.quote(code)}")
    assert as_web_server(server, "cat /srv/hello/shared/media/a/b/c").stdout == "a picture"
    assert as_web_server(server, "cat /srv/hello/shared/private/a/b/c").rc != 0
    assert as_web_server(server, "ls /srv/hello/shared/private").rc != 0


# Types when the command has spoken: what is typed before the terminal is handed on is lost.
ON_A_TERMINAL = """
import os, pty, signal, sys
signal.alarm(60)
process, terminal = pty.fork()
if not process:
    os.execvp(sys.argv[1], sys.argv[1:])
said, typed = b"", False
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    said += piece
    if b"/.venv" in said and not typed:
        typed = os.write(terminal, b"typed" + bytes([10]))
sys.stdout.buffer.write(said)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


def test_a_command_of_the_application_runs_as_the_application_does(server):
    code = (
        "import os, sys; print(os.environ['TOKEN'], os.environ['APP_RELEASE'], os.getcwd(), sys.prefix);"
        " print(os.access('hello.py', os.W_OK), sys.stdin.isatty(), sys.stdin.readline()); sys.exit(7)"
    )
    command = f"webstack-release hello run -- python -c {shlex.quote(code)}"
    with watched([server], TOKEN, "cmdline") as met:
        said = server.run(f"echo typed | {command}")
    assert met == [] and said.rc == 7
    release = status(server)["release"]
    place = f"/srv/hello/releases/{release}"
    assert said.stdout.split("\n")[0] == f"{TOKEN} {release} {place} {place}/.venv"
    assert said.stdout.split("\n")[1] == "False False typed"
    said = server.run(f"python3 -c {shlex.quote(ON_A_TERMINAL)} {command}")
    assert said.rc == 7 and "False True typed" in said.stdout
    assert server.run("webstack-release hello run -- no-such-command").rc == 127
    assert server.check_output("systemctl list-units --all --no-legend 'hello-run-*'") == ""


def test_static_files_are_published_and_compressed(server):
    assert server.file("/srv/hello/current/static/site.css").contains("color: black")
    assert server.check_output("gunzip -c /srv/hello/current/static/site.css.gz | head -n 1") == "body { color: black }"
    assert (
        server.run("setpriv --reuid www-data --regid www-data --clear-groups cat /srv/hello/current/static/site.css").rc
        == 0
    )


def workers(server):
    """What uWSGI tells of the live slot's workers."""
    socket = f"/run/hello/slots/{status(server)['slot']}.stats"
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{socket}'); print(s.makefile().read())"
    return json.loads(server.check_output(f"python3 -c {shlex.quote(code)}"))["workers"]


def a_worker_that_leaks_is_replaced(server, path="/leak?mb=60"):
    pid = ask(server, path)[1]
    # Its memory is looked at after a request, and not in its first ten seconds.
    until(lambda: ask(server, "/healthz")[0] == 200 and server.run(f"kill -0 {pid}").rc != 0)


def workers_that_leak_or_hang_are_replaced(server):
    # Three of four threads are busy, so each worker is, and old enough to be replaced.
    until(lambda: min(time.time() - worker["last_spawn"] for worker in workers(server)) > 11)
    server.check_output("rm -f /run/slow-*")
    for number in range(3):
        command = f"webstack-release hello ask '/sleep?seconds=4' > /run/slow-{number}"
        server.check_output(f"systemd-run --quiet sh -c {shlex.quote(command)}")
    until(lambda: sum(core["in_request"] for worker in workers(server) for core in worker["cores"]) == 3)
    a_worker_that_leaks_is_replaced(server)
    # What another thread of it was answering is answered to the end.
    until(lambda: server.check_output("cat /run/slow-*").count("slept in") == 3)
    # What would take the host's memory within one request does not get it.
    assert ask(server, "/leak?mb=200")[0] != 200
    assert "MemoryError" in server.check_output("journalctl -u 'hello@*' --no-pager -o cat")
    server.run("for i in 1 2; do (webstack-release hello ask '/sleep?seconds=60' >/dev/null 2>&1 &) ; done")
    assert ask(server, "/healthz")[0] == 200
    until(lambda: "HARAKIRI" in server.check_output("journalctl -u 'hello@*' --no-pager -o cat"))


def test_workers_that_leak_or_hang_are_replaced_and_others_answer(servers):
    at_once(workers_that_leak_or_hang_are_replaced, servers)


def journal(server):
    """What the live slot has said since it was started."""
    run = server.check_output(f"systemctl show --value -p InvocationID hello@{status(server)['slot']}")
    return server.check_output(f"journalctl _SYSTEMD_INVOCATION_ID={run} --no-pager -o cat")


def loads(server):
    """How often the live slot has loaded the code, which two workers serve."""
    return len(re.findall(r"^WSGI app 0 .* ready in", journal(server), re.MULTILINE))


def a_worker_of_one_thread_that_leaks_is_replaced(server, path="/leak?mb=60"):
    a_worker_that_leaks_is_replaced(server, path)
    until(lambda: "more than 64: it is replaced" in journal(server))


@pytest.mark.parametrize("which", ["worker", "master"])
def test_a_killed_process_comes_back(server, which):
    slot = status(server)["slot"]
    main = server.check_output(f"systemctl show --value -p MainPID hello@{slot}")
    victim = main if which == "master" else server.check_output(f"pgrep -P {main} | head -n 1")
    server.check_output(f"kill -KILL {victim}")
    until(lambda: server.run(f"kill -0 {victim}").rc != 0)
    until(lambda: ask(server, "/healthz")[0] == 200)


@pytest.mark.thorough
def test_upgraded_libraries_bring_a_switch_and_what_was_changed_by_hand_is_mended_without(converge, servers):
    """Those of Python, too: a process goes on with what it started with."""
    before = [status(server) for server in servers]
    for server in servers:
        # As dpkg does it: the new file gets the name of the old one.
        found = server.check_output("readlink -e /usr/lib/*/libpython3.*.so.1.0")
        server.check_output(f"cp --preserve {found} {found}.dpkg-new && mv {found}.dpkg-new {found}")
        said = server.check_output("webstack-release hello status")
        assert "it runs with settings or libraries of before; a converge mends that" in said
    converge().must_succeed()
    slots = [status(server)["slot"] for server in servers]
    for server, old in zip(servers, before, strict=True):
        assert status(server)["slot"] != old["slot"] and status(server)["release"] == old["release"]
        must_serve(server, old["release"])
        server.check_output("echo 'processes = 1' >> /etc/hello/uwsgi.ini; chmod 644 /etc/hello/secrets")
        server.check_output(
            "usermod --append --groups adm,www-data hello-build; install -m 400 /etc/hostname /etc/hello/deploy_key"
        )
        # By this name it stood in the way of Debian's file, for an application called legacy or tmp.
        server.check_output("cp -p /etc/tmpfiles.d/webstack-hello.conf /etc/tmpfiles.d/hello.conf")
        server.check_output("echo 'd /run/hello-theirs' > /etc/tmpfiles.d/hello-perl.conf")
    # A dry run tells of these, and of nothing else.
    predicted = converge("--check").must_succeed().changed
    assert {line.split(" : ")[1] for line in predicted} == {
        "Install | The users that run, build and fetch the application",
        "Configure | Settings of the application",
        "Configure | Remove the key to the repository that is no longer declared",
        "Configure | uWSGI, its slots and the release tool",
        "Ship | Remove the tmpfiles.d file of the version before",
    }
    assert sorted(converge().must_succeed().changed) == sorted(predicted)
    assert [status(server)["slot"] for server in servers] == slots
    # The run at the end of the next test finds nothing left to do.
    for server in servers:
        assert server.check_output("id -nG hello-build") == "hello-build"
        assert not server.file("/etc/hello/deploy_key").exists and not server.file("/etc/tmpfiles.d/hello.conf").exists
        server.check_output("rm /etc/tmpfiles.d/hello-perl.conf")


def as_a_killed_run_leaves_it(server):
    live = status(server)["slot"]
    other = "green" if live == "blue" else "blue"
    server.check_output(
        f"mkdir /srv/hello/releases/half-built; cp -a /var/lib/hello/bound/{live}/. /var/lib/hello/bound/{other};"
        f" sed -i s/SLOT={live}/SLOT={other}/ /var/lib/hello/bound/{other}/slot;"
        f" systemctl start hello@{other}; systemctl enable --quiet hello@{other}; rm /srv/hello/current"
    )
    # And somebody has been there.
    server.check_output(
        f"chmod 600 /run/hello/slots/{live}.sock; chmod 700 /run/hello; chown hello /var/lib/hello/releases;"
        f" chown hello:hello /srv/hello/releases/{status(server)['release']}/hello.py"
    )
    assert len(status(server)["trouble"]) == 4


def made_up_for(server):
    live = status(server)
    assert live["committed"]
    must_serve(server, live["release"])
    assert not server.file("/srv/hello/releases/half-built").exists
    assert as_web_server(server, f"test -w /run/hello/slots/{live['slot']}.sock").rc == 0
    assert server.file(f"/srv/hello/releases/{live['release']}/hello.py").user == "root"


def the_same_release_serves_after_a_reboot(server):
    release = status(server)["release"]
    server.backend.run_local(f"docker restart {server.backend.name}")
    until(lambda: ask(server, "/healthz")[0] == 200, seconds=40)
    must_serve(server, release)
    assert server.check_output("readlink -f /run/hello/live.sock").startswith("/run/hello/slots/")


@pytest.mark.thorough
def test_a_run_that_was_killed_is_made_up_for_and_after_a_reboot_the_same_release_serves(converge, servers):
    at_once(as_a_killed_run_leaves_it, servers)
    only_hello(converge).must_succeed()
    at_once(made_up_for, servers)
    at_once(the_same_release_serves_after_a_reboot, servers)
    assert converge().must_succeed().changed == []


@pytest.mark.thorough
def test_what_cannot_be_live_is_refused_and_meets_no_visitor_however_often_it_is_tried(converge, servers):
    """The other ways to be bad are tried by scenario deploy, under load."""
    before = [status(server)["release"] for server in servers]
    shown = ("-vvv", "--diff")
    run = only_hello(converge, *shown, token=OTHER, **versions("import-error", "wrong-hash"))
    run.must_fail("cannot be imported", "No module named 'no_such_module'", "DO NOT MATCH THE HASHES")
    assert OTHER not in run.output and TOKEN not in run.output
    run = only_hello(converge, **versions("import-error", "no-callable"))
    run.must_fail("cannot be imported", "No module named 'no_such_module'", "has no attribute 'application'")
    # Meanwhile another run changes the application. That a converge gives up, too, is told by tests/unit/test_app_release.py.
    busy = servers[0]
    # systemd may not have forgotten the run before at once.
    until(lambda: busy.run("systemd-run --quiet --unit hello-deploy sleep 300").rc == 0)
    busy.check_output("systemd-run --quiet --unit waits sh -c 'webstack-release hello rollback >/run/waits 2>&1'")
    told = each(
        {"app_server_uwsgi_options": {"no-such-option": 1}, "app_server_version": "main", "app_server_preload": False},
        {"app_server_uwsgi_options": {}, "app_server_version": "connects-at-import", "app_server_preload": True},
    )
    only_hello(converge, **told).must_fail(
        "unknown config directive: no-such-option", "the live one is untouched",
        "cannot be imported once for all workers (app_server_preload)", "while it is loaded, it opens a socket",
    )  # fmt: skip
    assert "no-such-option" not in busy.file("/etc/hello/uwsgi.ini").content_string
    # What is declared is on the host again, and nothing is shipped for it.
    assert {line.split(": ", 1)[1] for line in only_hello(converge).must_succeed().changed} == {
        "app_server : Configure | uWSGI, its slots and the release tool"
    }
    until(lambda: busy.run("systemctl is-failed waits").rc == 0)
    assert "webstack-release: another run changes hello now" in busy.check_output("cat /run/waits")
    busy.check_output("systemctl stop hello-deploy; systemctl reset-failed waits")
    for server, release in zip(servers, before, strict=True):
        must_serve(server, release)
        assert not server.service("hello@blue").is_running or not server.service("hello@green").is_running


# From here on each test takes the hosts as the one before has left them, and ships or sets something else.


def test_changed_settings_switch_slots_and_lose_no_request_and_code_is_loaded_once_if_workers_may_share_it(
    converge, servers
):
    at_once(lambda server: server.check_output(f"systemctl restart hello@{status(server)['slot']}"), servers)
    assert [loads(server) for server in servers] == [2, 2]
    once = {"app_server_preload": True, "app_server_threads": 1, "token": OTHER}
    slots = [status(server)["slot"] for server in servers]
    load = "while [ ! -e /run/stop ]; do webstack-release hello ask '{0}' >> /run/{1} || echo LOST >> /run/{1}; done"
    for server in servers:
        server.check_output("rm -f /run/stop /run/short /run/long")
        for name, path in (("short", "/environment?name=SLOT"), ("long", "/sleep?seconds=2")):
            server.check_output(f"systemd-run --quiet --unit {name} timeout 300 sh -c %s", load.format(path, name))
    predicted = only_hello(converge, "--check", **once).must_succeed()
    run = only_hello(converge, "-vvv", "--diff", **once).must_succeed()
    assert sorted(predicted.changed) == sorted(run.changed)
    assert OTHER not in run.output and TOKEN not in run.output
    assert all(status(server)["slot"] != slot for server, slot in zip(servers, slots, strict=True))
    assert only_hello(converge, **once).must_succeed().changed == []
    for server in servers:
        server.check_output("touch /run/stop")
        until(lambda server=server: server.run("systemctl is-active short long").rc != 0, seconds=30)
        for log in ("/run/short", "/run/long"):
            text = server.file(log).content_string
            lines = text.splitlines()
            assert "blue" in text and "green" in text and len(lines) >= 8
            assert [line for line in lines if '"status": 200' not in line] == []
    for server in servers:
        must_serve(server, status(server)["release"])
        assert loads(server) == 1
    # Each worker of one thread looks at its memory itself, and a thread of the application does not keep it.
    at_once(lambda server: a_worker_of_one_thread_that_leaks_is_replaced(server, "/leak?mb=60&linger=1"), servers)


def test_a_new_version_is_shipped_and_what_was_rolled_back_is_not_brought_back_by_a_converge(converge, servers):
    before = [status(server)["release"] for server in servers]
    better = {"app_server_version": "better", "app_server_threads": 1}
    run = only_hello(converge, "-vvv", "--diff", **better).must_succeed()
    assert OTHER not in run.output and TOKEN not in run.output
    for server, old in zip(servers, before, strict=True):
        release = status(server)["release"]
        assert release != old and status(server)["version"] == "better"
        must_serve(server, release)
    # A worker that has loaded the code itself looks at its memory, too.
    at_once(a_worker_of_one_thread_that_leaks_is_replaced, servers)
    servers[0].check_output("webstack-release hello rollback")
    # What only the host can judge is refused on the other one.
    groups = each({"app_server_socket_group": "www-data"}, {"app_server_socket_group": "nobodys"})
    run = only_hello(converge, **better, **groups).must_be_refused("there is no group nobodys")
    run.must_say("was rolled back by root@", "it is declared and not brought back by itself")
    assert status(servers[0])["release"] == before[0]


def test_code_is_fetched_over_ssh_with_a_pinned_host_key_and_shipped_if_a_trusted_key_has_signed_it(converge, servers):
    key = Path(EPHEMERAL, "deploy_key.pub").read_text(encoding="utf-8").strip()
    trusted = {"app_server_signers": [f"test@example.com {key}"]}
    signed = over_ssh(servers, **trusted, app_server_version="signed")
    only_hello(converge, **signed).must_succeed()
    before = [status(server) for server in servers]
    for server, live in zip(servers, before, strict=True):
        must_serve(server, live["release"])
        assert (live["version"], live["repository"]) == ("signed", SSH)
        key = server.file("/etc/hello/deploy_key")
        assert (key.mode, key.user) == (0o400, "hello-fetch")
        part = server.file("/srv/hello/current/part/part.txt")
        assert (part.content_string, part.user) == ("a part\n", "root")
    # Nothing is left to do where it is declared again; where another one is, nobody has signed that.
    run = only_hello(converge, **over_ssh(servers, **trusted, **versions("signed", "better")))
    run.must_fail("is signed by none of app_server_signers")
    assert not any(line.startswith(servers[0].backend.name) for line in run.changed), run.output
    only_hello(converge, **over_ssh(servers, **versions("v1", "nowhere"))).must_be_refused(
        "'v1' is ambiguous", "app_server_version: 'nowhere' is no branch, tag or commit"
    )
    # Pushed, and with another way to build: the same commit is shipped again, with the part of another repository.
    other_way = {"app_server_static_command": "touch static/made"}
    only_hello(converge, **trusted, **other_way, app_server_version="signed").must_succeed()
    for server, old in zip(servers, before, strict=True):
        assert status(server)["release"] != old["release"] and status(server)["commit"] == old["commit"]
        must_serve(server, status(server)["release"])
        assert server.file("/srv/hello/current/static/made").user == "root"
        part = server.file("/srv/hello/current/part/part.txt")
        assert (part.content_string, part.user) == ("a part\n", "root")


def test_the_key_is_out_of_reach_of_what_builds(server):
    """Who fetches has a home that no other user may enter."""
    assert (
        server.file("/var/lib/hello/fetch").user == "hello-fetch" and server.file("/var/lib/hello/fetch").mode == 0o700
    )
    for user in ("hello", "hello-build"):
        assert server.run(f"setpriv --reuid {user} --regid {user} --clear-groups ls /var/lib/hello/fetch").rc != 0


# With the package that all releases need, under the name that an index has for it.
AS_AN_INDEX = """
set -e
cd /home/git
git -C hello -c safe.directory='*' update-server-info
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout https.key -out https.pem 2>&1
mkdir -p simple/itsdangerous
for wheel in /var/lib/hello/wheels/*-itsdangerous-*.whl; do
  name=${wheel##*/}
  cp "$wheel" "simple/itsdangerous/${name#*-}"
done
"""
OVER_HTTPS = """
import functools, http.server, ssl
class Files(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        self.send_header("Cache-Control", "max-age=86400")
        super().end_headers()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8444), functools.partial(Files, directory="/home/git"))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/home/git/https.pem", "/home/git/https.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.mark.thorough
def test_code_is_fetched_over_https_from_a_trusted_host_and_packages_are_downloaded_once(converge, servers):
    over_https = {
        "app_server_push": False,
        "app_server_repository": "https://localhost:8444/hello",
        "app_server_build_environment": {"PIP_INDEX_URL": "https://localhost:8444/simple"},
    }
    at_once(lambda server: server.check_output(AS_AN_INDEX), servers)
    for server in servers:
        server.check_output(f"systemd-run --quiet --unit over-https python3 -c {shlex.quote(OVER_HTTPS)}")
    only_hello(converge, app_server_version="main", **over_https).must_be_refused(
        "app_server_repository: the host cannot read https://localhost:8444/hello", "certificate"
    )
    trust = "cp /home/git/https.pem /usr/local/share/ca-certificates/git.crt && update-ca-certificates 2>&1"
    at_once(lambda server: server.check_output(trust), servers)
    # One host has to download the package, and the other one cannot.
    servers[0].check_output("rm /var/lib/hello/wheels/*.whl")
    servers[1].check_output("truncate --size 0 /home/git/simple/itsdangerous/*.whl")
    only_hello(converge, app_server_version="main", **over_https).must_succeed()
    for server in servers:
        must_serve(server, status(server)["release"])
        assert status(server)["repository"] == over_https["app_server_repository"]
        server.check_output("ls /var/lib/hello/wheels/*-itsdangerous-*.whl")
    distrust = (
        "systemctl stop over-https; rm /usr/local/share/ca-certificates/git.crt; update-ca-certificates --fresh 2>&1"
    )
    at_once(lambda server: server.check_output(distrust), servers)


@pytest.mark.thorough
def test_a_git_host_that_is_wrong_leaves_the_old_release(converge, servers):
    """A host that is out of reach is a case of tests/unit/test_app_preflight.py."""
    before = [status(server)["release"] for server in servers]
    right = over_ssh(servers)
    nothing = "ssh://git@localhost/home/git/nothing"
    wrong = each(
        {"app_server_known_hosts": [f"localhost {ANOTHER_KEY}"], "app_server_repository": SSH},
        {"app_server_known_hosts": right["app_server_known_hosts"], "app_server_repository": nothing},
    )
    only_hello(converge, **{**right, **wrong, "app_server_version": "better"}).must_be_refused(
        "app_server_known_hosts: localhost shows a key",
        "app_server_repository: localhost has no ssh://git@localhost/home/git/nothing",
    )
    for server, release in zip(servers, before, strict=True):
        must_serve(server, release)


@pytest.mark.thorough
def test_a_wrong_deploy_key_is_refused_and_left_nowhere(converge, servers, tmp_path):
    """Whoever asks: who fetches, or root where that user is still to be made."""
    key = tmp_path / "other_key"
    servers[0].backend.run_local(f"ssh-keygen -q -t ed25519 -N '' -f {key}")
    secret = key.read_text(encoding="utf-8").splitlines()[2]
    changes = each({"app_server_name": "hello"}, {"app_server_name": "hello-fresh"})
    changes["app_server_deploy_key_file"] = str(key)
    with watched(servers, secret, "cmdline", "environ") as met:
        run = only_hello(converge, "-vvv", **over_ssh(servers, **changes, app_server_version="better"))
    run.must_be_refused("app_server_deploy_key_file: localhost does not let this key in", "Permission denied")
    assert run.output.count("failed=1 ") == len(servers), run.output
    assert met == [] and secret not in run.output
    for server in servers:
        assert ask(server, "/healthz")[0] == 200
        assert server.run(f"grep -rlF {secret} /run /tmp /var/tmp /root /etc /var/lib/hello").rc == 1
        assert server.run("ls -d /run/webstack-ask.*").rc != 0


def test_no_more_releases_are_kept_than_wanted(server):
    kept = server.check_output("ls /srv/hello/releases").split()
    gone_back_from = [name for name in kept if server.file(f"/var/lib/hello/releases/{name}.rejected").exists]
    assert len(kept) - len(gone_back_from) <= 3 and status(server)["release"] in kept
    assert len(gone_back_from) <= 3


def test_no_secret_is_in_the_journal_or_left_behind(server):
    """Not the one that was declared for some of the runs above, whose output was looked at, too."""
    assert server.run(f"journalctl --no-pager | grep -F {OTHER}").rc == 1
    assert server.run(f"grep -rlF {OTHER} /tmp /var/tmp /var/log /srv").rc == 1


# One of each kind; all of them are cases of the unit tests.
AGAINST_THE_SPEC = {
    "app_server_secrets": (
        {"SHORT": "hunter2", "NUMBER": 83, "LINES": "hunter2hunter2hunter2\nx"},
        "app_server_secrets.SHORT: a secret has at least 16 characters",
    ),
    "app_server_reposittory": ("x", "app_server_reposittory: unknown variable; did you mean app_server_repository?"),
}
# A type is judged before the rules: one host is told of that, the other one of these.
THREADS = each({"app_server_threads": "many"}, {"app_server_threads": 2})
AGAINST_THE_RULES = {
    "by_host": (THREADS["by_host"],),
    "app_server_threads": (THREADS["app_server_threads"], "argument 'app_server_threads' is of type"),
    "app_server_name": ("mysql", "app_server_name: 'mysql' is the name of a part of the system"),
    "app_server_repository": ("https://u:hunter2@git.example.com/x.git", "carries a user or a password"),
    "app_server_push": (False,),
    "app_server_processes": (9999, "app_server_processes: 9999 workers of 64 MiB do not fit"),
    "app_server_deploy_key_file": ("/nowhere/key", "there is no file /nowhere/key"),
}
TAKEN = each({"app_server_name": "backup"}, {"app_server_name": "getty"})
AGAINST_THE_HOST = {
    "by_host": (TAKEN["by_host"],),
    "app_server_name": (
        TAKEN["app_server_name"],
        "this host has a user backup who is somebody else's", "getty@.service is part of the system",
    ),
    "app_server_groups": (["adm", "nobodys"], "there is no group 'nobodys' on this host, and app_server_packages is empty"),
    "app_server_version": ("no-such-branch", "app_server_version: 'no-such-branch' names no commit, or more than one"),
}  # fmt: skip


@pytest.mark.parametrize(
    "inputs",
    [AGAINST_THE_SPEC, AGAINST_THE_RULES, AGAINST_THE_HOST],
    ids=["spec", "type and rules", "host"],
)
def test_bad_inputs_are_refused_all_at_once_and_the_site_goes_on(converge, servers, inputs):
    values = {name: value for name, (value, *_words) in inputs.items()}
    run = only_hello(converge, **values).must_be_refused(
        *(word for _value, *words in inputs.values() for word in words)
    )
    assert "hunter2" not in run.output
    for server in servers:
        assert ask(server, "/healthz")[0] == 200
