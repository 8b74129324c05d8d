"""Writes the local log: append-only JSON lines in the run's own folder, always on and before other sinks.

| file | what |
|---|---|
| `run.json` | format, id, name, framework, start, end, status, exit code |
| `config.json` | the flat run config |
| `rows.jsonl` | one JSON object per row, flushed as it is written: `_row`, `_time`, `_pass`, then the row's keys |
| `summary.json` | the `final/*` columns |
| `.lock` | locked by the process that writes the run |

`_row` is the position in the file, `_time` the Unix time in seconds, `_pass` the attempt, written from the second on.

NaN and infinities are the strings "NaN", "Infinity" and "-Infinity", so that every line is strict JSON.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from trackkit.engine.processes import process_fields
from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink
from trackkit.local_log.owner import claim, release
from trackkit.local_log.reader import FORMAT, read_json

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class LocalSink(Sink):
    """Writes one run's folder.

    Attributes:
        folder: the run folder; None before `open`.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._rows: IO[str] | None = None
        self._run: dict[str, Any] = {}
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._attempt: dict[str, int] = {}
        self._offset = 0

    def open(self, info: RunInfo) -> None:
        self._open_in(info.folder)
        self._run = {
            "format": FORMAT,
            "run_id": info.run_id,
            "name": info.name,
            "framework": info.start.framework,
            "world_size": info.world_size,
            "started": info.started,
            "status": "running",
            **process_fields(),
        }
        if info.earlier is not None and info.earlier.attempts:
            self._run["passes"] = number = info.earlier.attempts + 1
            self._attempt = {"_pass": number}
            self._offset = len(info.earlier.rows)
        self._write_json("run.json", self._run)
        self.config(info.config)

    def write(self, row: Row) -> None:
        assert self._rows is not None
        line = {"_row": self._offset + row.number, "_time": round(row.time, 6), **self._attempt, **row.values}
        try:
            text = _encode(line)
        except ValueError:
            text = _encode(_strict(line))
        self._rows.write(text + "\n")
        self._rows.flush()

    def config(self, values: Mapping[str, Any]) -> None:
        self._config.update(values)
        self._write_json("config.json", self._config)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._summary.update(values)
        self._write_json("summary.json", self._summary)
        self._run["status"] = self._summary.get("final/status", "running")
        self._write_json("run.json", self._run)

    def preempting(self) -> None:
        self._run["preempting"] = True
        self._write_json("run.json", self._run)

    def close(self, exit_code: int) -> None:
        if self._rows is None or self.folder is None:
            return
        self._rows.close()
        self._run.update(exit_code=exit_code, ended=time.time())
        try:
            self._write_json("run.json", self._run)
        finally:
            release(self.folder)

    def _open_in(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder)
        path = folder / "rows.jsonl"
        # The first row must not join a line that a crash cut short.
        cut = path.exists() and path.stat().st_size > 0 and not _ends_with_newline(path)
        self._rows = path.open("a", encoding="utf-8")
        # A resumed run keeps its columns.
        self._summary = read_json(folder / "summary.json")
        if cut:
            self._rows.write("\n")
        self.folder = folder

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Replaces a file atomically: readers see the old one or the new one, also after a crash."""
        assert self.folder is not None
        text = json.dumps(_strict(values), indent=1, default=str, allow_nan=False)
        spare = self.folder / f".{name}.{os.getpid()}"
        spare.write_text(text + "\n", encoding="utf-8")
        os.replace(spare, self.folder / name)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, (list, tuple)) else value


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
