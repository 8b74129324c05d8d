"""The W&B step of each row, and the axis of each key."""

from __future__ import annotations

from math import nan
from typing import Any

import pytest

from trackkit.integrations.wandb.steps import Steps, define


def test_rows_keep_their_own_steps() -> None:
    steps = Steps()
    assert [steps.place(step, {"a": step}) for step in (0, 1, 5)] == [0, 1, 5]


def test_equal_and_new_values_share_a_step() -> None:
    steps = Steps()
    assert [steps.place(3, {"a": 1, "n": nan}), steps.place(3, {"a": 1, "n": nan, "b": 2})] == [3, 3]


@pytest.mark.parametrize("changed", [2, nan])
def test_changed_value_moves_to_the_next_step(changed: float) -> None:
    steps = Steps()
    assert [steps.place(3, {"a": 1}), steps.place(3, {"a": changed}), steps.place(3, {"a": changed})] == [3, 4, 4]


def test_steps_never_go_backwards() -> None:
    steps = Steps()
    assert [steps.place(9, {"a": 1}), steps.place(4, {"b": 1}), steps.place(5, {"a": 2})] == [9, 9, 10]


def test_moved_counter_is_followed() -> None:
    steps = Steps()
    assert [steps.place(3, {"a": 1}, counter=7), steps.place(4, {"a": 2}), steps.place(20, {"a": 3}, 9)] == [7, 8, 20]


@pytest.mark.parametrize(("step", "expected"), [(2, 8), (7, 8), (8, 8), (11, 11)])
def test_nothing_merges_into_a_row_with_unknown_values(step: int, expected: int) -> None:
    steps = Steps(7)
    assert steps.place(step, {"a": 1}) == expected
    assert steps.place(step, {"b": 1}) == expected


@pytest.mark.parametrize(
    ("key", "axis", "expected"),
    [
        ("batch/loss", "", ("batch/step", "none")),
        ("batch/step", "", (None, "none")),
        ("epoch/val/loss", "", ("epoch/step", None)),
        ("val_loss", "epoch/step", ("epoch/step", None)),
    ],
)
def test_each_key_gets_its_axis(key: str, axis: str, expected: tuple[str | None, str | None]) -> None:
    run = Definitions()
    define(run, key, "step", axis)
    assert run.defined == {key: expected}


class Definitions:
    """Keeps what is defined."""

    def __init__(self) -> None:
        self.defined: dict[str, tuple[str | None, str | None]] = {}

    def define_metric(self, name: str, step_metric: str | None = None, *, summary: str | None = None) -> Any:
        self.defined[name] = (step_metric, summary)
