"""Measures the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from trackkit.engine.callback import Callback, Values

if TYPE_CHECKING:
    from trackkit.engine.records import Moment
    from trackkit.engine.window import Window


class Loss(Callback):
    """Measures the training loss, and the parts of it that the program gives.

    | key | unit | what |
    |---|---|---|
    | `batch/loss` | as the model's | mean over the optimizer steps since the last row, and over ranks |
    | `batch/loss/<name>` | as given | mean over the batches since the last row that have it, and over ranks |
    """

    REDUCE: ClassVar[Mapping[str, str]] = {"batch/loss": "mean", "batch/loss/": "mean"}

    def row(self, moment: Moment, window: Window) -> Values:
        parts = window.means("batch/loss/")
        return {"batch/loss": window.losses, **parts} if window.losses else parts
