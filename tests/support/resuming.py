"""Ends trainings early, resumes them and sends their runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import TRAIN, Task
from tests.support.local_log import LocalRun
from tests.support.processes import HANG_S
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program, last_checkpoint, run_module, run_sync
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment
from trackkit import TrackKit, finish

CHECKPOINT = 60
FRAMEWORKS = pytest.mark.parametrize("framework", ["lightning", "huggingface"])
HANG = "import time; time.sleep(600)"
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def killed(home: Path, task: Task, env: dict[str, str] | None = None) -> str:
    """Runs a training that ends by SIGKILL; returns its last checkpoint."""
    program = Program(home, task, env)
    assert program.wait() == -signal.SIGKILL, program.stderr
    return last_checkpoint(home)


def resume(home: Path, framework: str, checkpoint: str, env: dict[str, str] | None = None, out: str = "out") -> None:
    """Resumes the training in `home` from `checkpoint` and waits for its end."""
    program = Program(home, Task(framework, resume=checkpoint, out=out), env)
    assert program.wait() == 0, program.stderr
    assert "Tried to log to step" not in program.stderr, program.stderr


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for `condition`; fails after `HANG_S` seconds."""
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def online(server: WandbServer, home: Path) -> dict[str, str]:
    """Returns the environment of a program that records to `server`."""
    found = server.env(home)
    return {**{key: value for key, value in found.items() if key != "WANDB_DIR"}, "WANDB_MODE": "online"}


def send(server: WandbServer, home: Path, tool: str) -> None:
    """Sends the runs below `home` with `wandb sync`, file by file, or with `trackkit sync`."""
    env = {**environment(server, home), "WANDB_MODE": "online"}
    if tool == "wandb":
        ended = [run_module("wandb", "sync", str(path.parent), cwd=home, env=env) for path in find_runs(home)]
    else:
        ended = [run_sync(str(home / "out"), cwd=home, env=env)]
    for done in ended:
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def train(framework: str, settings: dict[str, Any] | None = None, **task: Any) -> None:
    """Trains in this process, to the local log only."""
    try:
        TRAIN[framework](Task(framework, **task), [TrackKit(**{"project": "p", "sinks": [], **(settings or {})})])
    finally:
        finish()


def break_off(framework: str, **settings: Any) -> str:
    """Runs a training that fails at step 74; returns its last checkpoint, of step 60."""
    with pytest.raises(ValueError, match="broken"):
        train(framework, settings, at=74, then="raise ValueError('broken')")
    return last_checkpoint(Path.cwd())


def steps(run: LocalRun, number: int) -> list[int]:
    """Returns the optimizer steps of one attempt."""
    return [row["batch/step"] for row in run.rows if row.get("_pass", 1) == number and "batch/step" in row]
