"""Whose turn it is to log to a run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from trackkit.integrations.wandb.place import Place

if TYPE_CHECKING:
    import wandb


class Turns:
    """Logs each row at an explicit step, never backwards.

    Other loggers to the same run wait while a row finds its step and is logged, since W&B drops a row below its
    counter. Where they have pushed the counter on, the row goes to that step: its axis keys carry the truth.
    """

    def __init__(self, run: wandb.Run) -> None:
        self._run = run
        self._place = Place()
        self._lock = threading.RLock()
        self._ours = self._counter_known = False
        publish = self._publish = getattr(run, "_partial_history_callback", None)
        if publish is None:
            return

        def in_turn(*args: Any, **kwargs: Any) -> None:
            with self._lock:
                self._counter_known = self._ours
                publish(*args, **kwargs)

        run._partial_history_callback = in_turn  # type: ignore[method-assign]

    def log(self, step: int, values: dict[str, float | int], time: float) -> None:
        """Logs the values of a row of this step, opened at this Unix time in seconds."""
        with self._lock:
            # Asking costs more than logging: only after somebody else has logged.
            self._place.take(step, values, -1 if self._counter_known else self._run.step)
            self._log({**values, "_timestamp": round(time, 6)})

    def begin_above(self, step: int) -> None:
        """Everybody's steps lie above this one: the last in the files of earlier processes, which are to be merged."""
        with self._lock:
            self._place.take(step + 1, {}, -1)
            self._log({})

    def _log(self, values: dict[str, float | int]) -> None:
        self._ours = True
        try:
            self._run.log(values, step=self._place.step)
        finally:
            self._ours = False

    def end(self) -> None:
        """Nobody waits any more."""
        if self._publish is not None:
            self._run._partial_history_callback = self._publish  # type: ignore[method-assign]
