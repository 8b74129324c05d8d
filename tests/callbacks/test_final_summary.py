"""The summary columns of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.run_info import run_info
from trackkit import ConfigError, TrackKit
from trackkit.callbacks.final_summary import FinalSummary
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Moment
from trackkit.engine.tracker import Tracker
from trackkit.engine.window import Window
from trackkit.integrations.memory import MemorySink
from trackkit.schema.keys import Where, describe


def columns(
    *evaluations: dict[str, float],
    where: Where | None = None,
    info: Any = None,
    warnings: list[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Returns the summary after evaluations at steps 10, 20, ...; adds to `warnings` those of the end."""
    sink = MemorySink()
    tracker = Tracker([FinalSummary(**options)], [sink], Exchange())
    tracker.start(run_info(Path.cwd(), **(info or {})))
    for number, values in enumerate(evaluations, 1):
        tracker.batch(steps=1)
        tracker.row(Moment(10 * number, float(number)))
        tracker.report(values, where or Where("epoch", "val"), 10 * number, float(number))
    tracker.end("finished")
    if warnings is not None:
        warnings += tracker.warnings()
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


VALUES = [{"val_loss": value, "val_acc": 1 - value, "val_x": value} for value in (0.5, 0.25, math.nan, 0.75)]
LOSS, ACC = {"val/loss": 0.25, "val/loss_step": 20}, {"val/acc": 0.75, "val/acc_step": 20}
WORST_LOSS, WORST_ACC = {"val/loss": 0.75, "val/loss_step": 40}, {"val/acc": 0.25, "val/acc_step": 40}
MOST, LEAST = {"val/x": 0.75, "val/x_step": 40}, {"val/x": 0.25, "val/x_step": 20}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, LOSS | ACC),
        ({"monitor": "val_acc"}, LOSS | ACC),
        ({"monitor": "epoch/val/loss", "goal": "max"}, WORST_LOSS | ACC),
        ({"monitor": "val/loss", "goal": "max"}, WORST_LOSS | ACC),
        ({"monitor": "val_acc", "goal": "min"}, LOSS | WORST_ACC),
        ({"monitor": "x"}, LOSS | ACC | MOST),
        ({"monitor": "val/x", "goal": "min"}, LOSS | ACC | LEAST),
        ({"info": {"monitor": "val_acc", "goal": "min"}}, LOSS | WORST_ACC),
        ({"info": {"monitor": "val_x"}}, LOSS | ACC | MOST),
        ({"monitor": "val_loss", "info": {"monitor": "val_x", "goal": "min"}}, LOSS | ACC | LEAST),
        ({"monitor": "val/x", "info": {"monitor": "val_x", "goal": "min"}}, LOSS | ACC | LEAST),
        ({"monitor": "val_x", "goal": "max", "info": {"monitor": "val_x", "goal": "min"}}, LOSS | ACC | MOST),
    ],
)
def test_best_has_metrics_of_known_direction_and_the_monitor_with_its_goal(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert best(columns(*VALUES, **options)) == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_and_test_metrics_have_no_best(split: Any) -> None:
    found = columns({"loss": 2.0, "acc": 0.5}, where=Where("epoch", split), info={"monitor": f"{split}_loss"})
    assert best(found) == {}
    assert found[f"final/{split}/loss"] == 2.0


@pytest.mark.parametrize(
    ("monitor", "notice"),
    [
        ("val/lss", "which no validation has logged; did you mean 'val/loss'? Logged: val/acc, val/loss, val/x"),
        ("nothing", "which no validation has logged. Logged: val/acc, val/loss, val/x"),
        ("train_loss", "Logged: val/acc, val/loss, val/x"),
        ("epoch/val/acc", ""),
    ],
)
def test_unknown_monitor_is_a_warning_at_the_end(monitor: str, notice: str) -> None:
    found: list[str] = []
    assert best(columns(*VALUES, monitor=monitor, warnings=found)) == LOSS | ACC
    assert len(found) == bool(notice)
    assert not notice or (f"'{monitor}'" in found[0] and notice in found[0])


def test_goal_without_monitor_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'goal' is 'max', but 'monitor' is missing"):
        TrackKit(callbacks={"final_summary": {"goal": "max"}})


@pytest.mark.parametrize("name", ["my_metric", "损失"])
def test_monitor_without_a_goal_or_a_known_direction_is_better_higher(name: str) -> None:
    assert best(columns({name: 1}, {name: 2}, monitor=name))[f"val/{name}"] == 2


@pytest.mark.parametrize("monitor", ["val/hard/loss", "epoch/val/hard/loss"])
def test_goal_of_a_monitored_set(monitor: str) -> None:
    found = columns({"loss": 1.0}, {"loss": 2.0}, where=Where("epoch", "val", "hard"), monitor=monitor, goal="max")
    assert best(found) == {"val/hard/loss": 2.0, "val/hard/loss_step": 20}


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
