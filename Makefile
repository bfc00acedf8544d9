# Everything that people and CI run. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The CDK: Node's command line and the Python library, pinned, in a folder of their own.
INFRA := .engines/infra
CDK := cd infra && ../$(INFRA)/node_modules/.bin/cdk
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 18,20,22
export JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION := 25,26,27,28
export CDK_DISABLE_CLI_TELEMETRY := true
# Settings of a deployment: make deploy SET="memory_mb=256 alarm_email=me@example.com" (infra/settings.py).
# An engine on this machine runs functions on this machine's processor and Python, whatever the stack says.
LOCAL := $(if $(filter http://127.0.0.1:% http://localhost:%,$(AWS_ENDPOINT_URL)),package=local allow_private=true)
ALL = $(LOCAL) $(SET)
settings = $(foreach setting,$(ALL),-c $(setting))
setting = $(or $(patsubst $(1)=%,%,$(lastword $(filter $(1)=%,$(ALL)))),$(2))
STACK = $(call setting,stack,sqspider)
ZIP = build/function-$(call setting,package,arm64).zip
ENV_FILE := .env
CONFIRMED = $(if $(YES),--force)

.PHONY: help demo test check bench constraints synth bootstrap diff deploy destroy clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "sqspider needs Python 3.11 or later, and there is none here: install one, or say make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' || { echo "installing failed: see above"; exit 1; }
	@touch $@

demo: $(VENV)/installed ## crawl a small site of our own, and explain it
	@$(BIN)/sqspider demo

test: $(VENV)/installed ## run the tests
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadgroup

check: $(VENV)/installed ## style, types, structure, links in the documentation
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tests/check_docs.py

bench: $(VENV)/installed ## measure against Scrapy, Crawlee and wget (needs nginx and wget)
	@$(BIN)/python -m bench.run

$(INFRA)/installed: pyproject.toml constraints.txt infra/requirements.txt infra/constraints.txt infra/package.json
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "the CDK needs Node 20 or later with npm: install it first"; exit 1; }
	@test -x $(INFRA)/venv/bin/python || $(PYTHON) -m venv $(INFRA)/venv
	@echo "installing the CDK into $(INFRA) (630 MB, a minute or two) ..."
	@$(INFRA)/venv/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	@$(INFRA)/venv/bin/python -m pip install --quiet --constraint infra/constraints.txt --requirement infra/requirements.txt
	@cp infra/package.json $(INFRA)/
	@npm install --prefix $(INFRA) --no-package-lock --no-audit --no-fund --loglevel error
	@touch $@

build/function-%.zip: $(INFRA)/installed infra/package.py infra/function.txt constraints.txt $(shell find src -name '*.py')
	@$(INFRA)/venv/bin/python infra/package.py $*

synth: $(INFRA)/installed $(ZIP) ## write the CloudFormation template, and check it
	@$(CDK) synth --no-notices --quiet $(settings) && echo "build/cdk.out/$(STACK).template.json"

bootstrap: $(INFRA)/installed $(ZIP) ## prepare an account and region for the CDK, once
	@$(CDK) bootstrap --no-notices $(settings)

diff: $(INFRA)/installed $(ZIP) ## show what a deployment would change
	@$(CDK) diff --no-notices $(settings)

deploy: $(INFRA)/installed $(ZIP) ## deploy to AWS, or to the engine that AWS_ENDPOINT_URL names
	@$(CDK) deploy --no-notices --require-approval never --outputs-file ../build/outputs.json $(settings)
	@$(INFRA)/venv/bin/python infra/env_file.py write $(ENV_FILE) build/outputs.json $(STACK)

destroy: $(INFRA)/installed $(ZIP) ## remove what was deployed; YES=1 does not ask
	@$(CDK) destroy --no-notices $(CONFIRMED) $(settings)
	@$(INFRA)/venv/bin/python infra/env_file.py clear $(ENV_FILE)

constraints: ## pin what is installed now
	@$(BIN)/python -m pip freeze --exclude-editable | grep -v '@' | sort -f > constraints.txt

clean: ## remove what was installed and made
	rm -rf $(VENV) .engines .mypy_cache .pytest_cache .ruff_cache .hypothesis build
