"""Hugging Face: the last step of a stopped training makes a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from tests.support.huggingface_toys import logged, plain_loop, train
from tests.support.toy import Points

VAL = Points(5, 12)


def _stopper(hook: str) -> TrainerCallback:
    """Returns a callback that stops the training in `hook`, at the end of the second epoch."""

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= 12:
            control.should_training_stop = True

    stopper: TrainerCallback = type("Stopper", (TrainerCallback,), {hook: stop})()
    return stopper


@pytest.mark.parametrize(
    ("hook", "given"),
    [
        ("on_evaluate", {"eval_strategy": "epoch", "metric_for_best_model": "loss"}),
        ("on_evaluate", {"eval_strategy": "steps", "eval_steps": 4}),
        ("on_prediction_step", {"eval_strategy": "epoch"}),
        ("on_step_end", {"logging_steps": 12}),
        ("on_step_end", {}),
    ],
)
def test_last_step_makes_a_row_whatever_stops_the_training(tmp_path: Path, hook: str, given: dict[str, Any]) -> None:
    """The stopper comes after TrackKit. Loss and norm are in the row if the trainer logged them."""
    sink, trainer = train(
        tmp_path, after=[_stopper(hook)], val=VAL, num_train_epochs=9, **{"logging_steps": 500, **given}
    )  # fmt: skip
    assert trainer.state.global_step == 12
    steps, _ = plain_loop(epochs=9)
    row = next(row for row in sink.rows if row.tier == "batch" and row.step == 12)
    assert row.values["batch/samples"] == 48
    assert row.values["batch/step_time_s"] > 0
    if given:
        assert row.values["batch/lr"] == pytest.approx(steps[11].lr)
    assert sink.history("batch/loss") == logged(trainer, "loss")
    assert sink.history("batch/grad_norm") == logged(trainer, "grad_norm")
    assert ("batch/loss" in row.values) == ("logging_steps" in given)
    assert sink.columns["final/status"] == "stopped"


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_epoch_end_makes_no_row(tmp_path: Path, strategy: str) -> None:
    """Rows are those that the trainer logs, the first and the last: the same as under Lightning."""
    sink, _ = train(tmp_path, num_train_epochs=3, val=VAL, eval_strategy=strategy, logging_steps=4)
    assert [step for step, _ in sink.history("batch/step")] == [1, 4, 8, 12, 16, 18]
    assert [step for step, _ in sink.history("batch/loss")] == [1, 4, 8, 12, 16]
