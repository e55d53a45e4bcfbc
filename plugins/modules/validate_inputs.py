# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the validate_inputs action; the work is done in plugins/action/validate_inputs.py."""

DOCUMENTATION = r"""
module: validate_inputs
short_description: Refuse a role's inputs that cannot work, all at once, before anything changes
description:
  - Holds the calling role's inputs against its own C(meta/argument_specs.yml) and C(meta/main.yml),
    on the controller.
  - Beyond what Ansible checks itself, it collects every fault before it fails, refuses unknown
    variables that carry the role's prefix and names the nearest known one, refuses unknown nested
    keys in the same way, holds every input marked C(no_log) in the spec to the rules for secrets,
    never prints a secret's value, and refuses hosts that the role does not support.
  - Gathers the facts that the roles use where the play has not.
  - Outside a role it takes O(rules) or O(collected) only.
  - A play that sets the variable C(webstack_collect) gets everything that its tasks refuse in one report. Each of them
    registers its result, which has the faults then, and the last one says O(collected=true).
options:
  collected:
    description: Refuse what earlier tasks of the play have found.
    type: bool
    default: false
  rules_from:
    description:
      - The name of a variable with rules, in the form of O(rules), for what no spec can say. They are worked out,
        one by one, once the spec has found no fault; Ansible works out what an argument holds before that.
      - The variable C(role_inputs) has all inputs of the role then. A rule may also be a template that gives a list of
        faults, as the filters C(<role>_faults) do.
    type: str
  rules:
    description: What to refuse, and how to say it. With it, nothing else is judged.
    type: list
    elements: dict
    suboptions:
      refuse:
        description: Whether the rule is broken.
        type: bool
        required: true
      say:
        description: The variable, what is wrong with it and what is allowed.
        type: str
        required: true
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Validate | Refuse inputs that cannot work
  foobar.webstack.validate_inputs:
    rules_from: __base_rules
  vars:
    __base_rules:
      - refuse: "{{ base_journal_max_days | int < 1 }}"
        say: "base_journal_max_days: must be 1 or more"

- name: Refuse what the play cannot do
  foobar.webstack.validate_inputs:
    rules:
      - refuse: "{{ state is not defined }}"
        say: "state: not set; on or off"
"""

RETURN = r"""# """
