"""The smallest application that shows what the role promises. Only for tests."""

import os
import pathlib
import threading
import time
from urllib.parse import parse_qs

import itsdangerous

HOARD = []


def application(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    status, text = PAGES.get(environ["PATH_INFO"], nothing)(query)
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


def nothing(_query):
    return "404 Not Found", "nothing here"


def healthz(_query):
    return "200 OK", f"release {os.environ['APP_RELEASE']}"


def page(_query):
    return "200 OK", f"page of release {os.environ['APP_RELEASE']}"


def environment(query):
    return "200 OK", os.environ[query["name"]]


def sleep(query):
    time.sleep(float(query["seconds"]))
    return "200 OK", f"slept in {os.environ['SLOT']}, release {os.environ['APP_RELEASE']}"


def leak(query):
    if "linger" in query:  # with a thread for which the interpreter waits before it ends
        threading.Thread(target=threading.Event().wait).start()
    HOARD.append(bytearray(int(query["mb"]) * 2**20))
    return "200 OK", f"{os.getpid()}"


def write(_query):
    try:
        pathlib.Path(__file__).write_text("owned")
    except OSError as error:
        return "200 OK", f"refused: {error.strerror}"
    return "200 OK", "written"


def version(_query):
    return "200 OK", itsdangerous.__name__


PAGES = {
    "/": page,
    "/healthz": healthz,
    "/environment": environment,
    "/sleep": sleep,
    "/leak": leak,
    "/write": write,
    "/version": version,
}
