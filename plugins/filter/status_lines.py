# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What status.yml says of the sites of a host: one of them in full, several as a table; and what needs a person."""

from __future__ import annotations

import datetime
import json
import ssl
from typing import Any

SEE_BELOW = "← see below"
HEADINGS = ("site", "release", "version", "slot", "certificate", "maintenance", "")


def status_lines(
    sites: list[str],
    releases: list[dict[str, Any]],
    certificates: list[dict[str, Any]],
    maintenance: list[dict[str, Any]],
    backups: dict[str, Any],
) -> dict[str, list[str]]:
    """`said`, what is live of the sites and backed up of their host, and `wrong`, what needs a person.

    The lists are the results of the tasks that ask, each with the site's name as `item`; `backups` is one such result.
    """
    sites_told, backups_told = _of_sites(sites, releases, certificates, maintenance), of_backups(backups)
    return {key: sites_told[key] + backups_told[key] for key in ("said", "wrong")}


def of_backups(asked: dict[str, Any]) -> dict[str, list[str]]:
    if asked.get("skipped"):
        return {"said": [], "wrong": []}
    try:
        told = json.loads(asked.get("stdout", ""))
    except ValueError:
        why = str(asked.get("stderr") or asked.get("msg")).strip()
        fault = f"backups: they cannot be asked for: {why}; a converge of the host (make site) mends its tools"
        return {"said": [], "wrong": [fault]}
    return {
        "said": [f"backups: {line}" for line in told["overview"]],
        "wrong": [f"backups: {line}" for line in told["wrong"]],
    }


def _of_sites(
    sites: list[str],
    releases: list[dict[str, Any]],
    certificates: list[dict[str, Any]],
    maintenance: list[dict[str, Any]],
) -> dict[str, list[str]]:
    results = ({result["item"]: result for result in asked} for asked in (releases, certificates, maintenance))
    by_release, by_certificate, by_maintenance = results
    wrong, rows = [], []
    for site in sites:
        release, certificate = by_release.get(site), by_certificate.get(site)
        faults = faults_of(release, certificate)
        wrong += [f"{site}: {fault}" for fault in faults]
        closed = by_maintenance[site]["stat"]
        if len(sites) == 1:
            return {"said": _in_full(site, release, certificate, closed), "wrong": wrong}
        rows.append(
            (
                site,
                *release_of(release),
                valid_until(certificate),
                closed_since(closed),
                SEE_BELOW if faults else "",
            )
        )
    return {"said": table(HEADINGS, rows), "wrong": wrong}


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (headings, *rows))
    return [line.rstrip() for line in lines]


def faults_of(release: dict[str, Any] | None, certificate: dict[str, Any] | None) -> list[str]:
    faults = []
    if release is not None:
        faults += (
            release["answer"].get("wrong", [])
            if "answer" in release
            else [f"its release cannot be asked: {str(release['msg']).strip()}"]
        )
    if certificate is not None and certificate["rc"] == 1:
        faults.append("its certificate ends within a week, has ended, or is not there")
    return faults


def _in_full(
    site: str, release: dict[str, Any] | None, certificate: dict[str, Any] | None, closed: dict[str, Any]
) -> list[str]:
    if release is None:
        lines = [f"{site}: a site without an application"]
    elif "answer" in release:
        # In a dry run, a host without the tool has none.
        lines = list(release["answer"].get("overview", [f"{site}: nothing is live"]))
    else:
        lines = [f"{site}: its release cannot be asked"]
    words = "none, HTTP alone" if certificate is None else ", ".join(certificate["stdout_lines"][:2]) or "none"
    return [*lines, f"certificate: {words}", f"maintenance: {closed_since(closed)}"]


def release_of(release: dict[str, Any] | None) -> tuple[str, str, str]:
    """Of a site in the table: its release, of which version, and in which slot."""
    if release is None:
        return "no application", "", ""
    if "answer" not in release:
        return "cannot be asked", "", ""
    answer = release["answer"]
    return answer["release"] or "nothing is live", answer.get("version") or "", answer["slot"] or ""


def valid_until(certificate: dict[str, Any] | None) -> str:
    """The last day of a certificate, as `openssl x509 -enddate` tells it: notAfter=Nov 28 15:19:00 2027 GMT"""
    if certificate is None:
        return "HTTP alone"
    for line in certificate["stdout_lines"]:
        if line.startswith("notAfter="):
            # Not by strptime's %b, which is a month in the language of the controller.
            last = ssl.cert_time_to_seconds(line.removeprefix("notAfter="))
            return f"until {datetime.datetime.fromtimestamp(last, datetime.UTC):%Y-%m-%d}"
    return "none"


def closed_since(closed: dict[str, Any]) -> str:
    if not closed["exists"]:
        return "off"
    return f"on since {datetime.datetime.fromtimestamp(closed['mtime'], datetime.UTC):%Y-%m-%d %H:%M} UTC"


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"status_lines": status_lines}
