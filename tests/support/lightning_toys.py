"""Tiny modules and data for Lightning; the modules keep the numbers that tests compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

FEATURES = 4
BATCH_SIZE = 4


def data(batches: int = 7, seed: int = 0, batch_size: int = BATCH_SIZE) -> DataLoader[Any]:
    """Returns `batches` batches of a linear problem with noise, in a fixed order."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batches * batch_size, FEATURES, generator=generator)
    noise = torch.randn(batches * batch_size, 1, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True) + noise), batch_size=batch_size)


def layer(seed: int = 1) -> nn.Linear:
    """Returns a linear layer whose weights do not depend on the global generator."""
    linear = nn.Linear(FEATURES, 1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return linear


def grad_norm(parameters: Any) -> float:
    """Returns the L2 norm of all gradients together, in double precision."""
    return float(torch.cat([p.grad.detach().double().flatten() for p in parameters if p.grad is not None]).norm())


class Silent(pl.LightningModule):
    """Logs nothing; keeps the losses of its training steps in `losses`."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.layer = layer()
        self.lr = lr
        self.losses: list[float] = []

    def loss(self, batch: Any) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.layer(inputs), targets)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Logging(Silent):
    """Logs twice the loss in training, and the loss in validation and test; keeps the values in `seen`."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr)
        self.seen: dict[str, list[float]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.seen["train"].append(2 * loss.item())
        self.log("train_twice", 2 * loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss(batch)
        self.seen["val"].append(loss.item())
        self.log("val_loss", loss)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss(batch)
        self.seen["test"].append(loss.item())
        self.log("test_loss", loss)


HOOKS = [name for name in dir(Callback) if name.startswith("on_") or name in ("setup", "teardown")]


class Group(Callback):
    """Calls every hook of its member, as libraries of composite callbacks do."""

    def __init__(self, member: Any) -> None:
        self.member = member

    def __getattribute__(self, name: str) -> Any:
        return getattr(super().__getattribute__("member"), name) if name in HOOKS else super().__getattribute__(name)


def trainer(kit: Any = None, **arguments: Any) -> pl.Trainer:
    """Returns a quiet trainer on the CPU; `kit` may be a TrackKit, a list of callbacks or None."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=kit, **{**quiet, **arguments})


def record(module: pl.LightningModule, loader: Any = None, val: Any = None, **arguments: Any) -> MemorySink:
    """Fits `module` with TrackKit and returns what was recorded."""
    sink = MemorySink()
    callbacks = [TrackKit(sinks=[sink]), *arguments.pop("callbacks", [])]
    trainer(callbacks, **arguments).fit(module, data() if loader is None else loader, val)
    return sink


class Reference:
    """Trains the same in plain torch; keeps loss, gradient norm before clipping and learning rate of each step."""

    def __init__(
        self,
        loader: Any,
        epochs: int = 1,
        accumulate: int = 1,
        lr: float = 0.05,
        clip: Callable[[Any], object] | None = None,
        gamma: float = 1.0,
    ) -> None:
        self.layer = layer()
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rates: list[float] = []
        optimizer = torch.optim.SGD(self.layer.parameters(), lr=lr)
        for _ in range(epochs):
            micro: list[float] = []
            batches = list(loader)
            for index, (inputs, targets) in enumerate(batches):
                loss = nn.functional.mse_loss(self.layer(inputs), targets)
                (loss / accumulate).backward()  # type: ignore[no-untyped-call]
                micro.append(loss.item())
                if len(micro) < accumulate and index + 1 < len(batches):
                    continue
                self.losses.append(sum(micro) / len(micro))
                self.norms.append(grad_norm(self.layer.parameters()))
                self.rates.append(optimizer.param_groups[0]["lr"])
                if clip is not None:
                    clip(list(self.layer.parameters()))
                optimizer.step()
                optimizer.zero_grad()
                optimizer.param_groups[0]["lr"] *= gamma
                micro.clear()


def batch_rows(sink: MemorySink) -> list[dict[str, Any]]:
    """Returns the values of the batch rows, in order."""
    return [dict(row.values) for row in sink.rows if row.tier == "batch"]


def epoch_rows(sink: MemorySink) -> list[dict[str, Any]]:
    """Returns the values of the epoch rows, in order."""
    return [dict(row.values) for row in sink.rows if row.tier == "epoch"]


def mean(values: Any) -> float:
    """Returns the arithmetic mean."""
    values = list(values)
    return float(sum(values) / len(values))


def untouched(runner: pl.Trainer) -> bool:
    """Returns whether TrackKit has left no attribute on the trainer's own objects."""
    loop = runner.fit_loop.epoch_loop
    wrapped = {"log_metrics", "update_train_step_metrics", "_on_before_fetch", "_on_after_fetch", "resume_end"}
    wrapped |= {"save_checkpoint", "run", "clip_gradients", "teardown", "_save_checkpoint", "_monitor_candidates"}
    owners: list[Any] = [runner, runner._logger_connector, runner._checkpoint_connector, loop, loop.val_loop]  # noqa: SLF001 -- TrackKit wraps methods of these
    owners += [runner.precision_plugin, runner.strategy, *runner.checkpoint_callbacks]
    return not any(wrapped & set(vars(owner)) for owner in owners)
