"""`trackkit.read_run`: one run, from its local log or from a W&B server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from trackkit.local_log.reader import RUNS, ReadError, RecordedRun, find_folder, read_folder

# W&B's states that are no status of ours.
_STATUS = {"crashed": "failed", "killed": "stopped", "preempting": "running", "pending": "running"}


def read_run(path: str | os.PathLike[str]) -> RecordedRun:
    """Reads one run.

    Args:
        path: a run folder (`<output>/trackkit-runs/<run id>`), an output folder with exactly one run, or the W&B path
            `entity/project/run_id` of a run on a server.

    Raises:
        ReadError: there is no such run, the folder has several, or the server does not answer.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return read_folder(find_folder(folder))
    parts = str(path).split("/")
    if len(parts) == 3 and all(parts):
        return _read_from_server(str(path))
    raise ReadError(
        f"no folder '{path}'. Give a run folder ('<output>/{RUNS}/<run id>'), an output folder, or the W&B path "
        "'entity/project/run_id'."
    )


def _read_from_server(path: str) -> RecordedRun:
    from trackkit.sync.server_run import Server, ServerError

    try:
        server = Server()
        run = server.run(path)
    except ServerError as error:
        raise ReadError(f"no folder '{path}', and no answer from a W&B server: {error}") from error
    if not run.state:
        raise ReadError(f"'{path}' is neither a folder nor a run on {server.url}. Give one of them.")
    rows = [replace(row, values={k: v for k, v in row.values.items() if k[:1] != "_"}) for row in run.rows]
    summary = {key: value for key, value in run.summary.items() if key[:1] != "_"}
    fields = {"run_id": path.split("/")[-1], "status": _STATUS.get(run.state, run.state), "url": run.url, **run.fields}
    return RecordedRun(rows, run.config, summary, fields)
