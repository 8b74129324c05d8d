"""One small training on a device: by Lightning, by Hugging Face, and as a plain loop that tells the right norms."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

FEATURES, BATCH, LR = 32, 16, 1e-3

Precision = Literal["32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Recipe:
    """What is varied: everything else of the training is fixed.

    `overflow` names optimizer steps, from 1, whose loss is infinite. `width` and `depth` size the network.
    """

    device: str
    precision: Precision = "32"
    fused: bool = False
    clip: float = 0.5
    steps: int = 24
    every: int = 4
    overflow: tuple[int, ...] = ()
    width: int = 128
    depth: int = 2

    @property
    def title(self) -> str:
        parts = [self.precision, "fused" if self.fused else "", f"clip {self.clip}" if self.clip else ""]
        return ", ".join(part for part in [*parts, "overflow" if self.overflow else ""] if part)


@dataclass
class Plain:
    """What the plain loop found: each step's gradient norm before clipping."""

    norms: list[float] = field(default_factory=list)


class Points(Dataset[dict[str, torch.Tensor]]):
    """A regression problem in a fixed order; the batches of the steps in `overflow` have infinite targets' weights."""

    def __init__(self, recipe: Recipe) -> None:
        generator = torch.Generator().manual_seed(3)
        self.features = torch.randn(recipe.steps * BATCH, FEATURES, generator=generator)
        self.targets = self.features.sum(1, keepdim=True)
        self.factors = torch.ones(recipe.steps * BATCH, 1)
        for step in recipe.overflow:
            self.factors[(step - 1) * BATCH : step * BATCH] = float("inf")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"features": self.features[index], "labels": self.targets[index], "factors": self.factors[index]}


class Net(nn.Module):
    """Layers with the same weights every time, with the interface that Hugging Face expects."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            sizes = [FEATURES, *[recipe.width] * recipe.depth]
            layers = [(nn.Linear(one, other), nn.Tanh()) for one, other in pairwise(sizes)]
            self.layers = nn.Sequential(*(layer for pair in layers for layer in pair), nn.Linear(recipe.width, 1))

    def forward(self, features: torch.Tensor, labels: torch.Tensor, factors: torch.Tensor) -> dict[str, torch.Tensor]:
        errors = (self.layers(features).float() - labels).square() * factors
        return {"loss": errors.mean()}


def optimizer_of(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.0, fused=recipe.fused)


def plain(recipe: Recipe) -> Plain:
    """Trains in plain torch, with torch's own gradient scaler, and keeps each step's norm."""
    net, found = Net(recipe).to(recipe.device), Plain()
    optimizer = optimizer_of(net, recipe)
    kind = torch.device(recipe.device).type
    scaler = torch.amp.GradScaler(kind, enabled=recipe.precision == "fp16")
    for batch in DataLoader(Points(recipe), BATCH):
        with autocast(recipe):
            loss = net(**{name: value.to(recipe.device) for name, value in batch.items()})["loss"]
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        grads = [parameter.grad.double().flatten() for parameter in net.parameters() if parameter.grad is not None]
        found.norms.append(torch.cat(grads).norm().item())
        if recipe.clip:
            nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return found


def autocast(recipe: Recipe) -> AbstractContextManager[Any]:
    kind = torch.device(recipe.device).type
    return torch.autocast(kind, DTYPES.get(recipe.precision), enabled=recipe.precision != "32")


def with_lightning(recipe: Recipe, out: Path, callbacks: list[Any]) -> nn.Module:
    import lightning.pytorch as pl
    from lightning.pytorch.plugins import MixedPrecision

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(recipe)

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            loss: torch.Tensor = self.net(**batch)["loss"]
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer_of(self, recipe)

    on_cpu = recipe.device == "cpu"
    precision: dict[str, Any] = {
        "precision": {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[recipe.precision]
    }
    if on_cpu and recipe.precision == "fp16":
        precision = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))]}
    module = Module()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu" if on_cpu else "gpu",
        devices=1,
        log_every_n_steps=recipe.every,
        gradient_clip_val=recipe.clip or None,
        default_root_dir=out,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **precision,
    )
    trainer.fit(module, DataLoader(Points(recipe), BATCH, pin_memory=not on_cpu))
    return module.net


def with_huggingface(recipe: Recipe, out: Path, callbacks: list[Any]) -> nn.Module:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(Points(recipe))

    net = Net(recipe)
    trainer = InOrder(
        net,
        TrainingArguments(
            str(out),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            max_grad_norm=recipe.clip,
            learning_rate=LR,
            weight_decay=0.0,
            optim="adamw_torch_fused" if recipe.fused else "adamw_torch",
            lr_scheduler_type="constant",
            logging_steps=recipe.every,
            logging_first_step=True,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=recipe.precision == "bf16",
            fp16=recipe.precision == "fp16",
            use_cpu=recipe.device == "cpu",
            remove_unused_columns=False,
        ),
        train_dataset=Points(recipe),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return net


TRAININGS: dict[str, Callable[[Recipe, Path, list[Any]], nn.Module]] = {
    "Lightning": with_lightning,
    "Hugging Face": with_huggingface,
}


def possible(framework: str, recipe: Recipe) -> str:
    """Returns why a framework can't run this recipe, or an empty string."""
    if recipe.device == "cpu" and recipe.precision == "fp16" and framework == "Hugging Face":
        return "fp16 needs a GPU there"
    return ""


def fitted(framework: str, recipe: Recipe) -> Recipe:
    """Returns the recipe as the framework allows it: Lightning doesn't clip what a fused optimizer unscales itself."""
    if framework == "Lightning" and recipe.fused and recipe.precision == "fp16":
        return replace(recipe, clip=0.0)
    return recipe
