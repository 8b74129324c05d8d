"""`trackkit.read_run`: one run, from its local log or from a W&B server."""

from __future__ import annotations

import os
from dataclasses import replace

from trackkit.local_log.places import RunOnDisk, find_runs
from trackkit.local_log.reader import RecordedRun, read_folder
from trackkit.local_log.regular import ReadError

# W&B's states that are no status of ours.
_STATUS = {"crashed": "failed", "killed": "stopped", "preempting": "running", "pending": "running"}


def read_run(path: str | os.PathLike[str]) -> RecordedRun:
    """Reads one run.

    Args:
        path: what `trackkit sync` takes: run id, run folder (`<output>/_trackkit/<run id>`), output folder with exactly
            one run, or W&B's folder of a run; or the W&B path `entity/project/run_id` of a run on a server.

    Raises:
        ReadError: there is no such run, the folder has several, or the server does not answer.
    """
    parts = str(path).split("/")
    if len(parts) == 3 and all(parts) and not os.path.exists(os.path.expanduser(path)):
        return _read_from_server(str(path))
    runs = find_runs(path)
    if len(runs) > 1:
        names = ", ".join(f"'{run.folder or run.run_id}'" for run in runs)
        raise ReadError(f"{len(runs)} runs in '{path}': {names}. Give the folder of one.")
    return read_folder(runs[0].folder) if runs[0].folder is not None else _read_wandb_files(runs[0])


def _read_wandb_files(run: RunOnDisk) -> RecordedRun:
    """Reads a run without a local log from W&B's files."""
    from trackkit.sync.gather import gather
    from trackkit.sync.targets import Target

    try:
        source = gather(Target(run.run_id, run.root, None))
        status = "finished" if source.exit_code == 0 else "failed"
        return RecordedRun(source.rows, source.config, source.summary, {"run_id": run.run_id, "status": status})
    except ReadError:
        raise
    except Exception as error:
        raise ReadError(f"cannot read W&B's files of run '{run.run_id}' in '{run.root}': {error!r}") from error


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
