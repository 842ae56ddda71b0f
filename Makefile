# Two commands on a fresh machine with python3 (3.11 to 3.13), git and a package index:
#   make repro    the environment in .venv, then the pipeline
#   make test     the same environment, then the tests

PYTHON ?= python3
PORT ?= 5000
JOBS ?= 2
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
export PATH := $(BIN):$(PATH)
# Where it is set, Python compiles torch anew in every process: 11 s to start a training instead of 4.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: repro test lint format ui report docs doctor bench folds requirements clean help
.DEFAULT_GOAL := help

help:            ## this list
	@grep -hE '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 16

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else \
	    f"Landfold needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}; name another: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	    echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "environment: installing the pinned packages into .venv (once; some minutes on a slow line)"
	@command -v uv > /dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	@if command -v uv > /dev/null; then \
	    uv pip install --quiet --python $(BIN)/python -r requirements.txt && \
	    uv pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .; \
	fi
	@touch $@

repro: $(READY)  ## run what changed of the pipeline
	dvc repro

test: $(READY)   ## run the tests
	python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(READY)   ## check style and formatting
	ruff check .
	ruff format --check .

format: $(READY) ## mend style and formatting
	ruff check --fix .
	ruff format .

ui: $(READY)     ## MLflow on 127.0.0.1, PORT=5000
	@python -m landfold.tracking.ui $(PORT)

report: $(READY) ## scores in the terminal, plots as one HTML page in dvc_plots/
	landfold show
	dvc plots show

docs: $(READY)   ## write the scores of metrics/ into README.md and docs/
	python -m tests.fill_docs

doctor: $(READY) ## tell what would go wrong with the pipeline and with experiments
	landfold doctor

bench: $(READY)  ## measure speed as ratios (about ten minutes)
	python -m benchmarks

# Without the first line and --wait-for-lock, folds are lost to DVC's lock of the repository. Threads are shared
# out, since torch would otherwise take all cores for each fold; their number shows in the last digits.
folds: export OMP_NUM_THREADS = $(shell python3 -c 'import os; print(max(1, os.cpu_count() // $(JOBS)))')
folds: $(READY)  ## train folds side by side (several GPUs, many cores), JOBS=2, then the rest
	dvc repro zones
	dvc stage list --name-only | grep -E '^(train|random)@' | xargs -P $(JOBS) -I{} dvc --wait-for-lock repro -s {}
	dvc repro

requirements:    ## compile requirements.in into requirements.txt
	uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-header --no-annotate \
	    requirements.in -o requirements.txt

clean:           ## remove the environment and what tools left; data, models, cache and MLflow stay
	rm -rf .venv dvc_plots .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
