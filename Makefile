# The verbs. Each prints the real command that it runs; `make help` lists them.
# ENV is a folder under inventories/; SITE, one of its sites, is needed where it has several.
ENV ?= demo
DEMO_PORT ?= 8080
DEMO_HTTPS_PORT ?= 8443

# What a command line says reaches tools/words and the recipes as it was typed: a $ in it stands for no variable of make.
$(foreach word,ENV SITE ADDRESS LOGIN KNOWN DOMAIN REPOSITORY ENTRY REF RELEASE ROLE STATE REBOOT SECRET COMMAND TO INTO CONFIRM ONLY FROM DEMO_PORT DEMO_HTTPS_PORT HOSTS HOST,$(if $(filter-out undefined,$(origin $(word))),$(if $(filter command,$(firstword $(origin $(word)))),$(eval GIVEN += $(word)))$(eval override export $(word) := $$(value $(word)))))
export WEBSTACK_GIVEN := $(GIVEN) $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
export WEBSTACK_GOALS := $(MAKECMDGOALS)

PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
# Containers are named after the checkout, so that two checkouts do not share one.
export WEBSTACK_ID := $(shell printf %s '$(CURDIR)' | sha1sum | cut -c1-8)
DEMO := foobar-demo-$(shell printf %s '$(CURDIR)/inventories/demo' | sha1sum | cut -c1-8)
export MOLECULE_GLOB := molecule/*/molecule.yml

# --ask-vault-pass where an inventory is encrypted and nobody has said how its password is found: tools/vault
ask = $(shell tools/vault inventories/$(ENV) $(1))

# The site that is meant, where an inventory has several.
of_site = $(if $(SITE),--extra-vars site=$(SITE))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help words engine toolchain lock demo demo-kill demo-heal demo-destroy new site check deploy rollback maintenance run verify status secrets rekey rotate remove backup drill backup-sheet restore rebuild grow recover patch test test-all test-fast test-role lint sanity unit docs bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

words:
	@tools/words $$WEBSTACK_GOALS

engine:
	@tools/engine

toolchain: ## the pinned Python tools, in .venv
	@tools/toolchain

lock: toolchain ## pin the toolchain anew (requirements.in → requirements.txt)
	test -x .cache/uv/bin/uv || { python3 -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv; }
	.cache/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.txt requirements.in

demo: words engine toolchain ## the whole site in one container on this machine; HOSTS=3: on three, any of which may die
	@tools/demo-repository
ifdef HOSTS
	tools/demo-hosts up
	ansible-playbook --inventory inventories/demo3 playbooks/grow.yml
	@tools/demo-hosts proof
else
	tools/container up $(DEMO) trixie --publish 127.0.0.1:$(DEMO_PORT):80 --publish 127.0.0.1:$(DEMO_HTTPS_PORT):$(DEMO_HTTPS_PORT) || \
	  { echo 'demo: if another program has a port: make demo DEMO_PORT=8081 DEMO_HTTPS_PORT=8444'; exit 1; }
	ansible-playbook --inventory inventories/demo site.yml
	@tools/demo-proof $(DEMO)
endif

demo-kill: words toolchain ## end one of three hosts without a word, while visitors come: make demo-kill HOST=2
	@tools/demo-hosts kill $(HOST)

demo-heal: words toolchain ## start it again: make demo-heal HOST=2
	@tools/demo-hosts heal $(HOST)

demo-destroy: ## remove the demo's containers, its secrets and its repository
	tools/container down $(DEMO)
	tools/demo-hosts down
	rm -rf .cache/demo-secrets .cache/foobar.git

new: words toolchain ## the inventory of a server of your own: make new ENV=mine, which asks, or ADDRESS= LOGIN= DOMAIN= REPOSITORY=
	@tools/new-inventory $(ENV)

site: words toolchain ## converge an inventory: make site ENV=production
	ansible-playbook --inventory inventories/$(ENV) site.yml $(call ask,secrets)

check: words toolchain ## what a converge would change, without changing it
	ansible-playbook --inventory inventories/$(ENV) site.yml --check --diff $(call ask,secrets)

verify: words toolchain ## the nine steps of the request's way
	ansible-playbook --inventory inventories/$(ENV) playbooks/verify.yml $(strip $(of_site) $(call ask,))

deploy: words toolchain ## ship a branch, tag or commit: make deploy ENV=production REF=v1.2
	ansible-playbook --inventory inventories/$(ENV) playbooks/deploy.yml $(strip $(of_site) $(if $(REF),--extra-vars ref=$(REF)) $(call ask,))

rollback: words toolchain ## back to the last verified release, or to RELEASE=
	ansible-playbook --inventory inventories/$(ENV) playbooks/rollback.yml $(strip $(of_site) $(if $(RELEASE),--extra-vars release=$(RELEASE)) $(call ask,))

maintenance: words toolchain ## close the site to visitors, or open it: make maintenance ENV=production STATE=on
	ansible-playbook --inventory inventories/$(ENV) playbooks/maintenance.yml $(strip $(of_site) --extra-vars state=$(STATE) $(call ask,))

run: words toolchain ## a command of the application, with its settings: make run ENV=production COMMAND='python manage.py createsuperuser'
	tools/run inventories/$(ENV) "$$COMMAND" $(SITE)

status: words toolchain ## what is live of each site, certificate, maintenance; fails where something needs a person
	ansible-playbook --inventory inventories/$(ENV) playbooks/status.yml $(strip $(of_site) $(call ask,))

secrets: words toolchain ## the vault of an inventory; SECRET=vault_…: a fresh value of one that it holds
	tools/make-vault inventories/$(ENV) $(SECRET)

rekey: words toolchain ## another password for the vault of an inventory
	tools/make-vault inventories/$(ENV) --rekey

remove: words toolchain ## what is left of a site that is absent, into a folder on the host, then away: make remove ENV=production SITE=shop
	ansible-playbook --inventory inventories/$(ENV) playbooks/remove.yml $(strip $(of_site) $(call ask,))

backup: words toolchain ## a full backup of the database now: make backup ENV=production
	ansible-playbook --inventory inventories/$(ENV) playbooks/backup.yml $(call ask,)

drill: words toolchain ## a restore as a proof, which changes nothing that is live: make drill ENV=production
	ansible-playbook --inventory inventories/$(ENV) playbooks/drill.yml $(call ask,)

backup-sheet: words toolchain ## what is where of the backups, and how to restore them without this project: to print
	ansible-playbook --inventory inventories/$(ENV) playbooks/backup-sheet.yml $(call ask,)

restore: words toolchain ## the database as it was, beside the live one: make restore ENV=production TO='2026-11-23 10:15:00Z'; SITE=shop: one site's database and files; ONLY=shop.orders: a dump of that; INTO=live CONFIRM=host: in its place
	ansible-playbook --inventory inventories/$(ENV) playbooks/restore.yml $(strip $(if $(TO),--extra-vars "to='$(TO)'") $(if $(ONLY),--extra-vars only=$(ONLY)) $(of_site) $(if $(INTO),--extra-vars into=$(INTO)) $(if $(CONFIRM),--extra-vars confirm=$(CONFIRM)) $(call ask,secrets))

rebuild: words toolchain ## a lost server on a new bare machine, from what its target has: make rebuild ENV=production FROM=backup
	ansible-playbook --inventory inventories/$(ENV) playbooks/rebuild.yml $(strip --extra-vars from=$(FROM) $(if $(TO),--extra-vars "to='$(TO)'") $(call ask,secrets))

grow: words toolchain ## several hosts become the cluster of their sites, with the data of the first database server: make grow ENV=production
	ansible-playbook --inventory inventories/$(ENV) playbooks/grow.yml $(call ask,secrets)

recover: words toolchain ## start a cluster again after all its nodes are down, from the newest data: make recover ENV=production
	ansible-playbook --inventory inventories/$(ENV) playbooks/recover.yml $(call ask,)

patch: words toolchain ## new versions of all packages, one host after the other; REBOOT=true: and a reboot where one is needed
	ansible-playbook --inventory inventories/$(ENV) playbooks/patch.yml $(strip $(if $(REBOOT),--extra-vars reboot=$(REBOOT)) $(call ask,))

rotate: words toolchain ## new secrets of the vault, while the site serves: make rotate ENV=production
	ansible-playbook --inventory inventories/$(ENV) playbooks/rotate.yml $(strip $(of_site) $(call ask,secrets))

test: engine test-fast ## what each change must pass: lint, unit, scenarios (a test on one of its hosts, in turn), acceptance
	tools/scenarios
	tools/acceptance

test-all: engine test-fast ## all tests, on every host (more than 90 minutes on two cores)
	THOROUGH=true tools/scenarios
	tools/acceptance

# Side by side; what lint says stands behind the tests.
test-fast: toolchain ## lint and unit tests, no containers
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; $(MAKE) lint --no-print-directory >"$$log" 2>&1 & lint=$$!; \
	  $(MAKE) unit --no-print-directory; unit=$$?; wait $$lint; lint=$$?; cat "$$log"; exit $$((unit | lint))

test-role: words engine toolchain ## one scenario, all its tests on every host of it: make test-role ROLE=nginx
	THOROUGH=true molecule test --scenario-name $(ROLE)

lint: toolchain
	yamllint --strict .
	tools/ansible-lint
	ruff check .
	ruff format --check .

sanity: toolchain ## ansible-test, galaxy-importer and antsibull-docs, installed into .cache (some minutes, network)
	tools/sanity

unit: toolchain
	pytest --numprocesses auto --dist loadfile tests/unit
	cd examples/foobar && pytest

docs: toolchain ## the roles' READMEs, from their specs
	tools/role-docs

bench: engine toolchain ## the figures, beside their floor, as a table and a picture
	tools/bench

clean: ## remove all that was made here, with the images that no container needs
	@if docker info >/dev/null 2>&1; then \
	  tools/container down $(DEMO) && tools/demo-hosts down && docker image prune --all --force --filter label=project=foobar-webstack; \
	else echo 'clean: no container engine answers, so what it holds stays' >&2; fi
	rm -rf .venv .ansible .cache build
