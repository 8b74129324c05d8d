"""Which steps make rows: the first, those at which Lightning logs, and the last."""

from __future__ import annotations

import time
from typing import Any

from trackkit.integrations.lightning.optimizers import ManualSteps

# A limit in time may strike at any step of its last seconds.
_SOON_S = 60.0


class Schedule:
    """Foretells and decides, for one fit.

    Args:
        trainer: whose fit it is.
        manual: the steps of manual optimization; None where the optimization is automatic.

    Attributes:
        rowed: whether a step has made a row.
        foresees: whether `next_may_be` is right for this fit.
    """

    def __init__(self, trainer: Any, manual: ManualSteps | None) -> None:
        self.rowed = False
        self._trainer = trainer
        self._manual = manual
        self._loop = trainer.fit_loop.epoch_loop
        self._timed = trainer.enable_validation and getattr(trainer, "_val_check_time_interval", None) is not None
        # Validations after every so many batches, of the epoch or of all.
        every, over_epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch is None
        often = every is not None and every < (float("inf") if over_epochs else trainer.num_training_batches)
        self._every = int(every) if trainer.enable_validation and often else 0
        self._batches = self._loop.batch_progress.total if over_epochs else self._loop.batch_progress.current
        self._soon = _soon(trainer)
        self.foresees = manual is None and trainer.num_training_batches < float("inf") and not self._timed

    def due(self, step: int) -> bool:
        """Whether the step just taken makes a row."""
        limit = self._loop.max_steps
        if self._logs() or (limit >= 0 and limit <= step):
            return True
        if not self._loop.batch_progress.is_last_batch:
            return False
        epochs = self._trainer.max_epochs
        return epochs is not None and 0 <= epochs <= self._trainer.current_epoch + 1

    def may_be(self) -> bool:
        """Whether the step about to be taken may make a row."""
        return self._logs() or self._may_be_last()

    def next_may_be(self, step: int, batch_idx: int, stepped: bool) -> bool:
        """Whether the next batch may make a row, known as the batch before it ends.

        Args:
            step: optimizer steps taken.
            batch_idx: of the batch that ends.
            stepped: whether it took a step.
        """
        trainer, limit, every = self._trainer, self._loop.max_steps, self._trainer.log_every_n_steps
        return bool(
            not self.rowed
            or trainer.should_stop
            or (every > 0 and (self._loop._batches_that_stepped + stepped + 1) % every == 0)
            or batch_idx + 2 >= trainer.fit_loop.max_batches
            or (limit >= 0 and limit <= step + 1)
            or (self._every and (self._batches.ready + 1) % self._every == 0)
            or (self._soon is not None and time.monotonic() >= self._soon)
        )

    def _logs(self) -> bool:
        """The first step, and Lightning's own `should_update_logs`, whose property costs ten times this."""
        trainer = self._trainer
        every = trainer.log_every_n_steps
        due = every > 0 and ((self._loop._batches_that_stepped + 1) % every == 0 or trainer.should_stop)
        return due or not self.rowed

    def _may_be_last(self) -> bool:
        """Whether the training may end with this batch: by its length, or by a validation in mid-epoch."""
        trainer, limit, now = self._trainer, self._loop.max_steps, time.monotonic()
        ahead = 1 if self._manual is None else len(trainer.optimizers)
        if limit >= 0 and limit <= trainer.global_step + ahead:
            return True
        if self._soon is not None and now >= self._soon:
            return True
        if self._timed and now >= trainer._last_val_time + trainer._val_check_time_interval - _SOON_S:
            return True
        if self._every and self._batches.ready % self._every == 0:
            return True
        progress, ahead = self._loop.batch_progress, 0 if self._manual is None else self._manual.every
        return bool(progress.is_last_batch) or progress.current.ready + ahead > trainer.num_training_batches


def _soon(trainer: Any) -> float | None:
    """From when on `Trainer(max_time=...)` may end the training, by the monotonic clock; None where it won't."""
    for callback in trainer.callbacks:
        if any(each.__name__ == "Timer" for each in type(callback).__mro__):
            remaining = callback.time_remaining()
            if remaining is not None:
                return time.monotonic() + float(remaining) - _SOON_S
    return None
