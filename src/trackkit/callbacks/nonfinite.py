"""Counts NaN and Inf."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from trackkit.engine.records import Moment, Row
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

    def row(self, moment: Moment, window: Window) -> Values:
        values: dict[str, Any] = {"batch/nonfinite": 0, "batch/skipped_steps": window.skipped}
        if window.losses:
            values[_LOSSES] = window.losses
        if window.skip_flags:
            values[_FLAGS] = window.skip_flags
        return values

    def finish(self, values: MutableMapping[str, Any]) -> None:
        norm_bad = not math.isfinite(values.get("batch/grad_norm", 0.0))
        losses: list[float] | None = values.pop(_LOSSES, None)
        if losses is None:
            count = int(norm_bad or not math.isfinite(values.get("batch/loss", 0.0)))
        else:
            count = sum(not math.isfinite(loss) for loss in losses)
            count += norm_bad and math.isfinite(losses[-1])
        values["batch/nonfinite"] = count
        values["batch/skipped_steps"] += sum(flag > 0 for flag in values.pop(_FLAGS, ()))

    def emitted(self, row: Row) -> None:
        self._total += int(row.values.get("batch/nonfinite", 0))
        self._skipped += int(row.values.get("batch/skipped_steps", 0))

    def final(self) -> Mapping[str, Any]:
        return {"final/nonfinite": self._total, "final/skipped_steps": self._skipped}
