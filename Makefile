# SpaceMoE-HIL. Needs Python 3.11 or newer, make, gcc and git; everything else goes into .venv.
#
#   make demo                       a campaign on local nodes, with a report
#   make test                       checks and tests
#   make test TORCH_INDEX=https://download.pytorch.org/whl/cpu    the same with torch's small CPU build
#   make PYTHON=/path/to/python3.12 demo                          another interpreter

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# Empty: the first of PYTHONS that is new enough.
PYTHON ?=
PYTHONS := python3 python3.13 python3.12 python3.11
# Test files that run side by side; most of them wait for processes and paced clocks. Each has one thread to compute
# with: pools of several would spin for cores that another file has.
JOBS ?= 2
# Where else pip may look for torch; empty: only where it always looks.
TORCH_INDEX ?=

# Tests start hundreds of commands, each of which would compile every module anew where the environment says so.
unexport PYTHONDONTWRITEBYTECODE

GROUND := $(VENV)/installed-ground
TEST := $(VENV)/installed-test
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
PACKAGES := hil_config models node_agent ground_controller firmware_tools
# What runs on a board, and therefore on Python 3.10 too (JetPack 6).
BOARD := hil_config/*.py hil_config/wire models/serving node_agent

.PHONY: help demo test check bench soak docs clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(GROUND) ## install the ground half and run the demonstration campaign
	$(BIN)/hil campaign run --demo

test: $(TEST) ## install everything, run the checks, run the tests
	$(MAKE) --no-print-directory check
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# The second mypy run is as a board sees the code. numpy dropped Python 3.10 with 2.3, and the stubs of later
# releases, read as 3.10, turn some results into Any: the two warnings about Any and about ignores that it makes
# idle are therefore off in this run only. The first run has them on for the same files.
check: $(TEST) ## format, lint, types (3.13, and 3.10 for the board half), import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict --python-version 3.13 $(PACKAGES) tests docs $(if $(wildcard benchmarks/*.py),benchmarks)
	$(BIN)/mypy --strict --python-version 3.10 --no-warn-return-any --no-warn-unused-ignores $(BOARD)
	$(BIN)/lint-imports --no-logo

bench: $(TEST) ## run the benchmarks
	$(BIN)/python -m benchmarks

soak: $(TEST) ## run the programmes that take minutes to hours
	$(BIN)/python -m benchmarks.soak

docs: $(TEST) ## write the reference pages that code knows, and the documentation as a site, to site/
	$(BIN)/python docs/generate_reference.py
	$(BIN)/mkdocs build --quiet --strict

clean: ## remove caches and build output; .venv and runs/ stay
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 -r rm -rf

# A stamp per set of extras: pip runs again only after pyproject.toml has changed.
$(GROUND): pyproject.toml | $(BIN)/pip
	@echo "installing spacemoe-hil[ground] into $(VENV) ..."
	$(PIP) --editable '.[ground]'
	@touch $@

$(TEST): pyproject.toml | $(BIN)/pip
	@echo "installing spacemoe-hil[ground,flash,models,dev] into $(VENV) (torch is large) ..."
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[ground,flash,models,dev]'
	@touch $@ $(GROUND)

$(BIN)/pip:
	@set -eu; chosen=''; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',$(PYTHONS)); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    chosen=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$chosen" ]; then \
	  echo "error: no Python 3.11 or newer among: $(or $(PYTHON),$(PYTHONS))" >&2; \
	  echo "hint: install one, or name it: make PYTHON=/path/to/python3.12 demo" >&2; \
	  exit 9; \
	fi; \
	echo "making $(VENV) with $$("$$chosen" --version) ($$chosen)"; \
	"$$chosen" -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "error: $$chosen cannot make a virtual environment" >&2; \
	  echo "hint: on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 9; \
	}
