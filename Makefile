# Every target that needs packages first installs them into .venv, once.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PYTEST = $(RUN) -m pytest --numprocesses=auto --dist=worksteal

.PHONY: help setup demo test check lint format doctor hooks lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install the locked packages into .venv (other targets do so when needed)

demo: setup ## train on generated scenes for a few minutes, draw images; run again to continue
	$(RUN) demo.py --outdir runs/demo

test: setup ## run the tests, without the slow ones
	$(PYTEST) -m "not slow"

check: lint ## everything that CI runs: lint, all tests
	$(PYTEST)

lint: setup ## check lint, format and types; change nothing
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: setup ## fix and format the sources
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

doctor: setup ## print versions, devices, which implementation each operation uses, and what is missing
	$(RUN) -m torch_utils.doctor

hooks: setup ## lint before each commit, run the tests before each push
	$(RUN) -m pre_commit install

lock: ## resolve pyproject.toml into requirements.lock again (needs uv)
	{ grep '^#' requirements.lock; \
	  uv pip compile pyproject.toml --universal --python-version 3.10 --extra dev --no-annotate --no-header --quiet \
	  | grep -Ev '^(cuda|nvidia)'; } > requirements.new
	mv requirements.new requirements.lock

clean: ## remove .venv and caches; runs stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo 'error: $(PYTHON) is not Python 3.10 or newer; fix: make PYTHON=/path/to/python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'error: $(PYTHON) cannot make virtual environments; fix: sudo apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# --no-compile: what is used is compiled on first use, the rest of torch never; that saves 20 s.
	$(RUN) -m pip install --disable-pip-version-check --no-compile --only-binary=:all: --requirement requirements.lock
	touch $@
