# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role app_server refuses beyond its argument spec: faults that would show late on the host, or never.

Values have the right type when they come here, or read as such: `5` for a name, `"80"` for a number.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.commits import NAME as REF
from ansible_collections.foobar.webstack.plugins.module_utils.faults import CONTROL, shown
from ansible_collections.foobar.webstack.plugins.plugin_utils.formats import APPLICATION, VARIABLE, least_faults

Inputs = dict[str, Any]
Faults = Iterator[str]

# Folders, users and units are named after the application, so these names would clash on every host. app_preflight asks
# the host for other clashes.
SYSTEM = (
    "apt", "cron", "default", "dpkg", "lock", "mariadb", "mysql", "mysqld", "nginx", "root", "ssh", "ssl", "systemd",
    "uwsgi", "webstack", "www-data",
)  # fmt: skip
# A unit shop-job-* counts as a job of application `shop`, and is removed unless declared.
UNIT_OF_JOB = re.compile(r"-job(-|$)")
# Users that build and fetch an application (__app_server_users); they run none.
OTHER_USER = re.compile(r"(.+)-(build|fetch)")

CREDENTIALS = re.compile(r"://[^/]*:[^/]*@|\Ahttps://[^/]*@")
CLONE = re.compile(r"/[^\n]+")
REPOSITORY = re.compile(r"(https://|ssh://|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:)[A-Za-z0-9._~:/@+%-]+")

MODULE = re.compile(r"(?!.*\.\.)[A-Za-z_][A-Za-z0-9_.]*(:[A-Za-z_][A-Za-z0-9_]*(\(\))?)?")
RELATIVE = re.compile(r"(?!/)(?!.*\.\.)[./]*[A-Za-z0-9_:-][A-Za-z0-9_./:-]*")
PROJECT = re.compile(r"\.(\[[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)*\])?")
# A name, extras and versions; no option, no address, no file.
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?( ?(===|[=<>!~]=|[<>]) ?[A-Za-z0-9.*+!_-]+,?)*")
RELATIVE_OR_NONE = re.compile(f"({RELATIVE.pattern})?")
RELATIVE_FORM = "a path that is relative to the repository and below its top, without '..'"
GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# The format of each text, and below of each item of a list.
TEXTS = {
    "app_server_version": (REF, "the name of a branch, a tag or a commit"),
    "app_server_ref": (re.compile(f"({REF.pattern})?"), "the name of a branch, a tag or a commit"),
    "app_server_static": (RELATIVE_OR_NONE, RELATIVE_FORM),
    "app_server_folder": (
        re.compile(r"((?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?)?"),
        "a folder of the repository such as backend or services/shop",
    ),
    "app_server_health_path": (
        re.compile(r"/[A-Za-z0-9_./~-]*(\?[A-Za-z0-9_./~=&%+,:@-]*)?"),
        "a path such as /healthz, or /healthz?full=1",
    ),
    "app_server_public_url": (
        re.compile(r"(https?://[A-Za-z0-9.-]+(:[0-9]+)?)?"),
        "an address such as https://www.example.com",
    ),
    "app_server_socket_group": (GROUP, "the name of a group"),
}
ITEMS = {
    "app_server_known_hosts": (
        re.compile(r"[^\n]+ (ssh|ecdsa|sk)-[^\n]+"),
        "one line of ssh's known_hosts, such as 'git.example.com ssh-ed25519 AAAA…'",
    ),
    "app_server_signers": (
        re.compile(r"[^\n ]+ [^\n]*(ssh|ecdsa|sk)-[^\n]+"),
        "one line of ssh's allowed_signers, such as 'ann@example.com ssh-ed25519 AAAA…'",
    ),
    "app_server_groups": (GROUP, "the name of a group"),
    "app_server_pip_packages": (PACKAGE, "a package in pip's words, such as PyMySQL==1.1.1"),
    "app_server_shared_files": (
        re.compile(r"(?!.*\.\.)(?!\.(git|venv)$)\.?[A-Za-z0-9_-][A-Za-z0-9_.-]*"),
        "a file at the top of the repository, such as 'settings.local', of letters, digits and '_.-', and not .git or .venv",
    ),
    "app_server_readable_paths": (
        re.compile(r"(?!.*\.\.)/srv/[A-Za-z0-9_-][A-Za-z0-9_./-]*"),
        "a folder below /srv, without '..'; elsewhere the application may read what everybody may",
    ),
    "app_server_writable_paths": (
        re.compile(r"(?!.*\.\.)/[./]*[A-Za-z0-9_-][A-Za-z0-9_./-]*"),
        "an absolute path below / of letters, digits and '_./-', without '..'",
    ),
    "app_server_shared": (
        re.compile(r"(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*"),
        "a folder of the repository, such as media or var/uploads, without '..'",
    ),
}

SET_BY_ROLE = ("APP_RELEASE", "RELEASE", "SLOT", "SETTINGS", "FILES", "PATH")
PHP_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
OPTION = re.compile(r"[a-z0-9-]+")
# uWSGI replaces $(…) by an environment variable, and @(…) by the content of a file or URL, or a command's output.
OPTION_EXPANDS = re.compile(r"[\n\r]|\$\(|@\(")

JOB = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
# Each may be a list of commands, which run one after the other; a job has a single command.
COMMANDS = ("app_server_static_command", "app_server_migrate_command", "app_server_notify_command")
SHELLS = ("sh", "bash", "dash")
ASSIGNMENT = re.compile(r".*=.*", re.DOTALL)  # commands run by `env`, which would take such a word for a variable
BUILTINS = (
    ".", "alias", "cd", "eval", "exec", "export", "for", "if", "pushd", "set", "source", "umask", "unset", "while",
)  # fmt: skip
# Characters that a shell would interpret outside of quotes, each with what to write instead.
SEVERAL = "write a list of commands, which run one after the other"
IN_A_SHELL = "write sh -c '…' around what is for a shell"
MEANT = {
    "&": SEVERAL, ";": SEVERAL, "|": IN_A_SHELL, ">": IN_A_SHELL, "<": IN_A_SHELL, "(": IN_A_SHELL, ")": IN_A_SHELL,
    "`": IN_A_SHELL, "$": IN_A_SHELL, "*": IN_A_SHELL, "?": IN_A_SHELL, "[": IN_A_SHELL,
}  # fmt: skip
ONE_PROCESS = "a job is one process: write a job for each, or a script of the repository"
# Words that need no quotes in a unit file. A lone `;` does: systemd separates commands by it.
PLAIN_WORD = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
SCHEDULE = re.compile(r"[A-Za-z0-9 :*/.,~-]*")

LEAST = {
    "app_server_disk_mb": 0,
    "app_server_health_answer_seconds": 1,
    "app_server_health_seconds": 1,
    "app_server_migrate_seconds": 1,
    "app_server_keep_releases": 2,  # the live one, and one to roll back to
    "app_server_processes": 0,
    "app_server_request_seconds": 1,
    "app_server_threads": 1,
    "app_server_warm_seconds": 0,
    "app_server_watch_seconds": 0,
    "app_server_worker_memory_mb": 32,
}


def app_server_faults(inputs: Inputs, facts: dict[str, Any], login: str = "") -> list[str]:
    """Every fault in the role's inputs, each as `path.of.the[0].value: what is wrong and what is allowed`.

    `login` is the user who logs in on the host. No fault says a secret.
    """
    # A spec accepts null for a text and sets no default: the host would get the text None.
    nulls = [name for name, value in inputs.items() if value is None]
    if nulls:
        return [f"{name}: has no value; remove the line, or give it one" for name in nulls]
    return [
        *_name_faults(str(inputs["app_server_name"]), login),
        *_repository_faults(inputs),
        *_text_faults(inputs),
        *_command_faults(inputs),
        *_published_faults(inputs),
        *_environment_faults(inputs),
        *_option_faults(inputs["app_server_uwsgi_options"]),
        *_php_faults(inputs["app_server_php_settings"]),
        *_job_faults(inputs["app_server_jobs"]),
        *_number_faults(inputs),
        *_memory_faults(inputs, facts),
    ]


def _name_faults(name: str, login: str) -> Faults:
    if not APPLICATION.fullmatch(name):
        yield (
            f"app_server_name: '{shown(name)}' is not a name of 1 to 25 lower case letters, digits and '-', "
            "a letter first"
        )
    if name == login:
        yield f"app_server_name: '{shown(name)}' is the user who logs in on this host"
    if name in SYSTEM or UNIT_OF_JOB.search(name):
        yield f"app_server_name: '{shown(name)}' is the name of a part of the system"
    other = OTHER_USER.fullmatch(name)
    if other:
        yield (
            f"app_server_name: '{shown(name)}' would be a user of the application '{shown(other[1])}' too; no name "
            "ends in -build or -fetch"
        )


def _repository_faults(inputs: Inputs) -> Faults:
    """What is wrong with the repository. No fault shows its URL: a password may be anywhere in it."""
    repository = str(inputs["app_server_repository"])
    if CREDENTIALS.search(repository):
        yield (
            "app_server_repository: carries a user or a password; use a deploy key (app_server_deploy_key_file) or "
            "app_server_push instead"
        )
    if inputs["app_server_push"]:
        if not CLONE.fullmatch(repository):
            yield "app_server_repository: with app_server_push it is the absolute path of a clone on the controller"
    elif not REPOSITORY.fullmatch(repository):
        yield (
            "app_server_repository: must be https://…, ssh://… or user@host:path (a path on the controller needs "
            "app_server_push: true)"
        )
    elif not repository.startswith("https://"):
        for name in ("app_server_deploy_key_file", "app_server_known_hosts"):
            if not inputs[name]:
                yield f"{name}: empty; app_server_repository is reached over ssh, which needs it"


def _text_faults(inputs: Inputs) -> Faults:
    """Faults that a single text, or a single list of texts, shows by itself."""
    python = inputs["app_server_plugin"] == "python3"
    entries = {
        "python3": (MODULE, "a module:callable, such as foobar.wsgi:application or foobar:create_app()"),
        "php": (re.compile(rf"{RELATIVE.pattern}|\./"), f"{RELATIVE_FORM}, or a folder such as public/ or ./"),
    }
    texts = {**TEXTS, "app_server_entry": entries.get(inputs["app_server_plugin"], (RELATIVE, RELATIVE_FORM))}
    yield from _requirement_faults(inputs["app_server_requirements"], python)
    for name, least in (("app_server_pip_packages", "python3"), ("app_server_php_settings", "php")):
        if inputs[name] and inputs["app_server_plugin"] != least:
            yield f"{name}: is for app_server_plugin {least}, and that is {inputs['app_server_plugin']}; remove it"
    for name, (pattern, form) in texts.items():
        if not pattern.fullmatch(str(inputs[name])):
            yield f"{name}: '{shown(inputs[name])}' is not {form}"
    for name, (pattern, form) in ITEMS.items():
        for index, item in enumerate(inputs[name]):
            if not pattern.fullmatch(_text(item)):
                yield f"{name}[{index}]: '{shown(_text(item))}' is not {form}"
    own = str(inputs["app_server_name"])
    for name in {own, f"{own}-build", f"{own}-fetch", "root"} & {*map(_text, inputs["app_server_groups"])}:
        yield f"app_server_groups: '{shown(name)}' is not possible; it is the application's own, or root's"
    shared, files = ([*map(_text, inputs[f"app_server_{kind}"])] for kind in ("shared", "shared_files"))
    for index, name in enumerate(shared):
        for outer in {*shared, *files} - {name}:
            if name.startswith(f"{outer}/"):
                yield f"app_server_shared[{index}]: '{shown(name)}' is in '{shown(outer)}', which is shared already"
    for name in {*shared} & {*files}:
        yield f"app_server_shared_files: '{shown(name)}' stands in app_server_shared, too; it is a file or a folder"
    if inputs["app_server_shared_storage"] and not shared and not files:
        yield "app_server_shared_storage: has no effect without app_server_shared or app_server_shared_files"


def _requirement_faults(value: Any, python: bool) -> Faults:
    several = isinstance(value, (list, tuple))
    file = RELATIVE if python else RELATIVE_OR_NONE
    for index, item in enumerate(value if several else [value]):
        name, text = f"app_server_requirements[{index}]" if several else "app_server_requirements", _text(item)
        if isinstance(item, (dict, list)):
            yield f"{name}: must be a string, or a list of strings"
        elif not (file.fullmatch(text) or PROJECT.fullmatch(text)):
            yield f"{name}: '{shown(text)}' is not {RELATIVE_FORM}, nor '.' for the project itself"
    if several and not value and python:
        yield "app_server_requirements: an empty list; name a requirements file, or '.' for the project itself"


def commands(value: Any) -> list[Any]:
    """The commands of an input that is one command or a list of them; an empty text is no command."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return [] if value == "" else [value]


def _command_faults(inputs: Inputs) -> Faults:
    for name in COMMANDS:
        value = inputs[name]
        for index, command in enumerate(commands(value)):
            place = f"{name}[{index}]" if isinstance(value, (list, tuple)) else name
            if not isinstance(command, str):
                yield f"{place}: must be a string, or a list of strings"
            else:
                yield from command_faults(place, command)


def command_faults(place: str, command: str, several: str = SEVERAL) -> Faults:
    """What is wrong with a command. It is split into words and executed without a shell."""
    start = f"{place}: '{shown(command)}'"
    if CONTROL.search(command):
        yield f"{start} is not a command of one line, without control characters"
        return
    try:
        words = shlex.split(command)
    except ValueError as error:
        yield f"{start} cannot be taken apart into words: {str(error).lower()}"
        return
    if not words or not words[0]:
        yield f"{start} is not a command"
        return
    program, is_shell = words[0], words[0].rpartition("/")[2] in SHELLS
    if ASSIGNMENT.fullmatch(program):
        yield (
            f"{start} sets a variable as a shell does, and no shell runs it; put {program.partition('=')[0]} into "
            "app_server_environment"
        )
    elif program in BUILTINS:
        yield f"{start} begins with '{program}', which is a shell's, and no shell runs it; {IN_A_SHELL}"
    elif program.startswith("-"):
        yield f"{start} begins with '-', as options do and commands do not"
    elif found := _for_a_shell(command, is_shell):
        instead = several if MEANT.get(found, "") == SEVERAL else MEANT.get(found, IN_A_SHELL)
        yield (
            f"{start} has a {found} that is for a shell, and no shell runs it; {instead}, or put single quotes around "
            "it if it is meant as it stands"
        )


def _for_a_shell(command: str, is_shell: bool) -> str:
    """The first character that a shell would interpret; empty where there is none.

    Quotes work as in shlex.split. In double quotes a shell still expands variables, unless the command is an `sh -c`,
    whose shell interprets the quoted text.
    """
    quote, new_word, signs = "", True, iter(command)
    for sign in signs:
        if quote == "'":
            quote = "" if sign == "'" else quote
        elif sign == "\\":
            escaped = next(signs, "")
            if quote and escaped in "$`" and not is_shell:  # shlex.split keeps this backslash, a shell does not
                return escaped
        elif quote:
            if sign in "$`" and not is_shell:
                return sign
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in MEANT or (new_word and sign in "#~"):
            return sign
        new_word = not quote and sign == " "
    return ""


def unit_words(command: str) -> str:
    """A command for ExecStart= of a unit, with the words that shlex.split takes from it (systemd.service, COMMAND LINES)."""
    return " ".join(_unit_word(word) for word in shlex.split(command))


def _unit_word(word: str) -> str:
    if PLAIN_WORD.fullmatch(word):
        return word
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{quoted}"'


def _published_faults(inputs: Inputs) -> Faults:
    shared = [*map(_text, inputs["app_server_shared"])]
    for name in map(_text, inputs["app_server_shared_published"]):
        if name not in shared:
            yield (
                f"app_server_shared_published: '{shown(name)}' is not in app_server_shared, which holds "
                f"{shown(', '.join(shared)) or 'nothing'}"
            )


def _environment_faults(inputs: Inputs) -> Faults:
    """What is wrong with environment variables. No fault shows a value: it may be a secret in the wrong input."""
    for source in ("app_server_environment", "app_server_secrets", "app_server_build_environment"):
        for name in map(str, inputs[source]):
            if not VARIABLE.fullmatch(name):
                yield f"{source}.{shown(name)}: a name is made of letters, digits and '_', a digit not first"
            if name in SET_BY_ROLE and source != "app_server_build_environment":
                yield f"{source}.{name}: is set by the role; choose another name"
            if name in inputs["app_server_secrets"] and source == "app_server_environment":
                yield f"{source}.{shown(name)}: stands in app_server_secrets, too; remove it from one of them"
    # validate_inputs checks the values of app_server_secrets.
    for source in ("app_server_environment", "app_server_build_environment"):
        for name, value in inputs[source].items():
            if not isinstance(value, str):
                yield f"{source}.{shown(name)}: every value is a string; put quotes around numbers, yes and no"
            elif CONTROL.search(value):
                yield f"{source}.{shown(name)}: holds a newline, a tab or another control character"


def _option_faults(options: dict[str, Any]) -> Faults:
    for name, value in options.items():
        if not OPTION.fullmatch(str(name)):
            yield (
                f"app_server_uwsgi_options: '{shown(name)}' is not the name of an option, which is made of small "
                "letters, digits and '-'"
            )
        values = value if isinstance(value, (list, tuple)) and value else [value]
        if any(
            one is None or isinstance(one, (dict, list, tuple)) or OPTION_EXPANDS.search(str(one)) for one in values
        ):
            yield (
                f"app_server_uwsgi_options: '{shown(name)}' must have one value, of one line without $( and @(, or a "
                "list of such"
            )


def _php_faults(settings: dict[str, Any]) -> Faults:
    for name, value in settings.items():
        if not PHP_SETTING.fullmatch(str(name)):
            yield f"app_server_php_settings: '{shown(name)}' is not the name of a setting, such as memory_limit"
        if value is None or isinstance(value, (dict, list)) or OPTION_EXPANDS.search(str(value)):
            yield f"app_server_php_settings: '{shown(name)}' must have one value, of one line without $( and @("
        if name == "pcre.jit":
            yield "app_server_php_settings: 'pcre.jit' is set by the role: the sandbox forbids what it does"


def _job_faults(jobs: list[dict[str, Any]]) -> Faults:
    places: dict[str, str] = {}
    for index, job in enumerate(jobs):
        path, name, schedule = f"app_server_jobs[{index}]", str(job["name"]), _text(job.get("schedule"))
        if not JOB.fullmatch(name):
            yield (
                f"{path}.name: '{shown(name)}' is not a name of 1 to 31 lower case letters, digits and '-', "
                "the first not '-'"
            )
        if name in places:
            yield f"{path}.name: '{shown(name)}' is {places[name]} already"
        places.setdefault(name, path)
        if isinstance(job["command"], (list, tuple)):
            yield f"{path}.command: {ONE_PROCESS}"
        else:
            yield from command_faults(f"{path}.command", str(job["command"]), ONE_PROCESS)
        if not SCHEDULE.fullmatch(schedule):
            yield f"{path}.schedule: '{shown(schedule)}' is not a schedule such as *-*-* 03:30"
        # For systemd, 0 is no limit: a change would wait for ever for a job that does not end.
        if int(job.get("stop_seconds", 30)) < 1:
            yield f"{path}.stop_seconds: {job['stop_seconds']} is not possible; it must be at least 1"


def _number_faults(inputs: Inputs) -> Faults:
    yield from least_faults(inputs, LEAST)
    if not 1 <= int(inputs["app_server_listen_backlog"]) <= 65535:
        yield f"app_server_listen_backlog: {inputs['app_server_listen_backlog']} is not possible; it is from 1 to 65535"


def _memory_faults(inputs: Inputs, facts: dict[str, Any]) -> Faults:
    workers, each = int(inputs["app_server_processes"]), int(inputs["app_server_worker_memory_mb"])
    if workers * each > facts["memtotal_mb"]:
        yield (
            f"app_server_processes: {workers} workers of {each} MiB do not fit into the host's "
            f"{facts['memtotal_mb']} MiB"
        )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


class FilterModule:
    """Ansible's entry."""

    def filters(self) -> dict[str, Any]:
        return {
            "app_server_faults": app_server_faults,
            "app_server_commands": commands,
            "app_server_unit_words": unit_words,
        }
