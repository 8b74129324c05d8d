"""Lets only one process at a time write a run, and tells others whether it still does."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from trackkit.engine.processes import process_life
from trackkit.local_log.reader import read_fields

# A live run writes at least its system metrics every 15 s; a cluster's file system shows that late.
SILENT_S = 300.0

# A forked child inherits the dictionary but not the locks: filelock closes the child's copies.
_claims: dict[Path, FileLock] = {}


def claim(folder: Path) -> bool:
    """Makes this process the only one that writes a run, until it releases the run's folder or ends.

    If the folder takes no lock file, or its file system has no locks, `run.json` says who writes.

    Returns:
        False if another process writes the run.
    """
    folder = folder.resolve()
    if folder in _claims and _claims[folder].is_locked:
        return True
    if not folder.is_dir():
        return True
    # A claim outlives the thread that made it. Soft locks of killed processes on other hosts would never end.
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return False
    except OSError:
        return not _is_written(folder)
    if _is_written(folder):
        lock.release()
        return False
    _claims[folder] = lock
    return True


def release(folder: Path) -> None:
    """Lets other processes write the run again."""
    lock = _claims.pop(folder.resolve(), None)
    if lock is not None:
        # The program may have closed all descriptors, and the lock with it.
        with contextlib.suppress(OSError):
            lock.release()


def is_open(path: Path) -> bool:
    """Returns whether a process has a file open; processes of other users can't be seen."""
    wanted = os.path.realpath(path)
    return any(wanted in _open_files(process) for process in psutil.process_iter())


def is_running(run: Mapping[str, Any], folder: Path, *files: Path) -> bool:
    """Returns whether a run is still being written; on another host, whether one of its files was written lately.

    Args:
        run: the fields of its `run.json`.
        folder: its folder.
        files: more files that it writes.
    """
    if run.get("status") != "running" or "ended" in run:
        return False
    life = process_life(run)
    if life != "unknown":
        return life == "alive"
    return is_fresh(folder / "rows.jsonl", *files)


def is_fresh(*files: Path) -> bool:
    """Returns whether one of these files was written in the last 5 minutes."""
    times = [path.stat().st_mtime for path in files if path.exists()]
    return time.time() - max(times, default=0.0) < SILENT_S


def _is_written(folder: Path) -> bool:
    """Returns whether `run.json` names another live process of this machine as the writer."""
    run = read_fields(folder)
    return run.get("pid") != os.getpid() and "ended" not in run and process_life(run) == "alive"


def _open_files(process: psutil.Process) -> set[str]:
    try:
        return {each.path for each in process.open_files()}
    except (psutil.Error, OSError):
        return set()
