"""Decides which steps make rows: the first, those at which Lightning logs, and the last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trackkit.integrations.lightning import _compat
from trackkit.integrations.lightning.timers import time_limit

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# A time limit may end the training at any step of its last seconds.
_SOON_S = 60.0
_INF = float("inf")


class Schedule:
    """Decides which steps of a fit make rows, and predicts which may.

    Attributes:
        any_row: whether a step has made a row.
        steps_per_batch: most steps that one batch takes.
        batches_per_step: most batches seen for one step of manual optimization; 0 for automatic optimization.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.any_row = False
        self.steps_per_batch, self.batches_per_step = 1, 0
        self._trainer = trainer
        self._loop = trainer.fit_loop.epoch_loop
        self._interval_s = _compat.validation_interval(trainer) if trainer.enable_validation else None
        # Validations after every so many batches, of the epoch or of all.
        every, over_epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch is None
        often = every is not None and every < (_INF if over_epochs else trainer.num_training_batches)
        self._every = int(every) if trainer.enable_validation and every is not None and often else 0
        self._batches = self._loop.batch_progress.total if over_epochs else self._loop.batch_progress.current
        ends = time_limit(trainer)
        self._soon = None if ends is None else ends - _SOON_S

    def due(self, step: int) -> bool:
        """Returns whether the batch that ends makes a row, if it took a step.

        Args:
            step: optimizer steps taken so far.
        """
        limit = self._loop.max_steps
        if self._logs(step) or (limit >= 0 and limit <= step):
            return True
        if not self._loop.batch_progress.is_last_batch:
            return False
        epochs = self._trainer.max_epochs
        return epochs is not None and 0 <= epochs <= self._trainer.current_epoch + 1

    def may_be(self) -> bool:
        """Returns whether the step about to be taken may make a row."""
        return self._logs() or self._may_be_last()

    def _logs(self, step: int | None = None) -> bool:
        """Returns whether this is the first step or Lightning logs, whose `should_update_logs` costs ten times this.

        Args:
            step: optimizer steps with the one in question. Default: it is about to be taken.
        """
        trainer = self._trainer
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not self.any_row or every <= 0:
            return not self.any_row
        # Counted without the batch in question.
        batches = _compat.batches_that_stepped(self._loop)
        if batches is not None:
            step = batches + 1
        elif step is None:
            step = trainer.global_step + 1
        return step % every == 0 or trainer.should_stop

    def _may_be_last(self) -> bool:
        """Returns whether training may end with this batch: by a limit, the epoch's end, or after a validation."""
        trainer, limit = self._trainer, self._loop.max_steps
        if limit >= 0 and limit <= trainer.global_step + self.steps_per_batch:
            return True
        if self._soon is not None and time.monotonic() >= self._soon:
            return True
        if (
            self._interval_s is not None
            and time.monotonic() >= _compat.last_validation(trainer) + self._interval_s - _SOON_S
        ):
            return True
        if self._every and self._batches.ready % self._every == 0:
            return True
        progress = self._loop.batch_progress
        ahead = progress.current.ready + self.batches_per_step
        return bool(progress.is_last_batch) or ahead > trainer.num_training_batches
