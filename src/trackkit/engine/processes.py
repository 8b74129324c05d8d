"""Identifies this process, and tells whether another one is still alive."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import psutil

Life = Literal["alive", "gone", "unknown"]

# The kernel may round the time of boot differently from one call to the next.
_SAME_S = 2.0


def process_fields() -> dict[str, Any]:
    """Returns what identifies this process in `run.json`.

    | field | what |
    |---|---|
    | `pid`, `host` | process id, host name |
    | `boot_id` | this boot of the machine; "" if it has no name |
    | `process_began` | on Linux clock ticks since boot, elsewhere Unix time in seconds: tells reused ids apart |
    """
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "process_began": _began(psutil.Process()),
    }


def process_life(run: Mapping[str, Any]) -> Life:
    """Returns whether the process that `run.json` names still lives.

    A process that ended but was not reaped is gone, and so is one whose id now belongs to another process. A process
    of another host is unknown.

    Args:
        run: fields as `process_fields` returns them; `process_began` may be missing.
    """
    if "pid" not in run or run.get("host") != socket.gethostname():
        return "unknown"
    if run.get("boot_id", "") != boot_id():
        return "gone"
    try:
        process = psutil.Process(int(run["pid"]))
        if process.status() == psutil.STATUS_ZOMBIE:
            return "gone"
        same = "process_began" not in run or abs(_began(process) - float(run["process_began"])) <= _SAME_S * _PER_S
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.AccessDenied:
        return "alive"
    except (ValueError, OverflowError):
        # No process has such an id.
        return "gone"
    return "alive" if same else "gone"


def boot_id() -> str:
    """Returns the name of this boot of the machine; "" if it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


_PER_S = os.sysconf("SC_CLK_TCK") if psutil.LINUX else 1


def _began(process: psutil.Process) -> float:
    """Returns when a process began, as `process_began` has it: ticks since boot don't change with the clock."""
    if not psutil.LINUX:
        return float(process.create_time())
    boot: float = psutil.boot_time()
    return round((float(process.create_time()) - boot) * _PER_S)
