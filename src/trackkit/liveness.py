"""Whether the process that writes a run still lives."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

# A live run writes at least its system metrics every 15 s; a cluster's file system shows that late.
SILENT_S = 300.0
# In /proc/<pid>/stat, behind the program's name.
_BEGAN = 19

Life = Literal["alive", "gone", "unknown"]


def process_fields() -> dict[str, Any]:
    """What `run.json` says of this process, so that others can tell later whether it still lives.

    `process_began` is in clock ticks since the machine's boot: an id that was given away again has another.
    """
    fields = {"pid": os.getpid(), "host": socket.gethostname(), "boot_id": boot_id()}
    stat = _stat(os.getpid())
    return {**fields, "process_began": int(stat[_BEGAN])} if len(stat) > _BEGAN else fields


def process_life(run: Mapping[str, Any]) -> Life:
    """Of the process that `run.json` names; unknown where that is on another host, or it names none.

    A process id that now belongs to a younger process, or to one that has ended and is not reaped, is gone.
    """
    if "pid" not in run or run.get("host") != socket.gethostname():
        return "unknown"
    if run.get("boot_id", "") != boot_id():
        return "gone"
    pid = int(run["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "gone" if _is_another(pid, run) else "alive"
    return "gone" if _is_zombie(pid) or _is_another(pid, run) else "alive"


def is_elsewhere(run: Mapping[str, Any]) -> bool:
    """Whether another process of this machine is known to write the run at this moment."""
    writing = run.get("status") == "running" and "ended" not in run
    return writing and process_life(run) == "alive" and int(run["pid"]) != os.getpid()


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


def boot_id() -> str:
    """This boot of the machine; "" where it has no name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat behind the program's name: state first."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    return _stat(pid)[:1] == ["Z"]


def _is_another(pid: int, run: Mapping[str, Any]) -> bool:
    """Whether the id has been given away again: by when its process began."""
    stat = _stat(pid)
    return "process_began" in run and len(stat) > _BEGAN and int(stat[_BEGAN]) != int(run["process_began"])
