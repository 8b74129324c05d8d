"""A sink that keeps rows in memory, for tests: `TrackKit(sinks=[MemorySink()])`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trackkit.engine.records import Checkpoint, Line, Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink


class MemorySink(Sink):
    """Keeps a run in memory.

    Attributes:
        info: the run; None before it starts.
        rows: all rows, in order.
        settings: the run config.
        columns: the summary.
        lines: what the program printed.
        media: step and values of each call of `trackkit.log` with pictures, tables and the like.
        checkpoints: that the framework saved, in order.
        exit_code: of the run; None until it is closed.
    """

    def __init__(self) -> None:
        self.info: RunInfo | None = None
        self.rows: list[Row] = []
        self.settings: dict[str, Any] = {}
        self.columns: dict[str, Any] = {}
        self.lines: list[Line] = []
        self.media: list[tuple[int, dict[str, Any]]] = []
        self.checkpoints: list[Checkpoint] = []
        self.exit_code: int | None = None

    def open(self, info: RunInfo) -> None:
        self.info = info
        self.settings.update(info.config)

    def write(self, row: Row) -> None:
        self.rows.append(row)

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        self.media.append((step, dict(values)))

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def config(self, values: Mapping[str, Any]) -> None:
        self.settings.update(values)

    def summary(self, values: Mapping[str, Any]) -> None:
        self.columns.update(values)

    def console(self, lines: Sequence[Line]) -> None:
        self.lines += lines

    def close(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def history(self, key: str) -> list[tuple[int, float | int]]:
        """Returns (step, value) of every row that has `key`."""
        return [(row.step, row.values[key]) for row in self.rows if key in row.values]
