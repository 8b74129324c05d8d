"""Clipping in manual optimization: the gradient norm is the one before clipping."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.lightning_manual import Gan, Manual
from tests.support.lightning_toys import batch_rows, data, grad_norm, record, trainer, untouched
from trackkit import TrackKit


class Clips(Manual):
    """Clips `times` times before a step, as Lightning's documentation shows."""

    def __init__(self, times: int, raw: bool = False) -> None:
        super().__init__(raw=raw)
        self.times = times

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers(use_pl_optimizer=not self.raw)
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.norms.append(grad_norm(self.parameters()))
        for limit in (0.5, 0.1)[: self.times]:
            self.clip_gradients(optimizer, gradient_clip_val=limit, gradient_clip_algorithm="norm")
        assert (grad_norm(self.parameters()) < 0.51) == bool(self.times)
        optimizer.step()
        return loss


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_norm_in_manual_optimization_is_that_before_clipping(times: int, raw: bool) -> None:
    module = Clips(times, raw)
    sink = record(module, data(7), log_every_n_steps=3)
    assert sink.history("batch/grad_norm") == [
        (step, pytest.approx(module.norms[step - 1], rel=1e-5)) for step in (1, 3, 6, 7)
    ]
    assert sink.history("batch/lr") == [(step, 0.05) for step in (1, 3, 6, 7)]


class ClipsOne(Gan):
    """Clips its generator's gradients only."""

    def manual_backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
        super().manual_backward(loss, *args, **kwargs)
        if len(self.norms["Adam"]) == len(self.norms["SGD"]):
            self.before = grad_norm(self.generator.parameters())
            self.clip_gradients(self.optimizers()[0], gradient_clip_val=0.1, gradient_clip_algorithm="norm")


def test_each_of_two_optimizers_has_its_own_unclipped_norm() -> None:
    seen: list[float] = []

    class Keeps(ClipsOne):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(self.before)

    module = Keeps()
    rows = batch_rows(record(module, data(4), log_every_n_steps=1))
    assert [row["batch/grad_norm/Adam"] for row in rows] == pytest.approx(seen, rel=1e-5)
    assert [row["batch/grad_norm/SGD"] for row in rows] == pytest.approx(module.norms["SGD"], rel=1e-5)


def test_trainer_is_restored_after_the_fit(isolated: Any) -> None:
    runner = trainer(TrackKit(mode="offline"))
    runner.fit(Clips(1), data(2))
    assert untouched(runner)
