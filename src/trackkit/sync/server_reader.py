"""Reads a run on a W&B server as `trackkit.read_run` gives it."""

from __future__ import annotations

from trackkit.engine.records import Row
from trackkit.local_log.reader import ReadError, RecordedRun
from trackkit.sync.server_run import Server, ServerError

_STATUS = {"crashed": "failed", "killed": "stopped", "preempting": "running", "pending": "running"}


def read_server_run(entity: str, project: str, run_id: str) -> RecordedRun:
    """A run on a server, in the shape of `trackkit.read_run`.

    Raises:
        ReadError: the server can't be asked, or has no such run.
    """
    path = f"{entity}/{project}/{run_id}"
    try:
        server = Server()
        run = server.run(path)
    except ServerError as error:
        raise ReadError(f"'{path}' is no folder, and so a run on a W&B server: {error}") from error
    if run is None:
        raise ReadError(f"'{path}' must be a folder or a run on {server.url}, and is neither; give another")
    history = [
        Row(
            number,
            "epoch" if "epoch/step" in row else "batch",
            int(row["_step"]),
            row.get("_timestamp", 0.0),
            {key: value for key, value in row.items() if key[0] != "_"},
        )
        for number, row in enumerate(run.rows)
    ]
    fields = {"run_id": run_id, "status": _STATUS.get(run.state, run.state), "url": run.url, **run.fields}
    return RecordedRun(history, run.config, run.summary, fields)
