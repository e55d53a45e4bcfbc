"""A visitor types www.foobar.com into a browser that knows nothing but the site's own name server.

SITE_CONTAINER names the site's container, SITE_AUTHORITY who signed its certificate. The browser is in
a container of its own; what it saw at last is kept as build/visitor.png.
"""

import json
import os
import re
import subprocess
import time
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
SITE, AUTHORITY = os.environ["SITE_CONTAINER"], os.environ["SITE_AUTHORITY"]
PORT = os.environ["DEMO_HTTPS_PORT"]
VISITOR = f"foobar-visitor-{os.getpid()}"
LOG_QUESTIONS = ["ansible-playbook", "--inventory", "inventories/demo", "site.yml", "--tags", "dns", "--extra-vars", "dns_query_log=true"]  # fmt: skip
PACKAGES = "chromium chromium-driver python3-selenium libnss3-tools fonts-dejavu-core"


def sh(command, container=VISITOR):
    done = subprocess.run(
        ["docker", "exec", container, "sh", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def seen():
    """What the visitor has seen, and the title of the article that was added on the way."""
    title = f"By a browser {uuid.uuid4()}"
    subprocess.run([PROJECT / "tools/container", "up", VISITOR, "trixie"], check=True)
    try:
        sh(
            f"apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends {PACKAGES}"
        )
        for path in (AUTHORITY, HERE / "browser.py"):
            subprocess.run(["docker", "cp", "--quiet", path, f"{VISITOR}:/root/"], check=True)
        sh("mkdir -p ~/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -N --empty-password"
           " && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n site -i ~/authority.pem")  # fmt: skip
        # As an operator would who wants to see what is asked.
        subprocess.run(LOG_QUESTIONS, cwd=PROJECT, check=True)
        # From here on, there is one name server.
        address = sh("hostname -I", SITE).split()[0]
        sh(f"echo nameserver {address} > /etc/resolv.conf")
        said = sh(f"python3 ~/browser.py www.foobar.com '{title}' ~/visitor.png")
        (PROJECT / "build").mkdir(exist_ok=True)
        subprocess.run(["docker", "cp", "--quiet", f"{VISITOR}:/root/visitor.png", PROJECT / "build"], check=True)
        yield json.loads(said.splitlines()[-1]), title
    finally:
        subprocess.run([PROJECT / "tools/container", "down", VISITOR], check=True)


def test_the_browser_asked_the_sites_own_name_server(seen):
    log = sh("systemctl reload knot && kdig -G /var/log/knot/queries.dnstap.1 +qr", SITE)
    asked = re.findall(r"QUESTION SECTION:\n;; (\S+)\s+IN\s+(\S+)\n.*?\n;; From (\S+)@", log, re.DOTALL)
    assert ("www.foobar.com.", "A", sh("hostname -I").split()[0]) in asked, log


def test_the_name_leads_to_a_secure_page(seen):
    saw, _title = seen
    assert saw["landed"] == f"https://www.foobar.com:{PORT}/"
    assert saw["secure"] is True and saw["protocol"] == "h2"


def test_what_the_visitor_wrote_is_there_after_a_reload(seen):
    saw, _title = seen
    assert saw["shown"] >= 1


def test_the_browser_complains_of_nothing(seen):
    saw, _title = seen
    assert saw["console"] == []


def test_the_request_is_in_the_log_with_the_applications_time(seen):
    time.sleep(1.5)  # the log is written once a second
    log = sh("grep 'POST /articles HTTP/2' /var/log/nginx/access.log | grep Chrome | tail -n 1", SITE)
    assert re.search(r'host="www\.foobar\.com" .* status=303 .* upstream_time="\d+\.\d+" upstream_status="303"', log), (
        log
    )


def test_the_article_is_a_row_in_the_database(seen):
    _saw, title = seen
    statement = f"select count(*) from articles where title = '{title}'"
    assert sh(f'mariadb --batch --skip-column-names foobar --execute "{statement}"', SITE).strip() == "1"
