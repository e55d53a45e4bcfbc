"""All that a server may hold comes back: once as a copy of its files, and once through its log."""

import shlex

import pytest
from copies import FULL, SOCKET, client, ran, sql

LIVE = "/run/mysqld/mysqld.sock"
# A backtick in the name of a database or a table of Aria has mariadb-backup fail, which does not quote it.
NAME = "odd.{which} n\"a'me"
# Statements decide in their own session what the log has of them: time zone, variables, temporary tables, names.
CONTENT = r"""
CREATE DATABASE `{name}`; USE `{name}`;
CREATE TABLE `a.b ``"' c` (id INT AUTO_INCREMENT PRIMARY KEY, body TEXT, length INT AS (CHAR_LENGTH(body)) STORED, UNIQUE KEY `k``.` (body(40)))
  ENGINE=InnoDB;
INSERT INTO `a.b ``"' c` (body) VALUES ('🙂 ''quoted'' \\ \n'), (NULL), ('');
CREATE TABLE big (id INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB; INSERT INTO big VALUES (1, REPEAT(RANDOM_BYTES(1024), 20480));
CREATE TABLE parts (id INT PRIMARY KEY, v INT) ENGINE=InnoDB
  PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN MAXVALUE);
INSERT INTO parts VALUES (1, 1), (11, 1), (21, 1); ALTER TABLE parts DROP PARTITION p0; ALTER TABLE parts TRUNCATE PARTITION p1;
CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(99)) ENGINE=InnoDB;
CREATE TRIGGER noted AFTER INSERT ON parts FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('row ', NEW.id));
INSERT INTO parts VALUES (31, 1), (32, 1);
CREATE VIEW `v.1` AS SELECT id, body FROM `a.b ``"' c` WHERE body <> '';
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01 03:00:00' DO DELETE FROM audit WHERE id < 0;
DELIMITER //
CREATE PROCEDURE more(IN n INT) BEGIN DECLARE i INT DEFAULT 0; WHILE i < n DO INSERT INTO audit (what) VALUES (UUID()); SET i = i + 1; END WHILE; END//
CREATE FUNCTION half(n INT) RETURNS INT DETERMINISTIC RETURN n DIV 2//
DELIMITER ;
CALL more(3); INSERT INTO audit (what) VALUES (half(9));
SET time_zone = '+05:30';
CREATE TABLE times (ts TIMESTAMP NULL DEFAULT '2026-03-29 02:30:00', dt DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6));
INSERT INTO times (ts) VALUES (DEFAULT), (NOW());
CREATE TEMPORARY TABLE passing (id INT, body TEXT); INSERT INTO passing VALUES (7, 'through a temporary table');
INSERT INTO audit (what) SELECT body FROM passing; CREATE TABLE taken AS SELECT * FROM passing; DROP TEMPORARY TABLE passing;
SET SESSION binlog_format = 'STATEMENT', @given = 'a variable 🙂';
INSERT INTO times VALUES (FROM_UNIXTIME(1700000000), FROM_UNIXTIME(1700000000)), (NOW(), '2026-03-29 02:30:00');
INSERT INTO audit (what) VALUES (@given), (RAND()), (LAST_INSERT_ID());
CREATE TEMPORARY TABLE passing (what VARCHAR(99)); INSERT INTO passing VALUES ('and as statements');
INSERT INTO audit (what) SELECT what FROM passing; DROP TEMPORARY TABLE passing;
SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'; CREATE VIEW joined AS SELECT 'a' || what AS "odd "" name" FROM audit;
CREATE USER '{user}'@'localhost' IDENTIFIED BY 'of {user}'; GRANT SELECT, INSERT ON "{name}".* TO '{user}'@'localhost';
"""
MARIADB = """
USE `{name}`; SET SESSION binlog_format = 'ROW';
CREATE TABLE isam (id INT PRIMARY KEY, v INT) ENGINE=MyISAM; INSERT INTO isam VALUES (1, 1), (2, 2);
CREATE TABLE aria (id INT PRIMARY KEY, v INT) ENGINE=Aria; INSERT INTO aria SELECT * FROM isam;
CREATE TABLE unsaid (id INT PRIMARY KEY, v INT); INSERT INTO unsaid SELECT * FROM isam;
CREATE SEQUENCE numbers START WITH 5; CREATE TABLE numbered (n BIGINT); INSERT INTO numbered VALUES (NEXTVAL(numbers)), (NEXTVAL(numbers));
"""


def written(host, which):
    """Returns the names of the database and the user."""
    name, user = NAME.format(which=which), f"odd {which}"
    text = CONTENT + (MARIADB if host.exists("mariadb") else "")
    text = text.replace('"{name}"', '"' + name.replace('"', '""') + '"')
    text = text.replace("{name}", name.replace("`", "``")).replace("{user}", user)
    ran(host, f"{client(host)} --user=root --default-character-set=utf8mb4 <<'END'\n{text}\nEND")
    return name, user


def removed(host):
    for which in ("copied", "replayed"):
        name = NAME.format(which=which).replace("`", "``")
        sql(host, f"DROP DATABASE IF EXISTS `{name}`; DROP USER IF EXISTS 'odd {which}'@'localhost'")


@pytest.fixture
def unlike(host):
    """A server that makes tables of another engine where none is said, as mysql_options may have it."""
    removed(host)
    before = sql(host, "SELECT @@GLOBAL.default_storage_engine, @@GLOBAL.innodb_default_row_format").split()
    engine = "Aria" if host.exists("mariadb") else "InnoDB"
    sql(host, f"SET GLOBAL default_storage_engine = {engine}, GLOBAL innodb_default_row_format = 'compact'")
    yield
    sql(host, f"SET GLOBAL default_storage_engine = {before[0]}, GLOBAL innodb_default_row_format = '{before[1]}'")
    ran(host, "webstack-backup end-scratch")
    removed(host)


def test_all_that_a_server_may_hold(host, unlike):
    names = [written(host, "copied")]
    ran(host, FULL)
    names.append(written(host, "replayed"))
    ran(host, "webstack-backup restore --to latest")
    tables = sql(
        host,
        "SELECT CONCAT('`', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '`') FROM information_schema.tables"
        " WHERE table_schema LIKE 'odd.%' AND table_type <> 'VIEW' ORDER BY 1",
    ).splitlines()
    assert len(tables) == 2 * (11 if host.exists("mariadb") else 6)
    for query in (
        f"CHECKSUM TABLE {', '.join(tables)}",
        "SELECT table_schema, table_name, engine, row_format FROM information_schema.tables WHERE table_schema LIKE 'odd.%' ORDER BY 1, 2",
        *(f"SHOW CREATE USER '{user}'@'localhost'; SHOW GRANTS FOR '{user}'@'localhost'" for _name, user in names),
    ):
        said = sql(host, query)
        assert "NULL" not in said.split() or "CHECKSUM" not in query
        assert sql(host, query, SOCKET) == said
    # And all the rest, which a dump has: rows, views, triggers, routines, events. MySQL's log says the character set of each column
    # where a table is made of a SELECT, which is the same table.
    program = "mariadb-dump" if host.exists("mariadb") else "mysqldump --set-gtid-purged=OFF"
    dump = f"{program} --user=root --routines --events --hex-blob --skip-comments --max-allowed-packet=1G --databases"
    dump += "".join(f" {shlex.quote(name)}" for name, _user in names)
    sides = [f"<({dump} --socket={socket} | sed 's/ CHARACTER SET utf8mb4//')" for socket in (LIVE, SOCKET)]
    compare = f"diff {' '.join(sides)} | cut -c 1-300"
    assert ran(host, f"bash -o pipefail -c {shlex.quote(compare)}") == ""
