"""What detectors look at: the curves of one run, how its loss went, and its config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs
from trackkit.reading.curves import Curve, Curves, Floats
from trackkit.schema.goals import direction

# Curves of a loss that is to fall, in this order.
_LOSSES = ("batch/loss", "epoch/train/loss")
# Gaussian noise of standard deviation s has neighbors that differ by 0.954 s in the median.
_MEDIAN_OF_DIFFERENCES = 0.954


@dataclass(frozen=True)
class Course:
    """How a curve went.

    Attributes:
        start: median of the first three values; the first where the curve is short or rises at once.
        end: median of the last tenth, three values at least.
        least, most: extremes.
        noise: standard deviation of neighboring values, without the trend.
    """

    start: float
    end: float
    least: float
    most: float
    noise: float

    @property
    def scale(self) -> float:
        """What a change is measured against: the size of the first value, or the noise where that is more."""
        return max(abs(self.start), 3 * self.noise, 1e-12)


class Evidence:
    """The curves of a run, and what they show.

    Args:
        run: the run.
        others: runs to compare it with.
    """

    def __init__(self, run: RecordedRun, others: Runs) -> None:
        self.run, self.others = run, others
        self._curves: dict[str, Curve] = {}

    @cached_property
    def _all(self) -> Curves:
        return Curves(self.run)

    def curve(self, key: str) -> Curve:
        """Returns a metric along the steps, NaN included; empty if the run has none."""
        if key not in self._curves:
            self._curves[key] = self._all.curve(key)
        return self._curves[key]

    def finite(self, key: str) -> Curve:
        """Returns the finite values of a metric."""
        return self.curve(key).finite

    @cached_property
    def loss(self) -> Curve:
        """The training loss, finite values only; empty if there is none.

        Without rows that had a NaN: Hugging Face shows another value in its place (`logging_nan_inf_filter`).
        """
        found = next((each for each in map(self.finite, _LOSSES) if len(each) > 1), self.finite(_LOSSES[0]))
        bad = self.curve("batch/nonfinite")
        kept = ~np.isin(found.x, bad.x[bad.y > 0])
        return found if kept.all() else Curve(found.key, found.x[kept], found.y[kept])

    @cached_property
    def course(self) -> Course:
        """How the training loss went."""
        return course(self.loss.y)

    @cached_property
    def validation(self) -> dict[str, Curve]:
        """Validation metrics whose direction is known, with two values at least; losses first."""
        keys = [key for key in self.run.keys if key.startswith("epoch/val/") and direction(key)]
        keys.sort(key=lambda key: (not key.endswith("/loss"), "loss" not in key, key))
        return {key: self.finite(key) for key in keys if len(self.finite(key)) > 1}

    @cached_property
    def val_loss(self) -> Curve:
        """The first validation loss that has a training loss of the same kind; empty if there is none."""
        key = next((key for key in self.validation if key.rpartition("/")[2] == "loss"), "")
        return self.validation.get(key, Curve("", np.empty(0), np.empty(0)))

    @cached_property
    def train_at_val(self) -> Floats:
        """The training loss at each value of `val_loss`: the mean of the rows since the one before, ten at most."""
        ends = np.searchsorted(self.loss.x, self.val_loss.x, side="right").clip(min=1)
        begins = np.maximum(np.concatenate([[0], ends[:-1]]), ends - 10)
        begins = np.where(begins < ends, begins, ends - 1)
        sums = np.concatenate([[0.0], np.cumsum(self.loss.y)])
        means: Floats = (sums[ends] - sums[begins]) / (ends - begins)
        return means

    @cached_property
    def improves(self) -> bool:
        """Whether a metric other than the loss got clearly better: what the loss does then means little."""
        others = [key for key in self.run.keys if key.startswith("batch/") and direction(key) == "max"]
        curves = [*self.validation.values(), *(self.finite(key) for key in others)]
        return any(_gets_better(each) for each in curves if len(each) > 1)

    @cached_property
    def adversarial(self) -> bool:
        """Whether several optimizers train, as in a GAN: their losses keep a balance rather than fall."""
        return "optim/1/class" in self.config

    @cached_property
    def good_already(self) -> bool:
        """Whether an accuracy was over 0.8 at every evaluation: there was little to learn."""
        return any(
            direction(key) == "max" and len(each) and 0.8 < float(each.y.min()) <= float(each.y.max()) <= 1
            for key, each in self.validation.items()
        )

    @cached_property
    def learned(self) -> bool:
        """Whether the training loss fell: see `falls`."""
        return falls(self.loss.y)

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's config."""
        return self.run.config

    def number(self, *names: str) -> float | None:
        """Returns the first of several settings that is a number."""
        found = (self.config.get(name) for name in names)
        return next((float(value) for value in found if isinstance(value, (int, float)) and value is not True), None)

    @cached_property
    def steps(self) -> float:
        """Optimizer steps that have a row."""
        return max((float(each.x[-1]) for each in (self.curve("batch/lr"), self.loss) if len(each)), default=0.0)

    @cached_property
    def planned(self) -> float:
        """Optimizer steps that were planned; 0 if unknown."""
        planned = self.finite("batch/iter_num")
        return float(planned.y[-1]) if len(planned) else 0.0

    @property
    def ended(self) -> bool:
        """Whether training came to its planned end."""
        return self.run.status == "finished"

    @cached_property
    def adaptive(self) -> bool:
        """Whether the optimizer divides by the gradient's size, as Adam does."""
        name = str(self.config.get("optim/class", "")).lower()
        return any(word in name for word in ("adam", "lion", "adagrad", "rmsprop", "lamb", "muon", "adafactor"))

    def since(self, of: Curve, mask: Any) -> float:
        """Returns the first step at which a mask over a curve is true."""
        return float(of.x[int(np.argmax(mask))])


def course(y: Floats) -> Course:
    """Returns how a curve went; NaN throughout if it is empty."""
    if not len(y):
        return Course(*[float("nan")] * 5)
    last = y[-max(3, len(y) // 10) :]
    start, spread = float(y[0]), noise(y)
    early = float(np.median(y[:3]))
    if len(y) >= 12 and early - start < 0.25 * abs(start):
        start = early
    return Course(start, float(np.median(last)), float(y.min()), float(y.max()), spread)


def noise(y: Floats) -> float:
    """Returns the standard deviation of a curve around its trend, from the median difference of neighbors."""
    return float(np.median(np.abs(np.diff(y)))) / _MEDIAN_OF_DIFFERENCES if len(y) > 2 else 0.0


def thirds(y: Floats) -> tuple[float, float, float]:
    """Returns the means of the first and the last third, and the standard error of their difference."""
    size = max(1, len(y) // 3)
    first, last = y[:size], y[-size:]
    return float(first.mean()), float(last.mean()), float(np.sqrt((first.var() + last.var()) / size))


def falls(y: Floats, share: float = 0.03) -> bool:
    """Returns whether the mean of the last third is 3 standard errors, and a share, below that of the first."""
    if len(y) < 2:
        return False
    first, last, error = thirds(y)
    return first - last > max(3 * error if len(y) >= 9 else 0.0, share * abs(first))


def smooth(of: Curve, most: int = 20) -> Curve:
    """Returns the means of some equal parts of a curve, each at its middle step."""
    parts = max(1, min(most, len(of) // 2))
    pieces = list(zip(np.array_split(of.x, parts), np.array_split(of.y, parts), strict=True))
    x, y = ([piece[number].mean() for piece in pieces if len(piece[number])] for number in (0, 1))
    return Curve(of.key, np.array(x), np.array(y))


def _gets_better(of: Curve) -> bool:
    first, last, error = thirds(of.y)
    gain = last - first if direction(of.key) == "max" else first - last
    return gain > max(3 * error if len(of) >= 9 else 0.0, 0.1 * abs(first), 0.02)
