# make help explains every target.
.DEFAULT_GOAL := help
.PHONY: help setup bench test lint format perf clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

NAME ?= shapes
DATA ?=
DEVICE ?= auto
PRESET ?=
ARGS ?=

help:  ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "  make bench DEVICE=cpu NAME=mine ARGS='data.root=DIR seeds=[0,1]'"
	@echo "  make bench DEVICE=cuda PRESET=gpu   sizes and budgets: laptop (as without), gpu, full"
	@echo "  make setup PYTHON=python3.12"

setup: $(STAMP)  ## make .venv and install detzoo into it, editable, with the pinned versions

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo not there)," \
	       "but detzoo needs Python 3.10 or newer: make setup PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,fast,proposals]'
	@touch $@

bench: $(STAMP)  ## train, score, time and report the detectors: NAME= DATA= DEVICE= PRESET= ARGS=
	$(BIN)/detzoo bench name=$(NAME) $(if $(DATA),data=$(DATA)) runtime.device=$(DEVICE) $(if $(PRESET),preset=$(PRESET)) $(ARGS)

test: $(STAMP)  ## the whole test suite, two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 15 $(ARGS)

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## let ruff format the code and mend what it can
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

perf: $(STAMP)  ## every script in benchmarks/, whose ratios say what our own code is worth (20 min)
	@for file in $$(grep -l __main__ benchmarks/*.py); do \
	  echo "== $$file"; start=$$(date +%s); $(BIN)/python $$file || exit 1; \
	  echo "   took $$(( $$(date +%s) - start )) s"; done

clean:  ## remove build products and caches; not .venv, data or runs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
