"""What those who run the site rely on: settings, health, trouble, migrations."""

import os
import string
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pymysql
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import FOLDER, SECRET, migrate
from sqlalchemy import create_engine, make_url

from foobar import create_app, db
from foobar.settings import SettingsError, database_url

PASSWORD = string.punctuation + " aZ0é€🙂"
MYSQL_URL = (
    f"mysql+pymysql://foobar:{quote(PASSWORD, safe='')}@localhost/foobar"
    "?unix_socket=/nowhere/mysqld.sock&charset=utf8mb4"
)


def run(environ: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python command in the folder, with nothing but this environment."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=FOLDER,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRET_KEY"])
def test_missing_setting(environ, name):
    del environ[name]
    result = run(environ, "-c", "import foobar.wsgi")
    assert result.returncode == 1
    assert result.stderr == f"foobar: The environment variable {name} is not set.\n"


def test_empty_setting_is_missing(environ):
    with pytest.raises(SettingsError, match="SECRET_KEY is not set"):
        create_app(environ | {"SECRET_KEY": ""})


@pytest.mark.parametrize("url", ["hunter2", "nosuch://u:hunter2@h/d", "mysql://u@h:hunter2/d"])
def test_unusable_url_is_not_shown(url):
    with pytest.raises(SettingsError, match="DATABASE_URL") as raised:
        database_url({"DATABASE_URL": url})
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_import_does_not_connect(environ, tmp_path: Path):
    path = tmp_path / "never-made.db"
    environ["DATABASE_URL"] = f"sqlite:///{path}"
    result = run(environ, "-c", "from foobar.wsgi import application; print(application.name)")
    assert result.stdout == "foobar\n"
    assert not path.exists()


def test_release_is_shown(environ):
    release = "v1-" + "0123456789abcdef" * 2
    page = create_app(environ | {"APP_RELEASE": release}).test_client().get("/").text
    assert f'<code title="{release}">v1-0123456789</code>' in page


def test_release_has_a_default(environ):
    del environ["APP_RELEASE"]
    answer = create_app(environ).test_client().get("/healthz")
    assert answer.json["release"] == "development"


def test_healthy(visitor):
    answer = visitor.get("/healthz")
    assert answer.status_code == 200
    assert answer.json == {"status": "ok", "release": "r1", "database": "ok"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


def test_health_needs_the_tables(environ, tmp_path: Path):
    environ["DATABASE_URL"] = f"sqlite:///{tmp_path}/empty.db"
    assert create_app(environ).test_client().get("/healthz").status_code == 503


def test_database_down_and_back(environ, tmp_path: Path, caplog):
    folder = tmp_path / "later"
    environ["DATABASE_URL"] = f"sqlite:///{folder}/test.db"
    client = create_app(environ).test_client()
    page = client.get("/")
    assert page.status_code == 503
    assert page.headers["Retry-After"] == "5"
    assert "We will be right back" in page.text
    health = client.get("/healthz")
    assert health.status_code == 503
    assert health.json == {"status": "error", "release": "r1", "database": "unavailable"}
    assert len(caplog.messages) == 2
    assert "GET /: the database failed: unable to open" in caplog.messages[0]
    assert not any("\n" in message or str(folder) in message for message in caplog.messages)

    folder.mkdir()
    migrate(environ["DATABASE_URL"])
    assert client.get("/").status_code == 200
    assert client.get("/healthz").status_code == 200


def test_mysql_password_reaches_the_driver_and_nothing_else(environ, monkeypatch, caplog):
    calls = []

    def connect(**arguments):
        calls.append(arguments)
        raise pymysql.err.OperationalError(2003, "Can't connect\nto the server")

    monkeypatch.setattr(pymysql, "connect", connect)
    page = create_app(environ | {"DATABASE_URL": MYSQL_URL}).test_client().get("/")
    assert page.status_code == 503
    assert calls[0]["password"] == PASSWORD.encode()
    assert calls[0]["unix_socket"] == "/nowhere/mysqld.sock"
    assert calls[0]["connect_timeout"] == 2
    assert calls[0]["ssl_disabled"] is True
    away = make_url(MYSQL_URL).set(query={})
    assert db.driver_arguments(away, 2)["ssl_disabled"] is False
    assert caplog.messages == [
        'GET /: the database failed: (2003, "Can\'t connect\\nto the server")'
    ]
    for text in (page.text, caplog.text):
        assert "aZ0" not in text
        assert "mysqld.sock" not in text


def test_unexpected_error_is_logged_not_shown(visitor, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("detail")

    monkeypatch.setattr(db, "newest", fail)
    page = visitor.get("/")
    assert page.status_code == 500
    assert "Something went wrong on our side" in page.text
    assert "detail" not in page.text
    assert caplog.messages == ["Exception on / [GET]"]
    assert "RuntimeError: detail" in caplog.text


def test_secret_is_in_no_page(visitor):
    assert SECRET not in visitor.get("/").text


def test_migrations_lead_to_the_models(migrated: Path):
    with create_engine(f"sqlite:///{migrated}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), db.metadata) == []


def test_migrations_can_run_again_and_take_any_character(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/a%20b%(c)s.db"
    migrate(url)
    migrate(url)


def test_migrations_say_plainly_what_failed(environ):
    result = run(environ | {"DATABASE_URL": MYSQL_URL}, "-m", "alembic", "upgrade", "head")
    assert result.returncode != 0
    assert "The database failed: (2003" in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    assert "aZ0" not in result.stderr + result.stdout


def test_migrations_name_the_missing_setting():
    result = run({}, "-m", "alembic", "upgrade", "head")
    assert result.returncode != 0
    assert "The environment variable DATABASE_URL is not set." in result.stderr + result.stdout
    assert "Traceback" not in result.stderr
