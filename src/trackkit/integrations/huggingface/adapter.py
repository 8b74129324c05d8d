"""Tells the tracker what a Hugging Face trainer does."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.integrations.huggingface import logged
from trackkit.integrations.huggingface.describe import describe
from trackkit.integrations.huggingface.sizes import Sizes
from trackkit.records import BATCH, Gradients, Moment, Status

if TYPE_CHECKING:
    from trackkit.session import Session


class HuggingFaceAdapter:
    """Tells the tracker what one Hugging Face trainer does."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.session: Session | None = None
        self._mark = time.perf_counter()
        self._data_s = 0.0
        self._samples = self._tokens = self._seen_step = 0
        self._sizes = Sizes()
        self._state: Any = None
        self._scaled = False

    # -- training ------------------------------------------------------------------------------------------------

    def fit_begins(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        """`on_train_begin`: after a resumed state is loaded; again after an out-of-memory retry, in the same run."""
        self._sizes = Sizes.of(args, state, kwargs.get("train_dataloader"))
        self._samples = self._sizes.samples(state)
        self._tokens = int(state.num_input_tokens_seen)
        self._state, self._seen_step, self._data_s = state, state.global_step, 0.0
        self._scaled = getattr(kwargs.get("optimizer"), "scaler", None) is not None
        start = describe(args, state, kwargs, "fit", self._samples, self._tokens)
        broken_off = self.session
        if args.auto_find_batch_size and broken_off is not None and broken_off.phase == "fitting":
            start = replace(start, again=True, checkpoint=broken_off.checkpoint_fields())
        elif state.global_step and "trackkit" in state.stateful_callbacks:
            start = replace(start, checkpoint=state.stateful_callbacks["trackkit"]["attributes"])
        self.session = self.kit.begin(replace(start, step=state.global_step))
        self.session.tracker.position = self._moment
        # Plain data under a callback's name is saved with every checkpoint, and is there again on resume.
        state.stateful_callbacks["trackkit"] = {"args": {}, "attributes": self.session.checkpoint_fields()}
        self._mark = time.perf_counter()

    def step_begins(self) -> None:
        """`on_step_begin`: this update's batches have been fetched."""
        self._data_s += time.perf_counter() - self._mark

    def before_step(self, optimizer: Any) -> None:
        """`on_pre_optimizer_step`, where a row is expected: gradients are clipped already; the rate is this step's."""
        if self.session is not None:
            self.session.tracker.gradients(Gradients(optimizer, clipped=True))

    def between_rows(self, should_log: bool) -> bool:
        """`on_step_end` of most steps: all counters are the trainer's own, and are read when a row is made."""
        if should_log or self._scaled:
            return False
        self._mark = time.perf_counter()
        return True

    def step_ends(self, state: Any, control: Any, optimizer: Any) -> None:
        """`on_step_end`: the step is counted; the log that may follow reports into the row opened here."""
        if self.session is None or self._state is None:
            return
        if self._scaled and optimizer.step_was_skipped:
            self.session.tracker.skipped(True)
        if control.should_log:
            self.session.tracker.row(self._moment())
        self._mark = time.perf_counter()

    def _moment(self) -> Moment:
        """Where the training stands; what has passed since the last row goes to the tracker."""
        assert self.session is not None
        state = self._state
        samples, tokens = self._sizes.samples(state), int(state.num_input_tokens_seen)
        steps = state.global_step - self._seen_step
        if steps:
            self.session.tracker.batch(None, samples - self._samples, tokens - self._tokens, self._data_s, steps)
            self._samples, self._tokens, self._seen_step, self._data_s = samples, tokens, state.global_step, 0.0
        return Moment(state.global_step, state.epoch, state.max_steps if state.max_steps > 0 else None)

    def fit_ends(self, state: Any) -> None:
        """`on_train_end`."""
        if self.session is None:
            return
        status: Status = "finished" if state.global_step >= state.max_steps else "stopped"
        self.session.end(status)

    def paused(self, what: str) -> None:
        """The time since the last event was not training."""
        now = time.perf_counter()
        if self.session is not None:
            self.session.tracker.pause(what, now - self._mark)
        self._mark = now

    # -- what is logged ------------------------------------------------------------------------------------------

    def logged(self, args: Any, state: Any, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """`on_log`: training, an evaluation, the last word of a training, or the user's own."""
        prefix = logged.evaluation_prefix(logs)
        if prefix is not None:
            self.paused("evaluation")
            self._evaluated(args, state, prefix, logs, kwargs)
        elif logged.is_last_word(logs):
            if self.session is not None:
                self.session.tracker.note(logged.last_word(logs))
        else:
            self._stepped(args, state, logs, kwargs)

    def predicted(self, args: Any, state: Any, metrics: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """`on_predict`: with labels its metrics are a test's."""
        self._evaluated(args, state, logged.evaluation_prefix(metrics) or "test", metrics, kwargs)

    def _stepped(self, args: Any, state: Any, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        session = self._session_for(args, state, kwargs)
        tracker, own, others = session.tracker, logged.measured(logs), logged.users(logs)
        if "batch/lr" in own and session.phase == "fitting":
            # The trainer's own log of a step that nobody announced in `on_step_end`, such as at an epoch's end.
            tracker.last_row()
        if own:
            tracker.report(own, BATCH, state.global_step, state.epoch, framework=True)
        if others:
            tracker.report(others, BATCH, state.global_step, state.epoch)
        if own:
            tracker.seal()
            self._mark = time.perf_counter()

    def _evaluated(self, args: Any, state: Any, prefix: str, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        where, metrics = logged.evaluated(logs, prefix)
        if not any(value is not None for value in metrics.values()):
            return
        session = self._session_for(args, state, kwargs)
        session.tracker.report(metrics, where, state.global_step, state.epoch)
        session.tracker.seal()
        if session.phase == "fitted":
            session.tracker.summarise()
        elif session.phase == "evaluating":
            session.tracker.end("finished")

    def _session_for(self, args: Any, state: Any, kwargs: dict[str, Any]) -> Session:
        """The open run, or, where nothing trains, one of an evaluation's own."""
        from trackkit.session import open_sessions

        if self.session is None or self.session not in open_sessions():
            self.session = self.kit.begin(describe(args, state, kwargs, "validate", 0, 0))
        return self.session
