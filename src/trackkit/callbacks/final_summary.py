"""Records the `final/*` columns of the runs table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.callbacks.nvml import energy_counter
from trackkit.engine import stopwatch
from trackkit.engine.callback import Callback, Values
from trackkit.errors import nearest
from trackkit.schema.goals import direction
from trackkit.schema.keys import Where, canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackkit.engine.records import Moment, Row
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

_AXES = ("epoch/step", "epoch/epoch")
_VAL = Where("epoch", "val")

# Lightning's marks on a metric's name: its value per epoch (if it has one per batch too), and its evaluation set.
_EPOCH = re.compile(r"_epoch(?=$|/dataloader_idx_\d+$)")
_EPOCH_AND_SET = re.compile(r"(?:_epoch)?(?:/dataloader_idx_\d+)?$")


class FinalSummary(Callback):
    """Records the last value of every epoch metric, the best of validation metrics, and what the run cost.

    | key | unit | what |
    |---|---|---|
    | `final/<split>/<name>` | as logged | last finite value |
    | `final/best/val/<name>`, `final/best/val/<name>_step` | as logged, steps | best value, and its step |
    | `final/steps`, `final/epochs` | steps, epochs | taken |
    | `final/duration_h`, `final/gpu_hours` | h | wall time of training; the same times ranks, on CUDA |
    | `final/energy_kWh` | kWh | the GPU's own counter, one rank |
    | `final/cost_usd` | US dollars | GPU hours times the price |

    A validation metric has a best value if its name says whether less or more is better (`schema.goals`), or if it is
    monitored. Metrics of training and test have none: to choose by them would be a mistake.

    Args:
        monitor: a validation metric: `val/acc`, `val_acc`, `epoch/val/acc`, or as logged. What the framework's
            checkpointing or early stopping monitors is followed too.
        goal: `min` or `max`, for `monitor`. Default: that of the framework, else by the metric's name, else `max`.
        price_per_gpu_hour: US dollars.

    Raises:
        ValueError: an argument of the wrong type or value, or `goal` without `monitor`.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("monitor", "goal", "price_per_gpu_hour")

    def __init__(
        self, monitor: str | None = None, goal: str | None = None, price_per_gpu_hour: float | None = None
    ) -> None:
        if monitor is not None and not (isinstance(monitor, str) and monitor.strip()):
            raise ValueError(f"'monitor' must be a metric's name; got {monitor!r}")
        if goal not in (None, "min", "max"):
            raise ValueError(f"'goal' must be 'min' or 'max'; got {goal!r}")
        if goal is not None and monitor is None:
            raise ValueError(f"'goal' is {goal!r}, but 'monitor' is missing: set it to the metric that the goal is for")
        price = price_per_gpu_hour
        if price is not None and (isinstance(price, bool) or not isinstance(price, (int, float)) or price < 0):
            raise ValueError(f"'price_per_gpu_hour' must be a number, 0 or more; got {price!r}")
        self.monitor, self.goal, self.price = monitor, goal, price
        self._followed: tuple[str | None, str | None] = (None, None)
        self._fit_over = False
        self._replayed = 0
        self._last: dict[str, float | int] = {}
        # Of each validation metric: its logged name, "" if that is the key's own, and the extremes with their steps.
        self._names: dict[str, str] = {}
        self._extremes: dict[tuple[str, str], tuple[float | int, int]] = {}
        self._step = 0
        self._trained = self._logs_only = False
        self._epoch: float | None = None
        self._started = stopwatch.now()
        self._hours = self._earlier_h = 0.0
        self._gpus = 0
        self._energy: Callable[[], float] | None = None
        self._kwh: float | None = None

    def start(self, info: RunInfo) -> None:
        self._followed = info.start.monitor, info.start.goal
        self._started = stopwatch.now()
        earlier = info.earlier
        self._trained = self._logs_only = info.start.logs_only
        self._earlier_h = earlier.elapsed_h if earlier is not None and info.start.is_fit else info.start.trained_h
        # An evaluation after a fit gives no best values; the rows of the fit come first.
        self._fit_over = not info.start.is_fit and earlier is not None and earlier.fit_ended() is not None
        self._replayed = len(earlier.up_to()) if self._fit_over and earlier is not None else 0
        self._gpus = info.world_size if info.start.has_cuda else 0
        self._energy = energy_counter(info.start.device) if info.start.has_cuda and info.world_size == 1 else None

    def unused(self) -> Mapping[str, str]:
        if self.price is None or self._gpus:
            return {}
        return {"callbacks: final_summary: price_per_gpu_hour": "the training uses no GPU"}

    def row(self, moment: Moment, window: Window) -> Values:
        self._step, self._epoch, self._trained = moment.step, moment.epoch, True
        return {}

    def emitted(self, row: Row) -> None:
        after_fit = self._fit_over and self._replayed <= 0
        self._replayed -= 1
        if row.tier != "epoch":
            return
        for key, value in row.values.items():
            if key in _AXES or not math.isfinite(value):
                continue
            self._last[key.removeprefix("epoch/")] = value
            if not key.startswith(_VAL.prefix) or (after_fit and key in self._names):
                continue
            self._names[key] = row.origins.get(key, "")
            for goal, sign in (("min", 1), ("max", -1)):
                least = self._extremes.get((key, goal))
                if least is None or sign * value < sign * least[0]:
                    self._extremes[key, goal] = (value, row.step)

    def ended(self) -> None:
        self._fit_over = True
        self._hours = self._earlier_h + (stopwatch.now() - self._started) / 3600
        if self._energy is not None:
            self._kwh = self._energy()

    def final(self) -> Mapping[str, Any]:
        values: dict[str, Any] = {f"final/{column}": value for column, value in self._last.items()}
        for key, goal in self._goals().items():
            column = f"final/best/{key.removeprefix('epoch/')}"
            values[column], values[f"{column}_step"] = self._extremes[key, goal]
        if not self._trained:
            # Another process may have trained in this run, and has recorded what that cost.
            return values
        if self._step or not self._logs_only:
            values["final/steps"] = self._step
        if self._epoch is not None:
            values["final/epochs"] = self._epoch
        values["final/duration_h"] = self._hours
        if self._gpus:
            values["final/gpu_hours"] = self._hours * self._gpus
            if self.price is not None:
                values["final/cost_usd"] = self._hours * self._gpus * self.price
        if self._kwh is not None:
            values["final/energy_kWh"] = self._kwh
        return values

    def _goals(self) -> dict[str, str]:
        """Returns the goal of each validation metric that has one, the monitored ones first."""
        goals: dict[str, str] = {key: known for key in self._names if (known := direction(key))}
        for monitor, goal in (self._followed, (self.monitor, self.goal)):
            followed = {key: goal or goals.get(key, "max") for key in self._monitored(monitor or "")}
            goals = followed | {key: other for key, other in goals.items() if key not in followed}
        return goals

    def warning(self) -> str:
        if self.monitor is None or self._monitored(self.monitor):
            return ""
        known = sorted(key.removeprefix("epoch/") for key in self._names)
        near = nearest(f"val/{canonical(self.monitor, _VAL)}", known)
        logged = ", ".join(known) or "none"
        return f"'monitor' is '{self.monitor}', which no validation has logged{near or '.'} Logged: {logged}"

    def _monitored(self, monitor: str) -> list[str]:
        """Returns the validation metrics that `monitor` names, by the closest of four ways to compare names."""
        wanted, short = _EPOCH.sub("", monitor), canonical(monitor, _VAL)
        ways: tuple[Callable[[str, str], bool], ...] = (
            lambda key, name: monitor in (key, name) or (not name and key.endswith(f"/{monitor}")),
            lambda _, name: bool(name) and _EPOCH.sub("", name) == wanted,
            lambda _, name: bool(name) and _EPOCH_AND_SET.sub("", name) == wanted,
            lambda key, name: short in (canonical(key, _VAL), canonical(name or key, _VAL)),
        )
        found = ([key for key, name in self._names.items() if way(key, name)] for way in ways if monitor)
        return next(filter(None, found), [])
