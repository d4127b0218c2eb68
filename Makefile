# Everything runs from a clean clone with Python 3.11, pip and make: .venv is made on first use from requirements.lock.

SHELL := /bin/bash
# python3.11 where there is one, else python3; `make PYTHON=...` chooses another.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
BIN := .venv/bin
STAMP := .venv/.stamp
PIP_INSTALL = install --quiet --disable-pip-version-check --no-deps
# How many processes share the tests of `make test`, a file each at a time.
TEST_PROCESSES ?= 2
OUT ?= demo-out

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow endurance lint types layers check format docs benchmark lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## make .venv with the locked versions

$(STAMP): requirements.lock tests/independent/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "hcs-nuclei needs Python 3.11 or newer; found $$($(PYTHON) --version 2>&1) as $(PYTHON)." \
	    "Install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv (a large download the first time; some minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip $(PIP_INSTALL) -r requirements.lock
	@$(BIN)/python -m pip $(PIP_INSTALL) --upgrade --target .venv/cp-measure -r tests/independent/requirements.lock
	@$(BIN)/python -m pip $(PIP_INSTALL) --no-build-isolation --editable .
	@faults=$$($(BIN)/python -m pip check) || { echo "$$faults" >&2; exit 1; }
	@touch $@

demo: $(STAMP) ## simulate a plate, process it, say where the report is
	@$(BIN)/hcs-nuclei demo --out $(OUT)

test: $(STAMP) ## the tests, without the slow ones
	@$(BIN)/python -m pytest -m "not slow and not endurance" --numprocesses $(TEST_PROCESSES) --dist loadfile

# One after another: a test that starts a cluster and a server, and waits for what they do, needs the machine for itself.
test-slow: $(STAMP) ## the tests that take longer than about 20 s each
	@$(BIN)/python -m pytest -m "slow and not endurance"

endurance: $(STAMP) ## the tests that take many minutes each: dead workers, a server that goes away, a retraining
	@$(BIN)/python -m pytest -m endurance tests tests/demonstrations/check_*.py

lint: $(STAMP) ## ruff: faults and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

layers: $(STAMP) ## imports go downwards only
	@$(BIN)/lint-imports --no-logo

check: lint types layers test ## lint, types, layers and test

format: $(STAMP) ## put every file into the format that lint asks for
	@$(BIN)/ruff check --fix --select I .
	@$(BIN)/ruff format .

docs: $(STAMP) ## write the reference pages of columns, settings and run.json from the code
	@$(BIN)/python docs/generate_reference.py

benchmark: $(STAMP) ## speed and memory on this machine; no test depends on it
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

lock: ## resolve pyproject.toml anew into requirements.lock, in a throw-away environment
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder" build' EXIT && set -e; \
	$(PYTHON) -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check '.[dev]'; \
	"$$folder/venv/bin/python" -m pip check; \
	"$$folder/venv/bin/python" -m pip freeze --all --exclude pip --exclude hcs-nuclei > "$$folder/lock"; \
	mv "$$folder/lock" requirements.lock; \
	wc -l requirements.lock

clean: ## remove .venv, caches and what demo made
	rm -rf .venv build dist ./*.egg-info demo-out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find hcs_nuclei flows tests -name __pycache__ -type d -prune -exec rm -rf {} +
