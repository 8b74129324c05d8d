"""The time limits of a training: `Timer` callbacks, of which `Trainer(max_time=...)` makes one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trackkit.integrations.lightning import _compat

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def time_limit(trainer: Trainer) -> float | None:
    """Returns the `time.monotonic` at which a timer ends the training; None without a limit."""
    remaining = [each.time_remaining() for each in _timers(trainer)]
    return min((time.monotonic() + float(each) for each in remaining if each is not None), default=None)


def postpone_timers(trainer: Trainer, since: float) -> None:
    """Leaves out the time since `since`, in `time.monotonic`, from the timers that ran already."""
    seconds = time.monotonic() - since
    for timer in _timers(trainer):
        _compat.postpone(timer, since, seconds)


def _timers(trainer: Trainer) -> list[Any]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return [each for each in callbacks if any(kind.__name__ == "Timer" for kind in type(each).__mro__)]
