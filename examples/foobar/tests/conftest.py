"""What the tests share: a migrated database, the application, and a visitor."""

import re
import shutil
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from foobar import create_app

FOLDER = Path(__file__).parent.parent
SECRET = "a-secret-only-for-the-tests"


def migrate(url: str) -> None:
    """Run all the migrations, as `alembic upgrade head` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        command.upgrade(Config(FOLDER / "alembic.ini"), "head")


class Visitor:
    """Someone with a browser: keeps the cookie, and fills in the form."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.get = client.get

    def token(self) -> str:
        """Return the hidden token of the form on the front page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/").text)
        assert found
        return found[1]

    def add(
        self, author: str = "Ann", title: str = "A title", body: str = "A text"
    ) -> TestResponse:
        """Send the form."""
        form = {"csrf": self.token(), "author": author, "title": title, "body": body}
        return self.client.post("/articles", data=form)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the tables and nothing in them."""
    path = tmp_path_factory.mktemp("database") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def environ(tmp_path: Path, migrated: Path) -> dict[str, str]:
    """Complete settings with an empty database of the test's own."""
    path = shutil.copy(migrated, tmp_path / "test.db")
    return {"DATABASE_URL": f"sqlite:///{path}", "SECRET_KEY": SECRET, "APP_RELEASE": "r1"}


@pytest.fixture
def app(environ: dict[str, str]) -> Flask:
    """The application."""
    return create_app(environ)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    """A visitor of the application."""
    return Visitor(app.test_client())
