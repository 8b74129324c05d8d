"""Runs a real client in a separate process, so that neither its environment nor wandb-core outlives a test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .server import WandbServer


def environment(server: WandbServer, home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns this process's environment, with W&B's variables set for the server and without proxies."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("WANDB_") and not key.lower().endswith("_proxy")
    }
    return {**kept, "HOME": str(home), **server.env(home), **(extra or {})}


def start(
    server: WandbServer,
    home: Path,
    command: str | Sequence[str],
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Starts Python code (a string) or a command (a list) in `home`, in its own process group."""
    arguments = [sys.executable, "-c", command] if isinstance(command, str) else list(command)
    return subprocess.Popen(
        arguments,
        cwd=home,
        env=environment(server, home, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a client; its wandb-core ends within two seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def finish(process: subprocess.Popen[str], timeout: float = 300.0, code: int | None = 0) -> str:
    """Waits for a client and checks its exit code (None: any); returns its stdout."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the client did not end in {timeout} s\n{out}\n{err}") from None
    if code is not None and process.returncode != code:
        raise AssertionError(f"the client ended with {process.returncode}, not {code}\n{out}\n{err}")
    return out


def run(
    server: WandbServer,
    home: Path,
    command: str | Sequence[str],
    timeout: float = 300.0,
    env: Mapping[str, str] | None = None,
    code: int | None = 0,
) -> str:
    """Starts a client and waits for it; see `finish`."""
    return finish(start(server, home, command, env), timeout, code)
