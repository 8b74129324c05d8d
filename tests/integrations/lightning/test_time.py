"""What of the wall time is training: validations and checkpoints are not, wherever they do their work."""

from __future__ import annotations

import time
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

from tests.support.lightning_toys import Logging, Silent, batch_rows, data, record, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

HOOKS = ("on_validation_start", "on_validation_epoch_end", "on_validation_end")


def idle(seconds: float) -> Any:
    """A hook that takes its time."""

    def hook(*_: Any) -> None:
        time.sleep(seconds)

    return hook


class Idle(Callback):
    def __init__(self, hook: str, seconds: float) -> None:
        setattr(self, hook, idle(seconds))


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("whose", ["module", "before", "after"])
def test_all_of_a_validation_is_left_out_of_the_step_time(hook: str, whose: str) -> None:
    sink, module = MemorySink(), Logging()
    callbacks: list[Any] = [TrackKit(sinks=[sink])]
    if whose == "module":
        setattr(module, hook, idle(0.3))
    else:
        callbacks.insert(0 if whose == "before" else 1, Idle(hook, 0.3))
    runner = trainer(callbacks, log_every_n_steps=1, val_check_interval=2, num_sanity_val_steps=0)
    runner.fit(module, data(4), data(1))
    assert len(batch_rows(sink)) == 4
    for row in batch_rows(sink):
        assert 0 < row["batch/step_time_s"] < 0.15


def test_a_validation_that_ends_the_training_is_left_out_of_its_last_row() -> None:
    class Ending(Logging):
        def on_validation_end(self) -> None:
            time.sleep(0.3)
            self.trainer.should_stop = True

    sink = record(Ending(), data(6), data(1), val_check_interval=3, num_sanity_val_steps=0)
    assert [step for step, _ in sink.history("batch/step_time_s")] == [1, 3]
    assert sink.history("batch/step_time_s")[-1][1] < 0.1


class Saves(Callback):
    def __init__(self, hook: str, at: int = 0) -> None:
        def save(runner: Any, *arguments: Any) -> None:
            if not at or runner.fit_loop.epoch_loop.batch_idx == at:
                runner.save_checkpoint("saved.ckpt")

        setattr(self, hook, save)


class Steady(Silent):
    """50 ms a batch, and 200 ms for a checkpoint."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        time.sleep(0.05)
        return super().training_step(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        time.sleep(0.2)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("hook", ["on_fit_start", "on_train_start", "on_train_epoch_start"])
def test_a_checkpoint_before_the_first_batch_takes_nothing_from_it(isolated: Any, hook: str, first: bool) -> None:
    sink = MemorySink()
    callbacks: list[Any] = [TrackKit(sinks=[sink]), Saves(hook)]
    trainer(callbacks if first else callbacks[::-1], log_every_n_steps=1).fit(Steady(), data(3))
    for row in batch_rows(sink):
        assert 0.05 <= row["batch/step_time_s"] < 0.15
        assert row["batch/samples_per_s"] < 4 / 0.05


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_zero_grad", "on_train_batch_end"])
def test_of_a_batch_that_saves_only_the_saving_is_left_out(isolated: Any, hook: str) -> None:
    sink = record(Steady(), data(6), log_every_n_steps=1, callbacks=[Saves(hook, at=3)])
    assert len(batch_rows(sink)) == 6
    for row in batch_rows(sink):
        assert 0.05 <= row["batch/step_time_s"] < 0.15
