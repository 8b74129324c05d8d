"""Reads an offline W&B run file back: LevelDB log blocks of protobuf records, checksums verified."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK = 32 * 1024
_HEADER = 7


@dataclass
class OfflineRun:
    """What an offline run file holds: history rows with their `_step`, summary, config, run fields, exit code."""

    run_id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None

    def history(self, key: str) -> list[tuple[int, Any]]:
        """(value of the key's own axis, value) wherever the key was logged."""
        axis = "epoch/step" if key.startswith("epoch/") else "batch/step"
        return [(row[axis], row[key]) for row in self.rows if key in row]


def find_runs(folder: Path) -> list[Path]:
    """Every offline run file below `folder`, oldest first."""
    return sorted(folder.glob("**/wandb/offline-run-*/run-*.wandb"), key=lambda path: path.parent.name)


def read_offline(path: Path, wait_s: float = 3.0) -> OfflineRun:
    """The run in a `.wandb` file, or the only run below a folder.

    W&B's own process writes the file's end shortly after `finish` has returned: a run without its exit code is read
    again, for at most `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while (run := _read(path)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return run


def _read(path: Path) -> OfflineRun:
    if path.is_dir():
        found = find_runs(path)
        assert len(found) == 1, f"expected one offline run below {path}, found {found}"
        path = found[0]
    run = OfflineRun()
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id, run.name, run.project = record.run.run_id, record.run.display_name, record.run.project
            run.group, run.job_type, run.tags = record.run.run_group, record.run.job_type, list(record.run.tags)
            _update(run.config, record.run.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            row.setdefault("_step", record.history.step.num)
            run.rows.append(row)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "metric":
            run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def read_finished(path: Path, timeout_s: float = 10.0) -> OfflineRun:
    """The same, once its end is on disk: within a process, `finish` may return a moment before that."""
    deadline = time.monotonic() + timeout_s
    while (run := read_offline(path)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return run


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        key = item.key or "/".join(item.nested_key)
        target[key] = json.loads(item.value_json)


def _records(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B", "not a W&B run file"
    at, parts = _HEADER, b""
    while at + _HEADER <= len(data):
        room = _BLOCK - at % _BLOCK
        if room < _HEADER:
            at += room
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + _HEADER : at + _HEADER + length]
        if len(chunk) < length or kind == 0:
            return
        assert crc == zlib.crc32(bytes([kind]) + chunk), "a record's checksum is wrong"
        at += _HEADER + length
        parts = chunk if kind in (1, 2) else parts + chunk
        if kind in (1, 4):
            yield parts
