"""A site that says which host answers, and keeps what it is told. Only for tests."""

import os
import socket

import pymysql

kept = None


def rows(statement, *values):
    """What the database answers, by a connection that is kept, and opened anew where it was lost in between."""
    global kept
    kept = kept or pymysql.connect(
        unix_socket=os.environ["DB_SOCKET"],
        user=os.environ["DB_USER"],
        password=os.environ["DB_PASSWORD"],
        database=os.environ["DB_NAME"],
        autocommit=True,
    )
    kept.ping(reconnect=True)
    with kept.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def application(environ, start_response):
    path, status = environ["PATH_INFO"], "200 OK"
    if path.startswith("/write/"):
        rows(
            "INSERT INTO entries VALUES (%s) ON DUPLICATE KEY UPDATE number = number", int(path.removeprefix("/write/"))
        )
        text = socket.gethostname()
    elif path == "/written":
        text = " ".join(str(number) for (number,) in rows("SELECT number FROM entries ORDER BY number"))
    elif path == "/healthz":
        rows("SELECT number FROM entries LIMIT 1")
        text = f"release {os.environ['APP_RELEASE']}"
    elif path == "/":
        text = socket.gethostname()
    else:
        status, text = "404 Not Found", "nothing here"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))])
    return [text.encode()]
