"""Trains once with each framework, recorded offline, and prints the results side by side: `make demo`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo-runs"
TRAININGS = {"digits, Lightning": "digits_lightning.py", "GPT, Hugging Face": "gpt_transformers.py"}


def main() -> int:
    console = Console()
    shutil.rmtree(OUT, ignore_errors=True)
    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKKIT_PROJECT": "trackkit-demo"}
    env.setdefault("PYTHONWARNINGS", "ignore")
    runs: dict[str, Path] = {}
    for title, script in TRAININGS.items():
        folder = OUT / Path(script).stem
        console.rule(title)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, str(HERE / script), "--out", str(folder)], env=env, check=False)
        if done.returncode:
            console.print(f"[red]{script} ended with exit code {done.returncode}[/red]")
            return done.returncode
        console.print(f"{time.perf_counter() - began:.0f} s")
        runs[title] = next(folder.glob("_trackkit/*/run.json")).parent
    console.rule("what was recorded")
    console.print(_summaries(runs))
    for title, folder in runs.items():
        offline = next(folder.parent.glob("wandb/offline-run-*"))
        rows = sum(1 for _ in (folder / "rows.jsonl").open(encoding="utf-8"))
        console.print(f"[bold]{title}[/bold]: {rows} rows")
        console.print(f"  local log   {_short(folder)}/rows.jsonl", highlight=False, soft_wrap=True)
        console.print(f"  look at it  wandb leet {_short(offline)}", highlight=False, soft_wrap=True)
        console.print(f"  upload it   trackkit sync {_short(folder)}", highlight=False, soft_wrap=True)
    return 0


def _summaries(runs: dict[str, Path]) -> Table:
    """Returns a table of the runs' `final/*` columns."""
    columns = {title: json.loads((folder / "summary.json").read_text()) for title, folder in runs.items()}
    table = Table("final/*", *columns)
    for key in sorted({key for column in columns.values() for key in column}):
        table.add_row(key.removeprefix("final/"), *(_text(column.get(key)) for column in columns.values()))
    return table


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _short(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
