"""The last step makes a row: with its norm and learning rate if the end was predictable, without them if not."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tests.support.lightning_toys import BATCH_SIZE, FEATURES, Silent, batch_rows, data, grad_norm, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Measured(Silent):
    """Keeps gradient norm and learning rate of every step in `steps`, in order."""

    def __init__(self, scheduled: bool = False) -> None:
        super().__init__()
        self.scheduled = scheduled
        self.steps: list[tuple[float, float]] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        if not self.scheduled:
            return optimizer
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        super().backward(loss, *args, **kwargs)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.steps.append((grad_norm(self.parameters()), rate))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_worse", float(self.global_step))


def last_row(
    module: Any, loader: Any = None, val: Any = None, before: Any = (), after: Any = (), **arguments: Any
) -> Any:
    """Returns the last batch row of a fit with TrackKit between other callbacks."""
    sink = MemorySink()
    runner = trainer([*before, TrackKit(sinks=[sink]), *after], num_sanity_val_steps=0, **arguments)
    with contextlib.suppress(RuntimeError, SystemExit):
        runner.fit(module, data(9) if loader is None else loader, val)
    row = batch_rows(sink)[-1]
    assert row["batch/step"] == runner.global_step > 1
    assert sink.columns["final/tracker_errors"] == 0
    return row


def check_predicted(module: Measured, row: Any) -> None:
    """Compares the row with what the module saw at that step."""
    norm, rate = module.steps[row["batch/step"] - 1]
    assert row["batch/lr"] == pytest.approx(rate, rel=1e-12)
    assert row["batch/grad_norm"] == pytest.approx(norm, rel=1e-5)


def check_unpredicted(module: Silent, row: Any, first: int = 1) -> None:
    """Asserts that the row has the mean loss since step `first`, and neither norm nor learning rate."""
    assert row["batch/loss"] == pytest.approx(
        sum(module.losses[first : row["batch/step"]]) / (row["batch/step"] - first)
    )
    assert not [key for key in row if key.startswith(("batch/lr", "batch/grad_norm"))]


class Stops(Callback):
    """Stops the training as its fifth step's batch ends."""

    def on_train_batch_end(self, runner: Any, *_: Any) -> None:
        runner.should_stop = runner.should_stop or runner.global_step == 5


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_stop_by_a_callback_makes_a_row_without_norm_and_rate(first: bool, clip: float | None) -> None:
    module = Measured(scheduled=True)
    stops = {"before": [Stops()]} if first else {"after": [Stops()]}
    check_unpredicted(module, last_row(module, gradient_clip_val=clip, **stops))


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("scheduled", [True, False])
def test_early_stopping_after_a_validation_across_epochs_is_predicted(scheduled: bool, clip: float | None) -> None:
    module = Measured(scheduled)
    stopping = EarlyStopping("val_worse", patience=1)
    arguments: dict[str, Any] = {"val_check_interval": 10, "check_val_every_n_epoch": None, "max_epochs": 9}
    row = last_row(module, data(7), data(1), after=[stopping], gradient_clip_val=clip, **arguments)
    assert row["batch/step"] == 20
    check_predicted(module, row)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_time_limit_is_predicted(clip: float | None) -> None:
    class Slow(Measured):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.03)
            return super().training_step(batch, batch_idx)

    module = Slow(scheduled=True)
    row = last_row(module, data(99), max_time={"seconds": 1}, max_epochs=-1, gradient_clip_val=clip)
    check_predicted(module, row)


@pytest.mark.skipif(lightning.__version__ < "2.6", reason="Lightning 2.5 has no validations by time")
def test_validations_at_intervals_of_time_are_predicted() -> None:
    class Slow(Measured):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.03)
            return super().training_step(batch, batch_idx)

    module = Slow()
    # Lightning 2.6 sets no `val_check_interval` then, which early stopping would ask for.
    stopping = EarlyStopping("val_worse", patience=1, check_on_train_epoch_end=False)
    arguments: dict[str, Any] = {"val_check_interval": {"seconds": 1}, "check_val_every_n_epoch": None}
    row = last_row(module, data(99), data(1), after=[stopping], max_epochs=9, **arguments)
    assert row["batch/step"] < 99 * 9
    check_predicted(module, row)


class Short(IterableDataset[Any]):
    """Has fewer batches than its length says."""

    def __len__(self) -> int:
        return 9 * BATCH_SIZE

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(3)
        for _ in range(6 * BATCH_SIZE):
            yield torch.randn(FEATURES, generator=generator), torch.ones(1)


@pytest.mark.filterwarnings("ignore")
def test_data_shorter_than_their_length_make_a_row_without_norm_and_rate() -> None:
    module = Measured()
    row = last_row(module, DataLoader(Short(), batch_size=BATCH_SIZE), max_epochs=2)
    assert row["batch/step"] == 12
    check_unpredicted(module, row)


class Breaks(Measured):
    """Raises `error` in `hook` of its fourth batch."""

    def __init__(self, error: BaseException, hook: str) -> None:
        super().__init__()
        self.error = error
        setattr(self, hook, self._break(getattr(self, hook)))

    def _break(self, original: Any) -> Any:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if self.global_step == 3:
                raise self.error
            return original(*args, **kwargs)

        return hook


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_optimizer_step"])
@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
@pytest.mark.parametrize("batches", [4, 9])
def test_error_makes_a_row_without_norm_and_rate(error: BaseException, hook: str, batches: int) -> None:
    """With four batches the gradients of the step that fails were captured: they are not the last row's."""
    module = Breaks(error, hook)
    row = last_row(module, data(batches))
    assert row["batch/step"] == 3
    check_unpredicted(module, row)


class Manual(Measured):
    """Steps every `every` batches, by manual optimization without clipping."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.every = every
        self.norms: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss / self.every)
        if (batch_idx + 1) % self.every == 0:
            optimizer = self.optimizers()
            self.norms.append(grad_norm(self.parameters()))
            optimizer.step()
            optimizer.zero_grad()
        return loss


@pytest.mark.parametrize("epochs", [1, 2])
def test_manual_accumulation_that_does_not_divide_the_epoch_is_predicted(epochs: int) -> None:
    module = Manual(every=4)
    row = last_row(module, data(10), max_epochs=epochs)
    assert row["batch/lr"] == 0.05
    assert row["batch/grad_norm"] == pytest.approx(module.norms[-1], rel=1e-5)


def test_time_limit_of_manual_optimization_is_predicted() -> None:
    module = Manual()
    row = last_row(module, data(999), max_time={"seconds": 1}, max_epochs=-1)
    assert row["batch/grad_norm"] == pytest.approx(module.norms[-1], rel=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_stop_of_manual_optimization_makes_a_row_without_norm_and_rate(first: bool) -> None:
    module = Manual()
    check_unpredicted(module, last_row(module, **({"before": [Stops()]} if first else {"after": [Stops()]})))
