"""The running site, from outside, as a visitor. SITE_URL names it, SITE_AUTHORITY who signed its certificate."""

import os
import re
import uuid

import pytest
import requests

URL = os.environ["SITE_URL"]


@pytest.fixture
def visitor():
    session = requests.Session()
    session.trust_env, session.verify = False, os.environ["SITE_AUTHORITY"]
    return session


def test_the_page_is_complete(visitor):
    page = visitor.get(URL, timeout=10)
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    assert "Hello from the demo" in page.text
    assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
    assert assets
    for asset in assets:
        answer = visitor.get(URL + asset, timeout=10)
        assert answer.status_code == 200 and "max-age" in answer.headers["Cache-Control"]


def test_an_article_is_written_and_read_back_by_somebody_else(visitor):
    title = f"Ein Artikel über 世界 {uuid.uuid4()}"
    token = re.search(r'name="csrf" value="([^"]+)"', visitor.get(URL, timeout=10).text)[1]
    form = {"csrf": token, "author": "acceptance", "title": title, "body": "🙂"}
    assert title in visitor.post(f"{URL}/articles", data=form, timeout=10).text
    assert title in requests.get(URL, timeout=10, verify=os.environ["SITE_AUTHORITY"]).text


def test_a_forged_article_is_refused(visitor):
    form = {"csrf": "forged", "author": "a", "title": "t", "body": "b"}
    assert visitor.post(f"{URL}/articles", data=form, timeout=10).status_code in (400, 403)


def test_text_is_compressed_for_those_who_take_it(visitor):
    for path in ("/", "/static/site.css"):
        assert visitor.get(URL + path, timeout=10).headers.get("Content-Encoding") == "gzip"


def test_what_does_not_exist_says_so(visitor):
    for path in ("/nowhere", "/static/nowhere.css", "/.git/config"):
        assert visitor.get(URL + path, timeout=10).status_code in (403, 404)


def test_a_body_that_is_too_large_is_refused(visitor):
    assert visitor.post(f"{URL}/articles", data=b"x" * 12_000_000, timeout=20).status_code == 413


def test_http_leads_to_https_in_one_step(visitor):
    answer = visitor.get(f"http://localhost:{os.environ['DEMO_PORT']}/a?b", timeout=10, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (301, f"{URL}/a?b")


def test_the_session_cookie_stays_on_https(visitor):
    visitor.get(URL, timeout=10)
    (cookie,) = visitor.cookies
    assert cookie.secure and cookie.has_nonstandard_attr("HttpOnly")
