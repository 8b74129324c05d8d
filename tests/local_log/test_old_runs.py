"""Run folders of the format before the reshape (commit d7a3051) are read, resumed and synced.

`recorded/` holds three offline runs: a finished Lightning training, a Hugging Face training killed after step 10, and
a Lightning training resumed twice from its checkpoint of step 4.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from tests.support.toy import Net, Points
from tests.support.warm import run_sync
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment
from trackkit import TrackKit, finish, read_run
from trackkit.local_log.recorded import RecordedRun

RECORDED = Path(__file__).parent / "recorded"
# Name, and per attempt the first and the last step.
RUNS = [
    ("lightning-finished", [(1, 8)]),
    ("huggingface-killed", [(1, 10)]),
    ("lightning-resumed", [(1, 7), (5, 6), (5, 12)]),
]


@pytest.fixture
def recorded(isolated: Path) -> Path:
    """A copy of the runs, last written an hour ago."""
    copy = isolated / "recorded"
    shutil.copytree(RECORDED, copy)
    for path in copy.rglob("*"):
        hour_ago = path.stat().st_mtime - 3600
        os.utime(path, (hour_ago, hour_ago))
    return copy


def attempts(run: RecordedRun) -> list[tuple[int, int]]:
    """Returns the first and the last step of each attempt."""
    steps: dict[int, list[int]] = {}
    for row in run.rows:
        if row.tier == "batch":
            steps.setdefault(row.attempt, []).append(row.step)
    return [(each[0], each[-1]) for each in steps.values()]


def resume(folder: Path, run_id: str = "auto", checkpoint: Path | None = None, steps: int = 16) -> None:
    """Fits the toy in an output folder, offline."""

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            loss: torch.Tensor = self.net(**batch)["loss"]
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = pl.Trainer(
        max_epochs=-1,
        max_steps=steps,
        accelerator="cpu",
        default_root_dir=folder,
        log_every_n_steps=1,
        logger=False,
        callbacks=[TrackKit(project="recorded", resume=run_id)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(Module(), DataLoader(Points(samples=16), 4), ckpt_path=checkpoint, weights_only=False)
    finally:
        finish()


@pytest.mark.parametrize(("name", "steps"), RUNS)
def test_old_run_is_read(recorded: Path, name: str, steps: list[tuple[int, int]]) -> None:
    run = read_run(recorded / name)
    assert attempts(run) == steps
    last = max(last for _, last in steps)
    assert [step for step, _ in run.series("batch/loss")] == list(range(1, last + 1))
    assert [step for step, _ in run.series("epoch/val/loss")] == list(range(4, last + 1, 4))
    assert run.config["data/train_samples"] == 16
    killed = name == "huggingface-killed"
    assert run.summary.get("final/steps") == (None if killed else last)
    assert run.run["status"] == ("running" if killed else "finished")


def test_series_of_old_run_has_the_later_attempt(recorded: Path) -> None:
    run = read_run(recorded / "lightning-resumed")
    losses = {(row.attempt, row.step): row.values["batch/loss"] for row in run.rows if "batch/loss" in row.values}
    counted = dict(run.series("batch/loss"))
    assert [counted[step] for step in (4, 5, 6, 7, 12)] == [
        losses[attempt] for attempt in ((1, 4), (3, 5), (3, 6), (3, 7), (3, 12))
    ]


@pytest.mark.parametrize(("name", "steps"), RUNS)
def test_old_run_is_resumed_by_its_id(recorded: Path, name: str, steps: list[tuple[int, int]]) -> None:
    run_id = read_run(recorded / name).run["run_id"]
    resume(recorded / name, run_id)
    run = read_run(recorded / name)
    assert (run.run["run_id"], run.run["status"], run.run["passes"]) == (run_id, "finished", len(steps) + 1)
    assert attempts(run) == [*steps, (1, 16)]


def test_old_checkpoint_resumes_its_run(recorded: Path) -> None:
    folder = recorded / "lightning-resumed"
    resume(folder, checkpoint=folder / "saved" / "step=4.ckpt")
    run = read_run(folder)
    assert attempts(run) == [(1, 7), (5, 6), (5, 12), (5, 16)]
    assert run.summary["final/steps"] == 16


def test_old_runs_are_synced(wandb_server: WandbServer, recorded: Path) -> None:
    """Every value is on the server once; of a repeated step the first attempt's."""
    folders = [str(recorded / name) for name, _ in RUNS]
    done = run_sync(*folders, cwd=recorded, env=environment(wandb_server, recorded))
    assert done.returncode == 0, done.stdout + done.stderr
    for name, steps in RUNS:
        local = read_run(recorded / name)
        remote = wandb_server.state.run(local.run["run_id"])
        losses = [(row["batch/step"], row["batch/loss"]) for row in remote.history if "batch/loss" in row]
        first: dict[int, float] = {}
        for row in local.rows:
            if "batch/loss" in row.values:
                first.setdefault(row.step, row.values["batch/loss"])
        assert losses == [(step, pytest.approx(loss)) for step, loss in sorted(first.items())]
        assert max(first) == max(last for _, last in steps)
