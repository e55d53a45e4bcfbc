"""Whose a folder is: a Debian package's, a role's, or somebody's whose files must not be lost."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from loading import load

ownership = load("plugins/module_utils/ownership.py")


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """A folder as Debian's nginx leaves it."""
    folder = tmp_path / "etc/nginx"
    for name, text in (("nginx.conf", "shipped"), ("sites-available/default", "shipped too")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "sites-enabled").mkdir()
    (folder / "sites-enabled/default").symlink_to("../sites-available/default")
    lines = "".join(
        f" {folder / name} {hashlib.md5(text.encode()).hexdigest()}\n"
        for name, text in (("nginx.conf", "shipped"), ("sites-available/default", "shipped too"))
    )
    (tmp_path / "status").write_text(f"Package: nginx-common\nConffiles:\n{lines}Description: x\n")
    for name, place in (("STATUS", "status"), ("TAKEN", "taken"), ("COPIES", "copies"), ("UNIT_FOLDER", "units")):
        monkeypatch.setattr(ownership, name, tmp_path / place)
    return folder


def test_what_a_package_brought_is_no_stranger(etc):
    assert ownership.strangers(str(etc), []) == []


def test_what_an_operator_made_or_changed_is_named(etc):
    (etc / "sites-available/shop").write_text("a site")
    (etc / "sites-enabled/shop").symlink_to("../sites-available/shop")
    (etc / "nginx.conf").write_text("changed")
    (etc / "mine").symlink_to("/srv/mine")
    (etc / "nginx.conf.dpkg-dist").write_text("of an upgrade")
    assert ownership.strangers(str(etc), []) == [
        f"{etc}/mine (leads to /srv/mine)",
        f"{etc}/nginx.conf (changed by hand)",
        f"{etc}/sites-available/shop",
        f"{etc}/sites-enabled/shop (leads to ../sites-available/shop)",
    ]


def test_a_site_that_was_written_into_debians_own_file_is_seen(etc):
    (etc / "sites-available/default").write_text("a site")
    assert f"{etc}/sites-available/default (changed by hand)" in ownership.strangers(str(etc), [])


def test_what_the_role_leaves_alone_is_no_stranger(etc):
    (etc / "modules-enabled").mkdir()
    (etc / "modules-enabled/geoip.conf").symlink_to("/usr/share/nginx/modules-available/geoip.conf")
    assert ownership.strangers(str(etc), [f"{etc}/modules-enabled/*"]) == []


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert ownership.strangers(str(tmp_path / "none"), []) == []


def test_a_folder_is_ours_once_it_was_taken(etc):
    assert not ownership.is_ours(str(etc), "nginx.service")
    assert ownership.take(str(etc), keep_copy=False) == ""
    assert ownership.is_ours(str(etc), "nginx.service")


def test_a_host_of_a_version_without_signs_is_known_by_the_drop_in(etc):
    drop_in = ownership.UNIT_FOLDER / "nginx.service.d/webstack.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("ours")
    assert ownership.is_ours(str(etc), "nginx.service") and not ownership.is_ours(str(etc), "knot.service")


def test_a_copy_is_the_folder_as_it_was_for_root_alone(etc):
    (etc / "nginx.conf").chmod(0o640)
    copy = ownership.take(str(etc), keep_copy=True)
    assert copy.startswith(str(ownership.COPIES)) and copy.endswith("-etc-nginx")
    assert (ownership.COPIES).stat().st_mode & 0o777 == 0o700
    for base, _folders, names in os.walk(etc):
        for name in names:
            path = os.path.join(base, name)
            twin = path.replace(str(etc), copy)
            assert os.path.islink(path) == os.path.islink(twin)
            assert Path(path).read_text() == Path(twin).read_text()
            assert os.stat(path).st_mode == os.stat(twin).st_mode
    assert copy in ownership.sign(str(etc)).read_text()


def test_a_copy_that_fails_takes_nothing(etc, monkeypatch):
    def full(*_args, **_more):
        raise OSError("no space left on device")

    monkeypatch.setattr(ownership.shutil, "copytree", full)
    with pytest.raises(OSError, match="no space"):
        ownership.take(str(etc), keep_copy=True)
    assert not ownership.is_ours(str(etc))
