"""A fit's gradients and learning rates, as they pass on to the tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Gradients
from trackkit.integrations.lightning.hindsight import Hindsight
from trackkit.integrations.lightning.optimizers import ManualSteps, name_of
from trackkit.integrations.lightning.scaler import Scaler
from trackkit.integrations.lightning.schedule import Schedule
from trackkit.integrations.lightning.wiring import Wiring

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker


class Optimization:
    """Gives them before a step that may make a row, and what is left of them after one that nobody foresaw.

    Attributes:
        schedule: which steps make rows.
        scaler: of the gradients.
        manual: the steps of manual optimization.
        hindsight: of automatic optimization, once the fit has begun.
        moving: the same, where it has to hear of every batch with a step.
        owed: whether a row that fell due is still to be made.
        foresees: whether Lightning can be spared `on_before_optimizer_step` batch by batch.
    """

    schedule: Schedule
    scaler: Scaler

    def __init__(self, kit: Any, trainer: Any, wiring: Wiring) -> None:
        self.hindsight: Hindsight | None = None
        self.moving: Hindsight | None = None
        self.owed = self.foresees = False
        self.manual = ManualSteps(trainer, wiring.heard, lambda optimizer: wiring.guard(self.before_step, optimizer))
        self._kit = kit
        self._trainer = trainer
        self._wiring = wiring
        self._tracker: Tracker | None = None

    def fit_begins(self, module: Any, tracker: Tracker) -> None:
        """Optimizers and loaders are there."""
        trainer, automatic = self._trainer, bool(module.automatic_optimization)
        self._tracker = tracker
        self.scaler = Scaler(trainer)
        self.schedule = Schedule(trainer, None if automatic else self.manual)
        if not automatic:
            self.manual.watch()
            self._wiring.before_clipping(self.before_clipping)
            return
        self.hindsight = Hindsight(trainer, module, self._kit, bool(self.scaler))
        self.moving = self.hindsight if self.hindsight.moves else None
        spared = self._wiring.spares and not (self.scaler or self.hindsight.stepwise)
        self.foresees = spared and self.schedule.foresees

    def leave(self) -> None:
        """Hears no more."""
        self.manual.unwatch()

    def before_step(self, optimizer: Any) -> None:
        """Gradients are unscaled (but for fused optimizers) and not clipped yet."""
        self.manual.announced = True
        if self.hindsight is not None and self.hindsight.stepwise:
            self.hindsight.before_step(optimizer)
        scale = self.scaler.before_step(optimizer)
        self._give(optimizer, scale, clipped=optimizer in self.manual.clipped)

    def before_clipping(self, optimizer: Any) -> None:
        """A module that optimizes by hand calls `clip_gradients` before the step."""
        optimizer = optimizer if optimizer in self._trainer.optimizers else optimizer.optimizer
        if optimizer not in self.manual.clipped:
            self._give(optimizer, self.scaler.carried(optimizer), clipped=False)
            self.manual.clipped.append(optimizer)

    def recall(self, in_batch: bool) -> None:
        """What is still known of the step just taken; `in_batch` tells whether another batch has begun since."""
        past, tracker = self.hindsight, self._tracker
        known = self.manual.recall() if past is None else past.recall(self._trainer.global_step, in_batch)
        for gradients in known:
            if tracker is not None:
                tracker.gradients(gradients)

    def _give(self, optimizer: Any, scale: Any, clipped: bool) -> None:
        if self._tracker is not None and (self.owed or self.schedule.may_be()):
            name = name_of(optimizer, self._trainer.optimizers)
            self._tracker.gradients(Gradients(optimizer, name, clipped, scale))
