# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action of foobar.webstack.sites: validates the inventory's sites, and works out the inputs of each role."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.foobar.webstack.plugins.module_utils import names as dns_packets
from ansible_collections.foobar.webstack.plugins.module_utils.faults import controller_lacks
from ansible_collections.foobar.webstack.plugins.plugin_utils import old_inventories, several, versions
from ansible_collections.foobar.webstack.plugins.plugin_utils import sites as wiring
from ansible_collections.foobar.webstack.plugins.plugin_utils.refusals import WEBSTACK, refused, report
from ansible_collections.foobar.webstack.plugins.plugin_utils.shell import complaint, run_script
from ansible_collections.foobar.webstack.plugins.plugin_utils.specs import nearest, plain, similar, templates_in_secrets
from ansible_collections.foobar.webstack.plugins.plugin_utils.vaults import vault_words

WHO = "The play"
# Inputs that belong to one site, and where in its entry they are set.
OF_A_SITE = {
    "app_server_name": "the key of the site in sites",
    "app_server_repository": "sites.<site>.repository",
    "app_server_version": "sites.<site>.version",
    "app_server_push": "sites.<site>.push",
    "certificate_name": "the key of the site in sites",
    "certificate_names": "sites.<site>.domain, aliases and redirects",
    "certificate_source": "sites.<site>.certificate",
    "certificate_reload": "nowhere: nginx is reloaded",
}
# Of these follows what several roles are told.
OF_NGINX = (
    "nginx_answer_seconds", "nginx_challenge_root", "nginx_challenge_port", "nginx_http_port", "nginx_https_port",
)  # fmt: skip
# Of these follows what role mysql does for role backup.
OF_BACKUPS = (
    "mysql_vendor", "mysql_acknowledge_timeout_ms", "mysql_binlog_expires", "mysql_binlog_days",
    "backup_target", "backup_repository", "backup_acknowledge", "backup_vendor", "backup_log_days",
)  # fmt: skip
HOOKS = "/etc/letsencrypt/renewal-hooks/deploy"  # role certificate has one there for each name that certbot renews
# Before the answers, a shell over ssh may complain of a locale that the host lacks.
ASK = f"""
ls -d /etc/*/release.json {HOOKS}/* 2>/dev/null
echo "kept as $(cat /etc/webstack/belongs-to 2>/dev/null)"
echo "kept by $(cat {versions.RECORD} 2>/dev/null)"
echo "clock $(date +%s.%N)"
"""


class ActionModule(ActionBase):
    """Runs on the controller. The host is asked what it belongs to, and for its memory if several applications share it."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"roles", "choose", "passwords", "changes"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        self._for_roles = boolean(self._task.args.get("roles", False))
        self._host = str(self._vars["inventory_hostname"])
        self._faults: list[str] = []
        # By how many seconds the host's clock is ahead of this machine's: at least, and at most.
        self._ahead: list[float] = []
        self._renewed: list[str] = []  # the names that certbot renews on the host
        self._declared: list[str] = []  # the names of all sites, with those that have a fault
        self._declared_before: dict[str, str] = {}  # where the inventory sets the previous database password, by site
        if found := list(old_inventories.faults(self._vars, self._text)):
            raise AnsibleActionFail(report({f"{WHO} refuses its inputs": found}))
        if self._for_roles:
            self._faults += templates_in_secrets(self._vars, "vault_")
        before = self._vars.get(WEBSTACK) or {}
        said, lists = before.get("said"), before.get("lists")
        if said is None:
            said, lists = self._said_of_roles()
        self._several = self._hosts_of_the_same_sites()
        if self._several and self._several.balanced:
            said = {**several.BALANCED, **said}
        sites = self._sound(said)
        self._faults += wiring.clash_faults([site for site in sites if site.is_there])
        if self._for_roles:
            self._faults += self._layout_faults(sites)
        self._refuse_placeholder()
        result: dict[str, Any] = {"changed": False, "said": said, "lists": lists}
        if self._for_roles:
            self._faults += self._misspelt(sites)
        chosen = self._chosen(sites)
        changes = boolean(self._task.args.get("changes", False))
        # A verb that is refused needs no host for that.
        if (self._for_roles and not before) or (changes and not self._faults):
            self._faults += self._host_faults(lists, changes)
        result["before"] = [self._declared_before[name] for name in chosen if name in self._declared_before]
        for site in sites:
            if site.name in chosen and site.database is not None:
                _accept(site.database, str(self._task.args.get("passwords") or "declared"))
        if not self._faults or self._for_roles:
            result |= self._told(sites, said, lists, result, bool(chosen) or "choose" not in self._task.args)
            result |= {"chosen": chosen, "ahead": self._ahead}
        result |= refused(WHO, list(dict.fromkeys(self._faults)), self._vars)
        # The result holds passwords.
        result["_ansible_no_log"] = True
        return result

    # What the inventory says

    def _value(self, place: str, raw: Any, secret: bool = False) -> Any:
        """Evaluates the templates in a value, each key and item separately, so that a fault names its place."""
        if isinstance(raw, dict):
            worked = {str(key): self._value(f"{place}.{key}", item, secret) for key, item in raw.items()}
            # None means that a template failed, which is reported. A key without a value stays, for the spec to judge.
            return {key: value for key, value in worked.items() if value is not None or raw.get(key) is None}
        if isinstance(raw, (list, tuple)):
            return [self._value(f"{place}[{index}]", item, secret) for index, item in enumerate(raw)]
        if secret and (fault := templates_in_secrets({place: raw}, place)):
            self._faults += fault
            return None
        try:
            return plain(self._templar.template(raw))
        except AnsibleError as error:
            words = vault_words(error)
            if words:
                self._faults.append(f"{place}: {words}")
                return None
            # Ansible's words repeat a part of a template, which may be a part of a secret.
            if found := templates_in_secrets(self._vars):
                self._faults += found
                return None
            missing = re.search(r"'(\w+)' is undefined", str(error))
            if secret and not (missing and missing[1].startswith("vault_")):
                self._faults.append(
                    f"{place}: is a template without a value; if it is meant as text, write it as !unsafe '…'"
                )
            elif missing:
                self._faults.append(f"{place}: {missing[0]}{_like(missing[1], self._vars)}")
            else:
                self._faults.append(f"{place}: {error}")
            return None

    def _said_of_roles(self) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """Role inputs that the inventory sets outside of `sites`: for all sites, and for the host."""
        said: dict[str, Any] = {}
        for role in ("app_server", "certificate"):
            for name, option in wiring.role_options(role).items():
                if name not in self._vars or (option.get("no_log") and not self._for_roles):
                    continue
                if name in OF_A_SITE:
                    self._faults.append(f"{name}: is a matter of each site; say it as {OF_A_SITE[name]}")
                elif name != "app_server_ref":
                    said[name] = self._value(name, self._vars[name], bool(option.get("no_log")))
                    if option.get("type") == "dict" and not isinstance(said[name], dict | None):
                        # What follows from a site is merged into it, so no role would see what was written.
                        self._faults.append(f"{name}: must be keys with a value each")
                        del said[name]
        for name in (*OF_NGINX, *OF_BACKUPS):
            if name in self._vars:
                said[name] = self._value(name, self._vars[name])
        lists: dict[str, list[Any]] = {}
        for name in wiring.LISTS if self._for_roles else ():
            value = self._value(name, self._vars[name]) if name in self._vars else []
            if isinstance(value, list):
                lists[name] = value
            elif value is not None:
                self._faults.append(f"{name}: must be a list")
        return {name: value for name, value in said.items() if value is not None}, lists

    def _sound(self, said: dict[str, Any]) -> list[wiring.Site]:
        """The sites without faults."""
        raw, groups = self._vars.get("sites"), set(self._vars.get("group_names", []))
        serves = bool({"webservers", "appservers", "dbservers", "loadbalancers"} & groups)
        if "archives" in groups and not serves:
            return []  # what an inventory says for all hosts is not meant for one that keeps the backups of others
        if raw is None:
            if serves:
                self._faults.append(
                    f"sites: not set for {self._host}; its web sites, each with a domain at least"
                    f"{similar('sites', self._vars, 0.7)}"
                )
            return []
        if not isinstance(raw, dict):
            raw = self._value("sites", raw)
        if found := wiring.names_faults(raw):
            self._faults += found
            raw = raw if isinstance(raw, dict) else {}
        self._declared = [str(name) for name in raw]
        options, sound = wiring.site_options(), []
        for name, entry in raw.items():
            if not isinstance(entry, dict) or not wiring.NAME.fullmatch(str(name)):
                continue
            before = len(self._faults)
            worked = self._worked_out(str(name), entry)
            self._faults += wiring.entry_faults(str(name), worked, options)
            site = wiring.Site(str(name), worked, said, *([several.DATABASE_SOCKET] if self._has_door() else []))
            if site.is_there and site.has_app and len(self._faults) == before and not site.of_app("entry"):
                self._faults.append(f"sites.{name}.app.entry: not set; what uWSGI loads, such as shop.wsgi:application")
            if len(self._faults) == before:
                sound.append(site)
        return sound

    def _worked_out(self, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry with its templates evaluated. Secrets are evaluated only if the roles will run."""
        place, rest = f"sites.{name}", dict(entry)
        secrets = {}
        for key, parts in (("app", ("secrets",)), ("database", ("password", "password_before"))):
            if isinstance(rest.get(key), dict):
                secrets[key] = {part: rest[key][part] for part in parts if part in rest[key]}
                rest[key] = {part: value for part, value in rest[key].items() if part not in parts}
        value = self._value(place, rest)
        if value.get("app") == wiring.NONE and value.get("repository"):
            self._faults.append(
                f"{place}.app: none, and there is a repository, which would have no effect; say one of them"
            )
        worked = wiring.with_keys(value)
        if not self._for_roles or worked.get("state") == "absent":
            return worked
        for key, found in secrets.items():
            for part, raw in found.items():
                value = self._value(f"{place}.{key}.{part}", raw, secret=True)
                if value is not None and isinstance(worked.get(key), dict):
                    worked[key][part] = value
        if isinstance(worked.get("database"), dict):
            self._add_passwords(name, worked["database"], secrets.get("database", {}))
        return worked

    def _add_passwords(self, name: str, database: dict[str, Any], given: dict[str, Any]) -> None:
        """Adds the passwords of a site's database; they come from the vault if the entry has none."""
        vault = f"vault_{name.replace('-', '_')}_database_password"
        place = f"sites.{name}.database.password"
        for key, variable in (("password", vault), ("password_before", f"{vault}_before")):
            if key not in given and variable in self._vars:
                value = self._value(variable, self._vars[variable], secret=True)
                if value:
                    database[key] = value
            elif key == "password_before" and database.get(key) == "":  # the template of a variable that is not set
                del database[key]
        if "password" not in given and vault not in self._vars:
            self._faults.append(f"{place}: not set; a secret, for the vault, as {vault}")
        elif given and database.get("password") in ("", wiring.PLACEHOLDER):
            del database["password"]
            self._faults.append(f"{place}: not set, or still a placeholder; a secret, for the vault")
        if database.get("password_before"):
            said_here = "password_before" in given
            self._declared_before[name] = f"sites.{name}.database.password_before" if said_here else f"{vault}_before"

    # Faults

    def _text(self, name: str) -> str:
        try:
            return str(self._templar.template(self._vars.get(name, "")))
        except AnsibleError:
            return f"(what {name} says)"

    def _refuse_placeholder(self) -> None:
        """Refuses an address of the examples, before anything connects to it."""
        address = self._value("ansible_host", self._vars.get("ansible_host", self._host))
        if not wiring.EXAMPLE_ADDRESS.fullmatch(str(address)):
            return
        where = self._vars.get("inventory_file") or "the inventory"
        self._faults.insert(
            0,
            f"ansible_host: {self._host} has the address {address}, which stands for yours in the examples; put your "
            f"server's address into {where}",
        )
        raise AnsibleActionFail(report({f"{WHO} refuses its inputs": self._faults}))

    def _misspelt(self, sites: list[wiring.Site]) -> Iterator[str]:
        """Unknown inputs of roles that no valid site calls. A role that is called refuses them itself."""
        called = {
            "app_server": any(site.has_app for site in sites),
            "certificate": any(site.has_certificate for site in sites),
        }
        for role, is_called in called.items():
            known = wiring.role_options(role)
            for name in sorted(str(name) for name in self._vars):
                if not is_called and name.startswith(f"{role}_") and name not in known:
                    yield f"{name}: unknown variable{nearest(name, known)}"

    def _layout_faults(self, sites: list[wiring.Site]) -> Iterator[str]:
        groups, where = self._vars["groups"], self._vars.get("inventory_file") or "the inventory"
        web = groups.get("webservers", [])
        yield from several.group_faults(groups)
        if self._several:
            yield from self._faults_of_several(sites, where)
        else:
            yield from self._faults_of_one(sites, where)
        if groups.get("dnsservers") and not dns_packets.dns:
            yield f"dnsservers: {controller_lacks('dnspython', '2.3', 'python3-dnspython')}"
        if groups.get("dnsservers") and self._host in web and sites and not self._published(self._host):
            yield "public_address: not set; the address under which visitors reach the host, for the zone that dnsservers publish"
        for site in sites:
            if site.certificate_source == "private" and not site.authority_folder:
                yield (
                    "certificate_authority_folder: not set; the authority's folder on this machine, which "
                    f"sites.{site.name}.certificate needs"
                )

    def _faults_of_one(self, sites: list[wiring.Site], where: str) -> Iterator[str]:
        """Faults of hosts that have no site in common."""
        groups = self._vars["groups"]
        web, app, database = (sorted(groups.get(name, [])) for name in ("webservers", "appservers", "dbservers"))
        if web != app or app != database:
            yield (
                "webservers, appservers, dbservers: must hold the same hosts, since nginx, the application and the database of "
                f"a site meet on unix sockets; mend {where}"
            )
        known = {site.names[0]: site.name for site in sites if site.is_there}
        for host in web:
            for name, names in self._raw_sites(host).items() if host != self._host else ():
                if names[0] in known:
                    yield (
                        f"sites.{known[names[0]]}: {names[0]} is a site of {host}, too, and is called {name} there; a site of "
                        "several hosts has one name"
                    )

    def _faults_of_several(self, sites: list[wiring.Site], where: str) -> Iterator[str]:
        """Faults of hosts that serve the same sites."""
        groups = self._vars["groups"]
        yield from several.number_faults(groups, where)
        for host in sorted(self._several.addresses):
            yield from several.address_faults(host, self._several.addresses[host])
        reboots = {host: str(self._of_host(host, "base_reboot_time", "")) for host in self._several.addresses}
        yield from several.reboot_faults(self._host, reboots)
        own = {(site.name, site.names[0]) for site in sites if site.is_there}
        for host in groups.get("webservers", []):
            for name, domain in sorted(own ^ self._domains(host)) if self._host in groups["webservers"] else ():
                has, lacks = (self._host, host) if (name, domain) in own else (host, self._host)
                yield (
                    f"sites.{name}: {has} has it, as {domain}, and {lacks} has not; hosts that serve the same sites serve all of them"
                )
        if len(groups.get("webservers", [])) > 1:
            yield from several.site_faults(sites)
        if self._has_door() and not self._of_inventory("cluster_authority_folder", ""):
            yield (
                "cluster_authority_folder: not set; a folder on this machine for the authority by which the hosts know each other. Its "
                "keys are secret, and it is needed as long as the hosts are"
            )

    def _hosts_of_the_same_sites(self) -> several.Several | None:
        """The hosts with a site in common; None if each host is on its own."""
        groups = self._vars["groups"]
        web, balancers, databases = (
            tuple(groups.get(name, [])) for name in ("webservers", "loadbalancers", "dbservers")
        )
        if not balancers:
            found = [site for host in web for site in self._domains(host)] if len(web) > 1 else []
            elsewhere = len(web) == 1 and databases and databases != web
            if len(found) == len(set(found)) and not elsewhere:
                return None
        if self._host not in {*web, *balancers, *databases}:
            return None
        addresses = {host: self._private_address(host) for host in dict.fromkeys(balancers + web + databases)}
        virtual = self._of_inventory("load_balancer_virtual_addresses", [])
        for host in () if self._host in balancers else balancers:  # a group of them may have said it alone
            virtual = virtual or self._of_host(host, "load_balancer_virtual_addresses", [])
        return several.Several(self._host, addresses, balancers, web, databases, tuple(map(str, virtual or [])))

    def _domains(self, host: str) -> set[tuple[str, str]]:
        """The sites of a host, each with its domain."""
        return {(name, names[0]) for name, names in self._raw_sites(host).items()}

    def _is_cluster(self) -> bool:
        return bool(self._several and self._several.is_cluster)

    def _has_door(self) -> bool:
        return bool(self._several and self._several.has_door)

    def _private_address(self, host: str) -> str:
        """The address by which the others reach a host; its ansible_host where it is an IP address."""
        for name in ("private_address", "ansible_host"):
            value = str(self._of_host(host, name, ""))
            if value and (name == "private_address" or not list(several.address_faults(host, value))):
                return value
        return ""

    def _of_host(self, host: str, name: str, default: Any) -> Any:
        """A variable of any host with its templates worked out."""
        if host == self._host:
            return self._of_inventory(name, default)
        try:
            return self._vars["hostvars"][host].get(name, default)
        except AnsibleError:
            return default

    def _raw_sites(self, host: str) -> dict[str, list[str]]:
        """The names of each site of another host, without evaluating templates."""
        found: dict[str, list[str]] = {}
        try:
            theirs = self._vars["hostvars"][host].get("sites")
        except AnsibleError:
            return found
        for name, entry in (theirs if isinstance(theirs, dict) else {}).items():
            if isinstance(entry, dict) and entry.get("domain") and entry.get("state") != "absent":
                found[str(name)] = wiring.Site(str(name), entry).names
        return found

    def _chosen(self, sites: list[wiring.Site]) -> list[str]:
        """The sites that a playbook acts on: the named one, or the only one; with `choose: all`, all."""
        choose = str(self._task.args.get("choose") or "")
        wanted = str(self._text("site") if "site" in self._vars else "")
        here = [site.name for site in sites if site.is_there and (site.has_app or choose != "app")]
        if choose == "absent":
            return self._chosen_absent(sites, wanted)
        if not choose:
            return []
        if wanted:
            if wanted in here:
                return [wanted]
            elsewhere = [
                host for host in self._vars["groups"]["all"] if host != self._host and wanted in self._raw_sites(host)
            ]
            # A site of another host is judged there. One of this host that cannot be chosen is refused here.
            if not elsewhere or wanted in [site.name for site in sites]:
                what = "an application" if choose == "app" else "a site"
                self._faults.append(
                    f"site: '{wanted}' is not {what} of {self._host}, which has {', '.join(here) or 'none'}"
                    f"{nearest(wanted, here)}"
                )
            return []
        if choose != "all" and len(here) > 1:
            self._faults.append(
                f"site: {self._host} has {', '.join(here)}; say which, as make … SITE={here[0]} or -e site={here[0]}"
            )
            return []
        return here

    def _chosen_absent(self, sites: list[wiring.Site], wanted: str) -> list[str]:
        """The site that is to be removed for good. That cannot be undone, so it must be named and have state absent."""
        site = next((site for site in sites if site.name == wanted), None)
        if not wanted:
            self._faults.append("site: not set; which one is to be removed, as make remove … SITE=shop or -e site=shop")
        elif site is None:
            others = [host for host in self._vars["groups"]["all"] if host != self._host]
            if not any(
                wanted in (self._vars["hostvars"][host].get("sites") or {}) for host in others
            ):  # another host has it, and judges it
                self._faults.append(
                    f"site: sites has no {wanted}; keep its entry, with state absent, until it is removed"
                )
        elif site.is_there:
            self._faults.append(
                f"site: {wanted} is on the web; set sites.{wanted}.state to absent, and converge, before it is removed"
            )
        elif site.database is not None and (why := self._no_database_of_its_own(site, sites)):
            self._faults.append(f"sites.{wanted}.database: {site.database_name} {why}; nothing was removed")
        else:
            return [wanted]
        return []

    def _no_database_of_its_own(self, site: wiring.Site, sites: list[wiring.Site]) -> str:
        """Why the database of a removed site must stay; empty if it may be removed."""
        name = site.database_name
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name in (
            "mysql",
            "sys",
            "information_schema",
            "performance_schema",
        ):
            return "is not the name of an application's database"
        for other in sites:
            if other.is_there and other.database is not None and other.database_name == name:
                return f"is that of sites.{other.name}"
        declared = self._value("mysql_databases", self._vars.get("mysql_databases", []))
        if name in [item.get("name") for item in declared or [] if isinstance(item, dict)]:
            return "is one of mysql_databases"
        return ""

    def _host_faults(self, lists: dict[str, list[Any]], changes: bool) -> Iterator[str]:
        """Reasons of the host against this run: what it belongs to, its version, applications that are no longer declared."""
        before = time.time()
        outcome = run_script(self, ASK)
        if clock := re.search(r"^clock ([0-9.]+)", outcome["stdout"], re.MULTILINE):
            # It was asked between two moments of this machine's own clock.
            self._ahead = [float(clock[1]) - time.time(), float(clock[1]) - before]
        said = dict(re.findall(r"^kept (as|by) ?(.*?)\s*$", outcome["stdout"], re.MULTILINE))
        if set(said) != {"as", "by"}:
            raise AnsibleActionFail(f"The host cannot be asked what it is kept as: {complaint(outcome)}")
        self._renewed = re.findall(rf"^{HOOKS}/(\S+)\s*$", outcome["stdout"], re.MULTILINE)
        wanted = self._belongs_to()
        # In site.yml role base checks this. Older versions wrote `site <name> of …` as what a host belongs to.
        if changes and re.sub(r"^site \S+ of ", "", said["as"]) not in ("", wanted):
            yield (
                f'ansible_host: this host is kept as "{said["as"]}", and this run is for "{wanted}". If the host is yours, converge '
                "it first: site.yml -e base_take_over=true"
            )
        word = str(self._value(versions.WORD, self._vars.get(versions.WORD, "")) or "")
        recorded = said["by"] or (versions.FIRST if said["as"] else versions.THIS)
        yield from versions.faults(self._host, recorded, word, "" if word else _like(versions.WORD, self._vars))
        if self._for_roles and "appservers" in self._vars.get("group_names", []):
            served = str(lists.get("nginx_sites", []))
            for name in re.findall(r"^/etc/([a-z0-9-]+)/release\.json\s*$", outcome["stdout"], re.MULTILINE):
                if name not in self._declared and f"/run/{name}/" not in served:
                    yield (
                        f"sites: this host runs the application {name}, which is not declared any more. Declare it, with state: absent "
                        "if it is to go (its data stay)"
                    )

    # Inputs of the roles

    def _told(
        self,
        sites: list[wiring.Site],
        said: dict[str, Any],
        lists: dict[str, list[Any]],
        result: dict[str, Any],
        acted_on: bool,
    ) -> dict[str, Any]:
        here = [site for site in sites if site.is_there]
        workers = {site.name: wiring.number(site.of_app("processes"), 0) for site in here}
        if self._for_roles and sum(site.has_app for site in here) > 1:
            facts = self._facts(result)
            workers, found = wiring.shared_out(here, int(facts["memtotal_mb"]), int(facts["processor_vcpus"]))
            self._faults += found
        ports = wiring.nginx_ports(said)
        public = self._published(self._host)
        address = self._of_inventory("walk_address", self._vars.get("ansible_host", self._host))
        port = self._of_inventory("walk_port", "")
        if self._several and self._several.public:
            address = self._of_inventory("walk_address", self._several.public[0])
        behind = {"proxy_protocol": True} if self._several and self._several.balanced else {}
        told = {}
        for site in sites:
            inputs = wiring.told_site(site, ports, public, workers)
            if site.is_there and site.has_app and self._several and len(self._several.web) > 1:
                inputs["app_server_database_lock"] = site.database is not None
            if not self._for_roles:
                inputs.pop("app_server_secrets", None)
            told[site.name] = {
                "inputs": inputs,
                "places": wiring.places(site, inputs),
                "certificate": site.certificate_source,
                "database": site.database_name if site.database is not None else "",
                "files": wiring.files_of(site),
                "walk": {
                    **wiring.walk(site, ports, address, port, next(iter(public), ""), self._name_servers(site)),
                    **behind,
                }
                if site.is_there
                else {},
            }
        host = {"base_belongs_to": self._belongs_to()}
        if self._for_roles:
            groups = self._vars.get("group_names", [])
            serves_names = (
                "dnsservers" in groups and self._of_inventory("dns_publish", "authoritative") == "authoritative"
            )
            serves_web = "webservers" in groups and not (self._several and self._several.balanced)
            http3 = serves_web and boolean(self._of_inventory("nginx_http3", False), strict=False)
            backups = {name: said[name] for name in OF_BACKUPS if name in said}
            host |= wiring.host_inputs(
                here, lists, said, serves_web=serves_web, serves_names=serves_names, http3=http3,
                ships_log="dbservers" in groups and bool(backups.get("backup_target")),
            )  # fmt: skip
            if self._several:
                told_by_others = self._several.inputs(here)
                host |= {name: value for name, value in told_by_others.items() if name not in self._vars}
                host["base_firewall_open"] = self._several.firewall(said) + host["base_firewall_open"]
                if told_by_others.get("database_proxy_only_server"):
                    host["mysql_users"].append(dict(wiring.ASKER))
                if self._several.balanced:
                    host["nginx_trusted_proxies"] = self._several.trusted() + lists.get("nginx_trusted_proxies", [])
            if "dbservers" in groups:
                # In a cluster, the node that writes is seldom the one that ships its log.
                waits = boolean(backups.get("backup_acknowledge", True), strict=False) and not self._is_cluster()
                host |= wiring.told_backup({**backups, "backup_acknowledge": waits})
            if "dnsservers" in groups:
                zone = self._of_inventory("dns_zone", "")
                host["dns_records"] = [*wiring.records(self._web_names(), zone), *lists.get("dns_records", [])]
        cluster = self._is_cluster()
        return {
            **wiring.told_names(sites, self._renewed),
            "sites": told,
            "host": host,
            "cluster": cluster,
            # Whether applications reach the database by role database_proxy, and hosts know each other by certificates.
            "door": self._has_door(),
            # The hosts that have the same applications; empty where this one is on its own, or the site that is meant is elsewhere.
            "hosts": list(self._several.web) if self._several and len(self._several.web) > 1 and acted_on else [],
            # All hosts that share sites, by what they do.
            "shared": self._several.told() if self._several else {},
            "address": self._several.addresses[self._host] if self._several and self._has_door() else "",
            # Each node of a cluster has all data; one of them keeps the backups.
            "backs_up": not cluster or self._host == self._vars["groups"]["dbservers"][0],
        }

    def _of_inventory(self, name: str, default: Any) -> Any:
        """A variable of the host with its templates worked out."""
        return self._value(name, self._vars.get(name, default))

    def _belongs_to(self) -> str:
        if "base_belongs_to" in self._vars:
            return str(self._of_inventory("base_belongs_to", ""))
        folder = str(self._vars.get("inventory_dir") or "").rstrip("/").rpartition("/")[2]
        return f"{self._host} in inventory {folder}"

    def _web_names(self) -> list[tuple[str, str]]:
        """The names of all sites of all web servers, each with the address of its host."""
        return [
            (name, address)
            for host in self._vars["groups"].get("webservers", [])
            for names in self._raw_sites(host).values()
            for name in names
            for address in self._published(host)
        ]

    def _published(self, host: str) -> list[str]:
        """The addresses at which visitors reach a web server: the virtual ones, where it is behind some."""
        own = self._of_host(host, "public_address", "")
        return [str(own)] if own else self._several.public if self._several else []

    def _name_servers(self, site: wiring.Site) -> list[str]:
        """The addresses of the name servers of this inventory that have the site's zone."""
        hosts = [self._vars["hostvars"][host] for host in self._vars["groups"].get("dnsservers", [])]
        return [
            str(host.get("public_address"))
            for host in hosts
            if host.get("dns_publish", "authoritative") == "authoritative" and site.is_in(host.get("dns_zone", ""))
        ]

    def _facts(self, result: dict[str, Any]) -> dict[str, Any]:
        facts = self._vars.get("ansible_facts", {})
        if {"memtotal_mb", "processor_vcpus"} <= set(facts):
            return dict(facts)
        gathered = self._execute_module(module_name="foobar.webstack.host_facts", module_args={}, task_vars=self._vars)
        if gathered.get("failed"):
            raise AnsibleActionFail(str(gathered.get("msg")))
        result["ansible_facts"] = gathered["ansible_facts"]
        return {key.removeprefix("ansible_"): value for key, value in gathered["ansible_facts"].items()}


def _accept(database: dict[str, Any], passwords: str) -> None:
    """Sets which passwords of a site's database are valid (option `passwords`)."""
    if passwords == "new":
        database.pop("password_before", None)
    elif passwords == "both" and "password" in database:
        database.setdefault("password_before", database["password"])


def _like(missing: str, variables: dict[str, Any]) -> str:
    """For a complaint about a variable that is not set: where it belongs, or a similar name that is set."""
    return (
        "; it is a secret, for the vault (make secrets)"
        if missing.startswith("vault_")
        else similar(missing, variables)
    )
