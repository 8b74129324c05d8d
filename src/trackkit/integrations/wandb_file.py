"""Reads and writes W&B's transaction logs, `run-<id>.wandb`: LevelDB log blocks of protobuf records.

A file that a crash cut short, or whose middle is damaged, gives the records that are whole. Layout: 7 bytes of header,
then blocks of 32 KiB; a chunk is crc32 (of type and data), length, type, data; a record is one chunk (type 1) or
several (types 2, 3 ..., 4).
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

BLOCK = 32 * 1024
HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class RunFile:
    """What a transaction log holds.

    Attributes:
        run_id, entity, project, name, group, job_type, tags: of the run; "" where unknown.
        rows: history with its `_step`, oldest first.
        summary, config: key to value; nested keys are joined by `/`.
        axes: metric, or glob, to its x-axis.
        artifacts: collection name and digest of each artifact that the run logged.
        console: lines of console output.
        exit_code: None where the run never ended, or its end is not in the file.
        whole: whether every byte of the file belongs to a whole record.
    """

    run_id: str = ""
    entity: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    console: int = 0
    exit_code: int | None = None
    whole: bool = True

    @property
    def complete(self) -> bool:
        """Whether the run's end is in the file."""
        return self.exit_code is not None


class Reader:
    """Reads a file that may still grow.

    Attributes:
        damaged: whether a chunk that was passed over had a wrong checksum.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = len(HEADER)
        self.damaged = False

    def new(self, final: bool = True) -> Iterator[bytes]:
        """The records that are whole and were not given before.

        Args:
            final: whether the file grows no more: then damage is passed over, up to the next block; else it may be a
                chunk that is being written, and is looked at again next time.
        """
        with self._path.open("rb") as file:
            head = file.read(len(HEADER))
            if head != HEADER:
                self.damaged = not HEADER.startswith(head)
                return
            start = self._at - self._at % BLOCK
            file.seek(start)
            data = file.read()
        at, parts, inside = self._at - start, b"", False
        while (at := _next_header(at)) + _CHUNK.size <= len(data):
            crc, length, kind = _CHUNK.unpack_from(data, at)
            chunk = data[at + _CHUNK.size : at + _CHUNK.size + length]
            good = len(chunk) == length and crc == zlib.crc32(chunk, zlib.crc32(bytes([kind])))
            if not good:
                rest = at - at % BLOCK + BLOCK
                if not final or rest >= len(data):
                    return
                self.damaged, inside, at = True, False, rest
                continue
            at += _CHUNK.size + length
            if kind in (_FULL, _FIRST):
                parts, inside = chunk, True
            else:
                parts += chunk
            if kind in (_FULL, _LAST) and inside:
                self._at, inside = start + at, False
                yield parts

    @property
    def rest(self) -> int:
        """Bytes behind the last whole record."""
        return max(0, self._path.stat().st_size - self._at)


class Writer:
    """Writes records to a new file, each flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._file.write(HEADER)
        self._at = len(HEADER)
        self._file.flush()

    def add(self, record: bytes) -> None:
        """Appends one serialized record."""
        first = True
        while first or record:
            header = _next_header(self._at)
            self._file.write(b"\0" * (header - self._at))
            room = BLOCK - header % BLOCK - _CHUNK.size
            chunk, record = record[:room], record[room:]
            kind = (_MIDDLE if record else _LAST) if not first else (_FIRST if record else _FULL)
            crc = zlib.crc32(chunk, zlib.crc32(bytes([kind])))
            self._file.write(_CHUNK.pack(crc, len(chunk), kind) + chunk)
            self._at, first = header + _CHUNK.size + len(chunk), False
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def find_files(root: Path, run_id: str, kind: str = "*run") -> list[Path]:
    """A run's transaction logs below its output folder, in order of start.

    Args:
        root: the output folder.
        run_id: of the run. W&B puts a number behind it in the folder of a run that it begins again in one second.
        kind: `offline-run`, `run` or both.
    """
    found = root.glob(f"wandb/{kind}-[0-9]*/run-{run_id}.wandb")
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def trim(path: Path) -> None:
    """Cuts off the record that a crash left unfinished: W&B's own sync refuses a file that ends within one."""
    reader = Reader(path)
    records = sum(1 for _ in reader.new())
    if records and not reader.damaged and reader.rest:
        os.truncate(path, path.stat().st_size - reader.rest)


def read_records(path: Path) -> Iterator[Any]:
    """Every whole record of a file, parsed."""
    for data in Reader(path).new():
        yield parse(data)


def parse(data: bytes) -> Any:
    """A serialized record as W&B's protobuf message (its package carries no types)."""
    from wandb.proto import wandb_internal_pb2

    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    record.ParseFromString(data)
    return record


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """The history rows in a file, oldest first, each with its `_step`; NaN and infinities as floats."""
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history":
            yield history_row(record)


def last_steps(path: Path) -> dict[str, float | int]:
    """For each axis key (`batch/step`, `epoch/step`, `_step`) the highest value in a file's history."""
    found: dict[str, float | int] = {}
    for row in read_history(path):
        for axis in ("batch/step", "epoch/step", "_step"):
            if axis in row:
                found[axis] = max(row[axis], found.get(axis, row[axis]))
    return found


def read_run_file(path: Path) -> RunFile:
    """All that a file says of its run."""
    run, reader = RunFile(), Reader(path)
    for data in reader.new():
        _take(run, parse(data))
    run.whole = not reader.damaged and not reader.rest
    return run


def history_row(record: Any) -> dict[str, Any]:
    """A history record as a row."""
    row = _items(record.history.item)
    row.setdefault("_step", record.history.step.num)
    return row


def _take(run: RunFile, record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "history":
        run.rows.append(history_row(record))
    elif kind == "output_raw":
        run.console += record.output_raw.line.count("\n")
    elif kind == "summary":
        run.summary.update(_items(record.summary.update))
    elif kind == "config":
        run.config.update(_items(record.config.update))
    elif kind == "metric":
        run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
    elif kind == "artifact":
        run.artifacts.append((record.artifact.name, record.artifact.digest))
    elif kind == "exit":
        run.exit_code = record.exit.exit_code
    elif kind == "run":
        of = record.run
        run.run_id, run.entity, run.project, run.name = of.run_id, of.entity, of.project, of.display_name
        run.group, run.job_type, run.tags = of.run_group, of.job_type, list(of.tags)
        run.config.update(_items(of.config.update))


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _next_header(at: int) -> int:
    """Where the next chunk begins: a block's last bytes hold no header."""
    room = BLOCK - at % BLOCK
    return at + room if room < _CHUNK.size else at
