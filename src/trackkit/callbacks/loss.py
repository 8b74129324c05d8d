"""Measures the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from trackkit.engine.records import Moment
    from trackkit.engine.window import Window


class Loss(Callback):
    """Measures the training loss.

    | key | unit | what |
    |---|---|---|
    | `batch/loss` | as the model's | mean over the optimizer steps since the last row, and over ranks |
    """

    REDUCE: ClassVar[Mapping[str, str]] = {"batch/loss": "mean"}

    def row(self, moment: Moment, window: Window) -> Values:
        return {"batch/loss": window.losses} if window.losses else {}
