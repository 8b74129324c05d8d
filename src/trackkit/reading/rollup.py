"""Rolls runs up by groups: how many, mean and spread over seeds, the best, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs
from trackkit.reading.statistics import is_number, sample
from trackkit.schema.goals import direction

# The bill's columns, of which the first that any run has is the budget.
_BUDGET = ("final/cost_usd", "final/gpu_hours", "duration_h")
_SHARE = 0.8
_BILLED = ("final/gpu_hours", "final/energy_kWh", "final/cost_usd")


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


def best_of(values: Sequence[Any], column: str) -> float | None:
    """Returns the best number among values; None where the column does not say whether less or more is better."""
    found, goal = sample(values), direction(column)
    return None if not found.n or goal is None else found.least if goal == "min" else found.most


def bill(runs: Runs) -> Bill:
    """Returns what runs cost together."""
    hours, gpus, energy, cost = (_sum(runs, name) for name in ("duration_h", *_BILLED))
    best = [(row["best"], row["best_key"]) for row in runs.table if "best_key" in row]
    key = best[0][1] if best else ""
    most = max((value for value, other in best if other == key and is_number(value)), default=0.0)
    per_point = cost / most if cost is not None and most > 0 and direction(key) == "max" else None
    return Bill(hours, gpus, energy, cost, per_point)


def budget(runs: Runs) -> tuple[str, list[tuple[RecordedRun, float]]]:
    """Returns the fewest runs that took 80% of the budget, with the share of each.

    The budget is dollars, else GPU hours, else hours, whichever any run has recorded; its column comes first.
    """
    for column in _BUDGET:
        spent = [float(row[column]) if is_number(row.get(column)) else 0.0 for row in runs.table]
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
    found = [row[column] for row in runs.table if is_number(row.get(column))]
    return float(sum(found)) if found else None
