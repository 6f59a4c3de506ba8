# `make help` lists the targets. Every target builds the environment it needs by itself.
#
#   make env TENSORFLOW=tensorflow[and-cuda]   another build of TensorFlow (from an empty .venv on)
#   make env PYTHON3=/path/to/python3.12       another Python
#   make test PYTEST_ARGS="-k schedules"       some of the tests

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo docs docs-serve lint format test test-all test-jax test-torch test-tfmot \
  test-hub test-backends test-versions test-lowest test-python wheel-test clean distclean

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.made-from-pyproject
PIP_FLAGS := --quiet --quiet --no-input --disable-pip-version-check --progress-bar off

# The build of TensorFlow: the one .venv already has, else the smaller CPU build where it exists.
TENSORFLOW_CHOICE := $(VENV)/.tensorflow-build
TENSORFLOW_DEFAULT := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),tensorflow-cpu,tensorflow)
TENSORFLOW ?= $(shell cat $(TENSORFLOW_CHOICE) 2>/dev/null || echo $(TENSORFLOW_DEFAULT))

# Environments of the other backends, of tfmot and of keras-hub. PyTorch's version is fixed so that
# pip takes its CPU build where one is at hand (`PIP_FIND_LINKS`, or PyTorch's own index in
# `PIP_EXTRA_INDEX_URL`). The ordinary build of several GB also does.
JAX ?= jax
TORCH ?= torch==2.13.0
# The networks of benchmarks/hub_networks.py are those of this version. It asks for `tensorflow`, not `tensorflow-cpu`.
KERAS_HUB ?= keras-hub==0.32.*
BACKEND_STAMP := .made-from-pyproject

# Tests of exported files, examples, pictures and packages are TensorFlow's, or not of the core.
CORE_TESTS := $(filter-out %/cli/ %/examples/ %/exporting/ %/models/ %/reporting/ %/distribution/ %/tfmot/,$(wildcard tests/*/)) \
  $(filter-out tests/test_packaging.py tests/test_docs.py tests/test_site.py \
  tests/test_trained_networks.py,$(wildcard tests/test_*.py))

# JAX compiles every operation for every shape; what it compiled is kept from one run to the next.
JAX_SETTINGS := JAX_DISABLE_MOST_OPTIMIZATIONS=1 JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.venv-jax/cache \
  JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

KERAS_VERSIONS ?= 3.12 3.13 3.14 3.15
VERSION_TESTS := tests/keras_state tests/test_versions.py tests/training/test_callback.py \
  tests/training/test_step_events.py tests/surgery

# The lowest versions that pyproject.toml claims: what touches other people's packages.
LOWEST_TESTS := tests/keras_state tests/surgery tests/storage tests/test_extras.py tests/models \
  tests/test_formatting.py tests/reporting/test_plots.py tests/cli/test_commands.py tests/exporting/test_exporter.py \
  tests/training/test_callback.py
LOWEST_TENSORFLOW := $(TENSORFLOW_DEFAULT)$(shell sed -nE 's/^tensorflow = \["tensorflow(>=[0-9.]+)"\]/\1/p' pyproject.toml)

# Another Python than that of .venv, with TensorFlow in the build that .venv has.
OTHER_PYTHON := $(notdir $(or $(PYTHON3),python3))

WHEEL_TEST := build/wheel-test

PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
SLOWEST := 30
LINT_ASIDE = $(MAKE) --no-print-directory lint
PYTEST_OPTIONS := -m pytest -n $(PYTEST_WORKERS) --dist worksteal
PYTEST := $(PYTHON) $(PYTEST_OPTIONS)

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

demo: env  ## train and prune a small network, export it, write a report (under 3 minutes)
	$(PYTHON) examples/demo.py

# Strict: a broken link, a page that no menu has, or a wrong docstring ends it. Nothing is fetched.
docs: env  ## build the site of docs/ into build/site (open build/site/index.html)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	@echo "build/site/index.html; searching it needs a server: make docs-serve"

docs-serve: env  ## show the site on http://127.0.0.1:8000, built again whenever a page changes
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve

lint: env  ## style, types, architecture
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/bin/lint-imports

format: env  ## rewrite the code in the project's style
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# Linting does not wait for the tests, nor they for it; what it says is shown after what they say.
test: env  ## lint and the fast tests, side by side
	@mkdir -p build; \
	$(LINT_ASIDE) > build/lint.log 2>&1 & lint=$$!; \
	trap 'kill $$lint 2> /dev/null || true' EXIT; \
	tested=passed; $(PYTEST) --durations=$(SLOWEST) $(PYTEST_ARGS) || tested=FAILED; \
	linted=passed; wait $$lint || linted=FAILED; \
	echo; echo "---- make lint"; cat build/lint.log; \
	echo; echo "tests $$tested, lint $$linted"; \
	test "$$tested $$linted" = "passed passed"

test-all: lint wheel-test  ## lint, all tests, the wheel in an empty environment, all backends
	$(PYTEST) -m "" --durations=$(SLOWEST) $(PYTEST_ARGS)
	$(MAKE) test-jax test-torch test-tfmot test-hub test-backends

test-jax: .venv-jax/$(BACKEND_STAMP)  ## the core's tests on JAX, without TensorFlow
	KERAS_BACKEND=jax $(JAX_SETTINGS) .venv-jax/bin/python $(PYTEST_OPTIONS) -rs $(CORE_TESTS) $(PYTEST_ARGS)
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest -m "" tests/distribution

test-torch: .venv-torch/$(BACKEND_STAMP)  ## the core's tests on PyTorch, without TensorFlow
	KERAS_BACKEND=torch .venv-torch/bin/python $(PYTEST_OPTIONS) -rs $(CORE_TESTS) $(PYTEST_ARGS)
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest -m "" tests/distribution

test-tfmot: .venv-tfmot/$(BACKEND_STAMP)  ## tensorflow-model-optimization after pruning, beside tf_keras
	.venv-tfmot/bin/python $(PYTEST_OPTIONS) -m "" -rs tests/tfmot \
	  "tests/test_docs.py::test_the_code_of_the_page_runs[tfmot]" \
	  tests/test_docs.py::test_the_code_of_the_readme_on_tfmot_runs $(PYTEST_ARGS)

test-hub: .venv-hub/$(BACKEND_STAMP)  ## backbones of keras-hub, with random weights
	.venv-hub/bin/python $(PYTEST_OPTIONS) -m "" -rs tests/test_keras_hub.py \
	  tests/test_docs.py::test_the_code_of_the_readme_on_keras_hub_runs $(PYTEST_ARGS)

.venv-jax/$(BACKEND_STAMP): BACKEND := $(JAX)
.venv-torch/$(BACKEND_STAMP): BACKEND := $(TORCH)
.venv-tfmot/$(BACKEND_STAMP): BACKEND := tensorflow
.venv-tfmot/$(BACKEND_STAMP): EXTRAS := test,tfmot
.venv-hub/$(BACKEND_STAMP): BACKEND := $(KERAS_HUB)
.venv-%/$(BACKEND_STAMP): EXTRAS ?= test
.venv-%/$(BACKEND_STAMP): pyproject.toml
	@python=$$(PYTHON3="$(PYTHON3)" bash .ci/find-python) && "$$python" -m venv .venv-$*
	@echo "Installing packages into .venv-$*"
	@.venv-$*/bin/python -m pip install $(PIP_FLAGS) "$(BACKEND)" --editable ".[$(EXTRAS)]"
	@touch $@

test-backends: env .venv-jax/$(BACKEND_STAMP) .venv-torch/$(BACKEND_STAMP)  ## the same scores and plans on three backends
	rm -rf build/backends
	KERAS_BACKEND=tensorflow $(PYTHON) tests/backend_scores.py build/backends
	KERAS_BACKEND=jax $(JAX_SETTINGS) .venv-jax/bin/python tests/backend_scores.py build/backends
	KERAS_BACKEND=torch .venv-torch/bin/python tests/backend_scores.py build/backends
	KERAS_GCP_BACKENDS=build/backends $(PYTHON) -m pytest tests/test_backends_agree.py
	$(PYTHON) -m pytest -m slow tests/exporting/test_other_backends.py

test-versions: env $(KERAS_VERSIONS:%=build/keras-%/.made)  ## what touches private Keras state, on several versions of Keras
	rm -rf build/versions
	mkdir -p build/versions
	for version in $(KERAS_VERSIONS); do \
	  PYTHONPATH=build/keras-$$version $(PYTEST) --junitxml=build/versions/$$version.xml \
	    $(VERSION_TESTS) $(PYTEST_ARGS) || true; \
	done
	$(PYTHON) tests/versions_table.py docs/versions.md $(KERAS_VERSIONS:%=build/versions/%.xml)

# Another Keras in front of the one in .venv: TensorFlow need not be installed once more for each.
build/keras-%/.made: | env
	rm -rf build/keras-$*
	$(PYTHON) -m pip install $(PIP_FLAGS) --no-deps --target build/keras-$* "keras==$*.*"
	touch $@

test-lowest: .venv-lowest/$(BACKEND_STAMP)  ## some of the tests with the lowest versions that are claimed
	.venv-lowest/bin/python $(PYTEST_OPTIONS) $(wildcard $(LOWEST_TESTS)) $(PYTEST_ARGS)

# pip always takes the newest; uv can take the lowest of what is required here (not of what that requires).
.venv-lowest/$(BACKEND_STAMP): pyproject.toml
	@python=$$(PYTHON3="$(PYTHON3)" bash .ci/find-python) && "$$python" -m venv --clear .venv-lowest
	@echo "Installing the lowest versions into .venv-lowest"
	@.venv-lowest/bin/python -m pip install $(PIP_FLAGS) uv
	@.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct \
	  "$(LOWEST_TENSORFLOW)" --editable ".[cli,examples,onnx,test]"
	@touch $@

test-python: .venv-$(OTHER_PYTHON)/$(BACKEND_STAMP)  ## the fast tests on another Python: PYTHON3=python3.13
	.venv-$(OTHER_PYTHON)/bin/python $(PYTEST_OPTIONS) $(PYTEST_ARGS)

.venv-python%/$(BACKEND_STAMP): BACKEND := $(TENSORFLOW)
.venv-python%/$(BACKEND_STAMP): EXTRAS := cli,examples,onnx,test

wheel-test: env  ## build the wheel, install it into an empty environment, use it there
	rm -rf $(WHEEL_TEST)
	$(PYTHON) -m build --wheel --no-isolation --outdir $(WHEEL_TEST) . > /dev/null
	$(PYTHON) -m venv $(WHEEL_TEST)/venv
	$(WHEEL_TEST)/venv/bin/python -m pip install $(PIP_FLAGS) "$(TENSORFLOW)" $(WHEEL_TEST)/*.whl
	cd $(WHEEL_TEST) && venv/bin/python -I $(CURDIR)/tests/smoke.py

clean:  ## remove caches and build products
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove all environments
	rm -rf $(VENV) .venv-*
