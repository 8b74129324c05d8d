"""Completes a run on a server from its local log: a process that goes on in the run online.

    python -m trackkit.sync.complete TASK.json

The task: `entity`, `project`, `run_id`, `folder` (for what W&B writes), `rows` (each `at`, which is W&B's step, `time`
and `values`), `summary`, `config`, `fields` (of a run that the server does not know), `exit_code`,
`epoch_axis`. A file `done` in the folder says that it is done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from trackkit.integrations.wandb.axes import define
from trackkit.integrations.wandb.settings import known
from trackkit.local_log.reader import finite_words


def main(task: dict[str, Any]) -> None:
    """Writes what the task says, above the last step that the server has."""
    import wandb

    settings: dict[str, Any] = {
        "console": "off",
        "disable_git": True,
        "save_code": False,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
    }
    run = wandb.init(
        entity=task["entity"],
        project=task["project"],
        id=task["run_id"],
        resume="allow",
        mode="online",
        **task.get("fields", {}),
        dir=task["folder"],
        settings=known(settings),
    )
    for key in sorted({key for row in task["rows"] for key in row["values"]}):
        define(run, key, task["epoch_axis"])
    last = len(task["rows"])
    for number, row in enumerate(task["rows"], 1):
        values = {**finite_words(row["values"]), "_timestamp": row["time"]}
        # A row that still waits at the end would write its columns over those of the task.
        run.log(values, step=row["at"], commit=number == last)
    run.summary.update(task["summary"])
    run.config.update(task["config"], allow_val_change=True)  # type: ignore[no-untyped-call]
    run.finish(exit_code=task["exit_code"])
    (Path(task["folder"]) / "done").touch()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
