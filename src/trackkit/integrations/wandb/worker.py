"""The thread that talks to W&B: `run.log` costs 0.1 to 0.3 ms, `run.step` is a round trip, `run.finish` may wait."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from trackkit.notices import logger

GATHER_S = 0.25
QUIET_S = 1.0
# W&B's own process keeps the bound itself, from when it is told of the end; what comes before and after takes longer.
GRACE_S = 2.0


class Worker:
    """Does one task after the other, in bursts.

    Args:
        bound_s: seconds that it may take to do what is left at the end.

    Attributes:
        drained: set when all tasks are done, but for the last word.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._hurry = threading.Event()
        self._last_word: Callable[[], None] | None = None
        self._over = threading.Event()
        self._late = False
        self.drained = threading.Event()

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._work, name="trackkit-wandb", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], None]) -> None:
        """Leaves a task to the thread; raises what an earlier one has raised."""
        self.raise_failed()
        self._tasks.put(task)

    def raise_failed(self) -> None:
        """What went wrong in the thread is the tracker's to hear, on the next call."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def flush(self, timeout_s: float) -> None:
        """Waits until everything submitted so far is done; not after `end`."""
        if self.drained.is_set():
            return
        done = threading.Event()
        self.submit(done.set)
        self._hurry.set()
        done.wait(timeout_s)
        self._hurry.clear()

    def end(self, last_word: Callable[[], None] | None) -> bool:
        """No more tasks will come. Whether all are done, and the last word is said, within the bound."""
        deadline = time.monotonic() + self._bound_s
        self._last_word = last_word
        self._tasks.put(None)
        self._hurry.set()
        if self._thread is None:
            self._end()
            return True
        if not self._over.wait(QUIET_S):
            logger.info("waiting up to %.0f s for W&B", self._bound_s)
            if self.drained.wait(max(0.0, deadline - time.monotonic())):
                deadline += GRACE_S
            self._late = not self._over.wait(max(0.0, deadline - time.monotonic()))
        if not self._late:
            self._thread.join(QUIET_S)
        return not self._late

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._late:
                return
            self._do(task)
            if self._tasks.empty():
                # In bursts: a thread that wakes at every row takes the interpreter from the training each time.
                self._hurry.wait(GATHER_S)
        self._end()

    def _end(self) -> None:
        self.drained.set()
        if self._last_word is not None and not self._late:
            self._do(self._last_word)
        self._over.set()

    def _do(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:
            # What comes of a process that is given up is told as such.
            self._failed = None if self._late else error
