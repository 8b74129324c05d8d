"""TrackKit, the one object that every trainer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trackkit.engine.faults import Faults
from trackkit.engine.sink import Sink
from trackkit.integrations import BACKENDS
from trackkit.integrations.bases import FrameworkBase
from trackkit.integrations.loading import load
from trackkit.notices import ensure_heard
from trackkit.session.per_trainer import Runs
from trackkit.settings.config import EpochAxis, Mode, NamesMode, TrackKitConfig, unknown_setting

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import torch

    from trackkit.engine.run_info import Start
    from trackkit.integrations.loop.init import Run
    from trackkit.integrations.loop.loop import Loop
    from trackkit.session.session import Session


class TrackKit(FrameworkBase):
    """Records a training as a Weights & Biases run, and as a local log that is always on.

    Accepted by `lightning.pytorch.Trainer`, `pytorch_lightning.Trainer` and `transformers.Trainer`. Nothing starts
    before the training does. Every argument is a setting; None means "not given", and then TRACKKIT_* variables,
    `trackkit.yaml`, W&B's own variables and the defaults are asked, in this order.

    Args:
        project: W&B project. Default: the name of the git repository, else of the working directory.
        entity: W&B entity. Default: the account's own.
        name: display name, a template of {experiment} {version} {phase} {owner} {time} {git} {slurm_job_id}
            {hostname} {run_id} {hparams.<name>}. Default: `{experiment}-{slurm_job_id or time}-{git}-{end of run_id}`.
        group: W&B group.
        job_type: W&B job type. Default: `train`.
        tags: W&B tags; `ci` or `local` is added.
        notes: W&B notes.
        mode: `auto` (online if there is a key and the server answers, else offline), `online`, `offline` or `disabled`
            (records nothing). Default: `auto`.
        dir: folder for run folders. Default: WANDB_DIR, else the trainer's own output folder.
        names: how logged names become keys: `canonical`, `keep` or `strict`. Default: `canonical`.
        synonyms: canonical name to the name to use instead.
        epoch_axis: x-axis of `epoch/*`: `step` or `epoch`. Default: `step`.
        resume: `auto` (a checkpoint's run continues), `never`, `must` (as `auto`, but a new run is an error) or a run
            id. Default: `auto`.
        finish_timeout: seconds that the end of a run may wait for W&B; what is not sent by then is on disk.
            Default: 30.
        console: whether to record what the program prints, in the run's folder and in W&B. Default: true.
        wandb_footer: whether W&B prints its own lines at the start and the end of a run. Default: false.
        callbacks: callback name to true, false or a mapping of its options.
        config: path of a YAML file, a mapping or an OmegaConf node, in place of `trackkit.yaml`.
        sinks: backends in place of W&B, such as `trackkit.integrations.memory.MemorySink()`; the local log stays.

    Raises:
        ConfigError: an unknown setting, a wrong type or choice, or a file that can't be read.
    """

    yields: ClassVar[bool] = False
    """Whether another TrackKit of the same trainer records instead of this one."""

    _session: Session | None = None

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        mode: Mode | None = None,
        dir: str | None = None,
        names: NamesMode | None = None,
        synonyms: dict[str, str] | None = None,
        epoch_axis: EpochAxis | None = None,
        resume: str | None = None,
        finish_timeout: float | None = None,
        console: bool | None = None,
        wandb_footer: bool | None = None,
        callbacks: dict[str, Any] | None = None,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        sinks: Sequence[Sink] | None = None,
        **unknown: Any,
    ) -> None:
        given = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": tags,
            "notes": notes,
            "mode": mode,
            "dir": dir,
            "names": names,
            "synonyms": synonyms,
            "epoch_axis": epoch_axis,
            "resume": resume,
            "finish_timeout": finish_timeout,
            "console": console,
            "wandb_footer": wandb_footer,
            "callbacks": callbacks,
        }
        for key in unknown:
            raise unknown_setting(key, "arguments", [*given, "config", "sinks"])
        from trackkit.session import identity
        from trackkit.settings.sources import load_config

        self.config: TrackKitConfig = load_config(config, given)
        self._sinks = list(sinks) if sinks is not None else None
        self.runs = Runs(self.config, self._make_sinks, identity.given_run_id() or identity.new_run_id())
        self._early_faults = Faults()
        if self.disabled:
            self._say_disabled(given)
        super().__init__()

    # -- for the adapters ----------------------------------------------------------------------------------------

    @property
    def disabled(self) -> bool:
        """Whether nothing is recorded at all."""
        return self.config.mode == "disabled"

    def more_runs(self) -> Runs:
        """Returns the runs of a further trainer that uses this object."""
        from trackkit.session.identity import new_run_id

        return Runs(self.config, self._make_sinks, new_run_id())

    def prepare(self) -> None:
        """Imports the backends' packages on the rank that writes, so that a training's start does not wait for them."""
        from trackkit.engine import ranks

        if not self.disabled and self._sinks is None and ranks.current().writes:
            for path in BACKENDS.values():
                load(path).prepare()

    def begin(self, start: Start, runs: Runs | None = None) -> Session:
        """Begins a fit or an evaluation: opens its run, or continues in the open one.

        Args:
            start: what the adapter knows.
            runs: of the trainer; default: those of the only one.
        """
        self._session = (runs or self.runs).begin(start)
        self._session.first_warning = _first_warning
        self._session.tracker.faults.join(self._early_faults)
        self._early_faults = Faults()
        return self._session

    def hook_failed(self, hook: str, error: BaseException) -> None:
        """Counts an error in a hook, and logs its traceback the first time."""
        ensure_heard()
        faults = self._session.tracker.faults if self._session is not None else self._early_faults
        faults.add(f"TrackKit's {hook}", error)

    def _make_sinks(self, config: TrackKitConfig, nested: bool) -> Sequence[Sink]:
        """Makes the backends beside the local log.

        Args:
            config: the resolved settings.
            nested: whether another run of this process is open.
        """
        if self._sinks is not None:
            from trackkit.settings.unused import report_unused

            names = ["entity", "job_type", "notes", "epoch_axis", "finish_timeout"] + ["mode"] * (
                config.mode == "online"
            )
            report_unused(self.config, dict.fromkeys(names, "'sinks' are given in place of W&B"))
            return self._sinks
        return [load(path)(config, nested) for path in BACKENDS.values()]

    def _say_disabled(self, given: Mapping[str, Any]) -> None:
        from trackkit.engine import ranks
        from trackkit.settings.unused import report_unused

        if ranks.current().writes:
            ensure_heard()
            report_unused(
                self.config, dict.fromkeys(given.keys() - {"mode"}, "'mode' is 'disabled': nothing is recorded")
            )

    def __getstate__(self) -> dict[str, Any]:
        dropped = {"_session", *(name for kind in type(self).__mro__ for name in vars(kind).get("TRANSIENT", ()))}
        kept = {name: value for name, value in self.__dict__.items() if name not in dropped}
        return {name: value for name, value in kept.items() if not (name.startswith("on_") and value is None)}

    def __repr__(self) -> str:
        return f"TrackKit(project={self.config.project!r}, mode={self.config.mode!r})"


def loop(
    model: torch.nn.Module | Sequence[torch.nn.Module] | Mapping[str, torch.nn.Module],
    optimizer: Any,
    *,
    config: Any = None,
    total_steps: int | None = None,
    every: int = 50,
    scaler: torch.amp.GradScaler | None = None,
    **settings: Any,
) -> Loop:
    """Records a training loop of your own, in a `with` block.

    with trackkit.loop(model, optimizer, config=cfg, total_steps=n, project="mine") as track:
        for epoch in range(epochs):
            for x, y in track.batches(loader):
                ...; loss.backward(); optimizer.step()
                track.step(loss)
            track.evaluation("val", evaluate(model))

    Args:
        model: the model, also in a wrapper (DDP, FSDP, Fabric, `torch.compile`); several in a list or a dict.
        optimizer: a torch optimizer, also in Accelerate's, Fabric's or schedule-free's wrapper; several in a list, or
            in a dict by name.
        config: hyperparameters: a mapping, a dataclass, a namespace, an object with attributes or an OmegaConf node.
        total_steps: planned optimizer steps. Default: unknown.
        every: optimizer steps per row. The first step makes a row too, and the last.
        scaler: the gradient scaler, so that steps which it skips are counted from the first one on.
        settings: of TrackKit, except for its `config`.

    Raises:
        ConfigError: a wrong argument or setting.
    """
    from trackkit.integrations.loop.loop import Loop

    return Loop(TrackKit(**settings), model, optimizer, config, total_steps, every, scaler)


def init(project: str | None = None, config: Any = None, **settings: Any) -> Run:
    """Opens a run for code that logs by itself: `run.log(values, step)`, then `run.finish()`.

    Args:
        project: W&B project.
        config: hyperparameters: a mapping, a dataclass, a namespace, an object with attributes or an OmegaConf node.
        settings: of TrackKit, except for its `config`. `resume` may name a run to continue.

    Raises:
        ConfigError: a wrong setting.
    """
    from trackkit.integrations.loop.init import Run

    return Run(TrackKit(project, **settings), config)


def _first_warning(folder: Path, status: str) -> str:
    from trackkit.reading.first_warning import first_warning

    return first_warning(folder, status)
