"""Values that were logged without an event are sorted by their names."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trackkit.schema.keys import BATCH, Where
from trackkit.schema.names import Names
from trackkit.schema.prefixes import event_of, position_of


@pytest.mark.parametrize(
    ("name", "key", "with_epoch"),
    [
        ("loss", "batch/loss", "epoch/loss"),
        ("train_loss", "batch/loss", "epoch/train/loss"),
        ("train/loss", "batch/loss", "epoch/train/loss"),
        ("Loss/train", "batch/Loss", "epoch/train/Loss"),
        ("val_acc", "epoch/val/acc", "epoch/val/acc"),
        ("eval/acc", "epoch/val/acc", "epoch/val/acc"),
        ("Validation acc", "epoch/val/acc", "epoch/val/acc"),
        ("accuracy/val", "epoch/val/accuracy", "epoch/val/accuracy"),
        ("val/wiki/loss", "epoch/val/wiki/loss", "epoch/val/wiki/loss"),
        ("test.f1", "epoch/test/f1", "epoch/test/f1"),
        ("value", "batch/value", "epoch/value"),
        ("evaluator", "batch/evaluator", "epoch/evaluator"),
        ("test", "batch/test", "epoch/test"),
        ("loss_val", "batch/loss_val", "epoch/loss_val"),
    ],
)
def test_name_decides_the_event(name: str, key: str, with_epoch: str) -> None:
    for values, expected in (({name: 1.0}, key), ({name: 1.0, "epoch": 3}, with_epoch)):
        ((where, named),) = event_of(values)
        assert named == {name: 1.0}
        assert Names().resolve(named, where) == {name: expected}


def test_events_keep_their_order_and_nested_values_are_flattened() -> None:
    values = {"accuracy": {"glue": {"f1": 0.5}}, "train_loss": 1.0, "eval": {"loss": 2.0}, "epoch": 1, "step": 7}
    assert event_of(values) == [
        (Where("epoch", ""), {"accuracy/glue/f1": 0.5}),
        (Where("epoch"), {"train_loss": 1.0}),
        (Where("epoch", "val"), {"eval/loss": 2.0}),
    ]
    assert event_of({"loss": 1, "lr": 2}) == [(BATCH, {"loss": 1, "lr": 2})]
    assert event_of({"epoch": 1}) == event_of({}) == []


def test_none_is_left_out() -> None:
    assert event_of({"val_acc": None, "glue": {"f1": None, "acc": 1}, "epoch": None}) == [(BATCH, {"glue/acc": 1})]


def test_position_is_read_from_the_values() -> None:
    assert position_of({"step": 7, "epoch": 1.5, "loss": math.nan}) == (7, 1.5)
    assert position_of({"global_step": 7.0}) == (7, None)
    assert position_of({"step": "seven", "epoch": math.nan}) == (None, None)
    assert position_of({"step": np.int64(7), "epoch": np.float32(0.5)}) == (7, 0.5)
