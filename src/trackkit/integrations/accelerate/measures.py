"""Measures a training of Accelerate: `trackkit.accelerate(accelerator)`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine import ranks, stopwatch
from trackkit.engine.records import Checkpoint, Moment
from trackkit.errors import ConfigError
from trackkit.integrations.accelerate import _compat
from trackkit.integrations.accelerate.data import Source
from trackkit.integrations.accelerate.describe import describe
from trackkit.integrations.accelerate.steps import Steps
from trackkit.integrations.accelerate.tracker import AccelerateTracker, by_name
from trackkit.integrations.guard import call_guarded
from trackkit.integrations.loop.values import whole
from trackkit.integrations.patches import Patch
from trackkit.notices import logger

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.session.session import Session

_FIELDS = "trackkit.json"


def accelerate(accelerator: Any, total_steps: int | None = None, every: int = 50) -> None:
    """Measures a training of Accelerate, on every rank: call it before `accelerator.init_trackers`.

    Adds to what the script logs: loss, learning rate, gradient norm before clipping, throughput, samples, the config of
    the model and the data, and checkpoints of `save_state`, from which a training resumes its run. Rows are those of
    the first step, every `every`-th, those that the script logs, and the last. Steps are those of the optimizer that
    was prepared first.

    Args:
        accelerator: an `accelerate.Accelerator` with `log_with="trackkit"`, or with an `AccelerateTracker`.
        total_steps: optimizer steps that are planned; None if unknown.
        every: steps from one row to the next.

    Raises:
        ConfigError: the accelerator does not log with TrackKit, has initialized its trackers already, or is measured
            already; `total_steps` or `every` is not a whole number of steps, 1 or more.
    """
    every = whole("trackkit.accelerate", "every", every)
    if total_steps is not None:
        total_steps = whole("trackkit.accelerate", "total_steps", total_steps)
    given = [each for each in accelerator.log_with if isinstance(each, AccelerateTracker)]
    if not given and "trackkit" not in [str(each) for each in accelerator.log_with]:
        raise ConfigError(
            "trackkit.accelerate needs an accelerator that logs with TrackKit: Accelerator(log_with='trackkit')"
        )
    if accelerator.trackers:
        raise ConfigError("trackkit.accelerate comes too late: call it before accelerator.init_trackers")
    if isinstance(vars(accelerator).get("backward"), Patch):
        raise ConfigError("trackkit.accelerate was called twice for one accelerator. Call it once.")
    Measures(accelerator, given[0] if given else None, total_steps, every)


class Measures:
    """Measures the training of one accelerator, in each run from `init_trackers` to `end_training`.

    Args:
        accelerator: see `accelerate`.
        tracker: given to the accelerator; None where Accelerate makes it by name.
        total_steps, every: see `accelerate`.

    Attributes:
        evaluated: samples of the data that were read last without training on them; None if unknown.
    """

    def __init__(
        self, accelerator: Any, tracker: AccelerateTracker | None, total_steps: int | None, every: int
    ) -> None:
        self.evaluated: int | None = None
        self._accelerator, self._tracker = accelerator, tracker
        self._total, self._every = total_steps, every
        self._carried: dict[str, Any] | None = None
        self._sources: list[Source] = []
        # Passes over the data and samples of what the accelerator has let go of.
        self._before = (0, 0)
        # Of the run, while one is open.
        self._steps: Steps | None = None
        self._session: Session
        self._find_loaders()
        for name, wrapper in (
            ("init_trackers", self._init_trackers),
            ("end_training", self._end_training),
            ("log", self._log),
            ("prepare", self._prepare),
            ("free_memory", self._free_memory),
            ("skip_first_batches", self._skip_first_batches),
            ("backward", self._backward),
            ("clip_grad_norm_", self._clip_grad_norm),
            ("save_state", self._save_state),
            ("load_state", self._load_state),
        ):
            Patch(accelerator, name, wrapper)

    # -- for the tracker ---------------------------------------------------------------------------------------------

    def start(self, start: Start) -> Start:
        """Returns `start` with what the accelerator knows."""
        described = describe(start, self._accelerator, next(iter(self._sources), None))
        return replace(described, step=self._first, checkpoint=self._carried)

    def begins(self, session: Session) -> None:
        """Measures the run of `session` from here on."""
        guard, failed = self._guard, self._failed
        self._session = session
        self._steps = Steps(session.tracker, self._accelerator, self._first, self._total, self._every, guard, failed)

    def moment(self) -> Moment:
        """Returns where the training stands."""
        return self._steps.moment() if self._steps is not None else Moment(0)

    def logs(self) -> None:
        """Makes the row of the step just taken, which the script logs, or after which it ends."""
        if self._steps is not None:
            self._steps.logs()

    def ends(self) -> None:
        """Stops measuring; the accelerator may initialize its trackers again."""
        steps, self._steps, self._carried = self._steps, None, None
        self._before = (0, 0)
        if steps is not None:
            steps.close()

    # -- what the accelerator calls ----------------------------------------------------------------------------------

    def _guard(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if self._tracker is not None:
            return call_guarded(self._tracker.kit, f"accelerate ({name})", function, *args)
        try:
            return function(*args)
        except Exception:  # noqa: BLE001 -- the user's training must not fail
            logger.warning("accelerate (%s) failed before a run was open", name, exc_info=True)
            return None

    def _init_trackers(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def init_trackers(
            project_name: str, config: dict[str, Any] | None = None, init_kwargs: dict[str, Any] | None = None
        ) -> None:
            # On the main process only; the config follows once the trackers know that they are measured.
            original(project_name, None, init_kwargs)
            trackers = list(self._accelerator.trackers)
            ours = [each for each in trackers if isinstance(each, AccelerateTracker)]
            if not ours:
                settings = (init_kwargs or {}).get("trackkit", {})
                ours = [self._tracker or by_name(project_name, settings)]
                trackers.append(ours[0])
            self._tracker = ours[0]
            self._tracker.measures = self
            for each in trackers if config is not None else ():
                each.store_init_configuration(config)

        return init_trackers

    def _end_training(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def end_training() -> None:
            if self._tracker is not None and not self._accelerator.trackers:
                self._tracker.finish()
            original()

        return end_training

    def _log(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def log(values: dict[str, Any], step: int | None = None, *args: Any, **kwargs: Any) -> None:
            original(values, step, *args, **kwargs)
            # Accelerate has no trackers on the other processes, whose values belong into the same row.
            if self._tracker is not None and not self._accelerator.trackers:
                self._tracker.log(values, step)

        return log

    def _prepare(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def prepare(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._find_loaders()
            return result

        return prepare

    def _free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(*objects: Any) -> Any:
            self._guard("free_memory", self._freed)
            return original(*objects)

        return free_memory

    def _skip_first_batches(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def skip_first_batches(dataloader: Any, num_batches: int = 0) -> Any:
            result = original(dataloader, num_batches)
            for source in self._sources:
                if source.loader is dataloader and _compat.is_followed(result):
                    source.follow(result, num_batches)
            return result

        return skip_first_batches

    def _backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def backward(loss: Any, **kwargs: Any) -> Any:
            self._guard("backward", self._before_backward, loss)
            result = original(loss, **kwargs)
            if self._steps is not None:
                self._guard("backward", self._steps.after_backward)
            return result

        return backward

    def _clip_grad_norm(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2) -> Any:
            norm = original(parameters, max_norm, norm_type)
            if norm_type == 2 and self._steps is not None:
                self._guard("clip_grad_norm_", self._steps.clipped, norm)
            return norm

        return clip_grad_norm_

    def _save_state(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def save_state(*args: Any, **kwargs: Any) -> Any:
            began = stopwatch.now()
            if self._steps is not None:
                self._guard("save_state", self._session.tracker.flush)
            folder = original(*args, **kwargs)
            if self._steps is not None:
                self._guard("save_state", self._saved, folder, began)
            return folder

        return save_state

    def _load_state(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_state(input_dir: str | None = None, *args: Any, **kwargs: Any) -> Any:
            result = original(input_dir, *args, **kwargs)
            folder = input_dir or _compat.latest_state(self._accelerator)
            self._guard("load_state", self._loaded, folder)
            return result

        return load_state

    # -- the training ------------------------------------------------------------------------------------------------

    @property
    def _first(self) -> int:
        """Steps taken before this process."""
        return int((self._carried or {}).get("step", 0))

    def _find_loaders(self) -> None:
        known = [source.loader for source in self._sources]
        for loader in _compat.loaders(self._accelerator):
            if not any(loader is each for each in known):
                source = Source(loader, ranks.current().world_size, self._guard, self._opens, self._paused)
                source.resumes(*self._before)
                self._sources.append(source)

    def _opens(self) -> None:
        """Opens the run, if the trackers are initialized and it is not open."""
        if self._steps is None and self._tracker is not None and self._tracker.measures is self:
            self._tracker.session()

    def _freed(self) -> None:
        """Lets go of what the accelerator lets go of; what it prepares next continues the training, as for a fold."""
        if self._steps is not None:
            source = self._steps.source
            self._steps.free()
            if source is not None:
                source.leave()
                self._before = source.passes, source.samples or 0
        self._sources.clear()

    def _paused(self, seconds: float, samples: int | None) -> None:
        self.evaluated = samples
        if self._steps is not None:
            self._session.tracker.pause("evaluation", seconds)

    def _before_backward(self, loss: Any) -> None:
        self._opens()
        if self._steps is None:
            return
        active = self._accelerator.gradient_state.active_dataloader
        for source in self._sources:
            if source.reads(active):
                source.trained = True
                self._steps.source = self._steps.source or source
        self._steps.before_backward(loss)

    def _failed(self, hook: str, error: Exception) -> None:
        if self._tracker is not None:
            self._tracker.kit.hook_failed(hook, error)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _saved(self, folder: Any, began: float) -> None:
        session, rank, (step, epoch, _) = self._session, ranks.current(), self.moment()
        session.tracker.pause("checkpoint", stopwatch.now() - began)
        if not rank.writes or folder is None:
            return
        fields = {**session.checkpoint_fields(counted=True), "step": step, "passes": int(epoch or 0)}
        (Path(folder) / _FIELDS).write_text(json.dumps(fields), encoding="utf-8")
        path = str(Path(folder).absolute())
        session.tracker.checkpoint(Checkpoint(path, step, "accelerate", epoch, shared=rank.world_size > 1))

    def _loaded(self, folder: Any) -> None:
        if self._steps is not None or folder is None:
            return
        path = Path(folder) / _FIELDS
        self._carried = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for source in self._sources:
            source.resumes(*(int(self._carried.get(name, 0)) for name in ("passes", "samples")))
