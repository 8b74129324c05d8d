# `make demo`, `make check` and `make test` work on a fresh machine: they set up the checkout's own virtual environment.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

# Without a process that imports torch, or a training that takes seconds.
QUICK := tests/callbacks tests/schema tests/settings tests/redaction/test_redaction.py tests/redaction/test_secret_text.py \
	tests/test_structure.py tests/test_readme.py

.PHONY: check demo test lint wheel-test bench docs clean

demo: $(READY)
	$(VENV)/bin/python examples/demo.py

test: $(READY) lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadgroup

check: $(READY) lint
	$(VENV)/bin/python -m pytest $(QUICK)

wheel-test: $(READY)
	$(VENV)/bin/python .ci/wheel_test.py

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(READY)
	$(VENV)/bin/python benchmarks/overhead.py

docs: $(READY)
	$(VENV)/bin/python -m trackkit.schema.keys > docs/schema.md
	$(VENV)/bin/python -m tests.support.walk

# Installs torch first and under the constraints, so that no other package pulls in a CUDA build.
$(READY):
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@rm -f $(VENV)/.ready-*
	@touch $@

clean:
	rm -rf $(VENV) demo-runs build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
