"""Trains and reports what TrackKit did meanwhile, for tests of outages.

    python -m tests.support.measured FRAMEWORK [--mode M] [--epochs N] [--pause S] [--hold STEP ...] [--bare]

Takes 24 steps an epoch, with a row for each. At each step of `--hold` it creates the file `at-STEP` and waits for the
file `go-STEP`. `--patch` is Python code to run before the training. Writes `report.json`:

- `begin_s`, `end_s`, `hooks`: seconds spent in the first hooks, at the end, and in the longest other hooks. Times in
  which other programs had the processors do not count, except in `end_s`;
- `sockets`: the socket calls of the training thread between the first step and the last;
- `sockets_elsewhere`: the number of socket calls of all threads;
- `weights`: a digest of the trained weights.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trackkit
from tests.support.processes import HANG_S
from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit
from trackkit.integrations import guard
from trackkit.integrations.lightning import wiring

BEGIN = ("setup", "on_train_start", "on_train_begin", "on_init_end")
END = ("on_train_end", "on_fit_end", "teardown")
CALLS = ("connect", "send", "sendall", "sendto", "sendmsg", "recv", "recv_into", "recvfrom")


class Pace:
    """Pauses at every step and waits at the given ones."""

    def __init__(self, pause: float, holds: list[int]) -> None:
        self._pause, self._holds = pause, holds
        self.training = False

    def of(self, framework: str) -> Pace:
        """Makes this a callback of one framework; imports no other framework."""
        if framework == "lightning":
            from lightning.pytorch import Callback as Base
        else:
            from transformers import TrainerCallback as Base  # type: ignore[assignment]
        self.__class__ = type("Pace", (Pace, Base), {})
        return self

    def on_train_batch_start(self, *_: Any) -> None:
        self.training = True

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.training = True

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._wait(trainer.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._wait(state.global_step)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.training = False

    def _wait(self, step: int) -> None:
        time.sleep(self._pause)
        if step in self._holds:
            Path(f"at-{step}").touch()
            deadline = time.monotonic() + HANG_S
            while not Path(f"go-{step}").exists() and time.monotonic() < deadline:
                time.sleep(0.02)


def clock() -> tuple[float, float]:
    """Returns the time and the seconds for which this thread has waited for a processor so far."""
    waited = Path("/proc/thread-self/schedstat").read_text().split()[1]
    return time.perf_counter(), int(waited) / 1e9


def timed(call: Callable[..., Any], name: str, times: list[tuple[float, str]]) -> Callable[..., Any]:
    """Returns a function that calls `call` and appends its duration to `times`."""

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begin, idle = clock()
        try:
            return call(*args, **kwargs)
        finally:
            end, idled = clock()
            times.append((end - begin - (idled - idle), name))

    return wrapper


def watch_sockets(training: Callable[[], bool]) -> list[list[str]]:
    """Returns a list that collects socket calls: of the main thread while `training`, and of all other threads.

    Each entry is [thread, call, family, whether it may wait].
    """
    seen: list[list[str]] = []
    for name in CALLS:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any, _name: str = name, _original: Any = original, **more: Any) -> Any:
            where = "main" if threading.current_thread() is threading.main_thread() else "other"
            if where == "other" or training():
                seen.append([where, _name, self.family.name, "waits" if self.gettimeout() != 0 else "never waits"])
            return _original(self, *args, **more)

        setattr(socket.socket, name, call)
    return seen


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("framework", choices=sorted(TRAININGS))
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--hold", type=int, nargs="*", default=[])
    parser.add_argument("--finish-timeout", type=float, default=30.0)
    parser.add_argument("--patch", default="")
    parser.add_argument("--out", default="out")
    parser.add_argument("--bare", action="store_true")
    given = parser.parse_args(arguments)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    pace = Pace(given.pause, given.hold).of(given.framework)
    seen = watch_sockets(lambda: pace.training)
    times: list[tuple[float, str]] = []
    kit = TrackKit(project="p", mode=given.mode, finish_timeout=given.finish_timeout)
    setattr(wiring, "call_guarded", timed(guard.call_guarded, "call_guarded", times))  # noqa: B010 -- mypy
    for name in dir(kit):
        if name.startswith("on_") or name in ("setup", "teardown"):
            setattr(kit, name, timed(getattr(kit, name), name, times))
    if given.patch:
        exec(given.patch, {})
    net = TRAININGS[given.framework](
        Recipe(epochs=given.epochs, every=1), Path(given.out), [pace] if given.bare else [pace, kit]
    )
    begin = time.perf_counter()
    trackkit.finish()
    weights = b"".join(value.numpy().tobytes() for value in net.state_dict().values())
    hooks = sorted((each for each in times if each[1] not in (*BEGIN, *END)), reverse=True)
    report = {
        "begin_s": sum(seconds for seconds, name in times if name in BEGIN),
        "end_s": time.perf_counter() - begin + sum(seconds for seconds, name in times if name in END),
        "hooks": [[round(seconds, 5), name] for seconds, name in hooks[:5]],
        "sockets": [each for each in seen if each[0] == "main"],
        "sockets_elsewhere": len(seen),
        "weights": hashlib.sha256(weights).hexdigest(),
    }
    Path("report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
