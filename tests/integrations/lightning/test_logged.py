"""Logged values are recorded exactly once, at their step, under their schema name, with Lightning's value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.lightning_manual import Manual
from tests.support.lightning_toys import Silent, batch_rows, data, epoch_rows, mean, record


class Everywhere(Silent):
    """Logs in every hook of training, in every way."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("stepwise", 2 * loss, on_step=True, on_epoch=False, prog_bar=True)
        self.log("train/epochwise", 3 * loss, on_step=False, on_epoch=True, sync_dist=True)
        self.log("train_both", 4 * loss, on_step=True, on_epoch=True)
        self.log("only_in_the_bar", 5 * loss, prog_bar=True, logger=False)
        self.log_dict({"a": loss + 1, "b": loss + 2}, on_step=False, on_epoch=True)
        self.log("python", float(batch_idx))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("late", self.losses[-1] + 10)

    def on_train_epoch_end(self) -> None:
        self.log("train_size", float(len(self.losses)))


@pytest.mark.parametrize("every", [1, 3, 50])
def test_each_way_of_logging_in_training_is_recorded_once(every: int) -> None:
    module = Everywhere()
    sink = record(module, data(7), log_every_n_steps=every, max_epochs=2)
    steps = sorted({1, *range(every, 15, every), 14})
    for key, of_loss in {
        "batch/stepwise": lambda loss: 2 * loss,
        "batch/both": lambda loss: 4 * loss,
        "batch/late": lambda loss: loss + 10,
    }.items():
        assert sink.history(key) == [(s, pytest.approx(of_loss(module.losses[s - 1]), rel=1e-5)) for s in steps]
    assert sink.history("batch/python") == [(step, (step - 1) % 7) for step in steps]
    first, second = mean(module.losses[:7]), mean(module.losses[7:])
    for key, factor, shift in [("epochwise", 3, 0), ("both", 4, 0), ("a", 1, 1), ("b", 1, 2)]:
        assert sink.history(f"epoch/train/{key}") == [
            (7, pytest.approx(first * factor + shift, rel=1e-5)),
            (14, pytest.approx(second * factor + shift, rel=1e-5)),
        ]
    assert sink.history("epoch/train/size") == [(7, 7.0), (14, 14.0)]
    assert [(row["epoch/step"], row["epoch/epoch"]) for row in epoch_rows(sink)] == [(7, 1.0), (14, 2.0)]
    assert [row["batch/step"] for row in batch_rows(sink)] == steps
    logged = {"epochwise", "both", "a", "b", "size"}
    assert {key for row in epoch_rows(sink) for key in row} == {
        *("epoch/step", "epoch/epoch"),
        *(f"epoch/train/{name}" for name in logged),
    }
    assert {"batch/only_in_the_bar", "batch/epochwise", "batch/a"}.isdisjoint(batch_rows(sink)[-1])


class Repeating(Silent):
    """Logs a name twice in every training step, another in every second one, and a third in every first one."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss)
        self.log("train_twice", loss, on_step=True, on_epoch=True)
        self.log("train_twice", 3 * loss, on_step=True, on_epoch=True)
        self.log("often" if batch_idx % 2 else "odd", float(batch_idx), on_step=True, on_epoch=False)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("late", float(batch_idx))


@pytest.mark.parametrize("every", [1, 2, 50])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_values_of_one_name_within_a_step_are_recorded_as_their_mean(accumulation: int, every: int) -> None:
    module = Repeating()
    sink = record(module, data(11), log_every_n_steps=every, accumulate_grad_batches=accumulation)
    batches = [list(range(11))[start : start + accumulation] for start in range(0, 11, accumulation)]
    found = {key: dict(sink.history(f"batch/{key}")) for key in ("train_loss", "twice", "late")}
    steps = sorted({1, len(batches), *range(every, len(batches) + 1, every)})
    for values in found.values():
        assert list(values) == steps
    for step in steps:
        losses = [module.losses[index] for index in batches[step - 1]]
        assert found["train_loss"][step] == pytest.approx(mean(losses), rel=1e-5)
        assert found["twice"][step] == pytest.approx(2 * mean(losses), rel=1e-5)
        assert found["late"][step] == pytest.approx(mean(batches[step - 1]))
    if accumulation == 4:
        assert dict(sink.history("batch/often"))[1] == mean([1, 3])
        assert dict(sink.history("batch/odd"))[1] == mean([0, 2])
    assert sink.history("epoch/train/twice")[0][1] == pytest.approx(2 * mean(module.losses), rel=1e-5)


def test_steps_of_manual_optimization_have_the_mean_of_their_batches() -> None:
    sink = record(module := Manual(every=3, logs=True), data(11), log_every_n_steps=1)
    assert [step for step, _ in sink.history("batch/extra")] == [1, 2, 3, 3]
    # No step follows the last two batches.
    *steps, (_, rest) = sink.history("batch/extra")
    assert rest == pytest.approx(3 * mean(module.losses[9:]), rel=1e-5)
    for step, value in steps:
        assert value == pytest.approx(3 * mean(module.losses[3 * step - 3 : 3 * step]), rel=1e-5)
