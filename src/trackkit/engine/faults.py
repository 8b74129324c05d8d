"""Keeps a training from what fails around it: a callback or a sink that raises is switched off; the others go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from trackkit.engine.callback import Callback
from trackkit.engine.sink import Sink
from trackkit.notices import logger


class Faults:
    """The errors that TrackKit has survived in a run.

    Attributes:
        count: how many.
    """

    def __init__(self) -> None:
        self.count = 0
        self._told: dict[str, None] = {}

    def add(self, where: str, error: BaseException) -> None:
        """Something of TrackKit's failed: counted; its traceback is logged the first time."""
        self.count += 1
        if where not in self._told:
            self._told[where] = None
            logger.error("%s failed and is switched off; training goes on", where, exc_info=error)

    def left_out(self, parts: Iterable[tuple[str, Exception]]) -> None:
        """What a run's description lacks, in words, and why: each is counted and told."""
        for what, error in parts:
            self.count += 1
            logger.error("%s can't be recorded; training goes on without", what, exc_info=error)

    def sum_up(self) -> None:
        """Says once more, in one line, how many there were, and what was switched off: nobody reads all of a log."""
        if self.count:
            parts = ", ".join(dict.fromkeys(where.partition(" (")[0] for where in self._told))
            told = "1 error" if self.count == 1 else f"{self.count} errors"
            off = f"; switched off: {parts}" if parts else ""
            logger.warning("TrackKit has met %s of its own in this run, with tracebacks further up%s", told, off)


class Callbacks:
    """The callbacks of a run that are still switched on."""

    def __init__(self, callbacks: Iterable[Callback], faults: Faults) -> None:
        self._all = list(callbacks)
        self._faults = faults
        self._listening: dict[str, list[Callback]] = {}

    def each(self, what: str, call: Callable[[Callback], object]) -> None:
        """Calls those that have a method `what` of their own: `call` calls it."""
        listening = self._listening.get(what)
        if listening is None:
            listening = [each for each in self._all if getattr(type(each), what) is not getattr(Callback, what)]
            self._listening[what] = listening
        for callback in listening:
            try:
                call(callback)
            except Exception as error:
                self._all.remove(callback)
                self._listening = {}
                self._faults.add(f"callback '{type(callback).__name__}' ({what})", error)


class Sinks:
    """The sinks of a run that are still switched on, in order."""

    def __init__(self, sinks: Iterable[Sink], faults: Faults) -> None:
        self._all = list(sinks)
        self._dropped: list[Sink] = []
        self._faults = faults

    def each(self, what: str, call: Callable[[Sink], object]) -> None:
        """Calls every sink: `call` calls its method `what`.

        Raises:
            Exception: one of the sink's own `FATAL`.
        """
        for sink in tuple(self._all):
            try:
                call(sink)
            except Exception as error:
                if isinstance(error, sink.FATAL):
                    raise
                self._all.remove(sink)
                self._dropped.append(sink)
                self._faults.add(f"sink '{type(sink).__name__}' ({what})", error)

    def let_go(self, exit_code: int) -> None:
        """No more calls. A sink that was switched off may still hold a run or a file open."""
        for sink in self._dropped:
            with contextlib.suppress(Exception):
                sink.close(exit_code)
        self._all, self._dropped = [], []
