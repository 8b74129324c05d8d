"""Lightning modules with manual optimization."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.support.lightning_toys import Silent, grad_norm, layer


class Manual(Silent):
    """Steps its optimizer every `every` batches; the arguments say whether it returns and logs its loss."""

    def __init__(self, every: int = 1, returns: bool = True, logs: bool = False, raw: bool = False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.every, self.returns, self.logs, self.raw = every, returns, logs, raw
        self.norms: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers(use_pl_optimizer=not self.raw)
        self.manual_backward(loss / self.every)
        if (batch_idx + 1) % self.every == 0:
            self.norms.append(grad_norm(self.parameters()))
            optimizer.step()
            optimizer.zero_grad()
        if self.logs:
            self.log("loss", loss)
            self.log("train_extra", 3 * loss, on_step=True, on_epoch=True)
        return loss if self.returns else None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))


class Gan(Silent):
    """Two optimizers that step on every batch, each on its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = layer(3), layer(4)
        self.norms: dict[str, list[float]] = {"Adam": [], "SGD": []}

    def configure_optimizers(self) -> Any:
        generator = torch.optim.Adam(self.generator.parameters(), lr=0.01)
        return [generator, torch.optim.SGD(self.critic.parameters(), lr=0.02)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        for optimizer, net, name in zip(self.optimizers(), (self.generator, self.critic), self.norms, strict=True):
            loss = nn.functional.mse_loss(net(inputs) + self.generator(inputs), targets)
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.norms[name].append(grad_norm(net.parameters()))
            self.log(f"{name}_loss", loss)
            optimizer.step()
