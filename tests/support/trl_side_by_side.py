"""Trains with `report_to="wandb"` and again with TrackKit, and compares key by key, value by value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wandb

import trackkit
from tests.support.trl_toys import make
from tests.support.wandb_offline import OfflineRun, read_finished
from trackkit import read_run
from trackkit.local_log.recorded import RecordedRun
from trackkit.schema.keys import BATCH, Where, canonical

_FRAMEWORK = {"loss": "batch/loss", "grad_norm": "batch/grad_norm", "learning_rate": "batch/lr", "epoch": "batch/epoch"}
_SPEED = {"runtime": "runtime_s", "samples_per_second": "samples_per_s", "steps_per_second": "steps_per_s"}
_SUMMARY = {"train_loss": "final/train/loss", "total_flos": "final/total_flos"}
_CLOCK = ("batch/step_time", "epoch/val/step_time")


def key_of(name: str) -> str:
    """Returns TrackKit's key for a name in the history or the summary of WandbCallback's run."""
    split, _, rest = name.partition("/")
    if split == "profiling":
        return f"batch/profiling/{rest.partition(': ')[2].partition('.')[2].strip('_').replace('.', '_')}_s"
    if split == "eval":
        return f"final/val/{_SPEED[rest]}" if rest in _SPEED else f"epoch/val/{canonical(rest, Where('epoch', 'val'))}"
    if split == "train":
        return _FRAMEWORK.get(rest) or f"batch/{canonical(rest, BATCH)}"
    return _SUMMARY.get(name) or f"final/train/{_SPEED[name.removeprefix('train_')]}"


def by_wandb(kind: str, out: Path, **given: Any) -> tuple[OfflineRun, Path]:
    """Trains with W&B's own callback; returns its run and the folder of its files."""
    make(kind, out, [], report_to="wandb", **given).train()
    assert wandb.run is not None
    files = Path(wandb.run.dir)
    wandb.finish()
    return read_finished(next(files.parent.glob("run-*.wandb"))), files


def by_trackkit(kind: str, out: Path, **given: Any) -> RecordedRun:
    """Trains with TrackKit; returns its local log."""
    make(kind, out, [], report_to="trackkit", **given).train()
    trackkit.finish()
    return read_run(out)


def compare(kind: str, folder: Path, **given: Any) -> tuple[list[dict[str, Any]], RecordedRun]:
    """Asserts that TrackKit records all that W&B's callback does.

    Args:
        kind: see `make`.
        folder: for both runs.
        given: further arguments of the trainer's config.

    Returns:
        The tables of completions that W&B has, and TrackKit's run.
    """
    (theirs, files), ours = by_wandb(kind, folder / "theirs", **given), by_trackkit(kind, folder / "out", **given)
    values: dict[tuple[str, int], Any] = {}
    for row in ours.rows:
        values.update({(key, row.step): value for key, value in row.values.items()})
    compared = set()
    for logged in theirs.rows:
        step = logged.get("train/global_step", -1)
        for name, value in logged.items():
            if name[0] == "_" or name in ("train/global_step", "completions") or value is None:
                continue
            compared.add(key := key_of(name))
            if name.startswith("profiling/") or key.startswith("final/"):
                assert key in ours.keys or key in ours.summary, name
            elif not (key in _CLOCK and (key, step) in values):
                assert values[key, step] == pytest.approx(value, rel=1e-6), (name, step)
    for name, value in theirs.summary.items():
        if name.startswith(("train_", "total_")):
            key = key_of(name)
            assert key in ours.summary, name
            assert name not in _SUMMARY or ours.summary[key] == pytest.approx(value, rel=1e-6), name
    assert {"batch/loss", "batch/lr", "batch/grad_norm"} <= compared
    return _tables(theirs, files), ours


def _tables(run: OfflineRun, files: Path) -> list[dict[str, Any]]:
    """Returns the tables of completions in a W&B run, without those that repeat the one before."""
    read = [json.loads((files / row["completions"]["path"]).read_text()) for row in run.rows if "completions" in row]
    return [each for at, each in enumerate(read) if not at or each["data"] != read[at - 1]["data"]]
