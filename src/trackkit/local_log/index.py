"""The user's list of runs, where `trackkit sync` finds what was not uploaded: one JSON line per start of a run.

A sync that found all of a run on a server adds the run's line again, with that server in it. The list is
`$TRACKKIT_INDEX`; else it is in `$WANDB_DIR`, if that is set, so that nothing is written to the home folder; else in
`$XDG_STATE_HOME/trackkit`, by default `~/.local/state/trackkit`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from trackkit.local_log.private import is_private, make_folder, opener, temporary_folder
from trackkit.local_log.regular import parse_json
from trackkit.notices import logger

NAME = "trackkit-runs.jsonl"
# Whoever holds the lock needs it for milliseconds.
_LOCK_S = 5.0


@dataclass(frozen=True)
class Entry:
    """A run that was started.

    Attributes:
        folder: its run folder, absolute.
        run_id, project, mode: of the run; `mode` as it was asked for.
        time: of the start, Unix time in seconds.
        synced: the server that had all of it at the last sync; "" if none had.
    """

    folder: str
    run_id: str
    project: str = ""
    mode: str = ""
    time: float = 0.0
    synced: str = ""


def index_path() -> Path:
    """Returns the path of the list.

    Raises:
        RuntimeError: it belongs in the home folder, and the user has none.
    """
    if given := os.environ.get("TRACKKIT_INDEX"):
        return Path(given).expanduser()
    if wandb_dir := os.environ.get("WANDB_DIR"):
        return Path(wandb_dir).expanduser() / NAME
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "trackkit" / "runs.jsonl"


def state_folders() -> list[Path]:
    """Returns the folders that may hold the user's state, best first: the list's own, a private temporary one."""
    temporary = temporary_folder()
    with suppress(OSError):
        temporary.mkdir(mode=0o700)
    safe = [temporary] if is_private(temporary) else []
    try:
        return [index_path().parent, *safe]
    except RuntimeError:
        return safe


def remember(folder: Path, run_id: str, project: str | None, mode: str) -> None:
    """Adds a run that starts. Never fails: a run that is not listed can still be synced by its folder."""
    try:
        _append([Entry(str(folder.absolute()), run_id, project or "", mode, round(time.time(), 3))])
    except Exception as error:  # noqa: BLE001 -- never fails
        logger.debug("cannot write the list of runs (%s): 'trackkit sync' needs this run's folder", error)


def mark(synced: Iterable[Entry], server: str) -> None:
    """Notes that a server has all of these runs, as they were when their entries were read. Never fails."""
    try:
        _append([replace(entry, synced=server) for entry in synced if entry.synced != server])
    except Exception as error:  # noqa: BLE001 -- never fails
        logger.debug("cannot write the list of runs (%s): runs that are on the server stay listed", error)


def entries() -> list[Entry]:
    """Returns the newest start of each run, oldest first; runs whose folder does not exist are left out.

    What a sync noted holds until the run is started again.
    """
    found: dict[str, Entry] = {}
    for line in _lines():
        entry = _parse(line)
        if entry is not None and os.path.isdir(entry.folder):
            known = found.pop(entry.folder, entry)
            found[entry.folder] = known if entry.synced and entry.time != known.time else entry
    return sorted(found.values(), key=lambda entry: entry.time)


def compact() -> None:
    """Drops runs whose folder does not exist, and lines that are damaged or repeated. Never fails."""
    try:
        path = index_path()
        if not path.is_file():
            return
        with _lock(path, 0.0):
            kept = "".join(map(_line, entries())).encode()
            if len(kept) < path.stat().st_size:
                spare = path.with_name(f".{path.name}.{os.getpid()}")
                with open(spare, "wb", opener=opener) as file:
                    file.write(kept)
                spare.chmod(path.stat().st_mode & 0o777)
                os.replace(spare, path)
    except Exception as error:  # noqa: BLE001 -- never fails
        logger.debug("cannot compact the list of runs (%s)", error)


def _append(added: list[Entry]) -> None:
    path = index_path()
    make_folder(path.parent)
    with ExitStack() as stack:
        # Where locks don't work, lines of several processes still stay whole: each is one O_APPEND write.
        with suppress(OSError):
            stack.enter_context(_lock(path, _LOCK_S))
        file = opener(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, "".join(map(_line, added)).encode())
        finally:
            os.close(file)


def _lock(path: Path, timeout_s: float) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout_s, poll_interval=0.01, fallback_to_soft=False)


def _lines() -> list[str]:
    try:
        return index_path().read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):
        return []


def _line(entry: Entry) -> str:
    return json.dumps({name: value for name, value in asdict(entry).items() if value or name != "synced"}) + "\n"


def _parse(line: str) -> Entry | None:
    try:
        found = parse_json(line)
        words = {name: str(found[name]) for name in ("folder", "run_id", "project", "mode")}
        return Entry(**words, time=float(found["time"]), synced=str(found.get("synced", "")))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
