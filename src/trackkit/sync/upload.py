"""Runs the clients that bring a run to a server, each in a process of its own that is watched.

Transaction logs are uploaded by W&B's own `wandb beta sync`; what no file of W&B's has is added by `complete`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from trackkit.sync.server_run import Server, ServerError

# A run's own settings must not change where an upload goes.
_NOT_FOR_UPLOADS = re.compile(
    r"WANDB_(MODE|SILENT|QUIET|ENTITY|PROJECT|NAME|NOTES|TAGS|DIR|JOB_TYPE|RESUME|RUN_\w+|SWEEP_\w+)"
)


def upload(
    path: Path, server: Server, locks: Sequence[int], live: bool = False, tick: Callable[[], None] = lambda: None
) -> None:
    """Uploads one transaction log.

    Args:
        path: of the file.
        server: where to.
        locks: file descriptors of the run's locks, which the upload holds for as long as it lives.
        live: whether the file still grows; the upload ends with the run's end in the file.
        tick: called every half second.

    Raises:
        ServerError: it could not be uploaded.
    """
    command = [
        sys.executable,
        "-m",
        "wandb",
        "beta",
        "sync",
        str(path),
        "--no-skip-synced",
        # A run that was recorded online, and whose server went away.
        "--no-skip-online",
        *(["--live"] if live else []),
    ]
    marker = path.with_suffix(".wandb.synced")
    marker.unlink(missing_ok=True)
    said = run_watched(command, server, locks, tick)
    # W&B's own exit code is 0 whatever happens; the marker is its word for an end.
    if not marker.exists():
        errors = [line.removeprefix("wandb: ERROR ") for line in said if "ERROR" in line] or said[-3:]
        raise ServerError(f"'wandb sync' must end with a whole upload, and said: {' / '.join(errors)[:500]}")


def run_watched(
    command: Sequence[str], server: Server, locks: Sequence[int], tick: Callable[[], None] = lambda: None
) -> list[str]:
    """Runs a W&B client until it ends; gives the lines that it printed.

    It lives in a process group of its own, which ends with this call whatever happens.

    Raises:
        ServerError: the server was silent for longer than its patience.
    """
    process = subprocess.Popen(
        command,
        env=_environment(server),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=locks,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(_printed(process)), daemon=True)
    reader.start()
    try:
        _watch(process, server, tick)
        reader.join(5.0)
        return lines
    finally:
        _end(process)


def _watch(process: subprocess.Popen[str], server: Server, tick: Callable[[], None]) -> None:
    silent_since: float | None = None
    troubles: queue.SimpleQueue[str] = queue.SimpleQueue()
    next_probe = time.monotonic() + server.probe_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            return
        server.check_stopped()
        tick()
        now = time.monotonic()
        if now > next_probe:
            next_probe = now + server.probe_s
            # Not in this thread: a probe of a server that hangs would hold up what follows a growing file.
            threading.Thread(target=lambda: troubles.put(server.trouble()), daemon=True).start()
        while not troubles.empty():
            trouble = troubles.get()
            silent_since = None if not trouble else silent_since or now
            if silent_since is not None and now - silent_since >= server.patience:
                raise ServerError(trouble)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a client and all that it has started: what went on would upload behind our back."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _printed(process: subprocess.Popen[str]) -> Iterable[str]:
    assert process.stdout is not None
    return [line.strip() for line in process.stdout if line.strip()]


def _environment(server: Server) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _NOT_FOR_UPLOADS.fullmatch(name)}
    return {**kept, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": str(server.key)}


def complete(task: dict[str, Any], server: Server, locks: Sequence[int]) -> None:
    """Runs `complete` on a task.

    Raises:
        ServerError: it failed.
    """
    path = Path(task["folder"]) / "task.json"
    path.write_text(json.dumps(task, default=str), encoding="utf-8")
    said = run_watched([sys.executable, "-m", "trackkit.sync.complete", str(path)], server, locks)
    if not (path.parent / "done").exists():
        raise ServerError(f"completing the run from the local log failed: {' / '.join(said[-3:])[:500]}")
