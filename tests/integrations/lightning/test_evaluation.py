"""Evaluations: sets, steps, metric objects and names that collide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, MeanSquaredError

from tests.support.lightning_toys import Logging, Silent, data, epoch_rows, mean, record, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink


class Evaluating(Logging):
    """Logs evaluation values as means, per batch, as both, and in the epoch-end hook."""

    def evaluate(self, split: str, batch: Any) -> None:
        loss = self.loss(batch)
        self.seen[split].append(loss.item())
        self.log(f"{split}_loss", loss)
        self.log(f"{split}/last", loss, on_step=True, on_epoch=False)
        self.log("both", 2 * loss, on_step=True, on_epoch=True)
        self.log("hidden", loss, logger=False)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        self.log("val_count", float(len(self.seen["val"])))


def test_evaluation_makes_one_row_of_means_and_last_values() -> None:
    module, val = Evaluating(), data(3, seed=5)
    sink = record(module, data(4), val, max_epochs=2, num_sanity_val_steps=0)
    seen = module.seen["val"]
    rows = [row for row in epoch_rows(sink) if "epoch/val/loss" in row]
    assert len(rows) == 2
    for index, row in enumerate(rows):
        of_epoch = seen[3 * index : 3 * index + 3]
        assert row == {
            "epoch/step": 4 * (index + 1),
            "epoch/epoch": index + 1.0,
            "epoch/val/loss": pytest.approx(mean(of_epoch), rel=1e-5),
            "epoch/val/last": pytest.approx(of_epoch[-1], rel=1e-5),
            "epoch/val/both": pytest.approx(2 * mean(of_epoch), rel=1e-5),
            "epoch/val/count": float(3 * index + 3),
        }
    assert sink.columns["final/val/loss"] == pytest.approx(mean(seen[3:]), rel=1e-5)
    best = min(range(2), key=lambda index: mean(seen[3 * index : 3 * index + 3]))
    assert sink.columns["final/best/val/loss_step"] == 4 * (best + 1)


def test_several_evaluations_in_an_epoch_have_their_own_steps() -> None:
    module = Evaluating()
    sink = record(module, data(8), data(2, seed=5), val_check_interval=0.25, max_epochs=2, num_sanity_val_steps=0)
    rows = [row for row in epoch_rows(sink) if "epoch/val/loss" in row]
    assert [(row["epoch/step"], row["epoch/epoch"]) for row in rows] == [(s, s / 8) for s in range(2, 17, 2)]
    for index, row in enumerate(rows):
        assert row["epoch/val/loss"] == pytest.approx(mean(module.seen["val"][2 * index : 2 * index + 2]), rel=1e-5)


def test_sanity_check_makes_no_row() -> None:
    module = Evaluating()
    sink = record(module, data(4), data(3, seed=5), num_sanity_val_steps=2)
    assert len(module.seen["val"]) == 5, "the sanity check has run"
    assert [step for step, _ in sink.history("epoch/val/loss")] == [4]
    assert sink.rows[0].values["batch/step"] == 1


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("verb", ["validate", "test", "fit"])
def test_several_evaluation_sets_keep_their_names(kind: str, verb: str) -> None:
    class Several(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.sets: tuple[list[float], list[float]] = ([], [])

        def evaluate(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            loss = self.loss(batch)
            self.sets[dataloader_idx].append(loss.item())
            self.log(f"{split}_loss", loss)
            self.log("last", loss, on_step=True, on_epoch=False)
            self.log(f"{split}/plain{dataloader_idx}", loss, add_dataloader_idx=False)

        validation_step = test_step = evaluate

    split = "test" if verb == "test" else "val"
    module, sink = Several(), MemorySink()
    loaders: Any = [data(2, seed=5), data(3, seed=6)]
    if kind == "dict":
        loaders = dict(zip(("easy", "hard set"), loaders, strict=True))
    names = ("easy", "hard_set") if kind == "dict" else ("dataloader_0", "dataloader_1")
    runner = trainer(TrackKit(sinks=[sink]), num_sanity_val_steps=0)
    if verb == "fit":
        runner.fit(module, data(3), loaders)
    else:
        getattr(runner, verb)(module, loaders, verbose=False)
    values = {key: value for row in epoch_rows(sink) for key, value in row.items() if key.count("/") > 1}
    expected: dict[str, Any] = {}
    for index, (name, losses) in enumerate(zip(names, module.sets, strict=True)):
        expected[f"epoch/{split}/{name}/loss"] = pytest.approx(mean(losses), rel=1e-5)
        expected[f"epoch/{split}/{name}/last"] = pytest.approx(losses[-1], rel=1e-5)
        expected[f"epoch/{split}/plain{index}"] = pytest.approx(mean(losses), rel=1e-5)
    assert values == expected


def test_torchmetrics_are_recorded_with_their_computed_value() -> None:
    class Measured(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.mse, self.val_mse = MeanSquaredError(), MeanSquaredError()
            self.weighted = MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.mse(self.layer(batch[0]), batch[1])
            self.weighted.update(loss, weight=batch_idx + 1)
            self.log("train_mse", self.mse, on_step=True, on_epoch=True)
            self.log("train_weighted", self.weighted, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.val_mse(self.layer(batch[0]), batch[1])
            self.log("val_mse", self.val_mse)

    module, val = Measured(), data(3, seed=5)
    sink = record(module, data(5), val, log_every_n_steps=2, num_sanity_val_steps=0)
    assert sink.history("batch/mse") == [(s, pytest.approx(module.losses[s - 1], rel=1e-5)) for s in (1, 2, 4, 5)]
    assert sink.history("epoch/train/mse") == [(5, pytest.approx(mean(module.losses), rel=1e-5))]
    weighted = sum(loss * (index + 1) for index, loss in enumerate(module.losses)) / 15
    assert sink.history("epoch/train/weighted") == [(5, pytest.approx(weighted, rel=1e-5))]
    with torch.no_grad():
        expected = mean(module.loss(batch).item() for batch in val)
    assert sink.history("epoch/val/mse") == [(5, pytest.approx(expected, rel=1e-5))]


def test_last_recorded_values_equal_lightnings_callback_metrics() -> None:
    module = Evaluating()
    sink = MemorySink()
    runner = trainer(TrackKit(sinks=[sink]))
    runner.fit(module, data(5), data(2, seed=5))
    for logged, key in {
        "train_twice_step": "batch/twice",
        "train_twice_epoch": "epoch/train/twice",
        "val_loss": "epoch/val/loss",
        "both_epoch": "epoch/val/both",
        "val_count": "epoch/val/count",
    }.items():
        assert sink.history(key)[-1] == (5, runner.callback_metrics[logged].item())


def test_logged_value_with_the_name_of_a_measured_one_is_kept_beside_it(caplog: pytest.LogCaptureFixture) -> None:
    class Named(Silent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", 2 * loss)
            return loss

    module = Named()
    sink = record(module, data(4), log_every_n_steps=1)
    assert [loss for _, loss in sink.history("batch/loss")] == pytest.approx(module.losses)
    assert [loss for _, loss in sink.history("batch/train_loss")] == pytest.approx([2 * x for x in module.losses])
    assert [r.message for r in caplog.records].count(
        "'batch/loss' is measured by TrackKit; the logged 'train_loss' is recorded as 'batch/train_loss'."
    ) == 1


def test_samples_in_nested_batches_are_counted() -> None:
    class Pairs(Silent):
        def loss(self, batch: Any) -> Any:
            return super().loss(batch["pair"])

    def pairs() -> Iterator[Any]:
        for batch in data(5):
            yield {"pair": batch}

    module = Pairs()
    sink = record(module, DataLoader(list(pairs()), batch_size=None), log_every_n_steps=1)  # type: ignore[arg-type]
    assert [loss for _, loss in sink.history("batch/loss")] == pytest.approx(module.losses)
    assert [count for _, count in sink.history("batch/samples")] == [4, 8, 12, 16, 20]
