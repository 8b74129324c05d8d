"""Records what TRL gives to W&B alone: tables of completions, and how long its parts take."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from trackkit.engine import ranks
from trackkit.engine.tables import Table, table_of
from trackkit.integrations.guard import Kit, call_guarded
from trackkit.integrations.huggingface import _compat
from trackkit.schema.keys import sanitize

if TYPE_CHECKING:
    from trackkit.engine.tracker import Tracker

# What TRL's trainers and its LogCompletionsCallback log, each alone; the second is of older versions' DPO, CPO, ORPO.
_TABLES = ("completions", "game_log")
_TIMES = "profiling/"


class NullTrl:
    """Ignores a training that TRL has no part in."""

    def logs(self, split: str) -> None:
        """Notes at `on_log` that the trainer logs, and of which data: `train`, `val`, `val/<set>`, ..."""

    def ends(self) -> None:
        """Restores what was replaced, at the training's end."""


class TrlLogs(NullTrl):
    """Receives what TRL logs to W&B during one training.

    TRL logs its completions and times by `wandb.log`, where "wandb" is in `args.report_to` and a W&B run is open. So
    during the training `report_to` says yes to "wandb", without having it, and `wandb.log` is TrackKit's. TRL itself is
    not changed. All other calls of `wandb.log` pass on.

    Args:
        kit: the TrackKit that records the trainer.
        tracker: of the run.
        args, state: of the training.
    """

    def __init__(self, kit: Kit, tracker: Tracker, args: Any, state: Any) -> None:
        self._kit, self._tracker = kit, tracker
        self._args, self._state = args, state
        self._split = "train"
        self._recorded: dict[str, list[str]] = {}

    def logs(self, split: str) -> None:
        self._split = split

    def record(self, name: str, value: Any, split: str, step: int) -> None:
        """Records a table, with the split after its step, without the rows that the last table of its name had."""
        table = table_of(value)
        if table is None:
            return
        rows, before = [repr(row) for row in table.rows], self._recorded.get(name, [])
        # TRL logs a table again at the training's end; its LogCompletionsCallback adds to one table.
        known = len(before) if rows[: len(before)] == before else 0
        self._recorded[name] = rows
        if known == len(rows):
            return
        at = 1 if list(table.columns[:1]) == ["step"] else 0
        columns = [*table.columns[:at], "split", *table.columns[at:]]
        new = [[*row[:at], split, *row[at:]] for row in table.rows[known:]]
        self._tracker.samples({name: Table(columns, new)}, step)


class WandbCalls(TrlLogs):
    """Receives what TRL logs to W&B, while a W&B run is open in this process; is made in the trainer's own thread."""

    def __init__(self, kit: Kit, tracker: Tracker, args: Any, state: Any) -> None:
        import wandb

        super().__init__(kit, tracker, args, state)
        self._wandb: Any = wandb
        self._trainer = weakref.ref(_compat.calling_trainer())
        self._thread = threading.get_ident()
        # W&B's own callback is in the training: it gets the tables too.
        self._shared = "wandb" in args.report_to
        self._theirs, self._before = wandb.log, args.report_to
        self._ours = self._log
        wandb.log = self._ours
        args.report_to = _ReportTo(self._before, self._trains)

    def ends(self) -> None:
        if self._args.report_to.__class__ is _ReportTo:
            self._args.report_to = self._before
        if self._wandb.log is self._ours:
            self._wandb.log = self._theirs

    def _trains(self) -> bool:
        """Returns whether the training goes on: an exception ends it without an event."""
        trainer = self._trainer()
        if trainer is None:
            return False
        return threading.get_ident() != self._thread or _compat.calling_trainer() is trainer

    def _log(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Takes the place of `wandb.log`."""
        names = list(data) if isinstance(data, dict) else []
        ours = len(names) == 1 and (names[0] in _TABLES or str(names[0]).startswith(_TIMES)) and self._trains()
        if ours:
            call_guarded(self._kit, "wandb.log", self._record_call, names[0], data[names[0]])
        return None if ours and not self._shared else self._theirs(data, *args, **kwargs)

    def _record_call(self, name: str, value: Any) -> None:
        """Records a table or a time that TRL has logged."""
        if name in _TABLES:
            # A pandas table is of the LogCompletionsCallback, which asks with the evaluation's prompts.
            split = "val" if hasattr(value, "itertuples") else self._split
            self.record(name, value, split, self._state.global_step)
        else:
            # `profiling/Time taken: GRPOTrainer._prepare_inputs`
            part = sanitize(name.rpartition(": ")[2].partition(".")[2] or name.removeprefix(_TIMES))
            self._tracker.average({f"batch/{_TIMES}{part}_s": float(value)})


class Parquet(TrlLogs):
    """Reads the files of completions that some of TRL's trainers write, where no W&B run is open.

    A file is written after `on_log`, and written over at the next log of its step: it is read at the next log.
    """

    def __init__(self, kit: Kit, tracker: Tracker, args: Any, state: Any) -> None:
        super().__init__(kit, tracker, args, state)
        self._path = ""
        self._seen = self._step = 0

    def logs(self, split: str) -> None:
        self.ends()
        super().logs(split)
        self._step = self._state.global_step
        self._path = os.path.join(self._args.output_dir, "completions", f"completions_{self._step:05d}.parquet")
        self._seen = _written(self._path)

    def ends(self) -> None:
        path, self._path = self._path, ""
        if path and _written(path) != self._seen:
            call_guarded(self._kit, "completions", self._read, path)

    def _read(self, path: str) -> None:
        import pandas

        self.record("completions", pandas.read_parquet(path), self._split, self._step)


def _written(path: str) -> int:
    """Returns when a file was written last; 0 without the file."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else 0


class _ReportTo(list[str]):
    """A trainer's `report_to` that says yes to "wandb" without having it. Copies and pickles as a plain list.

    Args:
        names: the list it stands for.
        trains: says whether the training goes on.
    """

    def __init__(self, names: list[str], trains: Callable[[], bool]) -> None:
        # TRL asks first whether the list is empty.
        super().__init__(names or ["trackkit"])
        self._names, self._trains = list(names), trains

    def __contains__(self, name: object) -> bool:
        return name in self._names or (name == "wandb" and self._trains())

    def __iter__(self) -> Iterator[str]:
        return super().__iter__() if self._trains() else iter(self._names)

    def __bool__(self) -> bool:
        return bool(self._names) or self._trains()

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self._names,)


def follow(kit: Kit, tracker: Tracker, args: Any, state: Any) -> NullTrl:
    """Returns what receives TRL's tables and times during a training; a null object where there can be none."""
    if "trl" not in sys.modules or not ranks.current().writes or _compat.calling_trainer() is None:
        return NullTrl()
    wandb = sys.modules.get("wandb")
    opened = wandb is not None and wandb.run is not None
    return (WandbCalls if opened else Parquet)(kit, tracker, args, state)
