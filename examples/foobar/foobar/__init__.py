"""www.foobar.com: articles by the people who use the site."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, Response, current_app, render_template, request, url_for
from flask.sessions import SecureCookieSessionInterface
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError, TimeoutError
from werkzeug.exceptions import HTTPException

from foobar import assets, db, forms, settings
from foobar.pages import pages

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

TITLES = {
    400: "That request makes no sense to us",
    404: "There is no such page",
    405: "That is not possible here",
    413: "That was too much at once",
    500: "Something went wrong on our side",
}

RETRY_SECONDS = 5


class Sessions(SecureCookieSessionInterface):
    """Flask's signed cookie, marked Secure for visitors who come over https."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Follow the scheme of the request that is being answered."""
        return request.is_secure


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """Build the application without connecting to the database.

    Raises settings.SettingsError when the environment lacks a setting.
    """
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=forms.REQUEST_BYTES,
        RELEASE=environ.get("APP_RELEASE") or "development",
        SECRET_KEY=settings.required("SECRET_KEY", environ),
        SESSION_COOKIE_NAME="foobar",
        SESSION_COOKIE_SAMESITE="Lax",
    )
    app.session_interface = Sessions()
    app.extensions["database"] = db.make_engine(settings.database_url(environ))
    app.register_blueprint(pages)
    app.after_request(add_headers)
    app.register_error_handler(HTTPException, show_error)
    for error in (InterfaceError, OperationalError, TimeoutError):
        app.register_error_handler(error, show_unavailable)
    prepare_templates(app)
    return app


def prepare_templates(app: Flask) -> None:
    """Give the templates their helpers."""
    names = assets.urls(Path(app.static_folder or ""))

    def asset(name: str) -> str:
        """Return the URL of a static file; of a built release it changes with the content."""
        return url_for("static", filename=names[name])

    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["ago"] = ago
    app.jinja_env.globals.update(
        asset=asset,
        csrf_token=forms.csrf_token,
        fields=forms.FIELDS,
        release=app.config["RELEASE"],
        release_short=re.sub(r"\b([0-9a-f]{10})[0-9a-f]{6,}\b", r"\1", app.config["RELEASE"]),
    )


def ago(moment: datetime) -> str:
    """Say how long ago a moment (UTC, without a zone) was, or its date after a week."""
    minutes = int((datetime.now(UTC) - moment.replace(tzinfo=UTC)).total_seconds()) // 60
    if minutes < 1:
        return "just now"
    for unit, length, limit in (("minute", 1, 60), ("hour", 60, 1440), ("day", 1440, 10080)):
        if minutes < limit:
            count = minutes // length
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return f"{moment.day} {moment:%B %Y}"


def add_headers(response: Response) -> Response:
    """Add the security headers; pages must be asked for again, static files need not."""
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def show_error(error: HTTPException) -> Response:
    """Answer with a page for the error, which keeps the error's own headers (Allow)."""
    response = Response(status=error.code, headers=error.get_headers())
    title = TITLES.get(error.code or 500, error.name)
    response.set_data(render_template("error.html", code=error.code, title=title))
    return response


def show_unavailable(error: SQLAlchemyError) -> Response:
    """Answer 503 while the database does not, and log why in one line."""
    current_app.logger.error(
        "%s %s: the database failed: %s", request.method, request.path, db.reason(error)
    )
    page = render_template("error.html", code=503, title="We will be right back")
    return Response(page, 503, {"Retry-After": str(RETRY_SECONDS)}, mimetype="text/html")
