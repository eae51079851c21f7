# What a newcomer, a contributor and CI run. `make help` lists the targets.

PYTHON ?= python3
PICTURE ?= examples/signs/pictures/stop.png
OUT ?= out/demo
WORKERS ?= 2

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --no-input --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## Explain an example picture (PICTURE=..., OUT=...)
	$(BIN)/reportgen explain examples/signs/signs.pt2 "$(PICTURE)" -o "$(OUT)"

# A file's tests share one worker: the wheel is built once, and the README is run in its order.
test: check ## Run the checks, then every test (WORKERS=...)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: .venv/installed-dev ## Run the linter, the formatter, the type checker and the import table
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports --no-logo

clean: ## Remove reports, builds and caches
	rm -rf out build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf .venv

# What builds packages comes first, pinned like the rest: without build isolation nothing unpinned is
# fetched. grad-cam and lime are published as sources alone; the setuptools of a new environment is
# too old to make a wheel of them.
.venv/installed: $(BIN)/pip pyproject.toml constraints.txt
	@echo "Installing reportgen into .venv; the first time takes some minutes."
	@$(INSTALL) hatchling editables setuptools
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for development into .venv."
	@$(INSTALL) --no-build-isolation --editable '.[dev,hf,onnx,timm]'
	@touch $@

# pip comes after all that is needed here, so a set-up that was interrupted is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "reportgen needs Python 3.11 or newer, but '$(PYTHON) --version' answers" \
	  "'$$($(PYTHON) --version 2>&1)'; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
