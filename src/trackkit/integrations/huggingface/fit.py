"""One training: its steps, its clock and its counters."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trackkit.engine import stopwatch
from trackkit.engine.records import Gradients, Moment
from trackkit.engine.run_info import Status
from trackkit.integrations.huggingface import _compat
from trackkit.integrations.huggingface.logged import MEAN_LOSS
from trackkit.integrations.huggingface.losses import LossParts
from trackkit.integrations.huggingface.progress import Losses, Progress
from trackkit.integrations.huggingface.saves import Saves
from trackkit.integrations.huggingface.trl import NullTrl

if TYPE_CHECKING:
    from trackkit.session.session import Session


class NullFit:
    """A training that is not recorded: ignores all its events.

    Attributes:
        trl: receives what TRL alone logs.
    """

    trl = NullTrl()

    @property
    def stepped(self) -> bool:
        """Whether it has taken a step."""
        return False

    def step_begins(self) -> None:
        """Starts a step at `on_step_begin`: its batches have been fetched."""

    def may_end(self, step: int) -> bool:
        """Returns whether early stopping may end the training after `step`."""
        return False

    def before_step(self, optimizer: Any) -> None:
        """Measures before a step that may make a row, at `on_pre_optimizer_step`."""

    def step_ends(self, row: bool, optimizer: Any) -> None:
        """Counts a step at `on_step_end`; makes a row if `row`."""

    def epoch_ends(self, cut: bool) -> None:
        """Ends an epoch at `on_epoch_end`; `cut` says whether it was stopped early."""

    def logged(self, session: Session, loss: float | None) -> None:
        """Notes that the trainer logs into the run of `session`; `loss` is the mean since its last log."""

    def totals(self, columns: Mapping[str, float]) -> None:
        """Records the summary columns that the trainer logs at its end."""

    def saving(self) -> None:
        """Prepares for a checkpoint that the trainer is about to save."""

    def paused(self, what: str) -> None:
        """Counts the time since the last event as `what`, not as training."""

    def resumes(self) -> None:
        """Starts the clock of the next step: training continues."""

    def ends(self) -> None:
        """Ends the training at `on_train_end`."""

    def released(self) -> None:
        """Restores what was replaced in the trainer, also after a training that an exception has ended."""


class Fit(NullFit):
    """One training of a trainer, from `on_train_begin` to `on_train_end`.

    Args:
        session: its run.
        state: the trainer's, which holds its counters.
        progress: the counters that the state lacks.
        saves: its checkpoints.
        optimizer: the trainer's.
        evaluates: steps between two evaluations; 0 if there are none.
        trl: receives what TRL alone logs.
        parts: reports the parts of the loss; None if the trainer is not known.
    """

    def __init__(
        self,
        session: Session,
        state: Any,
        progress: Progress,
        saves: Saves,
        optimizer: Any,
        evaluates: int,
        trl: NullTrl,
        parts: LossParts | None,
    ) -> None:
        self.trl = trl
        # The trainer keeps them, and nothing of TrackKit's keeps a trainer alive.
        self._parts = weakref.ref(parts) if parts is not None else lambda: None
        self._session = session
        self._tracker = session.tracker
        self._progress = progress
        self._saves = saves
        self._state = state
        self._losses = Losses(state.log_history, state.global_step)
        self._evaluates = evaluates
        self._scaled = _compat.is_scaled(optimizer)
        self._first = self._seen_step = self._row_step = state.global_step
        self._samples, self._tokens = progress.samples(self._seen_step), int(state.num_input_tokens_seen)
        self._data_s = 0.0
        self._mark = stopwatch.now()
        session.tracker.position, session.tracker.evaluating = self._moment, True

    def step_begins(self) -> None:
        self._tracker.evaluating = False
        self._data_s += stopwatch.now() - self._mark

    @property
    def stepped(self) -> bool:
        return bool(self._state.global_step > self._first)

    def may_end(self, step: int) -> bool:
        return self._evaluates > 0 and step % self._evaluates == 0

    def before_step(self, optimizer: Any) -> None:
        # Gradients are clipped already; the learning rate is still that of this step.
        self._tracker.gradients(Gradients(optimizer, clipped=True))

    def step_ends(self, row: bool, optimizer: Any) -> None:
        self._tracker.evaluating = True
        if self._scaled and _compat.step_was_skipped(optimizer):
            self._tracker.skipped(True)
        if row:
            self._tracker.row(self._moment())
            self._row_step = self._state.global_step
        self._mark = stopwatch.now()

    def epoch_ends(self, cut: bool) -> None:
        self._progress.epoch_ends(self._state.global_step, cut)

    def logged(self, session: Session, loss: float | None) -> None:
        if session is not self._session or session.phase != "fitting":
            return
        if loss is not None:
            self._losses.add(loss, self._state.global_step)
        if self._state.global_step != self._row_step:
            # The trainer logs a step that `on_step_end` did not announce, such as at an epoch's end.
            self._tracker.last_row()

    def totals(self, columns: Mapping[str, float]) -> None:
        total = dict(columns)
        loss = total.pop(MEAN_LOSS, None)
        mean = None if loss is None else self._losses.mean(loss, self._state.global_step)
        self._tracker.note(total if mean is None else {**total, MEAN_LOSS: mean})

    def saving(self) -> None:
        # A training that resumes from the checkpoint won't make the rows so far again.
        self._tracker.flush()

    def paused(self, what: str) -> None:
        now = stopwatch.now()
        self._tracker.pause(what, now - self._mark)
        self._mark = now

    def resumes(self) -> None:
        self._mark = stopwatch.now()

    def ends(self) -> None:
        self.released()
        self._saves.ends()
        status: Status = "finished" if self._state.global_step >= self._state.max_steps else "stopped"
        self._session.end(status)

    def released(self) -> None:
        self.trl.ends()
        self.trl = NullTrl()
        if (parts := self._parts()) is not None:
            parts.ends()

    def _moment(self) -> Moment:
        """Returns where the training stands, once the tracker has what was counted since the last row."""
        state = self._state
        step: int = state.global_step
        steps = step - self._seen_step
        if steps:
            samples, tokens = self._progress.samples(step), int(state.num_input_tokens_seen)
            more = None if samples is None or self._samples is None else samples - self._samples
            self._tracker.batch(None, more, tokens - self._tokens, self._data_s, steps)
            self._samples, self._tokens, self._seen_step, self._data_s = samples, tokens, step, 0.0
        return Moment(step, state.epoch, state.max_steps if state.max_steps > 0 else None)
