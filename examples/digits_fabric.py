"""Trains a small net on scikit-learn's digits with Lightning Fabric, in a loop of its own, and TrackKit.

python examples/digits_fabric.py --out demo-runs/fabric --epochs 3
python examples/digits_fabric.py --devices 2        # two CPU processes
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import trackkit


def evaluate(net: nn.Module, loader: Any) -> dict[str, float]:
    """Returns loss and accuracy on one rank's share of the data."""
    net.eval()
    with torch.no_grad():
        outs = [(net(images), labels) for images, labels in loader]
    net.train()
    logits, labels = (torch.cat(each) for each in zip(*outs, strict=True))
    loss = nn.functional.cross_entropy(logits, labels)
    return {"loss": loss.item(), "acc": (logits.argmax(1) == labels).float().mean().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-runs/fabric"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--lr", type=float, default=2e-3)
    arguments = parser.parse_args()

    fabric = Fabric(accelerator="cpu", devices=arguments.devices, precision=arguments.precision)
    fabric.launch()
    fabric.seed_everything(7)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    train, val = random_split(data, [1536, 261], torch.Generator().manual_seed(7))
    loader, val_loader = fabric.setup_dataloaders(DataLoader(train, 64, shuffle=True), DataLoader(val, 261))
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), lr=arguments.lr))

    total = arguments.epochs * len(loader)
    given: dict[str, Any] = {"project": "trackkit-demo", "dir": str(arguments.out), "every": 5}
    with trackkit.loop(model, optimizer, config=vars(arguments), total_steps=total, **given) as track:
        for epoch in range(arguments.epochs):
            for images, labels in track.batches(loader):
                optimizer.zero_grad()
                logits = model(images)
                loss = nn.functional.cross_entropy(logits, labels)
                fabric.backward(loss)
                fabric.clip_gradients(model, optimizer, max_norm=1.0)
                optimizer.step()
                track.step(loss)
                track.log({"train_acc": (logits.argmax(1) == labels).float().mean()})
            results = evaluate(model, val_loader)
            track.evaluation("val", results, samples=len(val))
            saved = arguments.out / f"epoch-{epoch}.ckpt"
            fabric.save(saved, {"model": model, "optimizer": optimizer, "track": track.state_dict()})
            track.checkpoint(saved, value=results["loss"], monitor="val/loss")


if __name__ == "__main__":
    main()
