"""Tells the tracker what a Hugging Face trainer does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.integrations.huggingface import logged
from trackkit.integrations.huggingface.describe import describe
from trackkit.integrations.huggingface.fit import Fit
from trackkit.integrations.huggingface.progress import Progress
from trackkit.integrations.huggingface.sizes import Sizes
from trackkit.record.description import Description
from trackkit.schema.keys import BATCH

if TYPE_CHECKING:
    from trackkit.session.per_trainer import Runs
    from trackkit.session.session import Session

_CARRIED = "trackkit"


class HuggingFaceAdapter:
    """Tells the tracker what one Hugging Face trainer does.

    Args:
        kit: the TrackKit that records it.
        runs: the trainer's.

    Attributes:
        fit: the latest training; None before there is one.
        unrecorded: whether a training is under way whose run is not open, or could not be opened.
    """

    def __init__(self, kit: Any, runs: Runs) -> None:
        self._kit = kit
        self._runs = runs
        self.fit: Fit | None = None
        self.unrecorded = False

    # -- training ------------------------------------------------------------------------------------------------

    def fit_begins(self, args: Any, state: Any, kwargs: dict[str, Any]) -> Fit:
        """`on_train_begin`: after a resumed state is loaded; again after an out-of-memory retry, in the same run."""
        carried = state.stateful_callbacks.get(_CARRIED, {}).get("attributes", {}) if state.global_step else {}
        self.fit = None
        known, loader = Description(), kwargs.get("train_dataloader")
        sizes = known.ask("the loader's sizes", lambda: Sizes.of(loader, args.world_size), Sizes())
        progress = Progress(
            loader, sizes, args.gradient_accumulation_steps, state.global_step, carried, not args.ignore_data_skip
        )
        start = replace(
            describe(known, args, state, kwargs, "fit", sizes),
            step=state.global_step,
            samples=progress.samples(state.global_step) or 0,
            tokens=int(state.num_input_tokens_seen),
        )
        broken_off = self._runs.session
        if args.auto_find_batch_size and broken_off is not None and broken_off.phase == "fitting":
            start = replace(start, again=True, checkpoint=broken_off.checkpoint_fields())
        elif state.global_step:
            start = replace(start, checkpoint=carried)
        session = self._kit.begin(start, self._runs)
        # Plain data under a callback's name is saved with every checkpoint, and is there again on resume.
        attributes = progress.carry(session.checkpoint_fields())
        state.stateful_callbacks[_CARRIED] = {"args": {}, "attributes": attributes}
        self.fit = Fit(session, state, progress, kwargs.get("optimizer"))
        return self.fit

    def epoch_ends(self, state: Any, control: Any) -> None:
        """`on_epoch_end`."""
        if self.fit is not None:
            self.fit.progress.epoch_ends(state.global_step, control.should_epoch_stop or control.should_training_stop)

    def fit_ends(self) -> None:
        """`on_train_end`."""
        self.unrecorded = False
        if self.fit is not None:
            self.fit.ends()

    def paused(self, what: str) -> None:
        """The time since the last event was not training."""
        if self.fit is not None:
            self.fit.paused(what)

    def saving(self) -> None:
        """A checkpoint follows: a training that goes on from it won't make the rows so far again."""
        if self._runs.session is not None:
            self._runs.session.tracker.flush()

    # -- what is logged ------------------------------------------------------------------------------------------

    def logged(self, args: Any, state: Any, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """`on_log`: training, an evaluation, the last word of a training, or the user's own."""
        if self.unrecorded:
            # What can't be opened now won't be at the next log: each try may take its time.
            return
        prefix = logged.evaluation_prefix(logs)
        if prefix is not None:
            self.paused("evaluation")
            self._evaluated(args, state, prefix, logs, kwargs)
        elif logged.is_last_word(logs):
            if self.fit is not None:
                self._said_last(state, logs, self.fit)
        else:
            self._stepped(args, state, logs, kwargs)

    def predicted(self, args: Any, state: Any, metrics: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """`on_predict`: with labels its metrics are a test's."""
        self._evaluated(args, state, logged.evaluation_prefix(metrics) or "test", metrics, kwargs)

    def _said_last(self, state: Any, logs: dict[str, Any], fit: Fit) -> None:
        """Hugging Face's mean loss is of this call alone, and 0 where it has taken no step."""
        columns = logged.last_word(logs)
        loss = columns.pop(logged.MEAN_LOSS, None)
        mean = None if loss is None else fit.progress.mean_loss(loss, state.global_step)
        fit.session.tracker.note(columns if mean is None else {**columns, logged.MEAN_LOSS: mean})

    def _stepped(self, args: Any, state: Any, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        session = self._session(args, state, kwargs)
        tracker, own, others = session.tracker, logged.measured(logs), logged.users(logs)
        training = self.fit is not None and session is self.fit.session and session.phase == "fitting"
        if training and self.fit is not None and "batch/lr" in own:
            if "batch/loss" in own:
                self.fit.progress.logged(own["batch/loss"], state.global_step)
            # The trainer's own log of a step that nobody announced in `on_step_end`, such as at an epoch's end.
            tracker.last_row()
        if own:
            tracker.report(own, BATCH, state.global_step, state.epoch, framework=True)
        if others:
            tracker.report(others, BATCH, state.global_step, state.epoch)
        if own:
            tracker.seal()
            if self.fit is not None:
                self.fit.resumes()

    def _evaluated(self, args: Any, state: Any, prefix: str, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        where, metrics = logged.evaluated(logs, prefix)
        if not any(value is not None for value in metrics.values()):
            return
        session = self._session(args, state, kwargs)
        session.tracker.report(metrics, where, state.global_step, state.epoch)
        session.tracker.seal()
        session.evaluated()

    def _session(self, args: Any, state: Any, kwargs: dict[str, Any]) -> Session:
        """The open run, or, where nothing trains, one of an evaluation's own."""
        from trackkit.session.session import open_sessions

        session = self._runs.session
        if session is None or session not in open_sessions():
            session = self._kit.begin(describe(Description(), args, state, kwargs, "validate"), self._runs)
        return session
