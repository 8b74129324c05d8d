"""What is still known of a step of automatic optimization after it was taken."""

from __future__ import annotations

from typing import Any

from trackkit.engine.records import Gradients
from trackkit.integrations.lightning.describe import overrides
from trackkit.integrations.lightning.optimizers import are_numbers, rates_of

_BEFORE_STEP = "on_before_optimizer_step"


class Hindsight:
    """For the row of a step that nobody foresaw would make one: only what is certainly that step's.

    Attributes:
        moves: whether a scheduler moves the learning rates after every step, so that `batch_ends` has to be told.
        stepwise: whether only `before_step` can tell the rates, so that it has to be told of every step.
    """

    def __init__(self, trainer: Any, module: Any, kit: Any, scaled: bool) -> None:
        self.moves = any(each.interval == "step" for each in trainer.lr_scheduler_configs)
        self.stepwise = overrides(module, "optimizer_step")
        self._optimizer = trainer.optimizers[0]
        self._loop = trainer.fit_loop.epoch_loop
        self._epochs = trainer.fit_loop.epoch_progress.current
        self._progress = self._loop.automatic_optimization.optim_progress.optimizer
        self._scaled = scaled
        self._by_hand = overrides(module, "on_train_batch_start")
        others = [each for each in trainer.callbacks if each is not kit]
        self._touched = bool(
            trainer.gradient_clip_val
            or overrides(module, "configure_gradient_clipping")
            or any(overrides(each, _BEFORE_STEP) for each in (module, *others))
        )
        # Rates of the next step, as they were at the end of a step's batch, in an epoch; and before a step.
        self._before: tuple[int, list[float]] = (-1, [])
        self._after = self._before
        self._told: tuple[int, list[float]] = (-1, [])
        self._evaluated = -1

    def before_step(self, optimizer: Any) -> None:
        """An optimizer is about to step."""
        self._told = self._progress.step.total.completed, rates_of(optimizer)

    def batch_ends(self) -> None:
        """A batch with a step ends; from here to the next one's end the rates are those of the next step."""
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._before, self._after = self._after, (self._epochs.completed, rates)

    def evaluation_begins(self, step: int) -> None:
        """Lightning drops the gradients of this step."""
        self._evaluated = step

    def recall(self, step: int, in_batch: bool) -> list[Gradients]:
        """What is known of the last step.

        Args:
            step: its number.
            in_batch: whether another batch has begun since.
        """
        intact = step != self._evaluated and self._intact()
        return [Gradients(self._optimizer, clipped=not intact, rates=self._rates(in_batch))]

    def _rates(self, in_batch: bool) -> list[float] | None:
        if self.stepwise:
            at, rates = self._told
            return rates if at == self._progress.step.total.completed - 1 else []
        if self.moves:
            (before, rates), (after, _) = self._before, self._after
            return rates if before == after and are_numbers(rates) else []
        moved = self._loop.scheduler_progress.current.completed or (in_batch and self._by_hand)
        return [] if moved else None

    def _intact(self) -> bool:
        """Whether the gradients are as the backward pass of the last step has left them.

        Lightning sets them to zero once for each step, before the backward pass: once more, and they are the next
        step's. What writes to a gradient, as clipping does, raises its version.
        """
        progress = self._progress
        if self._scaled or progress.zero_grad.total.ready != progress.step.total.completed:
            return False
        if not (self._touched or self.stepwise):
            return True
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        return all(parameter.grad is None or parameter.grad._version == 0 for parameter in parameters)
