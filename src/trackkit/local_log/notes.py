"""Adds to a recorded run's notes, which W&B shows on the run's page after the next sync."""

from __future__ import annotations

from pathlib import Path

from trackkit.local_log.owner import claim, is_running, release
from trackkit.local_log.reader import read_fields
from trackkit.local_log.recorded import RecordedRun
from trackkit.local_log.regular import ReadError, regular
from trackkit.local_log.writer import replace_json


def notes_of(run: RecordedRun) -> str:
    """Returns a run's notes; "" without any."""
    return str(run.run.get("notes") or run.config.get("trackkit/settings/notes") or "")


def add_note(run: RecordedRun, folder: Path, note: str) -> None:
    """Adds a line to the notes of a run that has ended, unless they have it.

    Raises:
        ReadError: the run is still being written, or its folder is not writable.
    """
    notes = notes_of(run)
    if note in notes.splitlines():
        return
    if is_running(run.run, folder) or not claim(folder):
        raise ReadError(f"run '{run.run_id}' is still being written. Try again when it has ended.")
    try:
        fields = read_fields(folder)
        replace_json(regular(folder / "run.json"), {**fields, "notes": f"{notes}\n{note}" if notes else note})
    except OSError as error:
        raise ReadError(f"cannot write the notes of run '{run.run_id}': {error}") from error
    finally:
        release(folder)
