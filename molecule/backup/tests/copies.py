"""What the tests of full backups and restores share: commands on a host, and how its servers are asked."""

import json
import re
import shlex

import pytest
from scenario import names

FULL = "webstack-backup full"
REPOSITORY = "/var/backups/webstack"
FOLDER = "/srv/shop/shared"  # of which role backup is told
PASSPHRASE = "/etc/webstack-backup/passphrase"
SOCKET = "/run/webstack-restore/mysqld.sock"
# A lock is written under another name first. A killed restic leaves that file behind, and nothing minds it.
LOCKS = f"find {REPOSITORY}/locks -type f ! -name '*-tmp-*'"
RESTIC = f"restic --repo {REPOSITORY} --password-file {PASSPHRASE} --no-cache --no-lock"

SERVERS = [name for name in names() if "target" not in name]
# What is a matter of restic is tried with the version of each Debian, and what is neither's nor the server's on one host.
OF_EACH_RESTIC = [name for name in SERVERS if "vendor" not in name]
by_restic = pytest.mark.parametrize("host", OF_EACH_RESTIC, indirect=True)
on_one = pytest.mark.parametrize("host", [name for name in SERVERS if "debian12" in name], indirect=True)


def ran(host, command):
    done = host.run(command)
    assert done.rc == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def refused(host, command, *words):
    done = host.run(command)
    assert done.rc == 1, f"{command}\n{done.stdout}\n{done.stderr}"
    missing = [word for word in words if not re.search(word, done.stderr)]
    assert not missing, f"not said: {missing}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stderr


def client(host):
    return "mariadb" if host.exists("mariadb") else "mysql"


def sql(host, statements, socket="/run/mysqld/mysqld.sock"):
    return ran(host, f"{client(host)} --user=root --socket={socket} -N -B -e {shlex.quote(statements)}")


def make_repository(host, folder, passphrase=PASSPHRASE, owner="root"):
    """As a slow machine makes it: restic chooses how much work a key is by the machine that makes it, and each call has that work.

    On a fast one that is most of a second of a processor, and a full backup is ten calls.
    """
    ran(
        host,
        f"systemd-run --quiet --wait --pipe --property=CPUQuota=5% restic --repo {folder} --password-file {passphrase} --no-cache init"
        f" && chown -R {owner}: {folder} && chmod 0700 {folder}",
    )


def fulls(host):
    return json.loads(ran(host, f"{RESTIC} snapshots --json --tag full"))


def position(host):
    found = host.run(f"{client(host)} --user=root -N -B -e 'SHOW BINARY LOG STATUS'")
    file, offset = (found.stdout if found.rc == 0 else sql(host, "SHOW MASTER STATUS")).split()[:2]
    return f"{file}:{offset}"


def log_folder(host):
    return sql(host, "SELECT @@log_bin_basename").rpartition("/")[0]
