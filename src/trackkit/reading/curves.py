"""Curves of a metric as NumPy arrays: along any axis, reduced to buckets, smoothed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.columns import is_speed
from trackkit.schema.keys import axis_key

Floats = NDArray[np.float64]
Axis = Literal["step", "samples", "tokens", "time"]

# A curve of so few points is not smoothed.
FEW = 20
AXES: tuple[Axis, ...] = ("step", "samples", "tokens", "time")
# What a reader looks at first, in this order; then the other validation metrics.
_FIRST = ("batch/loss", "epoch/val/loss", "epoch/train/loss")
_NEXT = ("batch/grad_norm", "batch/lr", "batch/samples_per_s", "batch/step_time_s", "batch/data_time_s")


@dataclass(frozen=True)
class Curve:
    """A metric of a run along an axis; of a repeated step the later attempt's value.

    Attributes:
        key: of the metric.
        x: optimizer steps, samples, tokens, or seconds since the run's first row; shape [n].
        y: values, NaN and infinities included; shape [n].
    """

    key: str
    x: Floats
    y: Floats

    def __len__(self) -> int:
        return len(self.x)

    @property
    def finite(self) -> Curve:
        """The curve without NaN and infinities."""
        kept = np.isfinite(self.y) & np.isfinite(self.x)
        return self if kept.all() else Curve(self.key, self.x[kept], self.y[kept])


@dataclass(frozen=True)
class Buckets:
    """A curve reduced to at most n buckets of neighboring points; each has its extremes, and none is lost.

    Attributes:
        x: of the bucket's last point; shape [n].
        mean, least, most: of the bucket's finite values, NaN where it has none; shape [n].
        nonfinite: how many values of the bucket are NaN or infinite; shape [n].
        size: points in each bucket but the last.
        ends: index of the bucket's last point in the curve; shape [n].
    """

    x: Floats
    mean: Floats
    least: Floats
    most: Floats
    nonfinite: NDArray[np.int64]
    size: int
    ends: NDArray[np.int64]

    def smoothed(self, weight: float) -> Floats:
        """Returns the means, smoothed as by an exponential moving average over the points.

        The average is divided by the sum of its weights, as Adam's are (Kingma and Ba, 2015, section 3), so that it
        doesn't start at 0. The means that are NaN stay NaN. At most 20 points, such as evaluations, are not smoothed.

        Args:
            weight: of the past at each point, from 0 (no smoothing) to below 1.
        """
        if len(self.mean) <= FEW:
            return self.mean
        past = weight**self.size
        value = total = 0.0
        found = np.full(len(self.mean), np.nan)
        for number, mean in enumerate(self.mean.tolist()):
            if mean == mean:
                value, total = past * value + (1 - past) * mean, past * total + (1 - past)
                found[number] = value / total
        return found


class Curves:
    """The metrics of a run as arrays; several of them, on several axes, cost little more than one.

    Args:
        run: the run.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._run = run
        self._dicts = [row.values for row in run.lineage]
        self._columns: dict[str, tuple[NDArray[np.int64], Floats]] = {}

    def curve(self, key: str, axis: Axis = "step") -> Curve:
        """Returns a metric, given whole; empty where the run does not have the key or the axis."""
        places, y = self._column(key)
        if axis == "time":
            return Curve(key, self._seconds[places], y)
        if axis == "step":
            at, steps = self._column(axis_key(key))
            if np.array_equal(at, places):
                return Curve(key, steps, y)
            x = self._numbers.copy()
            x[at] = steps
            return Curve(key, x[places], y)
        at, counts = self._column(f"batch/{axis}")
        if not len(at):
            return Curve(key, np.empty(0), np.empty(0))
        before = np.searchsorted(self._steps[at], self._steps[places], side="right") - 1
        return Curve(key, np.where(before >= 0, counts[np.maximum(before, 0)], 0.0), y)

    def _column(self, key: str) -> tuple[NDArray[np.int64], Floats]:
        """Returns the places of the rows that have a number for a key, and the numbers."""
        if key not in self._columns:
            places = [place for place, values in enumerate(self._dicts) if key in values]
            found = [self._dicts[place][key] for place in places]
            if not {*map(type, found)} <= {int, float, bool}:
                kept = [number for number, value in enumerate(found) if isinstance(value, (int, float))]
                places, found = [places[number] for number in kept], [found[number] for number in kept]
            self._columns[key] = (np.array(places, dtype=np.int64), _floats(found))
        return self._columns[key]

    @cached_property
    def _numbers(self) -> Floats:
        return np.array([row.number for row in self._run.lineage], dtype=float)

    @cached_property
    def _steps(self) -> Floats:
        return np.array([row.step for row in self._run.lineage], dtype=float)

    @cached_property
    def _seconds(self) -> Floats:
        began = min((row.time for row in self._run.rows), default=0.0)
        return np.array([row.time - began for row in self._run.lineage], dtype=float)


def _floats(values: Sequence[float]) -> Floats:
    try:
        return np.array(values, dtype=float)
    except OverflowError:
        # JSON has integers that no float can hold.
        held = (value if not abs(value) >= 2**1023 else math.inf if value > 0 else -math.inf for value in values)
        return np.array(list(held), dtype=float)


def curve(run: RecordedRun, key: str, axis: Axis = "step") -> Curve:
    """Returns a metric of a run.

    Args:
        run: the run.
        key: as `RecordedRun.series` takes it.
        axis: `samples` and `tokens` of epoch metrics are those of the last batch row before them; where the run has
            none the curve is empty.

    Raises:
        ReadError: no key is meant, or several are.
    """
    return Curves(run).curve(run.find_key(key), axis)


def buckets(of: Curve, most: int = 400) -> Buckets:
    """Reduces a curve; smooth its means, never its extremes.

    Args:
        of: the curve.
        most: number of buckets.
    """
    count = len(of)
    size = max(1, -(-count // most))
    number = -(-count // size)
    spare = number * size - count
    y = np.concatenate([of.y, np.full(spare, np.nan)]).reshape(number, size)
    finite = np.isfinite(y)
    counts = finite.sum(axis=1)
    filled = np.where(finite, y, 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.where(counts > 0, filled.sum(axis=1) / counts, np.nan)
    least = np.where(counts > 0, np.where(finite, y, np.inf).min(axis=1, initial=np.inf), np.nan)
    top = np.where(counts > 0, np.where(finite, y, -np.inf).max(axis=1, initial=-np.inf), np.nan)
    lost = size - counts
    if number:
        lost[-1] -= spare
    ends = np.minimum(np.arange(1, number + 1) * size, count) - 1
    return Buckets(of.x[ends], mean, least, top, lost.astype(np.int64), size, ends)


def log_spaced(steps: Floats, most: int) -> Floats:
    """Returns at most `most` of these rising steps, log-spaced, the first and the last among them."""
    if len(steps) <= most:
        return steps
    chosen: Floats = steps[np.unique(np.geomspace(1, len(steps), most).round().astype(int)) - 1]
    return chosen


def at_steps(of: Curve, steps: Sequence[float] | Floats) -> Floats:
    """Returns a curve's value at given steps: the last one at or before each; NaN before the first."""
    if not len(of):
        return np.full(len(steps), np.nan)
    places = np.searchsorted(of.x, np.asarray(steps, dtype=float), side="right") - 1
    return np.where(places >= 0, of.y[np.maximum(places, 0)], np.nan)


def main_keys(runs: Sequence[RecordedRun], most: int = 8, results: bool = False) -> list[str]:
    """Returns the keys that a reader looks at first, as `first_keys` does.

    Args:
        runs: the runs that have them.
        most: at most so many.
        results: whether to leave out what only tells how training went.
    """
    return first_keys({key for run in runs for key in run.keys}, most, results)


def first_keys(known: Iterable[str], most: int = 8, results: bool = False) -> list[str]:
    """Returns what a reader looks at first: losses, validation metrics, then what tells how training went."""
    known = set(known)
    validation = sorted(key for key in known if key.startswith("epoch/val/") and not is_speed(key))
    ordered = [*_FIRST, *validation, *(() if results else _NEXT)]
    return [key for number, key in enumerate(ordered) if key in known and key not in ordered[:number]][:most]
