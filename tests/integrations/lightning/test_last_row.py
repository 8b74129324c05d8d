"""The last step's row has the learning rate and the gradient norm of that step, however the training ends."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from tests.support.lightning_toys import BATCH_SIZE, FEATURES, Silent, batch_rows, data, grad_norm, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Measured(Silent):
    """Keeps norm and rate of every step, as they are once the gradients are there: `steps`, in order."""

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
    """Of a fit with TrackKit between other callbacks: its last row."""
    sink = MemorySink()
    runner = trainer([*before, TrackKit(sinks=[sink]), *after], num_sanity_val_steps=0, **arguments)
    with contextlib.suppress(RuntimeError, SystemExit):
        runner.fit(module, data(9) if loader is None else loader, val)
    row = batch_rows(sink)[-1]
    assert row["batch/step"] == runner.global_step > 1
    return row


def check(module: Measured, row: Any, norm: bool = True) -> None:
    """The row's values are those that the module saw at that step."""
    true_norm, true_rate = module.steps[row["batch/step"] - 1]
    assert row["batch/lr"] == pytest.approx(true_rate, rel=1e-12)
    assert row.get("batch/grad_norm") == (pytest.approx(true_norm, rel=1e-5) if norm else None)


class Stops(Callback):
    def on_train_batch_end(self, runner: Any, *_: Any) -> None:
        runner.should_stop = runner.should_stop or runner.global_step == 5


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_callback_that_stops_the_training(first: bool, scheduled: bool, clip: float | None) -> None:
    module = Measured(scheduled)
    stops = {"before": [Stops()]} if first else {"after": [Stops()]}
    check(module, last_row(module, gradient_clip_val=clip, **stops), norm=clip is None)


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("scheduled", [True, False])
def test_early_stopping_between_validations_over_epochs(scheduled: bool, clip: float | None) -> None:
    module = Measured(scheduled)
    stopping = EarlyStopping("val_worse", patience=1)
    arguments: dict[str, Any] = {"val_check_interval": 10, "check_val_every_n_epoch": None, "max_epochs": 9}
    row = last_row(module, data(7), data(1), after=[stopping], gradient_clip_val=clip, **arguments)
    assert row["batch/step"] == 20
    check(module, row)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_limit_in_time(clip: float | None) -> None:
    class Slow(Measured):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.03)
            return super().training_step(batch, batch_idx)

    module = Slow(scheduled=True)
    check(module, last_row(module, data(99), max_time={"seconds": 1}, max_epochs=-1, gradient_clip_val=clip))


class Short(IterableDataset[Any]):
    """Promises more than it gives."""

    def __len__(self) -> int:
        return 9 * BATCH_SIZE

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(3)
        for _ in range(6 * BATCH_SIZE):
            yield torch.randn(FEATURES, generator=generator), torch.ones(1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scheduled", [True, False])
def test_data_that_end_before_their_length(scheduled: bool) -> None:
    module = Measured(scheduled)
    row = last_row(module, DataLoader(Short(), batch_size=BATCH_SIZE), max_epochs=2)
    assert row["batch/step"] == 12
    check(module, row)


class Breaks(Measured):
    def __init__(self, error: BaseException, hook: str, scheduled: bool) -> None:
        super().__init__(scheduled)
        self.error = error
        setattr(self, hook, self._break(getattr(self, hook)))

    def _break(self, original: Any) -> Any:
        def hook(*args: Any, **kwargs: Any) -> Any:
            if self.global_step == 3:
                raise self.error
            return original(*args, **kwargs)

        return hook


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "loss", "backward", "on_before_optimizer_step"])
@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_an_error_leaves_what_is_still_that_steps(error: BaseException, hook: str, scheduled: bool) -> None:
    module = Breaks(error, hook, scheduled)
    row = last_row(module)
    assert row["batch/step"] == 3
    check(module, row, norm=hook in ("on_train_batch_start", "loss"))


class ByHand(Measured):
    """A step every `every` batches, clipped after the fact by nobody."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.every = every
        self.norms: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch) / self.every)
        if (batch_idx + 1) % self.every == 0:
            optimizer = self.optimizers()
            self.norms.append(grad_norm(self.parameters()))
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("epochs", [1, 2])
def test_accumulation_by_hand_that_does_not_divide_the_epoch(epochs: int) -> None:
    module = ByHand(every=4)
    row = last_row(module, data(10), max_epochs=epochs)
    assert row["batch/lr"] == 0.05
    assert row["batch/grad_norm"] == pytest.approx(module.norms[-1], rel=1e-5)


def test_a_limit_in_time_by_hand() -> None:
    module = ByHand()
    row = last_row(module, data(999), max_time={"seconds": 1}, max_epochs=-1)
    assert row["batch/grad_norm"] == pytest.approx(module.norms[-1], rel=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_a_callback_that_stops_a_training_by_hand_leaves_the_rate(first: bool) -> None:
    row = last_row(ByHand(), **({"before": [Stops()]} if first else {"after": [Stops()]}))
    assert row["batch/lr"] == 0.05
    assert "batch/grad_norm" not in row, "whose the gradients are by now, only the module knows"


class Warms(Measured):
    """Sets its rates in `optimizer_step`, after the step."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any = None) -> None:
        optimizer.step(closure=closure)
        optimizer.param_groups[0]["lr"] = 0.01 * (batch_idx + 1)


@pytest.mark.parametrize("first", [True, False])
def test_rates_that_the_module_moves_itself(first: bool) -> None:
    module = Warms()
    check(module, last_row(module, **({"before": [Stops()]} if first else {"after": [Stops()]})))


class Clips(Measured):
    """Clips in a hook of its own: nothing tells, but the gradients."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 0.1)


def test_gradients_that_the_module_has_clipped_itself_are_not_measured_afterwards() -> None:
    module = Clips()
    check(module, last_row(module, after=[Stops()]), norm=False)
