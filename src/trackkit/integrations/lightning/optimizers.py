"""A trainer's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def name_of(optimizer: Any, optimizers: Sequence[Any]) -> str:
    """One of several by its class, with its number where the class does not tell; "" for the only one."""
    if len(optimizers) < 2:
        return ""
    kinds = [type(each).__name__ for each in optimizers]
    for index, each in enumerate(optimizers):
        if each is optimizer or getattr(each, "optimizer", None) is optimizer:
            return f"{kinds[index]}_{index}" if kinds.count(kinds[index]) > 1 else kinds[index]
    return type(optimizer).__name__


class ManualSteps:
    """The steps of manual optimization, where optimizers may pass Lightning by.

    Args:
        loop: the trainer's epoch loop.
        unannounced: called with an optimizer that has stepped, its gradients still there, and was not announced.

    Attributes:
        announced: whether `on_before_optimizer_step` has told of the next step.
    """

    def __init__(self, loop: Any, unannounced: Callable[[Any], None]) -> None:
        self.announced = False
        self._loop = loop
        self._unannounced = unannounced
        self._raw = self._stepped = False
        self._handles: list[Any] = []

    def watch(self, optimizers: Sequence[Any]) -> None:
        """Hears of every step."""
        for optimizer in optimizers:
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
        self._stepped = self.announced = False
        return self._loop._batches_that_stepped + 1 if self._raw else step, stepped

    def _has_stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not self.announced:
            self._unannounced(optimizer)
        self._stepped, self.announced = True, False
