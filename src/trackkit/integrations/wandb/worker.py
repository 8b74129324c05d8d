"""The thread that talks to W&B: `run.log` costs 0.1 to 0.3 ms, `run.step` is a round trip."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from trackkit.notices import logger

GATHER_S = 0.25
QUIET_S = 1.0


class Worker:
    """Does one task after the other, in bursts.

    Args:
        bound_s: seconds that it may take to do what is left at the end.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._hurry = threading.Event()
        self._drained = threading.Event()
        self._finished = threading.Event()

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
        """Waits until everything submitted so far is done; not after `drain`."""
        if self._drained.is_set():
            return
        done = threading.Event()
        self.submit(done.set)
        self._hurry.set()
        done.wait(timeout_s)
        self._hurry.clear()

    def drain(self) -> bool:
        """No more tasks will come; whether all are done, within the bound."""
        self._tasks.put(None)
        self._hurry.set()
        return self._thread is None or self._drained.wait(self._bound_s)

    def end(self) -> None:
        """What came after the last task is over too, and so the thread ends."""
        self._finished.set()
        if self._thread is not None and self._drained.is_set():
            self._thread.join(QUIET_S)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except Exception as error:
                self._failed = error
            if self._tasks.empty():
                # In bursts: a thread that wakes at every row takes the interpreter from the training each time.
                self._hurry.wait(GATHER_S)
        self._drained.set()
        if not self._finished.wait(QUIET_S):
            # Said from here, since a program that is ending can start no thread for it.
            logger.info("waiting up to %.0f s for W&B", self._bound_s)
