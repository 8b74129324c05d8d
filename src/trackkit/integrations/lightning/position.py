"""Optimizer step and epoch of a training, and of the weights that are evaluated."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from trackkit.engine.records import Moment

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

OLD_KEY = "trackkit"
"""Key under which checkpoints of earlier TrackKits name their run; now it is in the callback's state."""

_INF = float("inf")


class Fitted(NamedTuple):
    """Totals of a trainer's fits so far.

    Attributes:
        trainer: reference to the trainer.
        step: optimizer steps.
        samples, tokens: seen, over all ranks.
        hours: of training.
        state: what a checkpoint keeps of the run.
    """

    trainer: weakref.ref[Trainer]
    step: int
    samples: int
    tokens: int
    hours: float
    state: Mapping[str, Any]


class Weights:
    """Step and epoch of the weights that are currently loaded.

    Outlives a trainer: the next trainer with the same TrackKit may evaluate the weights of the last one.

    Attributes:
        at: optimizer steps, and passes through the data; None until a batch has been trained.
        fitted: the latest fits of one trainer.
    """

    def __init__(self) -> None:
        self.at: tuple[int, float] | None = None
        self.fitted: Fitted | None = None

    def continued(self, trainer: Trainer) -> Fitted | None:
        """Returns the earlier fits that a fit of `trainer` continues; None if it continues none."""
        fitted = self.fitted
        if fitted is None or fitted.trainer() is not trainer or fitted.step != trainer.global_step:
            return None
        return fitted

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "fitted": None}


class Position:
    """Step and epoch at which a trainer stands.

    Args:
        trainer: the trainer.
        weights: moved with every batch.

    Attributes:
        carried: the loaded checkpoint's fields about its run; None without a checkpoint.
    """

    def __init__(self, trainer: Trainer, weights: Weights) -> None:
        self.carried: dict[str, Any] | None = None
        self._trainer = trainer
        self._weights = weights
        self._loaded_step: int | None = None
        self._saved = False
        self._first_step = 0
        self._total_steps: int | None = None
        self._batches: float = 0

    @property
    def fitting(self) -> bool:
        """Whether the trainer fits: a validation may be part of a fit."""
        return bool(self._trainer.state.fn == "fit")

    def checkpoint_loaded(self, checkpoint: Mapping[str, Any]) -> None:
        """Reads a checkpoint that is being restored; may be called twice. Ignores an empty one, and a finder's own."""
        if not checkpoint or self._saved:
            return
        if "global_step" in checkpoint:
            self._loaded_step = int(checkpoint["global_step"])
        if self.carried is None:
            self.carried = checkpoint.get(OLD_KEY, {})

    def state_loaded(self, state: Mapping[str, Any]) -> None:
        """Reads the callback's state in the checkpoint that is being restored."""
        if not self._saved:
            self.carried = dict(state)

    def checkpoint_saved(self) -> None:
        """Notes that what is loaded from now on was saved by the training itself, as finders do."""
        self._saved = True

    def fit_begins(self, automatic: bool) -> None:
        """Follows the trainer's own counters from here on.

        Args:
            automatic: whether the module uses automatic optimization.
        """
        trainer = self._trainer
        total = _planned_steps(trainer) if automatic else trainer.max_steps
        self._total_steps = int(total) if 0 <= total < _INF else None
        self._batches = trainer.num_training_batches
        self._first_step = trainer.global_step
        self._loaded_step = self._weights.at = None

    def batch_ends(self, step: int, batch_idx: int) -> None:
        """Moves to the end of a batch.

        Args:
            step: optimizer steps taken so far.
            batch_idx: index of the batch in its epoch.
        """
        # Counted as the batch leaves it: Lightning completes an epoch before it logs the epoch's values.
        loop = self._trainer.fit_loop
        batches = loop.max_batches
        part = (batch_idx + 1) / batches if 0 < batches < _INF else loop.epoch_loop.batch_progress.is_last_batch
        self._weights.at = step, float(loop.epoch_progress.current.completed + part)

    def moment(self) -> Moment:
        """Returns step, epoch and planned steps of the fit."""
        step, epoch = self._weights.at or (self._first_step, None)
        if self._trainer.num_training_batches != self._batches:
            # A batch size finder has changed the length of the epochs, so the plan no longer holds.
            self._total_steps = None
        return Moment(step, epoch, self._total_steps)

    def of_weights(self) -> tuple[int, float | None]:
        """Returns optimizer steps and epoch of the weights that currently logged values belong to."""
        last, loaded, trainer = self._weights.at, self._loaded_step, self._trainer
        step = trainer.global_step if loaded is None else loaded
        if last is not None and (self.fitting or step == last[0]):
            return last
        if last is not None and step == 0 and loaded is None:
            # Lightning did not count these steps: raw optimizers, or another trainer with the same TrackKit.
            return last
        epoch = float(trainer.current_epoch) if loaded is None and step else None
        return int(step), epoch


def _planned_steps(trainer: Trainer) -> float:
    """Returns the optimizer steps of a fit; Lightning's own estimate assumes the first epoch's accumulation."""
    batches, limit = trainer.num_training_batches, trainer.max_steps
    by_epoch = _accumulation(trainer)
    if by_epoch is None or trainer.max_epochs is None or trainer.max_epochs == -1 or batches == _INF:
        return float(trainer.estimated_stepping_batches)
    steps = sum(math.ceil(batches / by_epoch(epoch)) for epoch in range(max(trainer.max_epochs, 1)))
    return float(steps if limit == -1 else min(steps, limit))


def _accumulation(trainer: Trainer) -> Callable[[int], int] | None:
    """Returns batches per step by epoch, if one of Lightning's callbacks changes them; else None."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if any(each.__name__ == "GradientAccumulationScheduler" for each in type(callback).__mro__):
            by_epoch: Callable[[int], int] = callback.get_accumulate_grad_batches
            return by_epoch
    return None
