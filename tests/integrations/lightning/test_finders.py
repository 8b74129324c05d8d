"""Trials of learning rates and batch sizes during a training are not recorded."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder

from tests.support.fake_clock import FakeClock
from tests.support.lightning_toys import Group, Logging, batch_rows, data, epoch_rows, mean, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Tried(Logging):
    """Keeps the losses of the training apart from those of a trial, which has no callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 2
        self.trained: list[float] = []
        self.validated: list[list[float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if self._trains():
            self.trained.append(loss.item())
        return loss

    def on_validation_epoch_start(self) -> None:
        if self._trains():
            self.validated.append([])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if self._trains():
            self.validated[-1].append(self.seen["val"][-1])

    def train_dataloader(self) -> Any:
        return data(20, batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return data(2, seed=5)

    def _trains(self) -> bool:
        return any(isinstance(each, (TrackKit, Group)) for each in self.trainer.callbacks)


class FindsRate(LearningRateFinder):
    """Runs before each epoch, as Lightning's documentation shows."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        return

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.lr_find(trainer, pl_module)


class FindsBatchSize(BatchSizeFinder):
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        return

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.scale_batch_size(trainer, pl_module)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ["first", "last", "inside another"])
@pytest.mark.parametrize(
    "finder",
    [lambda: FindsRate(num_training_steps=30), lambda: FindsBatchSize(max_trials=2, steps_per_trial=3)],
    ids=["learning rate", "batch size"],
)
def test_trial_makes_no_rows(isolated: Any, finder: Any, order: str) -> None:
    sink, module = MemorySink(), Tried()
    kit, found = TrackKit(sinks=[sink]), finder()
    callbacks: list[Callback] = [found, kit] if order == "last" else [kit, found]
    if order == "inside another":
        callbacks[0] = Group(kit)
    runner = trainer(callbacks, max_epochs=2, log_every_n_steps=10, num_sanity_val_steps=0)
    runner.fit(module)
    steps = [row["batch/step"] for row in batch_rows(sink)]
    assert steps[0] == 1
    assert steps[-1] == runner.global_step == len(module.trained) == sink.columns["final/steps"]
    assert steps == sorted(set(steps))
    for begin, row in zip([0, *steps], batch_rows(sink), strict=False):
        assert row["batch/loss"] == pytest.approx(mean(module.trained[begin : row["batch/step"]]), rel=1e-5)
        assert row["batch/twice"] == pytest.approx(2 * module.trained[row["batch/step"] - 1], rel=1e-5)
    validations = [row for row in epoch_rows(sink) if "epoch/val/loss" in row]
    assert [row["epoch/val/loss"] for row in validations] == [
        pytest.approx(mean(losses), rel=1e-5) for losses in module.validated
    ]
    assert validations
    assert sink.columns["final/val/loss"] == validations[-1]["epoch/val/loss"]
    assert sink.columns["final/tracker_errors"] == 0


@pytest.mark.filterwarnings("ignore")
def test_step_time_leaves_out_a_trial(isolated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch)

    class Slow(Tried):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            clock.advance(0.01 if self._trains() else 5.0)
            return super().training_step(batch, batch_idx)

    sink = MemorySink()
    callbacks: list[Callback] = [TrackKit(sinks=[sink]), FindsRate(num_training_steps=20)]
    trainer(callbacks, max_epochs=2, log_every_n_steps=10).fit(Slow())
    steps = [step for step, _ in sink.history("batch/loss")]
    assert sink.history("batch/step_time_s") == [(step, pytest.approx(0.01)) for step in steps]
    assert sink.history("batch/data_time_s") == [(step, 0.0) for step in steps]
