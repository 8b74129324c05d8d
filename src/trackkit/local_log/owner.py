"""Who writes a run: whether that process still lives, and that it is the only one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trackkit.engine.processes import process_life

# A live run writes at least its system metrics every 15 s; a cluster's file system shows that late.
SILENT_S = 300.0
# W&B's process looks every second whether its program lives, and writes what it has every second.
LINGER_S = 3.0

_claims: dict[Path, int] = {}


def _forget_claims() -> None:
    """A forked process writes none of its parent's runs: its copies of the locks would outlive the parent."""
    for file in _claims.values():
        with contextlib.suppress(OSError):
            os.close(file)
    _claims.clear()


os.register_at_fork(after_in_child=_forget_claims)


def claim(folder: Path) -> bool:
    """Makes this process the only one that writes a run, until it releases the run's folder or ends.

    A folder that takes no file refuses nobody. Where the file system knows no locks, `run.json` says who writes.

    Returns:
        Whether no other process has claimed it.
    """
    folder = folder.resolve()
    if folder in _claims:
        return True
    try:
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return True
    try:
        # Of this open file: a lock of the process is gone as soon as it closes any other that it has read the file by.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = _is_written(folder)
    except (BlockingIOError, PermissionError):
        taken = True
    except OSError:
        taken = _is_written(folder)
    if taken:
        os.close(file)
        return False
    _claims[folder] = file
    return True


def _is_written(folder: Path) -> bool:
    """Whether another process of this machine says that it is writing the run, and lives."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(run, dict) or run.get("pid") == os.getpid():
        return False
    return "ended" not in run and process_life(run) == "alive"


def release(folder: Path) -> None:
    """Others may write the run again."""
    file = _claims.pop(folder.resolve(), None)
    if file is not None:
        os.close(file)


def is_open(path: Path) -> bool:
    """Whether a process of this machine has a file open; where that can't be seen, whether it was just written."""
    if not os.path.isdir("/proc/self/fd"):
        return 0 <= time.time() - path.stat().st_mtime < LINGER_S
    wanted = str(path.resolve())
    return any(wanted in _open_files(each) for each in os.listdir("/proc") if each.isdigit())


def is_running(run: Mapping[str, Any], folder: Path, *files: Path) -> bool:
    """Whether a run is still being written. On another host: whether one of its files was written lately.

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
    """Whether one of these files was written lately."""
    times = [path.stat().st_mtime for path in files if path.exists()]
    return time.time() - max(times, default=0.0) < SILENT_S


def _open_files(pid: str) -> set[str]:
    folder, found = f"/proc/{pid}/fd", set()
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"{folder}/{name}"))
    return found
