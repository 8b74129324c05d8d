"""The thread that talks to W&B: `run.log` takes 0.1 to 0.3 ms, `run.step` is a round trip, `run.finish` may wait."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from trackkit.notices import logger

BURST_S = 0.25
QUIET_S = 1.0
# wandb-core applies the same bound from the start of `run.finish`, which comes a little later.
GRACE_S = 2.0
# A task that has failed so often is left out: what it would write is in the local log.
TRIES = 7


class Worker:
    """Runs tasks one after another, in bursts, on a thread of its own.

    The next call of `submit` raises the error of a task; the call after that has the task run again, before all others.

    Args:
        bound_s: seconds that `finish` may take.

    Attributes:
        drained: set once all submitted tasks have run.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._tasks: queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._hurry, self._again, self._flushed = threading.Event(), threading.Event(), threading.Event()
        self._ends = False
        self._final: Callable[[], None] = lambda: None
        self._over = threading.Event()
        self._late = False
        self.drained = threading.Event()

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._work, name="trackkit-wandb", daemon=True)
        self._thread.start()

    def submit(self, task: Callable[..., object], *args: Any) -> None:
        """Queues a task with its arguments; raises the error of an earlier one."""
        self.raise_error()
        self._tasks.put((task, args))
        self._again.set()

    def offer(self, task: Callable[..., object], *args: Any) -> None:
        """Queues a task that may fail: ignores its errors, and does not raise those of earlier tasks."""
        self._tasks.put((_ignoring_errors, (task, *args)))

    def raise_error(self) -> None:
        """Raises the error of the last task that failed, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def flush(self, timeout_s: float) -> None:
        """Waits until all tasks submitted so far have run, or one has failed; returns at once after `finish`."""
        if self.drained.is_set():
            return
        done = self._flushed = threading.Event()
        self.submit(done.set)
        self._hurry.set()
        done.wait(timeout_s)
        self._hurry.clear()

    def finish(self, final: Callable[[], None]) -> bool:
        """Runs the remaining tasks and then `final`; returns whether that was done within the bound."""
        deadline = time.monotonic() + self._bound_s
        self._final, self._ends = final, True
        self._tasks.put(None)
        self._hurry.set()
        self._again.set()
        if self._thread is None:
            self._end()
            return True
        if not self._over.wait(QUIET_S):
            logger.info("Waiting up to %.0f s for W&B.", self._bound_s)
            if self.drained.wait(max(0.0, deadline - time.monotonic())):
                deadline += GRACE_S
            self._late = not self._over.wait(max(0.0, deadline - time.monotonic()))
        if not self._late:
            self._thread.join(QUIET_S)
        return not self._late

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            tries = 0
            while not self._late and tries < TRIES and not self._has_run(*task):
                tries += 1
                self._flushed.set()
                self._again.wait()
            if self._late:
                return
            if self._tasks.empty():
                # A thread that wakes up at every row takes the interpreter from the training each time.
                self._hurry.wait(BURST_S)
        self._end()

    def _has_run(self, task: Callable[..., object], args: tuple[Any, ...]) -> bool:
        self._again.clear()
        if self._ends:
            self._again.set()
        return self._run(task, args)

    def _end(self) -> None:
        self.drained.set()
        if not self._late:
            self._run(self._final)
        self._over.set()

    def _run(self, task: Callable[..., object], args: tuple[Any, ...] = ()) -> bool:
        """Runs a task; returns whether it succeeded."""
        try:
            task(*args)
        except Exception as error:  # noqa: BLE001 -- raised by the sink's next call
            # After the bound, errors come from the abandoned wandb-core and are expected.
            self._error = None if self._late else error
            return False
        return True


def _ignoring_errors(task: Callable[..., object], *args: Any) -> None:
    with contextlib.suppress(Exception):
        task(*args)
