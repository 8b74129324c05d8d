"""The user's own list of runs, so that `trackkit sync` finds what was not uploaded: one JSON line per start of a run.

It lies in `$TRACKKIT_INDEX`; else in `$WANDB_DIR`, where that is set (nothing goes to the home folder then); else in
`$XDG_STATE_HOME/trackkit`, whose default is `~/.local/state/trackkit`.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trackkit.notices import logger

NAME = "trackkit-runs.jsonl"


@dataclass(frozen=True)
class Entry:
    """A run that was started.

    Attributes:
        folder: its run folder, absolute.
        run_id, project, mode: of the run; `mode` as it was asked for.
        time: of the start, Unix time in seconds.
    """

    folder: str
    run_id: str
    project: str = ""
    mode: str = ""
    time: float = 0.0


def index_path() -> Path:
    """Where the index lies."""
    if given := os.environ.get("TRACKKIT_INDEX"):
        return Path(given).expanduser()
    if wandb_dir := os.environ.get("WANDB_DIR"):
        return Path(wandb_dir).expanduser() / NAME
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "trackkit" / "runs.jsonl"


def state_folders() -> list[Path]:
    """Where else something of the user's may be kept, best first: beside the index; among temporary files."""
    temporary = Path(tempfile.gettempdir()) / f"trackkit-{os.getuid()}"
    try:
        return [index_path().parent, temporary]
    except RuntimeError:
        return [temporary]


def remember(folder: Path, run_id: str, project: str | None, mode: str) -> None:
    """Notes that a run starts. Never fails: without its line the run is only not found by itself."""
    path = index_path()
    line = json.dumps(asdict(Entry(str(folder.absolute()), run_id, project or "", mode, round(time.time(), 3))))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            # One write of O_APPEND: lines of several processes stay whole even where locks don't work.
            os.write(file, (line + "\n").encode())
    except OSError as error:
        logger.debug(
            "the index of runs '%s' can't be written (%s): 'trackkit sync' needs the run's folder", path, error
        )


def entries() -> list[Entry]:
    """The runs whose folders are there, oldest first, the newest start of each."""
    found: dict[str, Entry] = {}
    for line in _lines(index_path()):
        entry = _parse(line)
        if entry is not None and Path(entry.folder).is_dir():
            found.pop(entry.folder, None)
            found[entry.folder] = entry
    return list(found.values())


def compact() -> None:
    """Drops runs whose folders are gone, and what is not a whole line. Never fails."""
    path = index_path()
    try:
        with _locked(path, os.O_RDWR) as file:
            kept = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries())
            if len(kept.encode()) < os.fstat(file).st_size:
                # In place, under the lock: a writer that has the file open must not write to one that was replaced.
                os.pwrite(file, kept.encode(), 0)
                os.ftruncate(file, len(kept.encode()))
    except OSError as error:
        logger.debug("the index of runs '%s' can't be compacted (%s)", path, error)


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if flags & os.O_RDWR else 0))
        except OSError:
            if flags & os.O_RDWR:
                raise
        yield file
    finally:
        os.close(file)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _parse(line: str) -> Entry | None:
    try:
        found = json.loads(line)
        return Entry(**{name: found[name] for name in ("folder", "run_id", "project", "mode", "time")})
    except (ValueError, KeyError, TypeError):
        return None
