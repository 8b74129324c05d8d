"""A trainer's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trackkit.engine.records import Gradients


def name_of(optimizer: Any, optimizers: Sequence[Any]) -> str:
    """One of several by its class, with its number where the class does not tell; "" for the only one."""
    if len(optimizers) < 2:
        return ""
    kinds = [type(each).__name__ for each in optimizers]
    for index, each in enumerate(optimizers):
        if each is optimizer or getattr(each, "optimizer", None) is optimizer:
            return f"{kinds[index]}_{index}" if kinds.count(kinds[index]) > 1 else kinds[index]
    return type(optimizer).__name__


def are_numbers(rates: Sequence[Any]) -> bool:
    """Whether no rate is a tensor, which changes in place."""
    return all(isinstance(rate, (int, float)) for rate in rates)


def rates_of(optimizer: Any) -> list[float]:
    """By parameter group; empty where one is a tensor."""
    rates = [group["lr"] for group in optimizer.param_groups]
    return rates if are_numbers(rates) else []


class ManualSteps:
    """The steps of manual optimization, where optimizers may pass Lightning by.

    Args:
        trainer: the optimizers' trainer.
        heard: whether the trainer does its own work, and no trial.
        unannounced: called with an optimizer that has stepped, its gradients still there, and was not announced.

    Attributes:
        announced: whether `on_before_optimizer_step` has told of the next step.
        clipped: optimizers whose gradients were clipped since their last step, by Lightning's own means.
        every: the most batches that a step was seen to take.
    """

    def __init__(self, trainer: Any, heard: Callable[[], bool], unannounced: Callable[[Any], None]) -> None:
        self.announced = False
        self.clipped: list[Any] = []
        self.every = 1
        self._trainer = trainer
        self._loop = trainer.fit_loop.epoch_loop
        self._heard = heard
        self._unannounced = unannounced
        self._raw = self._stepped = False
        self._batches = 0
        self._rates: list[tuple[Any, list[float]]] = []
        self._handles: list[Any] = []

    def watch(self) -> None:
        """Hears of every step."""
        for optimizer in self._trainer.optimizers:
            self._handles.append(optimizer.register_step_post_hook(self._has_stepped))

    def unwatch(self) -> None:
        """Hears no more."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def batch_ends(self, step: int, taken: int) -> tuple[int, bool]:
        """The steps so far, and whether this batch has taken any.

        Raw optimizers bypass Lightning's counter of steps; its count of batches is the next best. A step that the
        gradient scaler skipped is counted, and never reached the optimizer.

        Args:
            step: by Lightning's counter.
            taken: of these, by this batch.
        """
        self._raw = self._raw or (self._stepped and taken == 0)
        stepped = self._stepped or taken > 0
        if stepped and not self._stepped:
            self._rates.clear()
        self._stepped = self.announced = False
        self.clipped.clear()
        self._batches += 1
        if stepped:
            self.every, self._batches = max(self.every, self._batches), 0
        return self._loop._batches_that_stepped + 1 if self._raw else step, stepped

    def recall(self) -> list[Gradients]:
        """The rates of the last batch with a step. Whose the gradients are by now, only the user's code knows."""
        if self._stepped:
            return []
        optimizers = self._trainer.optimizers
        return [Gradients(each, name_of(each, optimizers), clipped=True, rates=rates) for each, rates in self._rates]

    def _has_stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self._heard():
            return
        if not self.announced:
            self._unannounced(optimizer)
        if not self._stepped:
            self._rates.clear()
        self._rates.append((optimizer, rates_of(optimizer)))
        if optimizer in self.clipped:
            self.clipped.remove(optimizer)
        self._stepped, self.announced = True, False
