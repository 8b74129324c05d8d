"""The warm parent: imports torch and the frameworks once and forks test programs, so that each starts in 0.1 s.

    python -m tests.support.warm_parent [bare]   # reads one JSON line for each program to start, see `warm.Process`

`bare` imports neither a framework nor TrackKit: only what both frameworks need, for tests of the order of imports.

A forked program ends as any Python program does, with its own exit code, signals and exit handlers.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import itertools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_CHILD_SUBREAPER = 36
# The last ones are imported by W&B and the frameworks when a training or a sync starts: W&B's own take a second.
IMPORTS = (
    "lightning.pytorch",
    "transformers.trainer",
    "transformers.integrations",
    "torch.distributed.run",
    "wandb",
    "trackkit.session.open",
    "trackkit.integrations.huggingface.adapter",
    "trackkit.integrations.lightning.adapter",
    "trackkit.integrations.wandb.sink",
    "trackkit.integrations.wandb.catch_up",
    "trackkit.settings.sources",
    "trackkit.cli.doctor",
    "trackkit.cli.sync",
    "trackkit.sync.job",
    "omegaconf",
    "requests",
    "torch.utils.serialization.config",
    "wandb.apis._generated.get_default_entity",
    "wandb.sdk.artifacts._generated.operations",
    "wandb.sdk.artifacts._models.pagination",
    "wandb.sdk.launch.inputs.internal",
)
BARE_IMPORTS = (
    "torch.distributed.fsdp",
    "torch.distributed.run",
    "torch._dynamo",
    "torch.utils.serialization.config",
    "scipy.signal",
    "sklearn.metrics",
    "accelerate",
    "jsonargparse",
    "omegaconf",
    "wandb",
    "wandb.sdk.launch.inputs.internal",
)


def serve(imports: Sequence[str]) -> None:
    """Forks a program for each line of stdin and writes its exit code to `code` in its folder, until stdin ends."""
    for name in imports:
        # Another version of W&B or torch may not have it; the programs import what they need themselves.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    folders = [each for each in gc.get_objects() if isinstance(each, tempfile.TemporaryDirectory)]
    # The garbage collector of a child leaves the parent's objects alone: that would copy their memory pages.
    gc.collect()
    gc.freeze()
    stdin, homes = sys.stdin.buffer, dict[int, str]()
    while True:
        if select.select([stdin], [], [], 0.005)[0]:
            line = os.read(stdin.fileno(), 1)
            if not line:
                return
            while not line.endswith(b"\n"):
                line += os.read(stdin.fileno(), 1)
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return become(order, folders)
            homes[pid] = order["home"]
        for pid in tuple(homes):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                write(f"{homes.pop(pid)}/code", str(os.waitstatus_to_exitcode(status)))


def become(order: dict[str, Any], folders: list[tempfile.TemporaryDirectory[str]]) -> None:
    """Turns this process into the program that `order` describes, with its own temporary folders."""
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    tempfile.tempdir = None
    for folder in folders:
        folder._finalizer.detach()  # type: ignore[attr-defined]  # noqa: SLF001 -- the folder is the parent's
        folder.__init__()  # type: ignore[misc]
    home = Path(order["home"])
    for target, path in enumerate((Path(os.devnull), home / "out.txt", home / "err.txt")):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, target)
        os.close(file)
    write(f"{home}/pid", str(os.getpid()))
    module, _, function = order["target"].partition(":")
    sys.argv = [f"{module.rpartition('.')[2]}.py"]
    getattr(importlib.import_module(module), function)(*order["arguments"])


def write(path: str, text: str) -> None:
    """Writes a file that appears with its whole content."""
    Path(f"{path}.part").write_text(text)
    os.replace(f"{path}.part", path)


def run_script(path: str, arguments: list[str]) -> None:
    """Runs a script file as `python path arguments...` does."""
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")


def run_module(name: str, arguments: list[str]) -> None:
    """Runs a module as `python -m name arguments...` does."""
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def run_torchrun(processes: int, path: str, arguments: list[str]) -> None:
    """Runs `torchrun` on a script file; torchrun's workers are forked too instead of started."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

    def start(_: Any, command: tuple[str, ...], env: dict[str, str]) -> Worker:
        return Worker(path, arguments, env)

    SubprocessHandler._popen = start  # type: ignore[assignment,method-assign]  # noqa: SLF001 -- torch has no public way to start workers
    run.main(["--standalone", f"--nproc_per_node={processes}", path, *arguments])


def run_spawning(path: str, arguments: list[str]) -> None:
    """Runs a script file; the processes it spawns are forked from a copy of this one that has run nothing yet.

    They get their work as spawned ones do: the script is imported again, and the arguments are unpickled.
    """
    from multiprocessing import context, forkserver, resource_tracker, spawn, util

    def start(_: Any, command: list[str], kept: Sequence[int]) -> int:
        pid = os.fork()
        if pid == 0:
            for first, last in itertools.pairwise([2, *sorted(kept), 1024]):
                os.closerange(first + 1, last)
            try:
                exec(command[-1], {})
            finally:
                os._exit(0)
        return pid

    describe, prepare, serve_one = spawn.get_preparation_data, spawn.prepare, forkserver._serve_one  # type: ignore[attr-defined]  # noqa: SLF001 -- as the next ones: Python has no public way

    def prepare_with_environment(data: Mapping[str, Any]) -> None:
        os.environ.clear()
        os.environ.update(data["environment"])
        prepare(data)

    spawn.get_preparation_data = lambda name: {**describe(name), "environment": dict(os.environ)}
    spawn.prepare = prepare_with_environment
    forkserver._serve_one = lambda *given: exit_after(lambda: sys.exit(serve_one(*given)))  # type: ignore[attr-defined]  # noqa: SLF001
    resource_tracker.ensure_running()
    started, util.spawnv_passfds = util.spawnv_passfds, start  # type: ignore[assignment]
    forkserver.set_forkserver_preload([])
    forkserver.ensure_running()
    util.spawnv_passfds = started
    context._concrete_contexts["spawn"] = context._concrete_contexts["forkserver"]  # type: ignore[attr-defined]  # noqa: SLF001
    run_script(path, arguments)


def run_sync(arguments: list[str]) -> None:
    """Runs `trackkit sync`, whose uploads are forked from a copy of this process that has run nothing yet.

    Their parent is this process all the same: what the copy forks is left by its own parent at once.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    orders, served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        orders.close()
        serve_uploads(served)
    served.close()

    class Upload(subprocess.Popen[Any]):
        """Starts an upload by the copy, and any other program as ever."""

        def _execute_child(self, command: list[str], *given: Any) -> None:
            if command[1:3] != ["-m", "trackkit.sync.upload"]:
                super()._execute_child(command, *given)  # type: ignore[misc]
                return
            env, pipes = given[5], given[9:15]
            files = [pipes[0], pipes[3], pipes[5]]
            socket.send_fds(orders, [json.dumps([command[3:], env]).encode()], files)
            self.pid = int(orders.recv(32))
            self._child_created = True
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    subprocess.Popen = Upload  # type: ignore[misc]
    run_module("trackkit.cli.main", ["sync", *arguments])


def serve_uploads(orders: socket.socket) -> NoReturn:
    """Forks an upload for each message, until the process that sends them ends."""
    while True:
        message, files, _, _ = socket.recv_fds(orders, 1 << 20, 3)
        if not message:
            os._exit(0)
        said, say = os.pipe()
        if (between := os.fork()) == 0:
            if os.fork() == 0:
                os.setsid()
                os.write(say, str(os.getpid()).encode())
                for target, file in enumerate(files):
                    os.dup2(file, target)
                os.closerange(3, 1024)
                arguments, env = json.loads(message)
                os.environ.clear()
                os.environ.update(env)
                exit_after(partial(run_module, "trackkit.sync.upload", arguments))
            os._exit(0)
        os.waitpid(between, 0)
        orders.send(os.read(said, 32))
        for file in (said, say, *files):
            os.close(file)


class Worker:
    """A forked worker of torchrun, with what torchrun uses of `subprocess.Popen`."""

    def __init__(self, path: str, arguments: list[str], env: dict[str, str]) -> None:
        self.args = (path, *arguments)
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.closerange(3, 1024)
            os.environ.clear()
            os.environ.update(env)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            exit_after(lambda: run_script(path, arguments))

    def poll(self) -> int | None:
        """Returns the exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Returns the exit code; raises TimeoutExpired after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.02)
        return code


def exit_after(program: Callable[[], None]) -> NoReturn:
    """Calls `program` and ends the process as Python does at the end of a script."""
    code: Any = 0
    try:
        program()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 -- as Python's own main program
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 -- as Python's own main program
    atexit._run_exitfuncs()  # noqa: SLF001 -- as Python's own main program
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(BARE_IMPORTS if sys.argv[1:] == ["bare"] else IMPORTS)
