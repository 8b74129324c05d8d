"""Gathers all that is known here of a run: its local log and its W&B files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from trackkit.engine.attempts import counted
from trackkit.engine.records import Row
from trackkit.integrations.wandb.console import to_texts
from trackkit.integrations.wandb.files import LOGGER, RunFile, RunFileReader, read_run_file
from trackkit.local_log.console import console_name, masked, read_console
from trackkit.local_log.reader import read_folder
from trackkit.local_log.recorded import RecordedRun
from trackkit.schema.keys import AXES
from trackkit.sync.outgoing import redacted
from trackkit.sync.targets import Target

# The place of a value: an axis key, the step on it, and the value's key. A value that is not TrackKit's, or lacks its
# axis, has its row's time as its place.
Cell = tuple[str, float, str]
TIME = "_timestamp"
_AXIS_OF = {"batch": "batch/step", "device": "batch/step", "ranks": "batch/step", "epoch": "epoch/step"}


def cells(row: Row) -> list[tuple[Cell, Any]]:
    """Returns the cell of each value in a row, and the value."""
    values, moment, found = row.values, round(row.time, 5), []
    for key, value in values.items():
        axis = _axis(key)
        if axis is not None:
            found.append(((axis, values[axis], key) if axis in values else (TIME, moment, key), value))
    return found


@cache
def _axis(key: str) -> str | None:
    """Returns a key's axis: "" for a key that is not ours, None for an axis and W&B's own keys."""
    return None if key in AXES or key[:1] == "_" else _AXIS_OF.get(key.partition("/")[0], "")


def by_cell(rows: Sequence[Row]) -> dict[Cell, list[Any]]:
    """Returns the values at each cell."""
    found: dict[Cell, list[Any]] = defaultdict(list)
    for row in rows:
        for cell, value in cells(row):
            found[cell].append(value)
    return found


def is_ours(key: str) -> bool:
    """Returns whether a key is one that TrackKit writes to history."""
    return key.partition("/")[0] in _AXIS_OF


@dataclass(frozen=True)
class Source:
    """A run as recorded here.

    Attributes:
        target: the run.
        local: its local log; None without one.
        files: its W&B files, in the order of the training.
        is_followed: whether it is still being written.
    """

    target: Target
    local: RecordedRun | None
    files: Sequence[RunFile]
    is_followed: bool = False

    @cached_property
    def expected(self) -> list[Row]:
        """The rows that a report counts: the local log's (the first attempt's of a repeated step), else the files'."""
        if self.local is not None:
            return [row for row in counted(self.local.rows, "first") if row.values.keys() - AXES]
        return [row for file in self.files for row in file.rows if cells(row)]

    @cached_property
    def wanted(self) -> dict[Cell, list[Any]]:
        """The values that the server must have at each cell: the local log's, and those that only the files have."""
        found = by_cell(self.expected)
        if self.local is not None:
            recorded = by_cell([row for file in self.files for row in file.rows])
            found.update({cell: values for cell, values in recorded.items() if cell not in found})
        return found

    @cached_property
    def rows(self) -> list[Row]:
        """All rows, of the files and the local log, in the order of the training; a file's before its twin."""
        ours = self.expected if self.local is not None else []
        spots, rank, ranked = _spots(ours), -1, []
        for file in self.files:
            rank = next((spot for spot in map(spots, file.rows) if spot >= 0), rank)
            for row in file.rows:
                rank = max(rank, spots(row))
                ranked.append((rank, row))
        return [row for _, row in sorted([*ranked, *enumerate(ours)], key=lambda pair: pair[0])]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary: the files' columns, then the last value of each epoch metric, then the local log's columns."""
        summary: dict[str, Any] = {}
        for file in self.files:
            summary.update(file.summary)
        if self.local is None:
            return redacted(summary)
        epochs = sorted((row for row in self.expected if row.tier == "epoch"), key=lambda row: row.step)
        last = {key: value for row in epochs for key, value in row.values.items() if key.startswith("epoch/")}
        # The user may have asked W&B for a maximum or a mean: a column of columns.
        summary.update({key: value for key, value in last.items() if not isinstance(summary.get(key), Mapping)})
        if not self.is_followed:
            # A process that was killed has left no status.
            summary["final/status"] = self.local.run["status"].replace("running", "failed")
        return redacted({"_wandb": {"runtime": int(self.newest - self.started)}, **summary, **self.local.summary})

    @cached_property
    def console(self) -> list[tuple[int, str]]:
        """The console's lines: those in the files, and those that a killed process could not pass to W&B."""
        lines = [line for file in self.files for line in file.console]
        captured = any(stream != LOGGER for stream, _ in lines)
        folder = self.local.folder if self.local is not None else None
        if captured or folder is None or self.is_followed:
            # W&B's own capture has the same text in other lines; a file that grows will have the rest.
            return lines
        ours = [(LOGGER, text) for text in to_texts(masked(read_console(folder / console_name())))]
        there = Counter(lines)
        missing = [line for line in ours if there[line] <= 0 or there.subtract([line])]
        return ours if len(ours) - len(missing) == len(lines) else lines + missing

    @cached_property
    def config(self) -> dict[str, Any]:
        """The config: the files' columns, then the local log's."""
        config = {key: value for file in self.files for key, value in file.config.items()}
        return redacted({**config, **(self.local.config if self.local is not None else {})})

    @cached_property
    def newest(self) -> float:
        """Unix time in seconds of the newest row; 0.0 without rows."""
        return max((row.time for row in self.rows), default=0.0)

    @cached_property
    def started(self) -> float:
        """Unix time in seconds at which the run started."""
        times = [file.run.start_time.ToNanoseconds() / 1e9 for file in self.files if file.run is not None]
        times += [row.time for row in self.rows[:1]]
        if self.local is not None and "started" in self.local.run:
            times.append(float(self.local.run["started"]))
        return min(times, default=0.0)

    @property
    def epoch_axis(self) -> str:
        """The axis of `epoch/*` that the run was set up with: `step` or `epoch`."""
        return str(self.config.get("trackkit/settings/epoch_axis", "step"))

    @property
    def exit_code(self) -> int:
        """How the run ended; 1 if its process was killed."""
        if self.local is not None:
            return int(self.local.run.get("exit_code", self.local.run["status"] != "finished"))
        code = self.files[-1].exit_code if self.files else None
        return 1 if code is None else code

    @property
    def is_preempted(self) -> bool:
        """Whether its last process was ended to be requeued."""
        if self.local is not None:
            return bool(self.local.run.get("preempting"))
        return any(kind == "preempting" for file in self.files[-1:] for kind, _ in file.others)


def gather(target: Target, followed: Sequence[RunFileReader] = ()) -> Source:
    """Reads all of a run.

    Args:
        target: the run.
        followed: readers of the W&B files of a run that is still being written, to read on with later.
    """
    local = read_folder(target.folder) if target.folder is not None else None
    if local is not None:
        rows, gaps = list(map(_clean, local.rows)), local.gaps
        local = replace(local, load=lambda: (rows, gaps))
    files = [reader.read(final=reader is not followed[-1]) for reader in followed] or list(
        map(read_run_file, target.files)
    )
    if local is not None and len(files) > 1:
        # A clock that was set back puts files out of order; the local log knows better.
        spots = _spots(local.rows)
        files.sort(key=lambda file: next((spot for spot in map(spots, file.rows) if spot >= 0), -1))
    for file in files:
        file.rows[:] = map(_clean, file.rows)
    return Source(target, local, files, bool(followed))


def _clean(row: Row) -> Row:
    """Returns a row with secrets masked, since what is compared with the server must be what is sent."""
    return replace(row, values=redacted(row.values)) if not all(map(_is_number, row.values.values())) else row


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _spots(rows: Sequence[Row]) -> Callable[[Row], int]:
    """Returns what gives the position of a file's row among the local log's, by time or step, or -1."""
    place: dict[Any, int] = {}
    for number, row in enumerate(rows):
        place.setdefault((row.tier, row.step), number)
        place[round(row.time, 5)] = number

    def spot(row: Row) -> int:
        steps = ((tier, row.values.get(f"{tier}/step")) for tier in ("batch", "epoch"))
        return next((place[key] for key in (round(row.time, 5), *steps) if key in place), -1)

    return spot
