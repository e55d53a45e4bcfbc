# The verbs. Each prints the real command that it runs; `make help` lists them.
# ENV is a folder under inventories/.
ENV ?= demo
REF ?=
RELEASE ?=
ROLE ?=
STATE ?=
SECRET ?=
DEMO_PORT ?= 8080
DEMO_HTTPS_PORT ?= 8443

PATH := $(CURDIR)/.venv/bin:$(PATH)
export PATH
# Containers are named after the checkout, so that two checkouts do not share one.
export WEBSTACK_ID := $(shell printf %s '$(CURDIR)' | sha1sum | cut -c1-8)
DEMO := foobar-demo-$(shell printf %s '$(CURDIR)/inventories/demo' | sha1sum | cut -c1-8)
export MOLECULE_GLOB := molecule/*/molecule.yml

# What is handed on from here must be a word to the shell, too: a name that git takes may be more.
export REF RELEASE STATE SECRET
plain = case "$$$(1)" in *[!0-9A-Za-z_./+-]*) echo '$(1): may have letters, digits and _ . / + - in it; nothing was done' >&2; exit 2;; esac

.DEFAULT_GOAL := help
.PHONY: help toolchain inventory lock demo demo-destroy site check deploy rollback maintenance verify status secrets rotate test test-fast test-role lint unit docs bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

toolchain: ## the pinned Python tools, in .venv
	@tools/toolchain

lock: toolchain ## pin the toolchain anew (requirements.in → requirements.txt)
	test -x .cache/uv/bin/uv || { python3 -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv; }
	.cache/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.txt requirements.in

demo: toolchain ## the whole site in one container on this machine
	@tools/engine
	@tools/demo-repository
	tools/container up $(DEMO) trixie --publish 127.0.0.1:$(DEMO_PORT):80 --publish 127.0.0.1:$(DEMO_HTTPS_PORT):$(DEMO_HTTPS_PORT) || \
	  { echo 'demo: if another program has a port: make demo DEMO_PORT=8081 DEMO_HTTPS_PORT=8444'; exit 1; }
	ansible-playbook --inventory inventories/demo site.yml
	@tools/demo-proof $(DEMO)

demo-destroy: ## remove the demo's container, its secrets and its repository
	tools/container down $(DEMO)
	rm -rf .cache/demo-secrets .cache/foobar.git

inventory:
	@[ -d 'inventories/$(ENV)' ] || { echo 'ENV: there is no folder inventories/$(ENV); nothing was done. There are:' $$(ls inventories) >&2; exit 2; }

site: inventory toolchain ## converge an inventory: make site ENV=production
	ansible-playbook --inventory inventories/$(ENV) site.yml

check: inventory toolchain ## what a converge would change, without changing it
	ansible-playbook --inventory inventories/$(ENV) site.yml --check --diff

verify: inventory toolchain ## the nine steps of the request's way
	ansible-playbook --inventory inventories/$(ENV) verify.yml

deploy: inventory toolchain ## ship a branch, tag or commit: make deploy ENV=production REF=v1.2
	@$(call plain,REF)
	ansible-playbook --inventory inventories/$(ENV) deploy.yml $(if $(REF),--extra-vars ref=$(REF))

rollback: inventory toolchain ## back to the last verified release, or to RELEASE=
	@$(call plain,RELEASE)
	ansible-playbook --inventory inventories/$(ENV) rollback.yml $(if $(RELEASE),--extra-vars release=$(RELEASE))

maintenance: inventory toolchain ## close the site to visitors, or open it: make maintenance ENV=production STATE=on
	@$(call plain,STATE)
	ansible-playbook --inventory inventories/$(ENV) maintenance.yml --extra-vars state=$(STATE)

status: inventory toolchain ## what is live: slot, release, commit, certificate; maintenance
	ansible-playbook --inventory inventories/$(ENV) status.yml

secrets: inventory toolchain ## the vault of an inventory; SECRET=vault_…: a fresh value of one that it holds
	@$(call plain,SECRET)
	tools/make-vault inventories/$(ENV) $(SECRET)

rotate: inventory toolchain ## new secrets of the vault, while the site serves: make rotate ENV=production
	ansible-playbook --inventory inventories/$(ENV) rotate.yml

test: lint unit ## all tests: lint, unit, every scenario, acceptance
	@tools/engine
	tools/scenarios
	tools/acceptance

test-fast: lint unit ## lint and unit tests, no containers

test-role: toolchain ## one scenario: make test-role ROLE=nginx
	@tools/engine
	molecule test --scenario-name $(ROLE)

lint: toolchain
	yamllint --strict .
	ansible-lint
	ruff check .
	ruff format --check .

unit: toolchain
	pytest tests/unit
	cd examples/foobar && pytest

docs: toolchain ## the roles' READMEs, from their specs
	tools/role-docs

bench: toolchain ## the figures, beside their floor, as a table and a picture
	@tools/engine
	tools/bench

clean: ## remove all that was made here, with the images that no container needs
	@if docker info >/dev/null 2>&1; then \
	  tools/container down $(DEMO) && docker image prune --all --force --filter label=project=foobar-webstack; \
	else echo 'clean: no container engine answers, so what it holds stays' >&2; fi
	rm -rf .venv .ansible .cache build
