"""Role backup: what is acknowledged is on two machines. Counted, not timed."""

import contextlib
import datetime
import functools
import hashlib
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
import testinfra
from scenario import PROJECT, at_once, names, until, watched, whereabouts

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "keys"
TARGET = next(name for name in names() if "-target-" in name)
DATABASES = [name for name in names() if name != TARGET]
ARCHIVE = "/srv/webstack-backup"
IN_USE = 21  # the byte of a file of the log that says whether it was closed

CLIENT = """
import json, sys, pymysql
with pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="root", autocommit=True) as connection, connection.cursor() as cursor:
    for statement in sys.argv[1:]:
        cursor.execute(statement)
    print(json.dumps(cursor.fetchall(), default=str))
"""

# Each of four threads writes rows until its input ends. A line for each row: its number, when it was begun, when it was
# acknowledged (empty: it failed). The server puts the row's text together, so that it stands once in the log, in the row itself.
WRITER = """
import datetime, itertools, queue, sys, threading, pymysql
run, pause = sys.argv[1], float(sys.argv[2])
numbers, stop, lock = itertools.count(1), threading.Event(), threading.Lock()
now = lambda: datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
def tell(*words):
    with lock:
        print(*words, sep=",", flush=True)
def write():
    connection = None
    while not stop.is_set():
        number, begun = next(numbers), now()
        try:
            connection = connection or pymysql.connect(
                unix_socket="/run/mysqld/mysqld.sock", user="root", database="app", autocommit=True, read_timeout=30)
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO written (text) VALUES (CONCAT('row', '-{run}-', {number}, '|'))")
            tell(number, begun, now())
        except Exception:
            connection = None
            tell(number, begun, "")
            stop.wait(0.05)
        stop.wait(pause)
threads = [threading.Thread(target=write) for _turn in range(4)]
for thread in threads: thread.start()
sys.stdin.read()
stop.set()
for thread in threads: thread.join()
"""


def host(name):
    return testinfra.get_host(f"docker://{name}")


def ready(server):
    sql(
        server,
        "CREATE TABLE IF NOT EXISTS app.written (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(99), KEY (text))",
    )
    whole(server)
    return server


@pytest.fixture(scope="module", autouse=True)
def without_a_full():
    """The tests ask for the state many times, and it asks the repository each time where there is a full."""
    for name in DATABASES:
        host(name).check_output("rm -f /var/lib/webstack-backup/full.json")


@pytest.fixture
def databases():
    """The database servers, whose logs the target has."""
    return at_once(ready, [host(container) for container in DATABASES])


def docker(verb):
    subprocess.run(["docker", verb, TARGET], check=True, capture_output=True)


# The target is frozen, and runs again, when the tests of all servers have come to that point.
FREEZE, THAW = (threading.Barrier(len(DATABASES), functools.partial(docker, verb)) for verb in ("pause", "unpause"))


def on_all(check):
    """A test of one database server, made on all of them at the same time: mostly it waits."""

    def checked(database):
        try:
            check(database)
        except threading.BrokenBarrierError:
            pass  # one that has failed does not come to that point, and is told
        except BaseException:
            for barrier in (FREEZE, THAW):
                barrier.abort()
            raise

    @functools.wraps(check)
    def test(databases):
        at_once(checked, databases)

    del test.__wrapped__  # pytest would look there for what the test takes
    return test


@pytest.fixture(autouse=True)
def ended():
    yield
    Writing.end_all()


def sql(server, *statements):
    done = server.run("python3 -c %s " + " ".join(["%s"] * len(statements)), CLIENT, *statements)
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


def is_mariadb(server):
    return "vendor" not in server.backend.name


def end_of_log(server):
    file, position, *_rest = sql(server, "SHOW MASTER STATUS" if is_mariadb(server) else "SHOW BINARY LOG STATUS")[0]
    return file, int(position)


def state(server):
    return json.loads(server.check_output("cat /run/webstack-binlog/state.json"))


def status(server):
    """Words and exit code."""
    done = server.run("webstack-backup status")
    return done.stdout, done.rc


def whole(server, seconds=60):
    """Waits until the target has the whole log, and commits are acknowledged by it."""
    begun = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def is_whole():
        found, end = state(server), end_of_log(server)
        assert found["time"] > begun and found["shipped"], found
        assert (found["shipped"]["file"], found["shipped"]["position"]) == end, found
        assert found["acknowledged"] and not found["fault"], found
        return status(server)[1] == 0

    until(is_whole, seconds)


def name(server):
    return server.backend.name.split("-")[1]


def folder(server):
    """Of its log at the target."""
    return f"{ARCHIVE}/{name(server)}/log/{state(server)['line']}"


def copies(server):
    """The files of its log at the target; after a new line, the newest."""
    lines = host(TARGET).check_output("ls -d %s/%s/log/*/", ARCHIVE, name(server)).split()
    found = {}
    for path in host(TARGET).check_output("ls %s", lines[-1]).split():
        if path.startswith("binlog."):
            found[path] = content(TARGET, lines[-1] + path)
    return found


def content(container, path):
    return subprocess.run(["docker", "exec", container, "cat", path], check=True, capture_output=True).stdout


def own_files(server):
    where = sql(server, "SELECT @@log_bin_basename")[0][0]
    listed = sql(server, "SHOW BINARY LOGS")
    return {row[0]: content(server.backend.name, f"{Path(where).parent}/{row[0]}") for row in listed}


def closed(data):
    """The file as if its server had closed it."""
    return data[:IN_USE] + bytes([data[IN_USE] & 0xFE]) + data[IN_USE + 1 :]


def is_identical(server):
    """Whether the target has exactly what the server has, as far as the server has it still."""
    own, there = own_files(server), copies(server)
    assert own.keys() <= there.keys(), (own.keys(), there.keys())
    for file, data in own.items():
        assert len(data) == len(there[file]), (file, len(data), len(there[file]))
        assert closed(data) == there[file], file
    return own


class Writing:
    """Four writers on a host, until `end`."""

    running: ClassVar[list["Writing"]] = []  # so that a test that fails does not leave them behind

    def __init__(self, server, pause=0.0):
        self.running.append(self)
        self.run = hashlib.sha1(str(time.time_ns()).encode()).hexdigest()[:8]
        self.output = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"{self.run}.rows"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                ["docker", "exec", "--interactive", server.backend.name, "python3", "-c", WRITER, self.run, str(pause)],
                stdin=subprocess.PIPE, stdout=output, text=True,
            )  # fmt: skip

    def lines(self):
        # Opened anew: a place in a file is shared with the process that writes it. The last line may be torn.
        return [line.split(",") for line in self.output.read_text().split("\n")[:-1] if line.count(",") == 2]

    def acknowledged(self):
        return {int(number): (begun, done) for number, begun, done in self.lines() if done}

    def begun(self):
        return {int(number): begun for number, begun, _done in self.lines()}

    def wait_for(self, more):
        before = len(self.acknowledged())
        until(lambda: len(self.acknowledged()) >= before + more)
        return self

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(60)
        return self

    @classmethod
    def end_all(cls):
        while cls.running:
            cls.running.pop().end()

    def found(self, files):
        """The place of each of its rows in files of the log, as (file, offset); each stands there once."""
        places = {}
        for file, data in sorted(files.items()):
            for match in re.finditer(rb"row-" + self.run.encode() + rb"-([0-9]+)\|", data):
                assert int(match[1]) not in places, f"twice: {match[0]}"
                places[int(match[1])] = (int(file.split(".")[1]), match.start())
        return places


def restart(container):
    """Starts a container that was killed, with the target's name, which it forgets."""
    (state_,) = [line for line in platforms() if line["name"] == container]
    subprocess.run([PROJECT / "tools/container", "up", container, state_["image"]], check=True, capture_output=True)
    address = whereabouts(TARGET)[TARGET].address
    host(container).check_output(
        "grep -q target.example.com /etc/hosts || echo %s target.example.com >> /etc/hosts", address
    )


def platforms():
    return [{"name": item, "image": "bookworm" if "debian12" in item else "trixie"} for item in names()]


# In the order in which they disturb the hosts least


@pytest.mark.thorough
def test_a_dry_run_of_a_converged_host_changes_nothing(converge):
    assert converge("--check").must_succeed().changed == []


@on_all
def test_the_log_at_the_target_is_the_servers_byte_by_byte(database):
    """Definitions, temporary tables, an account, text in all alphabets, a large value, a large transaction, three files."""
    sql(
        database,
        "CREATE TABLE app.t (id INT AUTO_INCREMENT PRIMARY KEY, text LONGTEXT CHARACTER SET utf8mb4)",
        "INSERT INTO app.t (text) VALUES ('käse 🧀'), (REPEAT('x', 20000000))",
        "CREATE TEMPORARY TABLE app.s SELECT 1 AS one",
        "INSERT INTO app.t (text) SELECT one FROM app.s",
        "SET time_zone = '+05:30'",
        "INSERT INTO app.t (text) VALUES (NOW())",
        "FLUSH BINARY LOGS",
        "CREATE USER IF NOT EXISTS somebody@localhost",
        "BEGIN",
        *["INSERT INTO app.t (text) SELECT LEFT(text, 999) FROM app.t"] * 10,
        "COMMIT",
        "DROP USER somebody@localhost",
        "FLUSH BINARY LOGS",
        "DROP TABLE app.t",
    )
    whole(database)
    own = is_identical(database)
    assert len(own) >= 3 and sum(map(len, own.values())) > 20_000_000


@on_all
def test_status_says_what_is_promised(database):
    words, code = status(database)
    file, position = end_of_log(database)
    assert code == 0
    assert f"Shipping: webstack-archive@target.example.com has the log up to {file}:{position}, complete" in words
    assert "each waits for it, 2000 ms at most" in words


@pytest.mark.thorough
@on_all
def test_a_server_that_is_restarted_is_followed(database):
    unit = "mariadb" if is_mariadb(database) else "mysql"
    before = end_of_log(database)
    database.check_output("systemctl restart %s.service", unit)
    writing = Writing(database).wait_for(50).end()
    whole(database)
    assert end_of_log(database)[0] > before[0]
    is_identical(database)
    assert writing.acknowledged().keys() <= writing.found(copies(database)).keys()


@pytest.mark.thorough
@on_all
def test_a_server_that_begins_another_line_is_followed_into_it(database):
    """Its log is gone, and the id with it: what is written now does not go on where the target's copy ends."""
    unit, old, before = "mariadb" if is_mariadb(database) else "mysql", folder(database), copies(database)
    database.check_output("systemctl stop %s.service && rm -r /var/lib/mysql-binlog/*", unit)
    database.check_output("systemctl start %s.service", unit)
    whole(database)
    assert folder(database) > old
    writing = Writing(database).wait_for(50).end()
    whole(database)
    own = is_identical(database)
    assert writing.acknowledged().keys() <= writing.found(own).keys()
    path = f"/var/lib/webstack-binlog/ledgers/{Path(folder(database)).name}"
    ends = [line.split()[1:3] for line in database.file(path).content_string.splitlines()]
    assert ends and all(int(position) <= len(own[file]) for file, position in ends), ends
    there = host(TARGET)
    assert {
        file: content(TARGET, f"{old}/{file}") for file in there.check_output("ls %s", old).split() if file in before
    } == before


@on_all
def test_the_ledger_tells_which_rows_lie_before_a_moment(database):
    """For each of its lines while rows are written, and for a mark."""
    writing = Writing(database, pause=0.005).wait_for(100)
    # As role app_server does before a migration.
    mark = database.check_output("run-parts --arg=shop --arg=release-7 /etc/webstack/before-migration.d")
    writing.wait_for(500)
    time.sleep(3)  # for some more lines
    writing.end()
    whole(database)
    places = writing.found(copies(database))
    first = min(writing.begun().values())
    lines = content(TARGET, f"{folder(database)}/ledger").decode().splitlines()
    assert mark.endswith(" mark before:release-7") and lines.count(mark) == 1
    judged = [0, 0]
    for line in (line for line in lines if line > first):
        before, file, position, after = line.split()[:4]
        end = int(file.split(".")[1]), int(position)
        for number, (begun, done) in writing.acknowledged().items():
            if done < before:
                assert places[number] < end, line
                judged[0] += 1
            if begun > after:
                assert places[number] > end, line
                judged[1] += 1
    assert min(judged) > 1000, judged
    print(
        f"{name(database)}: {judged[0]} rows acknowledged before a line, {judged[1]} begun after one: all on the right side"
    )


def test_a_quiet_server_does_not_fill_the_ledger(databases):
    def sizes():
        return [server.file(f"/var/lib/webstack-binlog/ledgers/{state(server)['line']}").size for server in databases]

    before = sizes()
    time.sleep(5)
    for size, after in zip(before, sizes(), strict=True):
        # At most the end of the time before, and the minute's line.
        assert size > 0 and after - size <= 2 * 90


@on_all
def test_nothing_acknowledged_is_lost_with_the_server(database):
    """kill -9 of the server, while four writers write."""
    unit = "mariadb" if is_mariadb(database) else "mysql"
    writing = Writing(database).wait_for(500)
    database.check_output("systemctl kill --signal=KILL --kill-whom=all %s.service", unit)
    writing.wait_for(100).end()  # it comes back by itself
    whole(database)
    acknowledged = writing.acknowledged()
    assert acknowledged.keys() <= writing.found(copies(database)).keys()
    is_identical(database)
    print(f"{name(database)}: 0 of {len(acknowledged)} lost")


@pytest.mark.thorough
@on_all
def test_a_streamer_that_is_killed_each_second_leaves_no_hole_and_nothing_twice(database):
    def shown(what):
        return database.check_output(f"systemctl show --property={what} --value webstack-binlog.service")

    before, killed = int(shown("NRestarts")), ["0"]
    writing = Writing(database)
    for turn in range(10):
        until(lambda: shown("MainPID") not in killed)
        time.sleep(0.5)
        killed.append(shown("MainPID"))
        database.check_output("systemctl kill --signal=KILL --kill-whom=all webstack-binlog.service")
        if turn == 5:
            sql(database, "FLUSH BINARY LOGS")
    writing.wait_for(100).end()
    whole(database)
    assert int(shown("NRestarts")) - before >= 10
    own, acknowledged = is_identical(database), writing.acknowledged()
    found = writing.found(copies(database))
    assert acknowledged.keys() <= found.keys() and found == writing.found(own)
    print(f"{name(database)}: {len(acknowledged)} rows, 0 missing, 0 twice")


@pytest.mark.thorough
@on_all
def test_a_torn_tail_at_the_target_is_cut(database):
    file, position = end_of_log(database)
    path = f"{folder(database)}/{file}"
    database.check_output("systemctl stop webstack-binlog.service")
    target, torn = host(TARGET), f"/tmp/torn-{name(database)}"
    target.check_output("head -c 1000 %s > %s && cat %s >> %s", path, torn, torn, path)
    assert target.file(path).size == position + 1000
    database.check_output("systemctl start webstack-binlog.service")
    whole(database)
    assert target.file(path).size == position
    Writing(database).wait_for(50).end()
    whole(database)
    is_identical(database)


def kill(server, writing, *after):
    """Kills the whole machine, from one moment to the next. What it acknowledged is at the target, and it goes on later."""
    container = server.backend.name
    subprocess.run(["docker", "kill", "--signal=KILL", container], check=True, capture_output=True)
    writing.end()
    try:
        for step in after:
            step()
        acknowledged, found = writing.acknowledged(), writing.found(copies(server))
    finally:
        restart(container)
    assert acknowledged.keys() <= found.keys()
    whole(host(container))
    is_identical(host(container))
    print(f"{name(server)}: 0 of {len(acknowledged)} lost")
    return acknowledged


@on_all
def test_nothing_acknowledged_is_lost_with_the_host(database):
    """While four writers write."""
    assert len(kill(database, Writing(database).wait_for(500))) >= 500


@pytest.fixture
def thawed():
    """For tests that freeze the target: it runs again afterwards."""
    yield
    Writing.end_all()
    for barrier in (FREEZE, THAW):
        barrier.reset()
    subprocess.run(["docker", "unpause", TARGET], check=False, capture_output=True)
    at_once(lambda container: whole(host(container), 120), DATABASES)


@pytest.mark.usefixtures("thawed")
@on_all
def test_a_frozen_target_stops_commits_for_a_moment_and_is_told_in_words(database):
    writing = Writing(database).wait_for(200)
    whole_before = state(database)["since"]
    FREEZE.wait()
    time.sleep(0.5)
    waiting = len(writing.acknowledged())
    time.sleep(0.8)
    # Each waits: what was acknowledged in between was on its way when the target froze.
    assert len(writing.acknowledged()) - waiting <= 4
    writing.wait_for(200)  # and goes on after the timeout
    words = (
        r"Fault: the target has not answered for [0-9]+ s\n"
        r"NOT acknowledged since \S+ \S+ UTC: ([1-9][0-9]*) commits are only on this host"
    )
    until(lambda: re.search(words, status(database)[0]))
    told = re.search(words, status(database)[0])[1]
    assert status(database)[1] == 1
    assert state(database)["behind_bytes"] > 0 and state(database)["since"] > whole_before
    THAW.wait()
    writing.wait_for(100)
    until(lambda: state(database)["acknowledged"], 120)  # while it is written to
    writing.wait_for(100).end()
    whole(database)
    assert state(database)["unprotected"] == 0
    is_identical(database)
    assert writing.acknowledged().keys() <= writing.found(copies(database)).keys()
    print(f"{name(database)}: {told} commits without protection were counted")


@pytest.mark.thorough
@pytest.mark.usefixtures("thawed")
@on_all
def test_of_the_log_only_what_is_old_and_at_the_target_is_removed(database):
    def age():
        database.check_output("touch --date='8 days ago' /var/lib/mysql-binlog/binlog.[0-9]*[0-9]")

    def purged():
        words = database.check_output("webstack-backup purge")
        return words, [row[0] for row in sql(database, "SHOW BINARY LOGS")]

    def write():
        sql(database, "INSERT INTO app.written (text) VALUES ('x')", "FLUSH BINARY LOGS")

    write()
    whole(database)
    young = [row[0] for row in sql(database, "SHOW BINARY LOGS")]
    assert purged() == ("", young)
    # Nor what its state says that the target has, though the target has it not: an account other than root writes that.
    told = state(database)
    database.check_output("systemctl stop webstack-binlog.service")
    write()
    write()
    age()
    told |= {
        "time": database.check_output("date -u +%FT%T.%6NZ"),
        "shipped": {**told["shipped"], "file": "binlog.999999"},
    }
    told_in = "/run/webstack-binlog/state.json"
    database.check_output(f"mkdir -p {Path(told_in).parent} && echo %s > {told_in}", json.dumps(told))
    words, left = purged()
    assert left[0] == young[-1] and len(left) == 3, (left, young)
    assert f"removed {len(young) - 1} files of the log that the target has; {young[-1]} is the oldest now" in words
    assert purged() == ("", left)
    database.check_output("systemctl start webstack-binlog.service")
    whole(database)
    # Nor when it is not known what the target has.
    FREEZE.wait()
    age()
    words, frozen_left = purged()
    assert words.startswith("nothing of the log is removed: webstack-archive@") and frozen_left == left
    THAW.wait()
    whole(database)
    age()
    assert purged()[1] == [end_of_log(database)[0]]
    is_identical(database)


@pytest.mark.thorough
@pytest.mark.usefixtures("thawed")
@on_all
def test_a_host_that_dies_after_its_target_loses_only_what_was_said_to_be_unprotected(database):
    """Frozen, the target acknowledges nothing; the writers wait, and what they wait for is not acknowledged."""
    writing = Writing(database).wait_for(200)
    FREEZE.wait()
    time.sleep(1)
    # The second is for what the target's kernel had received before it froze.
    assert len(kill(database, writing, THAW.wait, lambda: time.sleep(1))) >= 200


@on_all
def test_the_key_and_what_it_opens_are_in_no_process_list_and_no_journal(database):
    secret = (KEYS / database.backend.name).read_text().splitlines()[2]
    with watched([database], secret, "cmdline", "environ") as met:
        database.check_output("systemctl restart webstack-binlog.service")
        whole(database)
    assert met == []
    assert database.run("journalctl --no-pager | grep -F %s", secret).rc == 1
    for path in ("/etc/webstack-backup/key", "/run/webstack-binlog/key"):
        assert database.file(path).mode in (0o600, 0o400)


@on_all
def test_the_streamer_may_read_the_log_and_nothing_else(database):
    as_streamer = CLIENT.replace('user="root"', 'user="webstack-binlog"')
    done = database.run("runuser -u webstack-binlog -- python3 -c %s %s", as_streamer, "SELECT * FROM app.written")
    assert done.rc != 0 and "denied" in done.stderr
    # Who may do that may change data past the log, too, or without one.
    done = database.run(
        "runuser -u webstack-binlog -- python3 -c %s %s", as_streamer, "PURGE BINARY LOGS TO 'binlog.000001'"
    )
    assert done.rc != 0 and "denied" in done.stderr
    done = database.run("runuser -u nobody -- python3 -c %s %s", as_streamer, "SELECT 1")
    assert done.rc != 0 and "Access denied" in done.stderr


@pytest.mark.thorough
@on_all
def test_a_log_that_was_purged_too_early_is_a_hole_and_said_to_be_one(database):
    database.check_output("systemctl stop webstack-binlog.service")
    before = end_of_log(database)[0]
    sql(
        database,
        "INSERT INTO app.written (text) VALUES ('x')",
        "FLUSH BINARY LOGS",
        "INSERT INTO app.written (text) VALUES ('y')",
    )
    now = end_of_log(database)[0]
    sql(database, f"PURGE BINARY LOGS TO '{now}'")
    there = copies(database)
    database.check_output("systemctl start webstack-binlog.service")
    words = f"a hole: the target has the log up to {before}, and this server has it from {now} on"
    until(lambda: words in status(database)[0])
    assert status(database)[1] == 1
    assert words in database.check_output("journalctl --no-pager -o cat -u webstack-binlog.service")
    assert copies(database) == there
    old = folder(database)
    assert database.run("webstack-backup new-line").rc == 0
    whole(database)
    assert folder(database) > old
    is_identical(database)


@pytest.mark.thorough
@on_all
def test_a_log_that_was_begun_anew_is_not_mixed_with_the_one_before(database):
    there = copies(database)
    database.check_output("systemctl stop webstack-binlog.service")
    sql(database, "RESET MASTER" if is_mariadb(database) else "RESET BINARY LOGS AND GTIDS")
    while end_of_log(database)[0] < max(there):
        sql(database, "FLUSH BINARY LOGS")
    database.check_output("systemctl start webstack-binlog.service")
    until(lambda: "is another than that at the target: the log was begun anew" in status(database)[0])
    assert copies(database) == there
    assert database.run("webstack-backup new-line").rc == 0
    whole(database)
    is_identical(database)


# Appends an event that is whole to a file of the log.
FORGERY = """
import os, struct, sys, time, zlib
end = os.path.getsize(sys.argv[1]) + 31
event = struct.pack("<IBIIIHQ", int(time.time()), 16, 1, 31, end, 0, 0)
with open(sys.argv[1], "ab") as file:
    file.write(event + struct.pack("<I", zlib.crc32(event)))
"""


@pytest.mark.thorough
@on_all
def test_what_somebody_else_has_appended_is_told(database):
    """Also once the server has written past it, in the middle of an event of its own."""
    (file, position), there = end_of_log(database), folder(database)
    database.check_output("systemctl stop webstack-binlog.service")
    host(TARGET).check_output("python3 -c %s %s", FORGERY, f"{there}/{file}")
    database.check_output("systemctl start webstack-binlog.service")
    told = f"the target has the log up to {file}:{position + 31}, "
    until(lambda: f"{told}and this server up to {file}:{position}: somebody else" in status(database)[0])
    sql(database, "INSERT INTO app.written (text) VALUES (REPEAT('x', 99))")
    until(lambda: f"{told}where no event of this server's log begins: somebody else" in status(database)[0])
    assert status(database)[1] == 1
    assert "Killed" not in [row[4] for row in sql(database, "SHOW PROCESSLIST")]
    database.check_output("webstack-backup new-line")
    whole(database)
    is_identical(database)


# Runs of the playbook


@pytest.mark.thorough
@pytest.mark.usefixtures("thawed", "restored")  # in this order: the target has all when commits wait for it again
def test_without_acknowledgement_a_frozen_target_stops_nobody_and_one_that_is_declared_no_more_is_left(converge):
    converge(backup_acknowledge=False).must_succeed()
    servers = [host(container) for container in DATABASES]
    at_once(may_be_behind, servers)
    docker("pause")
    at_once(goes_on, servers)
    docker("unpause")
    without = {"backup_acknowledge": False, "backup_target": {}}
    converge(**without).must_succeed()
    at_once(is_left, servers)
    assert converge(**without).must_succeed().changed == []


def may_be_behind(server):
    until(lambda: not state(server)["declared"] and not state(server)["behind_bytes"])
    assert "what is behind is lost with this host" in status(server)[0] and status(server)[1] == 0


def goes_on(server):
    rows = Writing(server).wait_for(500).end().acknowledged().values()
    longest = max(seconds(done) - seconds(begun) for begun, done in rows)
    assert longest < 1.5, f"{name(server)}: {longest}"
    until(lambda: state(server)["behind_bytes"] > 0)


def is_left(server):
    assert not server.service("webstack-binlog").is_running
    for path in ("/etc/webstack-backup/key", "/etc/systemd/system/webstack-binlog.service"):
        assert not server.file(path).exists, path
    assert copies(server)
    assert "is lost with this host" in status(server)[0]


def seconds(moment):
    whole, _dot, fraction = moment.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")


@pytest.mark.thorough
@on_all
def test_a_target_with_another_key_is_not_talked_to(database):
    before = copies(database)
    known = database.file("/etc/webstack-backup/known_hosts").content_string
    other = (KEYS / f"{DATABASES[0]}.pub").read_text().split()[1]
    database.check_output("sed -i %s /etc/webstack-backup/known_hosts", f"s#ssh-ed25519 .*#ssh-ed25519 {other}#")
    database.check_output("systemctl restart webstack-binlog.service")
    until(lambda: "Host key verification failed" in status(database)[0])
    assert copies(database) == before
    database.check_output("printf %%s %s > /etc/webstack-backup/known_hosts", known)
    whole(database)


@pytest.mark.thorough
def test_what_cannot_work_is_refused_before_anything_changes(converge, tmp_path):
    converge(backup_acknowlege=True).must_be_refused("backup_acknowlege: unknown variable")
    converge(backup_target={"host": "x.example.com", "prot": 22}).must_be_refused("backup_target.prot")
    converge(backup_target={"host": "x.example.com"}).must_be_refused(
        "backup_target.key_file: required", "backup_target.host_key: required"
    )
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", locked], check=True)
    # A host each.
    key_files = dict(zip(DATABASES, ["/nowhere", str(KEYS / "target.pub"), str(locked)], strict=True))
    key_file = f"{{{{ {key_files}[inventory_hostname] }}}}"
    host_key = (KEYS / "target.pub").read_text().strip()
    converge(backup_target={"host": "target.example.com", "key_file": key_file, "host_key": host_key}).must_be_refused(
        "there is no file /nowhere on the controller", "is not a private key in OpenSSH's format", "has a passphrase"
    )
