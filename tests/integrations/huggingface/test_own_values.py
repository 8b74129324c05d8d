"""Hugging Face: values that the user's code and libraries add to the logs."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from tests.support.huggingface_toys import Sequential, logged, make_trainer, train
from tests.support.toy import accuracy
from trackkit import SchemaError, TrackKit
from trackkit.integrations.memory import MemorySink


class Extras(Sequential):
    """Adds values to the training's logs, as TRL's trainers do."""

    extras: dict[str, Any] = {}  # noqa: RUF012

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = {**logs, **self.extras}
        super().log(logs, start_time)


class Witness(TrainerCallback):
    """Keeps a deep copy of every `logs` that it sees."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.seen.append(copy.deepcopy(logs))


def _kind(**extras: Any) -> type[Extras]:
    return type("WithExtras", (Extras,), {"extras": extras})


def test_added_values_join_the_row_of_their_step(tmp_path: Path) -> None:
    """As in TRL: `train_acc` becomes `batch/acc`, names with a slash stay, and no row is made twice."""

    class Accurate(Extras):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            right = accuracy(outputs["logits"], inputs["labels"]).item()
            self.extras = {"train_acc": right, "rewards/chosen": 2 * right, "logps/rejected": -right}
            return (loss, outputs) if return_outputs else loss

    sink, trainer = train(tmp_path, kind=Accurate)
    assert sink.history("batch/acc") == logged(trainer, "train_acc")
    assert len({value for _, value in sink.history("batch/acc")}) > 1
    assert sink.history("batch/rewards/chosen") == logged(trainer, "rewards/chosen")
    assert sink.history("batch/logps/rejected") == logged(trainer, "logps/rejected")
    assert [row.step for row in sink.rows] == [1, 2, 4, 6]
    assert all("batch/loss" in row.values and "batch/acc" in row.values for row in sink.rows)
    assert sink.settings["trackkit/renames"] == {"train_acc": "batch/acc"}


def test_scalars_of_every_kind_become_numbers(tmp_path: Path) -> None:
    """numpy scalars, tensors of one element, integers and booleans."""
    kind = _kind(
        np32=np.float32(0.5),
        np_int=np.int64(7),
        np_one=np.array([1.25]),
        zero_d=torch.tensor(0.75),
        one=torch.tensor([3.5], dtype=torch.bfloat16),
        grad=torch.ones(1, requires_grad=True) * 2,
        whole=3,
        yes=True,
    )
    sink, _ = train(tmp_path, kind=kind)
    last = sink.rows[-1].values
    expected = {"np32": 0.5, "np_int": 7, "np_one": 1.25, "zero_d": 0.75, "one": 3.5, "grad": 2, "whole": 3, "yes": 1}
    assert {name: last[f"batch/{name}"] for name in expected} == expected
    assert all(type(value) in (int, float) for value in last.values())


def test_values_that_are_no_numbers_get_one_notice_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """None gets no notice; a text, a list and a matrix get one each; the other values of the row are recorded."""
    kind = _kind(nothing=None, text="hello", many=[1, 2], matrix=torch.ones(2, 2), kept=1.5)
    with caplog.at_level(logging.WARNING, "trackkit"):
        sink, trainer = train(tmp_path, kind=kind)
    assert sink.history("batch/kept") == [(step, 1.5) for step in (1, 2, 4, 6)]
    assert sink.history("batch/loss") == logged(trainer, "loss")
    keys = {key for row in sink.rows for key in row.values}
    assert keys.isdisjoint({f"batch/{name}" for name in ("nothing", "text", "many", "matrix")})
    notices = [record.getMessage() for record in caplog.records if "not a number" in record.getMessage()]
    assert sorted(message.split("'")[1] for message in notices) == ["many", "matrix", "text"]
    assert sink.columns["final/tracker_errors"] == 0


def test_log_call_within_a_step_is_recorded_at_the_trainer_s_step(tmp_path: Path) -> None:
    """`self.log` in `compute_loss`: at the step of the trainer's log history, the last value of each step."""

    class Chatty(Sequential):
        calls = 0

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self.log({"margin": float(self.calls)})
            return super().compute_loss(*args, **kwargs)

    sink, trainer = train(tmp_path, kind=Chatty, logging_steps=3)
    assert sink.history("batch/margin") == logged(trainer, "margin") == [(step, step + 1.0) for step in range(6)]
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert [step for step, _ in sink.history("batch/loss")] == [1, 3, 6]
    assert sink.history("batch/samples") == [(1, 4), (3, 12), (6, 24)]


def test_logs_are_not_changed(tmp_path: Path) -> None:
    """Callbacks before and after TrackKit see the same logs."""
    before, after = Witness(), Witness()
    kind = _kind(train_acc=0.5, nothing=None, text="x")
    train(
        tmp_path,
        kind=kind,
        before=[before],
        after=[after],
        eval_strategy="epoch",
        val=[{"features": torch.ones(6), "labels": torch.tensor(1)}],
    )
    assert len(before.seen) == len(after.seen) > 5
    assert before.seen == after.seen


def test_strict_names_reject_an_unknown_name(tmp_path: Path) -> None:
    """The first such row raises an error that names the value; a synonym makes the name known."""
    kit = TrackKit(sinks=[MemorySink()], names="strict")
    with pytest.raises(SchemaError, match="rewad"):
        make_trainer(tmp_path / "a", [kit], kind=_kind(rewad=1.0)).train()
    sink = MemorySink()
    kit = TrackKit(sinks=[sink], names="strict", synonyms={"rewad": "reward"})
    make_trainer(tmp_path / "b", [kit], kind=_kind(rewad=1.0)).train()
    assert sink.history("batch/reward") == [(step, 1.0) for step in (1, 2, 4, 6)]


def test_logged_name_of_a_measured_key_keeps_its_own_name(tmp_path: Path) -> None:
    """`train_loss` beside the trainer's own loss."""
    sink, trainer = train(tmp_path, kind=_kind(train_loss=9.0))
    assert sink.history("batch/loss") == [(step, value) for step, value in logged(trainer, "loss")]
    assert sink.history("batch/train_loss") == [(step, 9.0) for step in (1, 2, 4, 6)]
