"""Records a run without a framework, to the local log and W&B.

    python -m tests.support.recorder ROOT RUN_ID FIRST LAST [--pause S] [--end ok|kill]

Each step from FIRST up to LAST (not included) makes a batch row and a printed line; each tenth makes an epoch row too.
`--artifact FILE` logs a file as an artifact. `--own` logs two values of the user's at each step, without a step number.
`--wait` waits for the file `go` in ROOT before the run ends.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.run_info import run_info
from trackkit.engine.ranks import Exchange
from trackkit.engine.tracker import Tracker
from trackkit.integrations.wandb.sink import WandbSink
from trackkit.local_log import index
from trackkit.local_log.writer import LocalSink
from trackkit.schema.keys import BATCH, Where
from trackkit.settings.config import TrackKitConfig


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("run_id")
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--end", choices=("ok", "kill"), default="ok")
    parser.add_argument("--artifact", default="")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--wait", action="store_true")
    record(parser.parse_args())


def record(given: argparse.Namespace) -> None:
    config = {"hparams/lr": 0.1, "hparams/worst": math.inf, "hparams/none": {}, "seed/torch": 2**63 + 12345}
    info = run_info(given.root.absolute(), given.run_id, "a run", time.time(), config)
    wandb_sink = WandbSink(TrackKitConfig(project="p", mode="offline"))
    tracker = Tracker([], [LocalSink(), wandb_sink], Exchange())
    tracker.start(info)
    index.remember(info.folder, info.run_id, "p", "offline")
    for step in range(given.first, given.last):
        values: dict[str, Any] = {"loss": 1 / (step + 1), "spike": math.nan if step % 7 else -math.inf}
        tracker.report(values, BATCH, step, step / 10)
        tracker.seal()
        if step % 10 == 9:
            tracker.report({"acc": step / 100}, Where("epoch", "val"), step, step / 10)
            tracker.seal()
        if given.own:
            wandb_sink.flush(10.0)
            log_own(wandb_sink, step)
        print("step", step, flush=True)
        time.sleep(given.pause)
    if given.artifact:
        log_artifact(wandb_sink, given.artifact)
    while given.wait and not (given.root / "go").exists():
        time.sleep(0.05)
    if given.end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    tracker.note({"final/steps": given.last})
    tracker.end("finished")
    tracker.close(0)


def log_own(sink: WandbSink, step: int) -> None:
    assert sink.run is not None
    for name in ("mine/a", "mine/b"):
        sink.run.log({name: step})


def log_artifact(sink: WandbSink, path: str) -> None:
    import wandb

    artifact = wandb.Artifact("model", "model")
    artifact.add_file(path, policy="immutable", skip_cache=True)
    assert sink.run is not None
    sink.run.log_artifact(artifact)


if __name__ == "__main__":
    main()
