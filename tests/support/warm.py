"""Starts programs as forks of one warm parent that has imported torch, the frameworks and W&B: 0.1 s each."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.doomed import Task
from tests.support.processes import HANG_S, ROOT, clean_env

_lock = threading.Lock()
_parents: dict[bool, subprocess.Popen[str]] = {}
_homes: list[tempfile.TemporaryDirectory[str]] = []


class Process:
    """A forked program in the folder `home`.

    Attributes:
        home: holds `pid`, `out.txt`, `err.txt` and, once the program has ended, `code`.
        target: `module:function` to call, with `arguments`.
        env: its whole environment.
        cwd: its working directory; `home` if None.
        bare: whether to fork from a parent that has imported neither a framework nor TrackKit.
    """

    def __init__(
        self,
        home: Path,
        target: str,
        arguments: list[Any],
        env: Mapping[str, str],
        cwd: Path | None = None,
        bare: bool = False,
    ) -> None:
        self.home, self.target = home, target
        home.mkdir(parents=True, exist_ok=True)
        for name in ("pid", "code"):
            (home / name).unlink(missing_ok=True)
        order = {"home": str(home), "cwd": str(cwd or home), "env": dict(env), "target": target, "arguments": arguments}
        with _lock:
            pipe = _parent(bare).stdin
            assert pipe is not None
            pipe.write(json.dumps(order) + "\n")
            pipe.flush()

    def wait(self, timeout: float = HANG_S) -> int:
        """Returns the exit code, negative for a signal. Kills the program after `timeout` seconds."""
        try:
            return int(self._await("code", timeout))
        except TimeoutError:
            self.kill()
            raise

    def poll(self) -> int | None:
        """Returns the exit code; None while the program runs."""
        path = self.home / "code"
        return int(path.read_text()) if path.exists() else None

    def complete(self, timeout: float = HANG_S) -> subprocess.CompletedProcess[str]:
        """Waits for the end; returns what `subprocess.run` would."""
        code = self.wait(timeout)
        return subprocess.CompletedProcess([self.target], code, self.stdout, self.stderr)

    def send_signal(self, number: int) -> None:
        """Sends a signal to the program; does nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the program; does nothing if it has ended."""
        self.send_signal(signal.SIGKILL)

    @property
    def pid(self) -> int:
        return int(self._await("pid", HANG_S))

    @property
    def stdout(self) -> str:
        return (self.home / "out.txt").read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return (self.home / "err.txt").read_text(encoding="utf-8", errors="replace")

    def _await(self, name: str, timeout: float) -> str:
        path, deadline = self.home / name, time.monotonic() + timeout
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no file '{name}' within {timeout} s")
            time.sleep(0.005)
        return path.read_text()


class Program(Process):
    """A training of `doomed`, recorded offline unless `env` says otherwise."""

    def __init__(self, home: Path, task: Task, env: Mapping[str, str] | None = None) -> None:
        more = {"TRACKKIT_INDEX": str(home / "index.jsonl"), **(env or {})}
        super().__init__(home, "tests.support.doomed:run", [dataclasses.asdict(task)], clean_env(**more))

    @property
    def steps(self) -> int:
        """The number of steps its optimizer has finished, over all attempts."""
        path = self.home / "truth"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def wait_for_step(self, step: int, timeout: float = HANG_S) -> None:
        """Waits until the step is finished or the program has ended."""
        deadline = time.monotonic() + timeout
        while self.steps < step and not (self.home / "code").exists():
            assert time.monotonic() < deadline, self.stderr
            time.sleep(0.002)


def last_checkpoint(home: Path) -> str:
    """Returns the checkpoint that was saved last; "" if there is none."""
    path = home / "saved"
    return path.read_text().splitlines()[-1] if path.exists() else ""


def start_script(
    script: Path | str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None
) -> Process:
    """Starts a script file, or code given as text, as `python script arguments...` does."""
    home = _new_home()
    return _start(home, "run_script", [_file(script, home), list(arguments)], cwd, env)


def start_module(name: str, arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Process:
    """Starts a module as `python -m name arguments...` does."""
    return _start(_new_home(), "run_module", [name, list(arguments)], cwd, env)


def start_sync(arguments: Sequence[str], cwd: Path, env: Mapping[str, str], fork_uploads: bool = True) -> Process:
    """Starts `trackkit sync arguments...`, with its uploads forked too where that is possible."""
    if fork_uploads and sys.platform == "linux":
        return _start(_new_home(), "run_sync", [list(arguments)], cwd, env)
    return start_module("trackkit.cli.main", ["sync", *arguments], cwd, env)


def run_sync(*arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs `trackkit sync arguments...` to its end."""
    return start_sync(arguments, cwd, env).complete()


def run_script(
    script: Path | str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script that imports a framework to its end. See `processes.run_python`."""
    return start_script(script, arguments, cwd, env).complete()


def run_module(
    name: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a module to its end."""
    return start_module(name, arguments, cwd, env).complete()


def run_torchrun(
    script: Path, *arguments: str, cwd: Path, processes: int = 2, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script file under torchrun, in `processes` gloo processes of one node."""
    return _start(_new_home(), "run_torchrun", [processes, str(script), list(arguments)], cwd, env).complete()


def run_bare(script: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs code for which it matters when a framework and TrackKit are imported; nothing has imported them yet."""
    home = _new_home()
    return _start(home, "run_script", [_file(script, home), []], cwd, env, bare=True).complete()


def run_spawning(
    script: Path, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a script file that spawns processes by `multiprocessing`, which are forked instead."""
    return _start(_new_home(), "run_spawning", [str(script), list(arguments)], cwd, env).complete()


def _start(
    home: Path, function: str, arguments: list[Any], cwd: Path, env: Mapping[str, str] | None, bare: bool = False
) -> Process:
    target = f"tests.support.warm_parent:{function}"
    return Process(home, target, arguments, clean_env() if env is None else env, cwd, bare)


def _new_home() -> Path:
    """Returns a new folder for the files of a process, which may not lie in its working directory."""
    if not _homes:
        _homes.append(tempfile.TemporaryDirectory(prefix="warm-", ignore_cleanup_errors=True))
    return Path(tempfile.mkdtemp(dir=_homes[0].name))


def _file(script: Path | str, home: Path) -> str:
    if isinstance(script, Path):
        return str(script)
    path = home / "script.py"
    path.write_text(script)
    return str(path)


def _parent(bare: bool) -> subprocess.Popen[str]:
    """Returns a warm parent; starts it at the first call. It ends with this process."""
    if bare not in _parents:
        command = [sys.executable, "-m", "tests.support.warm_parent", *(["bare"] if bare else [])]
        # In a session of its own, so that a Ctrl-C sent to one program reaches no other.
        given: dict[str, Any] = {"start_new_session": True, "text": True, "stdin": subprocess.PIPE}
        _parents[bare] = subprocess.Popen(command, cwd=ROOT, env=clean_env(), **given)
        atexit.register(_parents[bare].kill)
    return _parents[bare]
