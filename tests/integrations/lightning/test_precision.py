"""Gradient scaling, non-finite values, and weights that equal those without TrackKit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

import trackkit
from tests.support.lightning_toys import FEATURES, Silent, batch_rows, data, record, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


def scaling(scale: float = 1024.0) -> MixedPrecision:
    """Returns half precision on the CPU, with a gradient scaler that doubles every second step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
    return MixedPrecision("16-mixed", "cpu", scaler=scaler)


class Scaled(Silent):
    """Keeps the true gradient norm of each step, computed without the scaler; overflows at batches `overflows`."""

    def __init__(self, overflows: tuple[int, ...] = (), manual: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.overflows = overflows
        self.norms: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        gradients = torch.autograd.grad(loss, list(self.parameters()), retain_graph=True)
        self.norms.append(float(torch.cat([each.double().flatten() for each in gradients]).norm()))
        if batch_idx in self.overflows:
            loss = loss * float("inf")
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


@pytest.mark.parametrize("manual", [False, True])
def test_norm_is_unscaled(manual: bool) -> None:
    module = Scaled(manual=manual)
    sink = record(module, data(8), log_every_n_steps=2, plugins=[scaling()])
    assert [step for step, _ in sink.history("batch/grad_norm")] == [1, 2, 4, 6, 8]
    for step, norm in sink.history("batch/grad_norm"):
        assert norm == pytest.approx(module.norms[step - 1], rel=2e-2)
    assert all(row["batch/skipped_steps"] == 0 for row in batch_rows(sink))


def test_norm_is_unscaled_and_before_clipping() -> None:
    module = Scaled()
    sink = record(module, data(4), log_every_n_steps=1, plugins=[scaling()], gradient_clip_val=0.01)
    assert [norm for _, norm in sink.history("batch/grad_norm")] == pytest.approx(module.norms, rel=2e-2)


def test_norm_of_a_fused_optimizer_is_unscaled() -> None:
    class Fused(Scaled):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr, fused=True)

    module = Fused()
    sink = record(module, data(4), log_every_n_steps=1, plugins=[scaling()])
    assert [norm for _, norm in sink.history("batch/grad_norm")] == pytest.approx(module.norms, rel=2e-2)


@pytest.mark.parametrize("manual", [False, True])
def test_overflow_counts_as_a_skipped_step_in_its_row(manual: bool) -> None:
    sink = record(Scaled(overflows=(1, 3, 6), manual=manual), data(9), log_every_n_steps=4, plugins=[scaling()])
    assert sink.history("batch/skipped_steps") == [(1, 0), (4, 2), (8, 1), (9, 0)]
    assert sink.columns["final/skipped_steps"] == 3


class Broken(Silent):
    """Returns `what` as the loss of the given batches, without an effect on the weights."""

    def __init__(self, what: float, *batches: int) -> None:
        super().__init__()
        self.what, self.batches = what, batches

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss: Tensor = super().training_step(batch, batch_idx)
        return loss * 0 + loss.detach().new_tensor(self.what) if batch_idx in self.batches else loss


@pytest.mark.parametrize("what", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_losses_between_rows_are_counted(what: float) -> None:
    sink = record(Broken(what, 1, 2, 7), data(8), log_every_n_steps=4)
    assert sink.history("batch/nonfinite") == [(1, 0), (4, 2), (8, 1)]
    assert sink.columns["final/nonfinite"] == 3
    assert not any(isinstance(value, float) and value != value for value in sink.columns.values())


def test_nonfinite_gradient_with_a_finite_loss_is_counted() -> None:
    class Infinite(Silent):
        def on_after_backward(self) -> None:
            if self.global_step == 3:
                self.layer.weight.grad.mul_(float("inf"))  # type: ignore[union-attr]

    assert record(Infinite(), data(4), log_every_n_steps=2).history("batch/nonfinite") == [(1, 0), (2, 0), (4, 1)]


class Dropping(Silent):
    """Uses the global random generators in every step, and logs and evaluates."""

    def __init__(self, manual: bool = False) -> None:
        super().__init__(lr=0.01)
        self.automatic_optimization = not manual
        self.hidden = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Dropout(0.3))

    def loss(self, batch: Any) -> Tensor:
        return super().loss((self.hidden(batch[0]) + random.random() * np.random.rand(), batch[1]))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5},
        {"manual": True},
        {"amp": True},
        {"amp": True, "manual": True},
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_weights_and_random_states_equal_those_without_trackkit(arguments: dict[str, Any]) -> None:
    def outcome(kit: TrackKit | None) -> tuple[list[Tensor], list[float], list[Any]]:
        options = dict(arguments)
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        module = Dropping(options.pop("manual", False))
        if options.pop("amp", False):
            options["plugins"] = [scaling()]
        trainer(kit, log_every_n_steps=2, max_epochs=2, **options).fit(module, data(7), data(2))
        states = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # type: ignore[union-attr]
        return list(module.state_dict().values()), module.losses, states

    sink = MemorySink()
    weights, losses, states = outcome(TrackKit(sinks=[sink]))
    bare_weights, bare_losses, bare_states = outcome(None)
    assert sink.history("batch/grad_norm"), "TrackKit was at work"
    assert losses == bare_losses
    assert states == bare_states
    for one, other in zip(weights, bare_weights, strict=True):
        assert torch.equal(one, other)


def test_nonfinite_losses_are_named_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    record(Broken(float("nan"), 2, 3, 7), data(8), log_every_n_steps=4)
    trackkit.finish()
    (said,) = [record.getMessage() for record in caplog.records if "NaN" in record.getMessage()]
    assert said.startswith(
        "Loss or gradient norm was NaN or Inf in 3 steps, first seen at step 3: see batch/nonfinite. Look in '"
    )
