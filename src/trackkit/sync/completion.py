"""What a run's local log adds to what the server has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackkit.local_log.reader import RecordedRun
from trackkit.sync.added import LogRow, placed
from trackkit.sync.compare import Expected, lacking_columns
from trackkit.sync.server_run import ServerRun
from trackkit.sync.verdict import wanted_summary

# W&B's words for a run whose end it has not heard of.
OPEN = ("running", "crashed")


@dataclass(frozen=True)
class Completion:
    """What is to be added.

    Attributes:
        rows: of the history.
        summary, config: columns.
        ends: whether the server has not heard that the run has ended.
    """

    rows: Sequence[LogRow]
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    ends: bool

    def __bool__(self) -> bool:
        return bool(self.rows or self.summary or self.config or self.ends)

    def __str__(self) -> str:
        words = {"summary": self.summary, "config": self.config, "its end": self.ends}
        return ", ".join(
            [f"{len(self.rows)} rows"] * bool(self.rows) + [word for word, there in words.items() if there]
        )

    def task(self, path: str, local: RecordedRun, server: ServerRun, folder: str | Path) -> dict[str, Any]:
        """What `trackkit.integrations.wandb.complete` is told.

        Args:
            path: of the run, `entity/project/run_id`.
            local: its local log.
            server: what the server has of it.
            folder: for what W&B writes.
        """
        entity, project, run_id = path.split("/")
        rows = placed(self.rows, server.last_step)
        return {
            "entity": entity,
            "project": project,
            "run_id": run_id,
            "folder": str(folder),
            "rows": [{"at": row.step, "time": row.time, "values": dict(row.values)} for row in rows],
            "summary": dict(self.summary),
            "config": dict(self.config),
            "exit_code": exit_code(local),
            "epoch_axis": epoch_axis(local),
            "fields": {} if server.fields else _fields(local),
        }


def completion(
    local: RecordedRun, expected: Sequence[Expected], rows: Sequence[LogRow], server: ServerRun
) -> Completion:
    """What of a local log a server lacks.

    Args:
        local: the local log.
        expected: its rows that W&B must have.
        rows: those of them that are to be added.
        server: what the server has.
    """
    moved = {key for row in rows for key in row.values}
    latest = {
        key: value
        for key, value in _latest(expected).items()
        if key in moved or isinstance(server.summary.get(key), (int, float, str))
    }
    # A row that goes behind later ones changes W&B's column of its keys, and a file that is sent late all columns.
    summary = {
        key: value
        for key, value in {**latest, **wanted_summary(local)}.items()
        if key in moved or key in lacking_columns({key: value}, server.summary)
    }
    config = lacking_columns(local.config, server.config)
    return Completion(rows, summary, config, server.state in OPEN and local.run.get("status") != "running")


def epoch_axis(local: RecordedRun | None) -> str:
    """The axis of `epoch/*` that the run was set up with."""
    return str(local.config.get("trackkit/settings/epoch_axis", "step")) if local is not None else "step"


def exit_code(local: RecordedRun) -> int:
    """How the run ended."""
    return int(local.run.get("exit_code", 0 if local.run.get("status") == "finished" else 1))


def _latest(expected: Sequence[Expected]) -> dict[str, Any]:
    """The columns that W&B makes of the epochs' rows: the last value of each."""
    rows = sorted((row for row in expected if row.axis == "epoch/step"), key=lambda row: row.step)
    return {key: value for row in rows for key, value in row.values.items() if key.startswith("epoch/")}


def _fields(local: RecordedRun) -> dict[str, Any]:
    """What W&B is told of a run that it does not know yet."""
    settings = {key: local.config.get(f"trackkit/settings/{key}") for key in ("group", "job_type", "tags", "notes")}
    return {"name": local.run.get("name"), **{key: value for key, value in settings.items() if value}}
