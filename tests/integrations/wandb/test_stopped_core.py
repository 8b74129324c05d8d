"""wandb-core stops responding while a training runs: the training, and the program, end without it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.doomed import Task
from tests.support.local_log import local_run
from tests.support.resuming import online
from tests.support.warm import Program, run_sync
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment

pytestmark = pytest.mark.timeout(180)

FINISH_S = 2.0
STEPS = 25
STOP = """
import os, signal, time
from pathlib import Path
def stop(times=[]):
    for path in Path("/proc").glob("[0-9]*/stat"):
        name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        if name.startswith("wandb-core") and int(rest.split()[1]) == os.getpid():
            os.kill(int(path.parent.name), signal.SIGSTOP)
            open("stopped", "a").write(path.parent.name + " ")
stop()
"""
AFTER = """
import trackkit
trackkit.finish()
"""
AGAIN = """
from tests.support.doomed import TRAIN, Task
from trackkit import TrackKit
TRAIN["{0}"](Task("{0}", steps=5, out="out2"), [TrackKit(project="p", finish_timeout=20.0)])
"""


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_program_ends_and_the_run_can_be_synced(
    wandb_server: WandbServer, tmp_path: Path, framework: str, mode: str
) -> None:
    kit = {"finish_timeout": FINISH_S, "mode": mode}
    task = Task(framework, kit, at=20, then=STOP, after=AFTER, steps=STEPS, pause=0.05)
    program = Program(tmp_path, task, online(wandb_server, tmp_path) if mode == "online" else None)
    try:
        assert program.wait() == 0, program.stderr
        local = local_run(tmp_path)
        assert (local.run["status"], local.run["exit_code"], local.summary["final/steps"]) == ("finished", 0, STEPS)
        assert "wandb-core did not respond within 2 s. Upload what is missing with `trackkit sync" in program.stderr
        assert "Traceback" not in program.stderr
        release(tmp_path)
        send(wandb_server, tmp_path)
        run = wandb_server.state.run(local.run["run_id"])
        assert [row["batch/step"] for row in run.history if "batch/loss" in row] == list(range(1, STEPS + 1))
    finally:
        release(tmp_path)


def test_next_training_of_the_program_is_recorded(tmp_path: Path) -> None:
    """It starts a new wandb-core."""
    kit = {"finish_timeout": FINISH_S}
    after = AGAIN.format("huggingface")
    program = Program(tmp_path, Task("huggingface", kit, at=20, then=STOP, after=after, steps=STEPS))
    try:
        assert program.wait() == 0, program.stderr
        run = local_run(tmp_path / "out2")
        assert (run.run["status"], run.summary["final/tracker_errors"]) == ("finished", 0)
        assert len(list((tmp_path / "out2").glob("_trackkit/wandb/offline-run-*"))) == 1
    finally:
        release(tmp_path)


def send(server: WandbServer, home: Path) -> None:
    env = {**environment(server, home), "WANDB_MODE": "online"}
    deadline = time.monotonic() + 60
    while True:
        done = run_sync(str(home / "out"), cwd=home, env=env)
        if done.returncode == 0 and "complete" in done.stdout:
            return
        assert time.monotonic() < deadline, f"{done.stdout}\n{done.stderr}"


def release(home: Path) -> None:
    """Kills the stopped processes."""
    for pid in (home / "stopped").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
