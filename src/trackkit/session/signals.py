"""Handles SIGTERM, which SLURM and cloud machines send before they end a job; calls earlier handlers too."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Termination:
    """Reports SIGTERM during a training, then lets the signal have its usual effect.

    Args:
        seen: called first, with whether the signal ends the process at once (no other handler is installed).
    """

    def __init__(self, seen: Callable[[bool], None]) -> None:
        self._seen = seen
        self._before: Any = None
        self._installed = self._arrived = False
        self._holds = 0

    def install(self) -> bool:
        """Installs the handler, and returns whether it did: Python sets handlers in the main thread only."""
        if threading.current_thread() is not threading.main_thread() or self._installed:
            return False
        before = signal.getsignal(signal.SIGTERM)
        if before is None:
            # A handler that was not set from Python can't be chained.
            return False
        self._before = before
        signal.signal(signal.SIGTERM, self._handle)
        self._installed = True
        return True

    def remove(self) -> None:
        """Restores the earlier handler, unless another was chained onto this one, or SIGTERM is held."""
        if self._installed and not self._holds and signal.getsignal(signal.SIGTERM) == self._handle:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTERM, self._before)
                self._installed = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delays SIGTERM until the block has ended, so that a row, or the end of a run, is complete.

        A launcher sends the signal twice, or to a rank that has just failed.
        """
        ours = not self._installed and self.install()
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if ours:
                self.remove()
            if self._arrived and not self._holds:
                self._arrived = False
                os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._holds:
            self._arrived = True
        elif callable(self._before):
            self._report(False)
            self._before(number, frame)
        elif self._before == signal.SIG_DFL:
            self._report(True)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _report(self, ends: bool) -> None:
        # An error of TrackKit's must not keep the signal from its effect.
        with contextlib.suppress(Exception):
            self._seen(ends)
