"""Connects TrackKit to a trainer where Lightning has no hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trackkit.engine import stopwatch
from trackkit.integrations.guard import Kit, call_guarded
from trackkit.integrations.lightning import _compat
from trackkit.integrations.lightning.clock import Clock
from trackkit.integrations.lightning.logged import Logged
from trackkit.integrations.lightning.position import Position
from trackkit.integrations.lightning.saves import Saves
from trackkit.integrations.patches import Patch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


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
        saves: informed of checkpoints.
    """

    def __init__(
        self, kit: Kit, trainer: Trainer, position: Position, clock: Clock, logged: Logged, saves: Saves
    ) -> None:
        self._kit = kit
        self._trainer = trainer
        self._position = position
        self._clock = clock
        self._logged = logged
        self._saves = saves
        self._after_teardown: Callable[[], object] | None = None
        self._patches: list[Patch] = []
        # The callbacks whose removal shows a trial. A kit that another callback calls is not among the trainer's.
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        self._carriers = {id(kit)} if any(each is kit for each in callbacks) else {id(each) for each in callbacks}

    def attach(self) -> None:
        """Wraps the methods."""
        trainer, loop = self._trainer, self._trainer.fit_loop.epoch_loop
        connector = _compat.logger_connector(trainer)
        self._wrap(connector, "log_metrics", self._log_metrics)
        if self._wrap(connector, "update_train_step_metrics", self._update_train_step_metrics):
            self._wrap(_compat.training_results(trainer), "update_metrics", self._update_metrics)
        self._wrap(_compat.checkpoint_connector(trainer), "resume_end", self._resume_end)
        self._wrap(trainer, "save_checkpoint", self._save_checkpoint)
        self._saves.attach(self._wrap)
        self._wrap(trainer.strategy, "teardown", self._strategy_teardown)
        self._wrap(loop.val_loop, "run", self._validation_run)
        self._wrap(loop, _compat.BEFORE_FETCH, self._before_fetch)
        self._wrap(loop, _compat.AFTER_FETCH, self._after_fetch)

    def detach(self) -> None:
        """Restores everything."""
        for patch in reversed(self._patches):
            patch.remove()
        self._patches.clear()

    def before_clipping(self, function: Callable[[Any], None]) -> None:
        """Calls `function` with an optimizer before `LightningModule.clip_gradients` clips its gradients."""

        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            def clip_gradients(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
                if not self.trial_running():
                    self.guard("clip_gradients", function, optimizer)
                return original(optimizer, *args, **kwargs)

            return clip_gradients

        self._wrap(self._trainer.precision_plugin, "clip_gradients", wrapper)

    def after_teardown(self, function: Callable[[], object]) -> None:
        """Calls `function` once, after the next teardown of the strategy: nothing is saved or written any more."""
        self._after_teardown = function

    def trial_running(self) -> bool:
        """Returns whether a finder of learning rates or batch sizes has removed the trainer's callbacks."""
        callbacks: list[Any] = self._trainer.callbacks  # type: ignore[attr-defined]
        return bool(self._carriers) and self._carriers.isdisjoint(map(id, callbacks))

    def guard(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Calls `function`; its errors are counted under `name`."""
        call_guarded(self._kit, name, function, *args, **kwargs)

    def _wrap(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> bool:
        """Replaces a method by `wrapper(method)`. Returns False and warns once if this Lightning lacks it."""
        found = owner is not None and hasattr(owner, name)
        if found:
            self._patches.append(Patch(owner, name, wrapper))
        elif owner is not None:
            _compat.warn_gone(name)
        return found

    def _log_metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def log_metrics(metrics: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            if not self.trial_running():
                self.guard("log_metrics", self._logged.log_metrics, metrics)
            return original(metrics, *args, **kwargs)

        return log_metrics

    def _update_metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        results, logged = _compat.training_results(self._trainer), self._logged

        def update_metrics(key: str, *args: Any, **kwargs: Any) -> Any:
            result = original(key, *args, **kwargs)
            found = _compat.step_value(results, key)
            if found is not None and not self.trial_running():
                logged.log(*found)
            return result

        return update_metrics

    def _update_train_step_metrics(self, original: Callable[..., Any]) -> Callable[..., Any]:
        logged = self._logged

        def update_train_step_metrics() -> Any:
            result = original()
            if not self.trial_running():
                self.guard("update_train_step_metrics", logged.batch_is_over)
            return result

        return update_train_step_metrics

    def _resume_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def resume_end() -> Any:
            self.guard("resume_end", lambda: self._position.checkpoint_loaded(_compat.loaded_checkpoint(self._trainer)))
            return original()

        return resume_end

    def _save_checkpoint(self, original: Callable[..., Any]) -> Callable[..., Any]:
        clock, saves = self._clock, self._saves

        def save_checkpoint(*args: Any, **kwargs: Any) -> Any:
            before = clock.pause
            self.guard("save_checkpoint", clock.stop, "checkpoint")
            self.guard("save_checkpoint", saves.begins, *args, **kwargs)
            result = original(*args, **kwargs)
            self.guard("save_checkpoint", saves.ends)
            if before is not None:
                self.guard("save_checkpoint", clock.stop, before[0])
            elif clock.in_batch:
                self.guard("save_checkpoint", clock.resume)
            return result

        return save_checkpoint

    def _strategy_teardown(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def teardown() -> Any:
            try:
                return original()
            finally:
                function, self._after_teardown = self._after_teardown, None
                if function is not None:
                    self.guard("teardown", function)

        return teardown

    def _validation_run(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.guard("run", self._clock.stop, "evaluation")
            return original(*args, **kwargs)

        return run

    def _before_fetch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        clock = self._clock

        def before_fetch() -> None:
            if self.trial_running():
                self.guard("fetch", clock.stop, "trial")
            else:
                if clock.pause is not None:
                    self.guard("fetch", clock.resume)
                clock.fetch_began = stopwatch.now()
            original()

        return before_fetch

    def _after_fetch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        clock = self._clock

        def after_fetch() -> None:
            original()
            if clock.pause is None:
                clock.data_s += stopwatch.now() - clock.fetch_began
                clock.in_batch = True

        return after_fetch
