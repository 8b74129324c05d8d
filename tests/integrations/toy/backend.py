"""A toy backend: a CSV file in the run's folder."""

from __future__ import annotations

from typing import Any

from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink


class CsvSink(Sink):
    def __init__(self, config: Any, nested: bool) -> None:
        self._file: Any = None

    def open(self, info: RunInfo) -> None:
        self._file = (info.folder / "losses.csv").open("w")

    def write(self, row: Row) -> None:
        self._file.write(f"{row.step},{row.values['batch/loss']}\n")

    def close(self, exit_code: int) -> None:
        self._file.close()
