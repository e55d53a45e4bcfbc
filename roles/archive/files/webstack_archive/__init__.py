"""The end of the line of other hosts' binary logs. The modules are those of webstack-backup; basics, events and sink are used."""
