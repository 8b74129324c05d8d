"""What a trainer is made to tell beyond its hooks, and which of its hooks it is spared."""

from __future__ import annotations

import time
from typing import Any

from trackkit.errors import SchemaError
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.hooks import LightningHooks
from trackkit.integrations.lightning.patches import Patches
from trackkit.integrations.lightning.position import Position
from trackkit.integrations.lightning.reports import Reports

_BEFORE_STEP = "on_before_optimizer_step"

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


class Wiring:
    """Between a trainer's own objects and what listens to them.

    Lightning has no hook for what the module logs: the logger connector's `log_metrics` is wrapped on this trainer's
    own connector, where every train, epoch and evaluation event passes as tensors, before any conversion. Nothing is
    heard of a trial in mid-training (Lightning's finders of a learning rate or a batch size), which takes the
    trainer's callbacks away.
    """

    def __init__(self, kit: Any, trainer: Any, position: Position, clock: Clock, reports: Reports) -> None:
        self._kit = kit
        self._trainer = trainer
        self._position = position
        self._clock = clock
        self._reports = reports
        self._patches = Patches()
        # A user's own hook is called at every step.
        self.spares = type(kit).on_before_optimizer_step is LightningHooks.on_before_optimizer_step
        """Whether Lightning can be spared `on_before_optimizer_step`."""

    def attach(self) -> None:
        """Wraps what Lightning offers no hook for, on this trainer's own objects."""
        trainer, patches = self._trainer, self._patches
        connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
        patches.wrap(connector, "log_metrics", self._wrap_log_metrics)
        patches.wrap(connector, "update_train_step_metrics", self._wrap_update)
        patches.wrap(trainer._checkpoint_connector, "resume_end", self._wrap_resume_end)
        patches.wrap(trainer, "save_checkpoint", self._wrap_save)
        patches.wrap(loop.val_loop, "run", self._wrap_validation)
        patches.wrap(loop, "_on_before_fetch", self._wrap_before_fetch)
        patches.wrap(loop, "_on_after_fetch", self._wrap_after_fetch)
        for name in UNUSED:
            # Lightning passes over a hook that can't be called; calling an empty one costs it 3 us at every batch.
            inherited = getattr(type(self._kit), name, None)
            if inherited is not None and inherited.__module__.endswith(".callbacks.callback"):
                patches.put(self._kit, name, None)

    def detach(self) -> None:
        """Puts everything back."""
        self._patches.undo()
        self._kit.__dict__.pop(_BEFORE_STEP, None)

    def call_before_step(self, called: bool) -> None:
        """Where the next batch can't make a row, Lightning is spared `on_before_optimizer_step`."""
        if called:
            self._kit.__dict__.pop(_BEFORE_STEP, None)
        else:
            self._kit.__dict__[_BEFORE_STEP] = None

    def before_clipping(self, call: Any) -> None:
        """Tells `call` of an optimizer whose gradients `LightningModule.clip_gradients` is about to clip."""

        def wrap(original: Any) -> Any:
            def clip_gradients(optimizer: Any, *args: Any, **kwargs: Any) -> None:
                if self.heard():
                    self.guard(call, optimizer)
                original(optimizer, *args, **kwargs)

            return clip_gradients

        self._patches.wrap(self._trainer.precision_plugin, "clip_gradients", wrap)

    def heard(self) -> bool:
        """Whether the trainer does its own work, and no trial."""
        return self._kit in self._trainer.callbacks

    def guard(self, call: Any, *args: Any) -> None:
        """Calls what no hook of Lightning's does; what fails is counted, but for what the user has to mend."""
        try:
            call(*args)
        except SchemaError:
            raise
        except Exception as error:
            self._kit.hook_failed(call.__name__, error)

    def _wrap_log_metrics(self, original: Any) -> Any:
        def log_metrics(metrics: dict[str, Any], step: int | None = None) -> None:
            if self.heard():
                self.guard(self._reports.logged, metrics)
            original(metrics, step)

        return log_metrics

    def _wrap_update(self, original: Any) -> Any:
        reports = self._reports

        def update_train_step_metrics() -> None:
            original()
            if reports.row_due and self.heard():
                self.guard(reports.complete_row)

        return update_train_step_metrics

    def _wrap_resume_end(self, original: Any) -> Any:
        def resume_end() -> None:
            self.guard(self._position.loaded)
            original()

        return resume_end

    def _wrap_save(self, original: Any) -> Any:
        clock = self._clock

        def save_checkpoint(*args: Any, **kwargs: Any) -> None:
            clock.stop("checkpoint")
            original(*args, **kwargs)
            if clock.in_batch:
                self.guard(clock.resume)

        return save_checkpoint

    def _wrap_validation(self, original: Any) -> Any:
        def run() -> Any:
            self._clock.stop("evaluation")
            return original()

        return run

    def _wrap_before_fetch(self, original: Any) -> Any:
        clock = self._clock

        def before_fetch() -> None:
            if self.heard():
                if clock.pause is not None:
                    self.guard(clock.resume)
                clock.fetch_began = time.perf_counter()
            else:
                clock.stop("trial")
            original()

        return before_fetch

    def _wrap_after_fetch(self, original: Any) -> Any:
        clock = self._clock

        def after_fetch() -> None:
            original()
            if clock.pause is None:
                clock.data_s += time.perf_counter() - clock.fetch_began
                clock.in_batch = True

        return after_fetch
