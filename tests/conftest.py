"""Gives every test an empty folder, W&B offline, and nothing from the environment that changes a run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The toys are small and there are several workers: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.wandb_server.fixture import wandb_server

__all__ = ["isolated", "wandb_server"]


# A job in the background ignores Ctrl-C, and so would the programs that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs the test in an empty folder, with W&B offline and without a key; closes the runs it leaves open."""
    for name in tuple(os.environ):
        if name.startswith(("WANDB_", "TRACKKIT_", "SLURM_")) or name in ("CI", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path.with_name(f"{tmp_path.name}-index.jsonl")))
    monkeypatch.setattr("trackkit.notices._said", set())
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    import trackkit

    trackkit.finish()
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
