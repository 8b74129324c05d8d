"""A third party's trainer, with callbacks of its own kind."""

from __future__ import annotations

from typing import Any

import torch


class ToyCallback:
    """What the toy trainer calls."""

    def on_toy_begin(self, trainer: Any) -> None: ...
    def on_toy_step(self, trainer: Any, loss: Any) -> None: ...
    def on_train_end(self, trainer: Any) -> None: ...


class ToyTrainer:
    """Takes `steps` steps of gradient descent on one weight."""

    def __init__(self, steps: int, callbacks: list[Any], output: str) -> None:
        assert all(isinstance(each, ToyCallback) for each in callbacks)
        self.steps, self.callbacks, self.output, self.step = steps, callbacks, output, 0
        self.losses: list[float] = []

    def fit(self) -> None:
        weight = torch.tensor(4.0, requires_grad=True)
        self._call("on_toy_begin")
        for step in range(1, self.steps + 1):
            self.step = step
            loss = weight**2
            (gradient,) = torch.autograd.grad(loss, weight)
            with torch.no_grad():
                weight -= 0.1 * gradient
            self.losses.append(loss.item())
            self._call("on_toy_step", loss.detach())
        self._call("on_train_end")

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *args)
