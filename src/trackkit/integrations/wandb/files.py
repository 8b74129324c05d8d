"""Reads W&B's transaction logs, `run-<id>.wandb`: protobuf records in LevelDB's log blocks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from trackkit.engine.records import Row
from trackkit.integrations.wandb.blocks import Reader
from trackkit.local_log.places import wandb_files
from trackkit.local_log.regular import regular

# The run record is the second one of a file.
_HEAD_BYTES = 1 << 18
# The stream of a line given to `run.write_logs`; W&B's own capture has numbers from 0 on.
LOGGER = -1
_AXES = ("batch/step", "epoch/step", "_step")


@dataclass
class RunFile:
    """What a transaction log holds.

    Attributes:
        folder: where the run's media and saved files are.
        run: the run record (W&B's protobuf message); None if the file lacks it.
        rows: history, in the order written; `step` is W&B's, values may be nested dictionaries.
        config: key to value, nested keys as dictionaries.
        definitions: metric, or glob, to its serialized record.
        artifacts: digest to name and serialized record, of each artifact that the run logged.
        console: stream and text of each line; the stream is LOGGER for lines that a program gave to W&B.
        stats: Unix time in seconds and serialized record of each reading of the system.
        others: kind and serialized record of everything else that an upload needs.
        exit_code: None if the file lacks the run's end.
        whole: whether every byte belongs to a whole record.
    """

    folder: Path = Path()
    run: Any = None
    rows: list[Row] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, bytes] = field(default_factory=dict)
    artifacts: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    console: list[tuple[int, str]] = field(default_factory=list)
    stats: list[tuple[float, bytes]] = field(default_factory=list)
    others: list[tuple[str, bytes]] = field(default_factory=list)
    exit_code: int | None = None
    whole: bool = True
    _columns: dict[tuple[str, ...], Any] = field(default_factory=dict)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary's columns, nested keys as dictionaries."""
        return _merge({}, list(self._columns.values()))

    def add(self, data: bytes, unfinished: dict[int, str]) -> None:
        """Adds a serialized record.

        Args:
            data: the record.
            unfinished: stream to the start of a line whose end is in a later record; kept up to date.
        """
        record = parse(data)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            self.rows.append(to_row(unpack(record.history.item, record.history.step.num), len(self.rows)))
        elif kind == "summary":
            # The last value of each key is decoded at the end: W&B writes each column at every row.
            for item in record.summary.update:
                name = tuple(item.nested_key) or (item.key,)
                self._columns.pop(name, None)
                self._columns[name] = item
            for item in record.summary.remove:
                self._columns.pop(tuple(item.nested_key) or (item.key,), None)
        elif kind == "config":
            _merge(self.config, record.config.update)
        elif kind == "metric":
            self.definitions[record.metric.name or record.metric.glob_name] = data
        elif kind == "artifact":
            self.artifacts[record.artifact.digest] = (record.artifact.name, data)
        elif kind == "output_raw":
            stream = record.output_raw.output_type
            *lines, unfinished[stream] = (unfinished.get(stream, "") + record.output_raw.line).split("\n")
            self.console += [(stream, line) for line in lines]
        elif kind == "output_logger":
            self.console += [(LOGGER, line) for line in _logger_lines(record)]
        elif kind == "stats":
            self.stats.append((record.stats.timestamp.ToNanoseconds() / 1e9, data))
        elif kind == "exit":
            self.exit_code = record.exit.exit_code
        elif kind == "run":
            self.run = record.run
            _merge(self.config, record.run.config.update)
        elif kind not in (None, "header", "footer", "final", "request"):
            self.others.append((kind, data))


class RunFileReader:
    """Reads a transaction log that may still grow.

    Args:
        path: of the file.

    Attributes:
        has_ended: whether the run's end was read.
    """

    def __init__(self, path: Path) -> None:
        self.has_ended = False
        self._folder = path.parent / "files"
        self._reader = Reader(path)
        self._unfinished: dict[int, str] = {}

    def read(self, final: bool = True) -> RunFile:
        """Returns what was not read before.

        Args:
            final: whether the file no longer grows; see `Reader.new`.
        """
        file = RunFile(self._folder)
        for data in self._reader.new(final):
            file.add(data, self._unfinished)
        self.has_ended |= file.exit_code is not None
        if final:
            file.console += [(stream, text) for stream, text in self._unfinished.items() if text]
            file.whole = not self._reader.damaged and not self._reader.rest
        return file


def read_run_file(path: Path) -> RunFile:
    """Reads a whole transaction log."""
    return RunFileReader(path).read()


def find_files(root: Path, run_id: str) -> list[Path]:
    """Returns a run's transaction logs below its output folder, in order of start.

    Args:
        root: the output folder.
        run_id: of the run.
    """
    found = wandb_files(root, run_id)
    return sorted(found, key=_began) if len(found) > 1 else found


def _began(path: Path) -> tuple[float, str]:
    """Returns when a file was started. Its folder's name is in local time, which may be another zone's."""
    name = path.parent.name.removeprefix("offline-")
    run = read_run_record(path)
    if run is not None:
        return run.start_time.ToNanoseconds() / 1e9, name
    try:
        return time.mktime(time.strptime(name[4:19], "%Y%m%d_%H%M%S")), name
    except ValueError:
        return path.stat().st_mtime, name


def read_run_record(path: Path) -> Any:
    """Returns a file's run record (W&B's protobuf message), read from its beginning; None if that lacks it."""
    records = map(parse, Reader(path, _HEAD_BYTES).new())
    return next((record.run for record in records if record.WhichOneof("record_type") == "run"), None)


def parse(data: bytes) -> Any:
    """Returns a serialized record as W&B's protobuf message, whose package carries no types."""
    record = _record_type()()
    record.ParseFromString(data)
    return record


def make(**fields: Any) -> bytes:
    """Returns a serialized record with the given fields; dictionaries stand for messages within it."""
    return bytes(_record_type()(**fields).SerializeToString())


@cache
def _record_type() -> Any:
    from wandb.proto import wandb_internal_pb2

    return wandb_internal_pb2.Record  # type: ignore[attr-defined]


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the history rows of a file, oldest first, each with its `_step`; NaN and infinities as floats."""
    for record in map(parse, Reader(path).new()):
        if record.WhichOneof("record_type") == "history":
            yield unpack(record.history.item, record.history.step.num)


def read_logger_lines(path: Path) -> list[str]:
    """Returns the lines of a file that a program gave to `run.write_logs`."""
    records = map(parse, Reader(path).new())
    return [
        line for each in records if each.WhichOneof("record_type") == "output_logger" for line in _logger_lines(each)
    ]


def _logger_lines(record: Any) -> list[str]:
    return str(record.output_logger.line).removesuffix("\n").split("\n")


def last_steps(path: Path) -> dict[str, float | int]:
    """Returns for each axis key (`batch/step`, `epoch/step`, `_step`) the highest value in a file's history."""
    found: dict[str, float | int] = {}
    for row in read_history(path):
        found.update({axis: max(row[axis], found.get(axis, row[axis])) for axis in _AXES if axis in row})
    return found


def is_intact(artifact: Any, folder: Path) -> bool:
    """Returns whether an artifact's files are those that its manifest names, by size and MD5.

    Whoever wrote the manifest knew their content: no other file can be sent in their place.

    Args:
        artifact: its record (W&B's protobuf message).
        folder: that relative paths start in.
    """
    manifest = artifact.manifest
    try:
        entries = [(each.local_path, each.size, each.digest) for each in manifest.contents]
        if manifest.manifest_file_path:
            with gzip.open(regular(Path(manifest.manifest_file_path))) as file:
                entries = [(each.get("local_path"), each.get("size"), each["digest"]) for each in map(json.loads, file)]
        return all(_is_named(folder / path, size, digest) for path, size, digest in entries if path)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _is_named(path: Path, size: int, digest: str) -> bool:
    found = hashlib.md5(usedforsecurity=False)
    with regular(path, Path("/")).open("rb") as file:
        while os.fstat(file.fileno()).st_size == size and (data := file.read(1 << 20)):
            found.update(data)
    return base64.b64encode(found.digest()).decode() == digest


def unpack(items: Any, step: int) -> dict[str, Any]:
    """Returns the items of a history record as a row with its `_step`."""
    return _merge({"_step": step}, items)


def to_row(values: dict[str, Any], number: int) -> Row:
    """Returns a W&B row, of a file or a server, as a `Row` whose step is W&B's; its `_runtime` stays a value.

    Args:
        values: the row, `_step` and `_timestamp` included; both are removed.
        number: position among the rows.
    """
    step, when = int(values.pop("_step")), float(values.pop("_timestamp", None) or 0.0)
    return Row(number, "epoch" if "epoch/step" in values else "batch", step, when, values)


def _merge(values: dict[str, Any], items: Any) -> dict[str, Any]:
    """Adds the values of a record's items, those of nested keys to inner dictionaries; returns `values`."""
    # One call of the parser for all: a history has hundreds of thousands of items.
    found = json.loads(f"[{','.join([item.value_json for item in items])}]")
    for item, value in zip(items, found, strict=True):
        names = item.nested_key
        if len(names) < 2:
            values[item.key or names[0]] = value
            continue
        branch = values
        for name in names[:-1]:
            if not isinstance(branch.get(name), dict):
                branch[name] = {}
            branch = branch[name]
        branch[names[-1]] = value
    return values
