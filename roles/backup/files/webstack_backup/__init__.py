"""Backups of the database of this host: webstack-backup COMMAND.

The role backup installs it and calls it; an operator may, too. It reads /etc/webstack-backup/config.json,
which that role writes. Needs Debian's python3 and python3-pymysql, nothing else.

The binary log goes to a machine of its own as it is written (stream.py here, sink.py there), and a
commit counts as done once both have it. A ledger ties moments to positions in that log.
"""
