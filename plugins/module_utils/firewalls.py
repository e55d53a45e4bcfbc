# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Firewalls of other tools on a host: finding them, whether one can be taken over, and removing it.

Steps of a takeover: copy the tool's settings and rules (`begin`), load the role's rules, remove the tool (`stop`). Until the
last step is done a mark stays in TAKEN, so that the next run continues a killed one. Rules of container engines and of
fail2ban are kept.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.foobar.webstack.plugins.module_utils.ownership import COPIES, TAKEN, conffiles

Runner = Callable[..., tuple[int, str, str]]  # AnsibleModule.run_command

UFW = Path("/etc/ufw/ufw.conf")
UFW_DEFAULTS = Path("/etc/default/ufw")
NFTABLES = Path("/etc/nftables.conf")
IPTABLES = Path("/etc/iptables")
FIREWALLD_DIRECT = Path("/etc/firewalld/direct.xml")
RUNTIME_UNITS = Path("/run/systemd/system")
# Units that manage a whole firewall, and their settings. Container engines and fail2ban are not here: they only add rules.
TOOLS: dict[str, tuple[str, ...]] = {
    "ufw.service": ("/etc/ufw", "/etc/default/ufw"),
    "firewalld.service": ("/etc/firewalld",),
    "nftables.service": ("/etc/nftables.conf", "/etc/nftables.d"),
    "netfilter-persistent.service": ("/etc/iptables", "/etc/default/netfilter-persistent"),
    "shorewall.service": ("/etc/shorewall",),
    "ferm.service": ("/etc/ferm",),
}
# Units that load rules at boot if they are enabled, even if they are stopped now. (ufw has a setting for it.)
AT_BOOT = {"firewalld.service", "nftables.service", "netfilter-persistent.service"}
OTHERS = r"(?:f2b-|DOCKER|CNI-|KUBE-|LIBVIRT_|NETAVARK|FLANNEL|CILIUM_|cali-|ts-)"  # prefixes of their chains
OF_OTHERS = re.compile(rf"-[jg] {OTHERS}|-[io] (?:docker|br-[0-9a-f]{{12}}|virbr|lxdbr|lxcbr|cni|podman|kube)")
COMMENT = re.compile(r'"[^"]*"')
TRANSLATES = {"masquerade", "dnat", "snat", "redirect"}
OURS = ("inet", "webstack")


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def kept(units: dict[str, dict[str, str]]) -> list[str]:
    """Units that manage a firewall on this host, from systemd's states of them."""
    found = [
        name
        for name in TOOLS
        if units.get(name, {}).get("ActiveState") == "active"
        or (name in AT_BOOT and units.get(name, {}).get("UnitFileState") == "enabled")
    ]
    # The unit's state says nothing: `ufw enable` does not start it, and it is active without ufw being enabled.
    found = [name for name in found if name != "ufw.service"]
    if units.get("ufw.service", {}).get("LoadState") == "loaded" and re.search(r"(?mi)^ENABLED=yes\s*$", _text(UFW)):
        found.insert(0, "ufw.service")
    digest = hashlib.md5(NFTABLES.read_bytes(), usedforsecurity=False).hexdigest() if NFTABLES.exists() else ""
    if digest and conffiles(str(NFTABLES.parent)).get(str(NFTABLES)) == digest:
        found = [name for name in found if name != "nftables.service"]
    return found


def units(run: Runner) -> dict[str, dict[str, str]]:
    """systemd's state of each of TOOLS."""
    _rc, out, _err = run(["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *TOOLS])
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def mark(unit: str) -> Path:
    """A file with the path of the copy. It exists from before the first change until the tool is removed."""
    return TAKEN / f"{unit}.unfinished"


def begun() -> list[str]:
    return [unit for unit in TOOLS if mark(unit).exists()]


def why_not(run: Runner, unit: str) -> str:
    """Why a tool cannot be taken over; empty if it can."""
    reasons = {
        "ufw.service": _why_not_ufw,
        "netfilter-persistent.service": lambda _run: _translating(sorted(IPTABLES.glob("rules*"))),
        "nftables.service": _why_not_nftables,
        "firewalld.service": _why_not_firewalld,
    }
    if unit not in reasons:
        return "clears the rules of everybody where it stops, those of a container engine, too"
    return reasons[unit](run)


def _why_not_ufw(_run: Runner) -> str:
    if re.search(r"(?m)^MANAGE_BUILTINS=\W?yes", _text(UFW_DEFAULTS)):
        return f"clears the rules of everybody where it stops (MANAGE_BUILTINS in {UFW_DEFAULTS})"
    return _translating(sorted(UFW.parent.glob("*.rules")))


def _translating(files: list[Path]) -> str:
    """A fault for the first nat rule in files of iptables-save that belongs to no container engine."""
    for path in files:
        for section in re.findall(r"(?ms)^\*nat$.*?^COMMIT$", _text(path)):
            for rule in re.findall(r"(?m)^-[AI] .*$", section):
                chain = rule.split()[1]
                if not of_others(rule) and not re.match(OTHERS, chain):
                    return f"translates addresses ({path}: {rule})"
    return ""


def of_others(rule: str) -> bool:
    """Whether a rule in iptables' syntax belongs to a container engine or to fail2ban."""
    return OF_OTHERS.search(COMMENT.sub("", rule)) is not None


def _why_not_nftables(run: Runner) -> str:
    settings = nftables_settings()
    if re.search(r"\btable\s+(?:\w+\s+)?\$", settings):
        return f"has tables in {NFTABLES} whose names are variables"
    return _why_not_tables(run, declared_tables(settings), declared_chains(settings))


def _why_not_firewalld(run: Runner) -> str:
    if re.search(r"<(?:rule|passthrough)\b", _text(FIREWALLD_DIRECT)):
        return f"has rules in {FIREWALLD_DIRECT}, which lie among those of a container engine"
    if shutil.which("nft") and not _present(run, _firewalld_tables()):
        return "has no table of its own (FirewallBackend=iptables): its rules lie among those of a container engine"
    return _why_not_tables(run, _firewalld_tables(), None)


def _firewalld_tables() -> list[tuple[str, str]]:
    return [(family, "firewalld") for family in ("inet", "ip", "ip6")]


def _why_not_tables(run: Runner, tables: list[tuple[str, str]], chains: set[str] | None) -> str:
    """Why tables cannot be deleted: they have chains beside `chains`, so another program uses them, or they translate addresses."""
    if not shutil.which("nft"):
        return "has rules that cannot be looked at: install package nftables first, which changes none"
    for family, table in _present(run, tables):
        name = f"table {family} {table}"
        for item in json.loads(run(["nft", "-j", "list", "table", family, table], check_rc=True)[1])["nftables"]:
            chain = item.get("chain", {}).get("name", "")
            if chain and (re.match(OTHERS, chain) or (chains is not None and chain not in chains)):
                return f"shares {name} with somebody else, whose chain {chain} is in it"
            if _translates(item.get("rule", {}).get("expr", [])):
                return f"translates addresses ({name}, chain {item['rule']['chain']})"
    return ""


def _translates(statements: list[Any]) -> bool:
    return any(
        key in TRANSLATES or (key == "xt" and str(value.get("name")).lower() in TRANSLATES)
        for statement in statements
        if isinstance(statement, dict)
        for key, value in statement.items()
    )


def nftables_settings() -> str:
    """What nftables.service loads: its file and included files, without comments."""
    return "\n".join(re.sub(r"(?m)#.*$", "", _text(path)) for path in _nftables_files(str(NFTABLES), set()))


def _nftables_files(path: str, seen: set[str]) -> Iterator[str]:
    seen.add(path)
    yield path
    for pattern in re.findall(r'(?m)^\s*include\s+"([^"]+)"', _text(path)):
        for found in sorted(glob.glob(os.path.join(NFTABLES.parent, pattern))):
            if found not in seen:
                yield from _nftables_files(found, seen)


def declared_tables(settings: str) -> list[tuple[str, str]]:
    """Family and name of each table, in order."""
    pattern = r"\btable\s+(?:(ip|ip6|inet|arp|bridge|netdev)\s+)?([A-Za-z_][\w./-]*)"
    found = dict.fromkeys((family or "ip", name) for family, name in re.findall(pattern, settings))
    return [table for table in found if table != OURS]


def declared_chains(settings: str) -> set[str]:
    """Names of the chains, in a table block or in commands such as `add chain inet mine input`."""
    return {words.split()[-1] for words in re.findall(r"\bchain[ \t]+((?:[^\s{};]+[ \t]+){0,2}[^\s{};]+)", settings)}


def _present(run: Runner, tables: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if not tables:
        return []
    lines = run(["nft", "list", "tables"], check_rc=True)[1].splitlines()
    return [(family, name) for family, name in tables if f"table {family} {name}" in lines]


def begin(run: Runner, unit: str) -> str:
    """Copies a tool's settings and the kernel's rules into a dated folder and writes the mark; returns the folder."""
    if mark(unit).exists():
        return _text(mark(unit)).strip()
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%SZ")
    place = COPIES / f"{moment}-{unit.removesuffix('.service')}"
    COPIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = place.with_name(f".{place.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    settings = [*TOOLS[unit], *(_nftables_files(str(NFTABLES), set()) if unit == "nftables.service" else [])]
    for path in dict.fromkeys(settings):
        kept_as = fresh / path.lstrip("/")
        if os.path.lexists(path) and not kept_as.exists():
            kept_as.parent.mkdir(parents=True, exist_ok=True)
            run(["cp", "-a", path, str(kept_as)], check_rc=True)
    for name, *argv in (
        ("ruleset.nft", "nft", "list", "ruleset"),
        ("iptables", "iptables-save"),
        ("ip6tables", "ip6tables-save"),
    ):
        if shutil.which(argv[0]):
            (fresh / name).write_text(run(argv, check_rc=True)[1], encoding="utf-8")
    fresh.rename(place)
    os.sync()
    TAKEN.mkdir(mode=0o755, parents=True, exist_ok=True)
    half = mark(unit).with_suffix(".new")
    half.write_text(f"{place}\n", encoding="utf-8")
    half.rename(mark(unit))
    return str(place)


def stop(run: Runner, unit: str) -> None:
    """Removes a tool and its rules, also after a killed run has done a part of it."""
    {
        "ufw.service": _stop_ufw,
        "firewalld.service": _stop_firewalld,
        "nftables.service": _stop_nftables,
        "netfilter-persistent.service": _stop_netfilter_persistent,
    }[unit](run)
    mark(unit).unlink(missing_ok=True)


def _stop_ufw(run: Runner) -> None:
    """Disables ufw with its own command, so that its upgrades do not start it again."""
    if shutil.which("ufw"):
        rules = _filter_rules(run)
        # First accept everything: `ufw disable` removes its accepting rules before it sets the policy, and may be killed between.
        for program in rules:
            for chain in ("INPUT", "OUTPUT"):
                run([program, "-P", chain, "ACCEPT"], check_rc=True)
        run(["ufw", "disable"], check_rc=True)
        # It also changes the policy for forwarding, which a container engine may need.
        for program, before in rules.items():
            policy = re.search(r"(?m)^-P FORWARD (\w+)$", before)
            if policy and re.search(rf"-[jgN] {OTHERS}", before):
                run([program, "-P", "FORWARD", policy[1]], check_rc=True)
    _retire(run, "ufw.service")


def _stop_firewalld(run: Runner) -> None:
    """Kills firewalld: if it stops normally, it removes rules that a container engine has made through it."""
    run(["systemctl", "kill", "--signal=KILL", "firewalld.service"])
    _retire(run, "firewalld.service")
    run(["systemctl", "reset-failed", "firewalld.service"])
    _delete(run, _firewalld_tables())


def _stop_nftables(run: Runner) -> None:
    _retire(run, "nftables.service")
    _delete(run, declared_tables(nftables_settings()))


def _delete(run: Runner, tables: list[tuple[str, str]]) -> None:
    """All or none."""
    lines = [f"delete table {family} {name}\n" for family, name in _present(run, tables)]
    if lines:
        run(["nft", "--file", "-"], data="".join(lines), check_rc=True)


def _stop_netfilter_persistent(run: Runner) -> None:
    """Its rules stay in the kernel, so they are removed here. Forwarding is not changed: a container engine may need it."""
    _retire(run, "netfilter-persistent.service")
    for program, rules in _filter_rules(run).items():
        run([f"{program}-restore", "--noflush"], data=opened(rules), check_rc=True)


def _filter_rules(run: Runner) -> dict[str, str]:
    """The rules that iptables and ip6tables print; none for the second if the kernel has no IPv6."""
    asked = {name: run([name, "-S"]) for name in ("iptables", "ip6tables") if shutil.which(name)}
    return {name: out for name, (rc, out, _err) in asked.items() if rc == 0}


def opened(rules: str) -> str:
    """Input for iptables-restore: removes filtering of incoming and outgoing packets, except rules of other programs."""
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", "-F INPUT", "-F OUTPUT"]
    lines += [rule for rule in re.findall(r"(?m)^-A (?:INPUT|OUTPUT) .*$", rules) if of_others(rule)]
    return "\n".join([*lines, "COMMIT", ""])


def _retire(run: Runner, unit: str) -> None:
    """Disables a unit and ends it without its ExecStop, which may remove rules of other programs."""
    drop_in = RUNTIME_UNITS / f"{unit}.d/webstack-retire.conf"
    if run(["systemctl", "show", "--property=LoadState", "--value", unit])[1].strip() != "loaded":
        return  # its package was removed meanwhile
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nExecStop=\nExecStopPost=\n", encoding="utf-8")
    run(["systemctl", "daemon-reload"], check_rc=True)
    run(["systemctl", "disable", "--now", unit], check_rc=True)
    drop_in.unlink()
    with contextlib.suppress(OSError):  # it holds another drop-in
        drop_in.parent.rmdir()
    run(["systemctl", "daemon-reload"], check_rc=True)
