"""Every test starts in an empty folder, offline, with no settings of its surroundings."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The toys are small and the workers several: torch's own threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.wandb_server.fixture import wandb_server

__all__ = ["isolated", "wandb_server"]


# A job started in the background ignores Ctrl-C, and so would the programs that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, W&B offline without a key; whatever run a test leaves open is closed."""
    for name in tuple(os.environ):
        if name.startswith(("WANDB_", "TRACKKIT_", "SLURM_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("TRACKKIT_INDEX", str(tmp_path.with_name(f"{tmp_path.name}-index.jsonl")))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    import trackkit

    trackkit.finish()
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()
