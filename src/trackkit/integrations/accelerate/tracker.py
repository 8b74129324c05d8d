"""The tracker of Accelerate: records what a script logs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.run_info import Start
from trackkit.integrations.accelerate import _compat
from trackkit.integrations.accelerate.logged import Logged
from trackkit.integrations.accelerate.name import NAME
from trackkit.integrations.guard import guarded
from trackkit.integrations.loading import kit_class

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker as _Base

    from trackkit.integrations.accelerate.logged import Measures
    from trackkit.session.session import Session
else:

    class _Base:
        """Stands in for Accelerate's class until a tracker is made."""


_OF_WANDB = ("entity", "name", "group", "job_type", "tags", "notes", "dir")


class AccelerateTracker(_Base):  # type: ignore[misc]
    """Records what a script logs with `Accelerator.log`, as a Weights & Biases run and in a local log.

    From accelerate 1.15 on, `Accelerator(log_with="trackkit")` makes one; before that,
    `Accelerator(log_with=trackkit.AccelerateTracker(project="mine"))`. The run begins with `init_trackers(config=...)`,
    without a config at the first log. It ends with `end_training`, or when the process ends.

    Args:
        project: W&B project.
        settings: of TrackKit, as in `TrackKit(...)`. By name: `init_trackers(init_kwargs={"trackkit": {...}})`.

    Attributes:
        kit: the TrackKit with these settings.
        measures: what `trackkit.accelerate` measures; None without it.

    Raises:
        ConfigError: an unknown setting, a wrong type or choice, or a file that can't be read.
    """

    name = NAME
    requires_logging_directory = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes Accelerate's class the base of this one, and returns a new tracker."""
        from accelerate.tracking import GeneralTracker

        if not issubclass(AccelerateTracker, GeneralTracker):
            AccelerateTracker.__bases__ = (GeneralTracker,)
        return super().__new__(cls)

    def __init__(self, project: str | None = None, **settings: Any) -> None:
        super().__init__()
        self.kit = kit_class()(project=project, **settings)
        self.measures: Measures | None = None
        self._config: dict[str, Any] = {}
        self._session: Session | None = None
        self._logged: Logged | None = None
        self._began = False
        self.kit.prepare()

    @property
    def tracker(self) -> Any:
        """The W&B run; None on processes that don't write it."""
        session = self.session()
        return None if session is None else session.run

    def start(self) -> None:
        """Prepares for a run; Accelerate calls this from `init_trackers`."""
        self._began, self._config = False, {}

    @guarded
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Records the config of `init_trackers` as `hparams/*`, and begins the run."""
        self._config.update(values)
        if self._session is not None:
            self._session.tracker.describe({f"hparams/{name}": value for name, value in _flat(values).items()})
        elif self.measures is None:
            self.session()

    @guarded
    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Records logged values: numbers as `batch/*` or `epoch/*`, texts and W&B's types as `samples/*`.

        Args:
            values: name to value; mappings among them are flattened.
            step: of the training; default: `step` among the values, else the next or the current one.
            kwargs: ignored: arguments for other trackers.
        """
        if self.session() is not None and self._logged is not None:
            self._logged.log(values, step)

    @guarded
    def log_images(self, values: Mapping[str, Sequence[Any]], step: int | None = None, **kwargs: Any) -> None:
        """Records pictures as `samples/*`.

        Args:
            values: name to arrays (height, width, channels) or PIL images.
            step: as in `log`.
            kwargs: ignored.
        """
        import wandb

        self.log({name: [wandb.Image(each) for each in images] for name, images in values.items()}, step)

    @guarded
    def log_table(
        self,
        table_name: str,
        columns: list[str | int] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Records a table as `samples/<table_name>`, given as columns and data, or as a pandas table."""
        import wandb

        self.log({table_name: wandb.Table(columns=columns, data=data, dataframe=dataframe)}, step)

    @guarded
    def finish(self) -> None:
        """Ends the run."""
        session, self._session, self._logged = self._session, None, None
        if session is not None:
            if self.measures is not None:
                self.measures.logs()
            session.finish()
        if self.measures is not None:
            self.measures.ends()

    def session(self) -> Session | None:
        """Returns the run's session, which begins here; None if TrackKit is disabled or the run can't be opened."""
        if not self._began and not self.kit.disabled:
            self._began = True
            start = self._start() if self.measures is None else self.measures.start(self._start())
            self._session = session = self.kit.begin(start)
            session.unreported = "finished"
            self._logged = Logged(session.tracker, self.measures)
            session.tracker.position = self._logged.moment
            if self.measures is not None:
                self.measures.begins(session)
                session.tracker.position = self.measures.moment
        return self._session

    def hook_failed(self, hook: str, error: BaseException) -> None:
        """Counts an error in a method of this class, and logs its traceback the first time."""
        self.kit.hook_failed(f"{type(self).__name__}.{hook}", error)

    def _start(self) -> Start:
        from accelerate.state import AcceleratorState, PartialState

        state = PartialState()
        config = {"runtime/strategy": str(state.distributed_type.value)}
        if AcceleratorState().initialized:
            config["runtime/precision"] = {"no": "32"}.get(precision := AcceleratorState().mixed_precision, precision)
        return Start(
            framework="accelerate",
            package="accelerate",
            output=Path(str(self._config.get("output_dir") or ".")),
            phase="fit",
            config=config,
            hparams=_flat(self._config),
            device=str(state.device),
            logs_only=self.measures is None,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "measures": None, "_session": None, "_logged": None, "_began": True}


def by_name(project: str, settings: dict[str, Any]) -> AccelerateTracker:
    """Returns the tracker of `log_with="trackkit"`; `project` is the script's, and any setting beats it.

    W&B's own WANDB_PROJECT does not beat it, as it does not beat `wandb.init(project=...)`.
    """
    if kit_class()(**settings).config.project in (None, os.environ.get("WANDB_PROJECT")):
        settings = {**settings, "project": project}
    return AccelerateTracker(**settings)


def in_place_of_wandb(project: str, arguments: dict[str, Any], theirs: Any) -> Any:
    """Returns the tracker of `log_with="wandb"` under `trackkit run --everywhere`.

    Args:
        project: the script's.
        arguments: of `wandb.init`; those that TrackKit has under the same name count.
        theirs: Accelerate's own tracker class, which is used if the script asks for TrackKit too.
    """
    if any(str(each) == str(NAME) or isinstance(each, AccelerateTracker) for each in _compat.trackers_asked_for()):
        return theirs(project, **arguments)
    return by_name(project, {name: value for name, value in arguments.items() if name in _OF_WANDB})


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    from trackkit.record.run_config import flatten

    return {name.removeprefix("hparams/"): value for name, value in flatten("hparams", values).items()}
