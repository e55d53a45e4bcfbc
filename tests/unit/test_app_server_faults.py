"""The checks of role app_server's inputs that go beyond types."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from loading import ROOT, load

plugin = load("plugins/filter/app_server_faults.py")
app_server_faults = plugin.app_server_faults

GOOD: dict[str, Any] = {
    **yaml.safe_load((ROOT / "roles/app_server/defaults/main.yml").read_text(encoding="utf-8")),
    "app_server_name": "shop",
    "app_server_repository": "https://git.example.com/shop.git",
    "app_server_entry": "shop.wsgi:application",
}
LOGIN = "ann"
SECRET = "correct horse battery staple"
HOST_KEY = "git.example.com ssh-ed25519 AAAA"
OVER_SSH = {"deploy_key_file": "/keys/shop", "known_hosts": [HOST_KEY]}


def faults(**inputs: Any) -> list[str]:
    """Of inputs that are named without the role's name."""
    given = {**GOOD, **{f"app_server_{name}": value for name, value in inputs.items()}}
    return app_server_faults(given, {"memtotal_mb": 4096}, LOGIN)


def job(**keys: Any) -> dict[str, Any]:
    return {"jobs": [{"name": "mails", "command": "python -m shop.mails"}, {"name": "tidy", "command": "tidy", **keys}]}


def test_defaults_have_no_fault():
    assert faults() == []


def test_everything_at_once_has_no_fault():
    assert faults(
        **{**OVER_SSH, "known_hosts": [HOST_KEY, "|1|a=|b= ecdsa-sha2-nistp256 AAAA"]},
        repository="git@git.example.com:shop.git", version="v1.2+3", ref="release/1.2",
        signers=["ann@example.com namespaces=\"git\" ssh-ed25519 AAAA", "bob sk-ssh-ed25519@openssh.com AAAA"],
        environment={"GREETING": "grüße, $HOME `id` \\ \"'%n", "EMPTY": ""}, secrets={"TOKEN": SECRET},
        build_environment={"PATH": "/usr/bin", "TOKEN": "none"}, static="shop/static", notify_command="sh -c 'echo $KIND'",
        uwsgi_options={"harakiri": 7, "env": "RATE=100%"}, writable_paths=["/srv/media"], shared=["media", "a.b"],
        public_url="https://www.example.com:8443", jobs=[
            {"name": "mails", "command": "python -m shop.mails --to=a@b.example"},
            {"name": "tidy", "command": "tidy", "schedule": "Mon..Fri *-*-* 03:30:00 Europe/Berlin", "stop_seconds": 5},
        ],
    ) == []  # fmt: skip


# Each rule: what it refuses, the nearest that it lets pass, and where and how it says so.
CODE = [
    ({"name": "Shop"}, {"name": "s"}, "name", "'Shop' is not a name of 1 to 25 lower case letters"),
    ({"name": "shop\n"}, {"name": "shop-2"}, "name", r"'shop\x0a' is not a name"),
    ({"name": "a" * 26}, {"name": "a" * 25}, "name", "1 to 25"),
    ({"name": LOGIN}, {"name": "anna"}, "name", "'ann' is the user who logs in"),
    ({"name": "mysql"}, {"name": "mysql2"}, "name", "'mysql' is the name of a part of the system"),
    ({"name": "shop-job"}, {"name": "shop-jobs"}, "name", "is the name of a part of the system"),
    ({"name": "shop-job-a"}, {"name": "job-a"}, "name", "is the name of a part of the system"),
    ({"name": "shop-build"}, {"name": "build"}, "name", "'shop-build' would be a user of the application 'shop'"),
    ({"name": "shop-fetch"}, {"name": "shop-fetch-2"}, "name", "no name ends in -build or -fetch"),
    ({"repository": "https://ann@git.example.com/x"}, {"repository": "https://git.example.com/a@b"}, "repository", "carries a user or a password"),
    ({"repository": "ssh://git:pw@h/x", **OVER_SSH}, {"repository": "ssh://git@h:22/x", **OVER_SSH}, "repository", "carries a user or a password"),
    ({"repository": "srv/x", "push": True}, {"repository": "/srv/my x", "push": True}, "repository", "the absolute path of a clone on the controller"),
    ({"repository": "/srv/x\n", "push": True}, {"repository": "/x", "push": True}, "repository", "the absolute path of a clone"),
    ({"repository": "https://h/x", "push": True}, {"repository": "https://h/x"}, "repository", "with app_server_push"),
    ({"repository": "/srv/x"}, {"repository": "/srv/x", "push": True}, "repository", "must be https://"),
    ({"repository": "http://h/x"}, {"repository": "https://h/x"}, "repository", "must be https://"),
    ({"repository": "https://h/x\n"}, {"repository": "https://h/x.git"}, "repository", "must be https://"),
    ({"repository": "git@h:x", **OVER_SSH, "deploy_key_file": ""}, {"repository": "git@h:x", **OVER_SSH}, "deploy_key_file", "over ssh"),
    ({"repository": "ssh://h/x", **OVER_SSH, "known_hosts": []}, {"repository": "ssh://h/x", **OVER_SSH}, "known_hosts", "over ssh"),
    ({"known_hosts": [HOST_KEY, "AAAA"]}, {"known_hosts": [HOST_KEY, "h ecdsa-x AAAA"]}, "known_hosts[1]", "one line of ssh's known_hosts, such as"),
    ({"known_hosts": [f"{HOST_KEY}\n"]}, {"known_hosts": [HOST_KEY]}, "known_hosts[0]", "one line of ssh's known_hosts"),
    ({"signers": ["ssh-ed25519 AAAA"]}, {"signers": ["ann ssh-ed25519 AAAA"]}, "signers[0]", "one line of ssh's allowed_signers, such as"),
    ({"signers": ["ann ssh-ed25519 AAAA\n"]}, {"signers": ["ann sk-x AAAA"]}, "signers[0]", "one line of ssh's allowed_signers"),
    ({"version": "--upload-pack=x"}, {"version": "_upload-pack"}, "version", "'--upload-pack=x' is not the name of a branch"),
    ({"version": "main\n"}, {"version": 7}, "version", r"'main\x0a' is not the name"),
    ({"version": ""}, {"ref": ""}, "version", "'' is not the name"),
    ({"ref": "-x"}, {"ref": "x"}, "ref", "'-x' is not the name of a branch, a tag or a commit"),
    ({"ref": "\n"}, {"ref": "v1"}, "ref", "is not the name"),
    ({"entry": "hello; import os"}, {"entry": "hello"}, "entry", "'hello; import os' is not a module:callable"),
    ({"entry": "a:b:c"}, {"entry": "a.b:c"}, "entry", "is not a module:callable"),
    ({"entry": "a..b"}, {"entry": "a.b"}, "entry", "is not a module:callable"),
    ({"entry": "a:b\n"}, {"entry": "a:b"}, "entry", "is not a module:callable"),
    ({"entry": "/app.psgi", "plugin": "psgi"}, {"entry": "app.psgi", "plugin": "psgi"}, "entry", "without '..'"),
    ({"entry": "a.php\n", "plugin": "php"}, {"entry": "web/a.php", "plugin": "php"}, "entry", "relative to the repository"),
    ({"entry": "", "plugin": "psgi"}, {"entry": "a", "plugin": "psgi"}, "entry", "'' is not a path"),
    ({"entry": "./", "plugin": "psgi"}, {"entry": "./", "plugin": "php"}, "entry", "'./' is not a path"),
    ({"entry": "../", "plugin": "php"}, {"entry": "public/", "plugin": "php"}, "entry", "or a folder such as public/"),
    ({"requirements": ""}, {"requirements": "", "plugin": "psgi"}, "requirements", "'' is not a path"),
    ({"requirements": ".."}, {"requirements": "."}, "requirements", "'..' is not a path"),
    ({"requirements": ["a.txt", "."], "plugin": "psgi", "php_settings": {"a": 1}},
     {"requirements": ["a.txt", ".[prod,my-sql]"]}, "php_settings", "is for app_server_plugin php"),
    ({"requirements": [".[prod]; x"]}, {"requirements": [".[prod]"]}, "requirements[0]", "nor '.' for the project itself"),
    ({"requirements": ["a", ["b"]]}, {"requirements": ["a", "b"]}, "requirements[1]", "must be a string"),
    ({"requirements": []}, {"requirements": [], "plugin": "psgi"}, "requirements", "an empty list"),
    ({"folder": "../a"}, {"folder": "a/b.c/"}, "folder", "'../a' is not a folder of the repository"),
    ({"folder": "/srv"}, {"folder": ""}, "folder", "such as backend"),
    ({"folder": "a/./b"}, {"folder": "a"}, "folder", "is not a folder"),
    ({"folder": "-a"}, {"folder": "_a"}, "folder", "is not a folder"),
    ({"pip_packages": ["--index-url=x"]},
     {"pip_packages": ["PyMySQL[rsa]==1.1.1", "gunicorn >=20,<30", "x"]}, "pip_packages[0]", "is not a package in pip's words"),
    ({"pip_packages": ["x", "/srv/x"]}, {"pip_packages": ["x~=1.0"]}, "pip_packages[1]", "is not a package"),
    ({"pip_packages": ["x"], "plugin": "psgi"}, {"pip_packages": ["x"]}, "pip_packages", "is for app_server_plugin python3, and that is psgi"),
    ({"entry": "a:b(1)"}, {"entry": "a.b:create_app()"}, "entry", "'a:b(1)' is not a module:callable"),
    ({"entry": "a()"}, {"entry": "a:b"}, "entry", "or foobar:create_app()"),
    ({"php_settings": {"a b": 1}, "plugin": "php"},
     {"php_settings": {"opcache.enable": True}, "plugin": "php"}, "php_settings", "is not the name of a setting"),
    ({"php_settings": {"a": [1]}, "plugin": "php"}, {"php_settings": {"a": "256M"}, "plugin": "php"}, "php_settings", "'a' must have one value"),
    ({"php_settings": {"pcre.jit": 1}, "plugin": "php"}, {"php_settings": {"pcre.jit_x": 1}, "plugin": "php"}, "php_settings", "set by the role"),
    ({"requirements": "../x"}, {"requirements": "a/x-1.txt"}, "requirements", "without '..'"),
    ({"requirements": "a b"}, {"requirements": "a.b"}, "requirements", "relative to the repository"),
    ({"static": "/etc"}, {"static": "etc/"}, "static", "relative to the repository"),
    ({"static": "."}, {"static": ".well-known"}, "static", "'.' is not a path"),
    ({"static": ".//."}, {"static": "./a"}, "static", "is not a path"),
    ({"static": "a/../b"}, {"static": "a/./b"}, "static", "without '..'"),
    ({"static": "static\n"}, {"static": ""}, "static", "relative to the repository"),
]  # fmt: skip
ENVIRONMENT = [
    ({"environment": {"A B": "x"}}, {"environment": {"A_B": "x"}}, "environment.A B", "a name is made of letters"),
    ({"environment": {"1A": "x"}}, {"environment": {"A1": "x"}}, "environment.1A", "a name is made of letters"),
    ({"environment": {"A\n": "x"}}, {"environment": {"A": "x"}}, r"environment.A\x0a", "a name is made of letters"),
    ({"secrets": {"A-B": SECRET}}, {"secrets": {"AB": SECRET}}, "secrets.A-B", "a name is made of letters"),
    ({"build_environment": {"": "x"}}, {"build_environment": {"_": "x"}}, "build_environment.", "a name is made of letters"),
    ({"environment": {"DEBUG": False}}, {"environment": {"DEBUG": "no"}}, "environment.DEBUG", "every value is a string"),
    ({"build_environment": {"N": 5}}, {"build_environment": {"N": "5"}}, "build_environment.N", "every value is a string"),
    ({"environment": {"A": "x\n"}}, {"environment": {"A": "x\\n"}}, "environment.A", "holds a newline, a tab or another"),
    ({"build_environment": {"A": "a\tb"}}, {"build_environment": {"A": "a b"}}, "build_environment.A", "holds a newline"),
    ({"environment": {"A": "a\nb"}, "build_environment": {"A": "a"}},
     {"environment": {"A": "a"}, "build_environment": {"A": "b"}}, "environment.A", "holds a newline"),
    ({"environment": {"T": "x"}, "secrets": {"T": SECRET}},
     {"build_environment": {"T": "x"}, "secrets": {"T": SECRET}}, "environment.T", "stands in app_server_secrets, too"),
    *(
        ({source: {name: SECRET}}, {source: {name.lower(): SECRET}}, f"{source}.{name}", "is set by the role")
        for source in ("environment", "secrets")
        for name in ("APP_RELEASE", "RELEASE", "SLOT", "SETTINGS", "FILES", "PATH")
    ),
]  # fmt: skip
SERVER = [
    ({"uwsgi_options": {"no_cache": 1}}, {"uwsgi_options": {"no-cache2": 1}}, "uwsgi_options", "'no_cache' is not the name of an option"),
    ({"uwsgi_options": {"a\n": 1}}, {"uwsgi_options": {"a": 1}}, "uwsgi_options", "is not the name of an option"),
    ({"uwsgi_options": {"env": "X=@(exec://id)"}}, {"uwsgi_options": {"env": "X=@exec"}}, "uwsgi_options", "'env' must have one value, of one line"),
    ({"uwsgi_options": {"env": "X=$(HOME)"}}, {"uwsgi_options": {"env": "X=$HOME (y)"}}, "uwsgi_options", "without $( and @("),
    ({"uwsgi_options": {"env": "X\n"}}, {"uwsgi_options": {"env": "X"}}, "uwsgi_options", "one line"),
    ({"uwsgi_options": {"env": "X\rY"}}, {"uwsgi_options": {"env": "X Y"}}, "uwsgi_options", "one line"),
    ({"uwsgi_options": {"env": None}}, {"uwsgi_options": {"env": ""}}, "uwsgi_options", "'env' must have one value"),
    ({"uwsgi_options": {"env": ["A=b", ["x"]]}}, {"uwsgi_options": {"env": ["A=b", "C=d"]}}, "uwsgi_options", "'env' must have one value"),
    ({"uwsgi_options": {"env": ["A=b", "C=$(D)"]}}, {"uwsgi_options": {"env": "['A=b']"}}, "uwsgi_options", "or a list of such"),
    ({"uwsgi_options": {"env": []}}, {"uwsgi_options": {"env": [1]}}, "uwsgi_options", "'env' must have one value"),
    ({"uwsgi_options": {"env": {"A": "b"}}}, {"uwsgi_options": {"vacuum": False}}, "uwsgi_options", "'env' must have one value"),
    ({"health_path": "healthz"}, {"health_path": "/"}, "health_path", "'healthz' is not a path such as /healthz"),
    ({"health_path": "/a?b c"}, {"health_path": "/~a/b.c?d=1&e=%20"}, "health_path", "is not a path"),
    ({"health_path": "/a?b#c"}, {"health_path": "/a?b"}, "health_path", "or /healthz?full=1"),
    ({"health_path": "/a\n"}, {"health_path": "/a"}, "health_path", "is not a path"),
    ({"public_url": "www.example.com"}, {"public_url": ""}, "public_url", "'www.example.com' is not an address such as"),
    ({"public_url": "https://a/"}, {"public_url": "http://a:80"}, "public_url", "is not an address"),
    ({"public_url": "https://a\n"}, {"public_url": "https://a"}, "public_url", "is not an address"),
    ({"readable_paths": ["/srv/a", "/etc"]}, {"readable_paths": ["/srv/a", "/srv/b/c"]}, "readable_paths[1]", "'/etc' is not a folder below /srv"),
    ({"readable_paths": ["/srv/../etc"]}, {"readable_paths": ["/srv/a.b"]}, "readable_paths[0]", "without '..'"),
    ({"writable_paths": ["/a", "b"]}, {"writable_paths": ["/a", "/b"]}, "writable_paths[1]", "'b' is not an absolute path"),
    ({"writable_paths": ["/"]}, {"writable_paths": ["/a_b.c-d/"]}, "writable_paths[0]", "'/' is not an absolute path below /"),
    ({"writable_paths": ["//"]}, {"writable_paths": ["//a"]}, "writable_paths[0]", "'//' is not an absolute path below /"),
    ({"writable_paths": ["/./"]}, {"writable_paths": ["/./.a"]}, "writable_paths[0]", "is not an absolute path below /"),
    ({"writable_paths": ["/.."]}, {"writable_paths": ["/.a./"]}, "writable_paths[0]", "without '..'"),
    ({"writable_paths": ["/a/../b"]}, {"writable_paths": ["/a/./b"]}, "writable_paths[0]", "without '..'"),
    ({"writable_paths": ["/a\n"]}, {"writable_paths": ["/a"]}, "writable_paths[0]", "is not an absolute path"),
    ({"shared": ["media", "a//b"]}, {"shared": ["media", "a/b"]}, "shared[1]", "'a//b' is not a folder of the repository"),
    ({"shared": ["a..b"]}, {"shared": ["a.b"]}, "shared[0]", "without '..'"),
    ({"shared": ["a/b/"]}, {"shared": ["a/b"]}, "shared[0]", "'a/b/' is not a folder"),
    ({"shared": ["a/.git"]}, {"shared": ["a/git"]}, "shared[0]", "'a/.git' is not a folder"),
    ({"shared": ["a/b", "a"]}, {"shared": ["a/b", "a/c", "a-b"]}, "shared[0]", "'a/b' is in 'a', which is shared already"),
    ({"shared_files": ["a", "a/b"]}, {"shared_files": ["a", "a.b"]}, "shared_files[1]", "'a/b' is not a file at the top"),
    ({"shared_files": [".git"]}, {"shared_files": [".env", ".gitignore"]}, "shared_files[0]", "and not .git or .venv"),
    ({"shared_files": ["a..b"]}, {"shared_files": ["a_b"]}, "shared_files[0]", "is not a file at the top"),
    ({"shared": ["a"], "shared_files": ["a"]}, {"shared": ["a"], "shared_files": ["b"]}, "shared_files", "'a' stands in app_server_shared, too"),
    ({"migrate_seconds": 0}, {"migrate_seconds": "1"}, "migrate_seconds", "it must be at least 1"),
    ({"shared_published": ["media"]}, {"shared": ["media"], "shared_published": ["media"]},
     "shared_published", "'media' is not in app_server_shared, which holds nothing"),
    ({"shared": [".git"]}, {"shared": ["git."]}, "shared[0]", "is not a folder of the repository"),
    ({"shared": ["media\n"]}, {"shared": ["media"]}, "shared[0]", "is not a folder of the repository"),
    ({"shared": [None]}, {"shared": [5]}, "shared[0]", "'' is not a folder"),
    ({"notify_command": "a\nb"}, {"notify_command": "a 'b'"}, "notify_command", "one line"),
    ({"notify_command": "a\n"}, {"notify_command": ""}, "notify_command", "one line"),
    ({"groups": ["redis", "A b"]}, {"groups": ["redis", "a_b"]}, "groups[1]", "'A b' is not the name of a group"),
    ({"groups": ["shop-fetch"]}, {"groups": ["shops"]}, "groups", "'shop-fetch' is not possible"),
    ({"groups": ["root"]}, {"groups": ["video"]}, "groups", "'root' is not possible"),
    ({"socket_group": "Web"}, {"socket_group": "_web-1"}, "socket_group", "'Web' is not the name of a group"),
    ({"socket_group": "a" * 33}, {"socket_group": "a" * 32}, "socket_group", "is not the name of a group"),
    ({"socket_group": "web\n"}, {"socket_group": "web"}, "socket_group", "is not the name of a group"),
]  # fmt: skip
JOBS = [
    (job(name="Tidy"), job(name="1-tidy"), "jobs[1].name", "'Tidy' is not a name of 1 to 31 lower case letters"),
    (job(name="-tidy"), job(name="tidy-"), "jobs[1].name", "is not a name"),
    (job(name="a" * 32), job(name="a" * 31), "jobs[1].name", "1 to 31"),
    (job(name="tidy\n"), job(name=5), "jobs[1].name", "is not a name"),
    (job(name="mails"), job(name="mail"), "jobs[1].name", "'mails' is app_server_jobs[0] already"),
    (job(command="tidy\n"), job(command="tidy "), "jobs[1].command", "of one line"),
    (job(command=" "), job(command=" a"), "jobs[1].command", "is not a command"),
    (job(command="a && b"), job(command="a '&&' b"), "jobs[1].command", "a job is one process: write a job for each"),
    (job(command=["a", "b"]), job(command="a"), "jobs[1].command", "a job is one process"),
    (job(schedule="daily; x"), job(schedule="daily"), "jobs[1].schedule", "'daily; x' is not a schedule such as *-*-* 03:30"),
    (job(stop_seconds=0), job(stop_seconds=1), "jobs[1].stop_seconds", "0 is not possible; it must be at least 1"),
    (job(stop_seconds="-1"), job(stop_seconds="1"), "jobs[1].stop_seconds", "-1 is not possible"),
    (job(schedule="daily\n"), job(schedule=None), "jobs[1].schedule", "is not a schedule"),
]  # fmt: skip
# The same for each command. What is refused, the nearest that is not, and what is said.
COMMANDS = [
    ("a\nb", "a b", "is not a command of one line"),
    ("a\tb", "a  b", "is not a command of one line"),
    ("a\0b", "ab", "is not a command of one line"),
    ("a 'b", "a 'b'", "cannot be taken apart into words: no closing quotation"),
    ("a \\", "a \\\\", "cannot be taken apart into words: no escaped character"),
    (" ", " a", "is not a command"),
    ("'' a", "a ''", "is not a command"),
    ("a && b", "a '&&' b", "has a & that is for a shell"),
    ("a& b", "a\\& b", "has a & that is for a shell"),
    ("a; b", "a ';' b", "has a ; that is for a shell"),
    ("a | b", 'a "|" b', "has a | that is for a shell"),
    ("a || b", "sh -c 'a || b'", "write sh -c '…' around"),
    ("a > b", "sh -c 'a > b'", "has a > that is for a shell"),
    ("a 2>&1", "/bin/bash -c 'a 2>&1'", "has a > that is for a shell"),
    ("a < b", "a '<' b", "has a < that is for a shell"),
    ("(a)", "'(a)'", "has a ( that is for a shell"),
    ("a $HOME", "a '$HOME'", "has a $ that is for a shell"),
    ('a "$HOME"', 'sh -c "echo $HOME"', "has a $ that is for a shell"),
    ('a "\\$HOME"', 'a "\\\\"', "has a $ that is for a shell"),
    ("sh -c 'a' > b", "sh -c 'a > b'", "has a > that is for a shell"),
    ("a `b`", "a '`b`'", "has a ` that is for a shell"),
    ("a *.css", "a '*.css'", "has a * that is for a shell"),
    ("a b?", "a 'b?'", "has a ? that is for a shell"),
    ("a [bc]", "a '[bc]'", "has a [ that is for a shell"),
    ("a ~/b", "a b~/c", "has a ~ that is for a shell"),
    ("a # b", "a#b", "has a # that is for a shell"),
    ("A=b c", "c A=b", "sets a variable as a shell does, and no shell runs it; put A into app_server_environment"),
    ("cd a", "sh -c 'cd a'", "begins with 'cd', which is a shell's"),
    (". a", "./a", "begins with '.', which is a shell's"),
    ("export A", "exports A", "begins with 'export'"),
    ("-a", "a -a", "begins with '-'"),
]  # fmt: skip


@pytest.mark.parametrize(("refused", "neighbour", "words"), COMMANDS)
@pytest.mark.parametrize(
    ("place", "inputs"),
    [
        *((name, lambda text, name=name: {name: text}) for name in ("static_command", "migrate_command", "notify_command")),
        ("migrate_command[1]", lambda text: {"migrate_command": ["true", text]}),
        ("jobs[1].command", lambda text: job(command=text)),
    ],
)  # fmt: skip
def test_a_command_that_would_mean_something_else_is_refused(place, inputs, refused, neighbour, words):
    (found,) = faults(**inputs(refused))
    assert found.startswith(f"app_server_{place}: ") and words in found
    assert faults(**inputs(neighbour)) == []


def test_a_command_is_a_string_or_a_list_of_strings():
    assert faults(static_command=[], migrate_command=["a", "b"], notify_command="") == []
    (found,) = faults(static_command=["a", 5])
    assert found == "app_server_static_command[1]: must be a string, or a list of strings"
    for wrong in (5, {"a": "b"}, True):
        assert faults(static_command=wrong) == ["app_server_static_command: must be a string, or a list of strings"]


@pytest.mark.parametrize(("command", "said"), [
    ("python -m shop.mails --to=a@b.example", "python -m shop.mails --to=a@b.example"),
    ("a 'b c' \"d\" e\\ f ''", 'a "b c" d "e f" ""'),
    ("a '$HOME' 100% '%n'", 'a "$$HOME" "100%%" "%%n"'),
    ("a ';' '\\' '\"'", 'a ";" "\\\\" "\\""'),
])  # fmt: skip
def test_a_unit_gets_the_words_of_a_command_whatever_they_are(command, said):
    assert plugin.unit_words(command) == said


NUMBERS = [
    *(
        ({name: least - 1}, {name: least}, name, f"{least - 1} is not possible; it must be at least {least}")
        for name, least in {
            "processes": 0, "watch_seconds": 0, "warm_seconds": 0, "disk_mb": 0, "threads": 1, "request_seconds": 1,
            "health_seconds": 1, "health_answer_seconds": 1, "keep_releases": 2, "worker_memory_mb": 32,
        }.items()
    ),
    ({"threads": "0"}, {"threads": "1"}, "threads", "at least 1"),
    ({"listen_backlog": 0}, {"listen_backlog": 1}, "listen_backlog", "from 1 to 65535"),
    ({"listen_backlog": "65536"}, {"listen_backlog": "65535"}, "listen_backlog", "from 1 to 65535"),
    ({"processes": 17}, {"processes": 16}, "processes", "17 workers of 256 MiB do not fit into the host's 4096 MiB"),
    ({"processes": "4", "worker_memory_mb": "1025"}, {"processes": "4", "worker_memory_mb": "1024"}, "processes", "4 workers of 1025 MiB do not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("refused", "neighbour", "path", "words"), [*CODE, *ENVIRONMENT, *SERVER, *JOBS, *NUMBERS])
def test_a_value_is_refused_by_its_place_and_its_neighbour_is_not(refused, neighbour, path, words):
    found = faults(**refused)
    assert len(found) == 1, found
    assert found[0].startswith(f"app_server_{path}: "), found
    assert words in found[0], found
    assert faults(**neighbour) == []


@pytest.mark.parametrize("name", [name for name, value in GOOD.items() if isinstance(value, str)])
def test_a_text_without_a_value_is_refused(name):
    """The spec takes it for a text, and the host would be told None."""
    inputs = {**GOOD, name: None, "app_server_threads": 0}
    assert app_server_faults(inputs, {}, LOGIN) == [f"{name}: has no value; remove the line, or give it one"]


def test_all_faults_are_said_at_once():
    found = faults(name="mysql", entry="a b", environment={"A B": 5}, jobs=[{"name": "A", "command": "$"}], threads=0)
    assert [fault.split(": ")[0] for fault in found] == [
        "app_server_name",
        "app_server_entry",
        "app_server_environment.A B",
        "app_server_environment.A B",
        "app_server_jobs[0].name",
        "app_server_jobs[0].command",
        "app_server_threads",
    ]


def test_no_secret_is_said():
    of_a_url = "hunter2"
    found = faults(
        secrets={"A B": SECRET, "PATH": SECRET, "TOKEN": SECRET},
        environment={"TOKEN": SECRET, "URL": f"{SECRET}\n", "LIST": [SECRET]},
        build_environment={"PIP_INDEX_URL": f"{SECRET}\n"},
    )
    for repository in (f"https://u:{of_a_url}@h/x", f"https//u:{of_a_url}@h/x", f"http://u:{of_a_url}@h/x"):
        found += faults(repository=repository) + faults(repository=repository, push=True)
    assert len(found) >= 12
    assert not [fault for fault in found if SECRET in fault or of_a_url in fault]


def test_a_message_is_one_short_line():
    (fault,) = faults(socket_group="a\n" * 200)
    assert "\n" not in fault
    assert len(fault) < 250
