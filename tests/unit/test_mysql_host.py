"""What a host has of a database server, as files of a host say it."""

from __future__ import annotations

import hashlib
import os

import pytest
from loading import load

host = load("plugins/module_utils/mysql_host.py")


@pytest.fixture
def proc(tmp_path):
    """Adds a process to a folder such as /proc."""
    folder = tmp_path / "proc"
    (folder / str(os.getpid()) / "ns").mkdir(parents=True)
    (folder / str(os.getpid()) / "ns/pid").symlink_to("pid:[1]")

    def add(pid, name, cwd, cgroup="0::/system.slice/mariadb.service", namespace="pid:[1]"):
        entry = folder / str(pid)
        (entry / "ns").mkdir(parents=True)
        (entry / "ns/pid").symlink_to(namespace)
        (entry / "cwd").symlink_to(cwd)
        (entry / "comm").write_text(f"{name}\n")
        (entry / "cgroup").write_text(f"1:name=systemd:/x\n{cgroup}\n")
        return folder

    return add


def test_a_server_is_found_by_its_program_whatever_started_it(proc):
    proc(7, "nginx", "/")
    proc(8, "mariadbd", "/data/mysql", cgroup="0::/docker/0/system.slice/mariadb.service")
    proc(9, "mysqld", "/opt/data", cgroup="0::/user.slice/session-3.scope")
    found = sorted(host.processes(proc(10, "mysqld", "/x", namespace="pid:[2]")), key=lambda item: item.pid)
    assert [(item.pid, item.unit, item.data, item.in_container) for item in found] == [
        (8, "mariadb.service", "/data/mysql", False),
        (9, "", "/opt/data", False),
        (10, "mariadb.service", "/x", True),
    ]
    assert str(found[1]) == "process 9 (started by hand)"


def test_a_link_leads_to_the_same_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert host.same_folder(str(tmp_path / "link"), str(tmp_path / "data"))
    assert not host.same_folder(str(tmp_path / "data"), str(tmp_path))
    assert not host.same_folder(str(tmp_path / "gone"), str(tmp_path))


def test_the_servers_own_folders_are_no_databases(tmp_path):
    for name in ("mysql", "sys", "performance_schema", "#innodb_redo", "lost+found", "shop", "my@002dshop"):
        (tmp_path / name).mkdir()
    (tmp_path / "ibdata1").write_text("")
    assert host.databases_in(str(tmp_path)) == ["my-shop", "shop"]
    assert host.holds_data(str(tmp_path)) and not host.holds_data(str(tmp_path / "shop"))
    assert host.databases_in(str(tmp_path / "gone")) == []


@pytest.mark.parametrize(
    ("name", "text", "version"),
    [
        ("mariadb_upgrade_info", "11.8.9-MariaDB", (11, 8)),
        ("mysql_upgrade_info", "10.11.19-MariaDB\0", (10, 11)),
        ("mysql_upgrade_history", '{"upgrade_history":[{"version":"8.4.1"},{"version":"9.7.4-2"}]}', (9, 7)),
        ("mysql_upgrade_history", "torn {", ()),
        ("other", "", ()),
    ],
)
def test_the_data_say_who_wrote_them(tmp_path, name, text, version):
    (tmp_path / name).write_text(text)
    assert host.data_version(str(tmp_path)) == version


def test_a_version_is_that_of_the_program_or_of_the_package():
    assert host.version_of("mariadbd  Ver 11.8.9-MariaDB-0+deb13u1 from Debian for debian-linux-gnu") == (11, 8)
    assert host.version_of("1:10.11.19-0+deb12u1") == (10, 11)
    assert (10, 11) < (11, 8) < (11, 10)


@pytest.mark.parametrize(
    ("fstab", "unit", "mounts", "found"),
    [
        ("", "", "", ""),
        ("UUID=1 / ext4 defaults 0 1\n# /dev/b /var/lib/mysql ext4", "", "/dev/a / ext4", ""),
        ("/dev/b /var/lib/mysql ext4 noauto 0 2", "", "/dev/a / ext4", "/var/lib/mysql"),
        ("/dev/b /var/lib/mysql ext4 noauto 0 2", "", "/dev/a / ext4\n/dev/b /var/lib/mysql ext4", ""),
        ("/dev/b /var ext4 noauto 0 2", "", "/dev/a / ext4", "/var"),
        ("/dev/b /var/lib/mysql-files ext4", "", "/dev/a / ext4", ""),
        ("", "[Mount]\nWhat=/dev/b\nWhere=/var/lib\n", "/dev/a / ext4", "/var/lib"),
    ],
)
def test_a_disk_that_is_declared_and_not_mounted_is_found(tmp_path, fstab, unit, mounts, found):
    files = {"etc/fstab": fstab, "etc/systemd/system/x.mount": unit, "proc/self/mounts": mounts}
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert host.unmounted("/var/lib/mysql", tmp_path) == found


def test_the_configuration_of_somebody_else_is_what_no_package_brought(tmp_path):
    folder = tmp_path / "etc/mysql/conf.d"
    folder.mkdir(parents=True)
    shipped = hashlib.md5(b"as shipped").hexdigest()
    texts = {
        "mysql.cnf": "as shipped",
        "50-server.cnf": "#\n[mysqld-8.4]",
        "theirs.cnf": " [server]",
        "client.cnf": "[client]",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (tmp_path / "etc/my.cnf").write_text("!includedir /opt/theirs")
    (folder.parent / "debian.cnf").write_text("made by the package")
    (folder.parent / "webstack.cnf").write_text("ours")
    (folder.parent / "my.cnf").symlink_to("/etc/alternatives/my.cnf")
    answer = f" /etc/mysql/conf.d/mysql.cnf {shipped}\n /etc/mysql/conf.d/50-server.cnf {shipped}\n"
    found = host.foreign_configuration(lambda _argv: (0, answer, ""), tmp_path)
    assert found == ["/etc/my.cnf", "/etc/mysql/conf.d/50-server.cnf", "/etc/mysql/conf.d/theirs.cnf"]


@pytest.fixture
def found(monkeypatch, tmp_path):
    """A host on which these are the processes and the folders."""

    def make(
        processes=(),
        databases=(),
        ours=False,
        take_over=False,
        answers=None,
        version="",
        vendor="mariadb",
        persisted=None,
        move_log=False,
        log="",
        drop_in="",
    ):
        data = tmp_path / "data"
        data.mkdir()
        for name in ("mysql", *databases) if databases or processes or version else ():
            (data / name).mkdir()
        if version:
            (data / "mariadb_upgrade_info").write_text(version)
        if persisted is not None:
            (data / "mysqld-auto.cnf").write_text(persisted)
        (tmp_path / "elsewhere/mysql").mkdir(parents=True)
        marker = tmp_path / "webstack.cnf"
        if ours:
            marker.write_text("")
        places = {"usual": str(data), "elsewhere": str(tmp_path / "elsewhere"), "": ""}
        running = [host.Process(7, unit, places[where]) for unit, where in processes]
        monkeypatch.setattr(host, "DATA", str(data))
        monkeypatch.setattr(host, "CONFIGURATION", str(marker))
        monkeypatch.setattr(host, "LOG", str(tmp_path / "log"))
        for folder, name in (("log", "beside"), ("data", "with the data")):
            if name in log:
                (tmp_path / folder).mkdir(exist_ok=True)
                (tmp_path / folder / "binlog.index").write_text("")
                (tmp_path / folder / "binlog.000001").write_text("x" * 4096)
        read = host._read
        monkeypatch.setattr(host, "_read", lambda path: drop_in if str(path).endswith("webstack.conf") else read(path))
        monkeypatch.setattr(host, "processes", lambda: running)
        monkeypatch.setattr(host, "unmounted", lambda _folder: "")
        monkeypatch.setattr(host, "foreign_configuration", lambda _run: [])

        def run(argv):
            return next(
                (said for word, said in (answers or {}).items() if word in " ".join(argv)), (0, "installed", "")
            )

        return host.Host(run, vendor, take_over, move_log)

    return make


OURS, OTHER = "mariadb.service", "mariadb@second.service"


@pytest.mark.parametrize(
    ("processes", "ours", "words"),
    [
        ([(OURS, "usual")], False, ""),
        ([(OURS, "elsewhere")], False, "elsewhere. This role keeps them in"),
        # Before this role has been here, it cannot know what the other is for.
        ([(OURS, "usual"), (OTHER, "elsewhere")], False, "elsewhere. This role keeps them in"),
        ([(OURS, "usual"), (OTHER, "elsewhere")], True, ""),
        ([(OURS, "elsewhere")], True, "elsewhere. This role keeps them in"),
        ([(OURS, "")], False, "It cannot be told where"),
        ([(OURS, "")], True, ""),
        ([("", "usual")], True, "was not started by mariadb.service"),
        ([("mysql-custom.service", "usual")], False, "was not started by mariadb.service"),
    ],
)
def test_a_server_that_runs_is_asked_where_its_data_are(found, processes, ours, words):
    faults = list(found(processes, ours=ours).faults())
    assert (words in " ".join(faults)) if words else faults == []


def test_a_server_of_another_package_is_not_replaced(found):
    (fault,) = found([(OURS, "usual")], answers={"dpkg-query": (1, "", "")}).faults()
    assert "mariadb-server is not installed" in fault


def test_a_bare_host_has_nothing_to_refuse(found):
    assert list(found(answers={"systemctl": (0, "ExecStart=", "")}).faults()) == []


def test_what_a_run_that_was_cut_short_has_installed_is_no_strangers(found, monkeypatch):
    bare = found(
        version="11.8.9-MariaDB", answers={"--help": (0, "datadir  %s/\n", ""), "--version": (0, "11.8.9", "")}
    )
    monkeypatch.setattr(bare, "_program", lambda: ("", []))
    assert list(bare.faults()) == []
    assert bare.why_not_ours([]) == ""


def test_data_of_a_newer_version_are_not_given_to_an_older_one(found):
    answers = {"systemctl": (0, "", ""), "apt-cache": (0, "  Candidate: 1:10.11.19-0+deb12u1", "")}
    (fault,) = found(version="11.8.9-MariaDB", answers=answers, take_over=True).faults()
    assert "written by version 11.8, and version 10.11 of mariadb-server" in fault


@pytest.mark.parametrize(("take_over", "words"), [(False, "-e mysql_take_over=true"), (True, "")])
def test_data_without_a_server_are_taken_on_a_word(found, take_over, words):
    answers = {"systemctl": (0, "", ""), "apt-cache": (0, "", "")}
    faults = list(found(databases=["shop"], answers=answers, take_over=take_over).faults())
    assert (words in faults[0] and "shop" in faults[0]) if words else faults == []


def test_what_somebody_else_has_set_up_is_taken_over_on_a_word(found):
    assert found([(OURS, "usual")]).why_not_ours([]) == ""


@pytest.mark.parametrize(("take_over", "ours"), [(False, False), (True, False), (False, True)])
def test_databases_and_files_are_named(found, take_over, ours):
    there = found([(OURS, "usual")], take_over=take_over, ours=ours)
    there.configuration = [] if ours else ["/etc/mysql/conf.d/theirs.cnf"]
    why = there.why_not_ours(["shop"])
    if take_over or ours:
        assert (why, there.is_taken_over) == ("", take_over)
    else:
        assert "databases: shop." in why and "/etc/mysql/conf.d/theirs.cnf" in why and not there.is_taken_over


def test_configured_and_without_data_is_a_disk_that_is_missing(found):
    (fault,) = found(ours=True).faults()
    assert "holds no data" in fault


def test_the_unit_of_a_stopped_server_says_where_its_data_are(found, tmp_path):
    program = tmp_path / "opt/mysqld"
    program.parent.mkdir()
    program.write_text("")
    asked = []

    def run(argv):
        asked.append(argv)
        if argv[0] == "systemctl":
            return (
                0,
                f"ExecStart={{ path={program} ; argv[]={program} --datadir=/data/x --defaults-file=/etc/x ; }}",
                "",
            )
        return (0, "datadir      /data/x/\n", "") if "--help" in argv else (0, "", "")

    there = found()
    there.run = run
    (fault,) = there.faults()
    assert "installed here and stopped" in fault and "has its data in /data/x." in fault
    assert asked[1][:3] == [str(program), "--defaults-file=/etc/x", "--datadir=/data/x"]
    there.run = lambda argv: run(argv) if argv[0] == "systemctl" else (1, "", "unknown option")
    (fault,) = there.faults()
    assert "does not say where its data are: unknown option" in fault


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, False),
        ('{"Version": 2}', False),
        ('{"Version": 2, "mysql_dynamic_parse_early_variables": {}}', False),
        ('{"Version": 2, "mysql_dynamic_parse_early_variables": {"max_connections": {"Value": "70"}}}', True),
        ("torn {", True),
    ],
)
def test_settings_that_mysql_has_persisted_would_lose_their_effect(found, text, named):
    there = found([(OURS, "usual")], persisted=text)
    assert there.configuration == ([f"{host.DATA}/mysqld-auto.cnf"] if named else [])
    assert ("mysqld-auto.cnf" in there.why_not_ours([])) == named


def test_files_of_a_server_outside_of_its_data_would_be_out_of_reach(found, tmp_path):
    there = found([(OURS, "usual")], databases=["shop", "linked"], take_over=True)
    data = tmp_path / "data"
    assert there.why_out_of_reach(["./ibdata1", ".//undo001", "./", f"{data}/shop/orders.ibd"]) == ""
    (data / "linked").rmdir()
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "shop/old.MYD").symlink_to("/srv/old.MYD")
    (data / "error.log").symlink_to("/var/log/error.log")
    why = there.why_out_of_reach(["/data/tables/shop/orders.ibd"])
    assert f": /data/tables/shop/orders.ibd, {data}/linked, {data}/shop/old.MYD. " in why
    there.is_ours = True
    assert there.why_out_of_reach(["/data/tables/shop/orders.ibd"]) == ""


def test_data_behind_a_link_are_inside(tmp_path):
    (tmp_path / "disk/shop").mkdir(parents=True)
    (tmp_path / "data").symlink_to("disk")
    assert host.outside(["./shop/a.ibd", f"{tmp_path}/disk/shop/b.ibd"], str(tmp_path / "data")) == []


RUNS = {"processes": [(OURS, "usual")]}
BESIDE = "ExecStart=/usr/sbin/mariadbd --log-bin={log}/binlog"


@pytest.mark.parametrize(
    ("has", "beside"),
    [
        ({}, True),
        # Of somebody else, who says the word for all of it.
        ({**RUNS, "log": "with the data"}, True),
        ({**RUNS, "ours": True, "log": "with the data"}, False),
        ({**RUNS, "ours": True}, False),
        ({**RUNS, "ours": True, "log": "with the data", "move_log": True}, True),
        ({**RUNS, "ours": True, "log": "with the data", "drop_in": BESIDE}, True),
        ({**RUNS, "ours": True, "log": "beside", "drop_in": BESIDE}, True),
        ({**RUNS, "ours": True, "log": "beside", "drop_in": "changed by hand"}, True),
        # What a start that failed has left beside does not count.
        ({**RUNS, "ours": True, "log": "with the data, beside"}, False),
    ],
)
def test_a_log_stays_where_it_lies_unless_its_move_is_asked_for(found, tmp_path, has, beside):
    there = found(**{**has, "drop_in": has.get("drop_in", "").format(log=tmp_path / "log")})
    assert there.log_beside == beside and list(there.faults()) == []
    said = [words for words in there.warnings() if "-e mysql_move_log=true" in words]
    assert bool(said) == (not beside)


@pytest.mark.parametrize(("ours", "words"), [(False, "Move it away: mv "), (True, "holds no data")])
def test_a_log_whose_server_is_gone_is_not_gone_on_with(found, ours, words):
    (fault,) = found(ours=ours, log="beside", answers={"systemctl": (0, "ExecStart=", "")}).faults()
    assert words in fault


def test_a_disk_for_the_log_that_is_not_mounted_is_refused(found, monkeypatch, tmp_path):
    there = found(**RUNS, ours=True, move_log=True)
    monkeypatch.setattr(host, "unmounted", lambda folder: folder if folder == host.LOG else "")
    (fault,) = there.faults()
    assert "log is a mount point" in fault


@pytest.mark.parametrize(("left", "disks", "refused"), [(4095, 2, True), (4096, 2, False), (4095, 1, False)])
def test_a_log_that_does_not_fit_where_it_is_to_go_is_not_moved(found, monkeypatch, left, disks, refused):
    there = found(**RUNS, ours=True, log="with the data", move_log=True)
    monkeypatch.setattr(host, "space", lambda _folder: (2**30, left))
    monkeypatch.setattr(host, "on_one_disk", lambda *_folders: disks == 1)
    assert any("is to be moved to" in fault for fault in there.faults()) == refused


@pytest.mark.parametrize(
    ("total", "left", "said"), [(10 * 2**30, 2**30 - 1, True), (10 * 2**30, 2**30, False), (10**12, 2 * 2**30, False)]
)
def test_a_disk_of_the_log_that_is_nearly_full_is_said(found, monkeypatch, total, left, said):
    monkeypatch.setattr(host, "space", lambda _folder: (total, left))
    words = " ".join(found(log="beside").warnings())
    assert ("every commit hangs" in words) == said
