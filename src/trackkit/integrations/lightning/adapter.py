"""Tells the tracker what a Lightning trainer does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.batches import batch_counts
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.describe import describe, overrides
from trackkit.integrations.lightning.hindsight import Hindsight
from trackkit.integrations.lightning.loss import loss_of
from trackkit.integrations.lightning.optimizers import ManualSteps, name_of
from trackkit.integrations.lightning.position import CARRIED, Position
from trackkit.integrations.lightning.reports import Reports
from trackkit.integrations.lightning.scaler import Scaler
from trackkit.integrations.lightning.schedule import Schedule
from trackkit.integrations.lightning.wiring import Wiring
from trackkit.records import Gradients, Moment, Status

if TYPE_CHECKING:
    from trackkit.session import Session
    from trackkit.start import Start

_INF = float("inf")


class LightningAdapter:
    """Tells the tracker what one Lightning trainer does, from `setup` to `teardown`."""

    def __init__(self, kit: Any, trainer: Any) -> None:
        self.kit = kit
        self.trainer = trainer
        self.session: Session | None = None
        self._position = Position(kit, trainer)
        self._clock = Clock()
        self._reports = Reports(trainer, self._position)
        self._wiring = Wiring(kit, trainer, self._position, self._clock, self._reports)
        self._schedule: Schedule
        self._scaler: Scaler
        self._loop = trainer.fit_loop.epoch_loop
        self._ranks = 1
        # Steps: the trainer's own counter, and its count that was seen last.
        self._counter: Any = None
        self._seen_step = 0
        self._automatic = True
        self._manual = ManualSteps(
            trainer, self._wiring.heard, lambda optimizer: self._wiring.guard(self.before_step, optimizer)
        )
        self._hindsight: Hindsight | None = None
        # The same, where it has to hear of every batch with a step.
        self._moving: Hindsight | None = None
        # Whether a row that fell due is still to be made.
        self._owed = False
        # Whether Lightning calls `on_before_optimizer_step`, and whether that is decided batch by batch.
        self._called, self._foresees = True, False

    def attach(self) -> None:
        """Listens to the trainer."""
        self._wiring.attach()

    def detach(self) -> None:
        """Puts everything back."""
        self._wiring.detach()
        self._manual.unwatch()
        self._position.leave()

    # -- training --------------------------------------------------------------------------------------------------

    def fit_begins(self, module: Any) -> None:
        """`on_train_start`: after everything is restored, loaders and optimizers are there."""
        trainer = self.trainer
        self._automatic = bool(module.automatic_optimization)
        self._position.fit_begins(self._automatic)
        self._seen_step = self._position.begun
        if self._automatic:
            # What `global_step` reads through six properties, at every batch.
            self._counter = self._loop.automatic_optimization.optim_progress.optimizer.step.total
        self._ranks = trainer.world_size
        self._scaler = Scaler(trainer)
        self._schedule = Schedule(trainer, None if self._automatic else self._manual)
        carried = self._position.carried if trainer.global_step else None
        session = self._begin(replace(describe(trainer, module, "fit"), step=trainer.global_step, checkpoint=carried))
        session.tracker.position = self._last_position
        session.tracker.recall = lambda: self._wiring.guard(self._recall)
        if self._automatic:
            self._hindsight = Hindsight(trainer, module, self.kit, bool(self._scaler))
            self._moving = self._hindsight if self._hindsight.moves else None
            spared = self._wiring.spares and not (self._scaler or self._hindsight.stepwise)
            self._foresees = spared and self._schedule.foresees
        else:
            self._manual.watch()
            self._wiring.before_clipping(self.before_clipping)

    def _begin(self, start: Start) -> Session:
        session: Session = self.kit.begin(start)
        self.session = session
        self._reports.tracker = session.tracker
        self._clock.begin(session.tracker)
        return session

    def before_step(self, optimizer: Any) -> None:
        """`on_before_optimizer_step`: gradients are unscaled (but for fused optimizers) and not clipped yet."""
        if self.session is None:
            return
        self._manual.announced = True
        if self._hindsight is not None and self._hindsight.stepwise:
            self._hindsight.before_step(optimizer)
        scale = self._scaler.before_step(optimizer)
        self._gradients(optimizer, scale, clipped=optimizer in self._manual.clipped)

    def before_clipping(self, optimizer: Any) -> None:
        """A module that optimizes by hand calls `clip_gradients` before the step."""
        optimizer = optimizer if optimizer in self.trainer.optimizers else optimizer.optimizer
        if optimizer not in self._manual.clipped:
            self._gradients(optimizer, self._scaler.carried(optimizer), clipped=False)
            self._manual.clipped.append(optimizer)

    def _gradients(self, optimizer: Any, scale: Any, clipped: bool) -> None:
        if self.session is not None and (self._owed or self._schedule.may_be()):
            name = name_of(optimizer, self.trainer.optimizers)
            self.session.tracker.gradients(Gradients(optimizer, name, clipped, scale))

    def _recall(self) -> None:
        """What is still known of the step just taken."""
        if self.session is None:
            return
        past = self._hindsight
        step = self.trainer.global_step
        for gradients in self._manual.recall() if past is None else past.recall(step, self._clock.in_batch):
            self.session.tracker.gradients(gradients)

    def batch_ends(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """`on_train_batch_end`."""
        session, clock = self.session, self._clock
        if session is None:
            return
        clock.in_batch = False
        if clock.pause is not None:
            clock.resume()
        trainer, reports, tracker = self.trainer, self._reports, session.tracker
        step = trainer.global_step if self._counter is None else self._counter.completed
        taken = step - self._seen_step
        stepped = taken > 0
        if not self._automatic:
            step, stepped = self._manual.batch_ends(step, taken)
        # A row that falls due on a batch without a step (manual optimization) is made by the next step.
        due = self._owed or self._schedule.due(step)
        self._owed = due and not stepped and not self._automatic
        loss = loss_of(outputs, self._automatic, trainer.accumulate_grad_batches)
        samples, tokens = batch_counts(batch)
        steps = (taken or 1) if stepped else 0
        tracker.batch(loss, samples * self._ranks, tokens * self._ranks, clock.data_s, steps)
        clock.data_s = 0.0
        reports.values.batch_ends()
        # As the batch leaves it: Lightning counts an epoch before it logs it.
        loop = trainer.fit_loop
        batches = loop.max_batches
        part = (batch_idx + 1) / batches if 0 < batches < _INF else bool(self._loop.batch_progress.is_last_batch)
        self._position.at = step, float(loop.epoch_progress.current.completed + part)
        if self._scaler.flags:
            tracker.skipped(self._scaler.take_skipped())
        if stepped:
            if self._moving is not None:
                self._moving.batch_ends()
            self._seen_step += taken
            reports.row_missing = not due
            if due:
                self._schedule.rowed = True
                reports.row_opens()
                tracker.row(self._position.moment())
        if self._foresees:
            called = self._schedule.next_may_be(step, batch_idx, stepped)
            if called is not self._called:
                self._called = called
                self._wiring.call_before_step(called)

    def fit_ends(self) -> None:
        """`on_train_end`: after the last epoch's metrics were logged."""
        if self.session is None:
            return
        self._clock.resume()
        status: Status = "stopped" if self.trainer.should_stop else "finished"
        self.session.end(status)

    def _last_position(self) -> Moment:
        """For a last row, which may be made in a pause."""
        self._clock.settle()
        return self._position.moment()

    def failed(self, error: BaseException) -> None:
        """`on_exception`. An evaluation after a fit that went well may be tried again: it leaves the run open."""
        session = self.session
        if session is None or session.phase == "fitted":
            return
        from trackkit.session import CTRL_C

        if isinstance(error, KeyboardInterrupt):
            session.end("stopped", CTRL_C)
        elif isinstance(error, SystemExit) and type(error).__name__ == "SIGTERMException":
            session.end("preempted")
        else:
            session.end("failed", 1)
        session.close()

    # -- checkpoints and evaluations -------------------------------------------------------------------------------

    def saving_begins(self, checkpoint: dict[str, Any]) -> None:
        """`on_save_checkpoint`: what leads up to the checkpoint must be on disk before it.

        A training that goes on from there won't make it.
        """
        # But a module that may log at the batch's end has not yet: its row comes right after.
        if self._reports.row_due and not overrides(self.trainer.lightning_module, "on_train_batch_end"):
            self._wiring.guard(self._reports.complete_row)
        if self.session is not None:
            self.session.tracker.flush()
            checkpoint[CARRIED] = self.session.checkpoint_fields(counted=True)

    def evaluation_begins(self, phase: str) -> None:
        """`on_validation_start`, `on_test_start`."""
        if self.trainer.sanity_checking:
            return
        self._reports.values.evaluation_begins()
        if self._hindsight is not None:
            self._hindsight.evaluation_begins(self.trainer.global_step)
        if not self._position.fitting:
            self._begin(describe(self.trainer, self.trainer.lightning_module, phase))

    def evaluation_ends(self) -> None:
        """`on_validation_end`, `on_test_end`."""
        if self.session is None or self._position.fitting:
            return
        if self.session.phase == "fitted":
            self.session.tracker.summarise()
        else:
            self.session.tracker.end("finished")
