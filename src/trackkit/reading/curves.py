"""Curves of a metric as NumPy arrays: along any axis, reduced to buckets, smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trackkit.local_log.recorded import RecordedRun
from trackkit.schema.keys import axis_key

Floats = NDArray[np.float64]
Axis = Literal["step", "samples", "tokens", "time"]

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
    """

    x: Floats
    mean: Floats
    least: Floats
    most: Floats
    nonfinite: NDArray[np.int64]
    size: int


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
    key = run.find_key(key)
    rows = run.rows_with(key)
    values = [row.values[key] for row in rows]
    if not set(map(type, values)) <= {float, int}:
        rows = [row for row in rows if isinstance(row.values[key], (int, float))]
        values = [row.values[key] for row in rows]
    y = np.array(values, dtype=float)
    if axis == "time":
        began = min((row.time for row in run.rows), default=0.0)
        return Curve(key, np.array([row.time - began for row in rows], dtype=float), y)
    own = axis_key(key)
    x = np.array([row.values.get(own, row.number) for row in rows], dtype=float)
    if axis == "step":
        return Curve(key, x, y)
    counts = run.rows_with(f"batch/{axis}")
    if not counts:
        return Curve(key, np.empty(0), np.empty(0))
    steps = np.array([row.step for row in counts], dtype=float)
    seen = np.array([row.values[f"batch/{axis}"] for row in counts], dtype=float)
    places = np.searchsorted(steps, [row.step for row in rows], side="right") - 1
    return Curve(key, np.where(places >= 0, seen[np.maximum(places, 0)], 0.0), y)


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
    return Buckets(of.x[ends] if number else np.empty(0), mean, least, top, lost.astype(np.int64), size)


def at_steps(of: Curve, steps: Sequence[float] | Floats) -> Floats:
    """Returns a curve's value at given steps: the last one at or before each; NaN before the first."""
    if not len(of):
        return np.full(len(steps), np.nan)
    places = np.searchsorted(of.x, np.asarray(steps, dtype=float), side="right") - 1
    return np.where(places >= 0, of.y[np.maximum(places, 0)], np.nan)


def main_keys(runs: Sequence[RecordedRun], most: int = 8, results: bool = False) -> list[str]:
    """Returns the keys that a reader looks at first: losses, validation metrics, then what tells how training went.

    Args:
        runs: the runs that have them.
        most: at most so many.
        results: whether to leave out what only tells how training went.
    """
    known = set().union(*(run.keys for run in runs))
    validation = sorted(key for key in known if key.startswith("epoch/val/") and not _is_speed(key))
    ordered = [*_FIRST, *validation, *(() if results else _NEXT)]
    return [key for number, key in enumerate(ordered) if key in known and key not in ordered[:number]][:most]


def _is_speed(key: str) -> bool:
    return key.rpartition("/")[2] in ("runtime_s", "samples_per_s", "steps_per_s")
