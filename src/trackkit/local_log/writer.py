"""Writes the local log: append-only JSON lines in the run's own folder, always on and before other sinks.

| file | what |
|---|---|
| `run.json` | format, id, name, framework, start, end, status, exit code |
| `config.json` | the flat run config |
| `rows.jsonl` | one JSON object per row, flushed as it is written: `_row`, `_time`, `_pass`, then the row's keys |
| `samples.jsonl` | tables and texts of `samples/*`, one a line: `key`, `step`, `_time`, `_pass`, `columns`, `rows` |
| `summary.json` | the `final/*` columns |
| `.lock` | locked by the process that writes the run |

`_row` counts the rows, `_time` is the Unix time in seconds, `_pass` the attempt: in rows, from the second on.

A line `{"_gap": {"rows": 3, "first": 61, "last": 63}}` stands for rows of these steps that could not be written.
While that line can't be written itself, `run.json` has it as `gap`.

NaN and infinities are the strings "NaN", "Infinity" and "-Infinity", so that every line is strict JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackkit.engine.processes import process_fields
from trackkit.engine.records import Gap, Row
from trackkit.engine.run_info import RunInfo
from trackkit.engine.sink import Sink
from trackkit.local_log.console import output_files
from trackkit.local_log.owner import claim, release
from trackkit.local_log.private import make_folder, opener
from trackkit.local_log.reader import FORMAT, read_gap, read_json
from trackkit.local_log.row_file import RowFile
from trackkit.local_log.samples import NAME as SAMPLES
from trackkit.local_log.samples import SamplesFile
from trackkit.local_log.strict import strict
from trackkit.notices import logger

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class LocalSink(Sink):
    """Writes one run's folder.

    If the program moves the folder, recording continues in the moved one. If it deletes the folder, a new one is made,
    with a gap for the lost rows.

    Attributes:
        folder: the run folder; None before `open`.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._claimed: Path
        self._rows: RowFile | None = None
        self._run: dict[str, Any] = {}
        self._config: dict[str, Any] = {}
        self._summary: dict[str, Any] = {}
        self._attempt: dict[str, int] = {}
        self._offset = 0
        self._written: Gap | None = None
        self._lost: Gap | None = None

    def open(self, info: RunInfo) -> None:
        folder = self._claimed = info.folder
        make_folder(folder)
        claim(folder)
        if self._rows is None:
            self._rows = RowFile(folder / "rows.jsonl")
        self.folder = folder
        # A resumed run keeps its columns, the notes added since, and the gap that could not be written.
        self._summary, found = read_json(folder / "summary.json"), read_json(folder / "run.json")
        gap = read_gap(found.get("gap"))
        self._run = {
            "format": FORMAT,
            "run_id": info.run_id,
            "name": info.name,
            "framework": info.start.framework,
            "world_size": info.world_size,
            "started": info.started,
            "status": "running",
            **process_fields(),
            **output_files(),
            **({"notes": found["notes"]} if "notes" in found else {}),
        }
        earlier, self._written = info.earlier, None
        if earlier is not None and earlier.attempts:
            self._run["passes"] = number = earlier.attempts + 1
            self._attempt = {"_pass": number}
            # Rows that are lost had numbers too.
            self._offset = max((row.number for row in earlier.rows), default=-1) + 1
            for row in earlier.rows:
                self._count(Gap(1, row.step, row.step))
        if gap is not None:
            self._run["gap"] = gap._asdict()
        self._write_json("run.json", self._run)
        if gap is not None:
            self.gap(gap)
        self.config(info.config)

    def write(self, row: Row) -> None:
        line = {"_row": self._offset + row.number, "_time": round(row.time, 6), **self._attempt, **row.values}
        try:
            text = _encode(line)
        except ValueError:
            text = _encode(strict(line))
        gap = Gap(1, row.step, row.step)
        self._append(text, gap)
        self._count(gap)

    def gap(self, gap: Gap) -> None:
        self._append(_encode({"_gap": gap._asdict()}), gap)

    def samples(self, values: Mapping[str, Any], step: int) -> None:
        self._find_folder()
        assert self.folder is not None
        SamplesFile(self.folder / SAMPLES).write(values, step, self._attempt.get("_pass", 1))

    def config(self, values: Mapping[str, Any]) -> None:
        self._config.update(values)
        self._write_json("config.json", self._config)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._summary.update(values)
        self._run["status"] = self._summary.get("final/status", "running")
        # Both files have the status; on a full disk there may be space for `run.json` only.
        try:
            self._write_json("summary.json", self._summary)
        finally:
            self._write_json("run.json", self._run)

    def preempting(self) -> None:
        self._run["preempting"] = True
        self._write_json("run.json", self._run)

    def close(self, exit_code: int) -> None:
        if self._rows is None:
            return
        self._run.update(exit_code=exit_code, ended=time.time())
        try:
            self._write_json("run.json", self._run)
        finally:
            self._rows.close()
            release(self._claimed)

    def _append(self, line: str, gap: Gap) -> None:
        """Appends a line to the rows; if that fails, `run.json` has a gap for it meanwhile."""
        assert self._rows is not None
        assert self.folder is not None
        try:
            self._find_folder()
            if self._lost is not None:
                self._rows.append(_encode({"_gap": self._lost._asdict()}))
                self._lost = None
            self._rows.append(line)
        except OSError:
            marked = gap._asdict() if self._lost is None else self._lost.joined(gap)._asdict()
            if self._run.get("gap") != marked:
                self._run["gap"] = marked
                with contextlib.suppress(OSError):
                    replace_json(self.folder / "run.json", self._run)
            raise
        if self._run.pop("gap", None) is not None:
            with contextlib.suppress(OSError):
                replace_json(self.folder / "run.json", self._run)

    def _count(self, gap: Gap) -> None:
        """Adds a row that was written to what is lost if the file is deleted."""
        self._written = gap if self._written is None else self._written.joined(gap)

    def _find_folder(self) -> None:
        """Follows the run folder if it was moved, and makes it again if it was deleted."""
        assert self._rows is not None
        assert self.folder is not None
        if not self._rows.find():
            logger.warning("The rows in '%s' were deleted or replaced. Later rows are recorded there.", self.folder)
            if self._written is not None:
                self._lost, self._written = self._written, None
                self._run["gap"] = self._lost._asdict()
            make_folder(self.folder)
            self._rows.restart()
            for name, values in (("config", self._config), ("summary", self._summary), ("run", self._run)):
                replace_json(self.folder / f"{name}.json", values)
        elif self._rows.folder != self.folder:
            self.folder = self._rows.folder
            logger.warning("The run folder was moved. Recording continues in '%s'.", self.folder)

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        self._find_folder()
        assert self.folder is not None
        replace_json(self.folder / name, values)


def replace_json(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces a file atomically: readers see the old one or the new one, also after a crash.

    Raises:
        OSError: the file could not be written.
    """
    data = (json.dumps(strict(values), indent=1, default=str, allow_nan=False) + "\n").encode()
    spare = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(spare, "wb", opener=opener) as file:
            file.write(data)
        if path.exists():
            # The user may have opened it to a group.
            spare.chmod(path.stat().st_mode & 0o777)
        os.replace(spare, path)
    except OSError:
        with contextlib.suppress(OSError):
            spare.unlink()
        _overwrite(path, data)


def _overwrite(path: Path, data: bytes) -> None:
    """Writes over an existing file: this works without inodes, and on a full disk if the text fits.

    Raises:
        OSError: there is no such file, or no space for the text; the file is then as it was.
    """
    with path.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if len(data) > size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, len(data))
        # JSON may end with spaces, so the rest of a longer file is filled with them.
        file.write(data.ljust(size))
