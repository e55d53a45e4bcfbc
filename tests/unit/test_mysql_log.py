"""Role mysql's tool that brings a binary log from beside the data: killed anywhere, no row is missing and no number comes twice."""

from __future__ import annotations

import errno
import itertools
import os
import re
import sys
from pathlib import Path

import pytest
from loading import load

# Before the operation with this number, counted down to 0, the tool is killed; negative: never.
left = -1


class Killed(Exception):
    pass


def hook(event, args):
    """Python tells of every change of files before it happens. A hook stays until the process ends."""
    global left
    written = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if left < 0 or not (written or event in ("os.rename", "os.remove", "os.link", "os.chmod", "os.chown")):
        return
    left -= 1
    if left < 0:
        raise Killed


sys.addaudithook(hook)


class Host:
    """A server that writes rows, each start into the next file of the log that it has: with the data, or beside them."""

    def __init__(self, tool, data, log):
        self.tool, self.data, self.log, self.acknowledged = tool, data, log, []

    def write(self, folder, *rows):
        index = folder / "binlog.index"
        known = index.read_text().split() if index.exists() else []
        last = int(known[-1][-6:]) if known else 0
        name = f"binlog.{last + 1:06}"
        assert not (folder / name).exists(), f"{name} would be overwritten"
        (folder / name).write_text("".join(f"{row}\n" for row in rows))
        index.write_text("".join(f"{line}\n" for line in [*known, f"{folder}/{name}"]))
        self.acknowledged += rows

    def start(self, *rows):
        """With the log beside the data."""
        self.tool.before()
        self.write(self.log, *rows)
        self.tool.after()

    def start_that_fails(self):
        self.tool.before()
        self.write(self.log)

    def must_have_all(self, first=5):
        paths = [Path(line) for line in (self.log / "binlog.index").read_text().split()]
        assert [int(path.name[-6:]) for path in paths] == list(range(first, first + len(paths)))
        assert {path.parent for path in paths} == {self.log}
        assert [row for path in paths for row in path.read_text().split()] == self.acknowledged
        assert list(self.data.iterdir()) == []
        assert not list(self.log.glob("*.new")) and not (self.log / "moving").exists()


@pytest.fixture(params=["one file system", "two file systems"])
def make(tmp_path, monkeypatch, request):
    """Makes hosts whose log lies with the data: files 5 to 7."""
    tool = load("roles/mysql/files/mysql_log.py")
    monkeypatch.setattr(tool, "APPARMOR", tmp_path / "none")
    monkeypatch.setattr(tool, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # no test here takes the power away
    if request.param == "two file systems":

        def refuse(_source, _target, **_how):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)

    def made():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        data, log = folder / "mysql", folder / "mysql-binlog"
        data.mkdir(parents=True)
        log.mkdir()
        tool.DATA, tool.LOG = data, log
        host = Host(tool, data, log)
        (data / "binlog.index").write_text("./binlog.000004\n")
        for row in ("a", "b", "c"):
            host.write(data, row)
        # The server has removed one by age.
        (data / "binlog.index").write_text("./binlog.000005\n./binlog.000006\n./binlog.000007\n")
        (data / "binlog.000005.idx").write_text("")
        (data / "binlog.state").write_text("0-1-3\n")
        return host

    return made


@pytest.fixture
def host(make):
    return make()


def test_a_log_that_lies_with_the_data_goes_on_beside_them(host):
    host.start("d")
    host.must_have_all()
    assert (host.log / "binlog.state").read_text() == "0-1-3\n" and (host.log / "binlog.000005.idx").exists()
    host.start("e")
    host.must_have_all()


def killed(number, step):
    """Whether `step` was killed before its operation `number`; else it had fewer."""
    global left
    left = number
    try:
        step()
    except Killed:
        return True
    finally:
        left = -1
    return False


def hosts_killed_in(make, step, prepare=lambda _host: None):
    """A host for each operation of `step`, killed before that, and the last one killed nowhere."""
    for number in itertools.count():
        host = make()
        prepare(host)
        was_killed = killed(number, getattr(host.tool, step))
        yield host
        if not was_killed:
            assert number > 5
            return


@pytest.mark.parametrize("goes_on_as_before", [False, True])
def test_killed_before_the_start(make, goes_on_as_before):
    for host in hosts_killed_in(make, "before"):
        if goes_on_as_before:  # the configuration of before is back
            host.write(host.data, "d")
        host.start("e")
        host.must_have_all()


def test_killed_after_the_start(make):
    def started(host):
        host.tool.before()
        host.write(host.log, "d")

    for host in hosts_killed_in(make, "after", started):
        host.start("e")
        host.must_have_all()


def test_killed_on_the_second_try_after_a_start_that_failed(make):
    def failed(host):
        host.start_that_fails()
        host.write(host.data, "d")  # under the number that the start which failed has used, too

    for host in hosts_killed_in(make, "before", failed):
        host.start("e")
        host.must_have_all()
        assert [path.name[-13:] for path in host.log.glob("start-that-failed-*")] == ["binlog.000008"]


def test_files_that_the_server_has_removed_since_a_try_are_not_listed(host):
    host.start_that_fails()
    (host.data / "binlog.000005").unlink()
    (host.data / "binlog.000005.idx").unlink()
    (host.data / "binlog.index").write_text("./binlog.000006\n./binlog.000007\n")
    host.write(host.data, "d")
    host.acknowledged.remove("a")
    host.start("e")
    host.must_have_all(first=6)
    assert not (host.log / "binlog.000005").exists()


def test_a_log_beside_the_data_is_not_mixed_with_another(host):
    host.start("d")
    (host.data / "binlog.index").write_text("./binlog.000002\n")
    with pytest.raises(SystemExit, match="two binary logs of one server"):
        host.tool.before()


def test_a_line_goes_where_the_log_goes(host):
    host.start("d")
    line = (host.log / "line").read_text()
    assert re.fullmatch(r"2[0-9]{7}T[0-9]{6}Z-[0-9a-f]{6}\n", line)
    host.start("e")
    assert (host.log / "line").read_text() == line
    (host.log / "line").unlink()
    host.start("f")
    assert (host.log / "line").read_text() not in ("", line)


def test_a_log_that_was_shipped_keeps_its_line_where_it_is_moved(host):
    """Or what the target has, and each full backup, would be of another one."""
    known = "20261128T190000Z-4f3a9c\n"
    host.tool.SHIPPED.write_text(known)
    host.start("d")
    assert (host.log / "line").read_text() == known
    (host.log / "line").unlink()  # a log that is begun anew here was never shipped under that
    host.start("e")
    assert (host.log / "line").read_text() != known


def test_an_id_that_is_none_is_not_taken_over(host, tmp_path):
    host.tool.SHIPPED.write_text("root:$y$secret\n")
    host.start("d")
    assert "secret" not in (host.log / "line").read_text()


@pytest.mark.parametrize(
    "place", ["line.new", "binlog.index.new", "moving.new", "binlog.state.new", "binlog.000005.new"]
)
def test_a_link_that_waits_where_root_writes_is_replaced(host, tmp_path, place):
    """Whoever has taken the server over owns the folder, and root writes there."""
    theirs = tmp_path / "theirs"
    theirs.write_text("root's")
    (host.log / place).symlink_to(theirs)
    host.start("d")
    assert theirs.read_text() == "root's"
    (host.log / place).unlink(missing_ok=True)  # where nothing was copied
    host.must_have_all()


@pytest.mark.parametrize("place", ["binlog.index", "binlog.000005", "binlog.state", "binlog.000005.idx"])
def test_a_link_where_root_reads_is_refused_and_the_log_stays_with_the_data(host, tmp_path, place):
    secret = tmp_path / "shadow"
    secret.write_text("root:$y$secret\n")
    (host.data / place).unlink()
    (host.data / place).symlink_to(secret)
    with pytest.raises(SystemExit, match=f"{place} is a link"):
        host.tool.before()
    assert not any("secret" in path.read_text() for path in host.log.iterdir())
    assert (host.data / "binlog.000006").exists() and not (host.log / "line").exists()


def test_an_index_that_names_other_files_is_refused(host):
    with (host.data / "binlog.index").open("a") as index:
        index.write("./auto.cnf\n")
    with pytest.raises(SystemExit, match="names files that are none of the log"):
        host.tool.before()


def test_what_apparmor_allows_besides_stays(tmp_path, monkeypatch, host):
    profile, additions = tmp_path / "usr.sbin.mysqld", tmp_path / "local/usr.sbin.mysqld"
    monkeypatch.setattr(host.tool, "APPARMOR", profile)
    host.tool.allow()
    assert not additions.exists(), "no profile, nothing to add to"
    profile.write_text("")
    additions.parent.mkdir()
    additions.write_text("/srv/theirs r,\n")
    for _start in range(2):
        host.tool.allow()
        assert additions.read_text() == f"/srv/theirs r,\n{host.tool.RULES}"
