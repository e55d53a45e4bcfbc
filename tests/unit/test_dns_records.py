"""The module that changes records and asks them back, on a host that does not have what it asks with.

What it says to real servers, and they to it, is the scenario's (molecule/dns).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from ansible.module_utils.testing import patch_module_args
from loading import load

SECRET = "bm90IHNlY3JldCwgYnV0IDMyIGJ5dGVzIGxvbmcuLi4="
RRSETS = [{"name": "www.example.com.", "type": "A", "ttl": 60, "values": ["192.0.2.1"]}]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    module = load("plugins/modules/dns_records.py")
    monkeypatch.setattr(module, "dns", None)

    def answer(*, check_mode: bool = False, **params: Any) -> dict[str, Any]:
        arguments = {"zone": "example.com.", "rrsets": RRSETS, "servers": ["192.0.2.53"], **params}
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return answer


def test_a_dry_run_of_a_bare_host_counts_every_record(run):
    result = run(check_mode=True, key_name="web", key_secret=SECRET)
    assert (result["changed"], result["changes"]) == (True, ["www.example.com. A"])


def test_a_dry_run_without_a_key_has_nothing_to_change(run):
    assert run(check_mode=True)["changed"] is False


def test_a_missing_library_is_named(run):
    result = run()
    assert result["failed"]
    assert "python3-dnspython" in result["msg"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_the_secret_is_not_in_the_outcome(run, check_mode):
    assert SECRET not in str(run(check_mode=check_mode, key_name="web", key_secret=SECRET))


def test_a_key_has_a_name_and_a_secret(run):
    assert "key_secret" in run(key_name="web")["msg"]


def test_what_another_host_puts_there_meanwhile_is_not_taken_for_a_wildcards_answer():
    """Two hosts publish one record at a primary at once: the wildcard answers the first question, the record the next."""
    module = load("plugins/modules/dns_records.py")
    name = module.dns.name.from_text("a.wild.example.com.")
    wildcards, declared = (
        module.dns.rrset.from_text(name, 60, "IN", "A", address) for address in ("192.0.2.10", "192.0.2.1")
    )

    class Primary:
        answers: ClassVar = [wildcards, declared]

        def ask(self, name: Any, kind: Any) -> Any:
            answer = module.dns.message.make_response(module.dns.message.make_query(name, kind))
            answer.answer.append(self.answers.pop(0))
            return module.dns.message.from_wire(answer.to_wire())

        def update(self, _question: Any, _key: Any) -> bool:
            return False  # the name stands: that it does not, is not so

    plan = module.Plan(Primary(), module.dns.name.from_text("example.com."), None)
    plan.make([declared], replace=False)
    assert plan.refused == [] and plan.changes == []
