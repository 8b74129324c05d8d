"""A training restarted in its own process: the same run, another attempt, and each step once in W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.doomed import STEPS, TRAIN, Task
from tests.support.huggingface_toys import Sequential, make_trainer
from tests.support.local_log import local_run, local_runs
from tests.support.resuming import CHECKPOINT, FRAMEWORKS, steps
from tests.support.wandb_offline import find_runs, read_finished
from tests.support.warm import last_checkpoint
from trackkit import TrackKit, finish


class Hungry(Sequential):
    """Raises CUDA's out-of-memory error in the twelfth step until the batches are smaller."""

    calls = 0

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        type(self).calls += 1
        if self.calls == 12:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().training_step(*args, **kwargs)


def assert_wandb_has_each_step_once(home: Path, files: int, last: int) -> None:
    """Returns the rows of the files in order, as both syncs send them."""
    found = find_runs(home)
    assert len(found) == files
    rows = [row for path in found for row in read_finished(path).rows]
    places = [row["_step"] for row in rows]
    assert places == sorted(set(places))
    assert [row["batch/step"] for row in rows if "batch/loss" in row] == list(range(1, last + 1))


@pytest.mark.parametrize("setting", ["auto", "never"])
def test_search_for_the_batch_size_makes_a_run_for_each_size(isolated: Path, setting: str) -> None:
    """`auto_find_batch_size`: the failed steps are a run of their own, whatever `resume` says."""
    Hungry.calls = 0
    kit = TrackKit(project="p", resume=setting)
    arguments = {"auto_find_batch_size": True, "per_device_train_batch_size": 8, "samples": 160, "logging_steps": 1}
    trainer = make_trainer(isolated / "out", [kit], kind=Hungry, num_train_epochs=1, **arguments)
    trainer.train()
    finish()
    last = trainer.state.global_step
    assert last > 20
    first, then = local_runs(isolated)
    assert (first.run["status"], first.run["exit_code"], steps(first, 1)) == ("failed", 1, list(range(1, 12)))
    assert (then.run["status"], then.run["exit_code"], steps(then, 1)) == ("finished", 0, list(range(1, last + 1)))
    assert (then.summary["final/steps"], then.summary["final/samples"]) == (last, 160)


@FRAMEWORKS
def test_retried_fits_are_attempts_of_one_run(isolated: Path, framework: str) -> None:
    """Three attempts within seconds: W&B numbers the folders of runs that start in the same second."""
    checkpoint = ""
    for at in (74, 70, -1):
        task = Task(framework, at=at, then="raise ValueError('broken')", resume=checkpoint)
        if at > 0:
            with pytest.raises(ValueError, match="broken"):
                TRAIN[framework](task, [TrackKit(project="p")])
        else:
            TRAIN[framework](task, [TrackKit(project="p")])
        checkpoint = last_checkpoint(isolated)
    finish()
    run = local_run(isolated)
    assert run.run["passes"] == 3
    assert [(steps(run, number)[0], steps(run, number)[-1]) for number in (1, 2, 3)] == [
        (1, 74),
        (CHECKPOINT + 1, 70),
        (CHECKPOINT + 1, STEPS),
    ]
    assert_wandb_has_each_step_once(isolated, 3, STEPS)
