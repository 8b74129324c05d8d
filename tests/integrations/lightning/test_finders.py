"""A trial in mid-training, of learning rates or of batch sizes, is none of the training."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder

from tests.support.lightning_toys import Logging, batch_rows, data, epoch_rows, mean, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Tried(Logging):
    """Keeps the losses of the training apart from those of a trial, which runs without the trainer's callbacks."""

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
        return any(isinstance(each, TrackKit) for each in self.trainer.callbacks)


class FindsRate(LearningRateFinder):
    """As its own documentation shows: before given epochs."""

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
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "finder",
    [lambda: FindsRate(num_training_steps=30), lambda: FindsBatchSize(max_trials=2, steps_per_trial=3)],
    ids=["learning rate", "batch size"],
)
def test_only_the_training_makes_rows(isolated: Any, finder: Any, first: bool) -> None:
    sink, module = MemorySink(), Tried()
    kit, found = TrackKit(sinks=[sink]), finder()
    callbacks: list[Callback] = [kit, found] if first else [found, kit]
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
def test_the_time_of_a_trial_is_no_training(isolated: Any) -> None:
    import time

    class Slow(Tried):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if not self._trains():
                time.sleep(0.03)
            return super().training_step(batch, batch_idx)

    sink = MemorySink()
    callbacks: list[Callback] = [TrackKit(sinks=[sink]), FindsRate(num_training_steps=20)]
    trainer(callbacks, max_epochs=2, log_every_n_steps=10).fit(Slow())
    for _, seconds in sink.history("batch/step_time_s"):
        assert seconds < 0.03
    for _, seconds in sink.history("batch/data_time_s"):
        assert seconds < 0.03
