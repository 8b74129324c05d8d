"""Tells the tracker what a Lightning trainer does."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.batches import batch_counts
from trackkit.errors import SchemaError
from trackkit.integrations.lightning.describe import describe, overrides
from trackkit.integrations.lightning.logged import Logged
from trackkit.integrations.lightning.patches import Patches
from trackkit.integrations.lightning.scaler import Scaler
from trackkit.integrations.lightning.schedule import Schedule
from trackkit.records import BATCH, Gradients, Moment, Split, Status, Where

if TYPE_CHECKING:
    from trackkit.session import Session

_INF = float("inf")
_BEFORE_STEP = "on_before_optimizer_step"
# Where a checkpoint says which run it belongs to.
_CARRIED = "trackkit"

# Hooks of every batch that TrackKit leaves to others.
UNUSED = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
)


class LightningAdapter:
    """Tells the tracker what one Lightning trainer does, from `setup` to `teardown`.

    Lightning has no hook for what the module logs: the logger connector's `log_metrics` is wrapped on this trainer's
    own connector, where every train, epoch and evaluation event passes as tensors, before any conversion.
    """

    def __init__(self, kit: Any, trainer: Any) -> None:
        self.kit = kit
        self.trainer = trainer
        self.session: Session | None = None
        # Of the checkpoint that was loaded: its optimizer steps, and its run.
        self._loaded_step: int | None = None
        self._carried: dict[str, Any] | None = None
        self._patches = Patches()
        self._logged_values = Logged(trainer)
        self._schedule: Schedule
        self._scaler: Scaler
        self._loop = trainer.fit_loop.epoch_loop
        self._ranks = 1
        self._total_steps: int | None = None
        # Steps: the trainer's own counter, its count that was seen last, and where the batch that ended last has left
        # the training.
        self._counter: Any = None
        self._seen_step = 0
        self._at: tuple[int, float] | None = None
        # The row of the step just taken: open until Lightning has logged; or not made, or still to be made.
        self._row_due = self._row_missing = self._owed = self._logged_by_connector = False
        # Manual optimization: what the optimizers have done within this batch.
        self._automatic = True
        self._raw = self._stepped = self._announced = False
        self._handles: list[Any] = []
        # Whether Lightning calls `on_before_optimizer_step`, and whether gradients are the same after the step.
        self._called = True
        self._unclipped = False
        self._data_s = self._fetch_began = 0.0
        self._pause: tuple[str, float] | None = None

    # -- wrapping ------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Wraps what Lightning offers no hook for, on this trainer's own objects."""
        connector, patches = self.trainer._logger_connector, self._patches
        patches.wrap(connector, "log_metrics", self._wrap_log_metrics)
        patches.wrap(connector, "update_train_step_metrics", self._wrap_update)
        patches.wrap(self.trainer._checkpoint_connector, "resume_end", self._wrap_resume_end)
        patches.wrap(self._loop, "_on_before_fetch", self._wrap_before_fetch)
        patches.wrap(self._loop, "_on_after_fetch", self._wrap_after_fetch)
        for name in UNUSED:
            # Lightning passes over a hook that can't be called; calling an empty one costs it 3 us at every batch.
            inherited = getattr(type(self.kit), name, None)
            if inherited is not None and inherited.__module__.endswith(".callbacks.callback"):
                patches.put(self.kit, name, None)

    def detach(self) -> None:
        """Puts everything back."""
        self._patches.undo()
        self.kit.__dict__.pop(_BEFORE_STEP, None)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.kit._lightning_position = self._at or self.kit._lightning_position

    def _wrap_log_metrics(self, original: Any) -> Any:
        def log_metrics(metrics: dict[str, Any], step: int | None = None) -> None:
            self._guard(self._logged, metrics)
            original(metrics, step)

        return log_metrics

    def _wrap_update(self, original: Any) -> Any:
        def update_train_step_metrics() -> None:
            original()
            if self._row_due:
                self._guard(self._complete_row)

        return update_train_step_metrics

    def _wrap_resume_end(self, original: Any) -> Any:
        def resume_end() -> None:
            self._guard(self._loaded)
            original()

        return resume_end

    def _loaded(self) -> None:
        """A checkpoint is restored. One of weights only, or without callbacks' states, reaches no callback's hook."""
        checkpoint = self.trainer._checkpoint_connector._loaded_checkpoint
        if "global_step" in checkpoint:
            self._loaded_step = int(checkpoint["global_step"])
        self._carried = checkpoint.get(_CARRIED)

    def _wrap_before_fetch(self, original: Any) -> Any:
        def before_fetch() -> None:
            if self._pause is not None:
                self._guard(self._resume)
            self._fetch_began = time.perf_counter()
            original()

        return before_fetch

    def _wrap_after_fetch(self, original: Any) -> Any:
        def after_fetch() -> None:
            original()
            self._data_s += time.perf_counter() - self._fetch_began

        return after_fetch

    def _guard(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except SchemaError:
            raise
        except Exception as error:
            self.kit.hook_failed(call.__name__, error)

    # -- training ------------------------------------------------------------------------------------------------

    def fit_begins(self, module: Any) -> None:
        """`on_train_start`: after everything is restored, loaders and optimizers are there."""
        trainer = self.trainer
        self._automatic = bool(module.automatic_optimization)
        total = trainer.estimated_stepping_batches if self._automatic else trainer.max_steps
        self._total_steps = int(total) if 0 <= total < _INF else None
        self._seen_step = trainer.global_step
        if self._automatic:
            # What `global_step` reads through six properties, at every batch.
            self._counter = self._loop.automatic_optimization.optim_progress.optimizer.step.total
        self._loaded_step = self.kit._lightning_position = None
        self._ranks = trainer.world_size
        self._scaler = Scaler(trainer)
        self._schedule = Schedule(trainer, self._automatic, bool(self._scaler))
        per_step = any(each.interval == "step" for each in trainer.lr_scheduler_configs)
        clips = trainer.gradient_clip_val or overrides(module, "configure_gradient_clipping")
        self._unclipped = not (per_step or clips)
        carried = self._carried if trainer.global_step else None
        start = replace(describe(trainer, module, "fit"), step=trainer.global_step, checkpoint=carried)
        self.session = self.kit.begin(start)
        self.session.tracker.position = self._moment
        if not self._automatic:
            for optimizer in trainer.optimizers:
                self._handles.append(optimizer.register_step_post_hook(self._has_stepped))

    def _has_stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Manual optimization: an optimizer has stepped. A raw one was not announced; its gradients are still there."""
        if not self._announced:
            self._guard(self.before_step, optimizer)
        self._stepped, self._announced = True, False

    def before_step(self, optimizer: Any) -> None:
        """`on_before_optimizer_step`: gradients are unscaled (but for fused optimizers) and not clipped yet."""
        if self.session is None:
            return
        self._announced = True
        scale = self._scaler.before_step(optimizer)
        if self._owed or self._schedule.may_be():
            self.session.tracker.gradients(Gradients(optimizer, name=self._name_of(optimizer), scale=scale))

    def batch_ends(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """`on_train_batch_end`."""
        if self.session is None:
            return
        if self._pause is not None:
            self._resume()
        trainer = self.trainer
        step = trainer.global_step if self._counter is None else self._counter.completed
        taken = step - self._seen_step
        stepped = taken > 0
        if not self._automatic:
            # Raw optimizers bypass Lightning's counter of steps; its count of batches is the next best. A step that
            # the gradient scaler skipped is counted, and never reached the optimizer.
            self._raw = self._raw or (self._stepped and taken == 0)
            stepped = self._stepped or taken > 0
            self._stepped = self._announced = False
            step = self._loop._batches_that_stepped + 1 if self._raw else step
        # A row that falls due on a batch without a step (manual optimization) is made by the next step.
        due = self._owed or self._schedule.due(step)
        self._owed = due and not stepped and not self._automatic
        tracker = self.session.tracker
        if due and not self._called and self._unclipped:
            # A stop that was decided within the batch: its gradients are as they were before the step.
            self.before_step(trainer.optimizers[0])
        samples, tokens = batch_counts(batch)
        steps = (taken or 1) if stepped else 0
        tracker.batch(self._loss_of(outputs), samples * self._ranks, tokens * self._ranks, self._data_s, steps)
        self._data_s = 0.0
        self._logged_values.batch_ends()
        # As the batch leaves it: Lightning counts an epoch before it logs it.
        batches = trainer.fit_loop.max_batches
        part = (batch_idx + 1) / batches if 0 < batches < _INF else bool(self._loop.batch_progress.is_last_batch)
        self._at = step, float(trainer.fit_loop.epoch_progress.current.completed + part)
        if self._scaler.flags:
            tracker.skipped(self._scaler.take_skipped())
        if stepped:
            self._seen_step += taken
            self._row_missing = not due
            if due:
                self._schedule.rowed = self._row_due = True
                self._logged_by_connector = False
                tracker.row(self._moment())
        if self._schedule.foresees:
            called = self._schedule.next_may_be(step, batch_idx, stepped)
            if called is not self._called:
                self._call_before_step(called)

    def _call_before_step(self, called: bool) -> None:
        """Where the next batch can't make a row, Lightning is spared `on_before_optimizer_step`."""
        self._called = called
        if called:
            self.kit.__dict__.pop(_BEFORE_STEP, None)
        else:
            self.kit.__dict__[_BEFORE_STEP] = None

    def fit_ends(self) -> None:
        """`on_train_end`: after the last epoch's metrics were logged."""
        if self.session is None:
            return
        self._resume()
        status: Status = "stopped" if self.trainer.should_stop else "finished"
        self.session.end(status)

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

    def _loss_of(self, outputs: Any) -> Any:
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if loss is None or not hasattr(loss, "detach"):
            return None
        # Lightning clones the loss of automatic optimization; a manual one may be a buffer that is used again.
        if not self._automatic:
            loss = loss.detach().clone()
        if loss.ndim:
            if loss.numel() != 1:
                return None
            loss = loss.detach().reshape(())
        divided = self.trainer.accumulate_grad_batches
        return loss * divided if self._automatic and divided != 1 else loss

    def _moment(self) -> Moment:
        """Where the training stands."""
        step, epoch = self._at or (self._seen_step, None)
        return Moment(step, epoch, self._total_steps)

    def _name_of(self, optimizer: Any) -> str:
        optimizers = self.trainer.optimizers
        if len(optimizers) < 2:
            return ""
        kinds = [type(each).__name__ for each in optimizers]
        for index, each in enumerate(optimizers):
            if each is optimizer or getattr(each, "optimizer", None) is optimizer:
                return f"{kinds[index]}_{index}" if kinds.count(kinds[index]) > 1 else kinds[index]
        return type(optimizer).__name__

    # -- pauses --------------------------------------------------------------------------------------------------

    def saving_begins(self, checkpoint: dict[str, Any]) -> None:
        """`on_save_checkpoint`: no hook tells when the file is written; the next event does.

        What leads up to the checkpoint must be on disk before it: a training that goes on from there won't make it.
        """
        if self._row_due:
            self._guard(self._complete_row)
        if self.session is not None:
            self.session.tracker.flush()
            checkpoint[_CARRIED] = self.session.checkpoint_fields()
        if self._pause is None:
            self._pause = ("checkpoint", time.perf_counter())

    def evaluation_begins(self, phase: str) -> None:
        """`on_validation_start`, `on_test_start`."""
        if self.trainer.sanity_checking:
            return
        self._logged_values.evaluation_begins()
        if self._fitting:
            self._resume()
            self._pause = ("evaluation", time.perf_counter())
        else:
            self.session = self.kit.begin(describe(self.trainer, self.trainer.lightning_module, phase))

    def evaluation_ends(self) -> None:
        """`on_validation_end`, `on_test_end`."""
        if self.session is None or self.trainer.sanity_checking:
            return
        if self._fitting:
            self._resume()
        elif self.session.phase == "fitted":
            self.session.tracker.summarise()
        else:
            self.session.tracker.end("finished")

    def _resume(self) -> None:
        if self._pause is not None and self.session is not None:
            what, since = self._pause
            self.session.tracker.pause(what, time.perf_counter() - since)
        self._pause = None

    @property
    def _fitting(self) -> bool:
        return bool(self.trainer.state.fn == "fit")

    # -- what the module logs ------------------------------------------------------------------------------------

    def _logged(self, metrics: dict[str, Any]) -> None:
        if self.session is None or self.trainer.sanity_checking:
            return
        on_batch = self.trainer._logger_connector._first_loop_iter is not None
        split: Split = "val" if self.trainer.validating else "test" if self.trainer.testing else "train"
        tracker = self.session.tracker
        if split != "train":
            if on_batch:
                self._logged_values.evaluated_batch(metrics)
            else:
                self._evaluated(metrics, split)
            return
        if self._row_missing and self.trainer.should_stop:
            # Somebody stopped the training after this step was found to make no row.
            self._row_missing = self._logged_by_connector = False
            tracker.last_row()
            if not on_batch:
                self._complete_row()
        if on_batch:
            self._logged_by_connector = True
            if new := self._logged_values.new(metrics):
                tracker.report(new, BATCH, *self._position)
        elif metrics:
            tracker.report(metrics, Where("epoch"), *self._position)
            tracker.seal()

    def _complete_row(self) -> None:
        """The first and the last row come where Lightning itself may not log: what was logged is still there."""
        self._row_due = False
        if self.session is None:
            return
        if not self._logged_by_connector:
            for name, value in self._logged_values.left_over():
                self.session.tracker.report({name: value}, BATCH, *self._position)
        self.session.tracker.seal()

    def _evaluated(self, metrics: dict[str, Any], split: Split) -> None:
        assert self.session is not None
        for dataset, values in self._logged_values.evaluated(metrics, split).items():
            self.session.tracker.report(values, Where("epoch", split, dataset), *self._position)
        self.session.tracker.seal()

    @property
    def _position(self) -> tuple[int, float | None]:
        """Optimizer steps and passes through the data, of the weights that what is logged now belongs to."""
        last: tuple[int, float | None] | None = self._at or self.kit._lightning_position
        trainer = self.trainer
        step = trainer.global_step if self._loaded_step is None else self._loaded_step
        if last is not None and (self._fitting or step == last[0]):
            return last
        if last is not None and step == 0 and self._loaded_step is None:
            # Lightning's counter knows nothing of it: raw optimizers, or another trainer with the same TrackKit.
            return last
        epoch = trainer.current_epoch if self._loaded_step is None and step else None
        return int(step), None if epoch is None else float(epoch)
