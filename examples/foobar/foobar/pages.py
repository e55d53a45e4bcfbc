"""The pages of the site."""

from flask import (
    Blueprint,
    abort,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from foobar import db, forms

PAGE_SIZE = 10

pages = Blueprint("pages", __name__)


def engine() -> Engine:
    """Return the engine of the current application."""
    return current_app.extensions["database"]


@pages.get("/")
def index() -> str:
    """List the newest articles, or those older than the id in ?before=, above the form."""
    before = request.args.get("before", type=int)
    if before is not None:
        before = min(max(before, 0), db.MAX_ID)
    rows = db.newest(engine(), PAGE_SIZE + 1, before)
    listed = rows[:PAGE_SIZE]
    older = listed[-1].id if len(rows) > PAGE_SIZE else None
    return render_template("index.html", articles=listed, before=before, older=older)


@pages.post("/articles")
def add() -> ResponseReturnValue:
    """Store the article sent with the form, or show the form again with what is wrong."""
    values = forms.clean(request.form)
    problems = forms.problems(values)
    expired = not forms.csrf_valid(request.form)
    if problems or expired:
        page = render_template("add.html", values=values, problems=problems, expired=expired)
        return page, 400
    article_id = db.add_article(engine(), **values)
    return redirect(url_for("pages.article", article_id=article_id), 303)


@pages.get(f"/articles/<int(max={db.MAX_ID}):article_id>")
def article(article_id: int) -> str:
    """Show one article."""
    found = db.article(engine(), article_id)
    if found is None:
        abort(404)
    return render_template("article.html", article=found)


@pages.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Tell whether this release can answer: 200, or 503 when the database cannot.

    It asks for all the columns the front page needs, so a missing migration shows here too.
    """
    try:
        db.newest(engine(), 1)
        state = "ok"
    except SQLAlchemyError as error:
        current_app.logger.error("Health check: the database failed: %s", db.reason(error))
        state = "unavailable"
    answer = jsonify(
        status="ok" if state == "ok" else "error",
        release=current_app.config["RELEASE"],
        database=state,
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer, 200 if state == "ok" else 503
