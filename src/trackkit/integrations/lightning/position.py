"""Where a training stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from trackkit.engine.records import Moment

# Where a checkpoint says which run it belongs to.
CARRIED = "trackkit"


class Position:
    """Of the weights that a trainer holds: trained by it, loaded, or trained by another one with the same TrackKit.

    Attributes:
        at: where the batch that ended last has left the training: optimizer steps, passes through the data.
        begun: optimizer steps when the fit began.
        total_steps: that the fit will take; None where unknown.
        carried: what the checkpoint that was loaded says of its run; None where none was.
    """

    def __init__(self, kit: Any, trainer: Any) -> None:
        self.at: tuple[int, float] | None = None
        self.begun = 0
        self.total_steps: int | None = None
        self.carried: dict[str, Any] | None = None
        self._kit = kit
        self._trainer = trainer
        self._loaded_step: int | None = None
        self._batches: float = 0

    @property
    def fitting(self) -> bool:
        """Whether the trainer fits: an evaluation may be a part of that."""
        return bool(self._trainer.state.fn == "fit")

    def loaded(self) -> None:
        """A checkpoint is restored. One of weights only, or without callbacks' states, reaches no callback's hook."""
        checkpoint = self._trainer._checkpoint_connector._loaded_checkpoint
        if "global_step" in checkpoint:
            self._loaded_step = int(checkpoint["global_step"])
        self.carried = checkpoint.get(CARRIED, {}) if checkpoint else None

    def fit_begins(self, automatic: bool) -> None:
        """From here on the trainer's own counters tell."""
        trainer = self._trainer
        total = _planned(trainer) if automatic else trainer.max_steps
        self.total_steps = int(total) if 0 <= total < float("inf") else None
        self._batches = trainer.num_training_batches
        self.begun = trainer.global_step
        self._loaded_step = self._kit._lightning_position = None

    def leave(self) -> None:
        """The trainer is done: what another one logs may be of the same weights."""
        self._kit._lightning_position = self.at or self._kit._lightning_position

    def moment(self) -> Moment:
        """Where the fit stands."""
        step, epoch = self.at or (self.begun, None)
        if self._trainer.num_training_batches != self._batches:
            # The epochs have another length by now (a batch size was found): the plan was another.
            self.total_steps = None
        return Moment(step, epoch, self.total_steps)

    def of_weights(self) -> tuple[int, float | None]:
        """Optimizer steps and passes through the data, of the weights that what is logged now belongs to."""
        last: tuple[int, float | None] | None = self.at or self._kit._lightning_position
        trainer = self._trainer
        step = trainer.global_step if self._loaded_step is None else self._loaded_step
        if last is not None and (self.fitting or step == last[0]):
            return last
        if last is not None and step == 0 and self._loaded_step is None:
            # Lightning's counter knows nothing of it: raw optimizers, or another trainer with the same TrackKit.
            return last
        epoch = trainer.current_epoch if self._loaded_step is None and step else None
        return int(step), None if epoch is None else float(epoch)


def _planned(trainer: Any) -> float:
    """Optimizer steps of a fit: Lightning's own estimate goes by the accumulation that the first epoch has."""
    batches, limit = trainer.num_training_batches, trainer.max_steps
    by_epoch = _accumulation(trainer)
    if by_epoch is None or trainer.max_epochs == -1 or batches == float("inf"):
        return float(trainer.estimated_stepping_batches)
    steps = sum(math.ceil(batches / by_epoch(epoch)) for epoch in range(max(trainer.max_epochs, 1)))
    return float(steps if limit == -1 else min(steps, limit))


def _accumulation(trainer: Any) -> Callable[[int], int] | None:
    """Batches per step by epoch, where Lightning's callback changes them."""
    for callback in trainer.callbacks:
        if any(each.__name__ == "GradientAccumulationScheduler" for each in type(callback).__mro__):
            by_epoch: Callable[[int], int] = callback.get_accumulate_grad_batches
            return by_epoch
    return None
