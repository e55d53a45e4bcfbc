"""A blog, which shows its release and its database's name. Only for tests."""

import os

from flask import Flask


def create_app():
    app = Flask(__name__)

    @app.get("/healthz")
    def health():
        return {"release": os.environ["APP_RELEASE"]}

    @app.get("/")
    def page():
        return f"<title>the blog</title> release {os.environ['APP_RELEASE']} of {os.environ['DB_NAME']}"

    return app
