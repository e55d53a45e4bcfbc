"""An application that a factory makes. It can be imported only where the project itself is installed."""

import os

import colorama
import itsdangerous
import markupsafe


def create_app():
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        names = " ".join(module.__name__ for module in (colorama, itsdangerous, markupsafe))
        said = f"{os.environ['APP_RELEASE']} {environ['QUERY_STRING']} {names} {os.environ['A']}{os.environ['B']}"
        return [f"hello from a factory, release {said}".encode()]

    return application
