"""The tree under test, and its Python files as modules, whatever their names."""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
# Plugins import what they share by the collection's full name.
sys.path.append(str(ROOT / ".ansible/collections"))
ROLES = sorted(path.parents[1] for path in ROOT.glob("roles/*/tasks/main.yml"))


def load(path: str) -> ModuleType:
    """A fresh module of the file at `path`, which is relative to the project."""
    name = Path(path).stem.replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, ROOT / path, loader=SourceFileLoader(name, str(ROOT / path)))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    # No __pycache__ beside a file that is copied to hosts.
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = kept
    return module


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """A web server on this machine, as long as the block lasts; the value is its port."""
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
