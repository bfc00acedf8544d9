# Everything that people and CI run. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check bench constraints clean

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
	@$(BIN)/python -m pytest

check: $(VENV)/installed ## style, types, structure, links in the documentation
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tests/check_docs.py

bench: $(VENV)/installed ## measure against Scrapy, Crawlee and wget (needs nginx and wget)
	@$(BIN)/python -m bench.run

constraints: ## pin what is installed now
	@$(BIN)/python -m pip freeze --exclude-editable | grep -v '@' | sort -f > constraints.txt

clean: ## remove what was installed and made
	rm -rf $(VENV) .engines .mypy_cache .pytest_cache .ruff_cache .hypothesis build
