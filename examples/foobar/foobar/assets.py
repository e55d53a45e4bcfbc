"""Static files under names that change with their content, so that browsers may keep them for ever.

Run when a release is built: python3 foobar/assets.py. Without it the plain names are served.
"""

import hashlib
import shutil
from pathlib import Path


def hashed_name(path: Path) -> str:
    """Return the name of a file with the first eight digits of its hash: site.0123abcd.css."""
    return f"{path.stem}.{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}{path.suffix}"


def urls(folder: Path) -> dict[str, str]:
    """Return under which name each file of the folder is to be asked for."""
    files = {path.name: hashed_name(path) for path in folder.iterdir() if path.is_file()}
    return {name: other if other in files else name for name, other in files.items()}


def publish(folder: Path) -> None:
    """Lay a copy with a hashed name beside each file."""
    for path in [path for path in folder.iterdir() if path.is_file()]:
        shutil.copyfile(path, folder / hashed_name(path))


if __name__ == "__main__":
    publish(Path(__file__).parent / "static")
