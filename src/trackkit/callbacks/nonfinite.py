"""Counts NaN and Inf."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine.callback import Callback, Values
from trackkit.engine.ranks import SHARDS

if TYPE_CHECKING:
    from trackkit.engine.records import Moment, Row
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

_LOSSES = "_losses"
_FLAGS = "_skipped"


class NonFinite(Callback):
    """Counts the steps with NaN or Inf since the last row: in the loss at every step, in the norm where it is measured.

    | key | unit | what |
    |---|---|---|
    | `batch/nonfinite` | count | steps whose loss or gradient norm was NaN or Inf, on any rank |
    | `batch/skipped_steps` | count | steps that the gradient scaler skipped |
    """

    REDUCE: ClassVar[Mapping[str, str]] = {"batch/nonfinite": "max", "batch/skipped_steps": "max"}

    def __init__(self) -> None:
        self._total = self._skipped = 0
        self._first: int | None = None
        self._counts_skipped = True

    def start(self, info: RunInfo) -> None:
        self._counts_skipped = not info.start.logs_only

    def row(self, moment: Moment, window: Window) -> Values:
        values: dict[str, Any] = {"batch/nonfinite": 0}
        if self._counts_skipped:
            values["batch/skipped_steps"] = window.skipped
        if window.losses:
            values[_LOSSES] = window.losses
        if window.skip_flags:
            values[_FLAGS] = window.skip_flags
        return values

    def finish(self, values: MutableMapping[str, Any]) -> None:
        norm_bad = not math.isfinite(values.get("batch/grad_norm", values.get(f"{SHARDS}batch/grad_norm", 0.0)))
        losses: list[float] | None = values.pop(_LOSSES, None)
        step = int(values["batch/step"])
        if losses is None:
            count = int(norm_bad or not math.isfinite(values.get("batch/loss", 0.0)))
        else:
            bad = [not math.isfinite(loss) for loss in losses]
            count = sum(bad) + (norm_bad and not bad[-1])
            step -= len(bad) - 1 - bad.index(True) if any(bad) else 0
        values["batch/nonfinite"] = count
        if count and self._first is None:
            self._first = step
        if flags := values.pop(_FLAGS, ()):
            values["batch/skipped_steps"] += sum(flag > 0 for flag in flags)

    def emitted(self, row: Row) -> None:
        count = int(row.values.get("batch/nonfinite", 0))
        if count and (self._first is None or row.step < self._first):
            # Counted in an earlier attempt, or on another rank.
            self._first = row.step
        self._total += count
        self._skipped += int(row.values.get("batch/skipped_steps", 0))

    def final(self) -> Mapping[str, Any]:
        skipped = {"final/skipped_steps": self._skipped} if self._counts_skipped else {}
        return {"final/nonfinite": self._total, **skipped}

    def warning(self) -> str:
        if not self._total:
            return ""
        steps = "1 step" if self._total == 1 else f"{self._total} steps"
        return f"Loss or gradient norm was NaN or Inf in {steps}, first seen at step {self._first}: see batch/nonfinite"
