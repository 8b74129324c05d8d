"""Follows the optimizer steps of a fit, and reports gradients before those that may make a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Gradients
from trackkit.integrations.lightning.optimizers import Scaler
from trackkit.integrations.lightning.schedule import Schedule
from trackkit.integrations.lightning.wiring import Wiring
from trackkit.integrations.optimizers import name_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from trackkit.engine.tracker import Tracker


class Optimization:
    """Automatic optimization: Lightning counts the steps and announces each.

    Args:
        trainer: the optimizers' trainer; its optimizers and loaders exist.
        tracker: tracker of the open run.
        wiring: connection to the trainer.
    """

    def __init__(self, trainer: Trainer, tracker: Tracker, wiring: Wiring) -> None:
        self._trainer = trainer
        self._tracker = tracker
        self._wiring = wiring
        self._loop = trainer.fit_loop.epoch_loop
        self._scaler = Scaler(trainer)
        self._schedule = Schedule(trainer)
        # Lightning's own counter, which `global_step` reads through six properties.
        self._counter = self._loop.automatic_optimization.optim_progress.optimizer.step.total
        self._seen = trainer.global_step
        # Whether a row fell due on a batch without a step (manual optimization): the next step makes it.
        self._owes_row = False

    def before_step(self, optimizer: Any) -> None:
        """Reports gradients that are unscaled (except for fused optimizers) and not clipped yet."""
        self._report(optimizer, self._scaler.before_step(optimizer))

    def batch_ends(self, batch_idx: int) -> tuple[int, int, bool]:
        """Counts the steps of a batch.

        Args:
            batch_idx: index of the batch in its epoch.

        Returns:
            Optimizer steps so far, steps taken on this batch, and whether they make a row.
        """
        schedule, step = self._schedule, self._counter.completed
        steps, self._seen = step - self._seen, step
        if due := steps > 0 and schedule.due(step):
            schedule.any_row = True
        if self._scaler.flags:
            self._tracker.skipped(self._scaler.pop_skipped())
        return step, steps, due

    def close(self) -> None:
        """Stops following the optimizers."""

    def _report(self, optimizer: Any, scale: Any, clipped: bool = False) -> None:
        # Without parameters: it is in the place of an optimizer that the module does not have.
        if optimizer.param_groups and (self._owes_row or self._schedule.may_be()):
            clipped = clipped or not self._scaler.readable
            name = name_of(optimizer, self._trainer.optimizers)
            module = self._trainer.lightning_module
            self._tracker.gradients(Gradients(optimizer, name, clipped, scale, module))


class ManualOptimization(Optimization):
    """Manual optimization: a step may take several batches, raw optimizers bypass Lightning, the module clips."""

    def __init__(self, trainer: Trainer, tracker: Tracker, wiring: Wiring) -> None:
        super().__init__(trainer, tracker, wiring)
        self._schedule.steps_per_batch = len(trainer.optimizers)
        self._schedule.batches_per_step = 1
        # Whether Lightning has announced the coming step; whether this batch has stepped; whether Lightning counts.
        self._announced = self._stepped = self._raw = False
        self._batches = 0
        # Optimizers whose gradients were clipped since their last step.
        self._clipped: list[Any] = []
        self._handles = [each.register_step_post_hook(self._after_step) for each in trainer.optimizers]
        wiring.before_clipping(self._before_clipping)

    def before_step(self, optimizer: Any) -> None:
        """Reports gradients that are unscaled (except for fused optimizers), unless they were reported unclipped."""
        self._announced = True
        self._report(optimizer, self._scaler.before_step(optimizer), clipped=optimizer in self._clipped)

    def batch_ends(self, batch_idx: int) -> tuple[int, int, bool]:
        """Counts the steps of a batch.

        Lightning's count of batches that stepped replaces its count of steps for raw optimizers. A step that the
        gradient scaler skipped counts, though it never reached the optimizer.

        Args:
            batch_idx: index of the batch in its epoch.

        Returns:
            Optimizer steps so far, steps taken on this batch, and whether they make a row.
        """
        step = self._trainer.global_step
        taken, self._seen = step - self._seen, step
        self._raw = self._raw or (self._stepped and not taken)
        steps = taken or int(self._stepped)
        if self._raw:
            # Every batch counts as a step, as Lightning itself counts them for its loggers.
            step = self._loop.total_batch_idx + 1
        self._announced = self._stepped = False
        self._clipped.clear()
        self._batches += 1
        if steps:
            self._schedule.batches_per_step = max(self._schedule.batches_per_step, self._batches)
            self._batches = 0
        due = self._owes_row or self._schedule.due(step)
        self._owes_row = due and not steps
        self._schedule.any_row |= due and steps > 0
        if self._scaler.flags:
            self._tracker.skipped(self._scaler.pop_skipped())
        return step, steps, due and steps > 0

    def close(self) -> None:
        """Removes the optimizers' hooks."""
        for handle in self._handles:
            handle.remove()

    def _before_clipping(self, optimizer: Any) -> None:
        """Reports the gradients that the module is about to clip."""
        optimizer = optimizer if optimizer in self._trainer.optimizers else optimizer.optimizer
        if optimizer not in self._clipped:
            self._report(optimizer, self._scaler.scale_before_unscaling(optimizer))
            self._clipped.append(optimizer)

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Reports the gradients of a raw optimizer, which no hook has announced."""
        if not self._wiring.trial_running():
            if not self._announced:
                self._wiring.guard("optimizer step", self.before_step, optimizer)
            if optimizer in self._clipped:
                self._clipped.remove(optimizer)
            self._stepped, self._announced = True, False
