"""Progress, time, throughput and parameter groups of a module that logs nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from tests.support.fake_clock import FakeClock
from tests.support.lightning_toys import (
    BATCH_SIZE,
    FEATURES,
    Silent,
    batch_rows,
    data,
    layer,
    mean,
    record,
)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_rows_count_steps_epochs_and_samples(accumulate: int) -> None:
    sink = record(Silent(), data(8), log_every_n_steps=1, accumulate_grad_batches=accumulate, max_epochs=2)
    steps = 16 // accumulate
    for row in batch_rows(sink):
        batches = row["batch/step"] * accumulate
        assert row["batch/iter_num"] == steps
        assert row["batch/epoch"] == pytest.approx(batches / 8)
        assert row["batch/samples"] == batches * BATCH_SIZE
    assert sink.columns["final/steps"] == steps
    assert sink.columns["final/epochs"] == pytest.approx(2.0)
    assert sink.columns["final/samples"] == 16 * BATCH_SIZE


STEP_S, ITEM_S, PAUSE_S = 0.01, 0.005, 0.3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch)


class SlowData(Dataset[tuple[Tensor, Tensor]]):
    """Takes `ITEM_S` for each of its items."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 6 * BATCH_SIZE

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.clock.advance(ITEM_S)
        return torch.ones(FEATURES), torch.ones(1)


class Slow(Silent):
    """Takes `STEP_S` for a training step, and `PAUSE_S` for a validation step or a checkpoint."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.advance(STEP_S)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.advance(PAUSE_S)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.clock.advance(PAUSE_S)


def test_data_time_is_the_time_of_the_data_set_and_part_of_throughput(clock: FakeClock) -> None:
    sink = record(Slow(clock), DataLoader(SlowData(clock), batch_size=BATCH_SIZE), log_every_n_steps=2)
    data_s = pytest.approx(BATCH_SIZE * ITEM_S)
    assert sink.history("batch/data_time_s") == [(step, data_s) for step in (1, 2, 4, 6)]
    for row in batch_rows(sink):
        assert row["batch/step_time_s"] == pytest.approx(row["batch/data_time_s"] + STEP_S)
        assert row["batch/samples_per_s"] == pytest.approx(BATCH_SIZE / row["batch/step_time_s"])


def test_step_time_leaves_out_evaluations(clock: FakeClock) -> None:
    arguments = {"val_check_interval": 2, "log_every_n_steps": 2, "num_sanity_val_steps": 0}
    sink = record(Slow(clock), data(6), data(2), **arguments)
    assert sink.history("batch/step_time_s") == [(step, pytest.approx(STEP_S)) for step in (1, 2, 4, 6)]


def test_step_time_leaves_out_checkpoints(clock: FakeClock, isolated: Any) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    checkpoint = ModelCheckpoint(every_n_train_steps=2, save_top_k=-1)
    sink = record(Slow(clock), data(6), log_every_n_steps=2, enable_checkpointing=True, callbacks=[checkpoint])
    assert sink.history("batch/step_time_s") == [(step, pytest.approx(STEP_S)) for step in (1, 2, 4, 6)]


class Tokens(Silent):
    def loss(self, batch: Any) -> Tensor:
        return self.layer(batch["input_ids"].float()).pow(2).mean() / 1000


def test_tokens_of_input_ids_are_counted() -> None:
    items = [{"input_ids": torch.arange(FEATURES)} for _ in range(10)]
    sink = record(Tokens(), DataLoader(items, batch_size=2), log_every_n_steps=1)  # type: ignore[arg-type]
    assert sink.history("batch/tokens") == [(step, step * 2 * FEATURES) for step in range(1, 6)]
    assert sink.history("batch/samples") == [(step, step * 2) for step in range(1, 6)]
    for row in batch_rows(sink):
        assert row["batch/tokens_per_s"] == pytest.approx(FEATURES * row["batch/samples_per_s"])


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Has no length."""

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(3)
        for _ in range(6 * BATCH_SIZE):
            yield torch.randn(FEATURES, generator=generator), torch.ones(1)


def test_data_without_length_have_no_iter_num_but_a_last_row() -> None:
    module = Silent()
    sink = record(module, DataLoader(Stream(), batch_size=BATCH_SIZE), log_every_n_steps=4, max_epochs=2)
    rows = batch_rows(sink)
    assert [row["batch/step"] for row in rows] == [1, 4, 8, 12]
    assert [row["batch/epoch"] for row in rows] == [0.0, 0.0, 1.0, 2.0]
    assert all("batch/iter_num" not in row for row in rows)
    assert rows[-1]["batch/loss"] == pytest.approx(mean(module.losses[8:]), rel=1e-5)
    assert "batch/grad_norm" in rows[-1]


@pytest.mark.parametrize("endless", [False, True])
def test_max_steps_is_iter_num_and_its_last_step_makes_a_row(endless: bool) -> None:
    loader = DataLoader(Stream(), batch_size=BATCH_SIZE) if endless else data(6)
    sink = record(Silent(), loader, log_every_n_steps=50, max_epochs=-1, max_steps=9)
    rows = batch_rows(sink)
    assert [(row["batch/step"], row["batch/iter_num"]) for row in rows] == [(1, 9), (9, 9)]
    assert rows[-1]["batch/epoch"] == (1.0 if endless else pytest.approx(1.5))
    assert "batch/grad_norm" in rows[-1]
    assert sink.columns["final/status"] == "finished"


class Grouped(Silent):
    def __init__(self, named: bool) -> None:
        super().__init__()
        self.head = layer(2)
        self.named = named

    def configure_optimizers(self) -> Any:
        groups: list[dict[str, Any]] = [
            {"params": self.layer.parameters(), "lr": 0.01, "name": "body"},
            {"params": self.head.parameters(), "lr": 0.02, "name": "head"},
        ]
        if not self.named:
            for group in groups:
                del group["name"]
        return torch.optim.SGD(groups)

    def loss(self, batch: Any) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.layer(inputs) + self.head(inputs), targets)


@pytest.mark.parametrize(("named", "names"), [(True, ("body", "head")), (False, ("group_0", "group_1"))])
def test_each_parameter_group_has_its_lr(named: bool, names: tuple[str, str]) -> None:
    for row in batch_rows(record(Grouped(named), log_every_n_steps=3)):
        rates = {key: value for key, value in row.items() if key.startswith("batch/lr")}
        assert rates == {"batch/lr": 0.01, f"batch/lr/{names[0]}": 0.01, f"batch/lr/{names[1]}": 0.02}


@pytest.mark.parametrize("scheduling", [{0: 1, 1: 3}, {0: 4, 1: 1}, {1: 2, 2: 5}])
@pytest.mark.parametrize("limit", [-1, 7])
def test_iter_num_follows_accumulation_that_changes_by_epoch(scheduling: dict[int, int], limit: int) -> None:
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    changes = GradientAccumulationScheduler(dict(scheduling))
    sink = record(Silent(), data(8), callbacks=[changes], max_epochs=3, max_steps=limit, log_every_n_steps=4)
    assert {plan for _, plan in sink.history("batch/iter_num")} == {sink.columns["final/steps"]}
