"""Starts trainings of `doomed` in processes of their own, forked from one that has imported everything: 0.1 s each."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.doomed import Task, main
from tests.support.processes import HANG_S, ROOT, clean_env

_lock = threading.Lock()
_parents: list[subprocess.Popen[str]] = []


class Program:
    """A training in the folder `home`: its output is in `out.txt` and `err.txt` there, its exit code in `code`."""

    def __init__(self, home: Path, task: Task, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        for name in ("pid", "code"):
            (home / name).unlink(missing_ok=True)
        surroundings = {"WANDB_MODE": "offline", "TRACKKIT_INDEX": str(home / "index.jsonl"), **(env or {})}
        order = {"home": str(home), "env": surroundings, "task": dataclasses.asdict(task)}
        with _lock:
            if not _parents:
                command = [sys.executable, "-m", "tests.support.warm"]
                # A group of its own: a Ctrl-C that one training gets is nobody else's.
                more: dict[str, Any] = {"start_new_session": True, "text": True, "stdin": subprocess.PIPE}
                _parents.append(subprocess.Popen(command, cwd=ROOT, env=clean_env(), **more))
                atexit.register(_parents[0].kill)
            pipe = _parents[0].stdin
            assert pipe is not None
            pipe.write(json.dumps(order) + "\n")
            pipe.flush()

    def wait(self, timeout: float = HANG_S) -> int:
        """Its exit code; negative for a signal."""
        try:
            return int(self._await("code", timeout))
        except TimeoutError:
            self.kill()
            raise

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def pid(self) -> int:
        return int(self._await("pid", HANG_S))

    @property
    def steps(self) -> int:
        """How many steps its optimizer has finished, over all passes."""
        path = self.home / "truth"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    @property
    def stderr(self) -> str:
        return (self.home / "err.txt").read_text(encoding="utf-8", errors="replace")

    def wait_for_step(self, steps: int, timeout: float = HANG_S) -> None:
        """Waits until so many steps are finished, or the program has ended."""
        deadline = time.monotonic() + timeout
        while self.steps < steps and not (self.home / "code").exists():
            assert time.monotonic() < deadline, self.stderr
            time.sleep(0.002)

    def _await(self, name: str, timeout: float) -> str:
        path, deadline = self.home / name, time.monotonic() + timeout
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no '{name}' within {timeout} s")
            time.sleep(0.005)
        return path.read_text()


def last_checkpoint(home: Path) -> str:
    """The checkpoint that was saved last; "" where there is none."""
    path = home / "saved"
    return path.read_text().splitlines()[-1] if path.exists() else ""


def _child(order: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(order["home"])
    os.environ.update(order["env"])
    for target, name in enumerate((os.devnull, "out.txt", "err.txt")):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, target)
        os.close(file)
    _write("pid", str(os.getpid()))
    main(Task(**order["task"]))


def _write(path: str, text: str) -> None:
    Path(f"{path}.part").write_text(text)
    os.replace(f"{path}.part", path)


def _serve() -> None:
    for name in (
        "lightning.pytorch",
        "transformers.trainer",
        "transformers.integrations",
        "wandb",
        "trackkit.session.open",
    ):
        importlib.import_module(name)
    running: dict[int, str] = {}
    while True:
        if select.select([0], [], [], 0.005)[0]:
            line = sys.stdin.buffer.raw.readline()  # type: ignore[attr-defined]
            if not line:
                return
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return _child(order)
            running[pid] = order["home"]
        for pid, home in tuple(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[pid]
                _write(f"{home}/code", str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _serve()
