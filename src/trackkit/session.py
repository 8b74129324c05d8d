"""One run from its start to its end: the tracker with its sinks, and what the process owes them at exit."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trackkit import identity, index, ranks, resume
from trackkit.callbacks import build_callbacks
from trackkit.config import TrackKitConfig
from trackkit.git import read_git
from trackkit.integrations.local import LocalSink
from trackkit.integrations.wandb.sink import WandbSink
from trackkit.liveness import claim
from trackkit.naming import Names
from trackkit.notices import ensure_heard, logger
from trackkit.records import RunInfo, Status
from trackkit.run_config import flatten, runtime_config
from trackkit.signals import Termination
from trackkit.sinks import Sink
from trackkit.tracker import Tracker

if TYPE_CHECKING:
    import wandb

Phase = Literal["evaluating", "fitting", "fitted"]

# W&B's own exit code for Ctrl-C.
CTRL_C = 255
# What a shell reports of a process that SIGTERM ended.
SIGTERM_CODE = 143

_open_sessions: list[Session] = []
# A forked process must not end the runs of its parent.
os.register_at_fork(after_in_child=_open_sessions.clear)


@dataclass(frozen=True)
class Start:
    """What an adapter knows when a run starts.

    Attributes:
        framework: as in `RunInfo`.
        package: distribution whose version is recorded.
        output: the trainer's own output folder.
        phase: `fit`, `validate`, `test` or `predict`.
        config: the framework's part of the run config.
        hparams: the user's hyperparameters, flat, without their section.
        name: display name that the framework was given; "" for none.
        version: the framework's version of this experiment; "" for none.
        device: as torch spells it.
        monitor, goal, samples, tokens, foreign_run: as in `RunInfo`.
        step: optimizer steps taken so far.
        checkpoint: what the checkpoint that the training goes on from says of its run; None where it says nothing.
        again: whether a fit of this process was broken off by the framework, which begins it anew in the same run.
    """

    framework: str
    package: str
    output: Path
    phase: str
    config: Mapping[str, Any] = field(default_factory=dict)
    hparams: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    version: str = ""
    device: str = ""
    monitor: str | None = None
    goal: str | None = None
    samples: int = 0
    tokens: int = 0
    foreign_run: Any = None
    step: int = 0
    checkpoint: Mapping[str, Any] | None = None
    again: bool = False


class Session:
    """One run of one process.

    Attributes:
        tracker: the engine.
        phase: `evaluating` before any fit, `fitting`, `fitted`.
        info: what the run is.
        project: that it belongs to.
    """

    def __init__(
        self,
        tracker: Tracker,
        info: RunInfo,
        phase: Phase,
        wandb_sink: WandbSink | None,
        project: str,
        exchange: ranks.Exchange,
    ) -> None:
        self.tracker = tracker
        self._exchange = exchange
        self.project = project
        self.info = info
        self.phase: Phase = phase
        self.exit_code = 0
        self._wandb = wandb_sink
        self._terminated = self._bereft = False
        self._termination = Termination(self._on_sigterm)
        tracker.hold = self._termination.held
        if phase == "fitting":
            self._termination.install()

    @property
    def wandb_run(self) -> wandb.Run | None:
        """The W&B run; None on ranks that don't write."""
        return self._wandb.run if self._wandb is not None else None

    def checkpoint_fields(self) -> dict[str, Any]:
        """What a checkpoint carries, so that a resumed training goes on in this run."""
        return resume.checkpoint_fields(self.info.run_id, self.info.root, self.project)

    def join_fit(self, start: Start) -> None:
        """A fit after an evaluation of its own: the same run."""
        self.phase = "fitting"
        self._termination.install()
        self.info = replace(
            self.info,
            config={**self.info.config, **start.config, **flatten("hparams", start.hparams)},
            monitor=start.monitor,
            goal=start.goal,
            samples=start.samples,
            tokens=start.tokens,
        )
        self.tracker.restart(self.info)

    def end(self, status: Status, exit_code: int | None = None) -> None:
        """The fit, or the evaluation, is over; the run stays open for evaluations."""
        if self._terminated and status in ("failed", "stopped"):
            status, exit_code = "preempted", SIGTERM_CODE
        elif self._bereft and status == "preempted":
            status = "failed"
        self.phase = "fitted"
        self.exit_code = exit_code if exit_code is not None else int(status in ("failed", "preempted"))
        with self._termination.held():
            self.tracker.end(status)
        self._termination.remove()

    def _on_sigterm(self, ends: bool) -> None:
        """The job is about to be taken down: at once, or, where somebody handles the signal, when they say so."""
        if self.phase != "fitting":
            return
        if self._exchange.preempted():
            self._terminated = True
            self.tracker.preempting()
        else:
            self._bereft = True
        if ends:
            self.close()
        else:
            # A SIGKILL may follow before anything else happens.
            self.tracker.flush()

    def close(self) -> None:
        """The run is over. A fit whose end never came has failed, or was stopped by Ctrl-C."""
        if self not in _open_sessions:
            return
        _open_sessions.remove(self)
        atexit.unregister(self.close)
        with self._termination.held():
            self._close()
        self._termination.remove()

    def _close(self) -> None:
        try:
            if self.phase == "fitting":
                interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
                self.end("stopped" if interrupted else "failed", CTRL_C if interrupted else 1)
            elif self.phase == "evaluating":
                self.end("finished")
        except Exception as error:
            self.tracker.faults.add("the end of the run", error)
        self.tracker.close(self.exit_code)


def open_sessions() -> tuple[Session, ...]:
    """The runs of this process that are not closed, oldest first."""
    return tuple(_open_sessions)


def open_session(
    config: TrackKitConfig, start: Start, run_id: str, backends: Sequence[Sink] | None, resumed: bool = False
) -> Session:
    """Opens a run. Runs of earlier fits that are over are closed first.

    Args:
        config: the settings.
        start: what the adapter knows.
        run_id: proposed; a later fit of the same object gets another.
        backends: sinks beside the local log; default W&B.
        resumed: whether the id may already have a folder (an evaluation after a fit in another process).

    Raises:
        WandbError: `mode: online` can't be met.
    """
    ensure_heard()
    for each in open_sessions():
        if each.phase != "fitting":
            each.close()
    rank = ranks.current()
    root = Path(config.dir) if config.dir else start.output
    root = root.expanduser().absolute()
    earlier: resume.Earlier | None = None
    sinks: list[Sink] = []
    wandb_sink: WandbSink | None = None
    git = None
    if rank.writes:
        git = read_git(Path.cwd())
        config = replace(
            config,
            project=config.project or identity.default_project(git),
            tags=identity.default_tags(config.tags),
        )
        if start.phase == "fit":
            setting = "auto" if start.again else config.resume
            known, root, told = resume.find(setting, start.checkpoint, root, str(config.project), start.step)
            if told:
                logger.warning(told)
            if known is not None:
                run_id, resumed = known, True
                # A fit of this process that was broken off, and whose end nobody has told.
                for each in [each for each in open_sessions() if each.info.run_id == run_id]:
                    each.close()
        if run_id == identity.given_run_id():
            resume.take("WANDB_RUN_ID", root, run_id, str(config.project))
        if resumed and not claim(resume.run_folder(root, run_id)):
            # An evaluation in a process of its own, while the fit's still has the run open.
            resumed = False
        if resumed:
            earlier = resume.read_earlier(root, run_id)
        run_id = run_id if resumed else _free_id(root, run_id)
        root = _writable(root, run_id)
        if backends is None:
            backends = [wandb_sink := WandbSink(config, nested=bool(_open_sessions))]
        sinks = [LocalSink(), *backends]
    info = RunInfo(
        run_id=run_id,
        name=(earlier.name if earlier is not None else "")
        or (start.name if config.name is None else "")
        or identity.run_name(config.name, run_id, start.phase, git, start.hparams, start.version),
        framework=start.framework,
        root=root,
        started=(earlier.started if earlier is not None else 0.0) or time.time(),
        config={} if not rank.writes else _config(config, start, rank, root, git),
        world_size=rank.world_size,
        has_cuda=start.device.startswith("cuda"),
        device=start.device,
        monitor=start.monitor,
        goal=start.goal,
        samples=start.samples,
        tokens=start.tokens,
        foreign_run=start.foreign_run,
        earlier=earlier,
        step=start.step if start.phase == "fit" else None,
    )
    callbacks = build_callbacks(config.callbacks)
    shared = sorted({key for callback in callbacks for key in callback.REDUCE})
    exchange = ranks.open_exchange(rank, shared)
    tracker = Tracker(callbacks, sinks, exchange, Names(config.names, config.synonyms))
    session = Session(
        tracker, info, "fitting" if start.phase == "fit" else "evaluating", wandb_sink, str(config.project), exchange
    )
    tracker.start(info)
    if rank.writes:
        index.remember(info.folder, info.run_id, config.project, config.mode)
    _open_sessions.append(session)
    # After wandb.init, so that this runs before W&B's own exit handler.
    atexit.register(session.close)
    return session


def _config(config: TrackKitConfig, start: Start, rank: ranks.Rank, root: Path, git: Any) -> dict[str, Any]:
    from trackkit import __version__

    return {
        **runtime_config(start.framework, start.package, rank.world_size, start.device, start.output),
        **(git.config() if git is not None else {}),
        **start.config,
        **flatten("hparams", start.hparams),
        **flatten("trackkit/settings", config.to_dict()),
        "trackkit/version": __version__,
        "trackkit/folder": str(root),
    }


def _writable(root: Path, run_id: str) -> Path:
    """`root`, or, where a run folder can't be made in it, a temporary folder of this user's: told."""
    folder = resume.run_folder(root, run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return root
    except OSError as error:
        spare = Path(tempfile.gettempdir()) / f"trackkit-{os.getuid()}"
        logger.warning(
            "the run's folder must be writable, and '%s' is not (%s): the run is recorded in '%s' instead; "
            "set 'dir' to a folder that can be written",
            folder,
            error.strerror,
            spare,
        )
        return spare


def _free_id(root: Path, run_id: str) -> str:
    """`run_id`, or the next of `run_id-2`, `run_id-3` whose folder this process is the one to make.

    A spawned fit can't tell its parent which id it has taken, and its siblings begin at the same moment.
    """
    number, free = 1, run_id
    while True:
        try:
            resume.run_folder(root, free).mkdir(parents=True)
        except FileExistsError:
            number += 1
            free = f"{run_id}-{number}"
        except OSError:
            # `_writable` looks elsewhere, and says why.
            return free
        else:
            return free
