"""What would refuse an application on a host that is in use, asked first: with a real shell, and real git."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from loading import load

action = load("plugins/action/app_preflight.py")
users_action = load("plugins/action/app_users.py")

USERS = ["shop", "shop-build", "shop-fetch"]
DECLARED = "https://git.example.com/shop.git main 0123"
OURS = [f"{name}:x:{100 + number}:{200 + number}::/nonexistent:/usr/sbin/nologin" for number, name in enumerate(USERS)]
GROUPS = [f"{name}:x:{200 + number}:" for number, name in enumerate(USERS)]
LIVE = "20260101000000-c0ffee"
ROUTED = {"HTTPS_PROXY": "http://proxy.example.com"}


class Host:
    """A host whose files are below a folder, and whose users are in its etc/passwd and etc/group."""

    def __init__(self, root: Path) -> None:
        self.root, self.commands = root, []
        self.have("/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        self.have("/etc/group", "root:x:0:\naudio:x:29:\n")

    def have(self, path: str, text: str = "") -> None:
        place = Path(f"{self.root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def have_users(self, users: list[str] = OURS, groups: list[str] = GROUPS) -> None:
        self.have("/etc/passwd", "root:x:0:0::/root:/bin/sh\n" + "".join(f"{line}\n" for line in users))
        self.have("/etc/group", "audio:x:29:\n" + "".join(f"{line}\n" for line in groups))

    def have_release(self, declared: str = DECLARED, name: str = LIVE) -> None:
        self.have(f"/var/lib/shop/releases/{name}.json", json.dumps({"commit": "c0ffee", "declared": declared}))
        current = Path(f"{self.root}/srv/shop/current")
        current.parent.mkdir(parents=True, exist_ok=True)
        current.unlink(missing_ok=True)
        current.symlink_to(f"releases/{name}")

    def execute(self, shell: str, in_data: bytes) -> dict[str, Any]:
        assert shell == "sh"
        command = in_data.decode()
        self.commands.append(command)
        moved = re.sub(
            r"(?<![\w.$}/])/(etc|srv|run|var|usr/(local/)?lib/systemd|usr/bin)/", rf"{self.root}/\1/", command
        )
        done = subprocess.run(["sh", "-c", moved], capture_output=True, text=True, check=False)
        # Without the folder, the host's answer names its own paths.
        return {"rc": done.returncode, "stdout": done.stdout.replace(str(self.root), ""), "stderr": done.stderr}


@pytest.fixture
def host(tmp_path: Path, command: Callable[[str, str], Path]) -> Host:
    root = tmp_path / "host"
    # As getent does: the entries of those that there are.
    command("getent", f'base=$1; shift; for name; do grep "^$name:" "{root}/etc/$base"; done')
    return Host(root)


@pytest.fixture
def ask(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})

    def run(task_vars: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        app = changes.get("app", "shop")
        args = {
            "app": app, "users": [app, f"{app}-build", f"{app}-fetch"], "repository": "https://git.example.com/shop.git",
            "version": "main", "ref": "", "groups": [], "declared": DECLARED, "code": True, "push": False, "signers": [],
            "key": "", "packages": [], "shared_storage": False, "known_hosts": [], "environment": ROUTED, "before": {},
            **changes,
        }  # fmt: skip
        plugin = action.ActionModule.__new__(action.ActionModule)
        plugin.validate_argument_spec = lambda argument_spec: (None, args)
        plugin._low_level_execute_command = host.execute
        plugin._find_needle = lambda folder, path: path
        plugin._loader = SimpleNamespace(get_text_file_contents=lambda path: Path(path).read_text())
        answer = plugin.run(task_vars=task_vars or {})
        host.apps = answer.pop("apps")
        return answer | host.apps[app]

    return run


def test_a_bare_host_takes_any_name_and_is_asked_once(host, ask):
    assert ask(code=False) == {"changed": False, "users_due": True, "left": [], "ships": False}
    assert len(host.commands) == 1


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/etc/shop/their.conf", "/etc/shop"),
        ("/srv/shop/index.html", "/srv/shop"),
        ("/run/shop/socket", "/run/shop"),
        ("/var/lib/shop/data", "/var/lib/shop"),
        ("/srv/shop", "/srv/shop"),
        ("/etc/systemd/system/shop@.service", "/etc/systemd/system/shop@.service"),
        ("/etc/tmpfiles.d/webstack-shop.conf", "/etc/tmpfiles.d/webstack-shop.conf"),
    ],
)
def test_what_somebody_else_has_under_the_name_is_refused_by_its_path(host, ask, path, named):
    host.have(path)
    with pytest.raises(AnsibleActionFail, match=f"'shop' will not do, because {named} on this host is somebody else's"):
        ask()


def test_all_of_it_is_named_at_once(host, ask):
    host.have("/etc/shop/their.conf")
    host.have("/srv/shop/index.html")
    with pytest.raises(AnsibleActionFail, match="because /etc/shop, /srv/shop on this host is somebody else's"):
        ask()


def test_shared_storage_must_be_mounted_and_may_be_before_the_first_run(host, ask, command):
    command("mountpoint", "exit 1")
    host.have("/srv/shop/shared/media/x")
    with pytest.raises(AnsibleActionFail, match="/srv/shop on this host is somebody else's") as refusal:
        ask(shared_storage=True)
    assert "nothing is mounted on /srv/shop/shared of this host" in str(refusal.value)
    command("mountpoint", f'[ "$2" = {host.root}/srv/shop/shared ]')
    assert ask(shared_storage=True)["users_due"]


def test_an_empty_folder_or_disk_is_nobodys(host, ask):
    Path(f"{host.root}/etc/shop").mkdir()
    host.have("/srv/shop/lost+found/x")
    assert ask()["users_due"]


def test_a_host_that_the_role_has_made_keeps_its_application(host, ask):
    for path in ("/etc/shop/release.json", "/srv/shop/releases/x", "/run/shop/live.sock", "/etc/systemd/system/shop@.service"):  # fmt: skip
        host.have(path)
    host.have_users()
    assert not ask()["users_due"]


def test_a_host_of_a_version_with_fewer_users_does_too(host, ask):
    host.have("/etc/shop/release.json")
    host.have_users(OURS[:1], GROUPS[:1])
    assert ask()["users_due"]


def test_an_account_that_was_removed_is_made_again_where_the_roles_settings_are(host, ask):
    for path in ("/etc/shop/release.json", "/srv/shop/releases/x"):
        host.have(path)
    assert ask()["users_due"]


def test_a_run_that_was_killed_between_two_users_goes_on(host, ask):
    host.have_users(OURS[1:], GROUPS[1:])
    assert ask()["users_due"]


@pytest.mark.parametrize(
    ("users", "groups", "words"),
    [
        (["shop:x:1:1::/home/shop:/bin/bash"], [], r"a user shop who is somebody else's \(home /home/shop, shell /bin/bash\)"),
        (["shop-fetch:x:1:1::/:/bin/sh"], [], "a user shop-fetch who is somebody else's"),
        (OURS[:1], GROUPS[:1], "a user shop who is somebody else's"),
        ([], ["shop:x:7:"], "a group shop and no user of that name"),
    ],
    ids=["account", "one who works for it", "daemon", "group"],
)  # fmt: skip
def test_a_name_that_is_somebody_elses_is_refused(host, ask, users, groups, words):
    host.have_users(users, groups)
    with pytest.raises(AnsibleActionFail, match=words):
        ask()


@pytest.mark.parametrize(
    "unit",
    [
        "/usr/lib/systemd/system/shop@.service", "/usr/local/lib/systemd/system/shop@.service",
        "/usr/lib/systemd/system/shop-job-mails.service", "/etc/systemd/system/shop-deploy.service",
        "/usr/lib/systemd/system/shop-cool.timer",
    ],
)  # fmt: skip
def test_a_unit_of_the_name_is_refused_whoever_has_the_user(host, ask, unit):
    host.have(unit)
    host.have_users()
    with pytest.raises(AnsibleActionFail, match=f"because {unit} is part of the system"):
        ask()


@pytest.mark.parametrize("name", ["getty", "wg-quick", "systemd-fsck", "security", "skel", "postgresql"])
def test_a_name_of_debians_is_refused_before_its_package_is_there(host, ask, name):
    with pytest.raises(AnsibleActionFail, match=f"'{name}' will not do, because .*{name}.* is part of the system"):
        ask(app=name)


@pytest.mark.parametrize("name", ["legacy", "tmp", "debian", "x11", "home", "var"])
def test_a_name_of_a_tmpfiles_file_of_debians_is_free(ask, name):
    assert ask(app=name)["users_due"]


def test_a_host_that_does_not_answer_is_refused(host, ask, command):
    command("find", "kill -9 $PPID")
    host.have("/srv/shop/x")
    with pytest.raises(AnsibleActionFail, match="could not be asked what it has of shop; nothing was changed"):
        ask()


def test_what_is_no_longer_declared_is_told_and_what_others_made_is_not(host, ask):
    host.have_users()
    host.have("/etc/shop/release.json")
    host.have("/etc/shop/deploy_key")
    host.have("/etc/tmpfiles.d/shop.conf", "L+ /run/shop/live.sock  - - - - /var/lib/shop/live.sock\n")
    assert ask()["left"] == ["/etc/tmpfiles.d/shop.conf", "/etc/shop/deploy_key"]
    assert ask(key=str(host.root / "etc/passwd"))["left"] == ["/etc/tmpfiles.d/shop.conf"]
    host.have("/etc/tmpfiles.d/shop.conf", "d /run/theirs\n")
    assert ask(key=str(host.root / "etc/passwd"))["left"] == []


# The git host


@pytest.fixture
def git_host() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_git_host_that_accepts_is_enough(host, ask, git_host):
    assert ask(environment={}, repository=f"https://127.0.0.1:{git_host}/shop.git")["ships"]
    assert ask(environment={}, repository=f"ssh://git@127.0.0.1:{git_host}/shop.git")["ships"]


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("https://127.0.0.1:1/shop.git", "does not reach 127.0.0.1, port 1: .*Connection refused"),
        ("ssh://git@no-such-host.invalid/shop", r"does not reach no-such-host.invalid, port 22: \S"),
        ("git@no-such-host.invalid:shop", "does not reach no-such-host.invalid, port 22: "),
    ],
)
def test_a_git_host_out_of_reach_is_refused_where_something_is_to_be_shipped(host, ask, repository, words):
    with pytest.raises(AnsibleActionFail, match=words):
        ask(environment={}, repository=repository)
    host.have_users()
    host.have_release("another declaration")
    with pytest.raises(AnsibleActionFail, match=words):
        ask(environment={}, repository=repository)


def test_a_converged_host_does_not_need_its_git_host(host, ask):
    host.have_users()
    host.have_release()
    assert not ask(environment={}, repository="https://127.0.0.1:1/shop.git")["ships"]
    assert len(host.commands) == 1
    with pytest.raises(AnsibleActionFail, match="does not reach"):
        ask(environment={}, repository="https://127.0.0.1:1/shop.git", ref="v2")


@pytest.mark.parametrize("push", [True, False])
def test_a_play_that_ships_no_code_needs_no_repository(ask, push):
    repository = "/nowhere" if push else "https://127.0.0.1:1/shop.git"
    assert not ask(environment={}, push=push, repository=repository, code=False)["ships"]
    with pytest.raises(AnsibleActionFail):
        ask(environment={}, push=push, repository=repository)


def test_nor_does_one_that_was_rolled_back_from_what_is_declared(host, ask):
    host.have_users()
    host.have_release(DECLARED, "20260102000000-bad")
    host.have_release("before", "20260101000000-good")
    host.have("/var/lib/shop/releases/20260102000000-bad.rejected")
    assert not ask(environment={}, repository="https://127.0.0.1:1/shop.git")["ships"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/gitconfig", '[url "https://mirror/"]\n  insteadOf = https://127.0.0.1:1/\n'),
        ("/etc/ssh/ssh_config.d/jump.conf", "Host git\n  ProxyJump gate\n"),
    ],
)
def test_where_the_host_has_its_own_way_a_connection_proves_nothing(host, ask, path, text):
    repository = "https://127.0.0.1:1/shop.git"
    host.have(path, text)
    assert ask(environment={}, repository=repository)["ships"]
    host.have(path, "#   ProxyCommand ssh -q -W %h:%p gateway\n")
    with pytest.raises(AnsibleActionFail, match="does not reach"):
        ask(environment={}, repository=repository)
    assert ask(environment=ROUTED, repository=repository)["ships"]


# The repository behind it, where the host has git


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(folder))
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    return folder


def git(folder: Path, *argv: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", folder, *identity, *argv], check=True)


@pytest.fixture
def on_git_host(host: Host, clone: Path, ask: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Asks for `clone`. No connection is asked for, since the environment leads another way."""
    for program in ("git", "ssh"):
        host.have(f"/usr/bin/{program}")
        (host.root / "usr/bin" / program).chmod(0o755)
    host.have("/run/x")
    return lambda **changes: ask(**{"repository": f"file://{clone}", **changes})


def test_a_repository_is_asked_for_what_will_be_fetched(host, on_git_host, clone):
    git(clone, "tag", "-a", "-m", "one", "v1")
    git(clone, "branch", "v1")
    git(clone, "tag", "c0ffee1")
    for version in ("main", "v1", "c0ffee1", "0123456789abcdef0123456789abcdef01234567", "abcdef0"):
        assert on_git_host(version=version)["ships"]
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "second")
    git(clone, "branch", "--force", "v1", "main")
    with pytest.raises(
        AnsibleActionFail, match=r"app_server_version: 'v1' is ambiguous: the branch is \w+, the tag is \w+"
    ):
        on_git_host(version="v1")
    with pytest.raises(AnsibleActionFail, match=r"app_server_ref: 'mian' is no branch, tag or commit of file://"):
        on_git_host(ref="mian")
    assert [path.name for path in (host.root / "run").iterdir()] == ["x"]


def test_a_repository_that_is_not_there_is_named(host, on_git_host):
    with pytest.raises(AnsibleActionFail, match="app_server_repository:  has no file:///nowhere, or does not show it"):
        on_git_host(repository="file:///nowhere")
    assert [path.name for path in (host.root / "run").iterdir()] == ["x"]


def test_it_is_not_asked_where_nothing_is_shipped(host, on_git_host):
    host.have_users()
    host.have_release()
    assert not on_git_host(repository="file:///nowhere")["ships"] and len(host.commands) == 1


def test_an_answer_holds_those_of_other_applications(host, on_git_host):
    on_git_host(before={"blog": {"users_due": True}})
    assert host.apps["blog"] == {"users_due": True} and host.apps["shop"]["ships"]


def test_git_gets_the_environment_and_the_key_by_files_that_go_again(host, on_git_host, command, tmp_path):
    """In a shell of its own, which has nothing else of the host's environment."""
    seen = tmp_path / "seen"
    command("git", f'{{ env; cat key known_hosts; stat -c "%a %n" . *; }} > {seen}; exit 1')
    key = tmp_path / "deploy_key"
    key.write_text("a 'secret' key\n")
    programs = command("true", "")
    environment = {
        **ROUTED,
        "PATH": f"{programs.parent}:/usr/bin:/bin",
        "GIT_SSL_CAINFO": "a 'path'",
        "GIT_SSH_COMMAND": "no",
    }
    with pytest.raises(AnsibleActionFail):
        on_git_host(key=str(key), known_hosts=["git ssh-ed25519 AAAA"], environment=environment)
    said = seen.read_text()
    assert "a 'secret' key\n\ngit ssh-ed25519 AAAA\n" in said
    assert "GIT_SSL_CAINFO=a 'path'\n" in said and "HTTPS_PROXY=" in said
    assert "PYTEST" not in said and "GIT_SSH_COMMAND=no" not in said
    assert "700 .\n600 ask\n600 key\n600 known_hosts\n" in said
    assert [path.name for path in (host.root / "run").iterdir()] == ["x"]


THERE = "ssh://git@git.example.com/shop"
KNOWN = {
    "Host key verification failed.\r\nfatal: Could not read from remote repository.\n\nPlease make sure": "app_server_known_hosts: git.example.com shows a key",
    "git@git.example.com: Permission denied (publickey).\r\nfatal: Could not read from remote repository.":
        "app_server_deploy_key_file: git.example.com does not let this key in",
    "ERROR: Permission to a/b.git denied to deploy key": "app_server_deploy_key_file: ",
    "ERROR: Repository not found.\nfatal: Could not read from remote repository.": f"app_server_repository: git.example.com has no {THERE}",
    "remote: The project you were looking for could not be found or you don't have permission to view it.":
        f"app_server_repository: git.example.com has no {THERE}",
    "fatal: '/home/git/shop' does not appear to be a git repository": f"app_server_repository: git.example.com has no {THERE}",
    "sh: 1: git-upload-pack: command not found": f"app_server_repository: the host cannot read {THERE}",
    "fatal: unable to access 'https://x/': SSL certificate problem: self-signed": f"the host cannot read {THERE}: fatal: unable to access 'https://x/': SSL",
    "": f"the host cannot read {THERE}: exit code 128",
}  # fmt: skip


@pytest.mark.parametrize("said", KNOWN)
def test_what_a_git_host_says_is_told_by_the_input_that_it_is_about(said):
    (fault,) = git_host_question(THERE).faults({"rc": 128, "stdout": "", "stderr": said}, "app_server_version")
    assert KNOWN[said] in fault and "\r" not in fault and not fault.endswith("repository.")


def test_over_https_no_key_helps_and_no_password_is_told():
    said = "fatal: could not read Username for 'https://u:hunter2@git.example.com': terminal prompts disabled"
    (fault,) = git_host_question("https://git.example.com/shop").faults({"rc": 128, "stdout": "", "stderr": said}, "")
    assert "app_server_repository: git.example.com wants a password" in fault and "hunter2" not in fault


def test_a_git_host_that_says_nothing_is_not_waited_for():
    (fault,) = git_host_question("git@git.example.com:shop").faults({"rc": 4, "stdout": "", "stderr": ""}, "")
    assert "git.example.com did not say within 15 s" in fault


def git_host_question(repository: str) -> Any:
    return action.Question(app="shop", repository=repository, version="main")


# Groups


def test_a_group_that_nothing_brings_is_refused_first(host, ask, command):
    command("dpkg-query", "echo installed redis-server; echo not-installed redis-tools")
    assert ask(groups=["audio"])["users_due"]
    for packages, words in ((["redis-server"], "none has made it"), ([], "app_server_packages is empty")):
        with pytest.raises(
            AnsibleActionFail, match=f"app_server_groups: there is no group 'redis' on this host, .*{words}"
        ):
            ask(groups=["audio", "redis"], packages=packages)
    assert ask(groups=["redis"], packages=["redis-server", "redis-tools"])["users_due"]


# The controller's clone


@pytest.mark.parametrize("version", ["HEAD", "origin/main", "no-such-branch", "both", 40 * "1"])
def test_a_name_that_a_push_would_refuse_is_refused_first(ask, clone, version):
    git(clone, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(clone, "tag", "both")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "second")
    git(clone, "branch", "both")
    assert ask(push=True, repository=str(clone))["ships"]
    with pytest.raises(AnsibleActionFail, match=f"app_server_version: '{version}' names no commit, or more than one"):
        ask(push=True, repository=str(clone), version=version)


def test_what_is_shipped_instead_is_named_as_such(ask, clone):
    with pytest.raises(AnsibleActionFail, match="app_server_ref: 'v9' names no commit, or more than one"):
        ask(push=True, repository=str(clone), ref="v9")


def test_a_clone_that_is_not_there_is_named(ask):
    with pytest.raises(AnsibleActionFail, match=r"clone /nowhere \(app_server_repository\): git rev-parse in /nowhere"):
        ask(push=True, repository="/nowhere")


def test_a_commit_that_nobody_signed_is_refused_where_it_would_be_sent(host, ask, clone):
    signers = ["ann@example.com ssh-ed25519 AAAA"]
    with pytest.raises(
        AnsibleActionFail, match=r"'main' cannot be sent: commit .* is signed by none of app_server_signers"
    ):
        ask(push=True, repository=str(clone), signers=signers)
    host.have_users()
    host.have_release()
    assert not ask(push=True, repository=str(clone), signers=signers)["ships"]


def test_a_submodule_that_is_not_there_is_named(ask, clone, tmp_path):
    git(tmp_path, "clone", "--quiet", str(clone), "part")
    git(clone, "submodule", "--quiet", "add", str(tmp_path / "part"), "lib/part")
    git(clone, "commit", "--quiet", "--message", "with a part")
    assert ask(push=True, repository=str(clone))["ships"]
    git(clone, "submodule", "--quiet", "deinit", "--force", "lib/part")
    with pytest.raises(AnsibleActionFail, match="the submodule lib/part is not checked out"):
        ask(push=True, repository=str(clone))


def test_all_faults_are_said_at_once(host, ask):
    host.have("/etc/shop/their.conf")
    with pytest.raises(AnsibleActionFail, match=r"(?s)- app_server_name: .*- app_server_version: "):
        ask(push=True, repository="/nowhere")


# The users


@pytest.fixture
def have_users(host: Host, command: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(users_action.ActionBase, "run", lambda *_args, **_options: {})
    for name in ("useradd", "usermod", "groupadd"):
        command(name, f'echo "{name} $*" >> {host.root}/made\n')

    def run(check_mode: bool = False, groups: tuple[str, ...] = ()) -> dict[str, Any]:
        plugin = users_action.ActionModule.__new__(users_action.ActionModule)
        plugin._task = SimpleNamespace(check_mode=check_mode)
        plugin.validate_argument_spec = lambda argument_spec: (None, {"users": USERS, "groups": list(groups)})
        plugin._low_level_execute_command = host.execute
        return plugin.run(task_vars={})

    return run


def made(host: Host) -> list[str]:
    path = host.root / "made"
    return path.read_text().splitlines() if path.exists() else []


def test_the_users_own_name_is_made_last(host, have_users):
    """A run that is killed in between leaves no host that looks like somebody else's."""
    assert have_users()["changed"]
    assert [line.split()[-1] for line in made(host)] == ["shop-fetch", "shop-build", "shop"]


def test_those_that_are_there_stay_and_check_mode_makes_none(host, have_users):
    host.have_users(OURS[:2], GROUPS[:2])
    assert have_users(check_mode=True) == {"changed": True, "made": ["shop-fetch"], "mended": []}
    assert made(host) == []
    host.have_users()
    assert not have_users()["changed"] and made(host) == []


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        ([*GROUPS, "sudo:x:27:ann,shop"], ["usermod --gid shop --groups  shop"]),
        ([*GROUPS, "docker:x:27:shop-build,bob"], ["usermod --gid shop-build --groups  shop-build"]),
        (["shop:x:999:", *GROUPS[1:]], ["usermod --gid shop --groups  shop"]),
        (GROUPS[1:], ["groupadd --system shop", "usermod --gid shop --groups  shop"]),
        ([*GROUPS, "shops:x:9:shop-buildings,a-shop,www-data"], []),
        (["shop:x:200:www-data", *GROUPS[1:]], []),
    ],
    ids=["into another", "who builds", "another first one", "its own is gone", "others' names", "others in ours"],
)
def test_a_user_is_in_its_own_group_and_in_no_other(host, ask, have_users, groups, wanted):
    host.have_users(OURS, groups)
    assert ask()["users_due"] == bool(wanted)
    assert have_users(check_mode=True)["changed"] == bool(wanted) and made(host) == []
    assert have_users()["changed"] == bool(wanted) and made(host) == wanted


def test_the_groups_that_are_declared_are_the_users_own_alone(host, ask, have_users):
    have_users(groups=("audio", "redis"))
    assert made(host)[-1].endswith("--groups audio,redis shop") and "--groups" not in "".join(made(host)[:-1])
    host.have_users(OURS, [*GROUPS, "redis:x:9:shop", "video:x:8:"])
    assert not ask(groups=["redis"])["users_due"] and not have_users(groups=("redis",))["changed"]
    for wanted in (["video"], ["redis", "video"], []):
        assert ask(groups=wanted)["users_due"] and have_users(groups=tuple(wanted))["mended"] == ["shop"]
        assert made(host)[-1] == f"usermod --gid shop --groups {','.join(wanted)} shop"


def test_a_user_that_cannot_be_made_is_named(host, have_users, command):
    command("useradd", "echo no room >&2; exit 1")
    with pytest.raises(AnsibleActionFail, match="user shop-fetch could not be made or mended: no room"):
        have_users()
