"""What reading runs takes: whole commands as processes of their own, with their CPU time, wall time and memory.

    python -m benchmarks.reading

The runs are made up, with the config of a real training. Prints one line per command, the medians of the rounds, and
what is asked of it.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROUNDS = 5
CONFIG_KEYS = 150


def made_up_rows(steps: int, every: int, seed: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    for number, step in enumerate(range(every, steps * every + 1, every)):
        loss = 2.3 * math.exp(-step / (steps * every / 5)) + 0.1 + rng.gauss(0, 0.02)
        yield {"_row": 2 * number, "_time": 1000.0 + step / 10, "batch/step": step, "batch/loss": loss} | {
            "batch/epoch": step / 100,
            "batch/lr": 0.1,
            "batch/grad_norm": 1 + rng.random(),
            "batch/step_time_s": 0.1 + rng.random() / 100,
            "batch/data_time_s": 0.001,
            "batch/samples": 32 * step,
            "batch/samples_per_s": 320.0,
            "device/rss_GB": 1.0,
        }
        if number % 20 == 19:
            values = {"epoch/step": step, "epoch/val/loss": loss + 0.1, "epoch/val/acc": 1 - loss / 2.5}
            yield {"_row": 2 * number + 1, "_time": 1000.0 + step / 10, **values}


def make_run(root: Path, number: int, steps: int) -> Path:
    folder = root / f"run{number}" / "_trackkit" / f"id{number:05}"
    folder.mkdir(parents=True)
    rows = list(made_up_rows(steps, 5, number))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    config = {f"trainer/setting_{key}": key for key in range(CONFIG_KEYS)}
    config |= {"hparams/lr": 10 ** -(1 + number % 3), "seed/torch": number // 3, "trackkit/settings/group": "g"}
    (folder / "config.json").write_text(json.dumps(config))
    loss = rows[-1]["epoch/val/loss"]
    summary = {"final/val/loss": loss, "final/best/val/loss": loss, "final/best/val/loss_step": 5 * steps}
    (folder / "summary.json").write_text(json.dumps({**summary, "final/steps": 5 * steps, "final/duration_h": 1.0}))
    fields = {"run_id": folder.name, "name": f"run {number}", "status": "finished", "started": 1000.0, "ended": 4600.0}
    (folder / "run.json").write_text(json.dumps(fields))
    return folder


def copies(root: Path, count: int, steps: int) -> None:
    """Makes many runs with the rows of one."""
    first = make_run(root, 0, steps)
    for number in range(1, count):
        folder = root / f"run{number}" / "_trackkit" / f"id{number:05}"
        folder.mkdir(parents=True)
        for name in ("rows.jsonl", "config.json", "summary.json", "run.json"):
            (folder / name).write_text((first / name).read_text().replace(first.name, folder.name))


def measured(command: list[str], cwd: Path) -> tuple[float, float, float]:
    """Returns CPU seconds, wall seconds and peak memory in MB of a command."""
    env = {**os.environ, "TRACKKIT_INDEX": str(cwd / "index.jsonl")}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "trackkit.cli.main", *command], cwd=cwd, env=env, stdout=-3)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1e3


def report(title: str, command: list[str], cwd: Path, asked: str) -> None:
    rounds = [measured(command, cwd) for _ in range(ROUNDS)]
    cpu, wall, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{title:42} {wall:6.2f} s wall {cpu:6.2f} s CPU {memory:6.0f} MB   asked: {asked}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        copies(root / "many", 1000, 2000)
        for number in range(10):
            make_run(root / "ten", number, 2000)
        make_run(root / "long", 0, 100_000)
        for number in range(50):
            make_run(root / "fifty", number, 10_000)
        report("ls, 1,000 runs of 2,000 rows", ["ls", "many"], root, "1 s, 200 MB")
        ten = [str(path) for path in sorted((root / "ten").iterdir())]
        report("compare, 10 runs of 2,000 rows", ["compare", *ten], root, "2 s")
        report("digest, a run of 100,000 rows", ["digest", "long"], root, "2 s")
        report("report, 50 runs of 10,000 rows", ["report", "fifty", "-o", "report.html"], root, "20 s")
        size = (root / "report.html").stat().st_size
        print(f"report.html: {size / 1e6:.1f} MB   asked: 10 MB")


if __name__ == "__main__":
    main()
