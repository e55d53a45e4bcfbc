#!/usr/bin/env python3
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node of a Galera cluster: how it starts, when it may be restarted, and the election of the one writer.

mysql-node before             ExecStartPre of the server: with which options this start joins, or begins, a cluster
mysql-node after              ExecStartPost: waits until the node has caught up, and makes the election's table
mysql-node last               which change the data of this host have last
mysql-node begin              the next start begins the cluster with the data of this host: recover.yml alone says so
mysql-node serve              webstack-writer.service: elects the writer, and answers /writer and /node
mysql-node status             what the node says of itself, as JSON; `error` alone if it does not answer
mysql-node writer             which other node takes writes; fails if none does
mysql-node runs               whether the server of this host runs as a node of the cluster's majority: yes or no
mysql-node check FILE [grow [alone]] [incomplete]
                              whether the server may be started or restarted now, with this configuration; grow: also as the first
                              node of a cluster; alone: no other host has data of a cluster; incomplete: while one node has all data
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

DATA = Path("/var/lib/mysql")
STATE = DATA / "grastate.dat"
CONFIGURATION = Path("/etc/mysql/webstack-cluster.json")
# Options of this one start. The unit reads it, and systemd removes its folder when the server stops.
OPTIONS = Path("/run/mysql-tls/options")
# Lets the next start begin a cluster with the data of this host, if it is no node of one yet.
GROW = Path("/run/webstack-mysql-grow")
SOCKET = "/run/mysqld/mysqld.sock"
UNIT = "mariadb.service"
PORT = 3308
SYSTEM_FOLDERS = {"mysql", "performance_schema", "sys", "lost+found"}
NO_UUID = "00000000-0000-0000-0000-000000000000"
SYNCED, DONOR = "4", "2"  # values of wsrep_local_state

LOOK_SECONDS = 0.25
# A look at the server that is older than this says nothing: the server, or this whole host, may have been stopped since.
STALE_SECONDS = 2.0
ASK_SECONDS = 2.0
CLIENT_SECONDS = 10
HAND_OVER_SECONDS = 5
NOTICE_SECONDS = 0.75  # each proxy asks every half second (role database_proxy)
QUIET_SECONDS = 1.0
# InnoDB's list of transactions stays as it is while somebody reads it more often than each 0.1 s.
PAUSE_SECONDS = 0.12

USER = "webstack-writer"
# The server's own user takes the copy that another node asks for (SST).
SCHEMA = f"""
CREATE DATABASE IF NOT EXISTS webstack;
CREATE TABLE IF NOT EXISTS webstack.writer
  (id TINYINT PRIMARY KEY, name VARCHAR(255) NOT NULL, since TIMESTAMP(6) NOT NULL) ENGINE=InnoDB;
CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED VIA unix_socket;
GRANT READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS ON *.* TO '{USER}'@'localhost';
GRANT SELECT ON mysql.wsrep_cluster_members TO '{USER}'@'localhost';
GRANT SELECT, UPDATE ON webstack.writer TO '{USER}'@'localhost';
CREATE USER IF NOT EXISTS mysql@localhost IDENTIFIED VIA unix_socket;
GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR ON *.* TO mysql@localhost;
INSERT IGNORE INTO webstack.writer VALUES (1, @@wsrep_node_name, UTC_TIMESTAMP(6));
"""
STATUS = (
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state', "
    "'wsrep_local_state_comment', 'wsrep_cluster_size', 'wsrep_cluster_state_uuid', 'wsrep_last_committed')"
)
ELECTED = (
    "SELECT name, CAST(since AS CHAR), @@GLOBAL.read_only, "
    "(SELECT JSON_ARRAYAGG(node_name) FROM mysql.wsrep_cluster_members) FROM webstack.writer WHERE id = 1"
)
BECOME = "UPDATE webstack.writer SET name = %s, since = UTC_TIMESTAMP(6) WHERE name = %s"
# Sessions of applications: not the server's own, those of root and of backups.
SESSIONS = (
    "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND NOT IN ('Daemon', 'Binlog Dump') "
    f"AND USER NOT IN ('root', 'mysql', 'system user', '{USER}')"
)

# Of these, those that have asked nothing for so many milliseconds and have no transaction open: nothing is lost with them.
IDLE = (
    f"{SESSIONS} AND COMMAND = 'Sleep' AND TIME_MS >= %s "
    "AND ID NOT IN (SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX)"
)
# All at once inside the server: from here, one that has been idle would have begun its next statement meanwhile. Those that have ended
# by themselves (error 1094) are no matter, and those that change a table's definition (1095) end by themselves.
END = "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094, 1095 BEGIN END; FOR it IN ({}) DO KILL CONNECTION it.ID; END FOR; END"


class Config:
    """The cluster as it is declared, read anew each time: a node that is added restarts nothing."""

    def __init__(self, path: Path = CONFIGURATION) -> None:
        values = json.loads(path.read_text(encoding="utf-8"))
        self.cluster: str = values["name"]
        self.address: str = values["address"]
        self.nodes: dict[str, str] = {node["name"]: node["address"] for node in values["nodes"]}
        self.name = next(name for name, address in self.nodes.items() if address == self.address)
        self.others = {name: address for name, address in self.nodes.items() if name != self.name}
        folder = os.environ.get("WEBSTACK_COPIES")  # of a service that is not root's
        self.certificate, self.key, self.authority = (
            f"{folder}/{word}" if folder else values[word] for word in ("certificate", "key", "authority")
        )

    def context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        """Both sides of a connection have a certificate of the same authority."""
        context = ssl.create_default_context(purpose, cafile=self.authority)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context


def ask(config: Config, address: str) -> dict[str, Any]:
    """What the node at an address says of itself; `error` alone if it does not answer."""
    connection = http.client.HTTPSConnection(
        address, PORT, timeout=ASK_SECONDS, context=config.context(ssl.Purpose.SERVER_AUTH)
    )
    try:
        connection.request("GET", "/node")
        return dict(json.loads(connection.getresponse().read(65536)))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"error": str(error) or type(error).__name__}
    finally:
        connection.close()


def words(state: dict[str, Any]) -> str:
    if "error" in state:
        return f"does not answer ({state['error']})"
    return f"{state['state']}, in a {state['status']} component of {state['size']}"


def ask_others(config: Config) -> dict[str, dict[str, Any]]:
    return {name: ask(config, address) for name, address in config.others.items()}


def listed(config: Config, answers: dict[str, dict[str, Any]]) -> str:
    return "".join(f"\n  {name} ({config.nodes[name]}): {words(answer)}" for name, answer in answers.items())


def is_primary(state: dict[str, Any]) -> bool:
    return state.get("status") == "Primary"


def is_synced(state: dict[str, Any]) -> bool:
    return is_primary(state) and state["state"] == "Synced"


# --- the start of the server -----------------------------------------------------------------------------------------


def saved() -> dict[str, str]:
    """What Galera has written down with the data; empty if they are no node's."""
    try:
        text = STATE.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return dict(re.findall(r"^(\w+):\s+(\S+)$", text, re.MULTILINE))


def databases() -> list[str]:
    try:
        names = [entry.name for entry in os.scandir(DATA) if entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if name not in SYSTEM_FOLDERS and not name.startswith(("#", ".")))


def position() -> str:
    """The last change that the data have, as UUID:number, from the storage engine."""
    file = CONFIGURATION.with_name("webstack.cnf")
    argv = ["mariadbd", f"--defaults-file={file}", "--user=mysql", "--wsrep-recover", "--disable-log-error"]
    # It connects to nobody, but refuses to go on without an address.
    argv.append("--wsrep-cluster-address=gcomm://")
    if not re.search(r"^log_bin ", file.read_text(encoding="utf-8"), re.MULTILINE):
        argv.append("--log-bin=/var/lib/mysql-binlog/binlog")  # as the unit says: a log beside the data
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"WSREP: Recovered position: *(\S+)", done.stderr)
    if not found:
        sys.exit(f"{argv[0]} does not say which change its data have last:\n{done.stderr[-2000:]}")
    return found[1]


def before() -> None:
    config, state = Config(), saved()
    options = [f"--wsrep-cluster-address=gcomm://{','.join(config.nodes.values())}"]
    grows = GROW.exists()
    GROW.unlink(missing_ok=True)
    # Of a node's data Galera itself asks for this mark, which recover.yml sets where they are the newest.
    if grows and state.get("safe_to_bootstrap", "1") == "1":
        options.append("--wsrep-new-cluster")
        if not state:
            # Alone, it takes writes as it did before: there is nobody who could elect another one.
            options.append("--read-only=OFF")
    elif not state and databases():
        sys.exit(
            f"{DATA} holds the databases {', '.join(databases())}, and is no node's of a cluster: the server does not start, as a "
            "node that joins has its data replaced by the cluster's."
        )
    if state.get("uuid", NO_UUID) != NO_UUID and state.get("seqno") == "-1":
        # It did not stop in an orderly way. With the position it gets only what it has missed.
        options.append(f"--wsrep-start-position={position()}")
    OPTIONS.write_text(f"WSREP_OPTIONS={' '.join(options)}\n", encoding="utf-8")


def last() -> None:
    """Prints the last change that the data of this host have, as UUID:number; its server does not run."""
    state = saved()
    clean = state.get("seqno", "-1") != "-1"
    print(f"{state['uuid']}:{state['seqno']}" if clean else position() if state else f"{NO_UUID}:-1")


def begin() -> None:
    """Lets the next start begin the cluster with the data of this host."""
    STATE.write_text(
        re.sub(r"(?m)^safe_to_bootstrap: 0$", "safe_to_bootstrap: 1", STATE.read_text(encoding="utf-8")),
        encoding="utf-8",
    )
    GROW.touch()


CLIENT = ["mariadb", "--no-defaults", "--user=root", f"--socket={SOCKET}", "--batch", "--skip-column-names"]


def sql(statements: str) -> str:
    return subprocess.run(CLIENT, input=statements, capture_output=True, text=True, check=True).stdout


def runs_here() -> bool:
    """Whether the server of this host runs as a node of the cluster's majority. Exits if it runs and does not say."""
    question = "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_status'"
    try:
        done = subprocess.run(
            CLIENT, input=question, capture_output=True, text=True, check=True, timeout=CLIENT_SECONDS
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        if subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0:
            sys.exit(f"{UNIT} runs, and does not say whether it is in a cluster: {complaint(error)}")
        return False
    return "\tPrimary" in done.stdout


def complaint(error: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {CLIENT_SECONDS} s"
    return error.stderr.strip() or f"exit code {error.returncode} of {CLIENT[0]}"


def after() -> None:
    # As long as this waits, the start is not over, and nobody restarts the next node.
    while sql("SHOW GLOBAL STATUS LIKE 'wsrep_local_state'").split()[1] != SYNCED:
        time.sleep(0.2)
    if not sql(
        f"SELECT 1 FROM information_schema.USER_PRIVILEGES WHERE GRANTEE LIKE '%{USER}%' AND PRIVILEGE_TYPE = 'CONNECTION ADMIN'"
    ):
        sql(SCHEMA)


def check(path: str, grow: bool = False, alone: bool = False, incomplete: bool = False) -> None:
    """Exits with the reasons why the server must not be started, or restarted, now."""
    config, state = Config(Path(path)), saved()
    answers = ask_others(config)
    told = listed(config, answers)
    primary = [answer for answer in answers.values() if is_primary(answer)]
    runs = runs_here()
    # The only node there has been: as a node that others join, it would wait for others that never were.
    only = alone and (runs or state.get("safe_to_bootstrap") == "1")
    if grow and not primary and (not state or only):
        GROW.touch()
        return
    # A node that is added has no data yet, and nobody waits for it.
    live = Config() if CONFIGURATION.exists() else config
    known = [answers[name] for name, address in config.others.items() if live.nodes.get(name) == address]
    synced = [is_synced(answer) for answer in known]
    if runs and known and not any(synced):
        sys.exit(f"The server would be restarted, but no other node has all data:{told}")
    if runs and not all(synced) and not incomplete:
        sys.exit(
            f"The server would be restarted, but not every other node has all data:{told}\n"
            "If these cannot be had back before, and the others shall carry the site alone: -e mysql_cluster_incomplete=true"
        )
    if not runs and not primary:
        sys.exit(
            f"No other node is in a running cluster, and this role never begins one:{told}\n"
            + (
                "After all nodes have stopped: make recover."
                if state
                else "To make this server the first node: make grow."
            )
        )
    if state.get("uuid", NO_UUID) != NO_UUID and any(answer["uuid"] != state["uuid"] for answer in primary):
        sys.exit(f"The data of this host are those of another cluster ({state['uuid']}):{told}")
    if not state and databases():
        sys.exit(
            f"{DATA} holds the databases {', '.join(databases())} of a server that is no node of the cluster. As it joins, they "
            f"would be replaced by the cluster's:{told}\nMove them away, or to make them the cluster's own: make grow."
        )


# --- the election ----------------------------------------------------------------------------------------------------


class Agent:
    """Looks at the server again and again, and sees to it that exactly one node takes writes.

    A row of a replicated table names the writer. If the node that it names has left the cluster's majority, each of the
    others puts its own name there; Galera lets one of these changes pass.
    """

    def __init__(self) -> None:
        self.config = Config()
        self.connection: Any = None
        self.state: dict[str, Any] = {"error": "not looked yet"}
        self.looked_at = -STALE_SECONDS
        self.has_sessions = True
        self.stopping = threading.Event()
        self.leaving = False

    def query(self, statement: str, *values: str | int) -> Any:
        import pymysql

        if self.connection is None:
            self.connection = pymysql.connect(
                unix_socket=SOCKET, user=USER, autocommit=True, connect_timeout=2, read_timeout=2, write_timeout=2,
                # It does not wait for a long transaction: the next look tries again.
                init_command="SET SESSION lock_wait_timeout = 1",
            )  # fmt: skip
        with self.connection.cursor() as cursor:
            count = cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else count

    def forget(self) -> None:
        if self.connection is not None:
            self.connection._force_close()
        self.connection = None

    def look(self) -> dict[str, Any]:
        begin = time.monotonic()
        self.config = Config()
        said = dict(self.query(STATUS))
        state = {
            "name": self.config.name,
            "cluster": self.config.cluster,
            "uuid": said["wsrep_cluster_state_uuid"],
            "status": said["wsrep_cluster_status"],
            "state": said["wsrep_local_state_comment"],
            "size": int(said["wsrep_cluster_size"]),
            "seqno": int(said["wsrep_last_committed"]),
            "writer": "",
            "since": "",
            "writes": False,
        }
        # A node that gives another one its copy goes on taking writes.
        if said["wsrep_cluster_status"] == "Primary" and said["wsrep_local_state"] in (SYNCED, DONOR):
            self.elect(state)
        self.state, self.looked_at = state, begin
        if state["writes"]:
            self.has_sessions = True
        elif self.has_sessions and is_primary(state):  # a node without majority refuses it
            self.end_sessions()
        return state

    def elect(self, state: dict[str, Any]) -> None:
        name, since, read_only, members = self.query(ELECTED)[0]
        state |= {"writer": name, "since": since, "members": sorted(json.loads(members or "[]"))}
        if name == self.config.name:  # also while the agent stops: the writer hands over, and only then stops being it
            if read_only:
                self.query("SET GLOBAL read_only = OFF")
            state["writes"] = True
            return
        if not read_only:
            # /writer must not say yes any more while the server waits for changes in flight.
            self.state = state
            self.take_no_writes()
        if (
            state["members"]
            and name not in state["members"]
            and state["state"] == "Synced"
            and not self.stopping.is_set()
        ):
            self.query(BECOME, self.config.name, name)

    def take_no_writes(self) -> None:
        """The server waits for changes in flight. Sessions whose change hangs end all the same."""
        import pymysql

        try:
            self.query("SET GLOBAL read_only = ON")
        except (pymysql.MySQLError, OSError):
            self.forget()
            raise
        finally:
            self.end_sessions()

    def end_sessions(self) -> None:
        """Has applications connect anew, to the node that writes: a proxy that has been reloaded would keep their connections."""
        self.query(END.format(SESSIONS))
        self.has_sessions = False

    def fresh(self) -> dict[str, Any]:
        """The last look, unless that is too old."""
        if time.monotonic() - self.looked_at > STALE_SECONDS:
            return {"error": self.state.get("error") or "its server has not answered for some time"}
        return self.state

    def run(self) -> None:
        import pymysql

        while not self.stopping.is_set():
            try:
                self.look()
            except (pymysql.MySQLError, OSError, LookupError) as error:
                self.forget()
                if not isinstance(error.__cause__, TimeoutError):
                    self.state = {"error": f"its server says: {error}"}
            self.stopping.wait(LOOK_SECONDS)
        if self.fresh().get("writes"):
            self.hand_over()

    def hand_over(self) -> None:
        """Makes another node the writer, before the server of this one stops."""
        members = self.state.get("members", [])  # the others would keep it waiting
        there = {name: address for name, address in self.config.others.items() if name in members}
        peer = next((name for name, address in there.items() if is_synced(ask(self.config, address))), "")
        if not peer:
            print("no other node can be the writer")
            return
        self.let_sessions_end()
        self.state = self.state | {"writes": False}
        self.give_to(peer)
        print(f"the writer is {peer} from now on")
        deadline = time.monotonic() + HAND_OVER_SECONDS
        while time.monotonic() < deadline and not ask(self.config, self.config.others[peer]).get("writes"):
            time.sleep(0.05)

    def let_sessions_end(self) -> None:
        """Whoever connects from now on waits for the next writer. Who is connected finishes what he does here.

        When all proxies know, sessions that rest are ended: applications look for that before they use them for the next request. The
        less time is left, the shorter a rest is enough, since those of a busy application are short.
        """
        import pymysql

        self.leaving = True
        known = time.monotonic() + NOTICE_SECONDS
        deadline = known + QUIET_SECONDS
        try:
            while (left := deadline - time.monotonic()) > 0 and self.query(SESSIONS):
                self.looked_at = time.monotonic()  # it answers, and goes on taking their writes
                if self.looked_at >= known:
                    self.query(END.format(IDLE), round(250 * left / QUIET_SECONDS))
                time.sleep(PAUSE_SECONDS)
        except (pymysql.MySQLError, OSError):
            self.forget()

    def give_to(self, peer: str) -> None:
        """Each try waits a second for changes in flight, and ends those that take longer. The name of the next writer comes after them."""
        import pymysql

        deadline = time.monotonic() + HAND_OVER_SECONDS
        while True:
            try:
                self.take_no_writes()
                self.query(BECOME, peer, self.config.name)
                return
            except (pymysql.MySQLError, OSError) as error:
                self.forget()
                if time.monotonic() > deadline:
                    sys.exit(f"{peer} was not made the writer: {error}")
            time.sleep(LOOK_SECONDS)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, agent: Agent) -> None:
        super().__init__((agent.config.address, PORT), Handler)
        self.agent = agent
        self.context = agent.config.context(ssl.Purpose.CLIENT_AUTH)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the thread of the connection: who connects and says nothing keeps nobody else waiting."""
        request.settimeout(ASK_SECONDS)
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            pass  # no certificate, or gone


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        state = self.server.agent.fresh()
        yes = {"/writer": bool(state.get("writes")), "/node": is_synced(state)}.get(self.path)
        if self.path == "/writer" and yes and self.server.agent.leaving:
            yes = None  # a proxy leaves those here who are connected, and sends no others
        body = json.dumps(state).encode()
        self.send_response(404 if yes is None else 200 if yes else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: Any) -> None:
        pass  # twice a second, from each application host


def serve() -> None:
    agent = Agent()
    signal.signal(signal.SIGTERM, lambda *_: agent.stopping.set())
    threading.Thread(target=Server(agent).serve_forever, daemon=True).start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
    agent.run()


def status() -> None:
    config = Config()
    print(json.dumps(ask(config, config.address)))


def writer() -> None:
    """Prints the name of the other node that takes writes."""
    config = Config()
    answers = ask_others(config)
    names = [name for name, answer in answers.items() if answer.get("writes")]
    print(names[0] if names else sys.exit(f"No other node takes writes:{listed(config, answers)}"))


COMMANDS = {
    "before": before, "after": after, "last": last, "begin": begin, "serve": serve, "status": status, "writer": writer,
    "runs": lambda: print("yes" if runs_here() else "no"),
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], **dict.fromkeys(sys.argv[3:], True))
    else:
        COMMANDS[sys.argv[1]]()
