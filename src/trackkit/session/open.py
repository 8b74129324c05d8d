"""How a run is opened: which one it is, where it is recorded, and what is known of it from the start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trackkit.callbacks import build_callbacks
from trackkit.engine import ranks
from trackkit.engine.run_info import RunInfo, Start
from trackkit.engine.sink import Sink
from trackkit.engine.tracker import Tracker
from trackkit.local_log import index
from trackkit.local_log.reader import run_folder
from trackkit.local_log.writer import LocalSink
from trackkit.notices import ensure_heard, logger
from trackkit.record.description import Description
from trackkit.record.git import GitState, read_git
from trackkit.record.run_config import flatten, package_version, runtime_config
from trackkit.redaction.redact import redact
from trackkit.schema.names import Names
from trackkit.session import identity, resume
from trackkit.session.home import Home, settle
from trackkit.session.session import Phase, Session, open_sessions
from trackkit.settings.config import TrackKitConfig

# Makes the backends beside the local log, given the completed settings and whether another run of the process is open.
MakeSinks = Callable[[TrackKitConfig, bool], Sequence[Sink]]


def open_session(
    config: TrackKitConfig, start: Start, run_id: str, make_sinks: MakeSinks, resumed: bool = False
) -> Session:
    """Opens a run. Runs of earlier fits that are over are closed first.

    Args:
        config: the settings.
        start: what the adapter knows.
        run_id: proposed; a later fit of the same object gets another.
        make_sinks: makes the backends beside the local log, on ranks that write.
        resumed: whether the id may already have a folder (an evaluation after a fit in another process).

    Raises:
        TrackKitError: a backend cannot do what the settings ask for.
    """
    ensure_heard()
    for each in open_sessions():
        if each.phase != "fitting":
            each.close()
    rank = ranks.current()
    root = Path(config.dir) if config.dir else start.output
    home = Home(run_id, root.expanduser().absolute())
    known, git = Description(), None
    sinks: list[Sink] = []
    if rank.writes:
        git = known.ask("the git repository", lambda: read_git(Path.cwd()), None)
        config = _completed(config, git)
        home = _find_home(config, start, home, resumed)
        _describe(known, config, start, rank, home, git)
        sinks = [LocalSink(), *make_sinks(config, bool(open_sessions()))]
    info = _masked(_info(config, start, rank, home, git, known.config))
    session = _session(config, info, rank, sinks)
    session.begin()
    session.tracker.faults.left_out([*start.faults, *known.faults])
    if rank.writes:
        index.remember(info.folder, info.run_id, config.project, config.mode)
    return session


def _completed(config: TrackKitConfig, git: GitState | None) -> TrackKitConfig:
    """The settings with the defaults that depend on where the training runs, and no secret in what is told of it."""
    return replace(
        config,
        project=config.project or identity.default_project(git),
        tags=redact("", identity.default_tags(config.tags)),
        group=redact("", config.group),
        job_type=redact("", config.job_type),
        notes=redact("", config.notes),
    )


def _find_home(config: TrackKitConfig, start: Start, home: Home, resumed: bool) -> Home:
    """The place of the run that the training goes on in, or else of the proposed one."""
    project = str(config.project)
    if not start.is_fit:
        return settle(home.run_id, home.root, project, resumed)
    setting = "auto" if start.again or config.resume == "must" else config.resume
    known, root, told = resume.find(setting, start.checkpoint, home.root, project)
    if told:
        logger.warning(told)
    # A fit of this process that was broken off, and whose end nobody has told.
    for each in open_sessions():
        if each.info.run_id == known:
            each.close()
    if known is None:
        resume.check_new(config.resume, home.run_id, root, home.run_id == identity.given_run_id())
    return settle(known or home.run_id, root, project, resumed or known is not None)


def _info(
    config: TrackKitConfig, start: Start, rank: ranks.Rank, home: Home, git: GitState | None, known: dict[str, Any]
) -> RunInfo:
    earlier, given = home.earlier, start.name if config.name is None else ""
    samples, tokens = start.seen(earlier if start.is_fit else None)
    return RunInfo(
        run_id=home.run_id,
        name=(earlier.name if earlier is not None else "")
        or given
        or identity.run_name(
            config.name, home.run_id, start.phase, git, redact("", dict(start.hparams)), start.version
        ),
        root=home.root,
        folder=run_folder(home.root, home.run_id),
        started=(earlier.started if earlier is not None else 0.0) or time.time(),
        config=known,
        world_size=rank.world_size,
        start=replace(start, samples=samples, tokens=tokens),
        earlier=earlier,
    )


def _masked(info: RunInfo) -> RunInfo:
    """Without a secret in anything that is told of the run. Where it lies is told as it is: others look there."""
    config = redact("", dict(info.config))
    folder = {key: value for key, value in info.config.items() if key == "trackkit/folder"}
    return replace(info, name=redact("", info.name), config={**config, **folder})


def _session(config: TrackKitConfig, info: RunInfo, rank: ranks.Rank, sinks: Sequence[Sink]) -> Session:
    callbacks = build_callbacks(config.callbacks)
    reduce = {key: how for callback in callbacks for key, how in callback.REDUCE.items()}
    exchange = ranks.open_exchange(rank, reduce)
    tracker = Tracker(callbacks, sinks, exchange, Names(config.names, config.synonyms))
    phase: Phase = "fitting" if info.start.is_fit else "evaluating"
    return Session(tracker, info, phase, sinks, str(config.project), exchange)


def _describe(
    known: Description, config: TrackKitConfig, start: Start, rank: ranks.Rank, home: Home, git: GitState | None
) -> None:
    """The run config: what is nearer to the user comes later, and wins."""
    machine = (start.framework, start.package, rank.world_size, start.device, start.output)
    known.add("the runtime", lambda: runtime_config(*machine))
    known.config.update({**(git.config() if git is not None else {}), **start.config})
    known.add("the hyperparameters", lambda: flatten("hparams", start.hparams))
    known.config.update(
        {
            **flatten("trackkit/settings", config.to_dict()),
            "trackkit/version": package_version("trackkit"),
            "trackkit/folder": str(home.root),
        }
    )
