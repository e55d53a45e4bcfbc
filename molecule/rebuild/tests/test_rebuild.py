"""make rebuild: the site's host is lost while visitors write, and none of what they were told is saved is lost. Counted, not timed."""

import itertools
import json
import re
import subprocess
import threading
import time

import pytest
import requests
import testinfra
from scenario import PROJECT, names, playbook, until, whereabouts

SITE = next(name for name in names() if "-site-" in name)

# For every Python of a machine: a go-live is killed once, between the two renames of the data. They are in neither place then.
KILLED = """
import os, signal, sys
def hook(event, arguments):
    if event == "os.rename" and arguments[1] == "mysql" and "go-live" in sys.argv:
        for ending in (".py", ".pth"):
            os.unlink(__file__.removesuffix(".py") + ending)
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


@pytest.fixture
def site():
    return testinfra.get_host(f"docker://{SITE}")


def rebuild():
    return playbook(name="rebuild.yml", **{"from": "backup"})


def plain():
    session = requests.Session()
    session.trust_env, session.headers["Host"] = False, "www.foobar.com"
    return session


class Visitors:
    """Four of them write articles, until they get no answer."""

    def __init__(self):
        self.numbers, self.saved, self.lost = itertools.count(1), set(), threading.Event()
        self.url = f"http://{whereabouts(SITE)[SITE].address}"
        self.threads = [threading.Thread(target=self.write) for _turn in range(4)]
        for thread in self.threads:
            thread.start()

    def write(self):
        session = plain()
        token = re.search(r'name="csrf" value="([^"]+)"', session.get(self.url, timeout=10).text)[1]
        cookies = {cookie.name: cookie.value for cookie in session.cookies}
        while not self.lost.is_set():
            title = f"article-{next(self.numbers)}"
            form = {"csrf": token, "author": "Zoë", "title": title, "body": "🙂"}
            try:
                answer = session.post(
                    f"{self.url}/articles", data=form, cookies=cookies, timeout=5, allow_redirects=False
                )
            except requests.RequestException:
                return
            if answer.status_code == 303:
                self.saved.add(title)
            else:
                time.sleep(0.1)  # they are too fast for the site

    def end(self):
        self.lost.set()
        for thread in self.threads:
            thread.join()


def titles(site):
    return set(site.check_output("mariadb -N -B -e 'SELECT title FROM foobar.articles'").split())


def is_acknowledged(site):
    return json.loads(site.check_output("cat /run/webstack-binlog/state.json"))["acknowledged"]


UPLOAD = "/srv/foobar/shared/uploads/picture"


def test_one_site_of_a_moment(site):
    """Its database in a file, and its files beside that, with their owner; nothing that is live is touched."""
    site.check_output(
        f"setpriv --reuid=foobar --regid=foobar --clear-groups sh -c 'umask 027; echo a picture > {UPLOAD}'"
    )
    site.check_output("webstack-backup full")
    site.check_output(f"rm {UPLOAD}")
    restore = {"name": str(PROJECT / "playbooks/restore.yml"), "site": "foobar"}
    playbook(**restore, into="live", confirm=SITE).must_be_refused("takes back every site of it")
    playbook(**{**restore, "site": "fobar"}).must_be_refused("'fobar' is not a site of")
    said = playbook(**restore).must_succeed().output
    path = re.search(r"of foobar as of \S+ are in (/var/lib/webstack-backup/dumps/\S+\.sql),", said)[1]
    assert "CREATE TABLE `articles`" in site.file(path).content_string
    kept = re.search(r"the files are in (\S+), with their owners and modes", said)[1]
    assert site.check_output(f"cat {kept}{UPLOAD}; stat --format '%U %a' {kept}{UPLOAD}") == "a picture\nfoobar 640"
    assert not site.file(UPLOAD).exists and not site.file("/var/lib/webstack-scratch/restore").exists
    site.check_output(f"cp --preserve=all {kept}{UPLOAD} {UPLOAD}")


def test_a_host_that_is_lost(site):
    until(lambda: is_acknowledged(site))
    visitors = Visitors()
    until(lambda: len(visitors.saved) >= 20)
    site.check_output("webstack-backup full")
    before = len(visitors.saved)
    until(lambda: len(visitors.saved) >= before + 100)
    subprocess.run(["docker", "kill", "--signal", "KILL", SITE], check=True, capture_output=True)
    visitors.end()
    # Another machine, bare, takes its name.
    for argv in (["down", SITE], ["up", SITE, "trixie"]):
        subprocess.run([PROJECT / "tools/container", *argv], check=True, capture_output=True)
    site.check_output("useradd --system another")  # the numbers of users are others here
    packages = site.check_output("python3 -c 'import site; print(site.getsitepackages()[0])'")
    site.check_output("mkdir -p %s", packages)
    site.check_output("printf %%s %s > %s/killed.py", KILLED, packages)
    site.check_output("echo import killed > %s/killed.pth", packages)
    rebuild().must_fail("webstack-backup go-live --confirm", "it was ended")
    assert not site.file("/var/lib/mysql").exists
    run = rebuild().must_succeed()
    found = titles(site)
    print(
        f"{len(visitors.saved)} articles were saved, {before} of them before the full; lost: {len(visitors.saved - found)}"
    )
    assert visitors.saved - found == set()
    run.must_say("The restored copy is live")
    assert site.check_output(f"cat {UPLOAD}; stat --format '%U %G %a' {UPLOAD}").split() == [
        "a",
        "picture",
        "foobar",
        "foobar",
        "640",
    ]
    url = f"http://{whereabouts(SITE)[SITE].address}"
    assert plain().get(f"{url}/articles/1", timeout=10).status_code == 200
    until(lambda: site.run("webstack-backup status").rc == 0)
    # It goes on: with the next number, and in a line of its own at the target.
    again = Visitors()
    until(lambda: len(again.saved) >= 5)
    again.end()


def test_a_machine_with_data_is_refused(site):
    before = titles(site)
    rebuild().must_be_refused("this machine has a database server already")
    playbook(name="rebuild.yml").must_be_refused("from must be backup")
    assert titles(site) == before
