"""From a commit to a finished release."""

from __future__ import annotations

import codecs
import contextlib
import datetime
import gzip
import json
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .basics import ReleaseError, explained_as, misplaced, read, run
from .layout import Layout
from .releases import Releases, files_below
from .sandbox import BUILD_SECONDS, Sandbox
from .wheels import Wheels, pins

Folder = tuple[Path, str, str, int]  # path, owner, group, mode
CHECK_SECONDS = 60
PYTHON_WHEELS = Path("/usr/share/python-wheels")  # Debian's wheels for ensurepip
PROJECT = re.compile(r"\.(\[.*\])?")  # pip's word for the project itself, and for it with extras
# Commands that turn a lock file of another tool into one that pip reads.
EXPORTS = {
    "uv.lock": "uv export --frozen --no-emit-project -o requirements.txt",
    "poetry.lock": "poetry export -o requirements.txt",
}
COMPRESSIBLE = {".css", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".txt", ".xml"}
# Arguments: a module, the name of the object that uWSGI calls, and whether it is loaded before the workers are forked.
LOAD = """
import importlib, os, sys, threading
module, name, preload = sys.argv[1:]
del sys.argv[1:]
try:
    entry = getattr(importlib.import_module(module), name.removesuffix("()"))
    if name.endswith("()"):  # a factory, which uWSGI calls without arguments
        entry = entry()
except MemoryError:
    sys.exit("it needs more memory than a worker gets (app_server_worker_memory_mb)")
if not callable(entry):
    sys.exit(f"{module}:{name} is not callable")
if preload == "True":
    otherwise = "set app_server_preload to false, or have the code do it at its first request"
    for number in os.listdir("/proc/self/fd"):
        if int(number) > 2 and "socket:[" in os.path.realpath(f"/proc/self/fd/{number}"):
            sys.exit(f"while it is loaded, it opens a socket (file {number}), which all workers would share; {otherwise}")
    for thread in threading.enumerate()[1:]:
        sys.exit(f"while it is loaded, it starts a thread ({thread.name}), which no worker would have; {otherwise}")
"""
# With its argument, pip's wheel, which has the library that knows what such a text of versions means.
WANTED_PYTHON = """
import platform, sys, tomllib
sys.path.insert(0, sys.argv[1])
from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
try:
    with open("pyproject.toml", "rb") as handle:
        wanted = tomllib.load(handle).get("project", {}).get("requires-python", "")
    fits = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
except (ValueError, TypeError, AttributeError, InvalidSpecifier) as error:
    sys.exit(f"pyproject.toml cannot be read: {error}")
if not fits:
    sys.exit(
        f"pyproject.toml asks for Python {wanted}, and Debian's is {platform.python_version()}. uWSGI's plugin can load no "
        "other; change requires-python, or run the site on the Debian that has it (12: Python 3.11, 13: Python 3.13)"
    )
"""
# The specification of Git LFS: a pointer is a text of less than 1024 bytes.
POINTER_BYTES = 1024
POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(ext-.*\n)*oid sha256:[0-9a-f]{64}\nsize \d+\n?", re.ASCII
)
BYTE_ORDER_MARKS = {  # the longer ones first: one begins with another
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be",
}  # fmt: skip
CODING = re.compile(rb"#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)")
GZIP_WORTH = 512  # bytes; a smaller file needs as many packets when it is compressed


class Builder:
    """Builds, checks and migrates."""

    def __init__(self, paths: Layout, config: dict[str, Any], sandbox: Sandbox) -> None:
        self.paths, self.config, self.sandbox = paths, config, sandbox

    def folders(self) -> list[Folder]:
        """The folders of an application. Their owners keep the application from changing its own code."""
        roots = (
            self.paths.home, self.paths.releases, self.paths.static, self.paths.shared, self.paths.state, self.paths.bound(""), self.paths.marks,
            self.paths.wheels,
        )  # fmt: skip
        fetching, building = self.config["fetch_user"], self.config["build_user"]
        return [
            *((path, "root", "root", 0o755) for path in roots),
            (self.paths.fetch, fetching, fetching, 0o700),
            (self.paths.build, building, building, 0o700),
        ]

    def shared_folders(self) -> list[Folder]:
        """The shared folders. An application may give itself and its group more permissions; some do so at each start."""
        user, published = self.config["user"], self.config["shared_published"]
        if published is None:  # declared by an older version of the role, where everybody could read them
            return [(self.paths.shared / name, user, user, 0o755) for name in self.config["shared"]]
        return [
            *((self.paths.shared / name, user, user, 0o750) for name in self.config["shared"] if name not in published),
            # Set-group bit: new files and folders in it, at any depth, get the web server's group.
            *((self.paths.shared / name, user, self.config["socket_group"], 0o2750) for name in published),
        ]

    def misplaced(self) -> list[str]:
        """Folders with a wrong owner, group or mode."""
        found = [misplaced(*folder) for folder in self.folders()]
        return [
            words for words in found + [misplaced(*folder, least=True) for folder in self.shared_folders()] if words
        ]

    def make_folders(self) -> None:
        """Makes missing folders, and repairs owner, group and mode of others."""
        shared = self.shared_folders()
        for path, owner, group, mode in self.folders() + shared:
            if not path.is_dir():
                open_folders(path.parent, self.paths.shared)
                path.mkdir(parents=True)
            if not misplaced(path, owner, group, mode, least=(path, owner, group, mode) in shared):
                continue
            if mode & stat.S_ISGID:
                shutil.chown(path, owner)
                self.sandbox.publishing(path)
            else:
                shutil.chown(path, owner, group)
                path.chmod(mode)
        for path in self.paths.build.iterdir():  # left by an older version of this tool
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in self.config["shared_files"]:
            path = self.paths.shared / name
            if not path.is_file():
                path.touch(0o640, exist_ok=False)  # fails if a folder is there
            shutil.chown(path, self.config["user"], self.config["user"])

    def build(self, commit: str, version: str, tar: Path, moment: str = "") -> str:
        """Builds a release of a commit at its final path. Afterwards only root can change it.

        Its name begins with `moment`, by default the present one.
        """
        if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
            raise ReleaseError(f"'{commit}' is not a full commit")
        moment = moment or datetime.datetime.now(datetime.UTC).strftime("%Y%m%d%H%M%S")
        release = f"{moment}-{commit[:12]}"
        place = self.paths.releases / release
        place.mkdir(mode=0o755)
        try:
            shutil.chown(place, self.config["build_user"], self.config["build_user"])
            self.unpack(tar, place)
            refuse_pointers(place)
            if self.config["plugin"] == "python3":
                self.make_virtualenv(place)
            with explained_as("app_server_static_command fails; nothing was switched."):
                for command in self.config["static_command"]:
                    self.sandbox.making(release, command)
            hand_to_root(place)
            # As root, so only after no other user can put a symbolic link in the way.
            self.link_shared(place)
            if self.config["static"]:
                compress_folder(place, self.config["static"])
            # Else a power cut could leave empty files in a release.
            run(["sync", "--file-system", str(place)], seconds=BUILD_SECONDS)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        known = {key: self.config[key] for key in ("repository", "declared", "static")}
        known |= {"commit": commit, "version": version, "number": Releases(self.paths).next_number()}
        write_atomically(self.paths.mark(release, "json"), json.dumps(known))
        return release

    def unpack(self, tar: Path, place: Path) -> None:
        of = f" (app_server_folder: {self.config['folder']})" if self.config["folder"] else ""
        try:
            # As the building user, which limits what a malicious archive can do.
            with explained_as(f"the commit could not be unpacked{of}:"), open(tar, "rb") as handle:
                words = ["tar", "--extract", "--ignore-zeros", "--no-same-owner"]
                folder = self.config["folder"].strip("/")
                if folder:  # its content becomes the release
                    words += [f"--strip-components={folder.count('/') + 1}", "--", folder]
                self.sandbox.building(words, place, stdin=handle)
        finally:
            tar.unlink()

    def make_virtualenv(self, place: Path) -> None:
        """Makes the virtualenv at its final path, because virtualenvs cannot be moved.

        pip is run from Debian's wheel: it need not be installed, which saves a second.
        """
        files = [place / name for name in self.config["requirements"] if not PROJECT.fullmatch(name)]
        itself = [name for name in self.config["requirements"] if PROJECT.fullmatch(name)]
        self.refuse_what_pip_cannot_read(place, files, itself)
        installers = list(PYTHON_WHEELS.glob("pip-*.whl"))
        if not installers:
            raise ReleaseError(f"{PYTHON_WHEELS} has no pip: is the package python3-venv wholly installed?")
        venv = place / ".venv"
        self.sandbox.building(["/usr/bin/python3", "-m", "venv", "--without-pip", str(venv)], place)
        python = str(venv / "bin/python")
        pip = [python, str(installers[0] / "pip")]
        if (place / "pyproject.toml").is_file():
            with explained_as("The pyproject.toml of the commit is refused; nothing was switched."):
                self.sandbox.building([python, "-c", WANTED_PYTHON, str(installers[0])], place)
        named = " and ".join(self.config["requirements"])
        with explained_as(f"{named} (app_server_requirements) cannot be installed; nothing was switched."):
            if files:
                self.install(pip, files, place)
            for project in itself:
                self.run_pip(pip, ["install", "--no-compile", project], place)
        if self.config["pip_packages"]:
            with explained_as("app_server_pip_packages cannot be installed; nothing was switched."):
                self.run_pip(pip, ["install", "--no-compile", "--", *self.config["pip_packages"]], place)
        # pip would compile on one core. Like pip, this ignores files that do not compile.
        code = f"import compileall; compileall.compile_dir({str(venv / 'lib')!r}, quiet=2, workers=0)"
        self.sandbox.building([python, "-c", code], place)

    def refuse_what_pip_cannot_read(self, place: Path, files: list[Path], itself: list[str]) -> None:
        """Refuses a commit without requirements, or with a lock file that pip does not read, and says what to do."""
        exports = [f"{name}: {command}" for name, command in EXPORTS.items() if (place / name).is_file()]
        export = f" pip does not read {'; or '.join(exports)}, and commit the file." if exports else ""
        project = any((place / name).is_file() for name in ("pyproject.toml", "setup.py"))
        for path in files:
            if not path.is_file():
                more = '; "." stands for the project itself' if project else ""
                raise ReleaseError(
                    f"the commit has no {path.relative_to(place)}, from which its virtualenv would be made "
                    f"(app_server_requirements names another file{more}).{export}"
                )
        if itself and not project:
            raise ReleaseError(
                f"the commit has no pyproject.toml, which {itself[0]} of app_server_requirements would install"
            )
        if itself and not files and exports:
            raise ReleaseError(
                f"What the lock pins would be ignored by {itself[0]} of app_server_requirements.{export} Then "
                f'app_server_requirements is [requirements.txt, "{itself[0]}"].'
            )

    def run_pip(self, pip: list[str], words: list[str], place: Path, writable: tuple[Path, ...] = ()) -> None:
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
        self.sandbox.building([*pip, words[0], *quiet, *words[1:]], place, more=writable)

    def install(self, pip: list[str], files: list[Path], place: Path) -> None:
        """Installs requirements. Wheels that are pinned by a digest are kept, so that each is downloaded once.

        Everything else is downloaded for each build: in a cache of pip, one commit could leave files for the next.
        """
        text = "\n".join(self.readable(path, place) for path in files)
        hashes = ["--require-hashes"] if "--hash=" in text else []
        wanted = pins(text)

        def run_pip(verb: str, *options: str) -> None:
            named = [word for path in files for word in ("--requirement", str(path))]
            self.run_pip(pip, [verb, *options, *hashes, *named], place, writable)

        writable: tuple[Path, ...] = ()
        if wanted:
            wheels = Wheels(self.paths)
            fresh = wheels.lay_out(wanted, self.config["build_user"])
            writable = (fresh,)
            offline = ["--no-compile", "--no-index", "--find-links", str(fresh)]
            try:
                if any(fresh.iterdir()):
                    with contextlib.suppress(ReleaseError):  # some wheels are missing
                        run_pip("install", *offline)
                        return
                # If a package has no wheel, or pip fails: the install without a cache, below, says why.
                with contextlib.suppress(ReleaseError):
                    run_pip("download", "--only-binary", ":all:", "--dest", str(fresh))
                    run_pip("install", *offline)
                    wheels.keep(fresh, wanted)
                    wheels.forget(wanted.union(*map(self.pinned_by, Releases(self.paths).names())))
                    return
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        run_pip("install", "--no-compile")

    def pinned_by(self, release: str) -> set[str]:
        """The digests that the requirements of a release pin."""
        found: set[str] = set()
        for name in self.config["requirements"]:
            with contextlib.suppress(OSError, ValueError, LookupError):
                found |= pins(read_as_pip_does(self.paths.releases / release / name))
        return found

    def readable(self, requirements: Path, place: Path) -> str:
        """The text of a requirements file. A file that pip cannot decode gets a coding line."""
        try:
            return read_as_pip_does(requirements)
        except UnicodeDecodeError:
            # Probably Latin-1 in a comment. pip would decode it with the locale, which is UTF-8 here.
            self.sandbox.building(["sed", "--in-place", "1i # coding: latin-1", str(requirements)], place)
            return requirements.read_text(encoding="latin-1")
        except LookupError as error:
            raise ReleaseError(f"{requirements.name} (app_server_requirements): {error}") from error

    def link_shared(self, place: Path) -> None:
        """Links shared folders and files into the release. The commit must have nothing at these paths."""
        for name in (*self.config["shared"], *self.config["shared_files"]):
            link = place / name
            if os.path.lexists(link):
                raise ReleaseError(f"the commit has a {name} of its own, where app_server_shared wants the shared one")
            # A folder of the commit on the way is allowed, but not a symbolic link that leads out of the release.
            if not link.parent.resolve().is_relative_to(place.resolve()):
                raise ReleaseError(f"the commit has a link where app_server_shared wants the folder of {name}")
            open_folders(link.parent, place)
            link.symlink_to(self.paths.shared / name)

    def check(self, release: str) -> None:
        """Imports the entry point with the application's environment, before anything is switched."""
        if self.config["plugin"] != "python3":
            return
        module, _colon, name = self.config["entry"].partition(":")
        preload, most = self.config["preload"], self.config["worker_data_mb"]
        how = " once for all workers (app_server_preload)" if preload else ""
        with explained_as(f"{self.config['entry']} (app_server_entry) cannot be imported{how}; nothing was switched."):
            argv = ["python", "-c", LOAD, module, name or "application", str(preload)]
            settings = (f"LimitDATA={most}M",) if most else ()
            self.sandbox.serving(release, argv, seconds=CHECK_SECONDS, settings=settings)

    def migrate(self, release: str) -> list[str]:
        """Runs migrate_command of a release; returns its output.

        The output goes to a file, so that a migration can finish if this process is killed.
        """
        log = self.paths.migration_log
        settings = (f"StandardOutput=append:{log}", f"StandardError=append:{log}")
        deadline, unit = time.monotonic() + self.config["migrate_seconds"], self.paths.migration_unit
        write_atomically(log, "", 0o600)
        try:
            for command in self.config["migrate_command"]:
                seconds = max(round(deadline - time.monotonic()), 1)  # one limit for all commands
                self.sandbox.serving(release, command, seconds=seconds, settings=settings, unit=unit)
        except ReleaseError as error:
            said = "\n".join(filter(None, [read(log).strip()[-4000:], str(error)]))
            raise ReleaseError(f"The migration failed; the release before goes on serving. It said:\n{said}") from error
        return read(log).strip().splitlines()


def refuse_pointers(place: Path) -> None:
    """Refuses Git LFS pointers: small text files in the place of large files, which visitors would get instead."""
    found = sorted(
        str(path.relative_to(place))
        for path in files_below(place)
        if path.stat().st_size <= POINTER_BYTES and POINTER.fullmatch(path.read_bytes())
    )
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise ReleaseError(
            f"The commit has pointers of Git LFS where files should be: {', '.join(found[:5])}{more}. Nothing was switched. "
            "Git puts the files in where git-lfs is set up (git lfs install): do so on the controller, and deploy from a "
            "clone there (app_server_push). Or keep the files in git itself (git lfs migrate export)."
        )


def read_as_pip_does(requirements: Path) -> str:
    """The text of a requirements file; raises UnicodeDecodeError if pip could not read it.

    The encoding comes from a byte order mark, or from a comment in the first two lines (PEP 263).
    """
    content = requirements.read_bytes()
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    for line in content.split(b"\n")[:2]:
        said = CODING.match(line)
        if said:
            return content.decode(said[1].decode("ascii"))
    return content.decode("utf-8")


def open_folders(folder: Path, top: Path) -> None:
    """Makes a folder and missing ones above it, below `top`, readable for everybody whatever the umask is."""
    for path in reversed([folder, *folder.parents]):
        if path.is_relative_to(top) and not path.is_dir():
            path.mkdir()
            path.chmod(0o755)


def hand_to_root(place: Path) -> None:
    """Makes root the owner of a release, writable for nobody else. Symbolic links are not followed."""
    for base, folders, files in os.walk(place):
        for name in (".", *folders, *files):
            path = os.path.join(base, name)
            os.chown(path, 0, 0, follow_symlinks=False)
            if not os.path.islink(path):
                os.chmod(path, os.stat(path).st_mode & 0o755)


def compress_folder(place: Path, static: str) -> None:
    """Makes a .gz beside each text file, which nginx sends to clients that accept it."""
    folder = place / static
    if not folder.is_dir() or not folder.resolve().is_relative_to(place.resolve()):
        raise ReleaseError(f"the commit has no folder {static} for static files (app_server_static names it)")
    for path in sorted(files_below(folder)):
        if path.suffix in COMPRESSIBLE and path.stat().st_size >= GZIP_WORTH:
            packed = Path(f"{path}.gz")
            if packed.is_symlink() or packed.is_file():
                packed.unlink()  # of the repository; it may be a symbolic link to anywhere
            with open(packed, "xb") as out, gzip.GzipFile("", "wb", 9, out, mtime=0) as stream:
                stream.write(path.read_bytes())
