"""Trainings in processes of their own, forked from one interpreter that has imported torch and the frameworks already.

    python -m tests.support.forks    # reads one JSON line for each process to start: cwd, env, arguments

The process runs `tests.support.measured` in its folder; its output is in `out.txt` and `err.txt`, its exit code in
`code`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.local_log import LocalRun, local_run
from tests.support.processes import HANG_S, ROOT, clean_env
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment


class Forks:
    """The interpreter that trainings are forked from. It ends with this process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.forks"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=clean_env(), stdin=subprocess.PIPE, text=True)
        atexit.register(self._process.kill)

    def start(self, cwd: Path, env: Mapping[str, str], arguments: list[str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cwd": str(cwd), "env": dict(env), "arguments": arguments}) + "\n")
        self._process.stdin.flush()


_forks: list[Forks] = []


@dataclass
class Training:
    """One training against a server, in the folder `home`. See `measured` for the arguments."""

    server: WandbServer
    home: Path
    arguments: list[str]
    env: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> Training:
        self.home.mkdir(parents=True, exist_ok=True)
        more = {"TRACKKIT_INDEX": str(self.home / "index.jsonl"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        env = {**environment(self.server, self.home), **more, **self.env}
        if not _forks:
            _forks.append(Forks())
        _forks[0].start(self.home, {key: value for key, value in env.items() if value}, self.arguments)
        return self

    def wait_at(self, step: int) -> None:
        """Until the training holds at a step."""
        self._wait_for(f"at-{step}", HANG_S)

    def release(self, step: int) -> None:
        (self.home / f"go-{step}").touch()

    def finish(self, timeout: float = HANG_S, code: int = 0) -> Training:
        self._wait_for("code", timeout)
        ended = int((self.home / "code").read_text())
        assert ended == code, f"the training ended with {ended}, not {code}\n{self.stderr}"
        return self

    def kill(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((self.home / "pid").read_text()), signal.SIGKILL)

    @property
    def stderr(self) -> str:
        """Everything it printed on stderr."""
        return (self.home / "err.txt").read_text(encoding="utf-8")

    @property
    def lines(self) -> list[str]:
        """TrackKit's own lines."""
        return [line for line in self.stderr.splitlines() if line.startswith("trackkit: ")]

    @cached_property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "report.json").read_text())
        return found

    @property
    def local(self) -> LocalRun:
        return local_run(self.home)

    def _wait_for(self, name: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not (self.home / name).exists():
            ended = name != "code" and (self.home / "code").exists()
            if ended or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"no '{name}' in {timeout} s\n{self.stderr}")
            time.sleep(0.02)


def child(task: dict[str, Any]) -> None:
    """Becomes the process that the task describes."""
    os.setsid()
    os.chdir(task["cwd"])
    Path("pid").write_text(str(os.getpid()))
    os.environ.clear()
    os.environ.update(task["env"])
    tempfile.tempdir = None
    null, out, err = (
        os.open(os.devnull, os.O_RDONLY),
        *(os.open(n, os.O_WRONLY | os.O_CREAT) for n in ("out.txt", "err.txt")),
    )
    for target, source in enumerate((null, out, err)):
        os.dup2(source, target)
        os.close(source)
    from tests.support.measured import main as train

    code = 0
    try:
        train(task["arguments"])
    except BaseException:
        traceback.print_exc()
        code = 1
    # A program's exit, but for taking all of torch apart, which costs every test two seconds.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def serve() -> None:
    """Starts what is asked for, and notes how it ended; ends with its caller, but for trainings that still run."""
    for name in ("lightning.pytorch", "transformers.trainer", "transformers.integrations"):
        importlib.import_module(name)

    assert "wandb" not in sys.modules
    running: dict[int, str] = {}
    while True:
        if select.select([0], [], [], 0.02)[0]:
            line = sys.stdin.buffer.raw.readline()  # type: ignore[attr-defined]
            if not line:
                return
            task = json.loads(line)
            pid = os.fork()
            if pid == 0:
                child(task)
                return
            running[pid] = task["cwd"]
        for pid, cwd in tuple(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[pid]
                Path(cwd, "code.part").write_text(str(os.waitstatus_to_exitcode(status)))
                Path(cwd, "code.part").rename(Path(cwd, "code"))


if __name__ == "__main__":
    serve()
