"""Uploads a transaction log with W&B's own `wandb beta sync`, in a watched process.

python -m trackkit.sync.upload LOG [--live]    # that process: it ends with the one that has started it
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trackkit.integrations.wandb import _compat
from trackkit.sync.server_run import Server, ServerError

# A run's own settings must not change where an upload goes.
_NOT_FOR_UPLOADS = re.compile(
    r"WANDB_(MODE|SILENT|QUIET|ENTITY|PROJECT|NAME|NOTES|TAGS|DIR|JOB_TYPE|RESUME|RUN_\w+|SWEEP_\w+)"
)


def require_wandb() -> None:
    """Checks that the installed wandb can upload what it did not write itself.

    Raises:
        ServerError: it is too old.
    """
    if not _compat.resumes_from_files():
        import wandb

        raise ServerError(
            f"`trackkit sync` needs a newer wandb than the installed {wandb.__version__}: run `pip install -U wandb`. "
            "Nothing was uploaded."
        )


def upload(path: Path, server: Server, tick: Callable[[], None] | None = None) -> None:
    """Uploads a transaction log.

    Args:
        path: of the log.
        server: where to.
        tick: called every half second while the log still grows; the upload ends with the run's end in the log.

    Raises:
        ServerError: the upload failed, or the server was silent for longer than its patience.
    """
    kept = {name: value for name, value in os.environ.items() if not _NOT_FOR_UPLOADS.fullmatch(name)}
    process = subprocess.Popen(
        [sys.executable, "-m", "trackkit.sync.upload", str(path), *(["--live"] if tick is not None else [])],
        env={**kept, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": str(server.key)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        _watch(process, server, tick or (lambda: None))
        reader.join(5.0)
    finally:
        _end(process)
    # W&B's exit code is 0 whatever happens; it leaves this marker if it believes to have sent everything.
    if not path.with_suffix(".wandb.synced").exists():
        said = [line.strip() for line in lines if line.strip()]
        errors = [line.removeprefix("wandb: ERROR ") for line in said if "ERROR" in line] or said[-3:]
        raise ServerError(f"`wandb beta sync` failed: {' / '.join(errors)[:500]}")


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
            # In a thread: a probe of a server that hangs would hold up what follows a growing log.
            threading.Thread(target=lambda: troubles.put(server.trouble()), daemon=True).start()
        while not troubles.empty():
            trouble = troubles.get()
            silent_since = None if not trouble else silent_since or now
            if silent_since is not None and now - silent_since >= server.patience:
                raise ServerError(trouble)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends an upload and every process that it has started: one that was left would upload unseen."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def main(log: str, *more: str) -> None:
    """Runs W&B's uploader in this process, until it or the process that has started this one ends."""

    def end_with_parent() -> None:
        sys.stdin.read()
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.argv = ["wandb", "beta", "sync", log, "--no-skip-synced", *more]
    runpy.run_module("wandb", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
