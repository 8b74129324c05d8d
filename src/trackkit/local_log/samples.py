"""The samples in a run's folder: `samples.jsonl`, a table of text and numbers on each line."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from logging import WARNING
from pathlib import Path
from typing import Any, NamedTuple

from trackkit.engine.attempts import counted
from trackkit.engine.records import Row
from trackkit.engine.tables import table_of
from trackkit.local_log.line_file import LineFile
from trackkit.local_log.regular import parse_json, regular
from trackkit.local_log.strict import NOT_FINITE, strict
from trackkit.notices import say_once
from trackkit.redaction.patterns import clip, mask

NAME = "samples.jsonl"
# Of a cell, in characters; of a table and of the file, in bytes.
MAX_CELL, MAX_TABLE, MAX_FILE = 8000, 1 << 24, 1 << 28

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Sample(NamedTuple):
    """A table of samples.

    Attributes:
        key: `samples/<name>`.
        step: optimizer steps taken.
        time: Unix time in seconds at which it was recorded.
        columns: their names.
        rows: the cells of each row: texts, numbers, None, lists and dictionaries of those.
        attempt: which process of the run recorded it, from 1.
    """

    key: str
    step: int
    time: float
    columns: list[str]
    rows: list[list[Any]]
    attempt: int = 1


class SamplesFile(LineFile):
    """Appends the tables and texts among what is logged as samples; pictures and the like are not in it."""

    def write(self, values: Mapping[str, Any], step: int, attempt: int = 1) -> None:
        """Appends tables, with long cells cut, secrets masked and what is no text or number replaced by its type.

        Args:
            values: keys to samples.
            step: optimizer steps taken.
            attempt: which process of the run records them, from 1.

        Raises:
            OSError: they could not be written, or not all of them.
        """
        for key, value in values.items():
            if (table := table_of(value)) is None:
                continue
            names = [mask(name) for name in table.columns]
            rows = [[_cell(cell) for cell in row] for row in table.rows]
            place = {"key": key, "step": step, "_time": round(time.time(), 6), "_pass": attempt}
            line = _encode({**place, "columns": names, "rows": rows})
            if len(line) <= MAX_TABLE and self.size + len(line) <= MAX_FILE:
                self.append([line])
            else:
                say_once(f"'{key}' is too large for '{NAME}' in the run's folder, which lacks it.", level=WARNING)


def read_samples(folder: Path) -> list[Sample]:
    """Returns the samples in a run folder, in the order written; skips damaged ones.

    Of a step that a resumed training repeats, the later attempt's count.
    """
    try:
        with regular(folder / NAME).open("rb") as file:
            lines = file.read(2 * MAX_FILE).split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
            found.append(_sample(parse_json(line)))
    rows = [Row(0, "batch", each.step, each.time, {each.key: each}, attempt=each.attempt) for each in found]
    return [sample for row in counted(rows, "later") for sample in row.values.values()]


def _sample(line: Any) -> Sample:
    columns, rows = [str(name) for name in line["columns"]], [list(row) for row in line["rows"]]
    if any(len(row) != len(columns) for row in rows):
        raise ValueError("a row has another length than the header")
    for place in range(len(columns)):
        cells = [row[place] for row in rows]
        if any(isinstance(cell, (int, float)) for cell in cells):
            # Words for NaN and infinities among numbers; in a column of texts they are what they say.
            for row in rows:
                row[place] = NOT_FINITE.get(row[place], row[place]) if isinstance(row[place], str) else row[place]
    attempt = int(line.get("_pass", 1))
    return Sample(str(line["key"]), int(line["step"]), float(line["_time"]), columns, rows, attempt)


def _cell(value: Any, depth: int = 0) -> Any:
    """Returns a cell as JSON can hold it."""
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode()
        kept = clip(text, MAX_CELL)
        return mask(text if kept == text else f"{kept} [{len(text) - len(kept)} characters left out]")
    if value is None or isinstance(value, (int, float)):
        return strict(value)
    if getattr(value, "ndim", 2) < 2 and callable(tolist := getattr(value, "tolist", None)):
        return _cell(tolist(), depth + 1)
    if isinstance(value, Mapping) and depth < 5:
        return {mask(str(name)): _cell(each, depth + 1) for name, each in value.items()}
    if isinstance(value, Sequence) and depth < 5:
        return [_cell(each, depth + 1) for each in value]
    return type(value).__name__
