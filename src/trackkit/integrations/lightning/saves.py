"""Reports the checkpoints that a trainer saves, each once it is written and before it may be deleted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Checkpoint
from trackkit.integrations.guard import Kit, call_guarded
from trackkit.integrations.lightning import _compat
from trackkit.integrations.lightning.null import NullTracker
from trackkit.integrations.lightning.position import Position

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from trackkit.engine.tracker import Tracker

FINDERS = (".lr_find_", ".scale_batch_size_")
"""What the names of checkpoints begin with that the finders of learning rates and batch sizes restore and delete."""


class Saves:
    """Follows every save of a trainer, whichever callback or code asks for it; saves nothing itself.

    Lightning has no hook after a save: its loggers are notified of some, and of no link. All pass the trainer's
    `save_checkpoint`, after which Lightning deletes older ones; the method of the callback that calls it tells which
    callback that is, and the values that the callback chose by are those it has just read. (Reading them again would
    be a collective.) A link that `save_last="link"` makes is no save.

    Args:
        kit: the TrackKit that records the trainer.
        trainer: the trainer.
        position: of the training.

    Attributes:
        tracker: of the open run.
    """

    def __init__(self, kit: Kit, trainer: Trainer, position: Position) -> None:
        self.tracker: Tracker | NullTracker = NullTracker()
        self._kit = kit
        self._trainer = trainer
        self._position = position
        self._callbacks: list[Any] = []
        # The callback that saves now, and the metrics that each callback has read, with the step.
        self._saver: Any = None
        self._read: dict[int, tuple[int, Mapping[str, Any]]] = {}
        self._saving: Checkpoint | None = None
        # What was saved last: `save_last` saves what was just saved once more.
        self._last: tuple[Any, ...] = ()
        # Path to what is not written yet, where a thread of Lightning writes.
        self._unwritten: dict[str, list[Checkpoint]] | None = None

    def attach(self, wrap: Callable[[Any, str, Callable[[Any], Any]], bool]) -> None:
        """Wraps methods of the checkpoint callbacks, and of what writes in the background, by `wrap`."""
        self._callbacks = _compat.model_checkpoints(self._trainer)
        for callback in self._callbacks:
            wrap(callback, _compat.MONITOR_CANDIDATES, functools.partial(self._monitor_candidates, callback))
            wrap(callback, _compat.SAVE_CHECKPOINT, functools.partial(self._save_checkpoint, callback))
        writer = _compat.background_writer(self._trainer)
        if writer is not None and wrap(writer, "save_checkpoint", self._write):
            self._unwritten = {}
            wrap(self._trainer.strategy.checkpoint_io, "save_checkpoint", self._queue)

    @property
    def outlast_errors(self) -> bool:
        """Whether checkpoints may be written after `on_exception`."""
        return self._unwritten is not None or _compat.saves_on_exception(self._trainer)

    def begins(self, filepath: Any, weights_only: bool | None = None, storage_options: Any = None) -> None:
        """Notes a save before it is made (`Trainer.save_checkpoint`, with its arguments)."""
        self._saving = None
        path = _text(filepath)
        if not self._trainer.is_global_zero or os.path.basename(path).startswith(FINDERS):
            return
        self._saving = self._described(path, not weights_only)

    def ends(self) -> None:
        """Reports the save, unless it is written in the background. (All ranks have written their parts.)"""
        checkpoint, self._saving = self._saving, None
        if checkpoint is not None:
            self.tracker.checkpoint(checkpoint)

    def _described(self, path: str, resumable: bool) -> Checkpoint:
        moment, callback = self._position.moment(), self._saver
        before, self._last = self._last, (id(callback), self._trainer.global_step, moment.step, resumable)
        again = callback is not None and self._last == before
        # Lightning doesn't count the steps of raw optimizers, and a callback before TrackKit may save.
        step = max(self._trainer.global_step, moment.step)
        if callback is None or callback.monitor is None:
            return Checkpoint(path, step, "lightning", moment.epoch, resumable=resumable, again=again)
        read_at, metrics = self._read.get(id(callback), (-1, {}))
        value = metrics.get(callback.monitor) if read_at == self._trainer.global_step else None
        return Checkpoint(
            path,
            step,
            "lightning",
            moment.epoch,
            monitor=callback.monitor,
            value=None if value is None else float(value),
            goal=callback.mode,
            series=self._series(callback.monitor, callback.mode),
            resumable=resumable,
            again=again,
        )

    def _series(self, monitor: str, goal: str) -> str:
        """Returns which of several series a save belongs to: each has one best; "" if there is one series."""
        found = {(each.monitor, each.mode) for each in self._callbacks if each.monitor is not None}
        if len(found) < 2:
            return ""
        return monitor if len({mode for name, mode in found if name == monitor}) == 1 else f"{monitor}-{goal}"

    def _monitor_candidates(self, callback: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def monitor_candidates(*args: Any, **kwargs: Any) -> Any:
            metrics = original(*args, **kwargs)
            self._read[id(callback)] = (self._trainer.global_step, metrics)
            return metrics

        return monitor_candidates

    def _save_checkpoint(self, callback: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def save_checkpoint(*args: Any, **kwargs: Any) -> Any:
            self._saver = callback
            try:
                return original(*args, **kwargs)
            finally:
                self._saver = None

        return save_checkpoint

    def _queue(self, original: Callable[..., Any]) -> Callable[..., Any]:
        # A sharded checkpoint is written by the strategy itself, and does not come here.
        def save_checkpoint(*args: Any, **kwargs: Any) -> Any:
            saving, self._saving = self._saving, None
            if saving is not None and self._unwritten is not None:
                self._unwritten.setdefault(saving.path, []).append(saving)
            return original(*args, **kwargs)

        return save_checkpoint

    def _write(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save_checkpoint(checkpoint: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
            waiting = (self._unwritten or {}).get(_text(path))
            written = waiting.pop(0) if waiting else None
            result = original(checkpoint, path, *args, **kwargs)
            if written is not None:
                call_guarded(self._kit, "save_checkpoint", self.tracker.checkpoint, written)
            return result

        return save_checkpoint


def _text(path: Any) -> str:
    """Returns an absolute path, or a URL."""
    text = str(os.fspath(path)).removeprefix("file://")
    return text if "://" in text else os.path.abspath(text)
