"""SIGTERM, which SLURM and cloud machines send before they take a job down: chained, never replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Termination:
    """Tells of SIGTERM while a training runs, and then lets happen what would have happened without it.

    Args:
        seen: called first, with whether the signal will end the process at once (nobody else handles it).
    """

    def __init__(self, seen: Callable[[bool], None]) -> None:
        self._seen = seen
        self._before: Any = None
        self._installed = self._arrived = False
        self._holds = 0

    def install(self) -> bool:
        """Whether there was anything to do: not outside the main thread, where Python sets no handlers."""
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
        """Puts the earlier handler back, unless somebody has chained onto this one since, or SIGTERM is held."""
        if self._installed and not self._holds and signal.getsignal(signal.SIGTERM) == self._handle:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGTERM, self._before)
                self._installed = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """SIGTERM waits for the end of the block: a row is whole, and an end that has begun comes to its end.

        A launcher sends it twice, or to a rank that has just failed.
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
            self._tell(False)
            self._before(number, frame)
        elif self._before == signal.SIG_DFL:
            self._tell(True)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _tell(self, ends: bool) -> None:
        # Whatever goes wrong in here must not keep the signal from its work.
        with contextlib.suppress(Exception):
            self._seen(ends)
