"""What an entry of `sites` may hold, and what each role is told of it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from loading import ROLES, ROOT, load

action = load("plugins/action/sites.py")
wiring, versions = action.wiring, action.versions
HOST = "web1"
SHOP: dict[str, Any] = {
    "domain": "www.shop.example",
    "repository": "https://git.example.com/shop.git",
    "app": {"entry": "shop.wsgi:application", "secrets": {"SECRET_KEY": "a secret key of the shop"}},
    "database": {"password": "a p/ssword of @ll"},
}
DOCS = {"domain": "docs.example", "root": "/srv/docs", "app": "none"}
GROUPS = ("webservers", "appservers", "dbservers")
FACTS = {"memtotal_mb": 4096, "processor_vcpus": 2}


def variables(sites: Any = None, **more: Any) -> dict[str, Any]:
    groups = {"all": [HOST], **{name: [HOST] for name in GROUPS}, **more.pop("groups", {})}
    return {
        "inventory_hostname": HOST,
        "inventory_dir": "/somewhere/production",
        "ansible_host": "10.0.0.5",
        "ansible_facts": FACTS,
        "groups": groups,
        "group_names": [name for name, hosts in groups.items() if HOST in hosts],
        "sites": {"shop": SHOP} if sites is None else sites,
        "hostvars": {},
        **more,
    }


def host(kept_as: str = "", kept_by: str = "", more: str = "") -> str:
    """What a host answers: before it, a shell may complain, and a terminal ends lines with CR LF."""
    return f"bash: warning: setlocale\r\n{more}kept as {kept_as}\r\nkept by {kept_by}\r\n"


@pytest.fixture(autouse=True)
def _without_ansible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action.ActionBase, "run", lambda *_args, **_options: {})
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": host()})


def run(given: dict[str, Any], **args: Any) -> dict[str, Any]:
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._task = SimpleNamespace(args=args)
    given["hostvars"].setdefault(HOST, given)
    plugin._templar = Templar(DataLoader(), variables=given)
    return plugin.run(task_vars=given)


def told(sites: Any = None, **more: Any) -> dict[str, Any]:
    return run(variables(sites, **more), roles=True)


def faults(sites: Any = None, args: dict[str, Any] | None = None, **more: Any) -> list[str]:
    """All that is refused, where a play collects it."""
    said = run(variables(sites, webstack_collect=True, **more), **({"roles": True} if args is None else args))
    return [fault for found in said.get("webstack_faults", {}).values() for fault in found]


def shop(**keys: Any) -> dict[str, Any]:
    return {"shop": {**SHOP, **keys}}


def test_a_site_is_told_to_each_role():
    answer = told()
    assert answer["apps"] == answer["all"] == answer["certificates"] == answer["orders"] == ["shop"]
    inputs = answer["sites"]["shop"]["inputs"]
    assert inputs["app_server_name"] == inputs["certificate_name"] == "shop"
    assert inputs["app_server_entry"] == "shop.wsgi:application"
    assert inputs["app_server_public_url"] == "https://www.shop.example:443"
    assert inputs["certificate_source"] == "acme" and inputs["certificate_names"] == ["www.shop.example"]
    host = answer["host"]
    assert host["base_firewall_open"] == [{"port": 80}, {"port": 443}]
    assert host["base_belongs_to"] == "web1 in inventory production"
    (site,) = host["nginx_sites"]
    assert site["server_names"] == ["www.shop.example"] and site["certificate"] == "/etc/ssl/shop/fullchain.pem"
    assert site["locations"] == [{"path": "/", "kind": "uwsgi", "target": "unix:/run/shop/live.sock"}]
    assert host["mysql_databases"] == [{"name": "shop"}]
    (user,) = host["mysql_users"]
    assert user["password"] == SHOP["database"]["password"] and user["privileges"][0]["database"] == "shop"


def test_an_application_finds_its_database_in_its_environment_and_may_say_otherwise():
    inputs = told()["sites"]["shop"]["inputs"]
    assert inputs["app_server_environment"]["DB_NAME"] == "shop"
    secrets = inputs["app_server_secrets"]
    assert secrets["DATABASE_URL"].startswith("mysql://shop:a%20p%2Fssword%20of%20%40ll@localhost/shop?unix_socket=")
    assert secrets["DB_PASSWORD"] == SHOP["database"]["password"]
    app = {**SHOP["app"], "environment": {"DB_NAME": "other", "DATABASE_URL": "none"}}
    inputs = told(shop(app=app))["sites"]["shop"]["inputs"]
    assert inputs["app_server_environment"]["DB_NAME"] == "other" and "DATABASE_URL" not in inputs["app_server_secrets"]


def test_an_application_that_nobody_declares_is_told_of_and_one_whose_site_has_a_fault_is_not(monkeypatch):
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": host(more="/etc/shop/release.json\n")})
    said = faults({"docs": {"domain": "docs.example", "root": "/srv/docs"}}, group_names=["webservers", "appservers"])
    assert any("runs the application shop, which is not declared" in fault for fault in said), said
    (fault,) = faults(shop(repository=""), group_names=["webservers", "appservers"])
    assert fault.startswith("sites.shop.repository: not set"), fault


def test_what_is_no_matter_of_the_play_is_not_read():
    bad = {"password": trust_as_template("{{ nowhere }}")}
    answer = run(variables(shop(database=bad)), choose="app")
    assert answer["chosen"] == ["shop"] and "app_server_secrets" not in answer["sites"]["shop"]["inputs"]
    assert "mysql_users" not in answer["host"]


def test_one_site_gets_nothing_of_anothers():
    blog = {"domain": "blog.example", "repository": "https://git.example.com/blog.git", "app": {"entry": "b:c"}}
    app = {**SHOP["app"], "warm_seconds": 0, "environment": {"COLOUR": "blue"}, "jobs": [{"name": "x", "command": "y"}]}
    answer = told({**shop(app=app), "blog": blog})
    first, second = (answer["sites"][name]["inputs"] for name in ("shop", "blog"))
    assert set(first) == set(second)
    assert second["app_server_warm_seconds"] == 600 and second["app_server_jobs"] == []
    assert "COLOUR" not in second["app_server_environment"] and second["app_server_secrets"] == {}


VALUES = {
    "str": "said", "raw": "said", "path": "/said", "int": 7, "bool": True, "list": [{"name": "said"}], "dict": {"SAID": "x"}, "float": 2.5,
}  # fmt: skip


@pytest.mark.parametrize("role", [path.name for path in ROLES])
def test_every_input_of_every_role_wins_or_is_refused(role):
    """Whatever an inventory says of a role outside of `sites` reaches the role, or the run says where to say it."""
    for name, option in wiring.role_options(role).items():
        if name.removeprefix("app_server_") in SHOP["app"]:
            continue  # the site's own word goes before that for all sites
        value = "correct horse battery" if option.get("no_log") and option["type"] == "str" else VALUES[option["type"]]
        given = variables(webstack_collect=True, **{name: value})
        answer = run(given, roles=True)
        said = " ".join(fault for found in answer.get("webstack_faults", {}).values() for fault in found)
        if f"{name}:" in said:
            continue
        seen = {**given, **answer["host"], **answer["sites"]["shop"]["inputs"]}[name]
        if isinstance(value, list):
            assert value[0] in seen, name
        elif isinstance(value, dict):
            assert value.items() <= seen.items(), name
        else:
            assert seen == value, name


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ([], "sites: must be the names of the sites"),
        ({"Shop": DOCS}, "sites: 'Shop' is not a name"),
        ({"docs": None}, "sites.docs: must be keys"),
        ({"docs": {**DOCS, "domian": "x"}}, "sites.docs.domian: unknown key; did you mean domain?"),
        ({"docs": {"root": "/srv/docs"}}, "sites.docs.domain: not set"),
        (shop(app={**SHOP["app"], "jobs": [{"nam": "x"}]}), "sites.shop.app.jobs[0].nam: unknown key; did you mean name?"),
        (shop(nginx={"body_sise": "1m"}), "sites.shop.nginx.body_sise: unknown key; did you mean body_size?"),
        (shop(app={**SHOP["app"], "workers": 3}), "sites.shop.app.workers: unknown key"),
        (shop(app={"entry": "REPLACE_ME"}), "sites.shop.app.entry: still a placeholder"),
        (shop(version=1.1), "sites.shop.version: put quotes around it"),
        (shop(repository=""), "sites.shop.repository: not set"),
        (shop(app="none"), "sites.shop.app: none, and there is a repository"),
        (shop(app={}), "sites.shop.app.entry: not set; what uWSGI loads"),
        (shop(database=None), "sites.shop.database: has no value"),
        (shop(aliases=None), "sites.shop.aliases: has no value"),
        (shop(app={**SHOP["app"], "jobs": [{"name": None}]}), "sites.shop.app.jobs[0].name: has no value"),
        (shop(push="maybe"), "sites.shop.push: 'maybe' is neither true nor false"),
        (shop(certificate="acmee"), "sites.shop: value of source must be one of: acme, files, private, none, got: acmee"),
        (shop(certificate={"source": "none", "file": "/x"}), "sites.shop.certificate: file has no effect"),
        (shop(domain="www.foobar.com"), "sites.shop.domain: still www.foobar.com"),
        (shop(database={"password": "short"}), "sites.shop.database.password: a secret has at least 16"),
        (shop(database={}), "sites.shop.database.password: not set; a secret, for the vault, as vault_shop_database_password"),
        ({"docs": {**DOCS, "database": {"password": "correct horse battery"}}}, "sites.docs.database: has no effect without a repository"),
        ({"docs": {**DOCS, "push": True}}, "sites.docs.push: has no effect without a repository"),
        ({"docs": {"domain": "docs.example"}}, "sites.docs: has nothing to show"),
        ({"docs": {**DOCS, "nginx": {"root": "/srv/x"}}}, "sites.docs.root: stands in nginx, too"),
        ({"docs": {**DOCS, "nginx": {"locations": [{"path": "/", "kind": "uwsgi"}]}}}, "sites.docs.nginx.locations[0].target: not set"),
        ({**shop(), "docs": {**DOCS, "aliases": ["WWW.shop.example."]}}, "sites.docs: the name www.shop.example is that of sites.shop already"),
        ({**shop(), "b": {**SHOP, "domain": "b.example", "database": {"name": "shop", "password": "correct horse battery"}}},
         "sites.b.database: the database shop is that of sites.shop.database already"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_place(sites, words):
    found = faults(sites)
    assert any(fault.startswith(words) for fault in found), found


def test_all_faults_of_all_sites_are_named_at_once_and_the_sound_ones_are_told():
    given = variables({**shop(version=1.1), "docs": DOCS, "blog": {"domain": ""}}, webstack_collect=True)
    answer = run(given, roles=True)
    (found,) = answer["webstack_faults"].values()
    assert len(found) == 2 and answer["all"] == ["docs"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("app_server_name", "the key of the site in sites"),
        ("app_server_repository", "sites.<site>.repository"),
        ("certificate_names", "sites.<site>.domain"),
        ("certificate_source", "sites.<site>.certificate"),
    ],
)
def test_what_is_a_matter_of_one_site_is_refused_with_its_place(name, place):
    assert any(
        fault.startswith(f"{name}: is a matter of each site") and place in fault for fault in faults(**{name: "x"})
    )


def test_an_inventory_of_a_version_before_is_refused_with_the_lines_to_write():
    with pytest.raises(AnsibleActionFail) as refusal:
        told(site_name="shop", site_domain="www.shop.example", site_inventory="live", site_public_address="10.0.0.5")
    for words in (
        "site_domain, site_inventory, site_name, site_public_address:",
        "domain: www.shop.example",
        "public_address:",
        'base_belongs_to: "{{ inventory_hostname }} in inventory live"',
    ):
        assert words in str(refusal.value)


def test_the_address_of_an_example_is_not_asked_anything():
    with pytest.raises(AnsibleActionFail, match=r"ansible_host: web1 has the address 192\.0\.2\.1"):
        told(ansible_host="192.0.2.1", webstack_collect=True)


def test_no_sites_are_refused_and_a_misspelt_name_is_told():
    given = variables(webstack_collect=True, site=SHOP)
    del given["sites"]
    assert "sites: not set for web1" in str(run(given, roles=True)["webstack_faults"])


def test_a_secret_that_cannot_be_read_is_named_and_not_said():
    found = faults(shop(database={"password": trust_as_template("sixteen or more {{ hunter2 }} letters")}))
    (fault,) = [fault for fault in found if "hunter2" not in fault]
    assert fault.startswith("sites.shop.database.password: holds '{{'")
    found = faults(shop(app={**SHOP["app"], "secrets": {"KEY": trust_as_template("{{ vault_key }}")}}))
    assert found == [
        "sites.shop.app.secrets.KEY: 'vault_key' is undefined; it is a secret, for the vault (make secrets)"
    ]


def test_a_secret_that_is_made_of_another_variable_is_not_said_either():
    sites = shop(database={"password": trust_as_template("{{ password }}")})
    found = faults(sites, password=trust_as_template("sixteen or more {{ hunter2 }} letters"))
    assert found and not [fault for fault in found if "hunter2" in fault] and "!unsafe" in found[0]
    found = faults(sites, other=trust_as_template("x"), passwort=trust_as_template("{{ hunter2 }}"))
    assert not [fault for fault in found if "hunter2" in fault]


def test_a_template_in_a_secret_of_the_vault_is_refused_though_it_has_a_value():
    found = faults(vault_shop_secret_key=trust_as_template("sixteen or more {{ 1 + 1 }} letters"))
    assert found == [
        "vault_shop_secret_key: holds '{{', '{%' or '{#', which Ansible takes for a template; write it as "
        "vault_shop_secret_key: !unsafe '…'"
    ]


def test_a_misspelt_input_is_named_though_no_site_is_sound():
    assert "certificate_surce: unknown variable; did you mean certificate_source?" in faults(
        {"shop": {}}, certificate_surce="acme"
    )
    assert faults(certificate_surce="acme") == []  # the role itself says so


def test_the_password_comes_from_the_vault_by_the_name_of_the_site():
    blog = {**SHOP, "database": {}}
    answer = told(
        {"my-blog": blog},
        vault_my_blog_database_password="correct horse battery",
        vault_my_blog_database_password_before="the one before it",
    )
    (user,) = answer["host"]["mysql_users"]
    assert (user["password"], user["password_before"]) == ("correct horse battery", "the one before it")


@pytest.mark.parametrize(
    ("given", "passwords", "before"),
    [("", "declared", None), ("", "both", "new" * 6), ("old" * 6, "both", "old" * 6), ("old" * 6, "new", None), ("old" * 6, "declared", "old" * 6)],
)  # fmt: skip
def test_a_rotation_says_which_passwords_are_valid(given, passwords, before):
    sites = shop(database={"password": "new" * 6, "password_before": given})
    answer = run(variables(sites), roles=True, choose="app", passwords=passwords)
    (user,) = answer["host"]["mysql_users"]
    assert user["password_before"] == before
    assert answer["before"] == (["sites.shop.database.password_before"] if given else [])


def test_of_several_applications_one_has_to_be_named():
    sites = {**shop(), "blog": {**SHOP, "domain": "blog.example"}, "docs": DOCS}
    assert "site: web1 has shop, blog; say which, as make … SITE=shop" in faults(sites, {"choose": "app"})[0]
    assert run(variables(sites, site="blog"), choose="app")["chosen"] == ["blog"]
    assert "site: 'docs' is not an application of web1" in faults(sites, {"choose": "app"}, site="docs")[0]
    assert run(variables(sites), choose="all")["chosen"] == ["shop", "blog", "docs"]
    assert "did you mean blog?" in faults(sites, {"choose": "all"}, site="blgo")[0]
    assert run(variables({**shop(), "docs": DOCS}), choose="app")["chosen"] == ["shop"]


def test_a_site_of_another_host_is_none_of_this_one_and_no_fault():
    other = {"sites": {"blog": {"domain": "blog.example"}}}
    given = variables(groups={"all": [HOST, "web2"]}, hostvars={"web2": other}, site="blog")
    assert run(given, choose="app")["chosen"] == []


def test_a_site_without_an_application_is_refused_though_another_host_has_it_too():
    other = {"sites": {"docs": DOCS}}
    given = {"groups": {"all": [HOST, "web2"]}, "hostvars": {"web2": other}, "site": "docs"}
    (fault,) = faults({**shop(), "docs": DOCS}, {"choose": "app"}, **given)
    assert fault.startswith("site: 'docs' is not an application of web1, which has shop")


def test_a_name_is_on_one_host():
    others = {"web2": {"sites": {"copy": {"domain": "www.shop.example"}}}}
    groups = {"all": [HOST, "web2"], **{name: [HOST, "web2"] for name in GROUPS}}
    assert any("www.shop.example is a site of web2, too" in fault for fault in faults(groups=groups, hostvars=others))
    assert any(
        fault.startswith("webservers, appservers, dbservers: must hold") for fault in faults(groups={"dbservers": []})
    )


def test_a_site_that_is_to_be_absent_needs_no_other_word_and_is_told_to_nobody():
    answer = told({**shop(), "old": {"state": "absent"}})
    assert answer["no_certificates"] == []
    assert answer["absent"] == ["old"] and answer["all"] == ["shop"]
    assert [site["name"] for site in answer["host"]["nginx_sites"]] == ["shop"]
    assert answer["sites"]["old"]["inputs"]["app_server_name"] == "old"
    assert "old" not in answer["orders"]


def test_renewals_end_of_names_that_certbot_renews_on_the_host_and_no_site_has(monkeypatch: pytest.MonkeyPatch):
    hooks = "".join(f"/etc/letsencrypt/renewal-hooks/deploy/{name}\r\n" for name in ("old", "shop", "plain", "another"))
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": host(more=hooks)})
    plain = {"domain": "plain.example", "root": "/srv/plain", "app": "none", "certificate": "none"}
    answer = told({**shop(certificate="acme"), "old": {"state": "absent"}, "plain": plain, "none": {"state": "absent"}})
    assert answer["no_certificates"] == ["old", "plain"]


def test_workers_are_shared_out_among_the_applications_of_a_host():
    sites = {name: {**SHOP, "domain": f"{name}.example", "database": "none"} for name in "abc"}
    assert {site["inputs"]["app_server_processes"] for site in told(sites)["sites"].values()} == {2}
    big = {**SHOP["app"], "worker_memory_mb": 1024}
    sites = {name: {**site, "app": big} for name, site in sites.items()}
    (fault,) = faults(sites)
    assert "need 6144 MiB, and the host has 4096" in fault and "a 2 × 1024, b 2 × 1024" in fault
    assert told()["sites"]["shop"]["inputs"]["app_server_processes"] == 0  # alone, the role shares out


def test_what_cannot_be_computed_with_is_refused_in_words():
    sites = {name: {**SHOP, "domain": f"{name}.example", "database": "none"} for name in "ab"}
    assert (
        told(sites, app_server_worker_memory_mb=0)["chosen"] == []
    )  # not a division by zero: role app_server refuses it
    for name in ("app_server_environment", "app_server_build_environment"):
        assert faults(**{name: [1]}) == [f"{name}: must be keys with a value each"]
    others = {"web2": {"sites": {"blog": {"domain": "blog.example", "aliases": None}}}}
    both = {name: [HOST, "web2"] for name in ("all", *GROUPS)}
    assert faults(hostvars=others, groups=both) == []  # web2 refuses its own


def test_what_nginx_shows_of_an_application():
    site = {**SHOP, "app": {**SHOP["app"], "plugin": "psgi", "request_seconds": 90, "shared": ["media", "private"]}}
    site["nginx"] = {
        "static": [{"url": "/media/", "path": "/srv/shop/shared/media"}],
        "locations": [{"path": "/admin/", "kind": "uwsgi", "access": {"allow": ["10.0.0.0/8"]}}],
    }
    answer = told({"shop": site})
    (nginx,) = answer["host"]["nginx_sites"]
    assert [item["url"] for item in nginx["static"]] == ["/media/", "/static/"]
    assert [(item["path"], item["target"], item["modifier"]) for item in nginx["locations"]] == [
        ("/admin/", "unix:/run/shop/live.sock", 5), ("/", "unix:/run/shop/live.sock", 5),
    ]  # fmt: skip
    assert nginx["timeouts"] == {"read": 90}
    assert answer["sites"]["shop"]["inputs"]["app_server_shared_published"] == ["media"]


def test_the_walk_of_a_site_begins_where_visitors_do():
    site = wiring.Site("shop", {**SHOP, "certificate": {"source": "private", "authority_folder": "/ca"}})
    ports = {"http": 80, "https": 8443}
    walk = wiring.walk(site, ports, "10.0.0.5", "", "192.0.2.1", [])
    assert walk["address"] == "10.0.0.5" and walk["host_port"] == 8443 and walk["authority"] == "/ca/authority.pem"
    assert walk["app"] == "shop" and walk["maintenance"] == "/var/lib/webstack/maintenance/shop"
    # Without a name server nobody finds the public address; what the application has no folder for is not looked at.
    assert not {"port", "name_servers", "public_address", "static_url"} & {key for key, value in walk.items() if value}
    asked = wiring.walk(site, ports, "10.0.0.5", 9000, "192.0.2.1", ["192.0.2.53"])
    assert (asked["port"], asked["public_address"], asked["name_servers"]) == (9000, "192.0.2.1", ["192.0.2.53"])
    built = wiring.Site("shop", {**SHOP, "app": {**SHOP["app"], "static": "public"}})
    assert wiring.walk(built, ports, "", "", "", [])["static_path"] == "/srv/shop/static"
    static = wiring.walk(wiring.Site("docs", wiring.with_keys(DOCS)), ports, "", "", "", [])
    assert static["app"] == "" and "health_path" not in static


def test_a_zone_gets_the_names_that_are_in_it():
    names = [("www.shop.example", "192.0.2.1"), ("shop.example", "2001:db8::1"), ("www.other.example", "192.0.2.2")]
    assert wiring.records(names, "Shop.Example.") == [
        {"name": "www.shop.example.", "type": "A", "values": ["192.0.2.1"]},
        {"name": "shop.example.", "type": "AAAA", "values": ["2001:db8::1"]},
    ]


def test_a_host_without_web_servers_opens_no_port_of_theirs():
    closed = {"serves_web": False, "serves_names": False, "http3": False, "ships_log": False}
    inputs = wiring.host_inputs([], {"base_firewall_open": [{"port": 22}]}, {}, **closed)
    assert inputs["base_firewall_open"] == [{"port": 22}] and inputs["nginx_sites"] == inputs["mysql_users"] == []


def test_a_host_that_keeps_the_backups_of_others_has_no_sites():
    """What group_vars/all says of sites is there for it, too."""
    other = {"inventory_hostname": "web2", "sites": {"shop": SHOP}}
    groups = {"archives": [HOST]} | {name: ["web2"] for name in GROUPS}
    answer = told(groups=groups, hostvars={"web2": other})
    assert answer["all"] == [] and answer["host"]["nginx_sites"] == [] and answer["host"]["base_firewall_open"] == []


def test_the_files_of_applications_are_saved_with_the_database():
    sites = {
        "shop": {**SHOP, "app": {**SHOP["app"], "shared": ["media"]}},
        "docs": {**SHOP, "domain": "docs.shop.example"},
    }
    answer = told(sites)
    assert answer["host"]["backup_paths"] == ["/srv/shop/shared"] == [answer["sites"]["shop"]["files"]]
    assert answer["sites"]["docs"]["files"] == ""
    assert told(sites, backup_paths=["/srv/mails"])["host"]["backup_paths"] == ["/srv/shop/shared", "/srv/mails"]


def test_a_database_whose_log_goes_to_another_machine_has_a_reader_and_waits():
    target = {"host": "backup.example.com", "key_file": "keys/shop", "host_key": "ssh-ed25519 AAAA"}
    mine = {"name": "reports", "auth": "socket"}
    host = told({"shop": SHOP}, backup_target=target, mysql_users=[mine])["host"]
    assert [user["name"] for user in host["mysql_users"]] == ["shop", "reports", "webstack-binlog"]
    assert (host["mysql_acknowledge_timeout_ms"], host["backup_vendor"]) == (2000, "mariadb")
    own = told({"shop": SHOP}, backup_target=target, mysql_acknowledge_timeout_ms=500, mysql_vendor="mysql")["host"]
    assert "mysql_acknowledge_timeout_ms" not in own and own["backup_vendor"] == "mysql"
    # What the target may not have is not removed by age.
    assert host["mysql_binlog_expires"] is False and "backup_log_days" not in host
    days = told({"shop": SHOP}, backup_target=target, mysql_binlog_days=14)["host"]
    assert days["mysql_binlog_expires"] is False and days["backup_log_days"] == 14
    assert (
        told({"shop": SHOP}, backup_repository="s3:https://s3.example.com/b")["host"]["mysql_binlog_expires"] is False
    )
    for here in ({"backup_target": {}}, {"backup_repository": "/srv/backups"}, {"backup_repository": ""}):
        assert "mysql_binlog_expires" not in told({"shop": SHOP}, **here, mysql_binlog_days=14)["host"], here
    for alone in ({}, {"backup_target": target, "backup_acknowledge": False}, {"backup_target": {}}):
        assert "mysql_acknowledge_timeout_ms" not in told({"shop": SHOP}, **alone)["host"], alone


def test_requests_are_addressed_to_the_language_as_the_role_has_it():
    choices = wiring.role_options("app_server")["app_server_plugin"]["choices"]
    assert {plugin: wiring.modifier(plugin) for plugin in choices} == {"python3": 0, "psgi": 5, "php": 14}
    assert wiring.modifier("cobol") == wiring.modifier("") == 0


def scripts_of(**nginx):
    """The locations that a PHP site is given for scripts."""
    app = {"plugin": "php", "entry": "./", "shared": ["uploads"]}
    (site,) = told({"shop": {**SHOP, "app": app, "nginx": nginx}})["host"]["nginx_sites"]
    return [location for location in site["locations"] if location.get("match") == "regex"]


def test_a_script_of_php_among_files_is_the_applications():
    uploads = {
        "path": "/uploads/",
        "kind": "static",
        "target": "/srv/shop/shared/uploads",
        "access": {"allow": ["192.0.2.1"]},
    }
    found = scripts_of(static=[{"url": "/files/", "path": "/srv/files"}], locations=[uploads])
    assert all((to["kind"], to["target"], to["modifier"]) == ("uwsgi", "unix:/run/shop/live.sock", 14) for to in found)
    for path in ("/files/a.php", "/static/a.PHP7", "/files/b/a.phtml/b", "/uploads/old.inc", "/files/a\nb.php"):
        assert [to for to in found if re.search(to["path"], path)], path
    for path in ("/files/a.phpx", "/files/php/", "/static/a.php.png", "/uploads/incs"):
        assert not [to for to in found if re.search(to["path"], path)], path
    # Who may not have a file may not ask for a script beside it, either.
    (closed,) = [to for to in found if re.search(to["path"], "/uploads/a.php")]
    assert closed["access"] == uploads["access"]


def test_a_script_of_php_is_not_reached_past_the_location_that_it_is_in():
    # nginx asks regular expressions before the longest prefix: one that matched here would let everybody in.
    locations = [
        {"path": "/admin/", "kind": "uwsgi", "access": {"allow": ["192.0.2.1"]}},
        {"path": "/old/", "kind": "redirect", "target": "/new/"},
        {"path": "/files/admin/", "kind": "proxy", "target": "http://127.0.0.1:8000"},
    ]
    for files in ([{"url": "/files/", "path": "/srv/files"}], [{"url": "/", "path": "/srv/files"}]):
        found = scripts_of(static=files, locations=locations)
        for path in ("/admin/index.php", "/old/index.php", "/files/admin/index.php"):
            assert not [to for to in found if re.search(to["path"], path)], path
        assert [to for to in found if re.search(to["path"], "/files/index.php")]


@pytest.mark.parametrize("given", ["false", "no", False, "true", True])
def test_the_firewall_opens_http_3_where_it_is_spoken(given):
    ports = told(nginx_http3=given)["host"]["base_firewall_open"]
    assert ({"port": 443, "protocol": "udp"} in ports) == (given in ("true", True))


@pytest.mark.parametrize(("publish", "opened"), [("authoritative", True), ("update", False)])
def test_the_firewall_opens_the_port_of_names_where_they_are_served(publish, opened):
    more = {"groups": {"dnsservers": [HOST]}, "dns_zone": "shop.example.", "public_address": "10.0.0.5"}
    host = told(dns_publish=publish, **more)["host"]
    assert ({"port": 53} in host["base_firewall_open"]) == opened
    assert host["dns_records"] == [{"name": "www.shop.example.", "type": "A", "values": ["10.0.0.5"]}]


def test_a_controller_that_cannot_ask_the_name_servers_is_told_before_anything_changes(monkeypatch):
    monkeypatch.setattr(action.dns_packets, "dns", None)
    more = {"groups": {"dnsservers": [HOST]}, "dns_zone": "shop.example.", "public_address": "10.0.0.5"}
    assert any("dnsservers: the Python of ansible-playbook" in fault for fault in faults({"shop": SHOP}, **more))
    assert faults({"shop": SHOP}) == []


def test_a_second_call_of_a_run_does_not_take_for_the_inventorys_what_the_first_has_told():
    given = variables(base_firewall_open=[{"port": 9100}])
    first = run(given, roles=True)
    again = {**given, "webstack": first, **first["host"], **first["sites"]["shop"]["inputs"]}
    again["hostvars"] = {HOST: again}
    second = run(again, roles=True)
    assert first["host"]["base_firewall_open"] == [{"port": 80}, {"port": 443}, {"port": 9100}]
    assert second["host"] == first["host"] and second["sites"] == first["sites"]


def test_an_application_that_is_there_and_not_declared_is_refused(monkeypatch):
    listed = host(more="/etc/shop/release.json\n/etc/old-shop/release.json\n")
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": listed})
    assert [fault.partition(", which")[0] for fault in faults()] == ["sites: this host runs the application old-shop"]
    assert faults({**shop(), "old-shop": {"state": "absent"}}) == []
    served = [{"name": "x", "locations": [{"path": "/", "target": "unix:/run/old-shop/live.sock"}]}]
    assert faults(nginx_sites=served) == []


KEPT_AS = f"{HOST} in inventory production"
STEP = "is kept by version 0.1.0 of this project, and this is 0.10.0, before which something is to be done:\n      0.2.0: read it\n"


@pytest.mark.parametrize(
    ("kept_as", "kept_by", "word", "refused"),
    [
        ("", "", None, []),  # a bare host
        (KEPT_AS, "0.10.0", None, []),
        (f"site shop of {KEPT_AS}", "", None, [STEP]),
        (KEPT_AS, "0.1.0", None, ["say upgraded_to: 0.10.0 in the inventory; docs/upgrading.md"]),
        (KEPT_AS, "0.1.0", "0.1.0", [STEP]),
        (KEPT_AS, "0.1.0", "0.2.0", []),
        (KEPT_AS, "0.1.0", "0.10.0", []),
        (KEPT_AS, "0.2.0", None, []),  # by versions in between, nothing is asked
        (KEPT_AS, "0.1.0", 0.2, ["upgraded_to: 0.2 is no version that this tree knows (0.10.0, 0.2.0, 0.1.0)", STEP]),
        (KEPT_AS, "0.10.0", "0.11.0", ["upgraded_to: 0.11.0 is no version that this tree knows"]),
        (KEPT_AS, "0.10.1", None, ["is kept by version 0.10.1 of this project, and this is 0.10.0", "Use 0.10.1, or a newer one"]),
        (KEPT_AS, "gone wrong", "0.2.0", ["/etc/webstack/version on web1 holds gone wrong, which is no version"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("args", [{"roles": True}, {"choose": "app", "changes": True}])
def test_a_host_of_another_version_is_refused_until_the_steps_are_acknowledged(
    monkeypatch, kept_as, kept_by, word, refused, args
):
    # As numbers, 0.10 comes after 0.2.
    known = {"0.10.0": {}, "0.2.0": {"commit": "b", "steps": ["read it"]}, "0.1.0": {"commit": "a"}}
    for name, value in (("VERSIONS", known), ("THIS", "0.10.0"), ("FIRST", "0.1.0")):
        monkeypatch.setattr(versions, name, value)
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": host(kept_as, kept_by)})
    found = faults(None, args, **({} if word is None else {"upgraded_to": word}))
    assert bool(found) == bool(refused)
    assert [words for words in refused if not any(words in fault for fault in found)] == []


def test_a_misspelt_acknowledgement_is_named(monkeypatch):
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": host(KEPT_AS)})
    assert "in the inventory (there is a upgradet_to);" in faults(upgradet_to="0.2.0")[0]


def test_what_changes_nothing_asks_no_host(monkeypatch):
    monkeypatch.setattr(action, "run_script", lambda *_words: pytest.fail("it asked"))
    assert faults(None, {"choose": "all"}) == []


def test_a_host_that_does_not_answer_is_no_host_without_an_answer(monkeypatch):
    silent = {"stdout": "", "stderr": "sudo: a password is required"}
    monkeypatch.setattr(action, "run_script", lambda *_words: silent)
    with pytest.raises(AnsibleActionFail, match="cannot be asked what it is kept as: sudo: a password is required"):
        told()


@pytest.mark.parametrize(
    ("kept_as", "is_refused"), [("", False), (KEPT_AS, False), (f"site x of {KEPT_AS}", False), (f"{HOST} in inventory theirs", True)]
)  # fmt: skip
def test_what_changes_a_host_is_for_its_own_inventory(monkeypatch, kept_as, is_refused):
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": host(kept_as, versions.THIS)})
    found = faults(None, {"choose": "app", "changes": True})
    assert found == (
        [
            'ansible_host: this host is kept as "web1 in inventory theirs", and this run is for "web1 in inventory production". '
            "If the host is yours, converge it first: site.yml -e base_take_over=true"
        ]
        if is_refused
        else []
    )


@pytest.mark.parametrize("name", ["site_secret_key", "site_database_password", "site_shared_published"])
def test_what_is_left_of_an_inventory_of_before_is_refused(name):
    with pytest.raises(AnsibleActionFail, match=f"{name}: all that is said of a site stands in one place now"):
        told(**{name: "left"})


def test_each_playbook_that_changes_something_asks_whose_the_host_is():
    asking = {
        path.stem: [
            task["foobar.webstack.sites"]
            for play in yaml.safe_load(path.read_text(encoding="utf-8"))
            for task in play.get("tasks", [])
            if "foobar.webstack.sites" in task
        ]
        for path in ROOT.glob("playbooks/*.yml")
    }
    assert {name for name, calls in asking.items() if not any(call.get("changes") for call in calls)} == {
        "site", "status", "verify", "backup-sheet",
        "rebuild", "grow",  # role base asks
    }  # fmt: skip


def test_this_tree_is_the_newest_version_and_the_last_release_is_in_the_changelog():
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    order = [[int(part) for part in version.split(".")] for version in versions.VERSIONS]
    assert galaxy == versions.THIS and order == sorted(order, reverse=True)
    released = [version for version, said in versions.VERSIONS.items() if "commit" in said]
    changelog = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text(encoding="utf-8"))["releases"]
    assert released == list(versions.VERSIONS)[-len(released) :] and set(released) <= set(changelog)
    headings = re.findall(r"^## v([0-9.\\]+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(heading.replace("\\", "") for heading in headings) == sorted(changelog)


def test_the_demo_asks_nothing_of_who_upgrades():
    demo = yaml.safe_load((ROOT / "inventories/demo/group_vars/all.yml").read_text(encoding="utf-8"))
    assert list(versions.faults("demo", versions.FIRST, demo["upgraded_to"])) == []


def test_what_is_removed_for_good_takes_two_words():
    sites = {**shop(), "old": {"state": "absent"}}
    assert run(variables(sites, site="old"), choose="absent")["chosen"] == ["old"]
    for site, words in (("shop", "shop is on the web"), ("odl", "sites has no odl"), ("", "not set; which one")):
        assert words in faults(sites, {"choose": "absent"}, site=site)[0]


@pytest.mark.parametrize(
    ("database", "why"),
    [("mysql", "is not the name of"), ("a;b", "is not the name of"), ("shop", "is that of sites.shop"), ("theirs", "is one of mysql_databases")],
)  # fmt: skip
def test_a_database_that_is_not_a_sites_own_is_not_removed_with_it(database, why):
    sites = {**shop(), "old": {"state": "absent", "database": {"name": database}}}
    (fault,) = faults(sites, {"choose": "absent"}, site="old", mysql_databases=[{"name": "theirs"}])
    assert why in fault


def test_numbers_that_are_none_are_the_roles_to_refuse():
    answer = told(nginx_http_port="eighty", app_server_processes="many")
    assert answer["host"]["base_firewall_open"] == [{"port": 80}, {"port": 443}]
    assert answer["sites"]["shop"]["inputs"]["app_server_processes"] == "many"


def test_no_role_is_imported_beside_the_action_whose_defaults_would_be_taken_for_the_inventorys_words():
    """A role that is imported has its defaults in the whole play; what is a list there is added to, and nothing else is."""
    for path in ROOT.glob("playbooks/*.yml"):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            tasks = play.get("tasks", [])
            if not any("foobar.webstack.sites" in task for task in tasks):
                continue
            imported = {
                task["ansible.builtin.import_role"]["name"] for task in tasks if "ansible.builtin.import_role" in task
            }
            assert imported | {*play.get("roles", [])} <= {"mysql"}, path.name
