"""Runs a real client in a separate process, so that neither its environment nor wandb-core outlives a test.

The processes are forked from one that has imported W&B, which takes two seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.warm import Process, start_module, start_script

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
    server: WandbServer, home: Path, command: str | Sequence[str], env: Mapping[str, str] | None = None
) -> Process:
    """Starts Python code (a string, or `-c` with arguments) or a module (`-m` with arguments) in `home`."""
    given = ["-c", command] if isinstance(command, str) else list(command)
    start_it = {"-c": start_script, "-m": start_module}[given[0]]
    return start_it(given[1], given[2:], home, environment(server, home, env))


def kill(process: Process) -> None:
    """Kills a client; its wandb-core ends within two seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(process: Process, code: int | None = 0) -> str:
    """Waits for a client and checks its exit code (None: any); returns its stdout."""
    ended = process.wait()
    if code is not None and ended != code:
        raise AssertionError(f"the client ended with {ended}, not {code}\n{process.stdout}\n{process.stderr}")
    return process.stdout


def run(
    server: WandbServer,
    home: Path,
    command: str | Sequence[str],
    env: Mapping[str, str] | None = None,
    code: int | None = 0,
) -> str:
    """Starts a client and waits for it; see `finish`."""
    return finish(start(server, home, command, env), code)
