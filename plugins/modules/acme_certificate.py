#!/usr/bin/python
# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have something to serve before there is a certificate, and order one where that is asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acme_certificate
short_description: Keep a certificate that an ACME authority signs
description:
  - A web server that shall answer an authority's challenge must run before there is a certificate.
    So this module first makes one that signs itself, where there is no certificate with its key yet, at
    the place from which the web server reads. With O(order) it has the authority sign one, by certbot, and puts
    links to it in that place.
  - Before the authority is asked, every name must lead to this host. An authority that refuses, or
    does not answer, leaves what was served before in its place.
  - Who orders agrees to the authority's terms of service.
  - certbot's own timer renews what certbot has ordered, until O(state=absent) ends that, because the
    certificate now comes from elsewhere. What the authority has signed stays in C(/etc/letsencrypt), and
    an order later takes it up again.
requirements: ["python3-dnspython, with O(order)"]
options:
  state:
    description: Whether this certificate is one that an ACME authority signs.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The folder below C(/etc/ssl) that holds C(fullchain.pem) and C(key.pem).
    type: str
    required: true
  names:
    description: The domain names; needed where O(state=present).
    type: list
    elements: str
    default: []
  order:
    description: Whether to order.
    type: bool
    default: false
  directory:
    description: The authority's directory.
    type: str
  email:
    description:
      - Where the authority writes to about the account; empty for none. It is told when this differs
        from what the account was last given from here.
    type: str
    default: ""
  root:
    description: The folder whose C(.well-known/acme-challenge/) the web server shows.
    type: path
  addresses:
    description: Addresses under which this host is reached, besides its own.
    type: list
    elements: str
    default: []
  reload:
    description: Units that take a new certificate by a reload.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: partial
    details: The authority is not asked, so what it would refuse is not known.
  diff_mode:
    support: none
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Order | Have the authority sign the certificate
  foobar.webstack.acme_certificate:
    name: shop
    names: [shop.example.com]
    order: true
    directory: https://acme-v02.api.letsencrypt.org/directory
    root: /var/lib/webstack/challenges
    reload: [nginx.service]
"""

RETURN = r"""
said:
  description: certbot's words.
  type: str
  returned: when it ordered, or told the authority another address
"""

import contextlib
import os
import re
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.foobar.webstack.plugins.module_utils import names
from ansible_collections.foobar.webstack.plugins.module_utils.atomic import link_atomically, write_atomically

PLACES = Path("/etc/ssl")
CERTBOT = Path("/etc/letsencrypt")
PLACEHOLDER_DAYS = 30
NEAR_END = 86400  # seconds; certbot's timer should have renewed long before
CERTBOT_SECONDS = 300
# The first that exists lists this host's name servers. systemd-resolved's own stub also answers from /etc/hosts, hence
# the file with the servers behind it goes first.
RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


class Certificate:
    """One certificate: the files that the web server reads, and certbot's."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.params = module, module.params
        self.place = PLACES / self.params["name"]
        self.chain, self.key = self.place / "fullchain.pem", self.place / "key.pem"
        self.kept = CERTBOT / "live" / self.params["name"]

    def exists(self) -> bool:
        return self.match(self.chain, self.key)

    def match(self, chain: Path, key: Path) -> bool:
        """Whether both files exist and belong together: an interrupted run may have replaced only one of them."""
        if not (chain.exists() and key.exists()):
            return False
        openssl = self.module.get_bin_path("openssl")
        if openssl is None:
            return True  # check mode on a host without openssl yet
        questions = (
            ["x509", "-in", str(chain), "-noout", "-pubkey"],
            ["pkey", "-in", str(key), "-pubout", "-passin", "pass:"],
        )
        answers = [self.module.run_command([openssl, *question]) for question in questions]
        return all(rc == 0 for rc, _out, _err in answers) and answers[0][1] == answers[1][1]

    def mend(self) -> None:
        """Puts a certificate in place: the authority's, where certbot has one, else a self-signed one."""
        if self.match(self.kept / "fullchain.pem", self.kept / "privkey.pem"):
            self.link()
        else:
            self.make_placeholder()

    def link(self) -> None:
        self.place.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path, name in ((self.chain, "fullchain.pem"), (self.key, "privkey.pem")):
            link_atomically(path, self.kept / name)

    def make_placeholder(self) -> None:
        self.place.mkdir(mode=0o755, parents=True, exist_ok=True)
        names = ",".join(f"DNS:{name}" for name in self.params["names"])
        fresh = [path.with_name(f".{path.name}.new") for path in (self.key, self.chain)]
        for path in (*fresh, self.key, self.chain):
            path.unlink(missing_ok=True)  # left by an interrupted run, or broken links
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        argv += ["-days", str(PLACEHOLDER_DAYS), "-subj", "/CN=placeholder", "-addext", f"subjectAltName={names}"]
        self.module.run_command([*argv, "-keyout", str(fresh[0]), "-out", str(fresh[1])], check_rc=True, umask=0o077)
        fresh[1].chmod(0o644)
        fresh[0].replace(self.key)
        fresh[1].replace(self.chain)

    def current(self) -> bool:
        """Whether the served certificate is from this authority, for exactly these names, and still valid."""
        if not self.linked() or self.authority() != self.params["directory"]:
            return False
        argv = ["openssl", "x509", "-in", str(self.chain), "-noout"]
        if self.module.run_command([*argv, "-checkend", str(NEAR_END)])[0] != 0:
            return False
        _rc, out, _err = self.module.run_command([*argv, "-ext", "subjectAltName"])
        return set(re.findall(r"DNS:([^,\s]+)", out)) == set(self.params["names"])

    def linked(self) -> bool:
        return all(
            path.is_symlink() and os.readlink(path) == str(self.kept / name) and path.exists()
            for path, name in ((self.chain, "fullchain.pem"), (self.key, "privkey.pem"))
        )

    def authority(self) -> str:
        """The authority's directory URL in certbot's renewal settings; empty where there are none."""
        return self.renewal_setting("server")

    def renewal_setting(self, setting: str) -> str:
        """A setting of this certificate in certbot's renewal file; empty where it is not set."""
        try:
            text = (CERTBOT / "renewal" / f"{self.params['name']}.conf").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        found = re.search(rf"^{setting} = (\S+)$", text, re.MULTILINE)
        return found[1] if found else ""

    def renew(self, wanted: bool) -> None:
        """Turns certbot's automatic renewal of this certificate on or off."""
        path = CERTBOT / "renewal" / f"{self.params['name']}.conf"
        if not path.exists() or wanted == (self.renewal_setting("autorenew") != "False"):
            return
        text = re.sub(r"^autorenew = .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if not wanted:
            text = text.replace("[renewalparams]\n", "[renewalparams]\nautorenew = False\n", 1)
        write_atomically(path, text, stat.S_IMODE(path.stat().st_mode))

    def hook(self) -> Path:
        """The script that certbot runs after a renewal. It exists as long as the role has certbot renew this certificate."""
        return CERTBOT / "renewal-hooks/deploy" / self.params["name"]

    def accounts(self) -> Path:
        """certbot's folder of the accounts at this authority, one folder each."""
        directory = urlsplit(self.params["directory"])
        return CERTBOT / "accounts" / f"{directory.netloc}{directory.path}"

    def email_note(self) -> Path:
        """The file that records the account's email address: neither certbot nor the authority can be asked for it."""
        return self.accounts() / self.renewal_setting("account") / "webstack_email"

    def email_is_current(self) -> bool:
        note = self.email_note()
        return note.exists() and note.read_text(encoding="utf-8") == self.params["email"]

    def names_elsewhere(self) -> list[str]:
        """Names that do not resolve to this host, each with its addresses."""
        _rc, out, _err = self.module.run_command(["hostname", "--all-ip-addresses"])
        own = {*out.split(), *self.params["addresses"]}
        found = []
        for name in self.params["names"]:
            try:
                found_here = {str(info[4][0]) for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)}
            except OSError as error:
                found.append(f"{name} is not in the DNS ({error})")
                continue
            leads = {address for address in found_here if not address.startswith("127.") and address != "::1"}
            # /etc/hosts often has the host's own name with a loopback address; the DNS may have another.
            if not leads and (known := addresses_in_dns(name)) is not None:
                leads = known
                if not known:
                    found.append(f"{name} is not in the DNS, but for this host's own /etc/hosts")
            if not leads <= own:
                found.append(f"{name} leads to {', '.join(sorted(leads - own))}; this host is {', '.join(sorted(own))}")
        return found

    def order(self) -> str:
        root = Path(self.params["root"])
        for folder in (root, root / ".well-known", root / ".well-known/acme-challenge"):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.chmod(0o755)
        # After a change of authority, a certificate that is still valid must be ordered anew.
        self.renew(True)
        moved = self.authority() not in ("", self.params["directory"])
        known = {path.name for path in self.accounts().glob("*")}
        said = self.certbot(
            f"has signed nothing for {', '.join(self.params['names'])}; what was served before is served still",
            "certonly", "--agree-tos", "--cert-name", self.params["name"], "--renew-with-new-domains",
            "--webroot", "--webroot-path", str(root), "--force-renewal" if moved else "--keep-until-expiring",
            *(f"--domain={name}" for name in self.params["names"]),
        )  # fmt: skip
        if self.renewal_setting("account") not in known:
            self.email_note().write_text(self.params["email"], encoding="utf-8")
        self.link()
        for unit in self.params["reload"]:
            self.module.run_command(["systemctl", "reload", unit], check_rc=True)
        return said

    def update_email(self) -> str:
        said = self.certbot(
            "does not take certificate_acme_email; certificates are renewed still",
            "update_account", "--no-eff-email", "--account", self.renewal_setting("account"),
        )  # fmt: skip
        self.email_note().write_text(self.params["email"], encoding="utf-8")
        return said

    def certbot(self, failure: str, verb: str, *options: str) -> str:
        """certbot's output; where certbot fails, the module fails with `failure` and that output."""
        directory, email = self.params["directory"], self.params["email"]
        contact = f"--email={email}" if email else "--register-unsafely-without-email"
        argv = ["certbot", verb, "--non-interactive", "--server", directory, contact, *options]
        rc, out, err = self.module.run_command(["timeout", str(CERTBOT_SECONDS), *argv])
        if rc != 0:
            words = (err.strip() or out.strip())[-3000:]
            self.module.fail_json(msg=f"The authority {directory} {failure}. certbot says:\n{words}")
        return out.strip()


def addresses_in_dns(name: str) -> set[str] | None:
    """A name's addresses in the DNS; None where no name server answers, or only with a loopback address of its hosts file."""
    text = next((path.read_text(encoding="utf-8") for path in RESOLVERS if path.exists()), "")
    for server in re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE):
        with contextlib.suppress(OSError):
            found = names.addresses(server, name, 4) | names.addresses(server, name, 6)
            others = {str(address) for address in found if not address.is_loopback}
            return others if others or not found else None
    return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "name": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "order": {"type": "bool", "default": False},
            "directory": {"type": "str"},
            "email": {"type": "str", "default": ""},
            "root": {"type": "path"},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "reload": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "present", ("names",)), ("order", True, ("directory", "root"))],
        supports_check_mode=True,
    )
    os.umask(0o022)  # the web server's user must be able to read the challenges
    certificate = Certificate(module)
    if module.params["state"] == "absent":
        stands = certificate.hook().exists()
        if stands and not module.check_mode:
            certificate.renew(False)
            certificate.hook().unlink()  # last: a later run repeats an interrupted removal as long as it exists
        module.exit_json(changed=stands)
    if not module.params["order"]:
        missing = not certificate.exists()
        if missing and not module.check_mode:
            certificate.mend()
        module.exit_json(changed=missing)
    current = certificate.current()
    if current and certificate.email_is_current():
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)  # the DNS is not checked: this very run may be about to publish the names
    if names.dns is None:
        module.fail_json(msg="python3-dnspython is missing on this host.")
    strays = [] if current else certificate.names_elsewhere()
    if strays:
        module.fail_json(
            msg="The authority was not asked, since it would look elsewhere; what was served before is served still.\n  - "
            + "\n  - ".join(strays)
            + "\nMend the DNS; or, where other addresses lead here, name them in certificate_addresses."
        )
    said = [] if current else [certificate.order()]
    if not certificate.email_is_current():
        said.append(certificate.update_email())
    module.exit_json(changed=True, said="\n".join(said))


if __name__ == "__main__":
    main()
