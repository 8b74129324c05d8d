"""Opens a run: which run it is, its folder, and what is recorded of it from the start."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trackkit.callbacks import build_callbacks
from trackkit.engine import ranks
from trackkit.engine.run_info import History, RunInfo, Start
from trackkit.engine.sink import Sink
from trackkit.engine.tracker import Tracker
from trackkit.local_log import index
from trackkit.local_log.owner import claim
from trackkit.local_log.places import backend_folder, run_folder
from trackkit.local_log.private import make_folder, make_temporary_folder
from trackkit.local_log.writer import LocalSink
from trackkit.notices import ensure_heard, logger
from trackkit.record.description import Description
from trackkit.record.git import GitState, read_git
from trackkit.record.hydra import HydraJob, read_hydra
from trackkit.record.run_config import flatten, package_version, recorded, runtime_config
from trackkit.redaction.patterns import mask_name
from trackkit.redaction.redact import redact
from trackkit.schema.names import Names
from trackkit.session import identity, resume
from trackkit.session.console import Console, NullConsole
from trackkit.session.session import Phase, Session, open_sessions
from trackkit.settings.config import TrackKitConfig
from trackkit.settings.unused import report_unused

# Makes the backends beside the local log, given the completed settings and whether another run of the process is open.
MakeSinks = Callable[[TrackKitConfig, bool], Sequence[Sink]]


@dataclass(frozen=True)
class Home:
    """A run and its folder.

    Attributes:
        run_id: of the run.
        root: the output folder that its run folder is in.
        earlier: what earlier attempts recorded; None for a new run.
    """

    run_id: str
    root: Path
    earlier: History | None = None


def open_session(
    config: TrackKitConfig, start: Start, run_id: str, make_sinks: MakeSinks, resumed: bool = False
) -> Session:
    """Opens a run, after closing the runs of this process whose fit has ended.

    Args:
        config: the settings.
        start: what the adapter knows.
        run_id: the id to use, unless another run is resumed or the id has a folder already.
        make_sinks: makes the backends beside the local log, on ranks that write.
        resumed: whether the id may have a folder already (an evaluation after a fit in another process).

    Raises:
        TrackKitError: the run or a backend cannot do what the settings ask for.
    """
    ensure_heard()
    for each in open_sessions():
        if each.phase != "fitting":
            each.close()
    rank, given = ranks.current(), config
    root = Path(config.dir) if config.dir else start.output
    home = Home(run_id, root.expanduser().absolute())
    known, git = Description(), None
    sinks: list[Sink] = []
    if rank.writes:
        job = known.ask("the Hydra application", read_hydra, HydraJob())
        start = _with_hydra(start, job)
        git = known.ask("the git repository", lambda: read_git(job.home), None)
        config = _completed(config, start, git, job.home)
        home = _find_home(config, start, home, resumed)
        _describe(known, config, start, rank, home, git)
        sinks = [LocalSink(), *make_sinks(config, bool(open_sessions()))]
    info = _info(config, start, rank, home, git, known)
    session = _session(config, info, rank, sinks)
    session.start()
    session.tracker.faults.left_out([*start.faults, *known.faults])
    if joined := next((sink.joined for sink in sinks if sink.joined), ""):
        session.tracker.describe({"trackkit/joined": joined})
    if rank.writes:
        report_unused(given, _unused(given, info, sinks))
        index.remember(info.folder, info.run_id, config.project, config.mode)
    return session


def _with_hydra(start: Start, job: HydraJob) -> Start:
    """Adds what a Hydra application says of its job; what the trainer says of itself comes first."""
    return replace(
        start,
        config={**job.config, **start.config},
        hparams={**job.hparams, **start.hparams},
        group=start.group or job.group,
    )


def _unused(config: TrackKitConfig, info: RunInfo, sinks: Sequence[Sink]) -> dict[str, str]:
    """Returns the settings that would have no effect in a run, and why."""
    unused: dict[str, str] = {}
    if info.earlier is not None:
        if info.earlier.name:
            unused["name"] = "the run is resumed and keeps its name"
        if config.dir and info.root != Path(config.dir).expanduser().absolute():
            unused["dir"] = f"the run is resumed in '{info.root}'"
    if not info.start.is_fit:
        unused["resume"] = "only a training can resume a run, and this is an evaluation"
    if config.names == "keep":
        unused["synonyms"] = "'names: keep' keeps all names"
    for sink in sinks:
        unused.update(sink.unused)
    return unused


def _completed(config: TrackKitConfig, start: Start, git: GitState | None, home: Path) -> TrackKitConfig:
    """Returns the settings with the defaults that depend on framework, repository and machine, secrets masked."""
    return replace(
        config,
        project=config.project or identity.default_project(git, home),
        tags=redact("", identity.default_tags(config.tags)),
        group=redact("", config.group or start.group or None),
        job_type=redact("", config.job_type),
        notes=redact("", config.notes),
    )


def _find_home(config: TrackKitConfig, start: Start, home: Home, resumed: bool) -> Home:
    """Returns the run to resume, else the proposed one, claimed by this process.

    Raises:
        ConfigError: `resume` or WANDB_RUN_ID cannot be met.
    """
    run_id, root, project = home.run_id, home.root, str(config.project)
    if start.is_fit:
        setting = "auto" if config.resume == "must" else config.resume
        found = resume.find(setting, start.checkpoint, root, project)
        if found.notice:
            logger.warning(found.notice)
        # The run may be open from an earlier fit of this process that failed without reporting its end.
        for each in open_sessions():
            if each.info.run_id == found.run_id:
                each.close()
        if found.run_id is None:
            resume.check_new(config.resume, run_id, root, run_id == identity.given_run_id())
        else:
            run_id, root, resumed = found.run_id, found.root, True
    if run_id == identity.given_run_id():
        resume.claim_named("WANDB_RUN_ID", root, run_id, project)
    # The claim fails for an evaluation in a process of its own while the fit's process has the run open.
    if resumed and claim(run_folder(root, run_id)):
        earlier = resume.read_earlier(root, run_id)
        return Home(run_id, _writable(root, run_id), earlier)
    run_id = free_id(root, run_id)
    return Home(run_id, _writable(root, run_id))


def free_id(root: Path, run_id: str) -> str:
    """Returns the first of `run_id`, `run_id-2`, `run_id-3` ... that has no folder, and makes its folder.

    Spawned fits are given the same id and start at the same moment: the one that makes the folder has the id.
    """
    number, free = 1, run_id
    while True:
        try:
            make_folder(run_folder(root, free).parent)
            run_folder(root, free).mkdir(mode=0o700)
        except FileExistsError:
            number += 1
            free = f"{run_id}-{number}"
        except OSError:
            # `_writable` warns of it and chooses another folder.
            return free
        else:
            return free


def _writable(root: Path, run_id: str) -> Path:
    """Returns `root`; if no run folder can be made in it, warns and returns a temporary folder of this user."""
    folder = run_folder(root, run_id)
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            return root
    except OSError as error:
        spare = make_temporary_folder()
        logger.warning(
            "cannot write to the run folder '%s' (%s): recording in '%s' instead. Set 'dir' to a writable folder.",
            folder,
            error.strerror,
            spare,
        )
        return spare


def _describe(
    known: Description, config: TrackKitConfig, start: Start, rank: ranks.Rank, home: Home, git: GitState | None
) -> None:
    """Gathers the run config; later parts, which are nearer to the user, replace earlier ones."""
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


def _info(
    config: TrackKitConfig, start: Start, rank: ranks.Rank, home: Home, git: GitState | None, known: Description
) -> RunInfo:
    """Returns the run's description, secrets masked."""
    earlier = home.earlier or History(home.root)
    hparams = redact("", dict(start.hparams))
    name = (
        earlier.name
        or (start.name if config.name is None else "")
        or identity.run_name(config.name, home.run_id, start.phase, git, hparams, start.version)
    )
    # The path is not masked, since other tools look for the run there.
    folder = {key: value for key, value in known.config.items() if key == "trackkit/folder"}
    samples, tokens = start.seen(home.earlier if start.is_fit else None)
    return RunInfo(
        run_id=home.run_id,
        name=redact("", name),
        root=home.root,
        folder=run_folder(home.root, home.run_id),
        backends=backend_folder(run_folder(home.root, home.run_id), bool(config.dir)),
        started=earlier.started or time.time(),
        config={**recorded(known.config), **folder},
        world_size=rank.world_size,
        start=replace(start, samples=samples, tokens=tokens),
        earlier=home.earlier,
    )


def _session(config: TrackKitConfig, info: RunInfo, rank: ranks.Rank, sinks: Sequence[Sink]) -> Session:
    callbacks = build_callbacks(config.callbacks)
    reduce = {key: how for callback in callbacks for key, how in callback.REDUCE.items()}
    exchange = ranks.Exchange() if info.start.logs_only else ranks.open_exchange(rank, reduce)
    tracker = Tracker(callbacks, sinks, exchange, Names(config.names, config.synonyms, mask_name))
    phase: Phase = "fitting" if info.start.is_fit else "evaluating"
    console = _console(config, info, rank, tracker, exchange)
    return Session(tracker, info, phase, sinks, str(config.project), exchange, console)


def _console(
    config: TrackKitConfig, info: RunInfo, rank: ranks.Rank, tracker: Tracker, exchange: ranks.Exchange
) -> NullConsole:
    if not config.console:
        return NullConsole()
    if rank.writes:
        exchange.publish("folder", str(info.folder))
        return Console(rank.rank, lambda: info.folder, tracker.console, tracker.faults.add)

    def find() -> Path | None:
        folder = exchange.published("folder")
        return Path(folder) if folder else None

    return Console(rank.rank, find, lambda lines: None, tracker.faults.add)
