"""The pages as a visitor sees them."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from foobar import ago, db
from foobar.assets import publish, urls
from foobar.forms import BODY_LENGTH, FIELDS, REQUEST_BYTES


def test_empty_front_page(visitor):
    page = visitor.get("/")
    assert page.status_code == 200
    assert page.text.startswith("<!doctype html>")
    assert "It is still quiet here" in page.text
    for name in FIELDS:
        assert f'<label for="{name}">' in page.text
    assert len(page.data) + sum(len(visitor.get(u).data) for u in assets(page.text)) < 20_000


def assets(html: str) -> set[str]:
    return set(re.findall(r'"(/static/[^"]+)"', html))


def test_assets_exist(visitor):
    urls = assets(visitor.get("/").text)
    assert len(urls) == 2
    for url in urls:
        assert visitor.get(url).status_code == 200


def test_assets_of_a_built_release_carry_their_hash(tmp_path):
    (tmp_path / "site.css").write_text("body {}")
    publish(tmp_path)
    name = urls(tmp_path)["site.css"]
    assert re.fullmatch(r"site\.[0-9a-f]{8}\.css", name)
    assert (tmp_path / name).read_text() == "body {}"
    (tmp_path / "site.css").write_text("body { color: red }")
    publish(tmp_path)
    assert urls(tmp_path)["site.css"] != name and (tmp_path / name).exists()


def test_security_headers(visitor):
    page = visitor.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert page.headers["Cache-Control"] == "private, no-cache"
    assert not re.search(r"<script|<style|\bstyle=|\bon[a-z]+=", page.text)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookie(app: Flask, scheme: str):
    page = app.test_client().get("/", base_url=f"{scheme}://www.foobar.com")
    cookie = page.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie)
    assert ("Secure" in cookie) == (scheme == "https")


def test_add_and_read(visitor):
    answer = visitor.add("Ann", "First", "Line one\r\nLine two")
    assert answer.status_code == 303
    assert answer.location == "/articles/1"
    page = visitor.get("/articles/1").text
    assert "<title>First · foobar.com</title>" in page
    assert "Line one\nLine two" in page
    assert re.search(r'<time datetime="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', page)
    assert "just now" in page
    front = visitor.get("/").text
    assert 'href="/articles/1"' in front
    assert "Ann" in front


def test_an_author_is_stored_once(app: Flask, visitor):
    for author in ("Ann", " Ann ", "ann", "🙂", "🙃"):
        assert visitor.add(author).status_code == 303
    with app.extensions["database"].connect() as connection:
        names = connection.scalars(db.users.select().with_only_columns(db.users.c.name)).all()
    assert sorted(names) == ["Ann", "ann", "🙂", "🙃"]


def test_two_requests_add_the_same_author(app: Flask, visitor, monkeypatch):
    """The other request commits between our look for the name and our insert."""
    insert, calls = db._insert, []

    def late(connection, table, **values):
        calls.append(table.name)
        if calls == ["users"]:
            with app.extensions["database"].begin() as other:
                insert(other, table, **values)
        return insert(connection, table, **values)

    monkeypatch.setattr(db, "_insert", late)
    assert visitor.add("Ann").status_code == 303
    assert calls == ["users", "articles"]


@pytest.mark.parametrize(
    "text", ["日本語の記事", "مقال بالعربية", "Ünïcødé ẞ", "👩‍👩‍👧‍👦 🇪🇺 family", "नमस्ते", "𐍈𐌰𐌹"]
)
def test_any_script(visitor, text):
    page = visitor.get(visitor.add(text, text, text).location).text
    assert page.count(text) >= 4  # <title>, <h1>, author, text
    assert text in visitor.get("/").text


def test_markup_is_shown_not_run(visitor):
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    visitor.add(attack[:50], attack, attack)
    bad = visitor.add(attack * 3, attack, attack)
    assert bad.status_code == 400
    for page in (visitor.get("/").text, visitor.get("/articles/1").text, bad.text):
        assert "<script" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        ("author", "", "Please tell us your name."),
        ("title", "  \t ", "Please give the article a title."),
        ("body", "\r\n\r\n", "Please write a text."),
        ("author", "\u200b\u200d", "Please tell us your name."),
        ("author", "n" * 51, "Please use at most 50 characters here, not 51."),
        ("title", "t" * 201, "Please use at most 200 characters here, not 201."),
        ("body", "b" * 5001, "Please use at most 5000 characters here, not 5001."),
        ("body", "a\x00b", "Please remove the control characters"),
    ],
)
def test_invalid_input_is_refused_and_kept(visitor, field, text, sentence):
    values = {"author": "Ann", "title": "Kept title", "body": "Kept text"} | {field: text}
    page = visitor.add(**values)
    assert page.status_code == 400
    assert sentence in page.text
    assert page.text.count('aria-invalid="true"') == 1
    for kept in set(values.values()) - {text}:
        assert kept in page.text
    assert "It is still quiet here" in visitor.get("/").text


def test_longest_input_is_accepted(visitor):
    answer = visitor.add(*("🙂" * field.length for field in FIELDS.values()))
    assert answer.status_code == 303
    assert "🙂" * BODY_LENGTH in visitor.get(answer.location).text


def test_too_large_a_request(visitor):
    page = visitor.add(body="b" * REQUEST_BYTES)
    assert page.status_code == 413
    assert "at most 5000 characters" in page.text


@pytest.mark.parametrize("token", [None, "", "wrong", "fälsch", "\x00"])
def test_forged_form_is_refused_and_kept(visitor, token):
    visitor.get("/")
    form = {"author": "Ann", "title": "Kept title", "body": "Kept text"}
    if token is not None:
        form["csrf"] = token
    page = visitor.client.post("/articles", data=form)
    assert page.status_code == 400
    assert "publish it once more" in page.text
    assert "Kept text" in page.text
    assert "It is still quiet here" in visitor.get("/").text


def test_form_without_cookie_is_refused(app: Flask, visitor):
    form = {"csrf": visitor.token(), "author": "Ann", "title": "A", "body": "B"}
    assert app.test_client().post("/articles", data=form).status_code == 400


def test_paging(visitor):
    for number in range(1, 22):
        visitor.add(title=f"Title {number}")
    url, seen = "/", []
    while url:
        page = visitor.get(url).text
        seen.append([int(n) for n in re.findall(r">Title (\d+)<", page)])
        older = re.search(r'class="older" href="([^"]+)"', page)
        url = older[1] if older else None
    assert seen == [list(range(21, 11, -1)), list(range(11, 1, -1)), [1]]


@pytest.mark.parametrize("before", ["x", "-1", "0", "1", "9" * 30, "9" * 5000])
def test_odd_page_numbers(visitor, before):
    assert visitor.get(f"/?before={before}").status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/articles/1", "/articles/x", f"/articles/{2**31}"])
def test_not_found(visitor, path):
    page = visitor.get(path)
    assert page.status_code == 404
    assert "There is no such page" in page.text


def test_wrong_method_names_the_right_ones(visitor):
    page = visitor.get("/articles")
    assert page.status_code == 405
    assert "POST" in page.headers["Allow"]


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-90), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=47), "1 day ago"),
        (timedelta(days=6), "6 days ago"),
    ],
)
def test_ago(age, words):
    assert ago(datetime.now(UTC).replace(tzinfo=None) - age) == words


def test_ago_becomes_a_date():
    assert ago(datetime(2024, 2, 3, 4, 5, 6)) == "3 February 2024"
