"""Measures what an outage of the W&B server costs a training: seconds at the start, in the longest hook, at the end.

    python -m benchmarks.outage

Trains with each framework against a local server: healthy, hanging at the start, and hanging from step 8 on. Exits with
1 if a bound is missed: 5 s to start, 50 ms for a hook during training, `finish_timeout` and 2 s to end.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.measured_training import Training
from tests.wandb_server import WandbServer

START_S, HOOK_S, FINISH_S = 5.0, 0.05, 2.0
STEP = 8


def train(framework: str, prepare: Callable[[WandbServer], None], during: Callable[[WandbServer], None]) -> Any:
    """Returns the report of `tests.support.measured` for one training."""
    arguments = [framework, "--hold", str(STEP), "--pause", "0.02", "--finish-timeout", str(FINISH_S)]
    with tempfile.TemporaryDirectory() as home, WandbServer() as server:
        prepare(server)
        training = Training(server, Path(home), arguments)
        try:
            training.wait_at(STEP)
            during(server)
            training.release(STEP)
            return training.finish().report
        finally:
            training.kill()


def hang(server: WandbServer) -> None:
    server.faults.set("hang")


def healthy(server: WandbServer) -> None:
    server.faults.clear()


def main() -> int:
    cases = {"healthy": (healthy, healthy), "down at the start": (hang, hang), "down from step 8": (healthy, hang)}
    missed = False
    print(f"{'framework':12} {'server':18} {'start s':>8} {'hook ms':>8} {'end s':>8}")
    for framework in ("lightning", "huggingface"):
        for name, faults in cases.items():
            report = train(framework, *faults)
            start, hook, end = report["begin_s"], report["hooks"][0][0], report["end_s"]
            missed |= start > START_S or hook > HOOK_S or end > FINISH_S + 2
            print(f"{framework:12} {name:18} {start:8.2f} {hook * 1e3:8.1f} {end:8.2f}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
