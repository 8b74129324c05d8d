"""Reads offline W&B run files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.files import parse, read_history, read_run_file


@dataclass
class OfflineRun:
    """What an offline run file holds: history rows with their `_step`, summary, config, axes, run fields, exit code."""

    run_id: str
    project: str
    name: str
    group: str
    tags: list[str]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    config: dict[str, Any]
    axes: dict[str, str]
    exit_code: int | None

    def history(self, key: str) -> list[tuple[int, Any]]:
        """Returns (value of the key's axis, value) of every row that has the key."""
        axis = "epoch/step" if key.startswith("epoch/") else "batch/step"
        return [(row[axis], row[key]) for row in self.rows if key in row]


def find_runs(folder: Path) -> list[Path]:
    """Returns every offline run file below `folder`, oldest first."""
    return sorted(folder.glob("**/wandb/offline-run-*/run-*.wandb"), key=lambda path: path.parent.name)


def read_offline(path: Path, wait_s: float = 3.0) -> OfflineRun:
    """Returns the run in a `.wandb` file, or the only run below a folder.

    W&B's own process writes the file's end shortly after `finish` has returned, so a run without an exit code is read
    again for up to `wait_s` seconds.
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
    file = read_run_file(path)
    run = file.run if file.run is not None else parse(b"").run
    return OfflineRun(
        run_id=run.run_id,
        project=run.project,
        name=run.display_name,
        group=run.run_group,
        tags=list(run.tags),
        rows=list(read_history(path)),
        summary=file.summary,
        config=file.config,
        axes={name: parse(record).metric.step_metric for name, record in file.definitions.items()},
        exit_code=file.exit_code,
    )


def read_finished(path: Path, timeout_s: float = 10.0) -> OfflineRun:
    """Returns the run once its exit code is in the file, or as it is after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while (run := read_offline(path)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return run
