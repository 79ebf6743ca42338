# The two commands of the README. Each makes its environment if it is missing and reuses it afterwards.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt
# Processes of the tests, about 3 GB each. On two cores a third one fills the time in which tests of
# TensorFlow wait for processes that they start. jax and torch are slower with three.
test-tensorflow: WORKERS ?= 3
test-jax test-torch test-slow: WORKERS ?= 2
# Files in the order of tests/conftest.py, which has the long ones first.
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Containers often set it. Then each process of the tests compiles the package again, and each worker
# rewrites the assertions of all test files.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-tensorflow test-jax test-torch test-slow lint docs clean

demo: $(VENV)/.installed-demo
	$(BIN)/facemargin demo

test: test-tensorflow test-jax test-torch

test-tensorflow: $(VENV)/.installed-dev
	$(PYTEST)

test-jax test-torch: test-%: $(VENV)/.installed-dev
	KERAS_BACKEND=$* $(PYTEST) -m "any_backend and not slow"

# Many minutes more: every Applications family, full training runs, every setting of every head.
test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow
	KERAS_BACKEND=jax $(PYTEST) -m "any_backend and slow"
	KERAS_BACKEND=torch $(PYTEST) -m "any_backend and slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into site/. A warning is an error.
docs: $(VENV)/.installed-dev
	@# Not --quiet: it hides warnings from --strict too.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))" || \
		{ echo "keras_facemargin needs Python 3.11, 3.12 or 3.13. Received: $$($(PYTHON) --version). Run: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing keras_facemargin into $(VENV) (once, about 1.5 GB) ..."
	$(BIN)/pip install $(PIP_FLAGS) -e '.[cpu]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing keras_facemargin with its test tools into $(VENV) (once, about 3 GB) ..."
	$(BIN)/pip install $(PIP_FLAGS) -e '.[cpu,dev]'
	@touch $(VENV)/.installed-demo $@
