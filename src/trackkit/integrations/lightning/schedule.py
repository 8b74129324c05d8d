"""Which steps make rows: the first, those at which Lightning logs, and the last."""

from __future__ import annotations

from typing import Any


class Schedule:
    """Foretells and decides, for one fit.

    Attributes:
        rowed: whether a step has made a row.
    """

    def __init__(self, trainer: Any, automatic: bool, scaled: bool) -> None:
        self.rowed = False
        self._trainer = trainer
        self._automatic = automatic
        self._loop = trainer.fit_loop.epoch_loop
        timed = getattr(trainer, "_val_check_time_interval", None) is not None
        often = trainer.val_check_batch is not None and trainer.val_check_batch < trainer.num_training_batches
        self._mid_epoch_validation = trainer.enable_validation and (timed or often)
        sized = trainer.num_training_batches < float("inf")
        self.foresees = automatic and not scaled and sized and not self._mid_epoch_validation
        """Whether `next_may_be` is right for this fit."""

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
        return self._logs() or bool(self._loop.batch_progress.is_last_batch) or self._may_be_last()

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
        )

    def _logs(self) -> bool:
        """The first step, and Lightning's own `should_update_logs`, whose property costs ten times this."""
        trainer = self._trainer
        every = trainer.log_every_n_steps
        due = every > 0 and ((self._loop._batches_that_stepped + 1) % every == 0 or trainer.should_stop)
        return due or not self.rowed

    def _may_be_last(self) -> bool:
        """Whether the training may end with this batch: by its number of steps, or by a validation in mid-epoch."""
        trainer, limit = self._trainer, self._loop.max_steps
        if limit >= 0:
            ahead = 1 if self._automatic else len(trainer.optimizers)
            if limit <= trainer.global_step + ahead:
                return True
        return self._mid_epoch_validation and bool(self._loop._should_check_val_fx(trainer.fit_loop._data_fetcher))
