"""The summary columns of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.run_info import run_info
from trackkit.callbacks.final_summary import FinalSummary
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Moment
from trackkit.engine.tracker import Tracker
from trackkit.engine.window import Window
from trackkit.integrations.memory import MemorySink
from trackkit.schema.keys import Where, describe


def columns(
    *evaluations: dict[str, float], where: Where | None = None, info: Any = None, **options: Any
) -> dict[str, Any]:
    """Returns the summary after evaluations at steps 10, 20, ..."""
    sink = MemorySink()
    tracker = Tracker([FinalSummary(**options)], [sink], Exchange())
    tracker.start(run_info(Path.cwd(), **(info or {})))
    for number, values in enumerate(evaluations, 1):
        tracker.batch(steps=1)
        tracker.row(Moment(10 * number, float(number)))
        tracker.report(values, where or Where("epoch", "val"), 10 * number, float(number))
    tracker.end("finished")
    assert tracker.faults.count == 0
    assert all(describe(key) for key in sink.columns)
    assert all(math.isfinite(value) for value in sink.columns.values() if isinstance(value, float))
    return sink.columns


def best(found: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("final/best/"): value for key, value in found.items() if key.startswith("final/best/")}


def test_summary_has_the_last_value_of_each_metric_and_the_totals() -> None:
    found = columns({"val_acc": 0.5, "val_loss": 2.0}, {"val_acc": 0.75})
    assert (found["final/val/acc"], found["final/val/loss"]) == (0.75, 2.0)
    assert (found["final/steps"], found["final/epochs"], found["final/status"]) == (20, 2.0, "finished")
    assert 0 < found["final/duration_h"] < 0.01
    assert {"final/gpu_hours", "final/cost_usd", "final/energy_kWh"}.isdisjoint(found)


def test_last_finite_value_is_kept() -> None:
    found = columns({"loss": 2.0, "f1": math.nan}, {"loss": math.nan}, {"loss": math.inf})
    assert found["final/val/loss"] == 2.0
    assert "final/val/f1" not in found
    assert best(found) == {"val/loss": 2.0, "val/loss_step": 10}


LOSSES = [{"val_loss": value, "val_acc": 1 - value} for value in (0.5, 0.25, math.nan, 0.75)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"val/loss": 0.25, "val/loss_step": 20}),
        ({"monitor": "epoch/val/loss"}, {"val/loss": 0.25, "val/loss_step": 20}),
        ({"monitor": "epoch/val/loss", "goal": "max"}, {"val/loss": 0.75, "val/loss_step": 40}),
        ({"monitor": "val_acc"}, {"val/acc": 0.75, "val/acc_step": 20}),
        ({"monitor": "epoch/val/acc", "goal": "min"}, {"val/acc": 0.25, "val/acc_step": 40}),
        ({"monitor": "nothing"}, {}),
        ({"info": {"monitor": "val_acc", "goal": "min"}}, {"val/acc": 0.25, "val/acc_step": 40}),
        ({"info": {"monitor": "val_acc"}}, {"val/acc": 0.75, "val/acc_step": 20}),
        (
            {"monitor": "val_loss", "info": {"monitor": "val_acc", "goal": "max"}},
            {"val/loss": 0.25, "val/loss_step": 20},
        ),
        ({"goal": "max", "info": {"monitor": "val_loss", "goal": "min"}}, {"val/loss": 0.75, "val/loss_step": 40}),
    ],
)
def test_best_follows_the_monitored_metric(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert best(columns(*LOSSES, **options)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", 1), ("my_loss", 1), ("perplexity", 1), ("wer", 1), ("acc", 2), ("lossless_ratio", 2), ("f1", 2)],
)
def test_goal_defaults_to_the_direction_of_the_metric_s_name(name: str, value: float) -> None:
    assert best(columns({name: 1}, {name: 2}, monitor=name))[f"val/{name}"] == value


def test_first_of_equal_values_is_the_best() -> None:
    assert best(columns({"loss": 1.0}, {"loss": 1.0}))["val/loss_step"] == 10


def test_evaluation_sets_have_own_columns() -> None:
    found = columns({"val_loss": 2.0}, {"val_loss": 1.0}, where=Where("epoch", "val", "hard"))
    assert found["final/val/hard/loss"] == 1.0
    assert best(found) == {"val/hard/loss": 1.0, "val/hard/loss_step": 20}


def test_gpu_hours_and_cost_cover_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run claims to have CUDA, and the clock advances by two hours."""
    now = [100.0]
    monkeypatch.setattr("trackkit.engine.stopwatch.now", lambda: now[0])
    callback = FinalSummary(price_per_gpu_hour=2.5)
    callback.start(run_info(Path.cwd(), world_size=4, device="cuda:0"))
    callback.row(Moment(step=1), Window())
    now[0] += 7200
    callback.ended()
    found = callback.final()
    assert (found["final/duration_h"], found["final/gpu_hours"], found["final/cost_usd"]) == (2.0, 8.0, 20.0)


def test_price_without_a_gpu_gives_no_cost() -> None:
    assert "final/cost_usd" not in columns({"loss": 1.0}, price_per_gpu_hour=2.5)
