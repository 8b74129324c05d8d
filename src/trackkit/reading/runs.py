"""`trackkit.read_run`: one run, from its local log or from a W&B server."""

from __future__ import annotations

import os
from pathlib import Path

from trackkit.local_log.reader import RUNS, ReadError, RecordedRun, find_folder, read_folder


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
        from trackkit.sync.server_run import read_server_run

        return read_server_run(*parts)
    raise ReadError(
        f"no folder '{path}'. Give a run folder ('<output>/{RUNS}/<run id>'), an output folder, or the W&B path "
        "'entity/project/run_id'."
    )
