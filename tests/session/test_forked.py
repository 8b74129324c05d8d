"""Trainings in forked children, which end by `os._exit` without exit handlers: their runs are closed all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.local_log import LocalRun, local_run
from tests.support.wandb_offline import read_finished
from tests.support.warm import run_script

# As a notebook does: the process that starts the children has no group of processes and no run of its own.
NOTEBOOK = """
import sys
from pathlib import Path
from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit

TRAININGS["lightning"](
    Recipe(every=4), Path("out"), [TrackKit(project="p")], strategy=sys.argv[1], devices=int(sys.argv[2])
)
"""

CHILD = """
import multiprocessing, signal, sys
from pathlib import Path
from trackkit import TrackKit

def fit(framework):
    from tests.support.toy import TRAININGS, Recipe
    TRAININGS[framework](Recipe(every=4), Path("out"), [TrackKit(project="p")])

def break_off(framework):
    from tests.support.toy import Net
    forward, steps = Net.forward, []
    def broken(self, features, labels):
        steps.extend([0] * self.training)
        if len(steps) == 6:
            raise RuntimeError("broken")
        return forward(self, features, labels)
    Net.forward = broken
    fit(framework)

if __name__ == "__main__":
    how, framework = sys.argv[1:]
    fork = multiprocessing.get_context("fork")
    if how == "pool":
        # Leaving the block terminates the workers.
        with fork.Pool(1) as pool:
            pool.map(fit, [framework])
        pool.join()
    else:
        process = fork.Process(target=break_off if how == "failure" else fit, args=(framework,))
        process.start()
        process.join()
        assert process.exitcode == (how == "failure")
"""


def assert_closed(folder: Path, status: str = "finished", last: int = 48) -> LocalRun:
    """Asserts that the only run below `folder` has its end and all its rows, in the local log and in W&B's file."""
    run, remote = local_run(folder), read_finished(folder)
    code = int(status == "failed")
    assert (run.run["status"], run.run.get("exit_code"), remote.exit_code) == (status, code, code)
    assert remote.history("batch/loss") == run.history("batch/loss")
    assert remote.summary["final/status"] == status
    assert run.history("batch/step")[-1][0] == last
    return run


@pytest.mark.parametrize(("strategy", "devices"), [("ddp_fork", 1), ("ddp_fork", 2), ("ddp_notebook", 2)])
def test_training_from_a_notebook_closes_its_run(tmp_path: Path, strategy: str, devices: int) -> None:
    done = run_script(NOTEBOOK, strategy, str(devices), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = assert_closed(tmp_path, last=48 // devices)
    assert (run.run["world_size"], run.summary["final/samples"]) == (devices, 48 * 4)


@pytest.mark.parametrize(
    ("how", "framework"), [("process", "huggingface"), ("process", "lightning"), ("pool", "lightning")]
)
def test_training_in_a_child_closes_its_run(tmp_path: Path, how: str, framework: str) -> None:
    done = run_script(CHILD, how, framework, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_closed(tmp_path)


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_failed_training_in_a_child_is_failed(tmp_path: Path, framework: str) -> None:
    done = run_script(CHILD, "failure", framework, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_closed(tmp_path, "failed", last=5)
