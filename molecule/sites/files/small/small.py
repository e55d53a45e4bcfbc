"""A small application, which shows its release and its name."""

import json
import os


def application(environ, start_response):
    if environ["PATH_INFO"] == "/healthz":
        page = json.dumps({"release": os.environ["APP_RELEASE"]})
    else:
        page = f"<title>the blog</title> release {os.environ['APP_RELEASE']} of {os.environ['DB_NAME']}"
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(page)))])
    return [page.encode()]
