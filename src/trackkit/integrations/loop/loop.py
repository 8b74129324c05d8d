"""Records a training loop that the user has written, without a trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from trackkit.engine import ranks, stopwatch
from trackkit.engine.records import Checkpoint, Moment
from trackkit.engine.rows import is_number
from trackkit.errors import ConfigError, TrackKitError
from trackkit.integrations.guard import Kit, guarded
from trackkit.integrations.loop.batches import Batches, Counts
from trackkit.integrations.loop.block import Block, plain_number
from trackkit.integrations.loop.describe import as_module, describe
from trackkit.integrations.loop.norms import Follower, Scaling
from trackkit.integrations.optimizers import bare, name_of
from trackkit.schema.goals import direction
from trackkit.schema.keys import BATCH, SPLIT_WORDS, Split, Where, sanitize
from trackkit.schema.prefixes import event_of

if TYPE_CHECKING:
    import os

    from trackkit.engine.records import Gradients
    from trackkit.engine.run_info import Start, Status

Batch = TypeVar("Batch")
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
        for name, number in (("every", every), ("total_steps", total_steps)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ConfigError(f"{name}={number!r} in trackkit.loop is not a number of steps, 1 or more")
        self.step_number = 0
        self._model, self._config, self._scaler = as_module(model), config, scaler
        self._named = _named(optimizer)
        self._total, self._every = total_steps, every
        self._counts = Counts()
        self._followers: list[Follower] = []
        self._scaling = Scaling(None, self._step_skipped)
        self._state: Mapping[str, Any] | None = None
        self._inside = self._begun = self._recording = False
        self._norm_given = self._armed = False
        # The step whose row is open; the next step that makes one; the most steps between two calls of `step`.
        self._row_step, self._next, self._stride = -1, 1, 1
        self._ranks = 1
        self._mark = 0.0

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Loop:
        if self._inside or self._begun:
            raise TrackKitError("this trackkit.loop was entered before. Make another one for another training.")
        self._inside = True
        if not self._kit.disabled:
            self._follow()
        self._mark = stopwatch.now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is not None and not self._begun:
                # A failed run is a run too.
                self._begin()
            super().__exit__(kind, error, at)
        finally:
            self._inside = self._recording = False
            for each in self._followers:
                each.close()
            self._scaling.close()

    def _left(self, error: BaseException | None) -> None:
        if steps := self._collect_steps():
            # `step` was not called after the last one.
            self.step_number += steps
            self.tracker.batch(None, 0, 0, 0.0, steps)
        super()._left(error)

    def _status(self) -> Status:
        return "finished" if self._total is None or self.step_number >= self._total else "stopped"

    @guarded
    def _follow(self) -> None:
        """Puts hooks on the optimizers."""
        self._scaling = Scaling(self._scaler, self._step_skipped)
        for name, optimizer in self._named:
            self._followers.append(
                Follower(
                    optimizer,
                    name,
                    self._model,
                    self._scaling,
                    self._gradients,
                    self._skip_flag,
                    self._hook_raised,
                )
            )
        self._arm()

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
        optimizers = [optimizer for _, optimizer in self._named]

        def known() -> Start:
            start = describe(self._model, optimizers, self._config, loader, self._ranks)
            return start if self._state is None else replace(start, step=self.step_number, checkpoint=self._state)

        self._open(known)
        self._mark = stopwatch.now()

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
        self, loss: Any = None, grad_norm: Any = None, samples: int | None = None, tokens: int | None = None
    ) -> None:
        """Records a batch. Call it once per batch, after `optimizer.step()`, also while gradients accumulate.

        Args:
            loss: of the batch, undivided by accumulation: a scalar tensor, which is not read now, or a number. Without
                it `batch/loss` is not recorded.
            grad_norm: norm of the step's gradients before clipping, as `clip_grad_norm_` returns it. Default: measured.
            samples, tokens: in this rank's batch. Default: counted by `batches`.

        Raises:
            TrackKitError: outside of the `with` block, or a loss or norm that is not one number.
        """
        try:
            if not self._recording:
                self._begin()
            if loss is not None:
                loss = _loss(loss)
            counts, world = self._counts, self._ranks
            counts.fetched = False
            counted, counted_tokens, data_s = counts.collect()
            samples = counted if samples is None else samples
            tokens = counted_tokens if tokens is None else tokens
            steps = self._collect_steps()
            self.tracker.batch(loss, None if samples is None else samples * world, tokens * world, data_s, steps)
            if steps:
                self._stepped(steps, grad_norm)
            self._mark = stopwatch.now()
        except Exception as error:  # noqa: BLE001 -- as `guarded` does, at half its cost
            self._hook_raised("step", error)

    def _stepped(self, steps: int, grad_norm: Any) -> None:
        """Makes a row if one is due, and arms the hooks if the next step may make one."""
        step = self.step_number = self.step_number + steps
        self._stride = max(self._stride, steps)
        self._norm_given = self._norm_given or grad_norm is not None
        if step >= self._next:
            self.tracker.row(self._moment())
            if grad_norm is not None:
                norm = {"batch/grad_norm": _norm(grad_norm)}
                self.tracker.report(norm, BATCH, step, self._counts.epoch, framework=True)
            self._row_step = step
            self._next = (step // self._every + 1) * self._every
            if self._total is not None and step < self._total:
                self._next = min(self._next, self._total)
        if step + self._stride >= self._next:
            self._arm()
        elif self._armed:
            self._armed = False
            for each in self._followers:
                each.disarm()

    def _collect_steps(self) -> int:
        """Returns the steps taken since the last call: of several optimizers, those of the one that took most."""
        if len(self._followers) == 1:
            follower = self._followers[0]
            steps, follower.steps = follower.steps, 0
            return steps
        steps = max((each.steps for each in self._followers), default=0)
        for each in self._followers:
            each.steps = 0
        return steps

    # -- what else is recorded ---------------------------------------------------------------------------------------

    @guarded
    def evaluation(self, split: str, values: Mapping[str, Any], samples: int | None = None) -> None:
        """Records an evaluation of the model as it is now. The time since the last batch or step counts as evaluation.

        Args:
            split: `val`, `test`, `train` or `predict`; with a set's name behind it if there are several: `val/wiki`.
            values: metric to a number, or a tensor of one element.
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
        _check_mapping("track.evaluation", values)
        self._begin()
        self._pause("evaluation")
        where = Where("epoch", known[0], dataset)
        self.tracker.report(values, where, self.step_number, self._counts.epoch)
        self.tracker.seal()
        if samples is not None:
            self.tracker.evaluates(where, samples)

    @guarded
    def log(self, values: Mapping[str, Any]) -> None:
        """Records whatever else the loop measures. The names say what of: see `trackkit.schema.prefixes.event_of`.

        A training step's values go into the row of the step just taken or, if it has none, into the next row. Pictures,
        tables and texts become `samples/<name>` at once, in W&B only.

        Args:
            values: name to value.

        Raises:
            TrackKitError: outside of the `with` block, or values that are not a mapping.
        """
        _check_mapping("track.log", values)
        self._begin()
        for where, named in event_of(values):
            numbers = {name: value for name, value in named.items() if value is None or is_number(value)}
            others = {name: value for name, value in named.items() if name not in numbers}
            if where == BATCH and not self._row_is_open:
                others = named
            elif numbers:
                if where.split in ("val", "test"):
                    self._pause("evaluation")
                self.tracker.report(numbers, where, self.step_number, self._counts.epoch)
            if others:
                self.tracker.log(others)

    @guarded
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
        self.tracker.checkpoint(
            Checkpoint(str(path), self.step_number, "loop", self._counts.epoch, monitor, number, goal)
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps, in plain types, so that a training resumed from it resumes this run.

        Raises:
            TrackKitError: outside of the `with` block.
        """
        self._begin()
        self._flush()
        fields = self.session.checkpoint_fields(counted=True) if self.session is not None else {}
        return {**fields, "step": self.step_number, "epoch": self._counts.epoch}

    @guarded
    def _flush(self) -> None:
        """Writes the rows so far: a training that resumes from a checkpoint won't make them again."""
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
        self.step_number = state["step"]
        self._counts.passes = math.floor(state.get("epoch") or 0)
        self._next = self.step_number + 1

    @property
    def _row_is_open(self) -> bool:
        """Whether the step just taken has a row, and nothing of the next step has begun."""
        begun = self._counts.fetched or any(each.steps for each in self._followers)
        return self._row_step == self.step_number and not begun

    # -- the hooks ---------------------------------------------------------------------------------------------------

    def _gradients(self, gradients: Gradients) -> None:
        self._begin()
        self.tracker.gradients(gradients)

    @guarded
    def _step_skipped(self, optimizer: Any) -> None:
        self._begin()
        for each in self._followers:
            if each.optimizer is optimizer:
                self.tracker.skipped(True)
                each.skip()

    def _skip_flag(self, flag: Any) -> None:
        self._begin()
        self.tracker.skipped(flag)

    def _hook_raised(self, hook: str, error: BaseException) -> None:
        """Counts an error in a hook; raises it if it is the user's own mistake."""
        if isinstance(error, TrackKitError):
            raise error
        self.hook_failed(hook, error)

    def _arm(self) -> None:
        self._armed = True
        for each in self._followers:
            each.arm(not self._norm_given)

    # -- the position ------------------------------------------------------------------------------------------------

    def _moment(self) -> Moment:
        return Moment(self.step_number, self._counts.epoch, self._total)

    def _pause(self, what: str) -> None:
        now = stopwatch.now()
        self.tracker.pause(what, now - max(self._mark, self._counts.mark))
        self._mark = now


def _named(optimizer: Any) -> list[tuple[str, Any]]:
    """Returns name and torch optimizer of each; "" for the name of the only one."""
    if isinstance(optimizer, Mapping):
        return [(sanitize(str(name)), bare(each)) for name, each in optimizer.items()]
    several = [bare(each) for each in (optimizer if isinstance(optimizer, (list, tuple)) else [optimizer])]
    for each in several:
        if not hasattr(each, "register_step_post_hook"):
            raise ConfigError(f"trackkit.loop got an optimizer of type {type(each).__name__}, which is not torch's")
    return [(name_of(each, several), each) for each in several]


def _check_mapping(what: str, values: Any) -> None:
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise TrackKitError(f"{what} takes a mapping of names to values; got {values!r}")


def _loss(loss: Any) -> Any:
    """Returns a loss as a detached scalar tensor that nothing overwrites."""
    try:
        loss = loss.detach()
    except AttributeError:
        import torch

        if not is_number(loss):
            raise TrackKitError(f"track.step needs the loss as one number or a tensor of one; got {loss!r}") from None
        return torch.tensor(float(loss), dtype=torch.float64)
    if loss.is_cuda:
        # Compiled models reuse the memory of their outputs.
        loss = loss.clone()
    if not loss.ndim:
        return loss
    if loss.numel() != 1:
        raise TrackKitError(
            f"track.step needs a loss of one element; this one has the shape {tuple(loss.shape)}. Give its mean."
        )
    return loss.reshape(())


def _norm(norm: Any) -> Any:
    """Returns a gradient norm that may be recorded later."""
    if hasattr(norm, "full_tensor"):
        raise TrackKitError("track.step(grad_norm=...) got a DTensor; give `norm.full_tensor()`, on all ranks")
    if not is_number(norm):
        raise TrackKitError(f"track.step needs grad_norm as one number or a tensor of one; got {norm!r}")
    return plain_number(norm)
