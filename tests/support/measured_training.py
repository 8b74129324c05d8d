"""Starts trainings of `measured` against a server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.local_log import LocalRun, local_run
from tests.support.processes import HANG_S, ROOT
from tests.support.warm import Process
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment


class Training(Process):
    """A training against a server, in the folder `home`. See `measured` for the arguments."""

    def __init__(
        self, server: WandbServer, home: Path, arguments: list[str], env: Mapping[str, str] | None = None
    ) -> None:
        more = {"TRACKKIT_INDEX": str(home / "index.jsonl"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        full = {**environment(server, home), **more, **(env or {})}
        given = {key: value for key, value in full.items() if value}
        super().__init__(home, "tests.support.measured:main", [arguments], given)

    def wait_at(self, step: int) -> None:
        """Waits until the training holds at a step."""
        deadline = time.monotonic() + HANG_S
        while not (self.home / f"at-{step}").exists():
            if (self.home / "code").exists() or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the training did not reach step {step}\n{self.stderr}")
            time.sleep(0.02)

    def release(self, step: int) -> None:
        """Lets a training that holds at a step continue."""
        (self.home / f"go-{step}").touch()

    def finish(self, code: int = 0) -> Training:
        """Waits for the end and checks the exit code."""
        ended = self.wait()
        assert ended == code, f"the training ended with {ended}, not {code}\n{self.stderr}"
        return self

    def kill(self) -> None:
        """Kills the training and W&B's own process."""
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)

    @property
    def lines(self) -> list[str]:
        """TrackKit's own lines on stderr."""
        return [line for line in self.stderr.splitlines() if line.startswith("trackkit: ")]

    @cached_property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "report.json").read_text())
        return found

    @property
    def local(self) -> LocalRun:
        return local_run(self.home)
