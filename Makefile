# `make demo`, `make check` and `make test` work on a fresh machine: they set up the checkout's own virtual environment.

PYTHON ?= python3
VENV := .venv
INSTALL := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
STAMP := .ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
READY := $(VENV)/$(STAMP)

# Without a process that imports torch, or a training that takes seconds.
QUICK := tests/callbacks tests/schema tests/settings tests/redaction/test_redaction.py tests/redaction/test_secret_text.py \
	tests/test_structure.py tests/test_readme.py

# Checks outside of `make test` (docs/judges.md). The first two have environments of their own.
FRAMEWORKS := .venv-frameworks
FRAMEWORKS_NEED := cloudpickle parameterized pytest-rerunfailures sentencepiece tensorboard
LIGHTNING ?=
TRANSFORMERS ?=
OLDEST := .venv-oldest
OLDEST_TESTS := tests/integrations/test_contract.py tests/integrations/test_imports.py \
	tests/integrations/lightning/test_evaluation.py tests/integrations/huggingface/test_evaluation.py \
	tests/session/test_resume.py tests/sync/test_installed_wandb.py
GPU_PYTHON ?= $(VENV)/bin/python

.PHONY: check demo test lint wheel-test bench docs test-damage test-digest test-browser test-frameworks test-oldest test-gpu clean

demo: $(READY)
	$(VENV)/bin/python examples/demo.py

# Three workers on two cores: tests also wait for other processes and servers. A file stays in one worker, so that the
# trainings its tests share run once.
test: $(READY) lint
	$(VENV)/bin/python -m pytest -n 3 --dist loadfile

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

# The same test as in `make test`, with more folders and a new seed, which it prints.
test-damage: $(READY)
	DAMAGE_SEED=$$(date +%s) DAMAGE_CASES=5000 $(VENV)/bin/python -m pytest -s --timeout 1800 tests/sync/test_damaged_folders.py

# Some forty small trainings, each with a planted fault or healthy: does the digest name the fault?
test-digest: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -v tests/digest/planted_faults.py

# The report's page in the Chromium of this machine; playwright only drives it.
test-browser: $(READY)
	$(VENV)/bin/python $(INSTALL) playwright
	$(VENV)/bin/python -m pytest -v tests/browser/pages.py

test-frameworks: $(FRAMEWORKS)/$(STAMP)
	$(FRAMEWORKS)/bin/python -m pytest -p no:cacheprovider tests/frameworks/trl_trainers.py
	$(FRAMEWORKS)/bin/python tests/frameworks/run.py --lightning "$(LIGHTNING)" --transformers "$(TRANSFORMERS)"

test-oldest: $(OLDEST)/$(STAMP)
	$(OLDEST)/bin/python -m pytest -p no:cacheprovider $(OLDEST_TESTS)

test-gpu: $(if $(filter $(VENV)/%,$(GPU_PYTHON)),$(READY))
	PYTHONPATH=src $(GPU_PYTHON) -m tests.gpu.run

# Installs torch first and under the constraints, so that no other package pulls in a CUDA build.
$(READY):
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(INSTALL) torch
	$(VENV)/bin/python $(INSTALL) --editable ".[dev]"
	@rm -f $(VENV)/.ready-*
	@touch $@

$(FRAMEWORKS)/$(STAMP):
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python $(INSTALL) torch
	$(FRAMEWORKS)/bin/python $(INSTALL) --editable ".[dev]" $(FRAMEWORKS_NEED)
	@rm -f $(FRAMEWORKS)/.ready-*
	@touch $@

# The lower bounds are asked for by name: as constraints alone, pip's resolver gives up on them.
$(OLDEST)/$(STAMP):
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(INSTALL) torch
	$(PYTHON) tests/oldest.py > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python $(INSTALL) --requirement $(OLDEST)/oldest.txt --editable ".[test]"
	@rm -f $(OLDEST)/.ready-*
	@touch $@

clean:
	rm -rf $(VENV) $(FRAMEWORKS) $(OLDEST) demo-runs build *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
