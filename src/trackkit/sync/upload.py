"""Uploads a transaction log with W&B's own `wandb beta sync`, in a watched process.

python -m trackkit.sync.upload LOG [--live]    # that process; it ends when the process that started it ends
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from trackkit.integrations.wandb import _compat
from trackkit.sync.server_run import Server, ServerError

# A run's own settings must not change where an upload goes.
_NOT_FOR_UPLOADS = re.compile(
    r"WANDB_(MODE|SILENT|QUIET|ENTITY|PROJECT|NAME|NOTES|TAGS|DIR|JOB_TYPE|RESUME|RUN_\w+|SWEEP_\w+)"
)


def require_wandb() -> None:
    """Checks that the installed wandb can upload files that it did not write itself.

    Raises:
        ServerError: wandb is too old.
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
        path: path of the log.
        server: the server to upload to.
        tick: called every half second while the log still grows; the upload ends when the log has the run's end.

    Raises:
        ServerError: the upload failed, or the server was silent for longer than its patience.
    """
    kept = {name: value for name, value in os.environ.items() if not _NOT_FOR_UPLOADS.fullmatch(name)}
    output = path.with_name("output.txt")
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "trackkit.sync.upload", str(path), *(["--live"] if tick is not None else [])],
            env={**kept, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": str(server.key)},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def has_ended(seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.returncode is not None

    try:
        server.watch(has_ended, tick or (lambda: None))
    finally:
        _end(process)
    # W&B's exit code is always 0; it writes this marker file once it has sent everything, as far as it knows.
    if not path.with_suffix(".wandb.synced").exists():
        said = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line.removeprefix("wandb: ERROR ") for line in said if "ERROR" in line] or said[-3:]
        raise ServerError(f"`wandb beta sync` failed: {' / '.join(errors)[:500]}. Run the same command again.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills an upload and every process that it has started, so that none goes on uploading."""
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
