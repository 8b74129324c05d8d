"""`trackkit.load_checkpoint`: a checkpoint of a recorded run as a local path; the run that uses it shows its parent."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from trackkit.checkpoints import parents
from trackkit.checkpoints.entry import Entry
from trackkit.checkpoints.ledger import Ledger
from trackkit.checkpoints.parents import Parent
from trackkit.checkpoints.staging import Staging, holds
from trackkit.integrations.wandb.server import Unanswered
from trackkit.integrations.wandb.versions import DamagedError, StoredVersion, find_version
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError
from trackkit.reading.find_checkpoint import FoundCheckpoint, find_checkpoint
from trackkit.session.session import open_sessions

DOWNLOADS = "artifacts"
"""Folder in the working directory for downloaded versions: `artifacts/<collection>-v3`. The same as W&B's own."""


def load_checkpoint(spec: str | os.PathLike[str]) -> str:
    """Returns a local path of a checkpoint, and notes that the run of this process uses it.

    The path is the framework's own file or folder as long as that is what was saved; else the copy in the run's folder;
    else a download to `artifacts/` in the working directory, whose content is checked. Of a checkpoint that was saved
    to a URL, it is the URL.

    The run that is being recorded, or the next that starts in this process, gets `parent/run`, `parent/checkpoint` and
    `parent/step` in its config, and the version as an input in W&B: at once, with its next sync, or with the first
    after that of its parent. A run that resumes from its own checkpoint has no parent.

    Args:
        spec: see `reading.find_checkpoint.find_checkpoint`: `"<run id>:best"`, `"<run folder>"`,
            `"entity/project/model-toy:v3"`. Without an alias: `best`, or `latest` if no metric is monitored.

    Raises:
        ReadError: there is no such checkpoint, or none of its copies can be had; the message says which were looked at.
    """
    found = find_checkpoint(spec)
    path, stored = _obtain(found)
    _note_use(found, stored)
    return path


def _obtain(found: FoundCheckpoint) -> tuple[str, StoredVersion | None]:
    if found.entry is None or found.run is None or found.run.folder is None:
        assert found.stored is not None
        return _download(found.stored), found.stored
    entry, folder = found.entry, found.run.folder
    if entry.is_remote or _is_as_saved(entry):
        return entry.path, None
    staging = Staging(folder)
    if entry.files and not staging.changed(entry):
        staged = staging.folder(entry.number)
        return str(staged / entry.files[0].name if _is_one_file(entry) else staged), None
    what = f"the checkpoint of step {entry.step} of run '{found.run.run_id}'"
    name = parents.version_name(str(folder), entry.number)
    if not name:
        why = f" ({entry.state}: {entry.reason})" if entry.reason else ""
        raise ReadError(
            f"{what} is neither in '{entry.path}' as it was saved, nor in the run's folder, nor on W&B{why}."
        )
    try:
        stored = find_version(name)
    except Unanswered as error:
        raise ReadError(f"{what} is on W&B alone, and can't be downloaded: {error}") from error
    if stored is None:
        raise ReadError(f"{what} is on this machine no more, and W&B has no version '{name}'.")
    return _download(stored), stored


def _is_as_saved(entry: Entry) -> bool:
    """Returns whether the framework's own file or folder still is what was saved."""
    path = Path(entry.path)
    try:
        for file in entry.files:
            # What was copied, rather than linked, was noted as the copy.
            if not holds(path / file.name if path.is_dir() else path, file):
                return False
    except OSError:
        return False
    return bool(entry.files)


def _is_one_file(entry: Entry) -> bool:
    return len(entry.files) == 1 and entry.files[0].name == Path(entry.path).name


def _download(stored: StoredVersion) -> str:
    collection, _, version = stored.name.rpartition("/")[2].partition(":")
    folder = Path(DOWNLOADS, f"{collection}-{version}").absolute()
    entries = stored.artifact.manifest.entries
    references = [entry.ref for entry in entries.values() if entry.ref is not None]
    if references:
        # The files are not on the server: whoever loads them has the access that they need.
        return str(references[0])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stored.download(folder)
    except (Unanswered, DamagedError) as error:
        raise ReadError(f"'{stored.name}' can't be downloaded: {error}") from error
    except OSError as error:
        raise ReadError(f"'{stored.name}' can't be written to '{folder}': {error.strerror}.") from error
    names = list(entries)
    is_file = len(names) == 1 and stored.metadata.get("framework") != "huggingface"
    return str(folder / names[0] if is_file else folder)


def _note_use(found: FoundCheckpoint, stored: StoredVersion | None) -> None:
    parent = to_parent(found, stored)
    if found.run is not None and found.entry is not None and found.run.folder is not None:
        _mark_used(found.run, found.entry)
    sessions = [each for each in open_sessions() if each.phase == "fitting"]
    if sessions:
        sessions[-1].use(parent)
    else:
        parents.wait(parent)


def to_parent(found: FoundCheckpoint, stored: StoredVersion | None) -> Parent:
    """Returns what a run that uses a checkpoint records of it."""
    if found.entry is None or found.run is None:
        assert stored is not None
        step = stored.metadata.get("step")
        parent = Parent(checkpoint=stored.name.rpartition("/")[2], artifact=stored.name)
        with suppress(Unanswered):
            parent = replace(parent, run_id=stored.run.rpartition("/")[2])
        return replace(parent, step=step if isinstance(step, int) else None)
    entry, folder = found.entry, str(found.run.folder)
    return Parent(
        run_id=found.run.run_id,
        run_name=found.run.name,
        checkpoint=entry.version or f"{entry.collection} (step {entry.step})",
        step=entry.step,
        artifact=stored.name if stored is not None else "",
        folder=folder,
        number=entry.number,
    )


def _mark_used(run: RecordedRun, entry: Entry) -> None:
    """Keeps retention from deleting a checkpoint. A process that still records the run asks the server instead."""
    if entry.used or run.status == "running" or run.folder is None:
        return
    with suppress(OSError):
        ledger = Ledger(run.folder)
        ledger.change(entry.number, used=True)
        ledger.close()
