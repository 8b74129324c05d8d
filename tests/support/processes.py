"""Starts programs as a user would, in fresh interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Seconds after which a process counts as hanging, even on a busy machine.
HANG_S = 300.0


def clean_env(**more: str) -> dict[str, str]:
    """Returns the environment without the variables of W&B, TrackKit and launchers, and with W&B offline.

    The list of runs stays in the test's folder, not in the home folder.
    """
    dropped = ("WANDB_", "TRACKKIT_", "SLURM_", "TORCHELASTIC_")
    launcher = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped) and key not in launcher}
    env.update(WANDB_MODE="offline", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), TOKENIZERS_PARALLELISM="false")
    env["TRACKKIT_INDEX"] = os.environ.get("TRACKKIT_INDEX", os.devnull)
    env.update(more)
    return env


def run_python(
    script: Path | str, *arguments: str, cwd: Path, timeout: float = HANG_S, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script file, or code given as text, in a fresh interpreter; the caller checks the exit code."""
    target = [str(script)] if isinstance(script, Path) else ["-c", script]
    return subprocess.run(
        [sys.executable, *target, *arguments],
        cwd=cwd,
        env=env or clean_env(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
