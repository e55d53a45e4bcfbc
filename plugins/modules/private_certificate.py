# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the private_certificate action; the work is done in plugins/action/private_certificate.py."""

DOCUMENTATION = r"""
module: private_certificate
short_description: Sign certificates by an authority of one's own
description:
  - Keeps an authority and what it has signed in a folder on the controller, and makes what is not
    there. It signs anew what is for other names, and what has less than 30 of its 365 days left.
  - Nothing of it is on the host but what is put there afterwards.
requirements: ["cryptography 42 or newer, on the controller"]
options:
  folder:
    description: The folder on the controller. C(authority.pem) in it is what clients must trust.
    type: path
    required: true
  names:
    description: The domain names that the certificate is for. The first names its files, below C(signed).
    type: list
    elements: str
    required: true
  addresses:
    description: >-
      The IP addresses that it is for as well. One with addresses is a host's own: it may use it as a client, too.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [action_common_attributes]
attributes:
  check_mode:
    support: full
    details: It signs, and keeps nothing.
  diff_mode:
    support: none
  platform:
    platforms: debian
author: The foobar web stack maintainers (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Install | Sign the certificate
  foobar.webstack.private_certificate:
    folder: /home/me/authority
    names: [shop.example.com]
  register: signed
  no_log: true
"""

RETURN = r"""
chain:
  description: The certificate and the authority's, in PEM.
  type: str
  returned: success
authority:
  description: The authority's certificate, in PEM.
  type: str
  returned: success
key:
  description: The certificate's key, in PEM.
  type: str
  returned: success
"""
