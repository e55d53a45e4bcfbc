"""Ships releases of one application on this host: webstack-release APP COMMAND.

The role app_server installs it and calls it; an operator may, too. It reads /etc/APP/release.json
and keeps everything else where `layout.Layout` says. Standard library only.

Two uWSGI instances, the slots blue and green, each run one release on a socket of their own. nginx
connects through one link, /run/APP/live.sock. A new release starts in the idle slot, is asked there
until its answers are right, goes live by replacing that link, and is watched; if anything is wrong,
the previous slot is live again. A change runs as one unit, APP-deploy.service, with its state on the
disk: however that unit ends, a verified release serves afterwards.
"""
