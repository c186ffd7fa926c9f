# `make audit` and `make test` each do everything on a fresh machine: virtual environment, installation, run.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: audit test test-slow check docs bench clean

audit: .venv/installed
	$(BIN)/mimia audit

test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict

bench: .venv/installed-dev
	$(BIN)/python -m pytest benchmarks --override-ini python_files='bench_*.py'

clean:
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# torch comes first and at the pinned version: what else is installed then leaves it alone.
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable .
	touch $@

.venv/installed-%: .venv/installed
	$(PIP) --editable '.[$*]'
	touch $@
