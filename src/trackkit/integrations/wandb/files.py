"""What W&B's transaction logs, `run-<id>.wandb`, say of their runs: protobuf records in LevelDB's log blocks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.blocks import Reader
from trackkit.integrations.wandb.console import Console
from trackkit.schema.keys import AXES

# W&B's own keys of a row, and axes.
_NO_VALUES = frozenset({"_step", "_timestamp", "_runtime", "_wandb"}) | AXES
# The run record stands second in a file.
_HEAD_BYTES = 1 << 18


@dataclass
class RunFile:
    """What a transaction log holds.

    Attributes:
        run_id, entity, project, name, group, job_type, tags: of the run; "" where unknown.
        rows: history with its `_step`, oldest first.
        summary, config: key to value; nested keys are joined by `/`.
        axes: metric, or glob, to its x-axis.
        artifacts: collection name and digest of each artifact that the run logged.
        console: lines of console output, as W&B counts them.
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


def find_files(root: Path, run_id: str, kind: str = "*run") -> list[Path]:
    """A run's transaction logs below its output folder, in order of start.

    Args:
        root: the output folder.
        run_id: of the run. W&B puts a number behind it in the folder of a run that it begins again in one second.
        kind: `offline-run`, `run` or both.
    """
    found = list(root.glob(f"wandb/{kind}-[0-9]*/run-{run_id}.wandb"))
    return sorted(found, key=_began) if len(found) > 1 else found


def _began(path: Path) -> tuple[float, str]:
    """When a file was begun: the name of its folder is in local time, which another time zone puts out of order."""
    name = path.parent.name.removeprefix("offline-")
    for data in Reader(path, _HEAD_BYTES).new():
        record = parse(data)
        if record.WhichOneof("record_type") == "run":
            return record.run.start_time.ToNanoseconds() / 1e9, name
    try:
        return time.mktime(time.strptime(name[4:19], "%Y%m%d_%H%M%S")), name
    except ValueError:
        return path.stat().st_mtime, name


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
    run, reader, console = RunFile(), Reader(path), Console()
    for data in reader.new():
        record = parse(data)
        _take(run, record)
        console.take(record)
    run.console = console.lines
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


def item_key(item: Any) -> str:
    """The key of an item of a record."""
    return str(item.key or "/".join(item.nested_key))


def own_keys(row: Iterable[str]) -> set[str]:
    """The keys of a row that carry its values: neither W&B's own nor axes."""
    return set(row) - _NO_VALUES


def _items(items: Any) -> dict[str, Any]:
    return {item_key(item): json.loads(item.value_json) for item in items}
