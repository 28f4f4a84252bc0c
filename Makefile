# `make demo` and `make test` each do everything from a fresh clone: they create .venv and install the pinned set.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

export OMP_NUM_THREADS ?= 1
# Modules are compiled when they are first imported, not all at installation; keep what was compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint ui clean

demo: $(INSTALLED)
	$(BIN)/o2o run demo
	@echo "Look at the run in the MLflow UI: make ui"

test: lint
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check system tests
	$(BIN)/mypy

ui: $(INSTALLED)
	@echo "Open http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/runs/mlflow.db --host 127.0.0.1 --port 5000 --workers 1

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	    { echo "Python 3.11 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); try: make PYTHON=python3.11"; exit 1; }
	@echo "Installing the pinned packages into $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --no-compile \
	    --constraint constraints.txt --editable '.[dev]'
	@touch $@
