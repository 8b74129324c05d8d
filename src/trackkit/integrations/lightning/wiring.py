"""Connects TrackKit to a trainer where Lightning has no hook, and saves Lightning the calls of unused hooks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trackkit.integrations.guard import Kit, call_guarded
from trackkit.integrations.lightning import _compat
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.logged import Logged
from trackkit.integrations.lightning.position import Position
from trackkit.notices import logger

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_BEFORE_STEP = "on_before_optimizer_step"

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
"""Hooks of every batch that TrackKit does not use."""


class Wiring:
    """Wraps methods of a trainer's own objects, and restores them.

    Lightning has no hook for what the module logs, but every train, epoch and evaluation event passes its logger
    connector's `log_metrics`, as tensors, before any conversion. Ignores trials of the learning-rate and batch-size
    finders during a training: they remove the trainer's callbacks meanwhile.

    Args:
        kit: the TrackKit that records the trainer.
        trainer: the trainer.
        position: informed of a loaded checkpoint.
        clock: informed of fetches and pauses.
        logged: informed of what the module logs.
        skippable: whether only TrackKit uses the kit's `on_before_optimizer_step`, so that calls may be left out.

    Attributes:
        skippable: the argument.
        before_step_called: whether Lightning calls `on_before_optimizer_step`.
    """

    def __init__(
        self, kit: Kit, trainer: Trainer, position: Position, clock: Clock, logged: Logged, skippable: bool
    ) -> None:
        self.skippable = skippable
        self.before_step_called = True
        self._kit = kit
        self._trainer = trainer
        self._position = position
        self._clock = clock
        self._logged = logged
        self._replaced: list[tuple[Any, str]] = []

    def attach(self) -> None:
        """Wraps the methods, and disables the unused hooks."""
        trainer, loop = self._trainer, self._trainer.fit_loop.epoch_loop
        connector = _compat.logger_connector(trainer)
        self._wrap(connector, "log_metrics", self._log_metrics)
        self._wrap(connector, "update_train_step_metrics", self._update_train_step_metrics)
        self._wrap(_compat.checkpoint_connector(trainer), "resume_end", self._resume_end)
        self._wrap(trainer, "save_checkpoint", self._save_checkpoint)
        self._wrap(loop.val_loop, "run", self._validation_run)
        self._wrap(loop, _compat.BEFORE_FETCH, self._before_fetch)
        self._wrap(loop, _compat.AFTER_FETCH, self._after_fetch)
        for name in UNUSED:
            # Lightning skips a hook that cannot be called; calling an empty one costs it 3 us at every batch.
            inherited = getattr(type(self._kit), name, None)
            if inherited is not None and inherited.__module__.endswith(".callbacks.callback"):
                self._replace(self._kit, name, None)

    def detach(self) -> None:
        """Restores everything."""
        for owner, name in self._replaced:
            vars(owner).pop(name, None)
        self._replaced.clear()
        vars(self._kit).pop(_BEFORE_STEP, None)

    def call_before_step(self, called: bool) -> None:
        """Makes Lightning call `on_before_optimizer_step` or leave it out, from the next batch on."""
        self.before_step_called = called
        if called:
            vars(self._kit).pop(_BEFORE_STEP, None)
        else:
            vars(self._kit)[_BEFORE_STEP] = None

    def before_clipping(self, function: Callable[[Any], None]) -> None:
        """Calls `function` with an optimizer before `LightningModule.clip_gradients` clips its gradients."""

        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            def clip_gradients(optimizer: Any, *args: Any, **kwargs: Any) -> None:
                if not self.trial_running():
                    self.guard("clip_gradients", function, optimizer)
                original(optimizer, *args, **kwargs)

            return clip_gradients

        self._wrap(self._trainer.precision_plugin, "clip_gradients", wrapper)

    def trial_running(self) -> bool:
        """Returns whether a finder of learning rates or batch sizes has removed the trainer's callbacks."""
        return self._kit not in self._trainer.callbacks  # type: ignore[attr-defined]

    def guard(self, name: str, function: Callable[..., Any], *args: Any) -> None:
        """Calls `function`; its errors are counted under `name`."""
        call_guarded(self._kit, name, function, *args)

    def _wrap(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Replaces a method by `wrapper(method)`; logs one warning if this Lightning lacks it."""
        original = getattr(owner, name, None)
        if original is None:
            logger.warning("This Lightning has no '%s'; what depends on it is not recorded.", name)
        else:
            self._replace(owner, name, wrapper(original))

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute of an instance, which hides that of its class."""
        vars(owner)[name] = value
        self._replaced.append((owner, name))

    def _log_metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def log_metrics(metrics: dict[str, Any], step: int | None = None) -> None:
            if not self.trial_running():
                self.guard("log_metrics", self._logged.log_metrics, metrics)
            original(metrics, step)

        return log_metrics

    def _update_train_step_metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        logged = self._logged

        def update_train_step_metrics() -> None:
            original()
            if logged.row_due and not self.trial_running():
                self.guard("update_train_step_metrics", logged.complete_row)

        return update_train_step_metrics

    def _resume_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def resume_end() -> None:
            self.guard("resume_end", self._position.checkpoint_loaded)
            original()

        return resume_end

    def _save_checkpoint(self, original: Callable[..., Any]) -> Callable[..., Any]:
        clock = self._clock

        def save_checkpoint(*args: Any, **kwargs: Any) -> None:
            clock.stop("checkpoint")
            original(*args, **kwargs)
            if clock.in_batch:
                self.guard("save_checkpoint", clock.resume)

        return save_checkpoint

    def _validation_run(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run() -> Any:
            self._clock.stop("evaluation")
            return original()

        return run

    def _before_fetch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        clock = self._clock

        def before_fetch() -> None:
            if self.trial_running():
                clock.stop("trial")
            else:
                if clock.pause is not None:
                    self.guard("fetch", clock.resume)
                clock.fetch_began = time.perf_counter()
            original()

        return before_fetch

    def _after_fetch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        clock = self._clock

        def after_fetch() -> None:
            original()
            if clock.pause is None:
                clock.data_s += time.perf_counter() - clock.fetch_began
                clock.in_batch = True

        return after_fetch
