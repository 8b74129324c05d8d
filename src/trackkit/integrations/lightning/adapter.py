"""Tells the tracker what a Lightning trainer does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Moment
from trackkit.engine.run_info import Status
from trackkit.integrations.batches import batch_counts
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.describe import describe, overrides
from trackkit.integrations.lightning.loss import loss_of
from trackkit.integrations.lightning.optimization import Optimization
from trackkit.integrations.lightning.position import CARRIED, Position
from trackkit.integrations.lightning.reports import Reports
from trackkit.integrations.lightning.wiring import Wiring

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.session.session import Session

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
        self._loop = trainer.fit_loop.epoch_loop
        self._ranks = 1
        # Steps: the trainer's own counter, and its count that was seen last.
        self._counter: Any = None
        self._seen_step = 0
        self._automatic = True
        self._optimization = Optimization(kit, trainer, self._wiring)
        # Whether Lightning calls `on_before_optimizer_step`, and whether that is decided batch by batch.
        self._called, self._foresees = True, False

    def attach(self) -> None:
        """Listens to the trainer."""
        self._wiring.attach()

    def detach(self) -> None:
        """Puts everything back."""
        self._wiring.detach()
        self._optimization.leave()
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
        carried = self._position.carried if trainer.global_step else None
        session = self._begin(replace(describe(trainer, module, "fit"), step=trainer.global_step, checkpoint=carried))
        session.tracker.position = self._last_position
        self._optimization.fit_begins(module, session.tracker)
        self._foresees = self._optimization.foresees
        session.tracker.recall = lambda: self._wiring.guard(self._optimization.recall, self._clock.in_batch)

    def _begin(self, start: Start) -> Session:
        session: Session = self.kit.begin(start)
        self.session = session
        self._reports.tracker = session.tracker
        self._clock.begin(session.tracker)
        return session

    def before_step(self, optimizer: Any) -> None:
        """`on_before_optimizer_step`: gradients are unscaled (but for fused optimizers) and not clipped yet."""
        if self.session is not None:
            self._optimization.before_step(optimizer)

    def batch_ends(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """`on_train_batch_end`."""
        session, clock = self.session, self._clock
        if session is None:
            return
        clock.in_batch = False
        if clock.pause is not None:
            clock.resume()
        trainer, reports, tracker, optimization = self.trainer, self._reports, session.tracker, self._optimization
        step = trainer.global_step if self._counter is None else self._counter.completed
        taken = step - self._seen_step
        stepped = taken > 0
        if not self._automatic:
            step, stepped = optimization.manual.batch_ends(step, taken)
        # A row that falls due on a batch without a step (manual optimization) is made by the next step.
        due = optimization.owed or optimization.schedule.due(step)
        optimization.owed = due and not stepped and not self._automatic
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
        if optimization.scaler.flags:
            tracker.skipped(optimization.scaler.take_skipped())
        if stepped:
            if optimization.moving is not None:
                optimization.moving.batch_ends()
            self._seen_step += taken
            reports.row_missing = not due
            if due:
                optimization.schedule.rowed = True
                reports.row_opens()
                tracker.row(self._position.moment())
        if self._foresees:
            called = optimization.schedule.next_may_be(step, batch_idx, stepped)
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
        from trackkit.session.session import CTRL_C

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
        if self._optimization.hindsight is not None:
            self._optimization.hindsight.evaluation_begins(self.trainer.global_step)
        if not self._position.fitting:
            self._begin(describe(self.trainer, self.trainer.lightning_module, phase))

    def evaluation_ends(self) -> None:
        """`on_validation_end`, `on_test_end`."""
        if self.session is not None and not self._position.fitting:
            self.session.evaluated()
