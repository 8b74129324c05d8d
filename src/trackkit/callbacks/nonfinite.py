"""NaN and Inf."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.callbacks.base import Callback, Values

if TYPE_CHECKING:
    import torch

    from trackkit.records import Moment, Row
    from trackkit.window import Window

_LAST_BAD = "_last_loss_nonfinite"


class NonFinite(Callback):
    """Steps that went wrong since the last row. The loss is watched at every step, the norm where it is measured.

    | key | unit | what |
    |---|---|---|
    | `batch/nonfinite` | count | steps whose loss or gradient norm was NaN or Inf, on any rank |
    | `batch/skipped_steps` | count | steps that the gradient scaler skipped |
    """

    REDUCE: ClassVar[Mapping[str, str]] = {"batch/nonfinite": "max", "batch/skipped_steps": "max"}

    def __init__(self) -> None:
        self._total = self._skipped = 0

    def row(self, moment: Moment, window: Window) -> Values:
        values: dict[str, int | torch.Tensor] = {"batch/nonfinite": 0, "batch/skipped_steps": 0}
        if window.losses:
            import torch

            bad = torch.stack(window.losses).isfinite().logical_not()
            values["batch/nonfinite"] = bad.sum()
            values[_LAST_BAD] = bad[-1]
        if window.skipped:
            flags = window.skipped
            if all(isinstance(flag, bool) for flag in flags):
                values["batch/skipped_steps"] = sum(bool(flag) for flag in flags)
            else:
                import torch

                values["batch/skipped_steps"] = torch.stack([torch.as_tensor(flag).float() for flag in flags]).sum()
        return values

    def finish(self, values: MutableMapping[str, float | int]) -> None:
        watched = _LAST_BAD in values
        last_bad = bool(values.pop(_LAST_BAD, False))
        norm_bad = not math.isfinite(values.get("batch/grad_norm", 0.0))
        count = int(values["batch/nonfinite"])
        if watched:
            count += norm_bad and not last_bad
        else:
            count = int(norm_bad or not math.isfinite(values.get("batch/loss", 0.0)))
        values["batch/nonfinite"] = count
        values["batch/skipped_steps"] = int(values["batch/skipped_steps"])

    def emitted(self, row: Row) -> None:
        self._total += int(row.values.get("batch/nonfinite", 0))
        self._skipped += int(row.values.get("batch/skipped_steps", 0))

    def final(self) -> Mapping[str, Any]:
        return {"final/nonfinite": self._total, "final/skipped_steps": self._skipped}
