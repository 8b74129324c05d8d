"""One training: its steps, its clock, and where it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Gradients, Moment
from trackkit.engine.run_info import Status

if TYPE_CHECKING:
    from trackkit.integrations.huggingface.progress import Progress
    from trackkit.session.session import Session


class Fit:
    """One training of a trainer, from `on_train_begin` to `on_train_end`.

    Args:
        session: its run.
        state: the trainer's, which holds all counters.
        progress: what those leave out.
        optimizer: the trainer's.
    """

    def __init__(self, session: Session, state: Any, progress: Progress, optimizer: Any) -> None:
        self.session = session
        self.progress = progress
        self.begun: int = state.global_step
        self._state = state
        self._scaled = getattr(optimizer, "scaler", None) is not None
        self._seen_step, self._samples = self.begun, progress.samples(self.begun)
        self._tokens = int(state.num_input_tokens_seen)
        self._data_s = 0.0
        self._mark = time.perf_counter()
        session.tracker.position = self._moment

    def step_begins(self) -> None:
        """`on_step_begin`: this update's batches have been fetched."""
        self._data_s += time.perf_counter() - self._mark

    def before_step(self, optimizer: Any) -> None:
        """`on_pre_optimizer_step`, where a row is expected: gradients are clipped already; the rate is this step's."""
        self.session.tracker.gradients(Gradients(optimizer, clipped=True))

    def between_rows(self, should_log: bool) -> bool:
        """`on_step_end` of most steps: all counters are the trainer's own, and are read when a row is made."""
        if should_log or self._scaled:
            return False
        self._mark = time.perf_counter()
        return True

    def step_ends(self, should_log: bool, optimizer: Any) -> None:
        """`on_step_end`: the step is counted; the log that may follow reports into the row opened here."""
        if self._scaled and optimizer.step_was_skipped:
            self.session.tracker.skipped(True)
        if should_log:
            self.session.tracker.row(self._moment())
        self._mark = time.perf_counter()

    def resumes(self) -> None:
        """What has taken its time is over: the clock of the next step begins."""
        self._mark = time.perf_counter()

    def paused(self, what: str) -> None:
        """The time since the last event was not training."""
        now = time.perf_counter()
        self.session.tracker.pause(what, now - self._mark)
        self._mark = now

    def ends(self) -> None:
        """`on_train_end`."""
        status: Status = "finished" if self._state.global_step >= self._state.max_steps else "stopped"
        self.session.end(status)

    def _moment(self) -> Moment:
        """Where the training stands; what has passed since the last row goes to the tracker."""
        state = self._state
        step: int = state.global_step
        steps = step - self._seen_step
        if steps:
            samples, tokens = self.progress.samples(step), int(state.num_input_tokens_seen)
            more = None if samples is None or self._samples is None else samples - self._samples
            self.session.tracker.batch(None, more, tokens - self._tokens, self._data_s, steps)
            self._samples, self._tokens, self._seen_step, self._data_s = samples, tokens, step, 0.0
        return Moment(step, state.epoch, state.max_steps if state.max_steps > 0 else None)
