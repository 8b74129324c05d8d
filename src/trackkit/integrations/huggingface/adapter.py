"""Reports what one Hugging Face trainer does to the tracker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackkit.integrations.guard import call_guarded
from trackkit.integrations.huggingface import _compat
from trackkit.integrations.huggingface.describe import describe
from trackkit.integrations.huggingface.fit import Fit, NullFit
from trackkit.integrations.huggingface.logged import EvaluationLogs, Logs, StepLogs
from trackkit.integrations.huggingface.losses import LossParts
from trackkit.integrations.huggingface.progress import Progress, Sizes
from trackkit.integrations.huggingface.saves import Pushes, Saves
from trackkit.integrations.huggingface.trl import NullTrl, follow
from trackkit.record.description import Description
from trackkit.record.run_config import length
from trackkit.schema.keys import BATCH

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.integrations.guard import Kit
    from trackkit.session.per_trainer import Runs
    from trackkit.session.session import Session


class NullAdapter:
    """Ignores a trainer that is not recorded."""

    def fit_begins(self, args: Any, state: Any, kwargs: dict[str, Any]) -> NullFit:
        """Starts a fit at `on_train_begin`, with the resumed state loaded; once more for an out-of-memory retry."""
        return NullFit()

    def epoch_ends(self, control: Any) -> None:
        """Ends an epoch at `on_epoch_end`."""

    def logged(self, args: Any, state: Any, logs: Logs, kwargs: dict[str, Any]) -> None:
        """Reports what `on_log` gives: of training steps, of an evaluation, at a training's end, or the user's."""

    def evaluated(self, args: Any, state: Any, logs: EvaluationLogs, kwargs: dict[str, Any]) -> None:
        """Reports an evaluation, at `on_predict` or the `on_log` of an evaluation."""

    def paused(self, what: str) -> None:
        """Counts the time since the last event as `what`, not as training."""

    def saving(self) -> None:
        """Prepares for a checkpoint that the trainer is about to save."""

    def fit_ends(self) -> None:
        """Ends the fit at `on_train_end`."""


class HuggingFaceAdapter(NullAdapter):
    """Reports what one Hugging Face trainer does to the tracker.

    Args:
        kit: the TrackKit that records the trainer.
        runs: the runs of that trainer.
    """

    def __init__(self, kit: Kit, runs: Runs) -> None:
        self._kit = kit
        self._runs = runs
        self._fit = NullFit()
        self._unopened = False
        self._group = ""
        self._pushes: Pushes | None = None

    def fit_begins(self, args: Any, state: Any, kwargs: dict[str, Any]) -> NullFit:
        before, self._fit, self._unopened = self._fit, NullFit(), True
        self._fit = self.open_fit(args, state, kwargs, before)
        self._unopened = False
        return self._fit

    def open_fit(self, args: Any, state: Any, kwargs: dict[str, Any], before: NullFit) -> Fit:
        """Opens the run of a training: a new one, or the checkpoint's. `before` is the trainer's previous training."""
        carried = _compat.carried(state) if state.global_step else {}
        known, loader = Description(), kwargs.get("train_dataloader")
        ranks, trained = args.world_size, state.train_batch_size
        sizes = known.ask("the loader's sizes", lambda: Sizes.of(loader, ranks, trained), Sizes())
        progress = Progress(
            loader, sizes, args.gradient_accumulation_steps, state.global_step, carried, not args.ignore_data_skip
        )
        start = replace(
            describe(known, args, state, kwargs, "fit", sizes),
            step=state.global_step,
            samples=progress.samples(state.global_step) or 0,
            tokens=int(state.num_input_tokens_seen),
            checkpoint=carried if state.global_step else None,
        )
        if args.auto_find_batch_size:
            start = self._retried(start, before)
        session = self._kit.begin(start, self._runs)
        _compat.carry(state, {**session.checkpoint_fields(), "progress": progress.fields})
        evaluates = {"steps": state.eval_steps, "epoch": sizes.updates(args.gradient_accumulation_steps)}
        before.released()
        parts, trainer = None, _compat.calling_trainer()
        if trainer is not None:
            self._pushes = self._pushes or Pushes(self._kit, self._runs, trainer)
            parts = call_guarded(self._kit, "on_train_begin", LossParts, self._kit, session.tracker, trainer)
        saves = Saves(self._kit, session.tracker, args, state)
        every = evaluates.get(str(args.eval_strategy.value)) or 0
        trl = call_guarded(self._kit, "on_train_begin", follow, self._kit, session.tracker, args, state) or NullTrl()
        return Fit(session, state, progress, saves, kwargs.get("optimizer"), every, trl, parts)

    def epoch_ends(self, control: Any) -> None:
        self._fit.epoch_ends(control.should_epoch_stop or control.should_training_stop)

    def logged(self, args: Any, state: Any, logs: Logs, kwargs: dict[str, Any]) -> None:
        if self._unopened:
            # A run that could not be opened is not tried again at every log: each try may take long.
            return
        where = next(iter(logs.parts)) if isinstance(logs, EvaluationLogs) else BATCH
        self._fit.trl.logs(where.data)
        if isinstance(logs, StepLogs):
            self._step_logged(args, state, logs, kwargs)
        elif isinstance(logs, EvaluationLogs):
            self.paused("evaluation")
            self.evaluated(args, state, logs, kwargs)
        else:
            self._fit.totals(logs.columns)
            if logs.users:
                self._session(args, state, kwargs).tracker.report(logs.users, BATCH, state.global_step, state.epoch)

    def evaluated(self, args: Any, state: Any, logs: EvaluationLogs, kwargs: dict[str, Any]) -> None:
        if all(value is None for metrics in logs.parts.values() for value in metrics.values()):
            return
        session = self._session(args, state, kwargs)
        for where, metrics in logs.parts.items():
            session.tracker.report(metrics, where, state.global_step, state.epoch)
        session.tracker.seal()
        samples = length(getattr(kwargs.get("eval_dataloader"), "dataset", None))
        for where in list(logs.parts)[:1] if samples is not None else ():
            session.tracker.evaluates(where, samples or 0)
        session.tracker.note(logs.columns)
        session.evaluated()

    def paused(self, what: str) -> None:
        self._fit.paused(what)

    def saving(self) -> None:
        self._fit.saving()

    def fit_ends(self) -> None:
        self._unopened = False
        self._fit.ends()

    def _retried(self, start: Start, before: NullFit) -> Start:
        """Returns `start` with the group that the attempts of `auto_find_batch_size` share.

        An attempt that took a step has rows of its batch size: it stays as a failed run, and the next attempt is
        another run of the group.
        """
        session = self._runs.session
        retries = session is not None and session.phase == "fitting"
        if not retries:
            from trackkit.session.identity import new_run_id

            self._group = f"batch-size-{new_run_id()}"
        return replace(start, group=self._group, again=retries and not before.stepped)

    def _step_logged(self, args: Any, state: Any, logs: StepLogs, kwargs: dict[str, Any]) -> None:
        session = self._session(args, state, kwargs)
        if "batch/lr" in logs.measured:
            self._fit.logged(session, logs.measured.get("batch/loss"))
        tracker = session.tracker
        if logs.measured:
            tracker.report(logs.measured, BATCH, state.global_step, state.epoch, framework=True)
        users = logs.users
        if not (tracker.evaluating or logs.measured):
            # Logged in `compute_loss`, of a batch.
            users = tracker.log_parts(users)
        if users:
            tracker.report(users, BATCH, state.global_step, state.epoch)
        if logs.measured:
            tracker.seal()
            self._fit.resumes()

    def _session(self, args: Any, state: Any, kwargs: dict[str, Any]) -> Session:
        """Returns the trainer's open run; outside of a training, opens one for an evaluation if none is open."""
        from trackkit.session.session import open_sessions

        session = self._runs.session
        if session is None or session not in open_sessions():
            session = self._kit.begin(describe(Description(), args, state, kwargs, "validate"), self._runs)
        return session
