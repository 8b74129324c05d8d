"""The state in Lightning's checkpoints: where it lies, and which run it names."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateFinder

from tests.support.lightning_toys import Logging, data, trainer
from tests.support.local_log import local_runs
from trackkit import TrackKit, finish


def fit(kit: Any, batches: int = 3, epochs: int = 1, **arguments: Any) -> Any:
    runner = trainer(kit, max_epochs=epochs, log_every_n_steps=1, default_root_dir="out")
    runner.fit(Logging(), data(batches), **arguments)
    return runner


def save(runner: Any, path: str = "saved.ckpt", **arguments: Any) -> dict[str, Any]:
    runner.save_checkpoint(path, **arguments)
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


class Saving(Callback):
    """Saves a checkpoint during a fit."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint("during.ckpt")


def steps() -> list[list[int]]:
    return [[step for step, _ in run.history("batch/loss")] for run in local_runs(Path("out"))]


@pytest.mark.parametrize("saved", ["during.ckpt", "after.ckpt"])
def test_state_lies_with_those_of_other_callbacks_and_resumes_the_run(saved: str) -> None:
    bare = save(fit(None), "bare.ckpt")
    runner = fit([TrackKit(sinks=[]), Saving()])
    save(runner, "after.ckpt")
    finish()
    state = torch.load(saved, weights_only=True)
    assert state.keys() == bare.keys()
    assert state["callbacks"].keys() == {*bare["callbacks"], "TrackKit"}
    ours = state["callbacks"]["TrackKit"]
    assert ours["run_id"] == local_runs(Path("out"))[0].run["run_id"]
    assert (ours["samples"], ours["tokens"]) == (12, 0)
    fit(TrackKit(sinks=[]), epochs=2, ckpt_path=saved)
    assert steps() == [[1, 2, 3, 4, 5, 6]]


def test_key_of_the_state_is_the_same_for_all_settings_and_subclasses() -> None:
    class Mine(TrackKit):
        pass

    assert {kit.state_key for kit in (TrackKit(), TrackKit(names="keep", tags=["a"]), Mine())} == {"TrackKit"}


@pytest.mark.parametrize("kit", [None, TrackKit(mode="disabled")])
def test_checkpoint_without_a_run_has_no_state(kit: Any) -> None:
    assert "TrackKit" not in save(fit(kit))["callbacks"]
    assert "TrackKit" not in save(fit(kit), weights_only=True)


def test_checkpoint_of_an_earlier_trainer_names_no_run_of_another() -> None:
    kit = TrackKit(sinks=[])
    first, second = fit(kit), fit(kit, batches=4)
    assert "TrackKit" not in save(first)["callbacks"]
    assert save(second)["callbacks"]["TrackKit"]["run_id"] == local_runs(Path("out"))[1].run["run_id"]


def test_copy_of_a_trackkit_has_no_state_before_its_own_fit() -> None:
    kit = TrackKit(sinks=[])
    fit(kit)
    assert kit.state_dict()
    assert copy.deepcopy(kit).state_dict() == {}


class Nested(Callback):
    """Calls hooks of a TrackKit, and keeps its state in its own."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit

    def state_dict(self) -> dict[str, Any]:
        return {"kit": self.kit.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kit.load_state_dict(state_dict["kit"])

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.kit.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.kit.on_train_start(trainer, pl_module)

    def on_train_batch_end(self, *args: Any) -> None:
        self.kit.on_train_batch_end(*args)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.kit.on_train_end(trainer, pl_module)


def test_state_inside_that_of_another_callback_resumes_the_run() -> None:
    runner = fit(Nested(TrackKit(sinks=[])))
    runner.save_checkpoint("nested.ckpt")
    finish()
    fit(Nested(TrackKit(sinks=[])), epochs=2, ckpt_path="nested.ckpt")
    assert steps() == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.filterwarnings("ignore")
def test_second_fit_with_a_finder_is_a_new_run_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    module = Logging()
    finder = LearningRateFinder(num_training_steps=5)
    runner = trainer([TrackKit(sinks=[]), finder], log_every_n_steps=1, default_root_dir="out")
    runner.fit(module, data(12))
    first = runner.global_step
    runner.fit_loop.max_epochs = 2
    runner.fit(module, data(12))
    assert steps() == [list(range(1, first + 1)), list(range(first + 1, runner.global_step + 1))]
    assert [each for each in caplog.records if each.name == "trackkit" and each.levelno >= logging.WARNING] == []
