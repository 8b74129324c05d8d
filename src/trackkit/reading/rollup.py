"""Rolls runs up by groups: how many, mean and spread over seeds, the best, and what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs
from trackkit.reading.statistics import is_number, sample
from trackkit.schema.goals import direction

# Of these columns, the first that any run has is the budget.
_BUDGET = ("cost", "gpu_hours", "duration_h")
_SHARE = 0.8


@dataclass(frozen=True)
class Spread:
    """A column over the runs of a group; what no run has, or what can't be known, is None.

    Attributes:
        mean: of the runs that have a finite number.
        sd: sample standard deviation (n - 1), of two runs or more.
        n: runs that have a finite number.
        best: the best of them, where the column's name says whether less or more is better.
    """

    mean: float | None
    sd: float | None
    n: int
    best: float | None


@dataclass(frozen=True)
class Bill:
    """What the runs of a group cost together; None where none of them has recorded it.

    Attributes:
        duration_h, gpu_hours, energy_kWh: hours, GPU hours, kilowatt hours.
        cost: US dollars.
        best: best value of the monitored metric; of several metrics, of the one that most runs have.
        best_key: its column.
        cost_per_point: `cost` divided by `best`, where more of the metric is better.
    """

    duration_h: float | None
    gpu_hours: float | None
    energy_kWh: float | None
    cost: float | None
    best: float | None
    best_key: str | None
    cost_per_point: float | None


def main_metric(runs: Runs) -> str | None:
    """Returns the column with the best value of the monitored metric that most runs have; None without any."""
    found = Counter(row["best_key"] for row in runs.table if "best_key" in row)
    return found.most_common(1)[0][0] if found else None


def spread(runs: Runs, column: str) -> Spread:
    """Returns mean, deviation and best of a column or an expression.

    Raises:
        ExpressionError: the text is no expression, or names an unknown column.
    """
    found, goal = sample(runs.column(column)), direction(column)
    best = None if goal is None else found.least if goal == "min" else found.most
    return Spread(
        found.mean if found.n else None, found.sd if found.n > 1 else None, found.n, best if found.n else None
    )


def bill(runs: Runs) -> Bill:
    """Returns what runs cost together."""
    hours, gpus, energy, cost = (_sum(runs, name) for name in ("duration_h", "gpu_hours", "final/energy_kWh", "cost"))
    key = main_metric(runs)
    best = spread(runs, key).best if key is not None else None
    per_point = cost / best if cost and best and best > 0 and direction(key or "") == "max" else None
    return Bill(hours, gpus, energy, cost, best, key, per_point)


def budget(runs: Runs) -> tuple[str, float, list[tuple[RecordedRun, float]]]:
    """Returns what the budget is, all of it, and the fewest runs that took 80% of it, with the share of each.

    The budget is `cost`, else `gpu_hours`, else `duration_h`, whichever any run has recorded.
    """
    for column in _BUDGET:
        spent = [float(row[column]) if is_number(row.get(column)) else 0.0 for row in runs.table]
        total = sum(spent)
        if total > 0:
            break
    else:
        return "", 0.0, []
    # The sum may be more than a float can hold; that of the ratios is not.
    largest = max(spent)
    ratios = [each / largest for each in spent]
    whole, found, so_far = sum(ratios), [], 0.0
    for number in sorted(range(len(runs)), key=lambda each: -spent[each]):
        if so_far >= _SHARE * whole:
            break
        so_far += ratios[number]
        found.append((runs[number], ratios[number] / whole))
    return column, total, found


def _sum(runs: Runs, column: str) -> float | None:
    found = [row[column] for row in runs.table if is_number(row.get(column))]
    return sum(map(float, found)) if found else None
