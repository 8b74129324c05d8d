"""One small training as data, with a knob for each fault that can be planted; Lightning and Hugging Face train it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tests.digest import data, nets
from trackkit import TrackKit, finish

Loss = Callable[[Tensor, Tensor], Tensor]


def nothing(_: int) -> None:
    """Plants no fault."""


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        framework: `lightning` or `huggingface`.
        data: returns the training set and the validation set.
        net: returns the model.
        loss: of logits and labels.
        optimizer: returns the optimizer of the parameters.
        schedule: factor of the learning rate by step and planned steps; None without a schedule.
        epochs, batch, accumulate, clip, every: as the trainers name them; `every` steps make a row.
        on_load, on_step: called in the loader for each sample, and in each training step; with a counter.
        seed: of weights and order.
        settings: of TrackKit.
        arguments: more arguments of the trainer.
        test: also returns a test set.
    """

    framework: str = "lightning"
    data: Callable[[], tuple[data.Samples, data.Samples]] = data.digits
    net: Callable[[], nn.Module] = nets.mlp
    loss: Loss = nn.functional.cross_entropy
    optimizer: Callable[[Any], torch.optim.Optimizer] = field(default=lambda p: torch.optim.AdamW(p, lr=2e-3))
    schedule: Callable[[int, int], float] | None = None
    epochs: int = 8
    batch: int = 32
    accumulate: int = 1
    clip: float = 0.0
    every: int = 4
    on_load: Callable[[int], None] = nothing
    on_step: Callable[[int], None] = nothing
    seed: int = 5
    settings: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    test: Callable[[], data.Samples] | None = None


class Loaded(Dataset[dict[str, Tensor]]):
    """Samples as dictionaries; calls `on_load` for each."""

    def __init__(self, samples: data.Samples, on_load: Callable[[int], None] = nothing) -> None:
        self.samples, self.on_load, self.count = samples, on_load, 0

    def __len__(self) -> int:
        return len(self.samples.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.count += 1
        self.on_load(self.count)
        return {"inputs": self.samples.inputs[index], "labels": self.samples.labels[index]}


class Model(nn.Module):
    """A net and its loss, with the interface that Hugging Face expects."""

    def __init__(self, net: nn.Module, loss: Loss, on_step: Callable[[int], None]) -> None:
        super().__init__()
        self.net, self.loss, self.on_step, self.count = net, loss, on_step, 0

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if self.training:
            self.count += 1
            self.on_step(self.count)
        logits = self.net(inputs)
        return {"loss": self.loss(logits, labels), "logits": logits}


def sleep_each(seconds: float) -> Callable[[int], None]:
    """Returns a fault that waits the same time at each call."""
    return lambda _: time.sleep(seconds)


def train(recipe: Recipe, out: Path, resume: str | None = None) -> None:
    """Trains, recorded to the local log only; an error of the training is swallowed, as its run is what counts."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(1)
    kit = TrackKit(project="p", sinks=[], **recipe.settings)
    trainers = {"lightning": with_lightning, "huggingface": with_huggingface}
    try:
        trainers[recipe.framework](recipe, out, kit, resume)
    except ArithmeticError:
        # What the planted crashes raise.
        pass
    finally:
        finish()


def with_lightning(recipe: Recipe, out: Path, kit: Any, resume: str | None) -> None:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Model(recipe.net(), recipe.loss, recipe.on_step)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.model(**batch)["loss"]

        def validation_step(self, batch: Any, _: int) -> None:
            self._evaluate("val", batch)

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self._evaluate("test", batch)

        def _evaluate(self, split: str, batch: Any) -> None:
            found = self.model(**batch)
            self.log(f"{split}_loss", found["loss"])
            if batch["labels"].dtype == torch.long and batch["labels"].ndim == 1:
                self.log(f"{split}_acc", (found["logits"].argmax(-1) == batch["labels"]).float().mean())

        def configure_optimizers(self) -> Any:
            optimizer = recipe.optimizer(self.parameters())
            if recipe.schedule is None:
                return optimizer
            total, schedule = int(self.trainer.estimated_stepping_batches), recipe.schedule
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, total))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    first, second = recipe.data()
    arguments: dict[str, Any] = {
        "max_epochs": recipe.epochs,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accumulate_grad_batches": recipe.accumulate,
        "gradient_clip_val": recipe.clip or None,
        "log_every_n_steps": recipe.every,
        "default_root_dir": out,
        **recipe.arguments,
    }
    trainer = pl.Trainer(**{**arguments, "callbacks": [kit, *arguments.get("callbacks", [])]})
    module = Module()
    loader = DataLoader(Loaded(first, recipe.on_load), recipe.batch, shuffle=True)
    trainer.fit(module, loader, DataLoader(Loaded(second), len(second.labels)), ckpt_path=resume)
    if recipe.test is not None:
        tested = recipe.test()
        trainer.test(module, DataLoader(Loaded(tested), len(tested.labels)), verbose=False)


def with_huggingface(recipe: Recipe, out: Path, kit: Any, resume: str | None) -> None:
    from transformers import Trainer, TrainingArguments

    def metrics(prediction: Any) -> dict[str, float]:
        logits, labels = torch.as_tensor(prediction.predictions), torch.as_tensor(prediction.label_ids)
        known = labels.ndim == 1 and labels.dtype == torch.long
        return {"acc": (logits.argmax(-1) == labels).float().mean().item()} if known else {}

    first, second = recipe.data()
    arguments: dict[str, Any] = {
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": len(second.labels),
        "gradient_accumulation_steps": recipe.accumulate,
        "max_grad_norm": recipe.clip,
        "logging_steps": recipe.every,
        "logging_first_step": True,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": recipe.seed,
        **recipe.arguments,
    }
    model = Model(recipe.net(), recipe.loss, recipe.on_step)
    optimizer = recipe.optimizer([each for each in model.parameters() if each.requires_grad])
    steps = -(-len(first.labels) // (recipe.batch * recipe.accumulate)) * recipe.epochs
    factor = recipe.schedule or (lambda step, total: 1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, steps))
    trainer = Trainer(
        model,
        TrainingArguments(str(out), **arguments),
        train_dataset=Loaded(first, recipe.on_load),
        eval_dataset=Loaded(second),
        compute_metrics=metrics,
        callbacks=[kit],
        optimizers=(optimizer, scheduler),
    )
    trainer.train(resume_from_checkpoint=resume)
