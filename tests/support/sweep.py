"""Made-up runs of a sweep, for what reads many runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support.local_log import write_run
from trackkit.engine.records import Gap, Row
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.collection import Runs

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>__DATA__ & \u2028"


def write_sweep(root: Path, steps: int = 1000) -> None:
    """Writes three runs with different learning rates, the last with NaN, and a damaged one."""
    for number, lr in enumerate((0.1, 0.01, 0.001)):
        rows: list[dict[str, object]] = []
        for step in range(1, steps + 1):
            loss = math.nan if number == 2 and step == 500 else math.exp(-lr * step) + math.sin(step) / 10
            rows.append({"batch/step": step, "batch/samples": 8 * step, "batch/loss": loss, "batch/lr": lr})
        rows.append({"epoch/step": steps, "epoch/val/acc": 0.5 + number / 10})
        summary = {"final/best/val/acc": 0.5 + number / 10, "final/best/val/acc_step": steps, "final/steps": steps}
        config = {"hparams/lr": lr, "hparams/seed": number, "trackkit/settings/project": "sweep"}
        folder = write_run(root, f"r{number}", config, summary, rows, started=1e9 + number, name=HOSTILE)
        lines = [
            f'{{"_time": {line}, "stream": "stdout", "text": "\\u001b[32mline {line}\\u001b[0m"}}'
            for line in range(250)
        ]
        (folder / "console.jsonl").write_text("\n".join(lines))
    write_run(root, "damaged", started=1e9 + 9, format=99)


def long_sweep(count: int = 50, steps: int = 10_000) -> Runs:
    """Returns runs of many steps, whose rows are made when they are asked for."""
    return Runs(_long_run(number, steps) for number in range(count))


def _long_run(number: int, steps: int) -> RecordedRun:
    def load() -> tuple[Sequence[Row], Sequence[Gap]]:
        rng = np.random.default_rng(number)
        at = np.arange(1, steps + 1)
        columns = {
            "batch/step": at,
            "batch/samples": 32 * at,
            "batch/loss": 0.3 + np.exp(-at * (1 + number) / steps) + rng.normal(0, 0.05, steps),
            "batch/grad_norm": rng.lognormal(0, 0.4, steps),
            "batch/lr": 0.1 / (1 + at / steps),
            "batch/step_time_s": rng.normal(0.1, 0.01, steps),
            "batch/data_time_s": rng.normal(0.01, 0.001, steps),
        }
        values = [
            dict(zip(columns, row, strict=True))
            for row in zip(*(each.tolist() for each in columns.values()), strict=True)
        ]
        return [Row(n, "batch", n + 1, 1e9 + n / 10, row, {}, 1) for n, row in enumerate(values)], ()

    config = {
        "hparams/lr": 10.0 ** -(1 + number % 4),
        "hparams/width": 64 << number % 3,
        "hparams/dropout": number / 100,
    }
    summary = {"final/best/val/loss": 1 / (1 + number), "final/best/val/loss_step": steps, "final/duration_h": 0.3}
    fields = {"run_id": f"long{number}", "name": f"run {number}", "status": "finished", "started": 1e9 + number}
    return RecordedRun(config, summary, fields, load=load)
