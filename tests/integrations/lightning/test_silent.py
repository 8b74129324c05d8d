"""A module that logs nothing has loss, learning rate, gradient norm, progress and throughput recorded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support.lightning_toys import (
    Reference,
    Silent,
    batch_rows,
    data,
    epoch_rows,
    mean,
    record,
)


def windows(steps: int, every: int) -> list[tuple[int, int]]:
    """Returns (first, last) step of each row: rows at step 1, every multiple of `every`, and the last step."""
    ends = sorted({1, *range(every, steps + 1, every), steps})
    return [(start + 1, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("every", [1, 3, 50])
def test_loss_is_the_undivided_mean_over_the_steps_of_a_row(accumulate: int, every: int) -> None:
    loader = data(18)
    sink = record(Silent(), loader, accumulate_grad_batches=accumulate, log_every_n_steps=every, max_epochs=2)
    reference = Reference(loader, epochs=2, accumulate=accumulate)
    expected = windows(len(reference.losses), every)
    assert [step for step, _ in sink.history("batch/loss")] == [end for _, end in expected]
    for (start, end), (_, loss) in zip(expected, sink.history("batch/loss"), strict=True):
        assert loss == pytest.approx(mean(reference.losses[start - 1 : end]), rel=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "clip"),
    [
        ("norm", lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1)),
        ("value", lambda parameters: nn.utils.clip_grad_value_(parameters, 0.1)),
        (None, None),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_grad_norm_is_that_before_clipping(algorithm: str | None, clip: Any, accumulate: int) -> None:
    loader = data(9)
    clipping = {"gradient_clip_val": 0.1, "gradient_clip_algorithm": algorithm} if algorithm else {}
    sink = record(Silent(), loader, log_every_n_steps=2, accumulate_grad_batches=accumulate, **clipping)
    reference = Reference(loader, clip=clip, accumulate=accumulate)
    history = sink.history("batch/grad_norm")
    assert [step for step, _ in history] == [end for _, end in windows(len(reference.norms), 2)]
    for step, norm in history:
        assert norm == pytest.approx(reference.norms[step - 1], rel=1e-5)
        assert norm > 0.3, "would not tell a clipped norm from an unclipped one"


class Decaying(Silent):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def test_lr_is_that_of_the_step_just_taken() -> None:
    sink = record(Decaying(lr=0.08), log_every_n_steps=3)
    assert sink.history("batch/lr") == [(step, pytest.approx(0.08 * 0.5 ** (step - 1))) for step in (1, 3, 6, 7)]


def test_first_and_last_step_make_complete_rows() -> None:
    sink = record(Silent(), data(7), log_every_n_steps=50)
    rows = batch_rows(sink)
    assert [row["batch/step"] for row in rows] == [1, 7]
    reference = Reference(data(7))
    assert rows[1]["batch/loss"] == pytest.approx(mean(reference.losses[1:]), rel=1e-5)
    assert rows[1]["batch/grad_norm"] == pytest.approx(reference.norms[6], rel=1e-5)
    assert (
        set(rows[0])
        == set(rows[1])
        == {
            *(
                "batch/step",
                "batch/epoch",
                "batch/iter_num",
                "batch/samples",
                "batch/loss",
                "batch/lr",
                "batch/grad_norm",
            ),
            *(
                "batch/step_time_s",
                "batch/data_time_s",
                "batch/samples_per_s",
                "device/rss_GB",
                "batch/nonfinite",
                "batch/skipped_steps",
            ),
        }
    )
    assert epoch_rows(sink) == []
