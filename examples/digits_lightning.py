"""Trains a small convolutional net on scikit-learn's digits, with PyTorch Lightning and TrackKit.

python examples/digits_lightning.py --out demo-runs/digits --epochs 3
TRACKKIT_GROUP=lr0.01 python examples/digits_lightning.py --out demo-runs/digits-2 --lr 0.01 --seed 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from trackkit import TrackKit


class DigitsNet(pl.LightningModule):
    """Two convolutions and a linear layer: 8x8 grey images to ten classes."""

    def __init__(self, lr: float = 2e-3, width: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 10),
        )

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        logits = self.net(images)
        self.log("train_acc", (logits.argmax(1) == labels).float().mean())
        return nn.functional.cross_entropy(logits, labels)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: list[torch.Tensor], _: int) -> None:
        self._evaluate("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])

    def _evaluate(self, split: str, batch: list[torch.Tensor]) -> None:
        images, labels = batch
        logits = self.net(images)
        self.log(f"{split}_loss", nn.functional.cross_entropy(logits, labels), prog_bar=True)
        self.log(f"{split}_acc", (logits.argmax(1) == labels).float().mean(), prog_bar=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-runs/digits"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7, help="of weights and order; the split stays")
    arguments = parser.parse_args()

    pl.seed_everything(arguments.seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    train, val, test = random_split(data, [1297, 250, 250], torch.Generator().manual_seed(7))

    trainer = pl.Trainer(
        max_epochs=arguments.epochs,
        accelerator="cpu",
        log_every_n_steps=5,
        default_root_dir=arguments.out,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[TrackKit(project="trackkit-demo")],
    )
    net = DigitsNet(arguments.lr)
    trainer.fit(net, DataLoader(train, 64, shuffle=True), DataLoader(val, 250))
    trainer.test(net, DataLoader(test, 250), verbose=False)


if __name__ == "__main__":
    main()
