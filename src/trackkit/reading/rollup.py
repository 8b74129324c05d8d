"""Rolls runs up by groups: how many, mean and spread over seeds, the best, and what they cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs
from trackkit.schema.goals import direction

# The bill's columns, of which the first that any run has is the budget.
_BUDGET = ("final/cost_usd", "final/gpu_hours", "duration_h")
_SHARE = 0.8
_BILLED = ("final/gpu_hours", "final/energy_kWh", "final/cost_usd")


@dataclass(frozen=True)
class Spread:
    """A number over the runs of a group.

    Attributes:
        n: runs that have it.
        mean: NaN without any.
        sd: sample standard deviation (n - 1); NaN with fewer than two.
        best: the best value, where the column's name says whether less or more is better; else None.
    """

    n: int
    mean: float
    sd: float
    best: float | None


@dataclass(frozen=True)
class Bill:
    """What the runs of a group cost; None where no run has recorded it.

    Attributes:
        hours, gpu_hours, energy_kwh, cost_usd: sums.
        usd_per_point: dollars divided by the best value of the group, where more of it is better.
    """

    hours: float | None
    gpu_hours: float | None
    energy_kwh: float | None
    cost_usd: float | None
    usd_per_point: float | None


def spread(values: Sequence[Any], column: str) -> Spread:
    """Returns mean, standard deviation and best of the numbers among values.

    Args:
        values: of a column, one per run; what is no finite number is left out.
        column: its name.
    """
    numbers = [float(value) for value in values if _is_number(value)]
    goal = direction(column)
    best = None if not numbers or goal is None else min(numbers) if goal == "min" else max(numbers)
    mean = statistics.fmean(numbers) if numbers else math.nan
    return Spread(len(numbers), mean, statistics.stdev(numbers) if len(numbers) > 1 else math.nan, best)


def bill(runs: Runs) -> Bill:
    """Returns what runs cost together."""
    hours, gpus, energy, cost = (_sum(runs, name) for name in ("duration_h", *_BILLED))
    best = [(row["best"], row["best_key"]) for row in runs.table if "best_key" in row]
    key = best[0][1] if best else ""
    most = max((value for value, other in best if other == key and _is_number(value)), default=0.0)
    per_point = cost / most if cost is not None and most > 0 and direction(key) == "max" else None
    return Bill(hours, gpus, energy, cost, per_point)


def budget(runs: Runs) -> tuple[str, list[tuple[RecordedRun, float]]]:
    """Returns the fewest runs that took 80% of the budget, with the share of each.

    The budget is dollars, else GPU hours, else hours, whichever any run has recorded; its column comes first.
    """
    for column in _BUDGET:
        spent = [float(row[column]) if _is_number(row.get(column)) else 0.0 for row in runs.table]
        total = sum(spent)
        if total > 0:
            break
    else:
        return "", []
    found, so_far = [], 0.0
    for number in sorted(range(len(runs)), key=lambda each: -spent[each]):
        if so_far >= _SHARE * total:
            break
        so_far += spent[number]
        found.append((runs[number], spent[number] / total))
    return column, found


def _sum(runs: Runs, column: str) -> float | None:
    found = [row[column] for row in runs.table if _is_number(row.get(column))]
    return float(sum(found)) if found else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
