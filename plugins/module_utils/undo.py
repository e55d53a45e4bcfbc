# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a host keeps the undo of a change that nobody has confirmed: action guarded_config and module guarded_undo ask there."""

from __future__ import annotations

UNDO = "/var/lib/webstack/undo"
