"""Records runs, syncs them to the loopback server and compares what arrived."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support import warm
from tests.support.processes import clean_env
from tests.support.warm import Process, run_module, start_module
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment
from trackkit import read_run


def record(root: Path, run_id: str, first: int, last: int, *more: str) -> None:
    """Records a run offline in a process, its console by W&B's own capture; returns after its end."""
    process = start_recorder(root, run_id, first, last, *more)
    assert process.wait() == (-signal.SIGKILL if "kill" in more else 0), f"{process.stdout}\n{process.stderr}"


def start_recorder(root: Path, run_id: str, first: int, last: int, *more: str) -> Process:
    """Starts recording a run; see `recorder` for the arguments."""
    root.mkdir(exist_ok=True)
    env = clean_env(WANDB_CONSOLE="wrap_raw")
    return start_module("tests.support.recorder", [str(root), run_id, str(first), str(last), *more], root, env)


def start_sync(
    server: WandbServer, home: Path, *arguments: str | Path, fork_uploads: bool = True, **env: str
) -> Process:
    """Starts `trackkit sync`, with a training's W&B variables set: it must ignore them."""
    training = {"WANDB_MODE": "offline", "WANDB_PROJECT": "other", "WANDB_RUN_ID": "other", "WANDB_RESUME": "never"}
    surroundings = {**environment(server, home), **training, "COLUMNS": "200", **env}
    surroundings.pop("WANDB_DIR")
    return warm.start_sync(list(map(str, arguments)), home, surroundings, fork_uploads)


def finish_sync(process: Process, code: int) -> str:
    """Waits for a sync and checks its exit code; returns what it printed."""
    ended = process.wait()
    assert ended == code, f"ended with {ended}, not {code}\n{process.stdout}\n{process.stderr}"
    assert "Traceback" not in process.stderr, process.stderr
    return process.stdout + process.stderr


def sync(server: WandbServer, home: Path, *arguments: str | Path, code: int = 0, **env: str) -> str:
    """Runs `trackkit sync`; returns what it printed."""
    return finish_sync(start_sync(server, home, *arguments, fork_uploads=True, **env), code)


def plain_wandb_sync(server: WandbServer, home: Path, *paths: Path) -> None:
    """Runs W&B's own sync."""
    done = run_module("wandb", "beta", "sync", *map(str, paths), cwd=home, env=environment(server, home))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def row_of(text: str, run_id: str) -> list[str]:
    """Returns the cells of a run in the printed table."""
    found = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.startswith(f"{run_id} ")]
    assert len(found) == 1, text
    return found[0]


def assert_all_there(server: WandbServer, folder: Path, run_id: str) -> None:
    """Asserts that the server has every value of the local log once, nothing else, and no step twice."""
    key = lambda value: str(float(value))  # noqa: E731
    local: Counter[Any] = Counter()
    for row in read_run(folder).history:
        axis = "epoch/step" if "epoch/step" in row else "batch/step"
        local.update((axis, row[axis], name, key(value)) for name, value in row.items() if name[0] != "_")  # type: ignore[no-untyped-call]
    remote: Counter[Any] = Counter()
    for row in server.state.run(run_id).history:
        for axis in ("batch", "epoch"):
            if f"{axis}/step" in row:
                named = {name: value for name, value in row.items() if name.startswith(f"{axis}/")}
                remote.update((f"{axis}/step", row[f"{axis}/step"], name, key(v)) for name, v in named.items())  # type: ignore[no-untyped-call]
    assert remote == local
    steps = [row["_step"] for row in server.state.run(run_id).history]
    assert steps == sorted(set(steps))


def console(server: WandbServer, run_id: str) -> list[str]:
    """Returns the recorder's own lines."""
    found = [re.search(r"step \d+$", line) for line in server.state.run(run_id).console]
    return [match[0] for match in found if match]


def wandb_files(root: Path) -> list[Path]:
    """Returns the files of offline runs that TrackKit or the user's own W&B recorded in `root`."""
    return sorted(path for home in ("_trackkit/", "") for path in root.glob(f"{home}wandb/offline-run-*/run-*.wandb"))


def wait_for(condition: Any, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
