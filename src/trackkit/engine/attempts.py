"""Decides which attempt of a repeated step counts: a resumed training repeats steps, and the local log keeps all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from trackkit.engine.records import Row
from trackkit.schema.keys import AXES


def counted(rows: Sequence[Row], repeated: Literal["first", "later"]) -> list[Row]:
    """Returns the rows with only the values that count, in order; rows left with axes alone are dropped.

    Each key counts for itself: a value counts unless another attempt recorded its key at the same step or past it.

    Args:
        rows: of all attempts, in the order written.
        repeated: `first` keeps the first attempt's value of a repeated step, as W&B does, since its history can't be
            replaced; `later` keeps the later attempt's, which is the lineage of the model.
    """
    sign = 1 if repeated == "first" else -1
    taken: dict[str, int] = {}
    reached: dict[str, int] = {}
    kept: list[Row] = []
    attempt = None
    for row in rows if sign > 0 else reversed(rows):
        if row.attempt != attempt:
            attempt, taken = row.attempt, dict(reached)
        place = sign * row.step
        lost = {key for key in row.values if key in taken and place <= taken[key]} - AXES if taken else ()
        if not lost:
            kept.append(row)
        elif row.values.keys() - lost - AXES:
            kept.append(replace(row, values={key: value for key, value in row.values.items() if key not in lost}))
        for key in row.values:
            reached[key] = max(place, reached.get(key, place))
    return kept if sign > 0 else kept[::-1]


def highest_steps(rows: Iterable[Row]) -> dict[str, int]:
    """Returns key to the highest step it was recorded at."""
    steps: dict[str, int] = {}
    for row in rows:
        for key in row.values:
            steps[key] = max(row.step, steps.get(key, row.step))
    return steps
