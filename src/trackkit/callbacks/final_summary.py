"""Writes the run's columns in the runs table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.callbacks.nvml import energy_counter
from trackkit.engine import stopwatch
from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackkit.engine.records import Moment, Row
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

_AXES = ("epoch/step", "epoch/epoch")
_LOWER_IS_BETTER = ("loss", "error", "err", "perplexity", "ppl", "wer", "cer", "mae", "mse", "rmse", "fid")

# Lightning's marks on a metric's name: its value per epoch (if it has one per batch too), and its evaluation set.
_EPOCH = re.compile(r"_epoch(?=$|/dataloader_idx_\d+$)")
_EPOCH_AND_SET = re.compile(r"(?:_epoch)?(?:/dataloader_idx_\d+)?$")


class FinalSummary(Callback):
    """Records the last value of every epoch metric, the best of the monitored one, and what the run cost.

    | key | unit | what |
    |---|---|---|
    | `final/<split>/<name>` | as logged | last finite value |
    | `final/best/<split>/<name>`, `final/best/<split>/<name>_step` | as logged, steps | best value, and its step |
    | `final/steps`, `final/epochs` | steps, epochs | taken |
    | `final/duration_h`, `final/gpu_hours` | h | wall time of training; the same times ranks, on CUDA |
    | `final/energy_kWh` | kWh | the GPU's own counter, one rank |
    | `final/cost_usd` | US dollars | GPU hours times the price |

    Args:
        monitor: the metric that `final/best` follows, as a key (`epoch/val/acc`) or the logged name. Default: the one
            that the framework's checkpointing or early stopping monitors, else the validation loss.
        goal: `min` or `max`. Default: that of the framework, else `min` for names such as `loss` and `max` for others.
        price_per_gpu_hour: US dollars.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("monitor", "goal", "price_per_gpu_hour")

    def __init__(
        self, monitor: str | None = None, goal: str | None = None, price_per_gpu_hour: float | None = None
    ) -> None:
        if monitor is not None and not isinstance(monitor, str):
            raise ValueError(f"'monitor' must be a metric's name; got {monitor!r}")
        if goal not in (None, "min", "max"):
            raise ValueError(f"'goal' must be 'min' or 'max'; got {goal!r}")
        price = price_per_gpu_hour
        if price is not None and (isinstance(price, bool) or not isinstance(price, (int, float)) or price < 0):
            raise ValueError(f"'price_per_gpu_hour' must be a number, 0 or more; got {price!r}")
        self.monitor, self.goal, self.price = monitor, goal, price
        self._monitor, self._goal = monitor, goal
        self._fit_over, self._replayed = False, 0
        self._last: dict[str, float | int] = {}
        self._best: dict[str, tuple[float | int, int]] = {}
        self._step = 0
        self._trained = False
        self._epoch: float | None = None
        self._started = stopwatch.now()
        self._hours = self._earlier_h = 0.0
        self._gpus = 0
        self._energy: Callable[[], float] | None = None
        self._kwh: float | None = None

    def start(self, info: RunInfo) -> None:
        self._monitor = self.monitor or info.start.monitor
        self._goal = self.goal or (info.start.goal if self.monitor is None else None)
        self._started = stopwatch.now()
        earlier = info.earlier
        self._earlier_h = earlier.elapsed_h if earlier is not None and info.start.is_fit else info.start.trained_h
        # An evaluation after a fit gives no best values; the rows of an earlier process come first.
        self._fit_over = not info.start.is_fit and earlier is not None and earlier.fit_ended() is not None
        self._replayed = len(earlier.rows) if self._fit_over and earlier is not None else 0
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
        followed = self._followed(row)
        for key, value in row.values.items():
            if key in _AXES or not math.isfinite(value):
                continue
            column = key.removeprefix("epoch/")
            self._last[column] = value
            if key in followed:
                best = self._best.get(column)
                if best is None or (not after_fit and self._better(key, value, best[0])):
                    self._best[column] = (value, row.step)

    def ended(self) -> None:
        self._fit_over = True
        self._hours = self._earlier_h + (stopwatch.now() - self._started) / 3600
        if self._energy is not None:
            self._kwh = self._energy()

    def final(self) -> Mapping[str, Any]:
        values: dict[str, Any] = {f"final/{column}": value for column, value in self._last.items()}
        for column, (value, step) in self._best.items():
            values[f"final/best/{column}"] = value
            values[f"final/best/{column}_step"] = step
        if not self._trained:
            # Another process may have trained in this run, and has recorded what that cost.
            return values
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

    def _followed(self, row: Row) -> set[str]:
        """Returns the monitored keys: those of the exact name, else those whose name the framework has extended."""
        monitor = self._monitor
        if monitor is None:
            return {key for key in row.values if key.startswith("epoch/val/") and key.rsplit("/", 1)[-1] == "loss"}
        # A row that was read back has a logged name only for keys that differ from it.
        found = {key for key in row.values if monitor in (key, row.origins.get(key)) or _ends(key, monitor, row)}
        for marks in (_EPOCH, _EPOCH_AND_SET):
            wanted = _EPOCH.sub("", monitor)
            found = found or {key for key, name in row.origins.items() if marks.sub("", name) == wanted}
        return found

    def _better(self, key: str, value: float, than: float) -> bool:
        goal = self._goal
        if goal is None:
            words = key.rsplit("/", 1)[-1].lower().split("_")
            goal = "min" if any(word in _LOWER_IS_BETTER for word in words) else "max"
        return value < than if goal == "min" else value > than


def _ends(key: str, name: str, row: Row) -> bool:
    """Returns whether `key` was logged as `name`, by a row that has no logged name for it."""
    return key not in row.origins and key.endswith(f"/{name}")
