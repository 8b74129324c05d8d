"""Passes the events of a Lightning trainer to the tracker."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.engine import stopwatch
from trackkit.engine.records import Moment
from trackkit.engine.run_info import Status
from trackkit.integrations.batches import loss_parts, source_of
from trackkit.integrations.guard import Kit
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.describe import describe, overrides
from trackkit.integrations.lightning.logged import Logged
from trackkit.integrations.lightning.null import NullOptimization, NullSession
from trackkit.integrations.lightning.optimization import ManualOptimization, Optimization
from trackkit.integrations.lightning.position import Fitted, Position, Weights
from trackkit.integrations.lightning.samples import Samples
from trackkit.integrations.lightning.saves import Saves
from trackkit.integrations.lightning.timers import postpone_timers
from trackkit.integrations.lightning.wiring import Wiring

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from trackkit.engine.run_info import Start
    from trackkit.session.session import Session


class LightningAdapter:
    """Passes the events of one trainer to the tracker, from `setup` to `teardown`.

    Args:
        kit: the TrackKit that records the trainer.
        trainer: the trainer.
        weights: step and epoch of the weights, which outlive the trainer.
    """

    def __init__(self, kit: Kit, trainer: Trainer, weights: Weights) -> None:
        self.session: Session | NullSession = NullSession()
        self._kit = kit
        self._trainer = trainer
        self._automatic = True
        self._ranks = trainer.world_size
        self._weights = weights
        self._earlier: Fitted | None = None
        self._fit_began = 0.0
        self._samples = Samples(trainer)
        self._position = Position(trainer, weights)
        self._clock = Clock()
        self._logged = Logged(trainer, self._position)
        self._saves = Saves(kit, trainer, self._position)
        self._wiring = Wiring(kit, trainer, self._position, self._clock, self._logged, self._saves)
        self._optimization: Optimization | NullOptimization = NullOptimization()

    def attach(self) -> None:
        """Connects to the trainer (`setup`)."""
        self._wiring.attach()

    def detach(self) -> None:
        """Restores the trainer's own objects (`teardown`, after `on_exception`)."""
        self._wiring.detach()
        self._optimization.close()

    # -- training --------------------------------------------------------------------------------------------------

    def fit_begins(self, module: LightningModule) -> None:
        """Opens the run (`on_train_start`, once a checkpoint is restored and loaders and optimizers exist)."""
        trainer, began = self._trainer, time.monotonic()
        self._automatic = module.automatic_optimization
        self._position.fit_begins(self._automatic)
        carried = self._position.carried if trainer.global_step else None
        start = replace(describe(trainer, module, "fit"), step=trainer.global_step, checkpoint=carried)
        self._earlier = self._weights.continued(trainer) if trainer.global_step and carried is None else None
        if self._earlier is not None:
            _, _, samples, tokens, hours, _ = self._earlier
            start = replace(start, samples=samples, tokens=tokens, trained_h=hours)
        tracker = self._open_run(start).tracker
        tracker.position = self._last_position
        self._logged.holds = not self._automatic and bool(trainer.optimizers)
        kind = Optimization if self._automatic else ManualOptimization
        self._optimization = kind(trainer, tracker, self._wiring)
        self._fit_began = stopwatch.now()
        postpone_timers(trainer, began)

    def _open_run(self, start: Start) -> Session:
        self.session = session = self._kit.begin(start)
        self._logged.tracker = self._saves.tracker = session.tracker
        self._clock.start(session.tracker)
        return session

    def before_step(self, optimizer: Any) -> None:
        """Reports gradients (`on_before_optimizer_step`: unscaled, except for fused optimizers, and unclipped)."""
        self._optimization.before_step(optimizer)

    def batch_ends(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Reports a batch, and opens a row if its step makes one (`on_train_batch_end`)."""
        data_s = self._clock.batch_ends()
        step, steps, due = self._optimization.batch_ends(batch_idx)
        loss = _loss(outputs, self._trainer.accumulate_grad_batches if self._automatic else None)
        samples, tokens = self._samples.count(batch, batch_idx)
        tracker, ranks = self.session.tracker, self._ranks
        if type(batch) is not list and (source := source_of(batch)):
            tracker.source = source
        if type(outputs) is dict and len(outputs) > 1:
            tracker.parts(loss_parts(outputs))
        tracker.batch(loss, None if samples is None else samples * ranks, tokens * ranks, data_s, steps)
        self._position.batch_ends(step, batch_idx)
        self._logged.batch_ends(steps > 0, due)
        if due:
            tracker.row(self._position.moment())

    def fit_ends(self) -> None:
        """Ends the fit (`on_train_end`, after the last epoch's metrics were logged)."""
        self._clock.resume()
        self._logged.training_ends()
        self._wiring.guard("state_dict", self._remember)
        status: Status = "stopped" if self._trainer.should_stop else "finished"
        self.session.end(status)

    def _remember(self) -> None:
        """Keeps the totals of this fit and those before it, for the trainer's next fit and later checkpoints."""
        if self.session.phase == "fitting":
            hours = (stopwatch.now() - self._fit_began) / 3600 + (self._earlier.hours if self._earlier else 0.0)
            trainer, seen = self._trainer, self.session.tracker.seen
            self._weights.fitted = Fitted(weakref.ref(trainer), trainer.global_step, *seen, hours, self.state())

    def _last_position(self) -> Moment:
        """Returns the position of the last step, whose row may be made during a pause."""
        self._clock.split_pause()
        return self._position.moment()

    def failed(self, error: BaseException, detach: Callable[[], object]) -> None:
        """Ends the run after an error (`on_exception`), and calls `detach`.

        Leaves it open if only an evaluation after a completed fit failed: it may be repeated. Where a checkpoint may
        still be written, the run is closed after that.
        """
        session = self.session
        if session.phase == "fitted":
            detach()
            return
        self._wiring.guard("state_dict", self._remember)
        from trackkit.session.session import CTRL_C

        if isinstance(error, KeyboardInterrupt):
            session.end("stopped", CTRL_C)
        elif isinstance(error, SystemExit) and type(error).__name__ == "SIGTERMException":
            session.end("preempted")
        else:
            session.end("failed", 1, error)

        def close() -> None:
            detach()
            session.close()

        if self._saves.outlast_errors:
            self._wiring.after_teardown(close)
        else:
            close()

    # -- checkpoints and evaluations -------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:
        """Returns what a checkpoint keeps of the run (`state_dict`); nothing before a fit."""
        return self.session.checkpoint_fields(counted=True) if self.session.phase != "evaluating" else {}

    def checkpoint_loaded(self, checkpoint: Mapping[str, Any]) -> None:
        """Reads a checkpoint that is being restored (`on_load_checkpoint`)."""
        self._position.checkpoint_loaded(checkpoint)

    def state_loaded(self, state: Mapping[str, Any]) -> None:
        """Reads the state that an earlier training has left in the checkpoint (`load_state_dict`)."""
        self._position.state_loaded(state)

    def saving_begins(self) -> None:
        """Writes the rows up to the checkpoint (`on_save_checkpoint`): a resumed training does not repeat them."""
        self._position.checkpoint_saved()
        # A module that may log as the batch ends has not done so yet: its row follows the checkpoint.
        if self._logged.row_due and not overrides(self._trainer.lightning_module, "on_train_batch_end"):
            self._wiring.guard("on_save_checkpoint", self._logged.complete_row)
        self.session.tracker.flush()

    def evaluation_begins(self, phase: str) -> None:
        """Opens or continues a run, unless the evaluation is part of a fit (`on_validation_start`, `on_test_start`).

        Args:
            phase: `validate` or `test`.
        """
        if not self._trainer.sanity_checking:
            self._logged.evaluation_begins()
            self.session.tracker.evaluating = True
            if not self._position.fitting:
                self._open_run(describe(self._trainer, self._trainer.lightning_module, phase))
            for where, samples in self._logged.evaluation_sizes("val" if phase == "validate" else "test"):
                self.session.tracker.evaluates(where, samples)

    def evaluation_ends(self) -> None:
        """Completes an evaluation that is not part of a fit (`on_validation_end`, `on_test_end`)."""
        self.session.tracker.evaluating = False
        if not self._position.fitting:
            self.session.evaluated()


def _loss(outputs: Any, divided_by: int | None) -> Any:
    """Returns the loss of a training step as a scalar tensor that nothing else overwrites; None if there is none.

    Args:
        outputs: outputs of the training step, as hooks get them.
        divided_by: batches per step, by which Lightning divided the loss; None for manual optimization.
    """
    loss = outputs.get("loss") if isinstance(outputs, dict) else None
    if loss is None or not hasattr(loss, "detach"):
        return None
    # Lightning clones the loss of automatic optimization; that of a manual one may be a buffer that is reused.
    if divided_by is None:
        loss = loss.detach().clone()
    if loss.ndim:
        if loss.numel() != 1:
            return None
        loss = loss.detach().reshape(())
    return loss if divided_by in (None, 1) else loss * divided_by
