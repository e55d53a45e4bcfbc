# Copyright the foobar web stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Folder of a host for undos of unconfirmed changes; the action guarded_config and the module guarded_undo use it."""

from __future__ import annotations

UNDO = "/var/lib/webstack/undo"
