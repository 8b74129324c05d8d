"""Reads TrackKit's local log back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class LocalRun:
    """A run folder as plain data: `rows`, `config`, `summary`, `run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = [
            json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines() if line
        ]
        self.config, self.run = (json.loads((folder / name).read_text()) for name in ("config.json", "run.json"))
        summary = folder / "summary.json"
        self.summary: dict[str, Any] = json.loads(summary.read_text()) if summary.exists() else {}

    def history(self, key: str) -> list[tuple[int, Any]]:
        """Returns (value of the key's axis, value) of every row that has the key."""
        axis = "epoch/step" if key.startswith("epoch/") else "batch/step"
        return [(row[axis], row[key]) for row in self.rows if key in row]


def write_run(
    root: Path,
    run_id: str,
    config: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, Any]] = ({"batch/step": 7, "batch/loss": 0.5},),
    *,
    started: float = 1.0,
    **run: Any,
) -> Path:
    """Writes a run folder below the output folder `root`, as a training of half an hour leaves it; returns it."""
    folder = root / "_trackkit" / run_id
    folder.mkdir(parents=True)
    fields = {"run_id": run_id, "name": f"name-{run_id}", "status": "finished", "started": started}
    (folder / "run.json").write_text(json.dumps({**fields, "ended": started + 1800, **run}))
    (folder / "config.json").write_text(json.dumps(config or {}))
    (folder / "summary.json").write_text(json.dumps(summary or {}))
    lines = [json.dumps({"_row": number, "_time": started + number, **row}) for number, row in enumerate(rows)]
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def local_runs(folder: Path) -> list[LocalRun]:
    """Returns every run below `folder`, in order of their starts."""
    found = [LocalRun(path.parent) for path in folder.glob("**/_trackkit/*/run.json")]
    return sorted(found, key=lambda run: run.run["started"])


def local_run(folder: Path) -> LocalRun:
    """Returns the only run below `folder`."""
    runs = local_runs(folder)
    assert len(runs) == 1, f"expected one run below {folder}, found {[run.folder for run in runs]}"
    return runs[0]
