"""Measures the time from `fit` (Lightning) or `train` (Hugging Face) to the first batch, in seconds.

python benchmarks/start.py [--framework lightning huggingface] [--rounds 7] [--profile]

Each round trains once in a fresh process with each variant: bare, with the framework's own way to W&B (WandbLogger,
WandbCallback), and with TrackKit; the order of the variants turns with the rounds. W&B is offline. The working
directory is this repository, so that its state in git is recorded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VARIANTS = ("bare", "wandb", "TrackKit")
LIMIT_S = 0.3

LIGHTNING = """
import lightning.pytorch as pl
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, index):
        first_batch()
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

logger, callbacks = False, []
if variant == "wandb":
    from lightning.pytorch.loggers import WandbLogger
    logger = WandbLogger(project="start", save_dir=folder, offline=True)
if variant == "TrackKit":
    from trackkit import TrackKit
    callbacks = [TrackKit(project="start")]
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=logger, callbacks=callbacks, default_root_dir=folder,
                     enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
module, loader = Net(), DataLoader(TensorDataset(torch.ones(8, 8)), 4)
train = lambda: trainer.fit(module, loader)
"""
HUGGINGFACE = """
from transformers import Trainer, TrainingArguments

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def forward(self, x):
        first_batch()
        return {"loss": self.layer(x).square().mean()}

callbacks = []
if variant == "TrackKit":
    from trackkit import TrackKit
    callbacks = [TrackKit(project="start")]
report_to = "wandb" if variant == "wandb" else "none"
arguments = TrainingArguments(folder, num_train_epochs=1, per_device_train_batch_size=4, report_to=report_to,
                              use_cpu=True, save_strategy="no", disable_tqdm=True)
trainer = Trainer(Net(), arguments, train_dataset=[{"x": torch.ones(8)}] * 8, callbacks=callbacks)
train = trainer.train
"""
PROGRAMS = {"lightning": LIGHTNING, "huggingface": HUGGINGFACE}
FRAME = """
import cProfile, pstats, sys, time
import torch
variant, folder, profiled = sys.argv[1:4]
profile = cProfile.Profile()

def first_batch():
    if seconds:
        return
    seconds.append(time.perf_counter() - began)
    profile.disable()
    if profiled:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(70)
    print("seconds", seconds[0])

seconds = []
PROGRAM
if profiled:
    profile.enable()
began = time.perf_counter()
train()
"""


def seconds(framework: str, variant: str, profiled: bool = False) -> float:
    """Trains in a process of its own; returns the seconds from the call to the first batch."""
    with tempfile.TemporaryDirectory() as folder:
        given = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKKIT_INDEX": f"{folder}/index.jsonl"}
        done = subprocess.run(
            [sys.executable, "-c", FRAME.replace("PROGRAM", PROGRAMS[framework]), variant, folder, "1" * profiled],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, **given, "WANDB_DIR": folder},
            stdout=subprocess.PIPE,
            stderr=None if profiled else subprocess.PIPE,
            text=True,
        )
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if not found:
        raise RuntimeError(f"{framework} with {variant} failed:\n{done.stderr}")
    return float(found[0])


def report(framework: str, rounds: int) -> bool:
    """Prints the figures of one framework; returns whether TrackKit keeps its limit."""
    figures: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        for turn in range(len(VARIANTS)):
            variant = VARIANTS[(number + turn) % len(VARIANTS)]
            figures[variant].append(seconds(framework, variant))
    medians = {variant: statistics.median(values) for variant, values in figures.items()}
    for variant, values in figures.items():
        print(f"  {variant:9} {' '.join(f'{value:6.2f}' for value in values)}   median {medians[variant]:6.2f}")
    over = statistics.median(ours - theirs for ours, theirs in zip(figures["TrackKit"], figures["wandb"], strict=True))
    print(f"  TrackKit over the framework's own W&B, median of the rounds' differences: {over:+.2f} (limit {LIMIT_S})")
    return over <= LIMIT_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="print a profile of TrackKit's start, and no figures")
    arguments = parser.parse_args()
    if arguments.profile:
        for framework in arguments.framework:
            seconds(framework, "TrackKit", profiled=True)
        return
    kept = []
    for framework in arguments.framework:
        print(f"{framework}, {arguments.rounds} rounds, seconds to the first batch ({time.strftime('%Y-%m-%d')}):")
        kept.append(report(framework, arguments.rounds))
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
