"""The user's own list of runs, so that `trackkit sync` finds what was not uploaded: one JSON line per start of a run.

A sync that has found all of a run on a server adds that line once more, with the server in it.
It lies in `$TRACKKIT_INDEX`; else in `$WANDB_DIR`, where that is set (nothing goes to the home folder then); else in
`$XDG_STATE_HOME/trackkit`, whose default is `~/.local/state/trackkit`.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trackkit.notices import logger

NAME = "trackkit-runs.jsonl"
# How long a run is remembered whose folder is away: half a year, longer than clusters keep what nobody uses.
FORGOTTEN_S = 180 * 86400.0


@dataclass(frozen=True)
class Entry:
    """A run that was started.

    Attributes:
        folder: its run folder, absolute.
        run_id, project, mode: of the run; `mode` as it was asked for.
        time: of the start, Unix time in seconds.
        synced: the server that had all of it at the last sync; "" where none is known to.
    """

    folder: str
    run_id: str
    project: str = ""
    mode: str = ""
    time: float = 0.0
    synced: str = ""

    @property
    def here(self) -> bool:
        """Whether its folder can be seen."""
        return os.path.isdir(self.folder)

    @property
    def deleted(self) -> bool:
        """Whether its folder is gone for good: the one that it lay in is there, without it."""
        try:
            os.stat(self.folder)
        except FileNotFoundError:
            return os.path.isdir(os.path.dirname(self.folder))
        except OSError:
            pass
        return False

    @property
    def missed(self) -> bool:
        """Whether its folder is only away, as on a file system that is not mounted, with what no server may have."""
        recent = time.time() - self.time < FORGOTTEN_S
        return not (self.here or self.synced or self.deleted) and recent


def index_path() -> Path:
    """Where the index lies.

    Raises:
        RuntimeError: the user has no home folder, and it would lie there.
    """
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
    try:
        _append([Entry(str(folder.absolute()), run_id, project or "", mode, round(time.time(), 3))])
    except Exception as error:
        logger.debug("the index of runs can't be written (%s): 'trackkit sync' needs the run's folder", error)


def mark(synced: Iterable[Entry], server: str) -> None:
    """Notes that a server has all of these runs, as they were when their entries were read. Never fails."""
    try:
        _append([replace(entry, synced=server) for entry in synced if entry.synced != server])
    except Exception as error:
        logger.debug("the index of runs can't be written (%s): runs that are on the server stay listed", error)


def entries() -> list[Entry]:
    """The runs whose folders are there, oldest first, the newest start of each."""
    return [entry for entry in _all() if entry.here]


def missed() -> list[Entry]:
    """The runs that no server is known to have, and whose folders are away; oldest first."""
    return [entry for entry in _all() if entry.missed]


def compact() -> None:
    """Drops runs whose folders are gone for good, and what is not a whole line. Never fails."""
    try:
        with _locked(index_path(), os.O_RDWR) as file:
            kept = "".join(_line(entry) for entry in _all() if entry.here or entry.missed).encode()
            if len(kept) < os.fstat(file).st_size:
                # In place, under the lock: a writer that has the file open must not write to one that was replaced.
                os.pwrite(file, kept, 0)
                os.ftruncate(file, len(kept))
    except Exception as error:
        logger.debug("the index of runs can't be compacted (%s)", error)


def _append(added: list[Entry]) -> None:
    path = index_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        # One write of O_APPEND: lines of several processes stay whole even where locks don't work.
        os.write(file, "".join(map(_line, added)).encode())


def _all() -> list[Entry]:
    """Every run, oldest first. What a sync has noted holds as long as the run has not started again."""
    found: dict[str, Entry] = {}
    for line in _lines():
        entry = _parse(line)
        if entry is not None:
            known = found.pop(entry.folder, entry)
            found[entry.folder] = known if entry.synced and entry.time != known.time else entry
    return sorted(found.values(), key=lambda entry: entry.time)


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


def _lines() -> list[str]:
    try:
        return index_path().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return []


def _line(entry: Entry) -> str:
    return json.dumps({name: value for name, value in asdict(entry).items() if value or name != "synced"}) + "\n"


def _parse(line: str) -> Entry | None:
    try:
        found = json.loads(line)
        fields = {name: found[name] for name in ("folder", "run_id", "project", "mode", "time")}
        return Entry(**fields, synced=found.get("synced", ""))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
