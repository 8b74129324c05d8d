"""A small GAN, whose losses keep a balance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.digest import data
from trackkit import TrackKit, finish


def adversarial(out: Path) -> None:
    """Trains a generator against a discriminator, by manual optimization."""
    import lightning.pytorch as pl

    class Gan(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.forger = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))
            self.judge = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(), nn.Linear(64, 1))

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            forging, judging = self.optimizers()  # type: ignore[attr-defined]
            forged = self.forger(torch.randn(len(batch[0]), 8))
            judged = _says(self.judge(batch[0]), 1.0) + _says(self.judge(forged.detach()), 0.0)
            judging.zero_grad()
            self.manual_backward(judged)
            judging.step()
            forging.zero_grad()
            loss = _says(self.judge(forged), 1.0)
            self.manual_backward(loss)
            forging.step()
            return loss + judged

        def configure_optimizers(self) -> Any:
            options = {"lr": 1e-3, "betas": (0.5, 0.99)}
            return [torch.optim.Adam(part.parameters(), **options) for part in (self.forger, self.judge)], []  # type: ignore[arg-type]

    torch.manual_seed(1)
    train, _ = data.digits()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=10,
        accelerator="cpu",
        log_every_n_steps=4,
        default_root_dir=out,
        enable_model_summary=False,
        callbacks=[TrackKit(project="p", sinks=[])],  # type: ignore[list-item]
        **quiet,  # type: ignore[arg-type]
    )
    try:
        trainer.fit(Gan(), DataLoader(TensorDataset(train.inputs), 32, shuffle=True))
    finally:
        finish()


def _says(logits: torch.Tensor, label: float) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
