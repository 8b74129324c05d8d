"""`trackkit.read_run` and `trackkit.runs`: one run, or many, from local logs or from a W&B server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from trackkit.local_log import index
from trackkit.local_log.places import RunOnDisk, find_runs, is_server_path, known_runs, siblings
from trackkit.local_log.reader import read_folder
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError, parse_json
from trackkit.reading.collection import Runs

if TYPE_CHECKING:
    from trackkit.engine.records import Gap, Row
    from trackkit.sync.server_run import Server, ServerRun

# W&B's states that are no status of ours.
_STATUS = {"crashed": "failed", "killed": "stopped", "preempting": "running", "pending": "running"}

_MOST_NAMED = 5

Source = str | os.PathLike[str]
T = TypeVar("T")


def read_run(path: Source) -> RecordedRun:
    """Reads one run.

    Args:
        path: what `trackkit sync` takes: run id, run folder (`<output>/_trackkit/<run id>`), output folder with exactly
            one run, or W&B's folder of a run; or the W&B path `entity/project/run_id` of a run on a server.

    Raises:
        ReadError: there is no such run, the folder has several, or the server does not answer.
    """
    if is_server_path(path, parts=3):
        return _read_from_server(str(path))
    found = find_runs(path)
    if len(found) > 1:
        names = [f"'{run.folder or run.run_id}'" for run in found[:_MOST_NAMED]]
        more = [f"and {len(found) - _MOST_NAMED} more"] if len(found) > _MOST_NAMED else []
        raise ReadError(f"{len(found)} runs in '{path}': {', '.join(names + more)}. Give the folder of one.")
    return _read(found[0])


def runs(source: Source | Iterable[Source] | None = None) -> Runs:
    """Opens many runs; their rows are read only when they are asked for.

    Args:
        source: a folder (all runs in it and below it), a run as `read_run` takes it, or `entity/project` on W&B; or
            several of these. Default: every run of yours that was recorded on this machine.

    Returns:
        The runs, oldest first. One that can't be read has the status `damaged`.

    Raises:
        ReadError: there is no such run or folder, or the server does not answer.
    """
    if source is None:
        return Runs(_open(known_runs()))
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    found: list[RecordedRun] = []
    for each in sources:
        if is_server_path(each, parts=3):
            found.append(_read_from_server(str(each)))
        elif is_server_path(each, parts=2):
            found += _read_project(str(each))
        else:
            found += _open(find_runs(each))
    return Runs(found)


def neighbors(run: RecordedRun) -> Runs:
    """Returns the runs that a run may be compared with: the user's own, those in and beside its output folder.

    Of a run on a server, those of its project.
    """
    if run.folder is None and "path" in run.run:
        with suppress(ReadError):
            found = _read_project(str(run.run["path"]).rpartition("/")[0])
            return Runs(each for each in found if each.run_id != run.run_id)
    on_disk = {each.folder: each for each in known_runs()}
    if run.folder is not None:
        on_disk |= {each.folder: each for each in siblings(run.folder.absolute())}
        on_disk.pop(run.folder.absolute(), None)
    return Runs(_open(on_disk.values()))


def _open(found: Iterable[RunOnDisk]) -> list[RecordedRun]:
    """Reads runs; one that can't be read becomes a `damaged` one. Notes which are on a server."""
    entries = {os.path.realpath(entry.folder): entry for entry in index.entries()}
    opened = []
    for each in found:
        try:
            run = _read(each)
        except ReadError as error:
            fields = {"run_id": each.run_id, "status": "damaged", "error": str(error)}
            run = RecordedRun({}, {}, fields, each.folder)
        entry = entries.get(os.path.realpath(run.folder)) if entries and run.folder is not None else None
        opened.append(replace(run, run={**run.run, "synced": entry.synced}) if entry is not None else run)
    return opened


def _read(run: RunOnDisk) -> RecordedRun:
    return _checked(read_folder(run.folder), run.folder) if run.folder is not None else _read_wandb_files(run)


def _checked(run: RecordedRun, folder: Path) -> RecordedRun:
    """Returns a run as `damaged` if one of its files can't be read, with what the others say."""
    found = {"run.json": run.run.keys() - {"run_id", "status"}, "config.json": run.config, "summary.json": run.summary}
    damaged = [name for name, values in found.items() if not values and not _is_whole(folder / name)]
    if not damaged:
        return run
    error = f"{' and '.join(damaged)} of '{folder}' can't be read; the rest is shown."
    return replace(run, run={**run.run, "status": "damaged", "error": error})


def _is_whole(path: Path) -> bool:
    """Returns whether a file that gave no values is not damaged. Only `run.json` is there from a run's start."""
    try:
        return isinstance(parse_json(path.read_bytes()), dict)
    except FileNotFoundError:
        return path.name != "run.json"
    except (OSError, ValueError):
        return False


def _read_wandb_files(run: RunOnDisk) -> RecordedRun:
    """Reads a run without a local log from W&B's files."""
    from trackkit.sync.gather import gather
    from trackkit.sync.targets import Target

    try:
        source = gather(Target(run.run_id, run.root, None))
        fields = {"run_id": run.run_id, "status": "finished" if source.exit_code == 0 else "failed"}
        return RecordedRun(source.config, source.summary, fields, load=lambda: (source.rows, ()))
    except ReadError:
        raise
    except Exception as error:
        raise ReadError(f"cannot read W&B's files of run '{run.run_id}' in '{run.root}': {error!r}") from error


def _read_from_server(path: str) -> RecordedRun:
    server, run = _ask(path, lambda server: server.run(path))
    if not run.state:
        raise ReadError(f"'{path}' is neither a folder nor a run on {server.url}. Give one of them.")
    return _of_server(run, lambda: run.rows)


def _read_project(path: str) -> list[RecordedRun]:
    server, found = _ask(path, lambda server: server.project(path))
    return [_of_server(run, lambda path=run.path: server.run(path).rows) for run in found]  # type: ignore[misc]


def _ask(path: str, question: Callable[[Server], T]) -> tuple[Server, T]:
    """Returns the server, and its answer to a question about a path that is none of this machine."""
    from trackkit.sync.server_run import Server, ServerError

    try:
        server = Server()
        return server, question(server)
    except ServerError as error:
        raise ReadError(f"'{path}' is not a folder, and cannot be read from a W&B server: {error}") from error


def _of_server(run: ServerRun, rows: Callable[[], list[Row]]) -> RecordedRun:
    """Returns a run on a server; its rows are fetched when they are asked for."""

    def load() -> tuple[list[Row], list[Gap]]:
        return [replace(row, values={k: v for k, v in row.values.items() if k[:1] != "_"}) for row in rows()], []

    summary = {key: value for key, value in run.summary.items() if key[:1] != "_"}
    status = _STATUS.get(run.state, run.state)
    _, project, run_id = run.path.split("/")
    names = {"run_id": run_id, "project": project, "path": run.path}
    fields = {**names, "status": status, "url": run.url, **run.fields}
    return RecordedRun(run.config, summary, fields, load=load)
