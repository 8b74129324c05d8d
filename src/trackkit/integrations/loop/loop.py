"""Records a training loop that the user has written, without a trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from trackkit.engine import ranks
from trackkit.engine.records import Checkpoint, Moment
from trackkit.engine.stopwatch import now
from trackkit.errors import TrackKitError
from trackkit.integrations.guard import Kit, guarded, guarded_call
from trackkit.integrations.loop.batches import Batches, Counts
from trackkit.integrations.loop.block import Block
from trackkit.integrations.loop.describe import as_module, describe, hyperparameters
from trackkit.integrations.loop.steps import Optimizers, Rows
from trackkit.integrations.loop.values import check_mapping, loss_of, norm_of, split, whole
from trackkit.notices import ensure_heard, say_once
from trackkit.schema.goals import direction
from trackkit.schema.keys import BATCH, SPLIT_WORDS, Split, Where
from trackkit.schema.prefixes import event_of, flat

if TYPE_CHECKING:
    import os

    import torch

    from trackkit.engine.records import Gradients
    from trackkit.engine.run_info import Start, Status

Batch = TypeVar("Batch")
# Calls of `step` without a step of the optimizers, more than gradients are usually accumulated over.
_MANY_CALLS = 500
_STATE = ("run_id", "project", "samples", "tokens", "step", "epoch")


class Loop(Block):
    """What `trackkit.loop` returns: records the training in its `with` block.

    The run opens at the first batch, step or log, so that `load_state_dict` may come first, and is closed when the
    block is left. Hooks on the optimizers count steps and measure gradient norms; nothing is replaced.

    Args:
        kit: the TrackKit with the run's settings.
        model, optimizer, config, total_steps, every, scaler: as in `trackkit.loop`.

    Raises:
        ConfigError: a wrong argument.
    """

    def __init__(
        self, kit: Kit, model: Any, optimizer: Any, config: Any, total_steps: int | None, every: int, scaler: Any
    ) -> None:
        super().__init__(kit)
        self._model, self._hparams = as_module(model), hyperparameters(config)
        self._total = None if total_steps is None else whole("trackkit.loop", "total_steps", total_steps)
        self._rows = Rows(whole("trackkit.loop", "every", every), self._total)
        # Without one no step would ever be counted.
        self._optimizers = Optimizers(optimizer or None, self._model, scaler)
        self._counts = Counts()
        self._state: Mapping[str, Any] | None = None
        self._inside = self._begun = self._recording = False
        self._step = 0
        # Calls of `step` since the last step of the optimizers.
        self._idle = 0
        self._norm_given = False
        # Of steps that the tracker does not have yet.
        self._losses: list[Any] = []
        # Steps before it make no row, and neither do the steps that follow them.
        self._quiet_before = 0
        self._ranks = 1
        self._mark = 0.0

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Loop:
        if self._inside or self._begun:
            raise TrackKitError("this trackkit.loop was entered before. Make another one for another training.")
        self._inside = True
        if not self._kit.disabled:
            self._follow()
        self._mark = now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is not None and not self._begun:
                # A failed run is a run too. The error that ends the block matters more than one of the settings.
                with suppress(TrackKitError):
                    self._begin()
            super().__exit__(kind, error, at)
        finally:
            self._inside = self._recording = False
            self._quiet_before = 0
            self._optimizers.close()

    def _left(self, error: BaseException | None) -> None:
        if steps := self._optimizers.collect():
            # `step` was not called after the last one.
            self._step += steps
            self._count(None, None, None, steps)
        if error is None and self._idle and self._rows.made < 0:
            self._warn_of_no_steps()
        super()._left(error)

    def _status(self) -> Status:
        return "finished" if self._total is None or self._step >= self._total else "stopped"

    @guarded
    def _follow(self) -> None:
        self._optimizers.follow(self._gradients, self._skipped, self._hook_raised)

    def _begin(self, loader: Any = None) -> None:
        """Opens the run at the first event.

        Raises:
            TrackKitError: outside of the `with` block, or a setting that the user has to correct.
        """
        if self._recording:
            return
        if not self._inside:
            raise TrackKitError(
                "trackkit.loop records inside of its block only: `with trackkit.loop(model, optimizer) as track:`"
            )
        self._begun = self._recording = True
        self._ranks = ranks.current().world_size

        def known() -> Start:
            start = describe(self._model, self._optimizers.bare, self._hparams, loader, self._ranks)
            return start if self._state is None else replace(start, step=self._step, checkpoint=self._state)

        self._open(known)
        self._mark = now()

    # -- the training ------------------------------------------------------------------------------------------------

    def batches(self, loader: Iterable[Batch], done: int = 0) -> Iterable[Batch]:
        """Returns the loader's batches, counted: an epoch for each iteration, samples, tokens, and data time.

        Args:
            loader: of the training data; may have no length.
            done: batches of the epoch that an earlier process has processed, if the loader skips them.

        Raises:
            TrackKitError: when iterated over while another loader of this training is.
        """

        def iterate() -> Iterator[Any]:
            self._begin(loader)
            return cast("Iterator[Any]", self._counts.over(loader, done, self._arm, self._hook_raised))

        return cast("Iterable[Batch]", Batches(iterate, loader))

    def step(
        self,
        loss: Any = None,
        grad_norm: Any = None,
        samples: int | None = None,
        tokens: int | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Records a batch. Call it once per batch, after `optimizer.step()`, also while gradients accumulate.

        Args:
            loss: of the batch, undivided by accumulation: a scalar tensor, which is not read now, or a number. Without
                it `batch/loss` is not recorded.
            grad_norm: norm of the step's gradients before clipping, as `clip_grad_norm_` returns it. Default: measured.
            samples, tokens: in this rank's batch. Default: counted by `batches`.
            scaler: the gradient scaler, so that steps which it skips from now on are counted. Given to `trackkit.loop`,
                it counts from the first one on.

        Raises:
            TrackKitError: outside of the `with` block, or a loss or norm that is not one number.
        """
        try:
            if loss is not None:
                loss = loss_of(loss)
            if scaler is not None:
                self._optimizers.scaled_by(scaler)
            steps = self._optimizers.collect()
            quiet = steps == 1 and self._step + 1 < self._quiet_before and not self.tracker.waits
            if quiet and loss is not None and samples is None and tokens is None:
                # Counted later, with the steps of the next row.
                self._step += 1
                self._idle = 0
                self._losses.append(loss)
            else:
                self._begin()
                self._count(loss, samples, tokens, steps)
                self._idle = 0 if steps else self._idle + 1
                if steps:
                    self._step += steps
                    self._stepped(steps, grad_norm)
                elif self._idle == _MANY_CALLS:
                    self._warn_of_no_steps()
            self._counts.fetched = False
            self._mark = now()
        except Exception as error:  # noqa: BLE001 -- as `guarded` does, at half its cost
            self._hook_raised("step", error)

    def _count(self, loss: Any, samples: int | None, tokens: int | None, steps: int) -> None:
        """Gives the tracker a batch, and the steps before it that it does not have yet."""
        losses, self._losses = self._losses, []
        # The source is that of this batch.
        source, self.tracker.source = self.tracker.source, ""
        for each in losses:
            self.tracker.batch(each, 0, 0, 0.0, 1)
        self.tracker.source = source
        counted, counted_tokens, data_s = self._counts.collect()
        samples = counted if samples is None else samples
        tokens = counted_tokens if tokens is None else tokens
        world = self._ranks
        self.tracker.batch(loss, None if samples is None else samples * world, tokens * world, data_s, steps)

    def _stepped(self, steps: int, grad_norm: Any) -> None:
        """Makes a row if one is due, and arms the hooks if the next step may make one."""
        step = self._step
        if self._rows.counted(step, steps):
            self.tracker.row(self._moment())
            self._norm_given = grad_norm is not None
            if self._norm_given:
                norm = {"batch/grad_norm": norm_of(grad_norm)}
                self.tracker.report(norm, BATCH, step, self._counts.epoch, framework=True)
        self._quiet_before = self._rows.quiet_before
        if step >= self._quiet_before:
            self._arm()
        else:
            self._optimizers.disarm()

    def _warn_of_no_steps(self) -> None:
        ensure_heard()
        say_once(
            f"The optimizer that trackkit.loop was given took no step in {self._idle} calls of track.step; only its "
            "steps make rows. If another one trains, give that one to trackkit.loop."
        )

    def _arm(self) -> None:
        self._quiet_before = 0
        self._optimizers.arm(not self._norm_given)

    # -- what else is recorded ---------------------------------------------------------------------------------------

    @guarded_call
    def evaluation(self, split: str, values: Mapping[str, Any], samples: int | None = None) -> None:
        """Records an evaluation of the model as it is now. The time since the last batch or step counts as evaluation.

        Args:
            split: `val`, `test`, `train` or `predict`; with a set's name behind it if there are several: `val/wiki`.
            values: metric to a number, or a tensor of one element; mappings in it are flattened.
            samples: of the evaluated set.

        Raises:
            TrackKitError: outside of the `with` block, an unknown split, or values that are not a mapping.
        """
        word, _, dataset = split.partition("/")
        known: list[Split] = [name for name, words in SPLIT_WORDS.items() if word.lower() in words]
        if not known:
            raise TrackKitError(
                f"track.evaluation({split!r}, ...): '{word}' is not a split. Use 'val', 'test', 'train' or 'predict', "
                f"with the name of a set behind it if there are several, such as 'val/{word}'."
            )
        check_mapping("track.evaluation", values)
        self._begin()
        self._pause("evaluation")
        where = Where("epoch", known[0], dataset)
        self.tracker.report(flat(values), where, self._step, self._counts.epoch)
        self.tracker.seal()
        if samples is not None:
            self.tracker.evaluates(where, samples)

    @guarded_call
    def log(self, values: Mapping[str, Any]) -> None:
        """Records whatever else the loop measures. The names say what of: see `trackkit.schema.prefixes.event_of`.

        A training step's values go into the row of the step just taken or, if it has none, into the next row. Parts of
        the loss, `loss/<name>`, are averaged until the next row, as in `trackkit.log`: log them before `step`.
        Pictures, tables and texts become `samples/<name>` at once.

        Args:
            values: name to value.

        Raises:
            TrackKitError: outside of the `with` block, or values that are not a mapping.
        """
        check_mapping("track.log", values)
        self._begin()
        for where, named in event_of(values):
            numbers, others = split(named)
            if where == BATCH:
                numbers = self.tracker.log_parts(numbers)
            if where == BATCH and not self._row_is_open:
                others = {**numbers, **others}
            elif numbers:
                if where.split in ("val", "test"):
                    self._pause("evaluation")
                self.tracker.report(numbers, where, self._step, self._counts.epoch)
            if others:
                self.tracker.log(others)

    @guarded_call
    def checkpoint(
        self, path: str | os.PathLike[str], value: float | None = None, monitor: str = "", goal: str = ""
    ) -> None:
        """Records a checkpoint that the loop has just saved: TrackKit keeps and uploads the best and the latest.

        The time since the last batch or step counts as saving.

        Args:
            path: of the file or folder.
            value: of the metric that says which checkpoint is best; None for none.
            monitor: that metric's name, such as `val/loss`.
            goal: `min` or `max`. Default: by the metric's name.

        Raises:
            TrackKitError: outside of the `with` block, a value without a monitor, or a goal that is unknown.
        """
        goal = goal or (direction(monitor) or "") if monitor else goal
        if (value is not None and not monitor) or (monitor and goal not in ("min", "max")):
            raise TrackKitError(
                f"track.checkpoint(value={value!r}, monitor={monitor!r}, goal={goal!r}): a value needs the name of its "
                "metric, as 'monitor', and 'goal' must be 'min' or 'max' where the name does not say it."
            )
        self._begin()
        self._pause("checkpoint")
        self._flush()
        number = None if value is None else float(value)
        self.tracker.checkpoint(Checkpoint(str(path), self._step, "loop", self._counts.epoch, monitor, number, goal))

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps, in plain types, so that a training resumed from it resumes this run.

        Raises:
            TrackKitError: outside of the `with` block.
        """
        self._begin()
        self._flush()
        fields = self.session.checkpoint_fields(counted=True) if self.session is not None else {}
        return {**fields, "step": self._step, "epoch": self._counts.epoch}

    @guarded
    def _flush(self) -> None:
        """Writes the rows so far: a training that resumes from a checkpoint won't make them again."""
        self._moment()
        self.tracker.seal()
        self.tracker.flush()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes the run of a checkpoint. Call it before the first batch, step or log.

        Args:
            state: as `state_dict` returned it.

        Raises:
            TrackKitError: too late, or not such a state.
        """
        if self._begun:
            raise TrackKitError("track.load_state_dict came after the run was opened: call it before the first batch.")
        if not isinstance(state, Mapping) or not isinstance(state.get("step"), int):
            raise TrackKitError(f"track.load_state_dict needs what track.state_dict() returned; got {state!r}")
        self._state = {name: state[name] for name in _STATE if name in state}
        self._step = state["step"]
        self._counts.resumed, passes = math.modf(state.get("epoch") or 0)
        self._counts.passes = int(passes)
        self._rows.next = self._step + 1

    @property
    def _row_is_open(self) -> bool:
        """Whether the step just taken has a row, and nothing of the next step has begun."""
        return self._rows.made == self._step and not self._counts.fetched and not any(self._optimizers.steps)

    # -- the hooks ---------------------------------------------------------------------------------------------------

    def _gradients(self, gradients: Gradients) -> None:
        self._begin()
        self.tracker.gradients(gradients)

    def _skipped(self, flag: Any) -> None:
        self._begin()
        self.tracker.skipped(flag)

    def _hook_raised(self, hook: str, error: BaseException) -> None:
        """Counts an error in a hook; raises it if it is the user's own mistake."""
        if isinstance(error, TrackKitError):
            raise error
        self.hook_failed(hook, error)

    # -- the position ------------------------------------------------------------------------------------------------

    def _moment(self) -> Moment:
        if self._losses:
            self._count(None, None, None, 0)
        return Moment(self._step, self._counts.epoch, self._total)

    def _pause(self, what: str) -> None:
        at = now()
        self.tracker.pause(what, at - max(self._mark, self._counts.ended))
        self._mark = at
