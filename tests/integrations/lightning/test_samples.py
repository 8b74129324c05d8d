"""Samples, batch sizes and throughput of several loaders and of tensors whose first dimension is time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from tests.support.lightning_toys import Silent, data, record

SAMPLED = {"batch/samples", "batch/samples_per_s"}


class Several(Silent):
    """Sums the losses of all loaders' batches, and counts their samples."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        parts = list(batch.values()) if isinstance(batch, dict) else list(batch)
        parts = [part for part in parts if part is not None]
        parts = [batch] if isinstance(parts[0], torch.Tensor) else parts
        self.samples.append(sum(len(part[0]) for part in parts))
        return sum(self.loss(part) for part in parts)


def loaders() -> dict[str, DataLoader[Any]]:
    return {"few": data(5, batch_size=4), "many": data(3, seed=1, batch_size=32)}


@pytest.mark.parametrize("mode", ["max_size", "max_size_cycle", "min_size"])
def test_samples_of_several_loaders_are_added(mode: str) -> None:
    module = Several()
    sink = record(module, CombinedLoader(loaders(), mode))
    steps = 3 if mode == "min_size" else 5
    assert len(module.samples) == steps
    assert sink.history("batch/samples")[-1] == (steps, sum(module.samples))
    assert sink.columns["final/samples"] == sum(module.samples)


@pytest.mark.parametrize("collection", [dict, list, tuple])
def test_collections_of_loaders_are_added(collection: type) -> None:
    given = loaders()
    module = Several()
    sink = record(module, given if collection is dict else collection(given.values()))
    assert sink.history("batch/samples")[-1][1] == sum(module.samples) == sink.columns["final/samples"]


class TimeFirst(Silent):
    """Gets features of shape (time, batch, features)."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step((batch[0].mean(0), batch[1]), batch_idx)


@pytest.mark.parametrize("labels_too", [False, True])
def test_samples_of_time_first_batches_are_right_or_absent(labels_too: bool) -> None:
    def collate(samples: list[Any]) -> Any:
        inputs, targets = torch.utils.data.default_collate(samples)
        return inputs.expand(9, *inputs.shape), (targets.expand(9, *targets.shape) if labels_too else targets)

    loader = DataLoader(data(7).dataset, 4, collate_fn=collate)
    sink = record(TimeFirst(), loader)
    assert sink.columns["final/steps"] == 7
    assert sink.columns.get("final/samples") == (None if labels_too else 28)
    keys = {key for row in sink.rows for key in row.values}
    assert keys & SAMPLED == (set() if labels_too else SAMPLED)
    assert sink.columns["final/tracker_errors"] == 0
    assert sink.settings["data/batch_size_per_device"] == 4
