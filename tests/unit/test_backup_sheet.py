"""The emergency sheet: what it prints is what restores and dumps run with."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from backing import dump, repository, sheet, vendor


@pytest.fixture(params=[vendor.MARIADB, vendor.MYSQL], ids=lambda one: one.name)
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The sheet of a host with this vendor's server."""
    store = repository.Repository("/var/backups/webstack", tmp_path / "known", "shop-db")
    facts = {
        "repository": store, "installed": request.param, "config": {"target": {}}, "declared": {"repository": store.name},
        "passphrase": repository.PASSPHRASE, "live_log": None, "connect": contextlib.nullcontext(),
    }  # fmt: skip
    for name, fact in facts.items():
        monkeypatch.setattr(sheet, name, lambda *_given, fact=fact: fact)
    monkeypatch.setattr(sheet, "data_options", lambda _cursor: {"innodb_page_size": 16384})
    monkeypatch.setattr(vendor.Vendor, "version", lambda self: "11.8.9")
    return {"vendor": request.param, "lines": sheet.sheet()}


def test_its_server_takes_the_rows_that_the_live_one_took(printed: dict[str, Any]) -> None:
    (start,) = [line for line in printed["lines"] if "setpriv" in line]
    words = shlex.split(start)
    assert {"--max-allowed-packet=1G", "--innodb-page-size=16384", "--skip-log-bin", *printed["vendor"].scratch} < {
        *words
    }
    assert words[words.index(printed["vendor"].server) + 1] == "--no-defaults"  # or it is no option at all


def test_its_dump_is_that_of_the_tool(printed: dict[str, Any]) -> None:
    (line,) = [line for line in printed["lines"] if line.endswith("NAME > NAME.sql")]
    assert shlex.split(line)[:-4] == dump.program(printed["vendor"], whole=True)
    assert {"--events", "--routines", "--triggers", "--hex-blob", "--max-allowed-packet=1G"} < {*shlex.split(line)}
    assert ("--set-gtid-purged=OFF" in line) is (printed["vendor"].name == "mysql")


@pytest.mark.parametrize(
    ("answer", "rc", "words"),
    [
        ("echo null", 0, ["of shop-db no files were ever saved here"]),
        ("echo '[]'", 0, ["of shop-db no files were ever saved here"]),
        (
            """echo '[{"time": "2026-11-02", "tags": ["files", "data-b2"]}, {"time": "2026-11-01", "tags": ["files", "data-a1"]}]'""",
            0,
            ["restore b2 --target /place/files"],
        ),
        ("return 1", 1, []),  # no answer is not none
    ],
)
def test_what_it_says_of_files(printed: dict[str, Any], answer: str, rc: int, words: list[str]) -> None:
    (_before, files) = "\n".join(printed["lines"]).split("THE FILES BESIDE THE DATABASE")
    commands = [line.removeprefix("$ ") for line in files.splitlines() if line.startswith("$ ")]
    restic = f'restic() {{ if test "$1" = snapshots; then {answer}; else echo "$@"; fi; }}'
    script = "\n".join(["set -e; PLACE=/place", restic, *commands])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (rc, words), done.stderr
    assert rc or not done.stderr
