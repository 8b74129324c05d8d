"""Manual optimization, several optimizers, raw optimizers, LBFGS."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.lightning_manual import Gan, Manual
from tests.support.lightning_toys import (
    Reference,
    Silent,
    batch_rows,
    data,
    epoch_rows,
    grad_norm,
    mean,
    record,
)


@pytest.mark.parametrize("raw", [False, True])
def test_returned_loss_is_averaged_over_the_steps_of_a_row(raw: bool) -> None:
    module = Manual(raw=raw)
    sink = record(module, data(7), data(1), log_every_n_steps=3)
    reference = Reference(data(7))
    assert module.losses == pytest.approx(reference.losses, rel=1e-5)
    ends = [(0, 1), (1, 3), (3, 6), (6, 7)]
    assert sink.history("batch/loss") == [(b, pytest.approx(mean(module.losses[a:b]), rel=1e-5)) for a, b in ends]
    assert sink.history("batch/grad_norm") == [(b, pytest.approx(module.norms[b - 1], rel=1e-5)) for _, b in ends]
    assert sink.history("batch/lr") == [(b, 0.05) for _, b in ends]
    assert [(row["epoch/step"], row["epoch/epoch"]) for row in epoch_rows(sink)] == [(7, 1.0)]


def test_logged_loss_replaces_a_loss_that_is_not_returned() -> None:
    module = Manual(returns=False, logs=True)
    sink = record(module, data(7), log_every_n_steps=3)
    steps = (1, 3, 6, 7)
    assert sink.history("batch/loss") == [(s, pytest.approx(module.losses[s - 1], rel=1e-5)) for s in steps]
    assert sink.history("batch/extra") == [(s, pytest.approx(3 * module.losses[s - 1], rel=1e-5)) for s in steps]
    assert sink.history("epoch/train/extra") == [(7, pytest.approx(3 * mean(module.losses), rel=1e-5))]


def test_training_without_any_loss_has_all_other_values() -> None:
    module = Manual(returns=False)
    sink = record(module, data(4), log_every_n_steps=2)
    assert sink.history("batch/loss") == []
    assert sink.history("batch/grad_norm") == [(s, pytest.approx(module.norms[s - 1])) for s in (1, 2, 4)]


@pytest.mark.parametrize("raw", [False, True])
def test_manual_accumulation_averages_the_batches_of_each_step(raw: bool) -> None:
    module = Manual(every=3, raw=raw)
    sink = record(module, data(12), log_every_n_steps=1)
    steps = [3, 6, 9, 12] if raw else [1, 2, 3, 4]
    micro = [mean(module.losses[3 * index : 3 * index + 3]) for index in range(4)]
    assert sink.history("batch/loss") == [(s, pytest.approx(x, rel=1e-5)) for s, x in zip(steps, micro, strict=True)]
    assert [norm for _, norm in sink.history("batch/grad_norm")] == pytest.approx(module.norms, rel=1e-5)
    assert [count for _, count in sink.history("batch/samples")] == [12, 24, 36, 48]


def test_row_due_between_two_steps_is_made_by_the_next_step() -> None:
    module = Manual(every=3)
    sink = record(module, data(30), log_every_n_steps=5)
    assert [step for step, _ in sink.history("batch/grad_norm")] == [1, 2, 4, 5, 7, 9, 10]
    for step, norm in sink.history("batch/grad_norm"):
        assert norm == pytest.approx(module.norms[step - 1], rel=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"max_steps": 14, "max_epochs": -1}])
def test_two_optimizers_have_their_own_norm_and_rate_and_lightnings_steps(arguments: dict[str, Any]) -> None:
    module = Gan()
    sink = record(module, data(10 if arguments else 7), log_every_n_steps=3, **arguments)
    rows = batch_rows(sink)
    assert [row["batch/step"] for row in rows] == [2, 6, 12, 14]
    for row in rows:
        batch = row["batch/step"] // 2 - 1
        assert row["batch/grad_norm/Adam"] == pytest.approx(module.norms["Adam"][batch], rel=1e-5)
        assert row["batch/grad_norm/SGD"] == pytest.approx(module.norms["SGD"][batch], rel=1e-5)
        assert row["batch/grad_norm"] == row["batch/grad_norm/SGD"]
        assert (row["batch/lr/Adam"], row["batch/lr/SGD"], row["batch/lr"]) == (0.01, 0.02, 0.02)
        assert {"batch/Adam_loss", "batch/SGD_loss"} <= set(row)
    assert rows[-1].get("batch/iter_num") == (14 if arguments else None)


def test_two_optimizers_of_one_class_are_numbered() -> None:
    class Twins(Gan):
        def configure_optimizers(self) -> Any:
            return [
                torch.optim.SGD(net.parameters(), lr=rate)
                for net, rate in ((self.generator, 1e-3), (self.critic, 2e-3))
            ]

    row = batch_rows(record(Twins(), data(2)))[0]
    assert (row["batch/lr/SGD_0"], row["batch/lr/SGD_1"]) == (1e-3, 2e-3)
    assert {"batch/grad_norm/SGD_0", "batch/grad_norm/SGD_1"} <= set(row)


class Lbfgs(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.norms: list[list[float]] = []

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=4)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.norms.append([])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.norms[-1].append(grad_norm(self.parameters()))


def test_lbfgs_step_counts_once_with_the_norm_of_its_last_closure() -> None:
    module = Lbfgs()
    sink = record(module, data(4), log_every_n_steps=1)
    assert all(len(norms) > 1 for norms in module.norms)
    assert sink.history("batch/grad_norm") == [
        (step + 1, pytest.approx(norms[-1], rel=1e-5)) for step, norms in enumerate(module.norms)
    ]
    assert len(sink.history("batch/loss")) == 4
