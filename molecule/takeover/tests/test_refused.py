"""site.yml, and single roles, on hosts that are in use: refused before anything changes, and all that is theirs goes on."""

import contextlib

from scenario import playbook


def is_new(server):
    return "debian13" in server.backend.name


# What the operator has, in bytes: files, answers, what runs. (The time that a service runs for is a part of it.)
THEIRS = (
    "find /etc/nginx /etc/knot /etc/ssh /etc/mysql /etc/systemd/system /etc/sysctl.d /etc/apt -type f -exec sha256sum {} + 2>/dev/null | sort;"
    " curl --silent --show-error --header 'Host: theirs.example.com' http://127.0.0.1/ 2>&1;"
    " kdig +short @127.0.0.1 ns.theirs.example.com 2>/dev/null;"
    " systemctl show --property=Id,ActiveState,InvocationID nginx apache2 knot ssh mariadb;"
    " getent passwd; dpkg --get-selections"
)


@contextlib.contextmanager
def untouched(servers):
    """Whatever the block runs, the hosts are the same afterwards."""
    before = [server.run(THEIRS).stdout for server in servers]
    yield
    assert [server.run(THEIRS).stdout for server in servers] == before


@contextlib.contextmanager
def on_all(servers, begin, end):
    for server in servers:
        server.check_output(begin)
    try:
        yield
    finally:
        for server in servers:
            server.check_output(end)


def test_their_page_and_their_zone_are_there(server):
    assert server.check_output("curl -s -H 'Host: theirs.example.com' http://127.0.0.1/") == "somebody's page"
    if is_new(server):
        assert server.check_output("kdig +short @127.0.0.1 ns.theirs.example.com") == "192.0.2.7"


def test_a_role_alone_refuses_too(converge, servers):
    nginx_sites = [{"name": "www", "server_names": ["www.example.com"], "root": "/srv/www"}]
    with untouched(servers):
        playbook(name="role.yml", the_role="nginx", nginx_sites=nginx_sites).must_be_refused(
            "/etc/nginx/snippets/theirs.conf"
        )
        # Whoever leaves the question out is refused by the task that would have made the change.
        tags = ("--tags", "nginx_configure")
        playbook(*tags, name="nginx.yml", nginx_sites=nginx_sites).must_be_refused("/etc/nginx/snippets/theirs.conf")


def test_faults_of_inputs_stand_in_the_same_report_each_once_and_what_rests_on_them_is_no_line(converge, servers):
    with untouched(servers):
        run = converge(
            domain="",
            version="",
            password="",
            base_journal_max_size="much",
            mysql_vendor="postgres",
            nginx_http_prot=80,
            certificate_surce="acme",
        )
    run.must_be_refused(
        "sites.foobar.domain: not set", "sites.foobar.version: not set", "sites.foobar.database.password: not set",
        "base_journal_max_size: 'much' is not a size", "mysql_vendor", "did you mean nginx_http_port?",
        "did you mean certificate_source?",
    )  # fmt: skip
    assert run.output.count("base_journal_max_size: 'much'") == len(servers)
    assert "Traceback" not in run.output and "is undefined" not in run.output


def test_a_template_in_a_secret_is_refused_and_not_said(tmp_path):
    (tmp_path / "vault.yml").write_text("password: 'sixteen or more {{hunter2}} letters'\n")
    run = playbook("--extra-vars", f"@{tmp_path}/vault.yml")
    run.must_be_refused("password: ", "!unsafe")
    assert "hunter2" not in run.output and "letters" not in run.output


def test_a_port_that_another_program_holds_and_a_host_of_another_inventory_are_refused_by_name(converge, servers):
    old, new = servers
    place = "/etc/webstack/belongs-to"
    with (
        on_all([old], "systemctl stop nginx && systemctl start apache2", "systemctl stop apache2 && systemctl start nginx"),
        on_all([new], f"mkdir -p /etc/webstack && echo 'site shop of here in inventory theirs' > {place}", f"rm {place}"),
        untouched(servers),
    ):  # fmt: skip
        converge(nginx_take_over=True).must_be_refused(
            "nginx_http_port: port 80/tcp is held by",
            "(apache2, process",
            "apache2.service)",
            "stop and disable that program",
            'this host is kept as "site shop of here in inventory theirs"',
            "-e base_take_over=true",
        )
