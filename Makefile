# Two commands on a fresh machine: `make demo` and `make test`. Both set up the checkout's own virtual environment.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: demo test lint bench docs clean

demo: $(READY)
	$(VENV)/bin/python examples/demo.py

test: $(READY) lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(READY)
	$(VENV)/bin/python benchmarks/overhead.py

docs: $(READY)
	$(VENV)/bin/python -m trackkit.schema.keys > docs/schema.md
	$(VENV)/bin/python -m tests.support.walk

# Torch first and from the constraints, so that nothing pulls in a CUDA build after it.
$(READY):
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@rm -f $(VENV)/.ready-*
	@touch $@

clean:
	rm -rf $(VENV) demo-runs build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
