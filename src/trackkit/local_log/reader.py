"""Reads the local log: one reader for users, resume and sync, with one rule for damaged lines."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from trackkit.engine.processes import process_life
from trackkit.engine.records import Gap, Row
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError, parse_json, regular
from trackkit.local_log.strict import NOT_FINITE
from trackkit.schema.keys import AXES, Tier

T = TypeVar("T")

# Of a run folder that this version writes, and the newest that it reads: `format` in `run.json`, absent before 1.
FORMAT = 1
FILES = ("run.json", "config.json", "summary.json", "rows.jsonl")

_COUNTS = AXES | {"batch/samples", "batch/tokens"}
# What others rely on in `run.json`; what is of another type is skipped as damaged.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("run_id", "name", "status", "host", "boot_id"), str),
    **dict.fromkeys(("pid", "passes", "exit_code", "world_size"), int),
    **dict.fromkeys(("started", "ended", "process_began"), (int, float)),
}
# W&B's limits; an id is part of paths.
_RUN_ID = re.compile(r"(?!\.{1,2}$)[^/\\#?%:\x00-\x1f\x7f]{1,128}")
# Larger numbers fit neither a float nor W&B's records.
_MOST = 2**53
# A longer line is damage: W&B takes no row of 10 MB.
_LONGEST = 1 << 24
# Lines parsed at once: few calls of the parser, and memory within a few times that of the rows.
_LINES = 20_000
# Of the file's end, where the last rows are.
_TAIL = 1 << 16


def read_folder(folder: Path) -> RecordedRun:
    """Reads a run folder, skipping damaged lines and files; its rows only when they are asked for.

    Raises:
        ReadError: a newer version wrote it, in a format that this one does not know, or a file is an unsafe one.
    """
    for name in FILES:
        regular(folder / name)
    run = read_fields(folder)
    written = run.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise ReadError(
            f"the run in '{folder}' has format {written!r}, and this version of trackkit knows formats up to {FORMAT}. "
            "Run 'pip install -U trackkit'."
        )
    summary, config = read_json(folder / "summary.json"), read_json(folder / "config.json")
    if "status" not in run:
        # A power failure may leave the file empty: the summary has the status of a training that ended.
        ended = str(summary.get("final/status", "running"))
        run = {"run_id": folder.name, **run, "status": "failed" if ended == "running" else ended}
    if run["status"] == "running" and process_life(run) == "gone":
        run["status"] = "preempted" if run.get("preempting") else "failed"
    unwritten = read_gap(run.get("gap"))

    def load() -> tuple[list[Row], list[Gap]]:
        rows, gaps = _read_rows(folder / "rows.jsonl", config.get("trackkit/renames", {}))
        return rows, [*gaps, unwritten] if unwritten is not None else gaps

    return RecordedRun(config, summary, run, folder, load)


def read_fields(folder: Path) -> dict[str, Any]:
    """Returns what a folder's `run.json` says, without fields of a wrong type; empty if it is missing or damaged."""
    run = read_json(folder / "run.json")
    return {name: value for name, value in run.items() if name not in _FIELDS or _fits(name, value)}


def _fits(name: str, value: Any) -> bool:
    if not isinstance(value, _FIELDS[name]):
        return False
    if isinstance(value, str):
        return name != "run_id" or _RUN_ID.fullmatch(value) is not None
    return isinstance(value, (int, float)) and abs(value) < _MOST


def last_rows(folder: Path, most: int = 5) -> list[str]:
    """Returns the last lines of the run's `rows.jsonl`."""
    try:
        with open(regular(folder / "rows.jsonl"), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return tail.splitlines()[-most:]


def last_step(folder: Path) -> int | None:
    """Returns the step of the last row; None without rows."""
    return _of_last_row(folder, lambda row: int(row["batch/step"] if "batch/step" in row else row["epoch/step"]))


def last_time(folder: Path) -> float | None:
    """Returns the time of the last row, Unix time in seconds; None without rows."""
    return _of_last_row(folder, lambda row: float(row["_time"]))


def _of_last_row(folder: Path, value: Callable[[dict[str, Any]], T]) -> T | None:
    """Returns a value of the last row that has it."""
    for line in reversed(last_rows(folder)):
        with suppress(ValueError, KeyError, TypeError, OverflowError):
            return value(parse_json(line))
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Returns a file's mapping; empty if the file is missing or damaged."""
    try:
        found = parse_json(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_gap(found: Any) -> Gap | None:
    """Returns the gap that was written as a mapping; None if it is none."""
    try:
        return Gap(*(int(found[name]) for name in Gap._fields))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _read_rows(path: Path, renames: Any) -> tuple[list[Row], list[Gap]]:
    """Reads the rows and the gaps of a file; none if it can't be read."""
    try:
        text = regular(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [], []
    return parse_rows(text, renames)


def parse_rows(text: str, renames: Any) -> tuple[list[Row], list[Gap]]:
    """Returns the rows and the gaps in lines of `rows.jsonl`, without those that are damaged or have no axis.

    Args:
        text: the lines.
        renames: `trackkit/renames` of the config.
    """
    for word in NOT_FINITE:
        # Only values follow a colon.
        text = text.replace(f':"{word}"', f":{word}")
    lines = [line for line in text.split("\n") if 0 < len(line) <= _LONGEST]
    origins = _origins(renames)
    rows: list[Row] = []
    gaps: list[Gap] = []
    with _no_garbage_collection():
        _read_lines(lines, origins, rows, gaps)
    return rows, gaps


def _read_lines(lines: Sequence[str], origins: Mapping[str, str], rows: list[Row], gaps: list[Gap]) -> None:
    for start in range(0, len(lines), _LINES):
        for line in _parse(lines[start : start + _LINES]):
            if "_gap" in line:
                gap = read_gap(line["_gap"])
                gaps += [gap] if gap is not None else []
                continue
            with suppress(ValueError, KeyError, TypeError, OverflowError):
                rows.append(_row(line, len(rows), origins))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keeps the collector from looking through all rows again and again: a fifth of the time of a long log."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _row(line: dict[str, Any], position: int, origins: Mapping[str, str]) -> Row:
    number, when, attempt = line.pop("_row", None), line.pop("_time", 0.0), line.pop("_pass", 1)
    tier: Tier = "epoch" if "epoch/step" in line else "batch"
    for key in _COUNTS:
        if key in line and not -_MOST < line[key] < _MOST:
            raise ValueError("a count is not a number")
    named = {key: origins[key] for key in origins.keys() & line.keys()} if origins else {}
    number = position if number is None else int(number)
    if not -_MOST < number < _MOST:
        raise ValueError("the row's number is too large")
    return Row(number, tier, int(line[f"{tier}/step"]), float(when), line, named, int(attempt))


def _origins(renames: Any) -> dict[str, str]:
    """Returns the logged name of each renamed key."""
    if not isinstance(renames, Mapping):
        return {}
    pairs = ((keys if isinstance(keys, list) else [keys], name) for name, keys in renames.items())
    return {str(key): name for keys, name in pairs for key in keys}


def _parse(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Parses the lines in one call, twice as fast as one by one; one by one if any is damaged."""
    try:
        rows = parse_json(f"[{','.join(lines)}]")
        if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return list(rows)
    except ValueError:
        pass
    kept = []
    for line in lines:
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            kept.append(row)
    return kept
