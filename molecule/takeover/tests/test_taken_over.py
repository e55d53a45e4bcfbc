"""With the words given, the hosts are taken over: a copy of what was theirs is there, and the site serves."""

import re

from scenario import PROJECT, playbook

WORDS = {"nginx_take_over": True, "dns_take_over": True, "base_take_over": True, "mysql_take_over": True}
# Files by their content, and links by where they lead.
LISTED = r"find . -type f -exec sha256sum {} + | sort; find . -type l -printf '%p %l\n' | sort"


def page(server):
    secure = "debian13" in server.backend.name
    url = "https://www.foobar.com" if secure else "http://old.foobar.com"
    port = 443 if secure else 80
    return server.check_output(f"curl -sk --connect-to ::127.0.0.1:{port} {url}/")


def test_what_was_theirs_is_copied_and_the_site_serves(converge, servers):
    before = {server.backend.name: server.check_output(f"cd /etc/nginx && {LISTED}") for server in servers}
    run = converge(**WORDS).must_succeed()
    for server in servers:
        found = re.findall(r"/var/lib/webstack/copies/\S+-etc-nginx", run.output)
        copy = next(path for path in found if server.run(f"test -d {path}").rc == 0)
        kept = server.check_output(f"cd {copy} && {LISTED}")
        assert kept == before[server.backend.name]
        assert server.check_output("stat -c %a /var/lib/webstack/copies") == "700"
        assert server.run("test -e /etc/nginx/sites-available/theirs").rc != 0
        assert "foobar.com" in page(server)


def test_afterwards_the_host_is_ours_and_the_words_are_needed_no_more(converge, servers):
    assert converge().must_succeed().changed == []
    for name, more in (
        ("site", {}),
        ("deploy", {}),
        ("rollback", {}),
        ("rotate", {}),
        ("maintenance", {"state": "on"}),
    ):
        run = playbook(name=str(PROJECT / f"playbooks/{name}.yml"), kept_by="elsewhere", **more)
        run.must_be_refused("in inventory takeover", "in inventory elsewhere")
    for server in servers:
        assert "foobar.com" in page(server)
