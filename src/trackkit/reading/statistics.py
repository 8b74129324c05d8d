"""Mean, spread and differences over seeds.

The interval of a difference of means is Welch's, which allows the groups unequal variances and sizes (B. L. Welch, "The
generalization of 'Student's' problem when several different population variances are involved", Biometrika 34, 1947).
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
NOT_IN_BOTH = "not in both"
TOO_FEW = "one run tells nothing about chance"
TOO_LARGE = "too large for an interval"
# Numbers closer than this, as a share of them, differ by rounding only.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Sample:
    """A number over the runs of a group.

    Attributes:
        n: runs that have it.
        mean: NaN without any.
        sd: sample standard deviation (n - 1); NaN with fewer than two.
        least, most: extremes; NaN without any.
    """

    n: int
    mean: float
    sd: float
    least: float
    most: float


@dataclass(frozen=True)
class MeanDifference:
    """How far the means of two groups are apart.

    Attributes:
        value: second mean minus first.
        low, high: 95% interval; NaN where a group has fewer than two runs, or SciPy is not installed.
        reason: why there is no interval; "" with one.
    """

    value: float
    low: float
    high: float
    reason: str = ""

    @property
    def is_apart(self) -> bool:
        """Whether the means differ, by more than chance as far as that is known."""
        return abs(self.value) > 0.0 and self.verdict != "not distinguishable"

    @property
    def verdict(self) -> str:
        """`different`, `equal`, `not distinguishable`, or the reason why chance can't be told."""
        if self.reason:
            return self.reason
        if self.low == self.high == 0.0:
            return "equal"
        return "not distinguishable" if self.low <= 0.0 <= self.high else "different"


def sample(values: Sequence[Any]) -> Sample:
    """Returns the mean and spread of the finite numbers among values."""
    numbers = [float(value) for value in values if is_number(value)]
    if not numbers:
        return Sample(0, math.nan, math.nan, math.nan, math.nan)
    try:
        mean, sd = _moments(numbers)
    except OverflowError:
        # Of the largest numbers, sums and squares are no floats.
        largest = max(map(abs, numbers))
        mean, sd = (largest * each for each in _moments([number / largest for number in numbers]))
    return Sample(len(numbers), mean, sd, min(numbers), max(numbers))


def _moments(numbers: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else math.nan


def mean_difference(a: Sample, b: Sample) -> MeanDifference:
    """Returns the difference of two means with Welch's 95% interval."""
    value = 0.0 if math.isclose(a.mean, b.mean, rel_tol=_ROUNDING) else b.mean - a.mean
    if not (a.n and b.n):
        return MeanDifference(value, math.nan, math.nan, NOT_IN_BOTH)
    if a.n < 2 or b.n < 2:
        return MeanDifference(value, math.nan, math.nan, TOO_FEW)
    try:
        from scipy import stats
    except ImportError:
        return MeanDifference(value, math.nan, math.nan, "no interval: pip install 'trackkit[report]'")
    # Squares of very large or small deviations are no floats; their ratios are.
    scale = max(a.sd, b.sd) or 1.0
    parts = (a.sd / scale) ** 2 / a.n, (b.sd / scale) ** 2 / b.n
    error = scale * math.sqrt(sum(parts))
    if not (math.isfinite(value) and math.isfinite(error)):
        return MeanDifference(value, math.nan, math.nan, TOO_LARGE)
    if error <= _ROUNDING * max(abs(a.mean), abs(b.mean)):
        return MeanDifference(value, value, value)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (a.n - 1) + parts[1] ** 2 / (b.n - 1))
    width = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
    return MeanDifference(value, value - width, value + width)


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
