"""What hosts that serve the same sites are told for each other, and which inventories cannot be several hosts."""

from __future__ import annotations

from typing import Any

import pytest
from loading import load
from test_sites import SHOP, _without_ansible, action, run  # noqa: F401, the fixture
from test_sites import host as site_host

several = action.several
clocks = load("plugins/filter/clocks_apart.py")
ADDRESSES = {"web1": "10.0.0.11", "web2": "10.0.0.12", "web3": "10.0.0.13", "db1": "10.0.0.21"}
EQUAL = {name: ["web1", "web2", "web3"] for name in ("loadbalancers", "webservers", "appservers", "dbservers")}
VIRTUAL = ["10.0.0.100/24", "2001:db8::100/64"]


def variables(host: str = "web1", groups: dict[str, list[str]] | None = None, **more: Any) -> dict[str, Any]:
    """Of a host, as several hosts of an inventory have them; `more` is what the inventory says for all."""
    groups = EQUAL if groups is None else groups
    names = list(dict.fromkeys(name for hosts in groups.values() for name in hosts))
    own = {
        name: {
            "inventory_hostname": name,
            "inventory_dir": "/somewhere/production",
            "ansible_host": ADDRESSES[name],
            "ansible_facts": {"memtotal_mb": 4096, "processor_vcpus": 2},
            "groups": {"all": names, **groups},
            "group_names": [group for group, hosts in groups.items() if name in hosts],
            "sites": {"shop": SHOP},
            "cluster_authority_folder": "/home/me/authority",
            "load_balancer_virtual_addresses": VIRTUAL,
            **more,
        }
        for name in names
    }
    return {**own[host], "hostvars": own}


def told(host: str = "web1", **given: Any) -> dict[str, Any]:
    return run(variables(host, **given), roles=True)


def faults(host: str = "web1", **given: Any) -> list[str]:
    said = run(variables(host, webstack_collect=True, **given), roles=True)
    return [fault for found in said.get("webstack_faults", {}).values() for fault in found]


def test_three_equal_hosts_are_balancer_web_server_and_database_each():
    assert faults() == []
    answer = told()
    host = answer["host"]
    assert host["load_balancer_address"] == "10.0.0.11" and host["load_balancer_peers"] == ["10.0.0.12", "10.0.0.13"]
    assert host["base_firewall_vrrp_from"] == host["load_balancer_peers"]
    assert [server["name"] for server in host["load_balancer_servers"]] == EQUAL["webservers"]
    assert host["load_balancer_sites"] == [{"name": "shop", "domains": ["www.shop.example"], "path": "/healthz"}]
    assert (host["nginx_http_port"], host["nginx_https_port"], host["nginx_proxy_protocol"]) == (8080, 8443, True)
    assert host["nginx_trusted_proxies"] == ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
    assert [node["address"] for node in host["mysql_cluster_nodes"]] == host["nginx_trusted_proxies"]
    assert host["database_proxy_address"] == host["mysql_cluster_address"] == "10.0.0.11"
    assert host["database_proxy_servers"] == host["mysql_cluster_nodes"]
    assert host["mysql_cluster_key"] == host["database_proxy_key"] == "/etc/ssl/webstack-host/key.pem"
    assert answer["hosts"] == EQUAL["appservers"], "to which its code is shipped together"
    inputs = answer["sites"]["shop"]["inputs"]
    assert (
        inputs["app_server_public_url"] == "https://www.shop.example:8443"
        and inputs["app_server_public_proxy_protocol"]
    )
    assert "unix_socket=/run/database/writer.sock&" in inputs["app_server_secrets"]["DATABASE_URL"]
    assert inputs["app_server_environment"]["DB_SOCKET"] == "/run/database/writer.sock"
    walk = answer["sites"]["shop"]["walk"]
    assert (walk["address"], walk.get("port"), walk["host_port"]) == ("10.0.0.100", None, 8443) and walk[
        "proxy_protocol"
    ]


def test_roles_of_one_host_have_a_port_each():
    # They listen beside each other, and a web server behind load balancers has left them its two.
    roles = ("nginx", "load_balancer", "database_proxy")
    found = [
        (option["default"], name)
        for role in roles
        for name, option in action.wiring.role_options(role).items()
        if name.endswith("_port") and not name.startswith("load_balancer_http") and option["default"]
    ]
    assert len(found) >= 6 and len({port for port, _name in found}) == len(found), sorted(found)


def test_no_commit_of_a_cluster_waits_for_the_backups():
    more = {"backup_target": {"host": "10.0.0.99"}}
    assert "mysql_acknowledge_timeout_ms" not in told(**more)["host"]
    one = {name: ["web1"] for name in ("webservers", "appservers", "dbservers")}
    assert told(groups=one, **more)["host"]["mysql_acknowledge_timeout_ms"] == 2000


def test_each_port_is_open_for_those_who_need_it():
    opened = {entry["port"]: entry.get("from") for entry in told()["host"]["base_firewall_open"]}
    others = ["10.0.0.12", "10.0.0.13"]
    assert opened == {80: None, 443: None, **dict.fromkeys((8080, 8443, 8096, 4567, 4568, 4444, 3307, 3308), others)}


def test_roles_that_a_host_has_not_are_told_nothing():
    groups = {
        "loadbalancers": ["web1", "web2"], "webservers": ["web3", "db1"], "appservers": ["web3", "db1"],
        "dbservers": ["web1", "web2", "web3"],
    }  # fmt: skip
    balancer, web = told("web1", groups=groups)["host"], told("db1", groups=groups)["host"]
    assert "nginx_proxy_protocol" not in balancer and "database_proxy_socket" not in balancer
    assert (
        "load_balancer_address" not in web and "mysql_cluster_nodes" not in web and "database_proxy_address" not in web
    )
    assert {entry["port"] for entry in web["base_firewall_open"]} == {8080, 8443, 8096}
    assert web["base_firewall_open"][0]["from"] == ["10.0.0.11", "10.0.0.12"]
    assert told("db1", groups=groups)["sites"]["shop"]["walk"]["address"] == "10.0.0.100"


def test_behind_a_providers_balancer_nginx_has_its_usual_ports():
    groups = {**EQUAL, "loadbalancers": []}
    answer = told(groups=groups, load_balancer_virtual_addresses=[])
    assert {80, 443} <= {entry["port"] for entry in answer["host"]["base_firewall_open"]}
    assert "nginx_proxy_protocol" not in answer["host"] and "nginx_http_port" not in answer["host"]
    assert "proxy_protocol" not in answer["sites"]["shop"]["walk"]


def test_what_the_inventory_says_wins():
    host = told(nginx_https_port=9443, load_balancer_peers=["10.0.0.99"], nginx_trusted_proxies=["10.0.0.200"])["host"]
    assert "nginx_https_port" not in host and "load_balancer_peers" not in host
    assert host["nginx_trusted_proxies"][-1] == "10.0.0.200" and len(host["nginx_trusted_proxies"]) == 4
    assert 9443 in {entry["port"] for entry in host["base_firewall_open"]}


def test_names_lead_to_the_virtual_addresses():
    groups = {**EQUAL, "dnsservers": ["web1"]}
    more = {"dns_zone": "shop.example"}
    assert told(groups=groups, **more)["host"]["dns_records"] == [
        {"name": "www.shop.example.", "type": "A", "values": ["10.0.0.100"]},
        {"name": "www.shop.example.", "type": "AAAA", "values": ["2001:db8::100"]},
    ]
    assert faults(groups=groups, **more) == []
    (without,) = faults(groups=groups, load_balancer_virtual_addresses=[], **more)
    assert without.startswith("public_address: not set")


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        ([[0.0, 0.1], [-0.2, 0.1], [4.8, 4.9]], ""),
        ([[0.0, 0.1], [-20.0, 0.1], [-0.1, 30.0]], ""),  # they took long to answer, which may be why
        ([[0.0, 0.1], [-0.2, 0.1], [7.2, 7.4]], "the clock of web3 is 7 s ahead of that of web1"),
        ([[0.0, 0.1], [-90.2, -90.0], [0.0, 0.1]], "the clock of web1 is 90 s ahead of that of web2"),
        ([[], [], []], ""),
    ],
)
def test_clocks_that_differ_are_named(ahead, words):
    hosts = [
        {"inventory_hostname": name, "webstack": {"ahead": span}}
        for name, span in zip(EQUAL["dbservers"], ahead, strict=True)
    ]
    found = clocks.clocks_apart(hosts)
    assert found.startswith(words) and bool(found) == bool(words)


def test_a_host_is_asked_for_its_clock(monkeypatch):
    assert told()["ahead"] == []
    monkeypatch.setattr(action, "run_script", lambda *_words: {"stdout": f"{site_host()}clock 0.5\r\n"})
    least, most = told()["ahead"]
    assert least <= most < -(10**9)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"loadbalancers": ["web1"]}, "loadbalancers: web1 alone would be what all others fail with"),
        ({"dbservers": ["web1", "web2"]}, "dbservers: 2 cannot tell which of them is cut off"),
        ({"dbservers": []}, "dbservers: 0 cannot tell"),
        ({"appservers": ["web1", "web2"]}, "webservers, appservers: must hold the same hosts"),
        ({"loadbalancer": ["web1"]}, "loadbalancer: this group has no meaning, and its hosts"),
    ],
)
def test_numbers_that_cannot_work_are_refused(groups, words):
    found = faults(groups={**EQUAL, **groups})
    assert any(fault.startswith(words) for fault in found), found


def test_hosts_of_the_same_sites_have_all_of_them():
    given = variables(webstack_collect=True)
    given["hostvars"]["web2"]["sites"] = {"shop": SHOP, "blog": {**SHOP, "domain": "blog.example"}}
    found = [fault for faults in run(given, roles=True)["webstack_faults"].values() for fault in faults]
    assert found == [
        "sites.blog: web2 has it, as blog.example, and web1 has not; hosts that serve the same sites serve all of them"
    ]


def test_files_that_each_host_would_have_for_itself_are_refused():
    shop = {**SHOP, "app": {**SHOP["app"], "shared": ["media"], "shared_files": ["settings.local"]}}
    (fault,) = faults(sites={"shop": shop})
    assert fault.startswith("sites.shop.app.shared: each host would have its own media, settings.local, and a visitor")
    stored = {**shop, "app": {**shop["app"], "shared_storage": True}}
    assert faults(sites={"shop": stored}) == []
    one = {name: ["web1"] for name in ("webservers", "appservers", "dbservers")}
    assert faults(groups=one, sites={"shop": shop}) == []


def test_a_job_runs_on_one_host_by_a_lock_in_the_database():
    app = {**SHOP["app"], "jobs": [{"name": "mails", "command": "python mails.py"}]}
    shop = {**SHOP, "app": app}
    assert told(sites={"shop": shop})["sites"]["shop"]["inputs"]["app_server_database_lock"] is True
    one = {name: ["web1"] for name in ("webservers", "appservers", "dbservers")}
    assert told(groups=one, sites={"shop": shop})["sites"]["shop"]["inputs"]["app_server_database_lock"] is False
    without = {key: value for key, value in shop.items() if key != "database"}
    (fault,) = faults(sites={"shop": without})
    assert fault.startswith("sites.shop.app.jobs[0]: mails would run on each host")
    app["jobs"][0]["once"] = False
    assert faults(sites={"shop": without}) == []


def test_one_database_server_of_several_web_servers_is_reached_by_its_door():
    groups = {name: ["web1", "web2"] for name in ("loadbalancers", "webservers", "appservers")} | {"dbservers": ["db1"]}
    assert faults(groups=groups) == [] and faults("db1", groups=groups) == []
    database, web = told("db1", groups=groups), told("web1", groups=groups)
    host = database["host"]
    assert host["database_proxy_only_server"] and host["database_proxy_address"] == "10.0.0.21"
    assert not {"mysql_cluster_nodes", "database_proxy_socket", "database_proxy_servers"} & {*host}
    assert [(entry["port"], entry["from"]) for entry in host["base_firewall_open"]] == [
        (port, ["10.0.0.11", "10.0.0.12"]) for port in (3307, 3308)
    ]
    assert [user["name"] for user in host["mysql_users"]] == ["shop", "haproxy"]
    assert web["host"]["database_proxy_servers"] == [{"name": "db1", "address": "10.0.0.21"}]
    assert not {"database_proxy_address", "database_proxy_only_server"} & {*web["host"]}
    assert web["sites"]["shop"]["inputs"]["app_server_environment"]["DB_SOCKET"] == "/run/database/writer.sock"
    assert database["door"] and not database["cluster"] and database["backs_up"]


def test_so_is_that_of_one_web_server_on_another_host():
    groups = {"webservers": ["web1"], "appservers": ["web1"], "dbservers": ["db1"]}
    assert faults(groups=groups) == [] and faults("db1", groups=groups) == []
    answer = told("web1", groups=groups)
    assert answer["door"] and answer["hosts"] == [], "it ships as a host of its own"
    assert "nginx_https_port" not in answer["host"] and answer["host"]["database_proxy_socket"]
    assert [entry["port"] for entry in answer["host"]["base_firewall_open"]] == [80, 443]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"cluster_authority_folder": ""}, "cluster_authority_folder: not set"),
        ({"private_address": "web1.internal"}, "private_address: 'web1.internal' is no IP address for web1"),
        ({"ansible_host": "web1.example.com"}, "private_address: not set for web1"),
    ],
)
def test_what_the_hosts_know_each_other_by_must_be_there(more, words):
    found = faults(**more)
    assert any(fault.startswith(words) for fault in found), found


def test_hosts_without_a_site_in_common_are_on_their_own():
    given = variables(
        webstack_collect=True, groups={name: ["web1", "web2"] for name in ("webservers", "appservers", "dbservers")}
    )
    given["hostvars"]["web2"]["sites"] = {"shop": {**SHOP, "domain": "other.example"}}
    answer = run(given, roles=True)
    assert "webstack_faults" not in answer and "mysql_cluster_nodes" not in answer["host"]
    assert [entry["port"] for entry in answer["host"]["base_firewall_open"]] == [80, 443]
    given["hostvars"]["web2"]["sites"] = {"copy": SHOP}
    found = [fault for faults in run(given, roles=True)["webstack_faults"].values() for fault in faults]
    assert any("www.shop.example is a site of web2, too, and is called copy there" in fault for fault in found), found


def test_hosts_that_would_all_reboot_at_once_are_refused():
    (fault,) = faults(base_reboot_time="04:30")
    assert "base_reboot_time: 04:30 on web1, web2, web3" in fault and "make patch REBOOT=true" in fault
    given = variables()
    for name, when in (("web1", "04:30"), ("web2", "05:30"), ("web3", "")):
        given["hostvars"][name]["base_reboot_time"] = when
    said = run({**given, **given["hostvars"]["web1"], "webstack_collect": True}, roles=True)
    assert not any("base_reboot_time" in fault for found in said.get("webstack_faults", {}).values() for fault in found)


def test_a_certificate_is_ordered_where_the_names_lead_to_all_virtual_addresses():
    addresses = told()["sites"]["shop"]["inputs"]["certificate_addresses"]
    assert addresses == ["10.0.0.100", "2001:db8::100"]
    assert told(public_address="192.0.2.1")["sites"]["shop"]["inputs"]["certificate_addresses"] == ["192.0.2.1"]
