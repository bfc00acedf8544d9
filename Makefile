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
# It imports the crawler of this folder, whichever one it was installed with.
CDK := cd infra && PYTHONPATH=../src ../$(INFRA)/node_modules/.bin/cdk
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
BUILD := build
ZIP = $(BUILD)/function-$(call setting,package,arm64).zip
# What was synthesised: shown by diff, and deployed as it was shown.
ASSEMBLY = $(abspath $(BUILD))/cdk.out
OUTPUTS = $(abspath $(BUILD))/outputs.json
# By the templates alone: a change set would have to be made in the account only to look at it, makes a stack of a name
# that is new there, and leaves out of the diff what it does not list.
DIFF = $(CDK) diff --no-notices --method=template --app $(ASSEMBLY)
SYNTH = $(CDK) synth --no-notices --quiet --output $(ASSEMBLY) -c zip=$(abspath $(ZIP)) $(settings)
ENV_FILE := .env

.PHONY: help demo test exercise prove simulate engines check bench constraints synth bootstrap diff deploy destroy clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

# Compiled as any other installation is, also where Python is told to write no bytecode: a start takes a third less.
$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "sqspider needs Python 3.11 or later, and there is none here: install one, or say make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' || { echo "installing failed: see above"; exit 1; }
	@$(BIN)/python -m compileall -q src
	@touch $@

demo: $(VENV)/installed ## crawl a small site of our own, and explain it
	@$(BIN)/sqspider demo

# Much of a test is waiting: three processes a processor keep it at work. They share what is compiled, also where Python
# is told to write no bytecode; neighbours share what they set up, and who is done first takes over from the others.
test: engines ## run the tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 6 --dist worksteal

exercise: engines ## play the exercise step by step (docs/exercise.md); it is part of the tests, too
	@$(BIN)/python -m pytest --verbose tests/end_to_end/test_exercise.py tests/end_to_end/test_deployed.py

prove: engines ## run what is long by nature
	@$(BIN)/python -m pytest -m prove

# Each engine for SECONDS (a minute), or for EVENTS callbacks, from SEED on: docs/simulation.md.
simulate: $(VENV)/installed ## play histories of the crawler in virtual time, for SECONDS=60 or EVENTS=1000000 an engine
	@status=0; for engine in memory sqlite aws; do echo "$$engine:"; \
		$(BIN)/python -m tests.simulation $$engine --seed $(or $(SEED),0) \
			$(if $(EVENTS),--events $(EVENTS),--seconds $(or $(SECONDS),60)) || status=1; done; exit $$status

# All that tests run on, installed before the first of them: no test installs, or asks a registry. What cannot be had
# here is said, and the tests that need it are skipped.
engines: $(VENV)/installed
	@for installed in $(INFRA) .engines/wheels-arm64 .engines/wheels-local; do \
		$(MAKE) --silent $$installed/installed || echo "$$installed is not installed: the tests that need it are skipped"; done
	@$(BIN)/python -m tests.aws.install

check: $(VENV)/installed ## style, types, structure, links in the documentation
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tests/check_docs.py

bench: $(VENV)/installed ## measure against Scrapy, Crawlee, wget and wget2 (needs nginx, both wgets and node)
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

# Made with the environment: wheels of kind "local" are for its Python.
$(VENV)/pyvenv.cfg: | $(VENV)/installed ;

.engines/wheels-%/installed: infra/wheels.py infra/function.txt constraints.txt $(VENV)/pyvenv.cfg | $(VENV)/installed
	@$(BIN)/python infra/wheels.py $*

$(BUILD)/function-%.zip: .engines/wheels-%/installed infra/package.py infra/bytecode.py docs/licences.md $(shell find src infra/licences -type f -not -name '*.pyc')
	@$(BIN)/python infra/package.py $* --to $@

synth: $(INFRA)/installed $(ZIP) ## write the CloudFormation template, and check it
	@$(SYNTH)
	@echo "$(BUILD)/cdk.out/$(STACK).template.json"

bootstrap: $(INFRA)/installed $(ZIP) ## prepare an account and region for the CDK, once
	@$(SYNTH)
	@$(CDK) bootstrap --no-notices --app $(ASSEMBLY)

diff: $(INFRA)/installed $(ZIP) ## show what a deployment would change
	@$(SYNTH)
	@$(DIFF)

deploy: $(INFRA)/installed $(ZIP) ## deploy to AWS, or to the engine that AWS_ENDPOINT_URL names; YES=1 does not ask
ifndef YES
	@test -t 0 || { echo "there is nobody to ask here: see make diff, then make deploy YES=1" >&2; exit 1; }
endif
	@$(SYNTH)
ifndef YES
	@$(DIFF)
	@printf 'Deploy this? [y/N] '; read -r answer; \
		case "$$answer" in y|Y|yes) ;; *) echo "nothing was deployed" >&2; exit 1;; esac
endif
	@$(CDK) deploy --no-notices --require-approval never --outputs-file $(OUTPUTS) --app $(ASSEMBLY)
	@$(BIN)/python infra/env_file.py write $(ENV_FILE) $(OUTPUTS) $(STACK)

destroy: $(INFRA)/installed $(ZIP) ## remove what was deployed; YES=1 does not ask
	@$(BIN)/python infra/env_file.py kept $(OUTPUTS) $(STACK)
	@$(SYNTH)
	@$(CDK) destroy --no-notices $(if $(YES),--force) --app $(ASSEMBLY)
	@$(BIN)/python infra/env_file.py clear $(ENV_FILE)

constraints: ## pin what is installed now
	@$(BIN)/python -m pip freeze --exclude-editable | grep -v '@' | sort -f > constraints.txt

clean: ## remove what was installed and made
	rm -rf $(VENV) .engines .mypy_cache .pytest_cache .ruff_cache .hypothesis build
