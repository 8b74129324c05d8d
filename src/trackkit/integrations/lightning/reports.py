"""Passes on what a LightningModule logs, into the rows that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.integrations.lightning.logged import Logged
from trackkit.integrations.lightning.position import Position
from trackkit.schema.keys import BATCH, Split, Where

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker


class Reports:
    """Reports to the tracker, and seals its rows.

    Attributes:
        tracker: of the open run.
        values: what passes Lightning's logger connector.
        row_due: whether the row of the step just taken is open, until Lightning has logged.
        row_missing: whether the step just taken has made no row.
    """

    def __init__(self, trainer: Any, position: Position) -> None:
        self.tracker: Tracker | None = None
        self.values = Logged(trainer)
        self.row_due = self.row_missing = False
        self._trainer = trainer
        self._position = position
        self._by_connector = False

    def row_opens(self) -> None:
        """The step just taken makes a row."""
        self.row_due, self._by_connector = True, False

    def logged(self, metrics: dict[str, Any]) -> None:
        """The logger connector passes metrics on."""
        trainer, tracker = self._trainer, self.tracker
        if tracker is None or trainer.sanity_checking:
            return
        on_batch = trainer._logger_connector._first_loop_iter is not None
        split: Split = "val" if trainer.validating else "test" if trainer.testing else "train"
        if split != "train":
            if on_batch:
                self.values.evaluated_batch(metrics)
            else:
                self._evaluated(tracker, metrics, split)
            return
        if self.row_missing and trainer.should_stop:
            # Somebody stopped the training after this step was found to make no row.
            self.row_missing = self._by_connector = False
            tracker.last_row()
            if not on_batch:
                self.complete_row()
        if on_batch:
            self._by_connector = True
            if new := self.values.new(metrics):
                tracker.report(new, BATCH, *self._position.of_weights())
        elif metrics:
            tracker.report(metrics, Where("epoch"), *self._position.of_weights())
            tracker.seal()

    def complete_row(self) -> None:
        """The first and the last row come where Lightning itself may not log: what was logged is still there."""
        self.row_due = False
        if self.tracker is None:
            return
        if not self._by_connector:
            for name, value in self.values.left_over():
                self.tracker.report({name: value}, BATCH, *self._position.of_weights())
        self.tracker.seal()

    def _evaluated(self, tracker: Tracker, metrics: dict[str, Any], split: Split) -> None:
        for where, values in self.values.evaluated(metrics, split):
            tracker.report(values, where, *self._position.of_weights())
        tracker.seal()
