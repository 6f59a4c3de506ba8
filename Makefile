# `make help` lists the targets. Every target builds the environment it needs by itself.
#
#   make env TENSORFLOW=tensorflow[and-cuda]   another build of TensorFlow (from an empty .venv on)
#   make env PYTHON3=/path/to/python3.12       another Python
#   make test PYTEST_ARGS="-k schedules"       some of the tests

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo lint format test test-all wheel-test clean distclean

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-pyproject
PIP_FLAGS := --quiet --quiet --no-input --disable-pip-version-check --progress-bar off

# The build of TensorFlow: the one .venv already has, else the smaller CPU build where it exists.
TENSORFLOW_CHOICE := $(VENV)/.tensorflow-build
TENSORFLOW_DEFAULT := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),tensorflow-cpu,tensorflow)
TENSORFLOW ?= $(shell cat $(TENSORFLOW_CHOICE) 2>/dev/null || echo $(TENSORFLOW_DEFAULT))

WHEEL_TEST := build/wheel-test

PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
PYTEST := $(PYTHON) -m pytest -n $(PYTEST_WORKERS) --dist worksteal

help:  ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

env: $(STAMP)  ## build .venv with all that demo and tests need (again only if pyproject.toml changed)

$(STAMP): pyproject.toml
	@if [ ! -x $(PYTHON) ]; then \
	  python=$$(PYTHON3="$(PYTHON3)" bash .ci/find-python) && \
	  echo "Making $(VENV) with $$python" && \
	  "$$python" -m venv $(VENV); \
	fi
	@echo "Installing packages into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m pip install $(PIP_FLAGS) "$(TENSORFLOW)" --editable ".[dev]"
	@echo "$(TENSORFLOW)" > $(TENSORFLOW_CHOICE)
	@touch $@

demo: env  ## train and prune a small network, export it, write a report (3 minutes)
	$(PYTHON) examples/demo.py

lint: env  ## style, types, architecture
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

format: env  ## rewrite the code in the project's style
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

test: lint  ## lint and the fast tests
	$(PYTEST) $(PYTEST_ARGS)

test-all: lint wheel-test  ## lint, all tests with the slow ones, and the wheel in an empty environment
	$(PYTEST) -m "" $(PYTEST_ARGS)

wheel-test: env  ## build the wheel, install it into an empty environment, use it there
	rm -rf $(WHEEL_TEST)
	$(PYTHON) -m build --wheel --no-isolation --outdir $(WHEEL_TEST) . > /dev/null
	$(PYTHON) -m venv $(WHEEL_TEST)/venv
	$(WHEEL_TEST)/venv/bin/python -m pip install $(PIP_FLAGS) "$(TENSORFLOW)" $(WHEEL_TEST)/*.whl
	cd $(WHEEL_TEST) && venv/bin/python -I $(CURDIR)/tests/smoke.py

clean:  ## remove caches and build products
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv too
	rm -rf $(VENV)
